"The real image sets, as their README describes them."
import numpy as np
import pytest

from ttl_nb.data.catalog import from_csv, from_folder
from ttl_nb.errors import InputError
from ttl_nb.data.pixels import load_pixels, read_image
from ttl_nb.data.subset import draw_subset, largest_subset

SETS = {"chest_kermany": (2000, 624, 2), "chest_nih": (662, 338, 2), "knee_oai": (2000, 500, 2),
        "natural_cifar10": (3000, 500, 10)} # training images, test images, classes


@pytest.fixture(scope="module")
def domains(real_data): return {name: from_csv(real_data/name/"labels.csv") for name in SETS}


@pytest.mark.parametrize("name", SETS)
def test_counts_are_those_of_the_readme(domains, name):
    d = domains[name]
    [split] = d.splits(0)
    assert (len(split.train), len(split.test), len(d.classes)) == SETS[name]
    assert d.counts()["images"].sum() == len(d) == sum(SETS[name][:2])


@pytest.mark.parametrize("name", SETS)
def test_no_patient_is_in_two_splits(domains, name):
    d = domains[name]
    [split] = d.splits(0)
    assert not set(d.patients[split.train]) & set(d.patients[split.test])


def test_a_patient_in_two_splits_is_refused_when_the_real_table_is_spoilt(real_data, tmp_path):
    "The check behind the test above can fail."
    text = (real_data/"chest_kermany/labels.csv").read_text()
    good, bad = "IM-0125-0001.jpg,NORMAL,IM-0125,train", "IM-0125-0001.jpg,NORMAL,IM-0127,test"
    assert good in text
    (tmp_path/"labels.csv").write_text(text.replace(good, bad))
    with pytest.raises(InputError, match="patient 'IM-0127' is in test and train"):
        from_csv(tmp_path/"labels.csv", real_data/"chest_kermany")


def test_the_folders_of_a_real_set_tell_the_same_classes_as_its_table(real_data, domains):
    d, table = from_folder(real_data/"chest_kermany", patient="none"), domains["chest_kermany"]
    assert d.classes == table.classes
    assert dict(zip(d.names, d.labels)) == dict(zip(table.names, table.labels))


def test_pixels_of_chest_nih(domains, tmp_path):
    d = domains["chest_nih"]
    x = load_pixels(d, 64, cache=tmp_path)
    assert x.shape == (1000, 64, 64) and x.dtype == np.uint8
    full = read_image(d.items.file[5])
    assert full.shape == (128, 128)
    assert abs(x[5]/255 - full.reshape(64, 2, 64, 2).mean((1, 3))).mean() < .02
    # air is dark: the corners of radiographs are darker than their middle
    assert x[:, :6, :6].mean() < x[:, 16:48, 16:48].mean()
    assert x.std((1, 2)).min() > 5


@pytest.mark.parametrize("name", SETS)
def test_subsets_are_nested_balanced_and_spread_over_patients(domains, name):
    d = domains[name]
    patients = d.items[d.items.split == "train"].groupby("label")["patient"].nunique()
    for seed in range(3):
        largest = draw_subset(d, min(400, largest_subset(d)), seed)
        for n in (50, 100, 200):
            rows = draw_subset(d, n, seed)
            assert (rows == largest[:n]).all() and len(set(rows)) == n
            assert (d.items.split[rows] == "train").all()
            counts = np.bincount(d.labels[rows], minlength=len(d.classes))
            assert counts.max() - counts.min() <= 1
            if n//len(d.classes) < patients.min()/2: assert len(set(d.patients[rows])) > .9*n


def test_more_images_than_there_are(domains):
    message = r"662 training images are No_findings \d+, Pneumonia \d+: the largest balanced"
    with pytest.raises(InputError, match=message):
        draw_subset(domains["chest_nih"], 5000, 0)


def test_copies_that_the_readme_speaks_of_are_found(domains):
    copies = domains["chest_kermany"].copies()
    assert copies["group"].nunique() == 10 and len(copies) == 20
    assert (copies.groupby("group")["split"].nunique() == 1).all()
    assert len(domains["knee_oai"].copies()) == 0
