"""Spoilt files, each by its number: the same number is the same file, wherever it is made.

`KINDS[kind].make(number, folder)` writes one file (and what belongs to it), `KINDS[kind].read(file)` reads it as a user would.
A file is a good one, changed at random by its number: bits, cuts and splices, and what only who knows the format can do."""
import io, json, os, re, struct, zipfile, zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image


# Bytes, whatever they mean

def flip(data, rng): # A few bits
    out = bytearray(data)
    for at in rng.integers(0, len(out), int(rng.choice([1, 2, 4, 16, 64]))): out[at] ^= 1 << int(rng.integers(8))
    return bytes(out)

def overwrite(data, rng): # Some bytes among the first, where headers are
    out = bytearray(data)
    for at in rng.integers(0, min(len(out), 4096), int(rng.integers(1, 24))): out[at] = int(rng.choice([0, 1, 127, 128, 254, 255, rng.integers(256)]))
    return bytes(out)

def cut(data, rng): return data[:int(rng.integers(0, len(data)))]

def splice(data, rng): # A stretch removed, repeated, or moved
    a, b, to = sorted(rng.integers(0, len(data), 3).tolist())
    part = data[a:min(b, a + int(rng.integers(1, 5000)))]
    return [data[:a] + data[a + len(part):], data[:a] + part*int(rng.integers(2, 5)) + data[a:], data[:to] + part + data[to:]][int(rng.integers(3))]

def blot(data, rng): # A stretch of one value, or of noise
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 3000))
    fill = rng.bytes(n) if rng.random() < .5 else bytes([int(rng.choice([0, 255]))])*n
    return data[:at] + fill[:len(data) - at] + data[at + n:]

BYTES = (flip, overwrite, cut, splice, blot)

def twice(data, rng): # Two of these
    for how in rng.choice(len(BYTES), 2): data = BYTES[how](data, rng) or b"\0"
    return data


# DICOM

_LENGTHS = (0, 1, 2, 3, 7, 255, 256, 32767, 65534, 65535, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_SHORT = b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
_SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
             *[f"1.2.840.10008.1.2.4.{i}" for i in (50, 51, 57, 70, 80, 81, 90, 91, 92, 100, 102, 107, 201, 202, 203)], "1.2.3.4", "x", ""]
_VALUES = {"US": [0, 1, 2, 3, 7, 8, 12, 16, 24, 32, 64, 255, 4096, 32768, 50000, 65535], "SS": [-32768, -1, 0, 1, 32767],
           "IS": ["-1", "0", "1", "2", "3", "1000000", "2147483647", "", "a"], "FD": [0., -1., 1e308, float("nan"), float("inf")],
           "DS": ["0", "-1", "1e-300", "1e300", "-1e300", "nan", "inf", "", "a", "1\\2\\3", "0.5", "65536", "0\\0", "1e-9\\1e9"],
           "CS": ["MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "PALETTE COLOR", "ARGB", "", "X"*16,
                  "INVERSE", "SIGMOID", "CT", "DX"]}
_FIELDS = ("SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
           "PixelPaddingValue PixelPaddingRangeLimit RescaleIntercept RescaleSlope WindowCenter WindowWidth VOILUTFunction PresentationLUTShape PixelSpacing "
           "PixelAspectRatio Modality").split()

def lengths(data, rng): # The length of some element is another one
    at = [m.start() for m in re.finditer(rb"|".join(rb"..(?:" + v + rb")" for v in (*_SHORT, b"OB", b"OW", b"SQ", b"UN")), data[132:8000], re.S)]
    if not at: return flip(data, rng)
    out = bytearray(data)
    for a in rng.choice(at, int(rng.integers(1, 4))):
        a, value = int(a) + 132, int(rng.choice(_LENGTHS))
        short = bytes(out[a+2:a+4]) in _SHORT
        part = struct.pack("<H", value & 65535) if short else struct.pack("<I", value)
        at_ = a + (4 if short else 6)
        out[at_:at_ + len(part)] = part
    return bytes(out)

def _edited(data, edit):
    "What pydicom writes of an edited data set; the bytes themselves where it can't."
    import pydicom, warnings
    from pydicom import config
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(io.BytesIO(data), force=True)
            config.settings.writing_validation_mode = config.IGNORE
            edit(ds)
            ds.save_as(out := io.BytesIO(), enforce_file_format=False)
            return out.getvalue()
    except Exception: return data

def tags(data, rng): # Some fields that say how an image is to be read
    def edit(ds):
        from pydicom.datadict import dictionary_VR
        for name in rng.choice(_FIELDS, int(rng.integers(1, 5))):
            vr = dictionary_VR(name).split(" or ")[0]
            if rng.random() < .12: ds.pop(name, None); continue
            ds.add_new(name, vr, _VALUES[vr][int(rng.integers(len(_VALUES[vr])))])
    return _edited(data, edit)

def syntax(data, rng): # Pixels that are written in another way than the file says
    def edit(ds): ds.file_meta.TransferSyntaxUID = str(rng.choice(_SYNTAXES))
    return _edited(data, edit)

def tables(data, rng): # Lookup tables, palettes and groups of frames that lie
    def edit(ds):
        from pydicom.dataset import Dataset
        item, n = Dataset(), int(rng.choice([0, 1, 256, 4096, 65535]))
        item.add_new("LUTDescriptor", "US", [n, int(rng.choice([0, 500, 65535])), int(rng.choice([0, 8, 12, 16, 255, 65535]))][:int(rng.choice([3, 3, 3, 2]))])
        item.add_new("LUTData", *[("US", rng.integers(0, 65536, max(1, min(n, 500))).tolist()), ("OW", rng.bytes(2*int(rng.integers(0, 5000))))][int(rng.integers(2))])
        for name in rng.choice(["VOILUTSequence", "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"], 2): setattr(ds, str(name), [item]*int(rng.integers(0, 4)))
        if rng.random() < .5:
            ds.PhotometricInterpretation = "PALETTE COLOR"
            for c in ("Red", "Green", "Blue"):
                ds.add_new(f"{c}PaletteColorLookupTableDescriptor", "US", [n, 0, int(rng.choice([8, 16]))])
                ds.add_new(f"{rng.choice(['', 'Segmented'])}{c}PaletteColorLookupTableData", "OW", rng.bytes(2*int(rng.integers(0, 600))))
    return _edited(data, edit)

def stream(data, rng): # The compressed (or plain) pixels alone
    at = max(data.rfind(b"\xe0\x7f\x10\x00"), 0) + 12
    if at >= len(data) - 1: return flip(data, rng)
    how = (flip, overwrite, splice, blot)[int(rng.integers(4))]
    return data[:at] + how(data[at:], rng)

def sizes(data, rng): # Width and height within a compressed picture (JPEG 2000, JPEG, JPEG-LS) that are not those of the header
    out, big = bytearray(data), lambda: int(rng.choice([0, 1, 8, 4096, 30_000, 60_000, 65_535]))
    for m in re.finditer(rb"\xff\x4f\xff\x51", data):
        for k in rng.choice(8, int(rng.integers(1, 4))): out[m.start() + 8 + 4*int(k):m.start() + 12 + 4*int(k)] = struct.pack(">I", int(rng.choice([big(), 2**31, 2**32 - 1])))
    for m in re.finditer(rb"\xff[\xc0-\xc3\xf7]\x00[\x08-\x17]", data): out[m.start() + 5:m.start() + 9] = struct.pack(">HH", big(), big())
    return bytes(out) if bytes(out) != data else tags(data, rng)

DICOM = (*BYTES, twice, lengths, lengths, tags, tags, tags, syntax, tables, stream, stream, sizes)


@cache
def dicom_bases():
    "The real files where they are, and small ones of every kind of compression."
    real = Path(os.environ.get("TTL_NB_REAL_DATA") or Path(__file__).parents[1]/"../shared/data")/"dicom"
    return [*[f.read_bytes() for f in sorted(real.glob("*.dcm"))], *map(_small_dicom, (None, "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
            "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"))]

def _small_dicom(uid):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, UID
    ds, x = Dataset(), np.random.default_rng(0).integers(0, 40, (60, 80)).cumsum(1).astype(np.uint16)
    if uid == "1.2.840.10008.1.2.4.50": x = (x >> 4).astype(np.uint8)
    ds.file_meta = FileMetaDataset(); ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.1", "1.2.3", "CR"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = *x.shape, 1, "MONOCHROME1", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8*x.itemsize, 12 if x.itemsize == 2 else 8, 11 if x.itemsize == 2 else 7
    ds.WindowCenter, ds.WindowWidth, ds.PixelPaddingValue, ds.RescaleSlope, ds.RescaleIntercept = 800, 1500, 0, "1", "-20"
    swapped = x.astype(">u2") if uid == "1.2.840.10008.1.2.2" else x
    ds.PixelData = swapped.tobytes(); ds["PixelData"].VR = "OW" if x.itemsize == 2 else "OB"
    if uid == "1.2.840.10008.1.2.4.50":
        Image.fromarray(x).save(b := io.BytesIO(), "JPEG")
        ds.file_meta.TransferSyntaxUID, ds.PixelData = UID(uid), encapsulate([b.getvalue()])
        ds["PixelData"].is_undefined_length = True
    elif uid and uid.startswith("1.2.840.10008.1.2.4") or uid == "1.2.840.10008.1.2.5": ds.compress(uid, generate_instance_uid=False)
    elif uid: ds.file_meta.TransferSyntaxUID = UID(uid)
    ds.save_as(out := io.BytesIO(), enforce_file_format=True)
    return out.getvalue()

def make_dicom(number, folder):
    rng, bases = np.random.default_rng([1, number]), dicom_bases()
    how = DICOM[int(rng.integers(len(DICOM)))]
    data = how(bases[number % len(bases)], rng)
    if rng.random() < .2: data = BYTES[int(rng.integers(len(BYTES)))](data or b"\0", rng)
    file = Path(folder)/f"{number}.dcm"
    file.write_bytes(data)
    return file

def read_picture(file):
    "As a training would: 64 pixels a side in the cache."
    from ttl_nb.data.pixels import load_pixels
    x = load_pixels([file], 64, cache=Path(file).parent/"cache", workers=1)
    assert x.shape == (1, 64, 64)
    next((Path(file).parent/"cache").glob("*.npy")).unlink()

def read_dicom(file):
    from ttl_nb.data.dicom import is_dicom, read_header
    from ttl_nb.errors import InputError
    error = None
    if is_dicom(file): # As `from_dicom` does
        try: read_header(file, ["NumberOfFrames", "PatientID", "SOPInstanceUID"])
        except InputError as e: error = e
    read_picture(file)
    if error: raise error
    from ttl_nb.data.pixels import read_image
    x = read_image(file)
    assert x.dtype == np.float32 and np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1


# Pictures

@cache
def image_bases(): # (suffix, bytes)
    rng, found = np.random.default_rng(0), []
    grey = rng.integers(0, 40, (70, 90)).cumsum(1).clip(0, 255).astype(np.uint8)
    colour, deep = np.stack([grey, grey.max() - grey, grey[:, ::-1]], -1), grey.astype(np.uint16)*257
    def add(suffix, img, **how): img.save(b := io.BytesIO(), how.pop("format"), **how); found.append((suffix, b.getvalue()))
    g, c, d = Image.fromarray(grey), Image.fromarray(colour), Image.fromarray(deep)
    for img in (g, c, d, c.quantize(16), c.convert("RGBA"), g.convert("1"), g.convert("LA")): add("png", img, format="PNG")
    for img, how in ((g, {}), (c, {}), (c, dict(progressive=True)), (c.convert("CMYK"), {}), (c, dict(exif=_exif()))): add("jpg", img, format="JPEG", **how)
    for img, how in ((g, {}), (d, dict(compression="tiff_lzw")), (c, dict(compression="tiff_adobe_deflate")), (g, dict(compression="jpeg")), (g.convert("1"), dict(compression="group4")),
                     (c, dict(compression="packbits")), (d, {})): add("tif", img, format="TIFF", **how)
    for img in (g, c): add("bmp", img, format="BMP"); add("gif", img, format="GIF"); add("webp", img, format="WEBP")
    return found

def _exif():
    exif = Image.Exif(); exif[274] = 6
    return exif

def _chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def png_chunks(data, rng): # Chunks edited, and their sums put right
    if data[:4] != b"\x89PNG": return flip(data, rng)
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        n, kind = struct.unpack(">I", data[at:at+4])[0], data[at+4:at+8]
        body = data[at+8:at+8+n]
        if body and rng.random() < .6: body = (flip, cut, blot)[int(rng.integers(3))](body, rng)
        if kind == b"IHDR" and rng.random() < .5: body = struct.pack(">II", *(int(rng.choice([0, 1, 70, 8000, 30_000, 2**31 - 1])) for _ in "wh")) + body[8:]
        out += [_chunk(kind, body)]*int(rng.choice([1, 1, 1, 0, 2]))
        at += 12 + n
    if rng.random() < .3: out.insert(2, _chunk(bytes(rng.choice([b"zTXt", b"iCCP", b"tEXt", b"tRNS", b"eXIf", b"acTL"])), b"x\0\0" + zlib.compress(bytes(10**7))))
    return b"".join(out)

def picture_sizes(data, rng): # Width and height that are not those of the pixels
    wh, out = [int(rng.choice([0, 1, 70, 9000, 30_000, 65_535])) for _ in "wh"], bytearray(data)
    for m in re.finditer(rb"\xff[\xc0-\xc3]\x00[\x08-\x17]", data): out[m.start() + 5:m.start() + 9] = struct.pack(">HH", *wh)
    if data[:2] == b"BM": out[18:26] = struct.pack("<ii", *wh)
    if data[:3] == b"GIF": out[6:10] = struct.pack("<HH", *wh)
    if data[:2] in (b"II", b"MM"): return tiff_tags(data, rng)
    return bytes(out) if bytes(out) != data else png_chunks(data, rng)

def tiff_tags(data, rng): # Entries of the directory
    if data[:2] != b"II": return flip(data, rng)
    out, at = bytearray(data), struct.unpack("<I", data[4:8])[0]
    n = struct.unpack("<H", data[at:at+2])[0]
    for k in rng.integers(0, n, int(rng.integers(1, 4))):
        e, what = at + 2 + 12*int(k), int(rng.integers(3))
        value = int(rng.choice([0, 1, 8, 30_000, 65_535, 2**31 - 1, 2**32 - 1, at]))
        if what == 0: out[e+2:e+4] = struct.pack("<H", int(rng.integers(0, 20)))
        else: out[e+4*what:e+4*what+4] = struct.pack("<I", value)
    if rng.random() < .3: out[at + 2 + 12*n:at + 6 + 12*n] = struct.pack("<I", int(rng.choice([at, 8, 0xFFFFFFF0]))) # The next directory: itself
    return bytes(out)

PICTURES = (*BYTES, twice, png_chunks, png_chunks, picture_sizes, picture_sizes)

def make_image(number, folder):
    rng, bases = np.random.default_rng([2, number]), image_bases()
    suffix, data = bases[number % len(bases)]
    file = Path(folder)/f"{number}.{suffix}"
    file.write_bytes(PICTURES[int(rng.integers(len(PICTURES)))](data, rng))
    return file


# Tables

_NAMES = ("../../etc/passwd", "/etc/passwd", "..", ".", "", "a\0b", "x"*300, "x"*70_000, "0.png#1", "phantom://phantom-chest/A/0/64/1/0", "phantom://x", "CON", "0.png/", "sub/../0.png",
          "\u202e0.png", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "%s%n{}", "é.png", "\ud7ff")
_CELLS = ("", " ", "nan", "NA", "1e309", "-1", "0.5", "true", "\t", '"', "a,b", "x"*100_000, "\u0000", "train ", "TEST", "validation", "None", "٣", "1_0")

@cache
def table_base(): return [dict(file=f"{i}.png", label="ab"[i % 2], patient_id=f"p{i//2}", split="train" if i < 12 else "test") for i in range(20)]

def cells(rng): # Names and cells that mean something else
    rows = [dict(r) for r in table_base()]
    for _ in range(int(rng.integers(0, 4))):
        r, c = rows[int(rng.integers(20))], str(rng.choice(["file", "label", "patient_id", "split"]))
        r[c] = (_NAMES if c == "file" else _CELLS)[int(rng.integers(len(_NAMES if c == "file" else _CELLS)))]
    if rng.random() < .3: rows += rows[:int(rng.integers(20))]
    if rng.random() < .2: rows = [{k: v for k, v in r.items() if k != "split"} for r in rows]
    import csv
    out = io.StringIO(newline="")
    w = csv.DictWriter(out, rows[0].keys(), delimiter=str(rng.choice([*[","]*8, ";", "\t"]))); w.writeheader(); w.writerows(rows)
    return out.getvalue().encode(str(rng.choice([*["utf-8"]*6, "utf-8-sig", "utf-16"])), errors="replace")

def shape(rng): # Columns, rows and quotes that don't end
    text = cells(rng).decode("utf-8", "replace")
    lines = text.splitlines()
    n = int(rng.choice([3, 100, 20_000]))
    return [",".join(["x"]*n) + "\n" + text, "\n".join(line + ","*int(rng.integers(0, 9)) for line in lines), lines[0] + '\n"' + "\n".join(lines[1:]), lines[0] + "," + lines[0] + "\n" + "\n".join(lines[1:]),
            "\r".join(lines), text*50, lines[0] + "\n" + "\0"*1000, '"'*100_000, ","*1_000_000, "\n"*1_000_000][int(rng.integers(10))].encode("utf-8", "replace")

def make_table(number, folder):
    rng, folder = np.random.default_rng([3, number]), Path(folder)/"table"
    if not (folder/"19.png").is_file():
        folder.mkdir(exist_ok=True)
        for i in range(20): Image.fromarray(np.full((8, 8), 10*i, np.uint8)).save(folder/f"{i}.png")
    data = (cells if rng.random() < .6 else shape)(rng)
    if rng.random() < .3: data = BYTES[int(rng.integers(len(BYTES)))](data or b"\0", rng)
    (folder/f"{number}.csv").write_bytes(data)
    return folder/f"{number}.csv"

def read_table(file):
    from ttl_nb.data.catalog import from_csv
    d = from_csv(file)
    assert d.hash and d.splits(0) and d.counts() is not None and len(d.hashed_patients) == len(d)
    assert all(str(f).startswith(str(d.root)) for f in d.items["file"])


# Checkpoints

SQUEEZE = "squeezenet1_1", "imagenet"

@cache
def checkpoint_bases(): # Ours, foreign safetensors, torch's archive, torch's old form
    import tempfile, torch
    from safetensors.torch import save
    from ttl_nb.models.backbone import create_backbone
    from ttl_nb.models.checkpoint import Checkpoint, save_checkpoint
    state = create_backbone(*SQUEEZE[:1], 2, SQUEEZE[1]).state_dict()
    with tempfile.TemporaryDirectory() as t:
        found = Checkpoint({k: v.contiguous() for k, v in state.items()}, SQUEEZE[0], ("a", "b"), 32, "d", "0"*16, ("0"*12,), dict(n_train=3), dict(auc=.5), input=SQUEEZE[1], patients=("1"*12,))
        ours = save_checkpoint(found, Path(t)/"x.safetensors").read_bytes()
    bare = {k: v for k, v in found.state.items() if k.split(".")[0] != "head"}
    torch.save(bare, b := io.BytesIO()); torch.save(dict(state_dict=bare), c := io.BytesIO(), _use_new_zipfile_serialization=False)
    return [("safetensors", ours), ("safetensors", save({f"module.{k}": v for k, v in bare.items()})), ("pt", b.getvalue()), ("pth", c.getvalue())]

def _open_header(data):
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8+n]), data[8+n:]

def _close_header(header, rest, rng):
    text = json.dumps(header).encode()
    n = len(text) if rng.random() < .8 else [0, 1, 2**31, 2**63, 2**64 - 1][int(rng.integers(5))]
    return struct.pack("<Q", n) + text + rest

def header_lies(data, rng): # Types, shapes, places and words of the header
    header, rest = _open_header(data)
    for _ in range(int(rng.integers(1, 4))):
        tensors, lie = [k for k, v in header.items() if k != "__metadata__" and isinstance(v, dict)], int(rng.integers(6))
        if not tensors: break
        name, other = map(str, rng.choice(tensors, 2))
        e = header[name]
        if lie == 0: e["dtype"] = str(rng.choice(["F64", "F16", "BF16", "I8", "U8", "BOOL", "F8_E4M3", "F8_E8M0", "I64", "C64", "U32", "X"]))
        if lie == 1: e["shape"] = [int(x) for x in rng.choice([0, 1, 2, 64, 2**31, 2**62], int(rng.integers(0, 6)))]
        if lie == 2: e["data_offsets"] = [int(x) for x in rng.choice([0, 4, 2**31, 2**62, len(rest)], 2)]
        if lie == 3: e["data_offsets"] = header[other].get("data_offsets", [0, 0])
        if lie == 4: header[name] = [None, 3, "x", {}, []][int(rng.integers(5))]
        if lie == 5: header[name + ".x"*int(rng.integers(1, 3))] = header.pop(name)
    return _close_header(header, rest, rng)

_WORDS = ["", "null", "5", "-1", "[]", "{}", "[[]]", '"x"', '"resnet9000"', '"densenet121"', "[1,2]", "[null]", '{"method":5}', "{", "1e999", "NaN", '["a","a"]', '"imagenet"', '"grey"', "9"*5000, "["*5000, '{"auc":"x"}', '"timm/../x"']

def own_words(data, rng): # What a checkpoint of ours says of itself
    header, rest = _open_header(data)
    meta = header.get("__metadata__")
    if not meta: return header_lies(data, rng)
    for name in rng.choice(list(meta), int(rng.integers(1, 4))):
        if rng.random() < .3: meta.pop(str(name), None)
        else: meta[str(name)] = _WORDS[int(rng.integers(len(_WORDS)))]
    if rng.random() < .2: meta["format"] = "ttl_nb checkpoint 1"
    return _close_header(header, rest, np.random.default_rng(0))

def archive_members(data, rng): # The pickle, the records and the directory of torch's archive
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as z, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if rng.random() < .3 else zipfile.ZIP_STORED) as w:
        for info in z.infolist():
            body = z.read(info)
            if info.filename.endswith("data.pkl"): body = BYTES[int(rng.integers(len(BYTES)))](body, rng) if rng.random() < .7 else _lying_pickle(body, rng)
            elif rng.random() < .03: body = [b"", body[:3], body*3, bytes(10**6)][int(rng.integers(4))]
            if rng.random() < .98: w.writestr(info.filename, body)
    return out.getvalue()

def _lying_pickle(body, rng): # Sizes and strides of tensors (BININT1, BININT2, BININT)
    out = bytearray(body)
    at = [m.start() for m in re.finditer(rb"[KMJ]", body)]
    for a in rng.choice(at, int(rng.integers(1, 6))): out[int(a)+1:int(a)+1+{75: 1, 77: 2, 74: 4}[out[int(a)]]] = rng.bytes({75: 1, 77: 2, 74: 4}[out[int(a)]])
    return bytes(out)

def make_checkpoint(number, folder):
    rng = np.random.default_rng([4, number])
    suffix, data = checkpoint_bases()[number % 4]
    own = {0: (own_words, own_words, header_lies), 1: (header_lies, header_lies, own_words), 2: (archive_members,)*3, 3: (overwrite, _lying_pickle, overwrite)}[number % 4]
    data = (*BYTES, twice, *own*2)[int(rng.integers(12))](data, rng)
    file = Path(folder)/f"{number}.{suffix}"
    file.write_bytes(data)
    return file

def read_checkpoint(file):
    import warnings
    from ttl_nb.models.backbone import create_backbone
    from ttl_nb.models.header import file_metadata, is_own
    from ttl_nb.models.imported import open_source
    from ttl_nb.models.initial import initialise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = str(file).endswith(".safetensors") and is_own(file_metadata(file)) # As the command line does
        found = open_source(file) if own else open_source(file, *SQUEEZE)
        initialise(create_backbone(found.backbone, 2, found.input), "pretrained", 0, found.state)
        assert len(found.hash) == 16


# Archives of MedMNIST

@cache
def archive_base():
    rng = np.random.default_rng(0)
    arrays = {f"{s}_{k}": v for s, n in (("train", 12), ("val", 4), ("test", 6)) for k, v in (("images", rng.integers(0, 255, (n, 28, 28), np.uint8)), ("labels", np.arange(n)[:, None] % 2))}
    np.savez_compressed(b := io.BytesIO(), **arrays)
    return b.getvalue()

def npz_members(data, rng):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as z, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as w:
        for info in z.infolist():
            body = z.read(info)
            if rng.random() < .3: body = BYTES[int(rng.integers(len(BYTES)))](body, rng)
            elif rng.random() < .3: body = re.sub(rb"\(\d+, ", b"(%d, " % int(rng.choice([0, 1, 10**6, 10**12, 2**63])), body, count=1)
            elif rng.random() < .1: body = body.replace(b"|u1", b"|O ")
            if rng.random() < .95: w.writestr(info.filename, body)
    return out.getvalue()

def make_archive(number, folder):
    rng = np.random.default_rng([5, number])
    file = Path(folder)/f"pneumoniamnist_{number}.npz"
    file.write_bytes((*BYTES, npz_members, npz_members, npz_members)[int(rng.integers(8))](archive_base(), rng))
    return file

def read_archive(file):
    import shutil
    from ttl_nb.data.catalog import medmnist
    folder = Path(file).parent/"unpacked"
    try: assert len(medmnist(file, "none", folder=folder).hash) == 16
    finally: shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Kind:
    "One kind of file that people bring."
    make: Callable # (number, folder) -> file
    read: Callable # (file): a result, or an error
    count: int # How many are tried

KINDS = dict(dicom=Kind(make_dicom, read_dicom, 2000), image=Kind(make_image, read_picture, 500), table=Kind(make_table, read_table, 500),
             checkpoint=Kind(make_checkpoint, read_checkpoint, 500), archive=Kind(make_archive, read_archive, 200))
