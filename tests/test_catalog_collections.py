"Known collections, on small folders laid out as the real ones are: labels, patients, official splits, wrong layouts."
import hashlib, itertools, json, os, zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

from ttl_nb.data import catalog
from ttl_nb.data.catalog import (CHEXPERT_LABELS, FINDINGS, MURA_PARTS, chestxray14, chexpert, from_csv, from_dicom,
                                 from_folder, medmnist, mura, rsna_pneumonia)
from ttl_nb.data.pixels import read_image
from ttl_nb.errors import InputError


def picture(file, value=0, mode="L"):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), value).save(file)


def dicom(file, frames=None, value=0, **fields):
    "A small DICOM file of one or more grey frames; `fields` set header fields, None leaves one out."
    file.parent.mkdir(parents=True, exist_ok=True)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    ds.PatientName, ds.Modality, ds.Rows, ds.Columns, ds.SamplesPerPixel = "Doe^Jane", "CR", 8, 8, 1
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.PhotometricInterpretation = 7, 0, "MONOCHROME2"
    if frames: ds.NumberOfFrames = frames
    ds.PixelData = bytes([value])*64*(frames or 1)
    for k, v in fields.items():
        if v is not None: setattr(ds, k, v)
    ds.save_as(file, enforce_file_format=True)
    return ds


def one_sentence(e): # What every error must be
    text = str(e.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 700, text


def disjoint(domain):
    "No patient in two splits, and every split holds images."
    by = domain.items.groupby("split")["patient"].agg(set)
    assert not any(a & b for a, b in itertools.combinations(by, 2))
    return set(by.index)


# CheXpert

OBSERVATIONS = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
                "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices")

def chexpert_row(split, patient, n, values, view="Frontal", study=1, release="CheXpert-v1.0-small"):
    "A row of CheXpert's table: `values` by observation, others blank."
    path = f"{release}/{split}/patient{patient:05}/study{study}/view{n}_{view.lower()}.jpg"
    return [path, "Female", "68", view, "AP" if view == "Frontal" else "", *(values.get(o, "") for o in OBSERVATIONS)]


@pytest.fixture
def chex(tmp_path):
    "Twelve training patients, the first with three images, and four in valid; every observation of a sort occurs."
    root, kinds = tmp_path/"CheXpert-v1.0-small", ["1.0", "0.0", "-1.0", ""]
    rows = [chexpert_row("train", p, 1, {o: kinds[(p + i) % 4] for i, o in enumerate(CHEXPERT_LABELS)}) for p in range(1, 13)]
    rows += [chexpert_row("train", 1, 2, {"Edema": "1.0"}, "Lateral"), chexpert_row("train", 1, 1, {"Edema": "0.0"}, study=2)]
    valid = [chexpert_row("valid", 64541 + p, 1, {o: ["1.0", "0.0"][(p + i) % 2] for i, o in enumerate(CHEXPERT_LABELS)}) for p in range(4)]
    for name, table in (("train", rows), ("valid", valid)):
        for r in table: picture(root.parent/r[0])
        pd.DataFrame(table, columns=["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS]).to_csv(root/f"{name}.csv", index=False)
    return root


@pytest.mark.parametrize("policy, uncertain", [("zeros", 0), ("ones", 1), ("ignore", None)])
def test_each_cell_of_chexpert_becomes_what_the_policy_says(chex, policy, uncertain):
    "Checked cell by cell against the raw table; a blank is 0 under every policy."
    raw = pd.concat([pd.read_csv(chex/f"{s}.csv", dtype=str, keep_default_na=False) for s in ("train", "valid")])
    raw = raw[raw["Frontal/Lateral"] == "Frontal"].assign(file=lambda t: t["Path"].str.split("/", n=1).str[1]).set_index("file")
    d = chexpert(chex, uncertain=policy)
    means = {"1.0": 1, "0.0": 0, "": 0, "-1.0": uncertain}
    for name, labels in zip(d.names, d.labels):
        assert [means[raw.loc[name, o]] for o in CHEXPERT_LABELS] == labels.tolist()
    left_out = set(raw.index) - set(d.names)
    assert left_out == {n for n in raw.index if policy == "ignore" and "-1.0" in list(raw.loc[n, list(CHEXPERT_LABELS)])}
    assert bool(left_out) == (policy == "ignore")


def test_blanks_alone_are_never_positive(chex):
    "The fault of the published code: blanks of two labels as positives."
    t = pd.read_csv(chex/"train.csv", dtype=str, keep_default_na=False)
    t.loc[:, list(CHEXPERT_LABELS)] = ""
    t.to_csv(chex/"train.csv", index=False)
    for policy in ("ignore", "zeros", "ones"):
        d = chexpert(chex, uncertain=policy)
        assert len(d) == 17 and not d.labels[d.items["split"] == "train"].any()


def test_chexpert_patients_splits_and_views(chex):
    d = chexpert(chex, uncertain="zeros")
    assert disjoint(d) == {"train", "test"} and (d.items["split"] == "test").sum() == 4
    assert (len(d), d.classes, d.body_part, d.multi_label) == (17, CHEXPERT_LABELS, "chest", True)
    assert (d.patients == "patient00001").sum() == 2 and not any("lateral" in n for n in d.names)
    assert len(chexpert(chex, uncertain="zeros", view="all")) == 18
    with pytest.raises(InputError, match="`view` must be one of frontal"): chexpert(chex, view="front")


def test_one_observation_makes_two_classes(chex):
    d = chexpert(chex, "Edema", uncertain="ones")
    assert d.classes == ("no Edema", "Edema") and not d.multi_label and d.labels.sum() == 8


def test_both_releases_of_chexpert_are_read(chex):
    "The table of one release beside the images of the other."
    for s in ("train", "valid"): (chex/f"{s}.csv").write_text((chex/f"{s}.csv").read_text().replace("CheXpert-v1.0-small/", "CheXpert-v1.0/"))
    assert len(chexpert(chex, uncertain="zeros")) == 17


def test_a_chexpert_patient_on_both_sides_is_refused(chex):
    t = pd.read_csv(chex/"valid.csv", dtype=str, keep_default_na=False)
    t.loc[0, "Path"] = t.loc[0, "Path"].replace("patient64541", "patient00001")
    picture(chex.parent/t.loc[0, "Path"])
    t.to_csv(chex/"valid.csv", index=False)
    with pytest.raises(InputError, match="patient 'patient00001' is in test and train") as e: chexpert(chex, uncertain="zeros")
    one_sentence(e)


@pytest.mark.parametrize("spoil, message", [
    (lambda t: t.assign(Edema="2"), "column `Edema` of .*train.csv holds '2' in rows 1"),
    (lambda t: t.assign(Path="images/1.jpg"), "paths that are not as CheXpert's.*images/1.jpg"),
    (lambda t: t.assign(Path=t.Path.str.replace("/study1/", "/../../../")), "not as CheXpert's"),
    (lambda t: t.drop(columns="Edema"), "no column 'Edema'.*`labels`"),
    (lambda t: t.drop(columns="Frontal/Lateral"), "no column 'Frontal/Lateral'"),
])
def test_a_faulty_table_of_chexpert_is_named(chex, spoil, message):
    spoil(pd.read_csv(chex/"train.csv", dtype=str, keep_default_na=False)).to_csv(chex/"train.csv", index=False)
    with pytest.raises(InputError, match=message) as e: chexpert(chex)
    one_sentence(e)


def test_images_not_yet_unpacked_are_counted_and_can_be_left_out(chex):
    (chex/"train/patient00005/study1/view1_frontal.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 17 images that CheXpert lists are missing .*patient00005.*allow_missing") as e:
        chexpert(chex, uncertain="zeros")
    one_sentence(e)
    assert len(chexpert(chex, uncertain="zeros", allow_missing=True)) == 16


# MURA

@pytest.fixture
def arm(tmp_path):
    "Studies of three parts; one patient with a normal and an abnormal study, one with two parts."
    root = tmp_path/"MURA-v1.1"
    studies = {"train": ["XR_WRIST/patient00001/study1_positive", "XR_WRIST/patient00001/study2_negative", "XR_HAND/patient00001/study1_negative",
                         "XR_ELBOW/patient00002/study1_negative", "XR_HAND/patient00003/study1_positive"],
               "valid": ["XR_WRIST/patient11185/study1_positive", "XR_WRIST/patient11186/study1_negative", "XR_HAND/patient11187/study1_positive"]}
    for split, found in studies.items():
        files = [f"{split}/{s}/image{i}.png" for s in found for i in (1, 2, 3)]
        for f in files: picture(root/f)
        (root/f"{split}_image_paths.csv").write_text("".join(f"MURA-v1.1/{f}\n" for f in files))
        (root/f"{split}_labeled_studies.csv").write_text("".join(f"MURA-v1.1/{split}/{s}/,{int(s.endswith('positive'))}\n" for s in found))
    picture(root/"train/XR_WRIST/patient00001/study1_positive/._image1.png")
    return root


def test_mura_labels_are_those_of_the_studies(arm):
    d = mura(arm)
    said = {line.split(",")[0].split("/", 1)[1]: int(line.split(",")[1]) for s in ("train", "valid")
            for line in (arm/f"{s}_labeled_studies.csv").read_text().split()}
    assert len(d) == 24 and [said[n.rsplit("/", 1)[0] + "/"] for n in d.names] == d.labels.tolist()
    assert disjoint(d) == {"train", "test"} and d.classes == ("normal", "abnormal")


def test_mura_patient_with_several_studies_is_one(arm):
    d = mura(arm)
    mine = d.patients == "patient00001"
    assert mine.sum() == 9 and set(d.labels[mine]) == {0, 1}


@pytest.mark.parametrize("parts, n, name, body", [("wrist", 12, "mura-wrist", "wrist"), (["hand", "elbow"], 12, "mura-hand-elbow", "arm"), (MURA_PARTS, 24, "mura", "arm")])
def test_mura_parts(arm, parts, n, name, body):
    d = mura(arm, parts)
    assert (len(d), d.name, d.body_part) == (n, name, body)


def test_mura_faults(arm):
    with pytest.raises(InputError, match="`parts` must be one of elbow"): mura(arm, ["wrist", "knee"])
    with pytest.raises(InputError, match="one class only"): mura(arm, "elbow")
    with pytest.raises(InputError, match="'mura-finger' is empty"): mura(arm, "finger")
    (arm/"valid_image_paths.csv").write_text("MURA-v1.1/valid/wrist1.png\n")
    with pytest.raises(InputError, match="valid_image_paths.csv is not a list of paths as MURA's.*wrist1.png") as e: mura(arm)
    one_sentence(e)
    (arm/"valid_image_paths.csv").write_text("MURA-v1.1/valid/XR_HAND/patient00001/study1_positive/image1.png\n")
    picture(arm/"valid/XR_HAND/patient00001/study1_positive/image1.png")
    with pytest.raises(InputError, match="patient 'patient00001' is in test and train"): mura(arm)


# ChestX-ray14

HEAD = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient {},View Position,OriginalImage[Width,Height],"
        "OriginalImagePixelSpacing[x,y]")

@pytest.fixture(params=["2017", "2020", "one folder"])
def nih(tmp_path, request):
    "Sixty patients, two images each; three releases: twelve folders, a table without closing comma, one folder of images."
    root, comma, rows, names = tmp_path/"CXR8", "," if request.param != "2020" else "", [], []
    for p in range(60):
        for k in (0, 1):
            found = ["Pneumonia"] if p % 10 == 0 else [FINDINGS[p % 14], FINDINGS[(p + 3) % 14]] if k else ["No Finding"]
            names.append(name := f"{p+1:08}_{k:03}.png")
            rows.append(f"{name},{'|'.join(found)},{k},{p+1},58,M,{'PA' if k else 'AP'},2682,2749,0.143,0.143{comma}")
            picture(root/("images" if request.param == "one folder" else f"images_{p//20+1:03}/images")/name, p)
    head = HEAD.format("Sex" if request.param == "2020" else "Gender") + comma
    (root/f"Data_Entry_2017{'_v2020' if request.param == '2020' else ''}.csv").write_text("\n".join([head, *rows]))
    (root/"train_val_list.txt").write_text("\n".join(names[:80]) + "\n")
    (root/"test_list.txt").write_text("\n".join(names[80:]))
    (root/"BBox_List_2017.csv").write_text("")
    return root


def test_nih_target_is_balanced_in_each_split_of_the_official_lists(nih):
    d = chestxray14(nih, "Pneumonia")
    table = {r.split(",")[0]: r.split(",")[1] for r in next(nih.glob("Data_Entry*")).read_text().split("\n")[1:]}
    test = set((nih/"test_list.txt").read_text().split())
    assert d.classes == ("no Pneumonia", "Pneumonia") and d.name == "chestxray14-pneumonia"
    for name, label, split in zip(d.names, d.labels, d.items["split"]):
        assert label == ("Pneumonia" in table[name.rsplit("/")[-1]].split("|")) and (split == "test") == (name.rsplit("/")[-1] in test)
    ill = {n for n, found in table.items() if "Pneumonia" in found.split("|")}
    assert {k: list(v) for k, v in d.counts()["images"].groupby("split")} == {"train": [len(ill - test)]*2, "test": [len(ill & test)]*2}
    assert disjoint(d) == {"train", "test"}


def test_negatives_are_fixed_and_nested(nih):
    one, three, every = (chestxray14(nih, "Hernia", negatives=n) for n in (1, 3, None))
    assert set(one.names) < set(three.names) < set(every.names) and len(every) == 120
    assert one.hash == chestxray14(nih, "Hernia").hash


def test_a_source_without_the_targets_patients(nih):
    target = chestxray14(nih, "Pneumonia")
    source = chestxray14(nih, without=target)
    assert source.classes == tuple(c for c in FINDINGS if c != "Pneumonia") and source.multi_label
    assert not set(source.patients) & set(target.patients)
    everyone = set(chestxray14(nih, labels=["Mass", "Edema"]).patients)
    assert set(source.patients) | set(target.patients) == everyone and len(everyone) == 60
    assert disjoint(source) == {"train", "test"}


def test_nih_labels_of_a_source_are_those_of_the_table(nih):
    d = chestxray14(nih, labels=["Mass", "Hernia", "Pneumonia"])
    table = {r.split(",")[0]: r.split(",")[1].split("|") for r in next(nih.glob("Data_Entry*")).read_text().split("\n")[1:]}
    assert [[float(c in table[n.rsplit("/")[-1]]) for c in d.classes] for n in d.names] == d.labels.tolist()


def test_nih_views(nih):
    assert all(n.endswith("_001.png") for n in chestxray14(nih, labels=["Mass", "Edema"], view="PA").names)
    with pytest.raises(InputError, match="`view` must be one of PA"): chestxray14(nih, "Mass", view="lateral")


def test_nih_faults(nih):
    test = (nih/"test_list.txt").read_text().split()
    (nih/"test_list.txt").write_text("\n".join(test[1:]))
    with pytest.raises(InputError, match=rf"1 images \({test[0]}\) are in neither .*train_val_list.txt nor test_list.txt") as e: chestxray14(nih, "Mass")
    one_sentence(e)
    (nih/"test_list.txt").write_text("\n".join([*test, "00000001_000.png"]))
    with pytest.raises(InputError, match="00000001_000.png.* or in both"): chestxray14(nih, "Mass")
    train = (nih/"train_val_list.txt").read_text().split()
    (nih/"train_val_list.txt").write_text("\n".join([*train, test[0]])); (nih/"test_list.txt").write_text("\n".join(test[1:]))
    with pytest.raises(InputError, match="patient '41' is in test and train") as e: chestxray14(nih, "Mass", negatives=None)
    one_sentence(e)


def test_missing_nih_images(nih):
    next(nih.rglob("00000007_000.png")).unlink()
    with pytest.raises(InputError, match="1 of 120 images that ChestX-ray14 lists are missing .*00000007_000.png"): chestxray14(nih, "Mass")
    assert len(chestxray14(nih, "Mass", negatives=None, allow_missing=True)) == 119
    for f in nih.rglob("*.png"): f.unlink()
    with pytest.raises(InputError, match="120 of 120 images .*another folder"): chestxray14(nih, "Mass", allow_missing=True)


# RSNA

@pytest.fixture
def rsna(tmp_path):
    "Thirty DICOM files of fifteen patients, a third with pneumonia, in one to three boxes."
    root, boxes, classes, mapping = tmp_path/"rsna", [], [], []
    for i in range(30):
        name, kind = f"{i:08x}-af0e-4b1c-9f05-{i:012x}", ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")[i % 3]
        dicom(root/f"stage_2_train_images/{name}.dcm", value=i, PatientID=name)
        boxes += [f"{name},264.0,152.0,{n}.0,379.0,1" for n in range(1 + i//3 % 3)] if i % 3 == 0 else [f"{name},,,,,0"]
        classes += [f"{name},{kind}"]*(1 + i//3 % 3 if i % 3 == 0 else 1)
        mapping.append({"subset_img_id": name, "img_id": f"{i//2+1:08}_{i:03}.png", "orig_labels": ["Pneumonia"]})
    (root/"stage_2_train_labels.csv").write_text("\n".join(["patientId,x,y,width,height,Target", *boxes]))
    (root/"stage_2_detailed_class_info.csv").write_text("\n".join(["patientId,class", *classes]))
    (root/"mapping.json").write_text(json.dumps(mapping))
    return root


def test_rsna_boxes_become_one_row_a_file(rsna):
    d = rsna_pneumonia(rsna)
    assert (len(d), d.labels.sum(), d.classes) == (30, 10, ("no pneumonia", "pneumonia"))
    assert not (d.items["file"].duplicated()).any() and not d.has_test_set and len(set(d.patients)) == 30
    assert read_image(d.items["file"][7])[0, 0] == pytest.approx(7/255)
    three = rsna_pneumonia(rsna, "class")
    assert dict(three.items["label"].value_counts()) == {"Lung Opacity": 10, "No Lung Opacity / Not Normal": 10, "Normal": 10}
    assert (three.labels == 2).tolist() == (d.labels == 1).tolist()


def test_rsna_true_patients_come_from_the_mapping(rsna):
    d = rsna_pneumonia(rsna, mapping=rsna/"mapping.json")
    assert len(set(d.patients)) == 15 and d.patients[0] == d.patients[1] == "1"
    found = json.loads((rsna/"mapping.json").read_text())
    (rsna/"mapping.json").write_text(json.dumps(found[1:]))
    with pytest.raises(InputError, match="lacks 1 of 30 images") as e: rsna_pneumonia(rsna, mapping=rsna/"mapping.json")
    one_sentence(e)
    for bad in ("[1]", "{", '{"a": 1}', '[{"img_id": "x", "subset_img_id": "y"}]'):
        (rsna/"mapping.json").write_text(bad)
        with pytest.raises(InputError, match="is not the list of RSNA images"): rsna_pneumonia(rsna, mapping=rsna/"mapping.json")


def test_rsna_faults(rsna):
    text = (rsna/"stage_2_detailed_class_info.csv").read_text()
    (rsna/"stage_2_detailed_class_info.csv").write_text("\n".join(text.split("\n")[:-1]))
    with pytest.raises(InputError, match="list different images"): rsna_pneumonia(rsna)
    (rsna/"stage_2_detailed_class_info.csv").write_text(text + "\n" + text.split("\n")[-1].replace("Normal", "Lung Opacity"))
    with pytest.raises(InputError, match="two values of `class`") as e: rsna_pneumonia(rsna)
    one_sentence(e)
    (rsna/"stage_2_detailed_class_info.csv").write_text(text)
    (rsna/"stage_2_train_labels.csv").write_text((rsna/"stage_2_train_labels.csv").read_text().replace("0000001d-", "../../x"))
    with pytest.raises(InputError, match="list different images"): rsna_pneumonia(rsna)
    (rsna/"stage_2_detailed_class_info.csv").write_text(text.replace("0000001d-", "../../x"))
    with pytest.raises(InputError, match="lead out of the image folder"): rsna_pneumonia(rsna)


# MedMNIST

def archive(file, shape=(28, 28), n=(10, 4, 6), k=1, classes=2, **changed):
    "An archive in MedMNIST's form, with random pixels and labels in turn."
    rng, arrays = np.random.default_rng(0), {}
    for s, m in zip(("train", "val", "test"), n):
        arrays[f"{s}_images"] = rng.integers(0, 256, (m, *shape), np.uint8)
        arrays[f"{s}_labels"] = np.arange(m*k).reshape(m, k) % classes if k == 1 else (np.arange(m)[:, None] + np.arange(k)) % 2
    np.savez_compressed(file, **{**arrays, **changed})
    return arrays


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (64, 64)])
def test_medmnist_pixels_labels_and_splits_come_out_as_they_went_in(tmp_path, shape):
    arrays = archive(tmp_path/"pneumoniamnist_64.npz", shape)
    d = medmnist(tmp_path/"pneumoniamnist_64.npz", patient="none", folder=tmp_path/"out")
    assert list(d.items["split"]) == ["train"]*10 + ["valid"]*4 + ["test"]*6 and d.classes == ("normal", "pneumonia")
    assert d.labels.tolist() == np.concatenate([arrays[f"{s}_labels"][:, 0] for s in ("train", "val", "test")]).tolist()
    images = np.concatenate([arrays[f"{s}_images"] for s in ("train", "val", "test")])
    for f, x in zip(d.items["file"], images): assert (np.asarray(Image.open(f)) == x).all()
    assert disjoint(d) == {"train", "valid", "test"}


def test_medmnist_of_several_labels(tmp_path):
    arrays = archive(tmp_path/"chestmnist.npz", k=14)
    d = medmnist(tmp_path/"chestmnist.npz", patient="none", folder=tmp_path/"out")
    assert d.multi_label and d.classes[6] == "pneumonia" and d.labels[:10].tolist() == arrays["train_labels"].tolist()


def test_medmnist_unpacks_once_and_by_content(tmp_path, monkeypatch):
    archive(tmp_path/"x.npz")
    told = []
    read = lambda: medmnist(tmp_path, patient="none", folder=tmp_path/"out", progress=lambda *a: told.append(a))
    first = read()
    assert told[-1] == (20, 20) and len(list((tmp_path/"out").iterdir())) == 1
    monkeypatch.setattr(catalog, "_pictures", lambda f: pytest.fail("unpacked again"))
    assert read().hash == first.hash
    monkeypatch.undo()
    archive(tmp_path/"x.npz", n=(12, 4, 6))
    assert len(read()) == 22 and len(list((tmp_path/"out").iterdir())) == 2


def test_medmnist_default_folder_is_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path/"cache"))
    archive(tmp_path/"x.npz")
    assert str(tmp_path/"cache"/"medmnist") in medmnist(tmp_path/"x.npz", patient="none").items["file"][0]


def test_medmnist_broken_off_leaves_nothing(tmp_path):
    archive(tmp_path/"x.npz")
    def stop(done, n):
        assert not [f for f in (tmp_path/"out").iterdir() if not f.name.endswith(".part")]
        if done == 7: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): medmnist(tmp_path/"x.npz", patient="none", folder=tmp_path/"out", progress=stop)
    assert not list((tmp_path/"out").iterdir())


def test_medmnist_unpacked_by_two_at_once(tmp_path):
    "The second starts and ends while the first is at work."
    archive(tmp_path/"x.npz")
    inner = []
    def meanwhile(done, n):
        if done == 5: inner.append(medmnist(tmp_path/"x.npz", patient="none", folder=tmp_path/"out"))
    outer = medmnist(tmp_path/"x.npz", patient="none", folder=tmp_path/"out", progress=meanwhile)
    assert outer.hash == inner[0].hash and len(list((tmp_path/"out").iterdir())) == 1


def cut(file):
    "Shorten an array inside the archive."
    import io
    with zipfile.ZipFile(file) as z: parts = {n: z.read(n) for n in z.namelist()}
    parts["test_images.npy"] = parts["test_images.npy"][:-100]
    with zipfile.ZipFile(file, "w") as z:
        for n, b in parts.items(): z.writestr(n, b)


@pytest.mark.parametrize("make, message", [
    (lambda f: archive(f, (28, 28, 28)), "holds volumes"),
    (lambda f: archive(f, train_images=np.zeros((10, 28, 28), np.float32)), "`train_images` of .* holds not images: float32"),
    (lambda f: archive(f, train_images=np.array([{}]*10, object)), "holds not images: object|not images"),
    (lambda f: archive(f, train_labels=np.array([{}]*10, object)), "can't be read as a MedMNIST archive"),
    (lambda f: np.savez(f, images=np.zeros(3)), "can't be read as a MedMNIST archive.*train_labels"),
    (lambda f: f.write_text("Dear colleague"), "can't be read as a MedMNIST archive"),
    (lambda f: f.write_bytes(b""), "can't be read as a MedMNIST archive"),
    (lambda f: (archive(f), cut(f)), "cut off in image 5 of `test_images`"),
    (lambda f: archive(f, classes=3), "number 3 classes, and `classes` names 2"),
])
def test_archives_that_cannot_be_read_are_named(tmp_path, make, message):
    make(tmp_path/"pneumoniamnist.npz")
    with pytest.raises(InputError, match=message) as e: medmnist(tmp_path/"pneumoniamnist.npz", patient="none", folder=tmp_path/"out")
    one_sentence(e)
    assert not (tmp_path/"out").exists() or not [f for f in (tmp_path/"out").iterdir() if f.name.endswith(".part")]


@pytest.mark.parametrize("n", [9, 11])
def test_medmnist_with_other_numbers_of_images_and_labels(tmp_path, n):
    archive(tmp_path/"x.npz", train_labels=np.arange(n)[:, None] % 2)
    with pytest.raises(InputError, match=f"has 10 images and {n} labels in train") as e: medmnist(tmp_path/"x.npz", patient="none", folder=tmp_path/"out")
    one_sentence(e)


def test_medmnist_asks_for_patients(tmp_path):
    archive(tmp_path/"x.npz")
    with pytest.raises(InputError, match='says nothing of patients.*patient="none"') as e: medmnist(tmp_path/"x.npz")
    one_sentence(e)
    archive(tmp_path/"y.npz")
    with pytest.raises(InputError, match=r"holds 2 archives \(x.npz, y.npz\)"): medmnist(tmp_path, patient="none")


# A folder of DICOM files

NAMES = ["a/IM0001", "a/IM0002.dcm", "b/scan.dicom", "b/film.IMA", "1.2.840.7", "c/x.dcm"]

@pytest.fixture
def hospital(tmp_path):
    "Six files under all sorts of names, of three patients, among things that are no images."
    root = tmp_path/"export"
    for i, f in enumerate(NAMES):
        dicom(root/f, value=i, PatientID=f"4711-{i//2}", AccessionNumber=f"ACC{i//2}", SOPInstanceUID=f"1.2.3.{i}", PatientBirthDate="19630517")
    dicom(root/"DICOMDIR", PatientID="4711-0", AccessionNumber="ACC0")
    (root/"README").write_text("The images of March"); (root/"._IM0001").write_bytes(b"\0\5\x16\7")
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    report.SOPClassUID, report.SOPInstanceUID, report.AccessionNumber = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3.99", "ACC1"
    report.save_as(root/"b/report.dcm", enforce_file_format=True)
    pd.DataFrame({"AccessionNumber": [f"ACC{i}" for i in range(3)], "label": ["ill", "well", "ill"]}).to_csv(tmp_path/"exams.csv", index=False)
    pd.DataFrame({"SOPInstanceUID": [f"1.2.3.{i}" for i in range(6)], "label": ["ill", "well"]*3}).to_csv(tmp_path/"images.csv", index=False)
    pd.DataFrame({"file": NAMES, "label": ["ill", "ill", "well", "well", "ill", "ill"], "who": list("aabbcc")}).to_csv(tmp_path/"files.csv", index=False)
    return root


def test_files_are_found_whatever_their_names_are(hospital):
    d = from_dicom(hospital, hospital.parent/"exams.csv", key="AccessionNumber")
    assert sorted(d.names) == sorted(NAMES) and d.name == "exams"
    labels = {f: ["ill", "well", "ill"][i//2] for i, f in enumerate(NAMES)}
    assert dict(zip(d.names, d.items["label"])) == labels


def test_the_ways_to_join_agree(hospital, tmp_path):
    by = {k: from_dicom(hospital, tmp_path/f, key=k) for k, f in (("AccessionNumber", "exams.csv"), ("file", "files.csv"))}
    table = pd.read_csv(tmp_path/"exams.csv").assign(PatientID=[f"4711-{i}" for i in range(3)])
    table.rename(columns={"AccessionNumber": "exam"}).to_csv(tmp_path/"renamed.csv", index=False)
    by["PatientID"] = from_dicom(hospital, tmp_path/"renamed.csv", key="PatientID")
    by["renamed"] = from_dicom(hospital, tmp_path/"renamed.csv", key="exam", by="AccessionNumber")
    rows = {k: sorted(zip(d.names, d.labels, d.patients)) for k, d in by.items()}
    assert all(r == rows["file"] for r in rows.values())
    d = from_dicom(hospital, tmp_path/"images.csv", key="SOPInstanceUID")
    assert dict(zip(d.names, d.items["label"])) == {f: ["ill", "well"][i % 2] for i, f in enumerate(NAMES)}


def test_file_names_without_folder_or_suffix(hospital, tmp_path):
    t = pd.read_csv(tmp_path/"files.csv").assign(file=["IM0001", "IM0002", "scan", "film.IMA", "1.2.840.7", "x"])
    t.to_csv(tmp_path/"short.csv", index=False)
    assert list(from_dicom(hospital, tmp_path/"short.csv").names) == NAMES
    dicom(hospital/"d/IM0002.dcm", PatientID="x")
    with pytest.raises(InputError, match=r"1 of 6 names in `file` of .* or several \(IM0002\)") as e: from_dicom(hospital, tmp_path/"short.csv")
    one_sentence(e)
    t.assign(file=["IM0001", "nowhere", *t.file[2:]]).to_csv(tmp_path/"short.csv", index=False)
    with pytest.raises(InputError, match="nowhere"): from_dicom(hospital, tmp_path/"short.csv")


def test_patients_are_hashed_and_nothing_else_of_the_header_is_kept(hospital, tmp_path):
    d, salted = (from_dicom(hospital, tmp_path/"exams.csv", key="AccessionNumber", salt=s) for s in ("", "salt"))
    assert set(d.patients) == {hashlib.sha256(f"4711-{i}".encode()).hexdigest()[:16] for i in range(3)}
    assert not set(d.patients) & set(salted.patients) and len(set(salted.patients)) == 3
    seen = d.items.to_csv() + repr(d) + str(vars(d))
    assert not [s for s in ("4711", "Doe", "1963", "ACC", "1.2.3.") if s in seen.replace(str(hospital), "")]
    column = from_dicom(hospital, tmp_path/"files.csv", patient="who")
    assert set(column.patients) == {hashlib.sha256(w.encode()).hexdigest()[:16] for w in "abc"}
    assert len(set(from_dicom(hospital, tmp_path/"files.csv", patient="none").patients)) == 6


def test_errors_name_rows_and_not_identifiers(hospital, tmp_path):
    t = pd.read_csv(tmp_path/"exams.csv")
    for bad, message in ((t.assign(AccessionNumber=["ACC0", "ACC0", "ACC2"]), "more than once in rows 1, 2"),
                         (t.assign(AccessionNumber=["ACC0", "ACC1", "ACC9"]), r"1 of 3 rows of .* fit no file \(row 3\)"),
                         (t.assign(AccessionNumber=["ACC0", "ACC1", " "]), "is blank or there more than once in row 3")):
        bad.to_csv(tmp_path/"bad.csv", index=False)
        with pytest.raises(InputError, match=message) as e: from_dicom(hospital, tmp_path/"bad.csv", key="AccessionNumber")
        one_sentence(e)
        assert "ACC" not in str(e.value) and "4711" not in str(e.value)


def test_a_patient_on_both_sides_is_refused(hospital, tmp_path):
    pd.read_csv(tmp_path/"files.csv").assign(split=["train", "test"]*3).to_csv(tmp_path/"bad.csv", index=False)
    with pytest.raises(InputError, match="is in test and train") as e: from_dicom(hospital, tmp_path/"bad.csv")
    assert "4711" not in str(e.value)


@pytest.mark.parametrize("blank", ["", " ", None])
def test_files_without_patient_are_an_error_with_the_way_out(hospital, tmp_path, blank):
    dicom(hospital/NAMES[3], AccessionNumber="ACC1", PatientID=blank)
    with pytest.raises(InputError, match=r"1 of 6 files have no PatientID in their header \(b/film.IMA\).*`patient`.*patient=\"none\"") as e:
        from_dicom(hospital, tmp_path/"files.csv")
    one_sentence(e)
    assert len(from_dicom(hospital, tmp_path/"files.csv", patient="who")) == 6


def test_files_of_several_frames(hospital, tmp_path):
    dicom(hospital/NAMES[5], frames=3, PatientID="4711-2", AccessionNumber="ACC2")
    with pytest.raises(InputError, match=r"1 files hold several frames \(3 in .*x.dcm\).*film.dcm#3") as e:
        from_dicom(hospital, tmp_path/"exams.csv", key="AccessionNumber")
    one_sentence(e)
    t = pd.read_csv(tmp_path/"files.csv").assign(file=[*NAMES[:5], "c/x.dcm#2"])
    t.to_csv(tmp_path/"frames.csv", index=False)
    d = from_dicom(hospital, tmp_path/"frames.csv")
    assert d.names[5] == "c/x.dcm#2" and d.patients[5] == d.patients[4]


def test_other_faults_of_a_dicom_folder(hospital, tmp_path):
    files = pd.read_csv(tmp_path/"files.csv")
    picture(hospital/"photo.png")
    for name, message in (("photo.png", "photo.png is not a DICOM file"), ("b/report.dcm", "hold no image"), ("../files.csv", "lead out of the image folder")):
        files.assign(file=[name, *NAMES[1:]]).to_csv(tmp_path/"bad.csv", index=False)
        with pytest.raises(InputError, match=message) as e: from_dicom(hospital, tmp_path/"bad.csv")
        one_sentence(e)
    files[:0].to_csv(tmp_path/"none.csv", index=False)
    with pytest.raises(InputError, match="none.csv is empty"): from_dicom(hospital, tmp_path/"none.csv")
    whole = (hospital/NAMES[1]).read_bytes()
    (hospital/NAMES[1]).write_bytes(whole[:150])
    with pytest.raises(InputError, match="IM0002.dcm|hold no image") as e: from_dicom(hospital, tmp_path/"files.csv")
    one_sentence(e)


def test_several_labels_beside_dicom(hospital, tmp_path):
    t = pd.read_csv(tmp_path/"exams.csv").assign(mass=[0, 1, 1], hernia=[1, 0, 1])
    t.to_csv(tmp_path/"multi.csv", index=False)
    d = from_dicom(hospital, tmp_path/"multi.csv", key="AccessionNumber", label=["mass", "hernia"])
    assert d.multi_label and d.labels[list(d.names).index("b/scan.dicom")].tolist() == [1, 0]


# What they have in common

WRONG = {"CheXpert": (chexpert, "train.csv, valid.csv, train/, valid/"), "MURA": (mura, "train_image_paths.csv, valid_image_paths.csv, train/, valid/"),
         "ChestX-ray14": (lambda r: chestxray14(r, "Mass"), "Data_Entry_2017\\*.csv, train_val_list.txt, test_list.txt, images\\*/"),
         "the RSNA Pneumonia Detection Challenge": (rsna_pneumonia, "stage_2_train_labels.csv, stage_2_detailed_class_info.csv, stage_2_train_images/"),
         "a MedMNIST folder": (lambda r: medmnist(r, "none"), "\\*.npz")}


@pytest.mark.parametrize("collection", WRONG)
def test_a_wrong_root_says_what_was_looked_for_and_what_was_found(tmp_path, collection):
    read, wanted = WRONG[collection]
    with pytest.raises(InputError, match=f"there is no folder .*none: give the folder of {collection} that holds {wanted}") as e: read(tmp_path/"none")
    one_sentence(e)
    with pytest.raises(InputError, match="there is nothing"): read(tmp_path)
    for f in ("holiday.jpg", "train.zip", ".DS_Store"): (tmp_path/f).touch()
    (tmp_path/"pictures").mkdir()
    with pytest.raises(InputError, match=f"is not laid out as {collection} is: looked for {wanted}; not found .*; there is holiday.jpg, pictures/, train.zip; give") as e:
        read(tmp_path)
    one_sentence(e)


@pytest.mark.parametrize("maker, read", [("chex", chexpert), ("arm", mura), ("rsna", rsna_pneumonia)])
def test_the_folder_above_is_told_which_one_is_meant(request, maker, read):
    root = request.getfixturevalue(maker)
    with pytest.raises(InputError, match=f"all are in {root}: give that folder"): read(root.parent)


def test_a_folder_without_dicom_files(tmp_path):
    picture(tmp_path/"pictures/a.png")
    (tmp_path/"labels.csv").write_text("AccessionNumber,label\n1,a\n2,b\n")
    with pytest.raises(InputError, match="not laid out as a folder of DICOM files is: looked for DICOM files at any depth.*there is labels.csv, pictures/; .*from_csv") as e:
        from_dicom(tmp_path, tmp_path/"labels.csv", key="AccessionNumber")
    one_sentence(e)


def test_the_hash_of_nih_is_that_of_its_content(nih): same_elsewhere(nih, lambda r: chestxray14(r, "Mass"))

@pytest.mark.parametrize("maker, read", [("chex", lambda r: chexpert(r, uncertain="zeros")), ("arm", mura), ("rsna", rsna_pneumonia)])
def test_the_hash_is_that_of_the_content_wherever_the_folder_lies(request, maker, read): same_elsewhere(request.getfixturevalue(maker), read)

def same_elsewhere(root, read):
    before = read(root)
    assert before.hash
    after = read(root.rename(root.parent/"elsewhere"))
    assert after.hash == before.hash and list(after.names) == list(before.names)


def test_class_folders_of_dicom_files_without_suffix(hospital, tmp_path):
    "from_folder finds them, and leaves a README and a DICOMDIR alone."
    for c in ("ill", "well"):
        for i in range(3): dicom(tmp_path/f"classes/{c}/IM{i}", PatientID=f"{i}")
        (tmp_path/f"classes/{c}/README").write_text("notes"); (tmp_path/f"classes/{c}/DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert len(from_folder(tmp_path/"classes", "none")) == 6


def test_collections_decode_no_pixel(chex, monkeypatch):
    from ttl_nb.data import pixels
    monkeypatch.setattr(pixels, "_decode", lambda f: pytest.fail("decoded"))
    monkeypatch.setattr(Image, "open", lambda *a: pytest.fail("opened"))
    assert len(chexpert(chex, uncertain="zeros").hash) == 16
