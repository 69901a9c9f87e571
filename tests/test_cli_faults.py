"""Bad input to the command line: one sentence that names the culprit, exit code 2, no traceback."""
import os, pickle, subprocess, sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ttl_nb.cli import app


@pytest.fixture(scope="module")
def data(tmp_path_factory)->Path:
    "Sixty readable images of sixty patients with a table, and as many others in a folder of their own."
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder/"other").mkdir()
    for to in (folder, folder/"other"):
        for i in range(60): Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(to/f"{i}.png")
        whole(folder).to_csv(to/"labels.csv", index=False)
    (folder/"text.png").write_text("this is no picture"); (folder/"empty.png").touch()
    return folder


def whole(folder:Path)->pd.DataFrame:
    return pd.DataFrame(dict(file=[f"{i}.png" for i in range(60)], label=np.tile(["no", "yes"], 30),
                             patient_id=[f"p{i}" for i in range(60)], split=["train"]*36 + ["test"]*24))


@pytest.fixture(scope="module")
def source(data)->Path:
    from ttl_nb.data.catalog import from_csv
    from ttl_nb.train.fit import pretrain
    pretrain(from_csv(data/"other"/"labels.csv"), seed=5, file=data/"other.safetensors", image_size=16, epochs=1, min_steps=2)
    return data/"other.safetensors"


def run(capsys, *words)->tuple[int,str]:
    "Exit code and what stands on standard error of `ttl-nb WORDS`."
    with pytest.raises(SystemExit) as end: app([str(w) for w in words])
    return end.value.code, " ".join(capsys.readouterr().err.split())


def refused(capsys, *words, says:str):
    code, text = run(capsys, *words)
    assert code == 2 and says in text and "Traceback" not in text, f"exit {code}: {text}"
    assert text.count("ttl-nb:") == 1


def study(table, *more): return ["study", "--target", table, "--n-train", 10, "--seeds", 1, "--image-size", 16, "--freezing", "head",
                                 "--folder", Path(table).parent/"out", *(more or ["--source", "none"])]


TABLES = {
    "missing column": (lambda t: t.drop(columns="label"), "has no column 'label'"),
    "no patients": (lambda t: t.drop(columns="patient_id"), "has no column 'patient_id'"),
    "missing files": (lambda t: t.assign(file=t["file"].str.replace("3", "x")), "x.png"),
    "empty table": (lambda t: t[:0], "is empty: there must be a row for every image"),
    "one class": (lambda t: t.assign(label="yes"), "one class"),
    "duplicate rows": (lambda t: pd.concat([t, t[:2]]), "duplicate rows: 0.png, 1.png"),
    "two labels": (lambda t: pd.concat([t, t[:1].assign(label="yes")]), "0.png"),
    "patient in two splits": (lambda t: t.assign(patient_id=["p1"]*2 + [f"p{i}" for i in range(57)] + ["p1"]), "patient 'p1' is in test and train"),
    "strange split": (lambda t: t.assign(split=["learn"]*36 + ["test"]*24), "'learn'"),
    "blank label": (lambda t: t.assign(label=["", *t["label"][1:]]), "label"),
    "text file named .png": (lambda t: t.assign(file=["text.png", *t["file"][1:]]), "text.png"),
    "0-byte image": (lambda t: t.assign(file=["empty.png", *t["file"][1:]]), "empty.png"),
    "file outside": (lambda t: t.assign(file=["../x.png", *t["file"][1:]]), "lead out of the image folder")}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name, data, capsys):
    spoil, says = TABLES[name]
    spoil(whole(data)).to_csv(data/"bad.csv", index=False)
    refused(capsys, *study(data/"bad.csv"), says=says)


def test_no_table(data, capsys):
    refused(capsys, *study(data/"nowhere.csv"), says="nowhere.csv")
    refused(capsys, "pretrain", data/"nowhere.csv", "--out", data/"x.safetensors", says="nowhere.csv")
    (data/"hollow.csv").touch(); refused(capsys, *study(data/"hollow.csv"), says="hollow.csv is empty")


def test_unknown_label(data):
    "Labels that are not among the classes that were asked for; the command line takes the classes from the table."
    from ttl_nb.data.catalog import from_csv
    from ttl_nb.errors import InputError
    with pytest.raises(InputError, match="unknown label.*yes"): from_csv(data/"labels.csv", classes=["no", "perhaps"])


def test_names(data, source, capsys):
    table = data/"labels.csv"
    refused(capsys, *study(table, "--source", "none", "--freezing", "gradul"), says="did you mean 'gradual'?")
    refused(capsys, *study(table, "--source", "knee"), says="must be NAME=FILES, a ready source such as phantom-chest, or none, got 'knee'")
    refused(capsys, *study(table, "--source", "knee=nowhere-*.safetensors"), says="no file is called 'nowhere-*.safetensors'")
    refused(capsys, *study(table, "--source", "none", "--backbone", "resnet11"), says="`backbone` must be one of")
    refused(capsys, *study(table, "--source", "none", "--engine", "magic"), says="`engine` must be one of inline, processes, ray, got 'magic'")
    refused(capsys, *study(table, "--source", "none", "--max-lr", "fast"), says="`--max-lr` must be a number or find, got 'fast'")


def test_more_images_than_there_are(data, capsys):
    refused(capsys, *study(data/"labels.csv", "--source", "none", "--n-train", 40), says="36")


def test_checkpoints(data, source, capsys):
    table = data/"labels.csv"
    refused(capsys, *study(table, "--source", f"s={source}", "--image-size", 32), says="was trained at 16 pixels, but `image_size` is 32")
    refused(capsys, *study(table, "--source", f"s={source}", "--backbone", "resnet18"), says="holds a resnet10, but `backbone` is 'resnet18'")
    refused(capsys, *study(data/"other"/"labels.csv", "--source", f"s={source}"), says="was trained on 36 of the target's own images")
    (data/"text.safetensors").write_text("weights"); refused(capsys, *study(table, "--source", f"s={data/'text.safetensors'}"), says="is not a safetensors file")


class _Planted:
    def __init__(self, file): self.file = file
    def __reduce__(self): return (Path.touch, (self.file,))


def test_a_pickle_that_would_run_code(data, capsys):
    ran = data/"it-ran"
    (data/"planted.safetensors").write_bytes(pickle.dumps(_Planted(ran)))
    refused(capsys, *study(data/"labels.csv", "--source", f"s={data/'planted.safetensors'}"), says="could run code when it is opened")
    assert not ran.exists()
    pickle.loads((data/"planted.safetensors").read_bytes())
    assert ran.exists(), "the planted pickle is harmless, and this test with it"


def test_folders(data, capsys):
    refused(capsys, "report", data, says="is not a study's folder")
    (data/"file").touch(); refused(capsys, *study(data/"labels.csv", "--source", "none", "--folder", data/"file"), says="cannot be written")
    refused(capsys, "pretrain", data/"labels.csv", "--out", data/"x.pt", says="must end in .safetensors")


def test_unreadable_images_are_listed_and_left_out_when_told_to(data, capsys):
    whole(data).assign(file=["text.png", *whole(data)["file"][1:]]).to_csv(data/"bad.csv", index=False)
    with pytest.raises(SystemExit) as end: app([str(w) for w in study(data/"bad.csv", "--source", "none", "--skip-unreadable", "--engine", "inline")])
    out = capsys.readouterr().out
    assert not end.value.code and "left out" in out and "text.png" in out


def test_no_traceback_from_the_real_command(data):
    r = subprocess.run([sys.executable, "-c", "from ttl_nb.cli import app; app()", *map(str, study(data/"nowhere.csv"))],
                       capture_output=True, text=True, env=dict(os.environ, COLUMNS="200"))
    assert r.returncode == 2 and "Traceback" not in r.stderr and r.stderr.startswith("ttl-nb: there is no table")
