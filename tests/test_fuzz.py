"""A small share of the spoilt files of benchmarks/fuzz.py, and files made to be dangerous: each gives a result or one sentence, within a gigabyte."""
import io, json, os, struct, subprocess, sys, zipfile, zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import ROOT

sys.path.insert(0, str(ROOT/"benchmarks"))
import fuzz
import mutations
from mutations import KINDS

from ttl_nb.data.catalog import MAX_COLUMNS, MAX_TABLE, from_csv, medmnist
from ttl_nb.data.dicom import MAX_PIXELS, MAX_SIDE
from ttl_nb.data.pixels import load_pixels, read_image
from ttl_nb.errors import InputError


def fine(tally):
    print(tally)
    assert not tally.bad, str(tally)
    return tally


@pytest.mark.parametrize("kind, n", [("dicom", 60), ("image", 60), ("table", 60), ("archive", 20), ("checkpoint", 24)])
def test_spoilt_files(kind, n):
    "Each a result or a named error: no crash of the process, no hang, no gigabyte."
    tally = fine(fuzz.run(kind, range(n)))
    assert tally.tried == n and tally.named > n/5 and (tally.results > n/20 or kind in ("archive", "table"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_all_spoilt_files(kind): fine(fuzz.run(kind, range(KINDS[kind].count)))


def test_the_same_number_is_the_same_file(tmp_path):
    for name, kind in KINDS.items():
        if name == "checkpoint": continue # Of random weights
        a, b = (kind.make(7, tmp_path).read_bytes() for _ in "ab")
        assert a == b and a != kind.make(8, tmp_path).read_bytes()


READER = f'''
import os, sys, time; sys.path.insert(0, {str(ROOT/"benchmarks")!r})
import fuzz, mutations
from pathlib import Path
def read(file):
    n = int(file.name)
    if n == 1: os.kill(os.getpid(), 11)
    if n == 2: time.sleep(60)
    if n == 3: bytearray(5 << 28)[::4096] = b"x"*((5 << 28)//4096)
    if n == 4: {{}}["lost"]
    if n == 5:
        from ttl_nb.errors import InputError
        raise InputError("one sentence")
def make(n, folder): (f := Path(folder)/str(n)).touch(); return f
mutations.KINDS["bad"] = mutations.Kind(make, read, 7)
fuzz.child("bad", __import__("json").loads(sys.argv[4]), sys.argv[3])
'''


def test_the_reader_itself_finds_crashes_hangs_and_gluttons(tmp_path, monkeypatch):
    (script := tmp_path/"reader.py").write_text(READER)
    monkeypatch.setattr(fuzz, "__file__", str(script))
    tally = fuzz.run("bad", [0, 1, 3, 4, 5, 6]) # With all the patience there is: a gigabyte takes its time on a busy machine
    assert (tally.results, tally.named) == (2, 1)
    assert {n: what.split(" ")[0].rstrip(":") for n, what in tally.bad} == {1: "crashed", 3: "took", 4: "KeyError"}
    assert "SIGSEGV" in dict(tally.bad)[1]
    assert fuzz.run("bad", [2], longest=1.).bad == [(2, "hung for 1 s")]


# Bombs: small files that promise, or hold, far more than there is memory for

def peak(call, file):
    "Call a function of this module in a process of its own; what it said, and the megabytes that it took."
    code = f"import sys; sys.path[:0] = [{str(ROOT/'tests')!r}, {str(ROOT/'benchmarks')!r}]\nimport json, test_fuzz\nfrom ttl_nb.errors import InputError\n" \
           f"try: said = str(test_fuzz.{call}(sys.argv[1]))\nexcept InputError as e: said = 'refused: ' + str(e)\n" \
           "import fuzz; print(json.dumps([said, fuzz.peak_mb()]))"
    r = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(file)], capture_output=True, text=True, timeout=120, env=dict(os.environ, OMP_NUM_THREADS="1", TTL_NB_CACHE=str(Path(file).parent/"cache")))
    assert r.returncode == 0, r.stderr[-2000:]
    return json.loads(r.stdout.splitlines()[-1])

def pixels_of(file): return load_pixels([file], 64).mean()


def dicom(file, rows, columns, data, syntax="1.2.840.10008.1.2.1", **fields):
    from pydicom.dataset import Dataset, FileMetaDataset
    ds = Dataset(); ds.file_meta = FileMetaDataset(); ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.1", "1.2.3", "CR"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = rows, columns, 1, "MONOCHROME1", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelData = 16, 12, 11, data
    for k, v in fields.items(): setattr(ds, k, v)
    ds["PixelData"].VR = "OW"
    if not syntax.startswith("1.2.840.10008.1.2.1"): ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(file, enforce_file_format=True)
    return file


def j2k(width, height):
    "A JPEG 2000 picture of 64 x 64 pixels that says it has others."
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(b := io.BytesIO(), "JPEG2000", no_jp2=True)
    data = bytearray(b.getvalue()); at = data.index(b"\xff\x4f\xff\x51")
    data[at+8:at+16] = struct.pack(">2I", width, height); data[at+24:at+32] = struct.pack(">2I", width, height)
    return bytes(data)


def encapsulated(*frames):
    from pydicom.encaps import encapsulate
    return encapsulate(list(frames))


BOMBS = { # name -> (makes the file, words of the refusal)
    "deflated.dcm": (lambda f: dicom(f, 100, 100, bytes(4*MAX_PIXELS), "1.2.840.10008.1.2.1.99"), "unfolds to more than the 200,000,000 bytes"),
    "rows.dcm": (lambda f: dicom(f, 60_000, 60_000, b"\0"*100), "60000 x 60000 pixels, more than the 50,000,000"),
    "long.dcm": (lambda f: dicom(f, 65_000, 2, bytes(260_000)), "2 x 65000 pixels, more than the 10,000 a side"),
    "wide.dcm": (lambda f: dicom(f, 5000, 8000, b"\0"*100, BitsAllocated=32, BitsStored=32, HighBit=31), "8000 x 5000 pixels of 32 bits, more than the 25,000,000"),
    "stream.dcm": (lambda f: dicom(f, 64, 64, encapsulated(j2k(60_000, 60_000)), "1.2.840.10008.1.2.4.90", BitsAllocated=8, BitsStored=8, HighBit=7), "60000 x 60000 pixels"),
    "rle.dcm": (lambda f: dicom(f, 8, 8, encapsulated(struct.pack("<16I", 2, 64, 20_000, *[0]*13) + b"\x81\0"*20_000), "1.2.840.10008.1.2.5"), "more room than they would uncompressed"),
    "stretched.dcm": (lambda f: dicom(f, 8000, 3000, bytes(48_000_000), PixelSpacing=[.9, .1]), "with square pixels it has"),
    "palette.dcm": (lambda f: dicom(f, 8, 8, bytes(128), PhotometricInterpretation="PALETTE COLOR", BitsAllocated=16, BitsStored=16, HighBit=15,
        **{f"{c}PaletteColorLookupTableDescriptor": [65535, 0, 16] for c in ("Red", "Green", "Blue")},
        **{f"Segmented{c}PaletteColorLookupTableData": np.array([0, 1, 5, 1, 65535, 9, 2, 3, 0, 0], "<u2").tobytes() for c in ("Red", "Green", "Blue")}), "palette is missing or damaged"),
    "pixels.png": (lambda f: Image.new("L", (8000, 8000)).save(f), "8000 x 8000 pixels, more than the 50,000,000"),
    "thread.png": (lambda f: Image.new("L", (30_000, 1)).save(f), "30000 x 1 pixels, more than the 10,000 a side"),
    "pages.tif": (lambda f: Image.new("1", (64, 64)).save(f, save_all=True, append_images=[Image.new("1", (64, 64))]*300), "it holds 301 pictures"),
    "text.png": (lambda f: f.write_bytes(_text_bomb()), "can't be decoded"),
    "program.eps": (lambda f: f.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(/tmp/x) (w) file\n%%EOF\n"), "it is not an image, or of an unknown format"),
}


def _text_bomb():
    from mutations import _chunk
    Image.new("L", (64, 64)).save(b := io.BytesIO(), "PNG")
    data = b.getvalue()
    return data[:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9)) + data[33:]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name, tmp_path):
    make, words = BOMBS[name]
    make(tmp_path/name)
    said, mb = peak("pixels_of", tmp_path/name) if name in ("deflated.dcm", "stretched.dcm") else (_refusal(tmp_path/name), 0)
    assert said.startswith("refused:") and words in said and mb < 1024, (said[:400], mb)

def _refusal(file):
    with pytest.raises(InputError) as e: load_pixels([file], 64, cache=file.parent/"cache")
    return f"refused: {e.value}"


LARGEST = { # Just what is still read: within a gigabyte
    "grey.dcm": lambda f: dicom(f, 5000, 10_000, bytes(10**8), PixelPaddingValue=7, RescaleSlope="2", RescaleIntercept="-1", WindowCenter=50, WindowWidth=90),
    "own_range.dcm": lambda f: dicom(f, 10_000, 5000, np.arange(50_000_000, dtype="<u2").tobytes(), Modality="CT", BitsStored=16, HighBit=15, PixelRepresentation=1),
    "32_bits.dcm": lambda f: dicom(f, 5000, 5000, bytes(10**8), BitsAllocated=32, BitsStored=32, HighBit=31),
    "colour.dcm": lambda f: dicom(f, 3333, 10_000, bytes(3333*10_000*3), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7),
    "j2k.dcm": lambda f: dicom(f, 5000, 10_000, encapsulated(_large_j2k()), "1.2.840.10008.1.2.4.90", BitsAllocated=8, BitsStored=8, HighBit=7),
    "deep.png": lambda f: Image.fromarray(np.zeros((5000, 10_000), np.uint16)).save(f),
    "transparent.png": lambda f: Image.new("RGBA", (10_000, 5000)).save(f),
    "lying.jpg": lambda f: Image.new("RGB", (10_000, 5000)).save(f, exif=mutations._exif(), progressive=True),
}

def _large_j2k():
    Image.new("L", (10_000, 5000)).save(b := io.BytesIO(), "JPEG2000", no_jp2=True)
    return b.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_image_takes_less_than_a_gigabyte(name, tmp_path):
    LARGEST[name](tmp_path/name)
    said, mb = peak("pixels_of", tmp_path/name)
    print(f"{name}: {mb:.0f} MB, {(tmp_path/name).stat().st_size:,} bytes")
    assert not said.startswith("refused") and mb < 1024, (said, mb)


# Tables, archives and weights that are too large

def test_a_table_of_too_many_bytes(tmp_path):
    with open(tmp_path/"large.csv", "wb") as f: f.truncate(MAX_TABLE + 1)
    with pytest.raises(InputError, match=r"large.csv has 100,000,001 bytes, more than the 100,000,000 that are read"): from_csv(tmp_path/"large.csv")


def test_a_compressed_table_is_none(tmp_path):
    "pandas would unfold it by its name."
    import gzip
    (tmp_path/"labels.csv.gz").write_bytes(gzip.compress(b"file,label\n" + b"x.png,a\n"*1000))
    with pytest.raises(InputError, match="can't be read as a csv table"): from_csv(tmp_path/"labels.csv.gz")


def largest_table(file):
    from ttl_nb.data.catalog import _read_table
    return _read_table(Path(file)).shape

@pytest.mark.slow
@pytest.mark.parametrize("row, columns", [("a,b,c,d\n", 4), (",".join("x"*1000) + "\n", 1000), ("0123456789abcdef,0123456789\n", 2)])
def test_the_largest_table_takes_less_than_a_gigabyte(row, columns, tmp_path):
    head = ",".join(f"c{i}" for i in range(columns)) + "\n"
    (tmp_path/"t.csv").write_text(head + row*((MAX_TABLE - len(head))//len(row)))
    said, mb = peak("largest_table", tmp_path/"t.csv")
    print(f"{columns} columns: {said}, {mb:.0f} MB")
    assert mb < 1024


@pytest.mark.parametrize("shape, dtype, words", [((10**12, 1), "<i8", "test_labels"), ((4, 1), "<f8", "no class numbers"), ((4, 1), "|O", "test_labels"), ((), "<i8", "no class numbers")])
def test_labels_of_an_archive_that_lie(shape, dtype, words, tmp_path):
    from numpy.lib import format as npy
    arrays = {k: v for k, v in np.load(io.BytesIO(mutations.archive_base())).items()}
    npy.write_array_header_1_0(b := io.BytesIO(), dict(descr=dtype, fortran_order=False, shape=shape))
    with zipfile.ZipFile(tmp_path/"x.npz", "w") as z:
        for k, v in arrays.items(): np.save(a := io.BytesIO(), v); z.writestr(f"{k}.npy", b.getvalue() + bytes(32) if k == "test_labels" else a.getvalue())
    with pytest.raises(InputError, match=words): medmnist(tmp_path/"x.npz", "none", folder=tmp_path/"out")


def test_an_archive_of_endless_empty_images(tmp_path):
    from numpy.lib import format as npy
    npy.write_array_header_1_0(b := io.BytesIO(), dict(descr="|u1", fortran_order=False, shape=(10**12, 0, 28)))
    with zipfile.ZipFile(tmp_path/"x.npz", "w") as z:
        for k, v in np.load(io.BytesIO(mutations.archive_base())).items(): np.save(a := io.BytesIO(), v); z.writestr(f"{k}.npy", b.getvalue() if k == "train_images" else a.getvalue())
    with pytest.raises(InputError, match="have no pixels, or more than"): medmnist(tmp_path/"x.npz", "none", folder=tmp_path/"out")


def test_weights_that_unfold(tmp_path):
    import torch
    from ttl_nb.models.imported import from_file
    torch.save(dict(w=torch.zeros(5_000_000)), b := io.BytesIO())
    with zipfile.ZipFile(b) as z, zipfile.ZipFile(tmp_path/"w.pt", "w", zipfile.ZIP_DEFLATED) as w:
        for i in z.infolist(): w.writestr(i.filename, z.read(i))
    assert (tmp_path/"w.pt").stat().st_size < 100_000
    with pytest.raises(InputError, match=r"unfolds to 20,\d+,\d+ bytes, more than"): from_file(tmp_path/"w.pt", "squeezenet1_1", "imagenet")


def test_tensors_that_are_no_plain_numbers(tmp_path):
    import torch
    from ttl_nb.models.backbone import create_backbone
    from ttl_nb.models.imported import to_checkpoint
    state = {k: v for k, v in create_backbone("squeezenet1_1", 2, "imagenet").state_dict().items() if not k.startswith("head.")}
    k = next(k for k, v in state.items() if v.ndim == 4)
    for odd in (state[k].to_sparse(), state[k].to(torch.complex64), state[k].to("meta")):
        with pytest.raises(InputError, match="sparse, quantised, complex or empty"): to_checkpoint(state | {k: odd}, "squeezenet1_1", "imagenet", "it")
    to_checkpoint(state, "squeezenet1_1", "imagenet", "it")
    to_checkpoint(state | {k: torch.zeros(1).as_strided(state[k].shape, (0,)*4)}, "squeezenet1_1", "imagenet", "it") # One number that says it is many


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "complex64"])
def test_own_checkpoints_of_odd_numbers(dtype, tmp_path):
    import torch
    from safetensors.torch import save_file
    from ttl_nb.models.checkpoint import load_checkpoint
    words = dict(format="ttl_nb checkpoint 1", backbone='"squeezenet1_1"', classes="[]", image_size="0", hash="x")
    save_file({"stem.0.weight": torch.zeros(4).to(getattr(torch, dtype))}, tmp_path/"x.safetensors", metadata=words)
    with pytest.raises(InputError, match="is damaged: its tensor"): load_checkpoint(tmp_path/"x.safetensors")
