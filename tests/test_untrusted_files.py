"""Nothing that a stranger sends is run: pickles planted in weights, arrays, tables, caches and a study's folder, modules and settings beside the images. And no table leads out of its folder."""
import io, json, os, pickle, subprocess, sys, zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ttl_nb.cli import app
from ttl_nb.data.catalog import from_csv, from_dicom, medmnist
from ttl_nb.data.pixels import load_pixels
from ttl_nb.errors import InputError
from ttl_nb.study.results import Results
from ttl_nb.study.store import Store

ROOT = Path(__file__).parents[1]


class Planted:
    "Opening this pickle makes a file."
    def __init__(self, file): self.file = str(file)
    def __reduce__(self): return os.mkdir, (self.file,)


@pytest.fixture
def plant(tmp_path):
    "Something to plant; at the end it must not have run, and must be live."
    ran = tmp_path/"it-ran"
    yield Planted(ran)
    assert not ran.exists(), "what was planted has run"
    pickle.loads(pickle.dumps(Planted(ran)))
    assert ran.exists(), "what was planted is harmless, and this test with it"


def object_array(plant): return np.array([plant, 1], dtype=object)

def npy(x):
    np.save(b := io.BytesIO(), x, allow_pickle=True)
    return b.getvalue()


def test_an_archive_of_images(plant, tmp_path):
    for name in ("train_images", "train_labels"):
        arrays = {f"{s}_{k}": np.zeros((3, 8, 8) if k == "images" else (3, 1), np.uint8) for s in ("train", "val", "test") for k in ("images", "labels")}
        np.savez(tmp_path/"breastmnist.npz", **arrays | {name: object_array(plant)})
        with pytest.raises(InputError): medmnist(tmp_path/"breastmnist.npz", "none", folder=tmp_path/"out")


def test_the_cache_of_pixels_and_of_features(plant, tmp_path):
    "A cache that somebody else could write to: what is not an array of numbers is made anew."
    from ttl_nb.train import features
    Image.new("L", (8, 8), 99).save(tmp_path/"a.png")
    x = np.array(load_pixels([tmp_path/"a.png"], 8, cache=tmp_path/"cache"))
    [kept] = (tmp_path/"cache").glob("*.npy")
    for data in (npy(object_array(plant)), pickle.dumps(plant)):
        kept.write_bytes(data)
        assert (load_pixels([tmp_path/"a.png"], 8, cache=tmp_path/"cache") == x).all()
    for f in Path(features.__file__).parents[1].rglob("*.py"): # Nobody may ask for it
        assert "allow_pickle=True" not in f.read_text() and "read_pickle" not in f.read_text() and "weights_only=False" not in f.read_text(), f


@pytest.fixture
def study(tmp_path, monkeypatch):
    from test_report import make_study
    monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path/"cache"))
    make_study(tmp_path/"made", seeds=2, n_train=[10], freezing=["head", "full"])
    return tmp_path/"made"/"study"


def spoil_npz(file, plant):
    names = np.load(file).files
    with zipfile.ZipFile(file, "w") as z:
        for n in names: z.writestr(f"{n}.npy", npy(object_array(plant)))


def spoil_table(file, plant, how):
    import pyarrow as pa, pyarrow.parquet as pq
    table = pq.read_table(file)
    if how == "extension": # What pyarrow would unpickle before 14.0.1 (CVE-2023-47248)
        field = pa.field("patient", pa.binary(), metadata={b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(plant)})
        table = table.set_column(0, field, pa.array([b"x"]*len(table), pa.binary()))
    else: table = table.set_column(0, "patient", pa.array([pickle.dumps(plant)]*len(table)))
    pq.write_table(table, file)


@pytest.mark.parametrize("what", ["runs", "pictures.npz", "thumbnails.npz", "baseline.npz", "cases.parquet extension", "cases.parquet objects", "study.json", "gates.json", "study.sqlite"])
def test_a_study_from_somebody_else(what, study, plant, capsys):
    "Its report is written, or one sentence says what is wrong with it."
    name, _, how = what.partition(" ")
    if what == "runs": spoil_npz(next((study/"runs").glob("*.npz")), plant)
    elif name.endswith(".npz"): spoil_npz(study/name, plant)
    elif name.endswith(".parquet"): spoil_table(study/name, plant, how)
    else: (study/name).write_bytes(pickle.dumps(plant))
    with pytest.raises(SystemExit) as end: app(["report", str(study)])
    code, said = end.value.code or 0, " ".join(capsys.readouterr().err.split())
    assert code in (0, 2) and said.count("ttl-nb:") == (code == 2), said
    if code and how != "extension": assert (name.split(".")[0] in said or "npz" in said) and "give the study's command again" in said or "study.sqlite" in said, said


# Modules and settings beside the images

SHADOWS = ("torch numpy pandas PIL pydicom joblib loky fastai torchvision voila tornado ipykernel ipykernel_launcher json pickle runpy typing zipfile ray sitecustomize usercustomize").split()

def lay_traps(folder, ran):
    "A folder in which every module that might be looked for, and Voila's settings, would leave a mark."
    folder.mkdir(exist_ok=True)
    mark = f"open({str(ran)!r}, 'a').write(__name__ + ' ' + __file__ + chr(10))\n"
    for name in SHADOWS: (folder/f"{name}.py").write_text(mark + "raise ImportError('a trap')\n")
    for name in ("voila.py", "jupyter_config.py", "jupyter_server_config.py", "ipython_config.py", "ipython_kernel_config.py"): (folder/name).write_text(mark.replace("__name__", "'config'"))
    return folder


def command(): # The command as it is installed
    found = Path(sys.executable).parent/"ttl-nb"
    if not found.exists(): pytest.skip("ttl-nb is not installed as a command here")
    return str(found)


def test_what_the_command_starts_does_not_look_beside_the_images(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with pytest.raises(SystemExit): app(["report", str(tmp_path)])
    (lay_traps(tmp_path/"images", tmp_path/"it-ran"))
    for how in (["-c", "import joblib, pickle"], ["-m", "joblib"]): subprocess.run([sys.executable, *how], cwd=tmp_path/"images", capture_output=True)
    assert not (tmp_path/"it-ran").exists()
    subprocess.run([sys.executable, "-c", "import joblib"], cwd=tmp_path/"images", capture_output=True, env={k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"})
    assert (tmp_path/"it-ran").exists(), "the traps are harmless, and this test with them"
    monkeypatch.setenv("PYTHONSAFEPATH", ""); monkeypatch.delenv("PYTHONSAFEPATH")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_modules_beside_the_images_are_not_imported(engine, tmp_path):
    "Somebody unpacks a stranger's images, and works in that folder."
    from test_kill_and_resume import make_table
    table, ran = make_table(tmp_path/"images"), tmp_path/"it-ran"
    lay_traps(tmp_path/"images", ran)
    words = ["study", "--target", "labels.csv", "--source", "none", "--freezing", "head", "--n-train", 10, "--seeds", 2, "--image-size", 16, "--epochs", 1, "--engine", engine, "--workers", 2, "--folder", tmp_path/"study"]
    r = subprocess.run([command(), *map(str, words)], cwd=table.parent, capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS="1", TTL_NB_CACHE=str(tmp_path/"cache")))
    assert not ran.exists(), ran.read_text()
    assert r.returncode == 0, r.stderr[-2000:]


def test_settings_beside_the_images_are_not_read(tmp_path):
    "Voila would run a `voila.py` of the folder that it is started in, and Python a module there."
    from ttl_nb.ui import server
    folder, ran = lay_traps(tmp_path/"images", tmp_path/"it-ran"), tmp_path/"it-ran"
    (tmp_path/"own"/"page").mkdir(parents=True); (tmp_path/"own"/"page"/"playground.ipynb").write_text(json.dumps(server._page()))
    options = server._voila(tmp_path/"own", "127.0.0.1", port := server.free_port(8960), "secret")
    options = [o for o in options if "template=" not in o]
    with server._running(options, tmp_path/"log", cwd=folder, env=server._environment(tmp_path/"own", "")) as process:
        server._wait_for(server._answers("127.0.0.1", port), process, tmp_path/"log", "Voila")
        assert "secret" not in Path(f"/proc/{process.pid}/cmdline").read_text(), "everybody on this machine can read the token"
    assert not ran.exists(), ran.read_text()


# Tables that lead out of their folder

@pytest.fixture
def images(tmp_path):
    (folder := tmp_path/"images").mkdir(); (tmp_path/"private").mkdir()
    for i in range(20): Image.new("L", (8, 8), i).save(folder/f"{i}.png")
    Image.new("L", (8, 8), 200).save(tmp_path/"private"/"secret.png")
    return folder


def table(folder, first):
    rows = dict(file=[first, *[f"{i}.png" for i in range(1, 20)]], label=["a", "b"]*10, patient_id=[f"p{i//2}" for i in range(20)], split=["train"]*12 + ["test"]*8)
    pd.DataFrame(rows).to_csv(folder/"labels.csv", index=False)
    return folder/"labels.csv"


@pytest.mark.parametrize("name", ["../private/secret.png", "x/../../private/secret.png", "{tmp}/private/secret.png", "link.png", "link/secret.png", "there.png", "/etc/passwd", "..//private//secret.png"])
def test_a_table_does_not_lead_out_of_its_folder(name, images, tmp_path):
    (images/"link.png").symlink_to(tmp_path/"private"/"secret.png"); (images/"link").symlink_to(tmp_path/"private"); (images/"there.png").symlink_to("link.png")
    file = table(images, name.format(tmp=tmp_path))
    with pytest.raises(InputError, match="lead out of the image folder"): from_csv(file)
    if "etc" not in name and not name.startswith("x/"):
        assert load_pixels(from_csv(file, allow_outside=True), 8, cache=tmp_path/"cache")[0].max() == 200


def test_links_that_stay_inside_are_followed(images, tmp_path):
    "Also where the image folder is a link itself."
    (images/"same.png").symlink_to("0.png"); (tmp_path/"home").symlink_to(images)
    assert len(from_csv(table(images, "same.png"))) == len(from_csv(tmp_path/"home"/"labels.csv")) == 20


def test_dicom_files_are_held_in_their_folder_too(images, tmp_path):
    from test_privacy import write_dicom
    for i in range(20): write_dicom(images/f"IM{i}", i, "ID")
    write_dicom(tmp_path/"private"/"IM99", 0, "ID"); (images/"IM0").unlink(); (images/"IM0").symlink_to(tmp_path/"private"/"IM99")
    rows = pd.DataFrame(dict(file=[f"IM{i}" for i in range(20)], label=["a", "a", "b", "b"]*5)); rows.to_csv(tmp_path/"t.csv", index=False)
    with pytest.raises(InputError, match=r"by a symbolic link \(IM0\)"): from_dicom(images, tmp_path/"t.csv")
    assert len(from_dicom(images, tmp_path/"t.csv", allow_outside=True)) == 20
