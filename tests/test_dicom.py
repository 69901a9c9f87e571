"DICOM files as a viewer shows them: files written here with known answers, the fifteen real ones, mixed tables, privacy."
import io, os, re, shutil, struct, subprocess, sys, threading, warnings, zlib

import numpy as np
import pandas as pd
import pydicom
import pydicom.uid as u
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from ttl_nb.data import dicom, domain, pixels
from ttl_nb.data.dicom import explain_dicom, plot_steps, read_dicom
from ttl_nb.data.pixels import UnreadableImages, load_pixels, read_image
from ttl_nb.errors import InputError

LEVEL = 1/255        # one grey level
SECRETS = ("Doe^Jane", "4711-0815", "19630517", "1.2.826.0.1.99", "St.Elsewhere")


def write(file, x, compress=None, **fields):
    "Write pixels `(H,W)`, `(H,W,3)` or `(n,H,W)` (with NumberOfFrames) as DICOM; `fields` replace or add header fields."
    ds, syntax = Dataset(), fields.pop("syntax", u.ExplicitVRLittleEndian)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = SECRETS[3]
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, _, ds.InstitutionName = SECRETS
    ds.Rows, ds.Columns = x.shape[1:3] if "NumberOfFrames" in fields else x.shape[:2]
    ds.SamplesPerPixel = x.shape[-1] if x.ndim == 3 and "NumberOfFrames" not in fields and not fields.get("PlanarConfiguration") else fields.get("SamplesPerPixel", 1)
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", int(x.dtype.kind == "i")
    ds.BitsAllocated = ds.BitsStored = 8*x.dtype.itemsize
    if ds.SamplesPerPixel > 1: ds.PlanarConfiguration = 0
    swapped = x.astype(x.dtype.newbyteorder(">")) if syntax == u.ExplicitVRBigEndian else x
    ds.PixelData = swapped.tobytes() + b"\0"*(x.nbytes % 2)
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
    for k, v in fields.items(): setattr(ds, k, v)
    ds.HighBit = fields.get("HighBit", ds.BitsStored - 1)
    if compress: ds.compress(compress, generate_instance_uid=False)
    ds.save_as(file, enforce_file_format=True)
    return file


def lut(entries, first=0, bits=16):
    ds = Dataset()
    ds.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    ds.add_new("LUTData", "US", [int(v) for v in entries])
    return ds


@pytest.fixture
def f(tmp_path): return tmp_path/"x.dcm"


def ramp(n=64, low=0, high=4095, dtype=np.uint16):
    "A ramp `(8,n)` from `low` to `high`."
    return np.tile(np.linspace(low, high, n).round(), (8, 1)).astype(dtype)


def words(file, **kw): return {s.name: s.done for s in explain_dicom(file, **kw)}


# Bits, signs, byte orders

@pytest.mark.parametrize("dtype, bits, signed", [("u1", 8, 0), ("i1", 8, 1), ("u2", 10, 0), ("u2", 12, 0), ("i2", 12, 1), ("u2", 16, 0), ("i2", 16, 1),
                                                 ("u4", 32, 0), ("i4", 20, 1)])
@pytest.mark.parametrize("syntax", [u.ExplicitVRLittleEndian, u.ImplicitVRLittleEndian, u.ExplicitVRBigEndian, u.DeflatedExplicitVRLittleEndian])
def test_every_bit_depth_fills_its_own_range(f, dtype, bits, signed, syntax):
    low, high = (-2**(bits-1), 2**(bits-1) - 1) if signed else (0, 2**bits - 1)
    x = ramp(low=low, high=high, dtype=dtype)
    write(f, x, syntax=syntax, BitsStored=bits, Modality="DX")
    np.testing.assert_allclose(read_dicom(f), (x.astype(float) - low)/(high - low), atol=1e-6)


def test_foreign_bits_above_the_image_are_left_out(f):
    x = ramp()
    write(f, x | 0xA000, BitsStored=12, Modality="CR")
    np.testing.assert_allclose(read_dicom(f), x/4095, atol=1e-6)


def test_bits_that_lie_high(f):
    x = ramp()
    write(f, x << 4, BitsStored=12, HighBit=15, Modality="CR")
    np.testing.assert_allclose(read_dicom(f), x/4095, atol=1e-6)


def test_signed_twelve_bits_without_sign_extension(f):
    x = ramp(low=-2048, high=2047, dtype=np.int16)
    write(f, x & 0x0FFF, BitsStored=12, Modality="CR", PixelRepresentation=1)
    np.testing.assert_allclose(read_dicom(f), (x + 2048)/4095, atol=1e-6)


def test_eight_bits_in_big_endian_words(f):
    x = ramp(high=255, dtype=np.uint8)
    write(f, x, syntax=u.ExplicitVRBigEndian, Modality="CR")
    ds = pydicom.dcmread(f)
    ds.PixelData = x.reshape(-1, 2)[:, ::-1].tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(f)
    np.testing.assert_allclose(read_dicom(f), x/255, atol=1e-6)


def test_one_bit(f):
    x = (np.arange(64).reshape(8, 8) % 3 == 0).astype(np.uint8)
    write(f, x, BitsAllocated=1, BitsStored=1, PixelData=np.packbits(x.ravel(), bitorder="little").tobytes())
    assert (read_dicom(f) == x).all()


def test_floating_point_pixels_use_their_own_range(f):
    write(f, np.zeros((8, 8), np.uint8))
    ds, x = pydicom.dcmread(f), np.linspace(-3, 9, 64, dtype=np.float32).reshape(8, 8)
    del ds.PixelData
    ds.BitsAllocated = 32
    ds.FloatPixelData = x.tobytes()
    ds.save_as(f)
    np.testing.assert_allclose(read_dicom(f), (x + 3)/12, atol=1e-6)


# Compressed

def _textured(dtype=np.uint16, high=4095):
    return (np.random.default_rng(0).random((40, 48)).cumsum(1)*high/48).astype(dtype)


@pytest.mark.parametrize("syntax", [u.RLELossless, u.JPEGLSLossless, u.JPEG2000Lossless])
@pytest.mark.parametrize("dtype, bits", [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 16)])
def test_lossless_compression_changes_nothing(f, syntax, dtype, bits):
    x = _textured(dtype, 2**(bits-1) - 1)
    if dtype == "i2": x = x - 9000
    write(f, x, BitsStored=bits, Modality="CR")
    plain = read_dicom(f)
    write(f, x, syntax, BitsStored=bits, Modality="CR")
    assert (read_dicom(f) == plain).all() and ", decoded by " in words(f)["decoded"]


@pytest.mark.parametrize("syntax, how", [(u.JPEGLSNearLossless, dict(jls_error=2)), (u.JPEG2000, dict(j2k_psnr=[60]))])
def test_lossy_compression_stays_near(f, syntax, how):
    x = _textured(np.uint8, 255)
    write(f, x, Modality="CR")
    ds = pydicom.dcmread(f)
    ds.compress(syntax, generate_instance_uid=False, **how)
    ds.save_as(f)
    assert abs(read_dicom(f) - x/255).max() <= 4*LEVEL


def _jpeg(img, **kw):
    img.save(b := io.BytesIO(), "JPEG", quality=95, **kw)
    return b.getvalue()


def _encapsulated(file, x, frame, syntax, **fields):
    write(file, x, **fields)
    ds = pydicom.dcmread(file)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(file)
    return file


def test_jpeg_grey_and_colour(f):
    x = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    _encapsulated(f, x, _jpeg(Image.fromarray(x)), u.JPEGBaseline8Bit)
    assert abs(read_dicom(f) - x/255).max() <= 3*LEVEL
    rgb = np.stack([x, x[::-1].T, 255 - x], -1)
    for subsampling, colours in ((0, "YBR_FULL"), (1, "YBR_FULL_422")):
        _encapsulated(f, rgb, _jpeg(Image.fromarray(rgb), subsampling=subsampling), u.JPEGBaseline8Bit, PhotometricInterpretation=colours)
        assert abs(read_dicom(f) - np.asarray(Image.fromarray(rgb).convert("L"))/255).max() <= 4*LEVEL


def test_colour_in_jpeg_2000(f):
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    write(f, rgb, PhotometricInterpretation="RGB")
    plain = read_dicom(f)
    ds = pydicom.dcmread(f)
    ds.PhotometricInterpretation = "YBR_RCT"
    ds.compress(u.JPEG2000Lossless, generate_instance_uid=False)
    ds.save_as(f)
    np.testing.assert_allclose(read_dicom(f), plain, atol=1e-6)


def test_more_bits_than_the_header_says(f):
    "A compressed image carries its own depth: 16 bits are not cut to the header's 12."
    x = _textured(high=50000)
    write(f, x, u.JPEG2000Lossless, Modality="CR")
    ds = pydicom.dcmread(f)
    ds.BitsStored, ds.HighBit = 12, 11
    ds.save_as(f)
    np.testing.assert_allclose(read_dicom(f), x/65535, atol=1e-6)
    assert "16 bits (its header says 12)" in words(f)["decoded"]


# Colour

RGB = np.random.default_rng(1).integers(0, 256, (10, 12, 3), np.uint8)
LUMINANCE = RGB @ [.299, .587, .114]/255


def test_rgb_in_both_orders(f):
    write(f, RGB, PhotometricInterpretation="RGB")
    np.testing.assert_allclose(read_dicom(f), LUMINANCE, atol=1e-6)
    write(f, np.ascontiguousarray(RGB.transpose(2, 0, 1)), PhotometricInterpretation="RGB", PlanarConfiguration=1, SamplesPerPixel=3,
          Rows=10, Columns=12)
    np.testing.assert_allclose(read_dicom(f), LUMINANCE, atol=1e-6)


def test_luminance_and_chrominance(f):
    ybr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    write(f, ybr, PhotometricInterpretation="YBR_FULL")
    assert abs(read_dicom(f) - LUMINANCE).max() <= LEVEL
    sub = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], -1)
    write(f, ybr, PhotometricInterpretation="YBR_FULL_422", PixelData=sub.tobytes())
    assert abs(read_dicom(f) - LUMINANCE).max() <= LEVEL


@pytest.mark.parametrize("bits, stored", [(8, "u1"), (16, "<u2"), (16, "eight in sixteen")])
def test_palette(f, bits, stored):
    colours = np.random.default_rng(2).integers(0, 256, (3, 256))
    colours[0, 0] = 255
    scale = 257 if stored == "<u2" else 1
    fields = {}
    for name, c in zip(("Red", "Green", "Blue"), colours):
        fields[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        fields[f"{name}PaletteColorLookupTableData"] = (c*scale).astype("u1" if stored == "u1" else "<u2").tobytes()
    x = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write(f, x, PhotometricInterpretation="PALETTE COLOR", **fields)
    np.testing.assert_allclose(read_dicom(f), (colours.T @ [.299, .587, .114]/255).reshape(16, 16), atol=2e-5)


def test_colour_is_neither_windowed_nor_inverted(f):
    write(f, RGB, PhotometricInterpretation="RGB", WindowCenter=10, WindowWidth=2, RescaleSlope=3, RescaleIntercept=1, PresentationLUTShape="INVERSE")
    np.testing.assert_allclose(read_dicom(f), LUMINANCE, atol=1e-6)


def test_unknown_colours(f):
    write(f, RGB, PhotometricInterpretation="HSV")
    with pytest.raises(InputError, match="its colours are none of MONOCHROME1"): read_dicom(f)


# Rescaling

@pytest.mark.parametrize("a, b", [(1, -1024), (2.5, 7), (-1, 4095)])
def test_slope_and_intercept(f, a, b):
    x = ramp()
    write(f, x, BitsStored=12, RescaleSlope=a, RescaleIntercept=b, WindowCenter=500, WindowWidth=2001)
    y = ((x.astype(float)*a + b - 499.5)/2000 + .5).clip(0, 1)
    np.testing.assert_allclose(read_dicom(f), y, atol=LEVEL/10)
    assert np.ptp(y) > .5


def test_modality_lut_before_the_window(f):
    table = (np.arange(4096)**2//256).astype(int)
    x = ramp()
    write(f, x, BitsStored=12, ModalityLUTSequence=[lut(table)], WindowCenter=20000, WindowWidth=40001)
    np.testing.assert_allclose(read_dicom(f), ((table[x] - 19999.5)/40000 + .5).clip(0, 1), atol=1e-5)


def test_slope_of_zero_is_refused_not_applied(f):
    write(f, ramp(), BitsStored=12, RescaleSlope=0, RescaleIntercept=0, Modality="CR")
    assert read_dicom(f).max() == 1 and "slope of 0" in words(f)["rescaled"]


# Window and VOI LUT

@pytest.mark.parametrize("function", ["", "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("centre, width", [(2048, 4096), (1000, 300), (0, 10), (500.5, 1)])
def test_window_functions_agree_with_pydicom(f, function, centre, width):
    x = ramp(200)
    more = dict(VOILUTFunction=function) if function else {}
    write(f, x, BitsStored=12, WindowCenter=centre, WindowWidth=width, **more)
    if width == 1 and function in ("", "LINEAR"): theirs = (x > centre - .5)*4095   # pydicom divides by 0 between its two bounds
    else: theirs = apply_voi_lut(x, pydicom.dcmread(f))
    np.testing.assert_allclose(read_dicom(f), theirs/4095, atol=2e-5)


def test_by_hand_linear_window():
    "PS3.3 C.11.2.1.2.1 with centre 40 and width 400: -160 is black, 239 is white."
    np.testing.assert_allclose(dicom.linear(np.array([-161., -160, 39.5, 239, 240]), 40, 400), [0, 0, .5, 1, 1], atol=1e-12)
    assert dicom.linear(np.array([238.9]), 40, 400)[0] < 1 and dicom.linear(np.array([-159.]), 40, 400)[0] > 0


def test_the_window_scales_not_the_image(f):
    "A dark image stays dark: its smallest and largest pixel are not stretched to black and white."
    write(f, ramp(low=1000, high=2000), BitsStored=12, WindowCenter=2048, WindowWidth=4096)
    x = read_dicom(f)
    np.testing.assert_allclose([x.min(), x.max()], [1000/4095, 2000/4095], atol=1e-6)


def test_first_or_chosen_window(f):
    write(f, ramp(), BitsStored=12, WindowCenter=["100", "3000"], WindowWidth=["50", "900"])
    np.testing.assert_allclose(read_dicom(f), dicom.linear(ramp().astype(float), 100, 50), atol=1e-5)
    np.testing.assert_allclose(read_dicom(f, window=2), dicom.linear(ramp().astype(float), 3000, 900), atol=1e-5)
    np.testing.assert_allclose(read_dicom(f, voi="none"), (ramp() - 0)/4095, atol=1e-6)
    assert words(f, window=2)["windowed"] == "window 2 of 2: centre 3000, width 900 (LINEAR)"
    with pytest.raises(InputError, match="no window 3: it has 2"): read_dicom(f, window=3)


@pytest.mark.parametrize("first, bits", [(0, 16), (100, 8), (-500, 12)])
def test_voi_lut(f, first, bits):
    table = (np.sqrt(np.linspace(0, 1, 1000))*(2**bits - 1)).astype(int)
    x = ramp(low=-800 if first < 0 else 0, high=1500, dtype=np.int16)
    write(f, x, VOILUTSequence=[lut(table, first, bits)])
    np.testing.assert_allclose(read_dicom(f), table[(x.astype(int) - first).clip(0, 999)]/(2**bits - 1), atol=1e-6)
    assert read_dicom(f).max() == 1
    if bits > 8: # with 8-bit entries pydicom 3.0.2 also counts them with 8 bits
        np.testing.assert_allclose(read_dicom(f), apply_voi_lut(x, pydicom.dcmread(f))/(2**bits - 1), atol=1e-6)


def test_lut_before_window_and_the_other_way_round(f):
    x = ramp()
    write(f, x, BitsStored=12, VOILUTSequence=[lut(np.arange(4096)[::-1]*16), lut(np.arange(4096)*16)], WindowCenter=100, WindowWidth=50)
    np.testing.assert_allclose(read_dicom(f), (4095 - x)*16/65535, atol=1e-6)
    np.testing.assert_allclose(read_dicom(f, window=2), x*16/65535, atol=1e-6)
    np.testing.assert_allclose(read_dicom(f, voi="window"), dicom.linear(x.astype(float), 100, 50), atol=1e-5)
    assert "the file also has 1 window" in words(f)["windowed"]


def test_voi_lut_after_rescaling_below_zero(f):
    "The first input is written unsigned, 64512, and means -1024."
    x = ramp()
    write(f, x, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=[lut(np.arange(4096)*16, 64512)])
    np.testing.assert_allclose(read_dicom(f), x*16/65535, atol=1e-6)


def test_lut_whose_entries_have_fewer_bits_than_it_says(f):
    x = ramp()
    write(f, x, BitsStored=12, VOILUTSequence=[lut(np.arange(4096), bits=16)])
    np.testing.assert_allclose(read_dicom(f), x/4095, atol=1e-6)
    assert "of 12 bits" in words(f)["windowed"]


@pytest.mark.parametrize("syntax", [u.ExplicitVRLittleEndian, u.ImplicitVRLittleEndian, u.ExplicitVRBigEndian])
@pytest.mark.parametrize("entry", ["u1", "u2"])
def test_lut_entries_as_bytes(f, syntax, entry):
    x, table = ramp(high=255, dtype=np.uint8), np.arange(256)[::-1]
    item = Dataset()
    item.LUTDescriptor = [256, 0, 8]
    item.add_new("LUTData", "OW", b"")
    order = ">" if syntax == u.ExplicitVRBigEndian and entry == "u2" else "<"
    item.LUTData = table.astype(order + entry).tobytes()
    write(f, x, syntax=syntax, VOILUTSequence=[item])
    np.testing.assert_allclose(read_dicom(f), 1 - x/255, atol=1e-6)


@pytest.mark.parametrize("fields, said", [(dict(WindowCenter=5, WindowWidth=0), "window 1 of 1 left out: its width is 0; no window used"),
                                          (dict(WindowCenter="", WindowWidth=""), "no window used"),
                                          (dict(WindowCenter=.5, WindowWidth=.5), "LINEAR_EXACT, its width being below 1"),
                                          (dict(WindowCenter=5, WindowWidth=9, VOILUTFunction="CURVED"), "LINEAR, its function being unknown"),
                                          (dict(WindowCenter=[5, 6], WindowWidth=9), "window 1 of 1: centre 5, width 9")])
def test_odd_windows_are_said(f, fields, said):
    write(f, ramp(), BitsStored=12, Modality="CR", **fields)
    assert said in words(f)["windowed"] and "CURVED" not in str(words(f))


def test_without_a_window(f):
    "Radiographs and 8 bits: what the bits can hold; CT and others: the image's own range, padding left out."
    x = ramp(low=100, high=2000)
    write(f, x, BitsStored=12, Modality="DX")
    np.testing.assert_allclose(read_dicom(f), x/4095, atol=1e-6)
    x = ramp(low=-900, high=1100, dtype=np.int16)
    x[:, 0] = -2000
    write(f, x, Modality="CT", RescaleSlope=1, RescaleIntercept=-24, PixelPaddingValue=-2000)
    y = read_dicom(f)
    np.testing.assert_allclose(y[:, 1:], (x[:, 1:] - x[0, 1])/(x.max() - float(x[0, 1])), atol=1e-6)
    assert (y[:, 0] == 0).all() and "the image's own range" in words(f)["windowed"]
    write(f, ramp(high=99, dtype=np.uint8), Modality="US")
    assert abs(read_dicom(f).max() - 99/255) < 1e-6


# Polarity and padding

def test_both_polarities_of_one_image_are_the_same_pixels(f, tmp_path):
    x, window = ramp(), dict(BitsStored=12, WindowCenter=1500, WindowWidth=1001)
    two = read_dicom(write(f, x, **window))
    one = read_dicom(write(tmp_path/"1.dcm", (4095 - x).astype(np.uint16), PhotometricInterpretation="MONOCHROME1", **window | dict(WindowCenter=4096 - 1500)))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert two[0, 0] == 0 and two[0, -1] == 1


@pytest.mark.parametrize("colours, shape, inverted", [("MONOCHROME2", None, False), ("MONOCHROME2", "IDENTITY", False), ("MONOCHROME2", "INVERSE", True),
                                                      ("MONOCHROME1", None, True), ("MONOCHROME1", "IDENTITY", True), ("MONOCHROME1", "INVERSE", True)])
def test_inverted_once_or_not_at_all(f, colours, shape, inverted):
    x = ramp(high=255, dtype=np.uint8)
    write(f, x, PhotometricInterpretation=colours, **(dict(PresentationLUTShape=shape) if shape else {}))
    np.testing.assert_allclose(read_dicom(f), 1 - x/255 if inverted else x/255, atol=1e-6)
    assert words(f)["upright"].startswith("inverted" if inverted else "nothing")


@pytest.mark.parametrize("colours", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padding, limit", [(0, None), (4095, None), (0, 40), (4095, 4000)])
def test_padding_is_air(f, colours, padding, limit):
    x = ramp(low=100, high=3900)
    x[:, :9], x[:, 9:12] = padding, limit if limit is not None else padding
    more = dict(PixelPaddingRangeLimit=limit) if limit is not None else {}
    write(f, x, BitsStored=12, PhotometricInterpretation=colours, PixelPaddingValue=padding, WindowCenter=2048, WindowWidth=4096, **more)
    y = read_dicom(f)
    assert (y[:, :12] == 0).all() and "padding, 18.8 % of it, becomes air" in words(f)["upright"]
    np.testing.assert_allclose(y[:, 12:], 1 - x[:, 12:]/4095 if colours == "MONOCHROME1" else x[:, 12:]/4095, atol=1e-6)
    assert explain_dicom(f)[0].after == (x[:, 12:].min(), x[:, 12:].max())


def test_padding_written_unsigned_for_a_signed_image(f):
    x = ramp(low=-900, high=1100, dtype=np.int16)
    x[:, :8] = -2000
    write(f, x, WindowCenter=0, WindowWidth=2000, PhotometricInterpretation="MONOCHROME1")
    ds = pydicom.dcmread(f)
    ds.add_new("PixelPaddingValue", "US", 63536)
    ds.save_as(f)
    assert (read_dicom(f)[:, :8] == 0).all()


def test_pixels_that_are_not_square(f):
    write(f, np.full((20, 30), 255, np.uint8), PixelSpacing=[.4, .2])
    assert read_dicom(f).shape == (40, 30) and "2 x as high as wide" in words(f)["square pixels"]
    write(f, np.full((20, 30), 255, np.uint8), PixelAspectRatio=[1, 2])
    assert read_dicom(f).shape == (20, 60)
    for same in (dict(PixelSpacing=[.2, .2]), dict(PixelSpacing=[0, 0]), {}): assert read_dicom(write(f, np.zeros((20, 30), np.uint8), **same)).shape == (20, 30)


# Frames

def three(file, **more):
    frames = np.stack([np.full((4, 6), 10*i, np.uint8) for i in (1, 2, 3)])
    return write(file, frames, NumberOfFrames=3, **more)


@pytest.mark.parametrize("compress", [None, u.RLELossless])
def test_a_frame_has_to_be_named(f, compress):
    three(f, compress=compress)
    with pytest.raises(InputError, match=r"x.dcm can't be read: it holds 3 frames: say which one by # .*#1 to #3.*`frame`"): read_dicom(f)
    for i in (1, 2, 3):
        for x in (read_dicom(f, frame=i), read_dicom(f"{f}#{i}"), read_image(f"{f}#{i}")): np.testing.assert_allclose(x, i*10/255, atol=1e-6)
    assert words(f, frame=2)["decoded"].startswith("frame 2 of 3, 6 x 4 pixels")
    for wrong in (0, -1, 2.5, "2", True):
        with pytest.raises(InputError, match="`frame` must be a whole number"): read_dicom(f, frame=wrong)
    with pytest.raises(InputError, match="no frame 4: it holds 3"): read_dicom(f"{f}#4")
    with pytest.raises(InputError, match="frame 1 and frame 2"): read_dicom(f"{f}#2", frame=1)


def test_each_frame_has_its_own_window(f):
    def group(a, centre):
        g, t, v = Dataset(), Dataset(), Dataset()
        t.RescaleSlope, t.RescaleIntercept, v.WindowCenter, v.WindowWidth = a, 0, centre, 101
        g.PixelValueTransformationSequence, g.FrameVOILUTSequence = [t], [v]
        return g
    three(f, PerFrameFunctionalGroupsSequence=[group(1, 10), group(2, 40), group(1, 0)])
    np.testing.assert_allclose([read_dicom(f, i)[0, 0] for i in (1, 2, 3)], [.505, .505, .805], atol=1e-5)


def test_frames_are_kept_apart_in_the_pixel_cache(f, tmp_path):
    three(f)
    x = load_pixels([f"{f}#1", f"{f}#3", f"{f}#2"], 8, cache=tmp_path/"cache")
    assert [x[i].max() for i in range(3)] == [10, 30, 20]
    assert load_pixels([f"{f}#2", f"{f}#3", f"{f}#1"], 8, cache=tmp_path/"cache")[0].max() == 20
    with pytest.raises(UnreadableImages, match="it holds 3 frames"): load_pixels([f], 8, cache=tmp_path/"cache")


@pytest.mark.skipif(not hasattr(domain, "split_frame"), reason="data.domain does not know of frames (file.dcm#3) yet")
def test_a_table_may_name_frames(f, tmp_path):
    three(f)
    table = pd.DataFrame(dict(file=[f"{f}#1", f"{f}#2", f"{f}#3"], label=list("aba"), patient=list("xyz")))
    d = domain.Domain("film", table)
    assert load_pixels(d, 8, cache=tmp_path/"cache")[2].max() == 30 and len(d.hash) == 16
    with pytest.raises(InputError, match="missing"): domain.Domain("film", table.assign(file=[f"{f}#1", f"{f}#2", f"{tmp_path}/no.dcm#3"]))


# What can't be read

def test_cut_off_anywhere_is_one_sentence(f, tmp_path):
    write(f, _textured())
    whole, cut = f.read_bytes(), tmp_path/"cut.dcm"
    for n in [*range(0, 700, 23), len(whole) - 2, len(whole) - 1000]:
        cut.write_bytes(whole[:n])
        with pytest.raises(InputError, match=r"cut.dcm can't be read: .*\.$"): read_dicom(cut)
        with pytest.raises(InputError, match=r"cut.dcm can't be read: .*\.$"): read_image(cut)


@pytest.mark.parametrize("syntax", [u.RLELossless, u.JPEG2000Lossless]) # pyjpegls too, but it takes 5 s to say so
def test_damaged_frames_name_syntax_and_plugin(f, syntax):
    write(f, _textured(), syntax, BitsStored=12)
    ds = pydicom.dcmread(f)
    from pydicom.encaps import generate_frames
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([frame[:len(frame)//3]])
    ds.save_as(f)
    with pytest.raises(InputError, match=rf"x.dcm can't be read: its pixels \({re.escape(syntax.name)}, {re.escape(syntax)}\) can't be decoded by .*damaged"):
        read_dicom(f)


@pytest.mark.parametrize("syntax, package", [(u.JPEGLosslessSV1, "pip install python-gdcm"), (u.JPEGLSLossless, "pip install pyjpegls"),
                                             (u.JPEG2000, "pip install pylibjpeg pylibjpeg-openjpeg"), (u.HTJ2K, "pip install pylibjpeg pylibjpeg-openjpeg"),
                                             (u.JPEGBaseline8Bit, "pip install pillow")])
def test_a_missing_plugin_is_named(f, syntax, package, monkeypatch):
    _encapsulated(f, _textured(), b"\xff\xd8\xff\xd9", syntax, BitsStored=12)
    monkeypatch.setattr(dicom, "PLUGINS", ())
    with pytest.raises(InputError, match=rf"\({re.escape(syntax.name)}, {re.escape(syntax)}\) can't be decoded: {package}, and try again"): read_dicom(f)


@pytest.mark.parametrize("syntax", [u.MPEG2MPML, u.HEVCMP51, u.UID("1.2.3.4.5")])
def test_a_syntax_without_any_plugin(f, syntax):
    _encapsulated(f, _textured(), b"film", syntax)
    with pytest.raises(InputError, match=rf"{re.escape(syntax)}\) can't be decoded: no plugin exists"): read_dicom(f)


def test_without_preamble_and_meta_header(f, tmp_path):
    x = ramp()
    for syntax in (u.ExplicitVRLittleEndian, u.ImplicitVRLittleEndian, u.ExplicitVRBigEndian):
        ds = pydicom.dcmread(write(f, x, syntax=syntax, BitsStored=12, Modality="CR"))
        for name in ("old.dcm", "IM0001", "1.2.840.113"):
            with open(tmp_path/name, "wb") as out: _bare(out, ds, syntax)
            np.testing.assert_allclose(read_image(tmp_path/name), x/4095, atol=1e-6)
    shutil.copy(tmp_path/"old.dcm", tmp_path/"old.png")
    with pytest.raises(InputError, match="not an image"): read_image(tmp_path/"old.png")


def _bare(out, ds, syntax):
    "Write a data set without preamble and file meta."
    from pydicom.filebase import DicomFileLike
    from pydicom.filewriter import write_dataset
    fp = DicomFileLike(out)
    fp.is_implicit_VR, fp.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(fp, ds)


@pytest.mark.parametrize("change, says", [
    (lambda ds: ds.__delattr__("PixelData"), "DICOM file without pixels"),
    (lambda ds: ds.__delattr__("Rows"), "header has no Rows|contradicts"),
    (lambda ds: setattr(ds, "Rows", 0), "no rows"),
    (lambda ds: setattr(ds, "Rows", 60000) or setattr(ds, "Columns", 60000), "60000 x 60000 pixels, more than"),
    (lambda ds: setattr(ds, "BitsAllocated", 12), "contradicts itself"),
    (lambda ds: setattr(ds, "SamplesPerPixel", 3), "cut off|contradicts"),
    (lambda ds: ds.add_new("PixelPaddingValue", "US", 7) or setattr(ds, "PixelData", b"\7\0"*512), "all its pixels hold the padding"),
    (lambda ds: setattr(ds, "VOILUTSequence", [Dataset()]), "no descriptor"),
    (lambda ds: setattr(ds, "PhotometricInterpretation", "PALETTE COLOR"), "palette is missing"),
    (lambda ds: setattr(ds, "WindowWidth", "9") or setattr(ds, "WindowCenter", "nan"), "WindowCenter is not a finite number"),
])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_contradictions_are_one_sentence(f, change, says):
    ds = pydicom.dcmread(write(f, ramp()))
    change(ds)
    ds.save_as(f)
    with pytest.raises(InputError, match=f"x.dcm can't be read: .*({says})"): read_dicom(f)


def test_not_a_number(f):
    write(f, ramp(), RescaleSlope="1.5", RescaleIntercept="0")
    f.write_bytes(f.read_bytes().replace(b"1.5 ", b"one "))
    with pytest.raises(InputError, match="its RescaleSlope is not a number"): read_dicom(f)


def test_not_dicom(tmp_path):
    for name, content in (("text.dcm", b"Dear colleague"), ("empty.dcm", b""), ("zeros.dcm", bytes(500)), ("dir.dcm", bytes(128) + b"DICM")):
        (tmp_path/name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} can't be read: "): read_dicom(tmp_path/name)
        with pytest.raises(InputError, match=f"{name} can't be read: "): read_image(tmp_path/name)
    with pytest.raises(InputError, match="no such file"): read_dicom(tmp_path/"none.dcm")
    (tmp_path/"look.dcm").write_bytes(b"\x08\x00\x05\x00CS" + bytes(300))
    with pytest.raises(InputError, match="not a DICOM file"): read_image(tmp_path/"look.dcm")


def test_spoilt_headers_end_in_an_image_or_one_sentence(f, tmp_path):
    "Random bytes in the header: never another exception, never a value outside [0,1], never a word on the terminal."
    rng, outcomes = np.random.default_rng(0), set()
    wholes = [write(f, _textured(), VOILUTSequence=[lut(np.arange(4096))], BitsStored=12).read_bytes(),
              write(f, _textured(), u.JPEG2000Lossless, WindowCenter=[1, 2], WindowWidth=[3, 4], PixelPaddingValue=0).read_bytes()]
    for i in range(300):
        data = bytearray(wholes[i % 2])
        for at in rng.integers(132, min(len(data), 2500), rng.integers(1, 20)): data[at] = rng.choice([0, 255, rng.integers(256)])
        f.write_bytes(data)
        try:
            x = read_image(f)
            assert x.ndim == 2 and x.dtype == np.float32 and 0 <= x.min() and x.max() <= 1
            outcomes.add("image")
        except InputError: outcomes.add("error")
    assert outcomes == {"image", "error"}


def test_a_deflated_bomb(f, monkeypatch):
    write(f, np.zeros((400, 500), np.uint8), syntax=u.DeflatedExplicitVRLittleEndian)
    assert f.stat().st_size < 3000 and read_dicom(f).shape == (400, 500)
    monkeypatch.setattr(dicom, "MAX_PIXELS", 40_000)
    with pytest.raises(InputError, match="unfolds to more than the 160,000 bytes"): read_dicom(f)


# Mixed tables

def mixed(folder, n=40):
    "A table of `n` images, a quarter each: PNG, DICOM, DICOM upside down and compressed, DICOM without a suffix."
    rng, files = np.random.default_rng(0), []
    for i in range(n):
        x = rng.integers(0, 200, (24, 20), np.uint8)
        if i % 2: x[8:16, 8:16] += 50
        files.append((f"{i}.png", f"{i}.dcm", f"{i}.ima", f"IM{i}")[i//2 % 4])
        if i//2 % 4 == 0: Image.fromarray(x).save(folder/files[-1])
        elif i//2 % 4 == 2: write(folder/files[-1], 255 - x, u.RLELossless, PhotometricInterpretation="MONOCHROME1")
        else: write(folder/files[-1], x)
        Image.fromarray(x).save(folder/f"plain{i}.png")
    table = pd.DataFrame(dict(file=files, label=np.tile(["no", "yes"], n//2), patient_id=[f"p{i}" for i in range(n)], split=["train"]*(n*6//10) + ["test"]*(n - n*6//10)))
    table.to_csv(folder/"labels.csv", index=False)
    table.assign(file=[f"plain{i}.png" for i in range(n)]).to_csv(folder/"plain.csv", index=False)
    return folder/"labels.csv"


def test_a_table_that_mixes_pictures_and_dicom_trains(tmp_path):
    from ttl_nb.data.catalog import from_csv
    from ttl_nb.train.fit import fit
    from ttl_nb.train.recipe import Recipe
    target, plain = from_csv(mixed(tmp_path), name="mixed"), from_csv(tmp_path/"plain.csv", name="plain")
    x = load_pixels(target, 16, cache=tmp_path/"cache")
    assert (x == load_pixels(plain, 16, cache=tmp_path/"cache")).all() and x.std() > 10
    run = fit(Recipe("mixed", n_train=20, image_size=16, epochs=1, min_steps=2), target, pixels=x)
    assert len(run.recording.series("batch", "loss")[0]) >= 2 and np.isfinite(run.auc)


def test_names_lie_and_content_decides(f, tmp_path):
    x = ramp(high=255, dtype=np.uint8)
    Image.fromarray(x).save(tmp_path/"p.png")
    shutil.copy(tmp_path/"p.png", tmp_path/"p.dcm")
    write(tmp_path/"d.png", x)
    for name in ("p.dcm", "d.png", "p.png"): np.testing.assert_allclose(read_image(tmp_path/name), x/255, atol=1e-6)


# Quiet, private, light

def test_warnings_stay_off_the_terminal(f, tmp_path):
    "Excess bytes, an odd value, and a file that ends early: pydicom warns of each; the terminal stays empty (older SWIGs warn of themselves at import, which Python hides by default)."
    write(f, ramp(), BitsStored=12, Modality="CR")
    ds = pydicom.dcmread(f)
    ds.PixelData += bytes(100)
    ds.save_as(f)
    odd = f.read_bytes().replace(SECRETS[2].encode(), b"17.05.63")
    f.write_bytes(odd)
    code = ("import sys\nfrom ttl_nb.data.dicom import read_dicom\nfrom ttl_nb.errors import InputError\n"
            "for f in sys.argv[1:]:\n    try: read_dicom(f)\n    except InputError: pass")
    cut = tmp_path/"cut.dcm"
    write(cut, _textured(), u.JPEG2000Lossless)
    cut.write_bytes(cut.read_bytes()[:-30])
    spoilt = tmp_path/"spoilt.dcm"
    data = bytearray(write(spoilt, _textured(), u.JPEG2000Lossless, BitsStored=12).read_bytes())
    data[-300:-100] = bytes(200)
    spoilt.write_bytes(data)
    r = subprocess.run([sys.executable, "-W", "always", "-W", "ignore:builtin type:DeprecationWarning", "-c", code, f, cut, spoilt], capture_output=True, text=True)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


def test_filters_are_put_back_after_many_threads(f):
    write(f, ramp(), BitsStored=12)
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_dicom(f) for _ in range(20)]) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert warnings.filters == before and dicom._readers == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_patient_reaches_cache_message_or_output(tmp_path, capsys, monkeypatch):
    from ttl_nb.cli import app
    cache, said = tmp_path/"cache", []
    monkeypatch.setenv("TTL_NB_CACHE", str(cache))
    files = [write(tmp_path/"a.dcm", ramp(), BitsStored=12), write(tmp_path/"b.dcm", _textured(), u.JPEG2000Lossless, BitsStored=12), three(tmp_path/"c.dcm")]
    whole = files[0].read_bytes()
    for secret in SECRETS: assert secret.encode() in whole
    bad = [tmp_path/f"bad{i}.dcm" for i in range(12)]
    for i, file in enumerate(bad): file.write_bytes(whole[:len(whole) - 1050*(i == 11) - 97*i - 1]) # cut in pixels and header
    bad.append(tmp_path/"vr.dcm"); bad[-1].write_bytes(whole.replace(b"PN", b"XX").replace(b"(\0\x10\0US\x02\0", b"(\0\x10\0US\xff\xff"))
    at = whole.index(b"(\0\2\0US")
    for i, odd in enumerate((b"\x10\0\2\x10SQ\0\0\xff\xff\xff\xff", b"(\0\x10\0XX\xff\xff")):      # a sequence without items; an impossible field
        bad.append(tmp_path/f"odd{i}.dcm"); bad[-1].write_bytes(whole[:at] + odd + SECRETS[0].encode()*3 + whole[at:])
    load_pixels([files[0], files[1], f"{files[2]}#2"], 16)
    for file in bad + files:
        for call in (read_dicom, read_image, explain_dicom, lambda f: load_pixels([f], 16)):
            try: said.append(str(call(file)))
            except InputError as e: said.append(repr(e) + str(e.__cause__) + str(e.__context__))
    with pytest.raises(SystemExit): app(["dicom", *map(str, files + bad), "--picture", str(tmp_path/"steps.png")])
    out = capsys.readouterr()
    everything = "\n".join([*said, out.out, out.err]).encode() + (tmp_path/"steps.png").read_bytes()
    for file in cache.rglob("*"): everything += str(file).encode() + (file.read_bytes() if file.is_file() else b"")
    assert any("cut off" in s for s in said) and any("header is damaged" in s for s in said) and len(list(cache.iterdir())) >= 3
    for secret in SECRETS: assert secret.encode() not in everything, secret


def test_only_needed_fields_are_parsed(f):
    write(f, ramp(), BitsStored=12)
    ds = dicom._open(f)
    assert {e.keyword for e in ds} <= {*dicom.FIELDS, "SpecificCharacterSet"}
    identifying = re.compile("Patient|Name|Date|Time|UID|Institution|Physician|Accession|Comment|Description|Explanation|ID$")
    assert not [k for k in dicom.FIELDS if identifying.search(k)]


def test_pydicom_is_loaded_when_a_dicom_file_turns_up(f, tmp_path):
    write(f, ramp(), BitsStored=12)
    Image.fromarray(ramp(high=255, dtype=np.uint8)).save(tmp_path/"p.png")
    code = ("import sys\nfrom ttl_nb.data.pixels import load_pixels\nimport ttl_nb.data.catalog\n"
            "load_pixels([sys.argv[2]], 16, cache=sys.argv[3])\nassert 'pydicom' not in sys.modules\n"
            "load_pixels(sys.argv[1:3], 16, cache=sys.argv[3])\nassert 'pydicom' in sys.modules\n"
            "assert not {'torch', 'fastai', 'matplotlib'} & set(sys.modules)")
    r = subprocess.run([sys.executable, "-c", code, f, tmp_path/"p.png", tmp_path/"cache"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr


def test_another_plugin_is_another_cache(f, tmp_path, monkeypatch):
    from importlib.metadata import version
    assert all(f"{p}-{version(p)}" in dicom.decoder_versions() for p in ("pydicom", "python-gdcm", "pylibjpeg-openjpeg", "pyjpegls"))
    write(f, ramp(), BitsStored=12)
    load_pixels([f], 16, cache=tmp_path/"cache")
    monkeypatch.setattr(pixels, "decoder_versions", lambda: "pydicom-9")
    load_pixels([f], 16, cache=tmp_path/"cache")
    assert len(list((tmp_path/"cache").iterdir())) == 2


# Explaining is reading

def test_the_last_step_is_what_is_read(f):
    write(f, ramp(), BitsStored=12, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=900, RescaleSlope=2, RescaleIntercept=-5)
    steps = explain_dicom(f)
    assert [s.name for s in steps] == ["decoded", "rescaled", "windowed", "upright"]
    assert (steps[-1].preview == read_dicom(f)).all() and steps[1].before == steps[0].after == (0, 4095) and steps[1].after == (-5, 8185)
    x = read_dicom(f)
    assert x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
    axs = plot_steps({"one": steps, "two": steps[:2]})
    assert axs.shape == (2, 4) and axs[0, 0].images[0].get_clim() == (0, 4095) and not axs[1, 3].images
    assert "pyplot" not in dicom.__dict__


def test_steps_change_when_a_step_is_left_out(f):
    "The picture of each step is that of its values, not a copy of the last."
    write(f, ramp(), BitsStored=12, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=900)
    previews = [s.preview for s in explain_dicom(f)]
    assert (previews[0] == previews[1]).all() and all((a != b).any() for a, b in zip(previews[1:], previews[2:]))


# The command

def test_the_command_shows_all_and_fails_for_some(f, tmp_path, capsys):
    from ttl_nb.cli import app
    write(f, ramp(), BitsStored=12, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=900)
    (tmp_path/"text.dcm").write_text("no")
    three(tmp_path/"film.dcm")
    def run(*words):
        with pytest.raises(SystemExit) as end: app(["dicom", *map(str, words)])
        out = capsys.readouterr()
        return end.value.code, " ".join(out.out.split()), " ".join(out.err.split())
    code, out, _ = run(f, f"{tmp_path}/film.dcm#2", "--picture", tmp_path/"p.png")
    assert code == 0 and "inverted: MONOCHROME1" in out and "frame 2 of 3" in out.replace("\n", " ") and Image.open(tmp_path/"p.png").size[1] > 600
    code, out, err = run(tmp_path/"text.dcm", f, tmp_path/"film.dcm", "--picture", tmp_path/"q.png")
    assert code == 2 and "inverted" in out and "text.dcm can't be read" in out and "it holds 3 frames" in out and (tmp_path/"q.png").exists()
    assert err == "ttl-nb: 2 of 3 files can't be read; why stands above"
    code, out, err = run(tmp_path/"text.dcm", "--picture", tmp_path/"r.png")
    assert code == 2 and not out and err.startswith("ttl-nb: ") and err.count("can't be read") == 1 and not (tmp_path/"r.png").exists()
    for words, says in ((["--voi", "x"], "`--voi` must be one of"), (["--window", 0], "`--window`"), (["--frame", 0], "`--frame`"),
                        (["--picture", tmp_path/"no"/"p.png"], "cannot be written")):
        code, _, err = run(f, *words)
        assert code == 2 and says in err, err


# The fifteen real files

REAL = { # outcome: words of the error; or the frame to ask for, polarity and words of the steps
    "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819": (None, False, "by the range that its bits can hold, 0 to 255"),
    "CT_small": (None, False, "by the image's own range, -896 to 1167"),
    "Fake_MONOHR1": (None, True, "by the range that its bits can hold, 0 to 255"),
    "JPEG-lossy": "JPEG Extended .*1.2.840.10008.1.2.4.51.* with 12 bits .*: pip install pylibjpeg pylibjpeg-libjpeg",
    "JPGLosslessP14SV1_1s_1f_8b": (None, False, "window 1 of 1: centre 127, width 254"),
    "MR_truncated": "cut off: 8,130 of 8,192 bytes",
    "RG1_J2KI": (None, True, "window 1 of 1: centre 15000, width 30000"),
    "RG3_J2KI": (None, True, "window 1 of 1: centre 550, width 1024"),
    "RG3_J2KR": (None, True, "window 1 of 1: centre 550, width 1024"),
    "bad_sequence": (None, False, "window 1 of 2: centre 40, width 350"),
    "emri_small_jpeg_2k_lossless": (10, False, "by the image's own range, 0 to 374"),
    "emri_small_jpeg_2k_lossless_too_short": "without pixels: they were left out, or it is cut off",
    "liver_rle": "it holds 3 frames",
    "liver_rle#2": "RLE Lossless, 1.2.840.10008.1.2.5.* no plugin reads it with 1 bit",
    "no_meta": "(not|neither a picture nor) a DICOM file.* no data element at its start",
    "vlut_04": (None, False, "VOI LUT 1 of 1: 256 entries of 16 bits"),
}


@pytest.fixture(scope="session")
def real(real_data):
    if not (real_data/"dicom").is_dir(): pytest.skip(f"no DICOM files in {real_data/'dicom'}")
    return real_data/"dicom"


def test_all_fifteen_are_accounted_for(real): assert {f.stem for f in real.glob("*.dcm")} == {k.split("#")[0] for k in REAL}


@pytest.mark.parametrize("name", REAL)
def test_real_file(real, name):
    stem, _, frame = name.partition("#")
    file, expected = f"{real/stem}.dcm{'#' + frame if frame else ''}", REAL[name]
    if isinstance(expected, str):
        for read in (read_dicom, read_image):
            with pytest.raises(InputError, match=f"{re.escape(file)} can't be read: .*{expected}"): read(file)
        return
    frame, inverted, window = expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps, x = {s.name: s for s in explain_dicom(file, frame)}, read_dicom(file, frame)
    assert window in steps["windowed"].done and steps["upright"].done.startswith("inverted" if inverted else "nothing")
    assert x.dtype == np.float32 and 0 <= x.min() < .2 and .8 < x.max() <= 1 and x.std() > .1
    np.testing.assert_allclose(x, _by_pydicom(file, frame, steps["windowed"]), atol=LEVEL)


def _by_pydicom(file, frame, windowed):
    "What pydicom's own functions make of it, scaled by their output range; its image's own range where we say so."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(file)
        a = ds.pixel_array if frame is None else ds.pixel_array[frame-1]
        x = apply_voi_lut(apply_modality_lut(a, ds), ds).astype(float)
    low, high = (0, 65535) if "LUT" in windowed.done else (0, 2**ds.BitsStored - 1)
    if "own range" in windowed.done: low, high = x.min(), x.max()
    elif "RescaleSlope" in ds: low, high = (v*ds.RescaleSlope + ds.RescaleIntercept for v in (low, high))
    x = (x - low)/(high - low)
    return 1 - x if ds.PhotometricInterpretation == "MONOCHROME1" else x


def test_what_is_known_of_the_real_radiographs(real):
    "The arm's bone is brighter than the air beside it; both compressions of it agree; the fake is the negative of its twin."
    a, b = read_dicom(real/"RG3_J2KI.dcm"), read_dicom(real/"RG3_J2KR.dcm")
    assert abs(a - b).mean() < 2*LEVEL and b[1500, 800] > b[900, 500] + .3
    fake, twin = read_dicom(real/"Fake_MONOHR1.dcm"), read_dicom(real/"1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm")
    np.testing.assert_allclose(fake, 1 - twin, atol=1e-6)
    assert fake.shape == (1024, 1024) and twin[500, 512] > twin[500, 280]     # the spine, a lung
