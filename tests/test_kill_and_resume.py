"""A study that is killed goes on where it was, and ends with the table of one that was not."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

ENV = dict(os.environ, OMP_NUM_THREADS="1")


def make_table(folder:Path, n:int=120)->Path:
    "A csv table of small images whose classes differ in stripes; 60 % train."
    rng, y = np.random.default_rng(0), np.tile([0, 1], n//2)
    folder.mkdir()
    for i,c in enumerate(y):
        img = rng.normal(100, 30, (32, 32)); img[::2] += 12*c
        Image.fromarray(img.clip(0, 255).astype(np.uint8)).save(folder/f"{i}.png")
    rows = dict(file=[f"{i}.png" for i in range(n)], label=np.array(["no", "yes"])[y], patient_id=[f"p{i}" for i in range(n)],
                split=np.where(np.arange(n) < .6*n, "train", "test"))
    pd.DataFrame(rows).to_csv(folder/"labels.csv", index=False)
    return folder/"labels.csv"


def cli(*words)->list[str]: return [sys.executable, "-c", "from ttl_nb.cli import app; app()", *map(str, words)]


def study(table:Path, folder:Path, engine:str)->list[str]:
    return cli("study", "--target", table, "--source", "none", "--freezing", "full", "--freezing", "head", "--n-train", 20,
               "--seeds", 5, "--epochs", 8, "--image-size", 32, "--engine", engine, "--workers", 2,
               "--folder", folder, "--json", folder.with_suffix(".json"))


def rows(folder:Path)->pd.DataFrame:
    "The table of a study, without the times."
    return pd.DataFrame(json.loads(folder.with_suffix(".json").read_text())).drop(columns="seconds")


def kill_when_begun(command:list[str], folder:Path)->set[str]:
    "Start a study, kill -9 its whole process group when three runs are done, and return the finished runs' files."
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 120
    while len(list((folder/"runs").glob("*.npz"))) < 3:
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < until, "no run was finished in two minutes"
        time.sleep(.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    from ttl_nb.study.store import Store
    return Store(folder).ids()


@pytest.fixture(scope="module")
def table(tmp_path_factory)->Path: return make_table(tmp_path_factory.mktemp("data")/"stripes")


@pytest.fixture(scope="module")
def uninterrupted(table, tmp_path_factory)->pd.DataFrame:
    folder = tmp_path_factory.mktemp("whole")/"study"
    subprocess.run(study(table, folder, "inline"), env=ENV, check=True, stdout=subprocess.DEVNULL)
    return rows(folder)


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_killed_study_goes_on(engine, table, uninterrupted, tmp_path):
    folder = tmp_path/"study"
    finished = kill_when_begun(study(table, folder, engine), folder)
    assert 0 < len(finished) < 10
    times = {i: (folder/"runs"/f"{i}.npz").stat().st_mtime_ns for i in finished}
    subprocess.run(study(table, folder, engine), env=ENV, check=True, stdout=subprocess.DEVNULL)
    again = {i: (folder/"runs"/f"{i}.npz").stat().st_mtime_ns for i in finished}
    assert again == times, "finished runs were repeated"
    assert len(list((folder/"runs").glob("*.npz"))) == 10 and not list((folder/"runs").glob(".*"))
    pd.testing.assert_frame_equal(rows(folder), uninterrupted)


def test_workers_leave_when_their_study_is_killed(table, tmp_path):
    "Only the driver is killed; its workers must not stay behind with their memory."
    process = subprocess.Popen(study(table, tmp_path/"study", "processes"), env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((tmp_path/"study"/"runs").glob("*.npz"))) < 2: time.sleep(.05); assert process.poll() is None
    workers = [int(p) for t in Path(f"/proc/{process.pid}/task").iterdir() for p in (t/"children").read_text().split()]
    process.kill(); process.wait()
    until = time.monotonic() + 15
    while any(_runs(p) for p in workers) and time.monotonic() < until: time.sleep(.1)
    assert len(workers) >= 2 and not any(_runs(p) for p in workers)


def _runs(pid:int)->bool:
    try: return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError: return False
