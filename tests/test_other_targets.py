"""Several classes, several labels an image, no test set: from a table on the command line to the report."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ttl_nb.cli import app


@pytest.fixture(scope="module")
def images(tmp_path_factory)->Path:
    "Ninety images of forty-five patients, with a stripe pattern for each of three findings."
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    a, b = rng.integers(0, 2, 90), rng.integers(0, 2, 90)
    for i in range(90):
        img = rng.normal(100, 25, (32, 32)); img[::2] += 25*a[i]; img[:,::2] += 25*b[i]
        Image.fromarray(img.clip(0, 255).astype(np.uint8)).save(folder/f"{i}.png")
    t = pd.DataFrame(dict(file=[f"{i}.png" for i in range(90)], patient_id=[f"p{i//2}" for i in range(90)], rows=a, columns=b,
                          label=np.array(["plain", "one", "both"])[a + b], split=["train"]*60 + ["test"]*30))
    t.to_csv(folder/"labels.csv", index=False); t.drop(columns="split").to_csv(folder/"unsplit.csv", index=False)
    return folder


def run_study(table:Path, folder:Path, *more)->tuple[list,str]:
    with pytest.raises(SystemExit) as end:
        app([str(w) for w in ("study", "--target", table, "--source", "none", "--n-train", 24, "--seeds", 2, "--epochs", 10, "--image-size", 32,
                              "--freezing", "head", "--freezing", "full", "--engine", "inline", "--folder", folder, "--json", folder/"rows.json", *more)])
    assert not end.value.code
    return json.loads((folder/"rows.json").read_text()), (folder/"report.html").read_text()


def test_three_classes(images, tmp_path):
    found, page = run_study(images/"labels.csv", tmp_path/"study")
    assert len(found) == 4 and all(.4 < r["auc"] <= 1 and r["auc_low"] <= r["auc"] <= r["auc_high"] for r in found)
    assert all(name in page for name in ("plain", "one", "both"))


def test_several_labels_an_image(images, tmp_path):
    found, page = run_study(images/"labels.csv", tmp_path/"study", "--label", "rows", "--label", "columns", "--class-weights", "balanced",
                            "--balance", "prevalence")
    assert len(found) == 4 and max(r["auc"] for r in found if r["freezing"] == "full") > .6 and "columns" in page


def test_no_test_set(images, tmp_path):
    "Forty-five patients are too few to keep some: five patient-grouped folds, each image scored once by a network that never saw its patient."
    found, page = run_study(images/"unsplit.csv", tmp_path/"study")
    from ttl_nb.study.store import Store
    a = Store(tmp_path/"study").arrays(found[0]["recipe_id"])
    assert sorted(a["rows"]) == list(range(90)) and set(a["folds"]) == set(range(5)) and "fold" in page
