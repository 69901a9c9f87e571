"DICOM files that write_dicom makes: valid, the same every time, and what went in comes back."
import hashlib, os, re

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom import config
from pydicom.pixels import pixel_array

from ttl_nb.data.catalog import from_csv, from_dicom
from ttl_nb.data.dicom import explain_dicom
from ttl_nb.data.domain import Domain
from ttl_nb.data.export import COMPRESSIONS, write_dicom
from ttl_nb.data.pixels import load_pixels, read_image
from ttl_nb.errors import InputError

# What PS3.3 A.26 requires of a Digital X-Ray Image - For Presentation, module by module. 1: a value; 2: there, perhaps empty
REQUIRED = {
    "Patient": {"PatientName": 2, "PatientID": 2, "PatientBirthDate": 2, "PatientSex": 2},
    "General Study": {"StudyInstanceUID": 1, "StudyDate": 2, "StudyTime": 2, "ReferringPhysicianName": 2, "StudyID": 2, "AccessionNumber": 2},
    "General and DX Series": {"Modality": 1, "SeriesInstanceUID": 1, "SeriesNumber": 2, "PresentationIntentType": 1},
    "General Equipment": {"Manufacturer": 2},
    "Acquisition Context": {"AcquisitionContextSequence": 2},
    "General Image": {"InstanceNumber": 2},
    "Image Pixel": {"SamplesPerPixel": 1, "PhotometricInterpretation": 1, "Rows": 1, "Columns": 1, "BitsAllocated": 1, "BitsStored": 1, "HighBit": 1,
                    "PixelRepresentation": 1, "PixelData": 1},
    "DX Anatomy Imaged": {"ImageLaterality": 1, "AnatomicRegionSequence": 2},
    "DX Image": {"ImageType": 1, "PixelIntensityRelationship": 1, "PixelIntensityRelationshipSign": 1, "RescaleIntercept": 1, "RescaleSlope": 1,
                 "RescaleType": 1, "PresentationLUTShape": 1, "LossyImageCompression": 1, "PatientOrientation": 1, "BurnedInAnnotation": 1,
                 "WindowCenter": 1, "WindowWidth": 1},
    "DX Detector": {"DetectorType": 2, "ImagerPixelSpacing": 1},
    "SOP Common": {"SOPClassUID": 1, "SOPInstanceUID": 1},
}
ENUMERATED = { # Values that the standard allows
    "SOPClassUID": {"1.2.840.10008.5.1.4.1.1.1.1"}, "Modality": {"DX"}, "PresentationIntentType": {"FOR PRESENTATION"}, "SamplesPerPixel": {1},
    "PhotometricInterpretation": {"MONOCHROME1", "MONOCHROME2"}, "BitsAllocated": {8, 16}, "BitsStored": set(range(6, 17)), "PixelRepresentation": {0},
    "ImageLaterality": {"R", "L", "U", "B"}, "PixelIntensityRelationship": {"LIN", "LOG"}, "PixelIntensityRelationshipSign": {1, -1},
    "RescaleIntercept": {0}, "RescaleSlope": {1}, "RescaleType": {"US"}, "PresentationLUTShape": {"IDENTITY", "INVERSE"},
    "LossyImageCompression": {"00", "01"}, "BurnedInAnnotation": {"YES", "NO"}}


@pytest.fixture
def raise_everywhere():
    "pydicom refuses whatever breaks the standard, in reading and in writing."
    before = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.RAISE
    yield
    config.settings.reading_validation_mode, config.settings.writing_validation_mode = before


@pytest.fixture
def domain(tmp_path):
    "Sixteen pictures of eight patients: odd shapes, PNG and JPEG, black and white to the limits."
    rng, folder = np.random.default_rng(0), tmp_path/"pictures"
    folder.mkdir()
    for i in range(16):
        x = np.asarray(Image.fromarray(rng.integers(0, 256, (5, 4), np.uint8)).resize((33 + i, 40 + 3*i), Image.Resampling.BICUBIC)).copy()
        x[:3], x[3:5] = 0, 255
        Image.fromarray(x).save(folder/(f"{i}.jpg" if i % 4 == 1 else f"{i}.png"), **({"quality": 90} if i % 4 == 1 else {}))
    table = pd.DataFrame({"file": [f"{i}.jpg" if i % 4 == 1 else f"{i}.png" for i in range(16)], "label": ["ill", "well"]*8,
                          "patient": [f"Doe^Jane {i//2}" for i in range(16)], "split": ["train"]*10 + ["test"]*4 + ["valid"]*2})
    return Domain("pictures", table, body_part="chest", root=folder)


@pytest.fixture
def written(domain, tmp_path): return write_dicom(domain, tmp_path/"dx")


def files(labels): return sorted(labels.parent.glob("*.dcm"))

def faults(ds):
    "What a data set lacks of what the standard requires."
    for module, fields in REQUIRED.items():
        for name, kind in fields.items():
            if name not in ds: yield f"{module}: no {name}"
            elif kind == 1 and ds[name].is_empty: yield f"{module}: {name} is empty"
    yield from (f"{k} is {ds[k].value!r}" for k, allowed in ENUMERATED.items() if k in ds and ds[k].value not in allowed)
    if ds.HighBit != ds.BitsStored - 1: yield "HighBit"
    if {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}[ds.PhotometricInterpretation] != ds.PresentationLUTShape: yield "PresentationLUTShape"
    if {"MONOCHROME1": 1, "MONOCHROME2": -1}[ds.PhotometricInterpretation] != ds.PixelIntensityRelationshipSign: yield "the sign of the intensity"
    if ds.LossyImageCompression == "01" and not ("LossyImageCompressionRatio" in ds and "LossyImageCompressionMethod" in ds): yield "1C: lossy, and not how"
    for item in ds.AnatomicRegionSequence:
        yield from (f"code without {k}" for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning") if not item.get(k))


def test_every_file_is_a_valid_dx_image(written, raise_everywhere, recwarn):
    for f in files(written):
        ds = pydicom.dcmread(f)
        for element in ds.iterall(): element.value # Parsed, and validated, when it is asked for
        assert not list(faults(ds)), f"{f.name}: {list(faults(ds))}"
        meta = ds.file_meta
        assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (ds.SOPClassUID, ds.SOPInstanceUID)
        for uid in (ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, meta.ImplementationClassUID): assert uid.is_valid and len(uid) <= 64
        assert f.read_bytes()[128:132] == b"DICM"
    assert not [w for w in recwarn if "pydicom" in str(w.filename)]


@pytest.mark.parametrize("name", ["PresentationLUTShape", "ImagerPixelSpacing", "AcquisitionContextSequence", "ImageLaterality", "PatientID"])
def test_the_check_of_validity_can_fail(written, name):
    ds = pydicom.dcmread(files(written)[0])
    delattr(ds, name)
    with pytest.raises((AssertionError, AttributeError)): assert not list(faults(ds))


def test_files_are_written_in_the_strictest_mode(domain, tmp_path, raise_everywhere):
    assert len(files(write_dicom(domain, tmp_path/"strict"))) == 16


def test_images_come_back_within_a_grey_level(domain, written):
    "Far within: 12 bits hold 8 bits to 1/8190."
    back = from_csv(written, body_part="chest")
    for a, b in zip(domain.items["file"], back.items["file"]):
        x, y = read_image(a), read_image(b)
        assert x.shape == y.shape and abs(x - y).max() < 1/8190 + 1e-6
        assert (np.rint(x*255) == np.rint(y*255)).all()


def test_pixel_maps_of_both_are_the_same(domain, written, tmp_path):
    a, b = load_pixels(domain, 24, cache=tmp_path/"c"), load_pixels(from_csv(written), 24, cache=tmp_path/"c")
    assert abs(a.astype(int) - b).max() <= 1 and (a != b).mean() < .02


def test_stored_numbers_of_monochrome1_are_upside_down(domain, written):
    "The trap is really there: read without care, half of the images are negatives."
    for f in files(written):
        ds, right = pydicom.dcmread(f), read_image(f)
        stored = pixel_array(f)/4095
        inverted = ds.PhotometricInterpretation == "MONOCHROME1"
        assert abs((1 - stored if inverted else stored) - right).max() < 1e-6
        assert ("inverted" in {s.name: s.done for s in explain_dicom(f)}["upright"]) == inverted
        assert stored.max() == 1 and stored.min() == 0 and pixel_array(f).max() == 4095


def kinds(labels):
    heads = [pydicom.dcmread(f, stop_before_pixels=True) for f in files(labels)]
    return [h.PhotometricInterpretation for h in heads], [str(h.file_meta.TransferSyntaxUID) for h in heads]


def test_the_mix_is_what_was_asked_for(domain, tmp_path, written):
    polarity, syntax = kinds(written)
    assert polarity.count("MONOCHROME1") == 8 and {syntax.count(uid) for uid, _ in COMPRESSIONS.values()} == {4}
    assert len(set(zip(polarity, syntax))) > 4 # Neither follows the other
    for c in (0, 1): # Nor do they tell the class
        of = [(p, s) for p, s, label in zip(polarity, syntax, domain.labels) if label == c]
        assert [p for p, _ in of].count("MONOCHROME1") == 4 and {[s for _, s in of].count(uid) for uid, _ in COMPRESSIONS.values()} == {2}
    for share, n in ((0, 0), (1, 16), (.25, 4)):
        assert kinds(write_dicom(domain, tmp_path/f"s{share}", monochrome1=share, compression="rle"))[0].count("MONOCHROME1") == n
    syntax = kinds(write_dicom(domain, tmp_path/"two", compression=["none", "none", "none", "jpeg_ls"]))[1]
    assert syntax.count(COMPRESSIONS["jpeg_ls"][0]) == 4 and syntax.count(COMPRESSIONS["none"][0]) == 12


def test_the_same_domain_gives_the_same_bytes_anywhere(domain, written, tmp_path):
    import shutil
    shutil.copytree(domain.root, tmp_path/"moved")
    moved = Domain("another name", domain.items.assign(file=domain.names), body_part="chest", root=tmp_path/"moved")
    for a in written.parent.iterdir(): assert a.read_bytes() == (write_dicom(moved, tmp_path/"again").parent if not (tmp_path/"again").exists() else tmp_path/"again")\
        .joinpath(a.name).read_bytes()


def test_another_pixel_gives_another_identifier(domain, tmp_path, written):
    file = domain.items["file"][0]
    x = np.asarray(Image.open(file)).copy()
    x[10, 10] ^= 64
    Image.fromarray(x).save(file)
    a, b = (pd.read_csv(t)["SOPInstanceUID"] for t in (written, write_dicom(domain, tmp_path/"changed")))
    assert (a != b).tolist() == [True] + [False]*15 and a.is_unique and b.is_unique


def test_one_image_written_upside_down_and_upright_is_two_objects(domain, tmp_path):
    ids = [pd.read_csv(write_dicom(domain, tmp_path/f"{m}{c}", [0], monochrome1=m, compression=c))["SOPInstanceUID"][0] for m in (0, 1) for c in COMPRESSIONS]
    assert len(set(ids)) == 8


def test_nobody_is_named(domain, written):
    "Neither the patients of the domain, nor its classes, nor where its files lay."
    for f in [*files(written)]:
        text = f.read_bytes()
        assert not [w for w in (b"Doe", b"Jane", b"ill", b"pictures", os.fsencode(domain.root)) if w in text.replace(b"still", b"")]
        ds = pydicom.dcmread(f, stop_before_pixels=True)
        assert re.fullmatch(r"TTL-[0-9a-f]{16}", ds.PatientID) and ds.PatientName == f"Nobody^{ds.PatientID}"
        assert not [k for k in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "InstitutionName") if ds.get(k)]
        assert "not for diagnosis" in ds.SeriesDescription


def test_both_readers_read_the_table(domain, written):
    a, b = from_csv(written), from_dicom(written.parent, written)
    c = from_dicom(written.parent, written, key="SOPInstanceUID")
    d = from_dicom(written.parent, written, key="AccessionNumber", salt="x")
    for found in (a, b, c, d):
        assert found.labels.tolist() == domain.labels.tolist() and list(found.items["split"]) == list(domain.items["split"])
        assert pd.factorize(found.patients)[0].tolist() == pd.factorize(domain.patients)[0].tolist()
    head = pydicom.dcmread(b.items["file"][0], stop_before_pixels=True)
    assert b.patients[0] == c.patients[0] == hashlib.sha256(head.PatientID.encode()).hexdigest()[:16] != d.patients[0]


def test_several_labels_and_no_split(domain, tmp_path):
    items = domain.items.assign(split="", mass=[0, 1]*8, hernia=[0, 0, 1, 1]*4)
    multi = Domain("multi", items, ("mass", "hernia"), "knee", True, domain.root)
    labels = write_dicom(multi, tmp_path/"multi")
    for found in (from_csv(labels, label=["mass", "hernia"]), from_dicom(labels.parent, labels, label=["mass", "hernia"])):
        assert (found.labels == multi.labels).all() and not found.has_test_set
    assert labels.read_text().splitlines()[1].split(",")[1:3] == ["0", "0"]
    assert pydicom.dcmread(files(labels)[0]).BodyPartExamined == "KNEE"


def test_an_image_of_no_body_has_no_code(domain, tmp_path, raise_everywhere):
    natural = Domain("natural", domain.items, root=domain.root)
    for f in files(write_dicom(natural, tmp_path/"n", [0, 1])):
        ds = pydicom.dcmread(f)
        assert not ds.AnatomicRegionSequence and "BodyPartExamined" not in ds and not list(faults(ds))


def test_jpeg_files_say_that_they_lost_something(domain, written):
    said = {i: pydicom.dcmread(f).LossyImageCompression for i, f in enumerate(files(written))}
    assert {i for i, v in said.items() if v == "01"} == {1, 5, 9, 13}


def test_some_rows(domain, tmp_path):
    told = []
    labels = write_dicom(domain, tmp_path/"some", rows=np.array([5, 2, 9]), progress=lambda *a: told.append(a))
    assert [f.name for f in files(labels)] == ["image00002.dcm", "image00005.dcm", "image00009.dcm"] and told == [(1, 3), (2, 3), (3, 3)]
    assert list(pd.read_csv(labels)["file"]) == ["image00005.dcm", "image00002.dcm", "image00009.dcm"]


@pytest.mark.parametrize("options, message", [
    ({"rows": []}, "no rows to write"), ({"rows": [16]}, "whole numbers from 0 to 15"), ({"rows": [-1]}, "whole numbers from 0 to 15"),
    ({"rows": [1, 1]}, "names a row more than once"), ({"rows": [True]*16}, "whole numbers"), ({"rows": ["1.png"]}, "whole numbers"),
    ({"monochrome1": 1.5}, "`monochrome1` must be a number at least 0 and at most 1"), ({"compression": "jpg"}, "`compression` must be one of none, rle"),
    ({"compression": []}, "`compression` must be one of"),
])
def test_faulty_options_are_named_and_nothing_is_written(domain, tmp_path, options, message):
    with pytest.raises(InputError, match=message): write_dicom(domain, tmp_path/"x", **options)
    assert not (tmp_path/"x").exists()


def test_an_image_too_small_for_jpeg_2000_is_an_error(domain, tmp_path):
    Image.new("L", (31, 40)).save(domain.items["file"][0])
    with pytest.raises(InputError, match="31 x 40 pixels is too small for jpeg_2000"): write_dicom(domain, tmp_path/"x", [0], compression="jpeg_2000")
    for c in ("none", "rle", "jpeg_ls"): write_dicom(domain, tmp_path/c, [0], compression=c)


def test_a_folder_with_something_in_it_is_left_alone(domain, tmp_path):
    with pytest.raises(InputError, match="is not empty"): write_dicom(domain, domain.root)
    with pytest.raises(InputError, match="can't be used as a folder"): write_dicom(domain, domain.items["file"][0])


def test_an_unreadable_image_is_named_and_the_table_is_not_written(domain, tmp_path):
    (domain.root/"4.png").write_text("Dear colleague")
    with pytest.raises(InputError, match="4.png can't be read"): write_dicom(domain, tmp_path/"x")
    assert not (tmp_path/"x"/"labels.csv").exists()


def test_real_radiographs(real_data, tmp_path, raise_everywhere):
    d = from_csv(real_data/"chest_kermany"/"labels.csv", body_part="chest")
    rows = list(range(0, len(d), 164))
    labels = write_dicom(d, tmp_path/"dx", rows)
    for row, f in zip(rows, files(labels)):
        assert not list(faults(pydicom.dcmread(f))) and abs(read_image(f) - read_image(d.items["file"][row])).max() < 1/8190 + 1e-6
    assert from_dicom(labels.parent, labels).labels.tolist() == d.labels[rows].tolist()
