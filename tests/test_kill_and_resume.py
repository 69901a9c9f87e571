"""A study that is killed goes on where it was, and ends with the table of one that was not."""
import json, os, re, signal, sqlite3, subprocess, sys, time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs import until
from killing import Zygote, children, descendants, gone, kill, runs
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
def zygote(tmp_path_factory):
    z = Zygote(tmp_path_factory.mktemp("cache"))
    yield z
    z.close()


@pytest.fixture(scope="module")
def uninterrupted(zygote, table, tmp_path_factory)->pd.DataFrame:
    folder = tmp_path_factory.mktemp("whole")/"study"
    assert zygote.run(study(table, folder, "inline")[3:], folder) == 0, zygote.log.read_text()
    return rows(folder)


def test_killed_study_goes_on(table, uninterrupted, tmp_path):
    "Driver and workers at once, as when a machine goes down; studies that run in one process are killed below, at any moment."
    engine, folder = "processes", tmp_path/"study"
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
    workers = children(process.pid)
    process.kill(); process.wait()
    assert len(workers) >= 2 and gone(workers)


# Random moments

RUNS = 6

def small(table:Path, folder:Path, engine:str="inline")->list[str]:
    "Words after `ttl-nb` of a study of few and short runs, with all that a study writes."
    return [*map(str, ["study", "--target", table, "--source", "none", "--freezing", "full", "--freezing", "head", "--n-train", 10, "--seeds", RUNS//2, "--epochs", 2, "--image-size", 16,
                       "--engine", engine, "--workers", 2, "--folder", folder, "--json", folder.with_suffix(".json")])]

def spoilt(folder:Path)->list[str]:
    "Files of a study that are neither whole nor plainly unfinished."
    from ttl_nb.study.store import Store
    found, beside = [], [f for f in [folder.with_suffix(".json")] if f.exists()]
    for f in (f for f in [*beside, *folder.rglob("*")] if f.is_file() and not (f.name.startswith(".") and f.suffix == ".part")):
        try: READ.get(f.suffix, lambda f: None)(f)
        except Exception as e: found.append(f"{f.name}: {type(e).__name__} {e}")
    if (folder/"study.sqlite").exists():
        with sqlite3.connect(folder/"study.sqlite") as db: found += [str(r) for r in db.execute("PRAGMA integrity_check") if r != ("ok",)]
        for i in Store(folder).ids(): Store(folder).arrays(i); Store(folder).recording(i)
    return found


def _closed(f):
    assert f.read_text(encoding="utf-8").rstrip().endswith("</html>")

def _arrays(f):
    with np.load(f) as a: assert all(a[k] is not None for k in a)

READ = {".json": lambda f: json.loads(f.read_text()), ".parquet": pd.read_parquet, ".html": _closed, ".npz": _arrays, ".npy": np.load}


@pytest.fixture(scope="module")
def unbroken(zygote, table, tmp_path_factory):
    "Seconds that an uninterrupted study takes, how often it writes, and its table."
    folder = tmp_path_factory.mktemp("unbroken")/"study"
    start = time.monotonic()
    assert zygote.run(small(table, folder), folder) == 0, zygote.log.read_text()
    return time.monotonic() - start, zygote.events, rows(folder)


def kept(folder:Path)->dict:
    "Finished runs, and when their files were written."
    from ttl_nb.study.store import Store
    if not (folder/"study.sqlite").exists(): return {}
    return {i: (folder/"runs"/f"{i}.npz").stat().st_mtime_ns for i in Store(folder).ids()}


TRACKER = re.compile(r"""Traceback .*\n  File ".*loky/backend/resource_tracker\.py".*\n(?: .*\n)*KeyError: '/loky-.*'\n""") # What joblib's tracker says at the end, where it was the one that was killed


def killed_again_and_again(zygote, table, unbroken, tmp_path, kills, seed, parallel=lambda i: False):
    "Kill studies until it has been done so often; every study that comes to its end must show the table of the unbroken one. How many died, and finished."
    rng, (seconds, events, whole) = np.random.default_rng(seed), unbroken
    died, finished, n = Counter(), 0, 0
    folder = tmp_path/"study0"
    while sum(died.values()) < kills or kept(folder):
        before, how = kept(folder), "none" if sum(died.values()) >= kills else "workers" if parallel(n) else str(rng.choice(["moment", "write"]))
        n += 1
        engine = "processes" if how == "workers" else "inline"
        zygote.start(small(table, folder, engine), folder, event=int(rng.integers(1, events)) if how == "write" else 0)
        who = _kill(zygote.pid, how, float(rng.uniform(0, seconds)), rng, folder, len(before))
        code = zygote.end()
        assert gone(who, 60), "processes stayed behind"
        assert code in (0, -signal.SIGKILL) or how == "workers", f"exit {code} after {how}: {zygote.log.read_text()[-2000:]}"
        assert "Traceback" not in TRACKER.sub("", said := zygote.log.read_text()), said[-3000:]
        assert not (found := spoilt(folder)), found
        after = kept(folder)
        assert before.items() <= after.items(), "finished runs were lost or done again"
        assert len(after) <= RUNS
        if code: died[how] += 1; continue
        assert len(after) == RUNS and not list(folder.rglob(".*")), list(folder.rglob(".*"))
        pd.testing.assert_frame_equal(rows(folder), whole)
        finished += 1; folder = tmp_path/f"study{finished}"
    return died, finished


def _kill(pid, how, after, rng, folder, n)->list[int]:
    "Kill the command, or one of its workers, after some time; returns the processes that must not outlive it."
    if how == "moment": time.sleep(after); kill(pid)
    if how != "workers": return []
    until = time.monotonic() + 60 # Workers load torch first
    while len(list((folder/"runs").glob("*.npz"))) < min(n + 1, RUNS) and runs(pid) and time.monotonic() < until: time.sleep(.02)
    time.sleep(float(rng.uniform(0, 1)))
    who = [pid, *descendants(pid)]
    kill(who[int(rng.integers(len(who)))])
    return who[1:]


def test_killed_at_random_moments(zygote, table, unbroken, tmp_path):
    "At a time, and at a write: nothing finished is lost or counted twice, every file is whole or absent."
    died, finished = killed_again_and_again(zygote, table, unbroken, tmp_path, 4, seed=0)
    assert sum(died.values()) >= 4 and finished


ORPHAN = """
import os, sys, time
from ttl_nb.study import engine
driver = os.getpid()
if pid := os.fork(): print(pid, flush=True); os._exit(0)
while os.getppid() == driver: time.sleep(.01)
engine._start_worker(dict, driver); time.sleep(60)
"""

def test_a_worker_leaves_whose_driver_died_while_it_started():
    "It loads torch for seconds, and then has another parent, which it must not take for its driver."
    r = subprocess.run([sys.executable, "-W", "ignore", "-c", ORPHAN], stdout=subprocess.PIPE, text=True, env=ENV)
    assert gone([int(r.stdout)], 20), "the worker stayed behind"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_fifty_times(zygote, table, unbroken, tmp_path):
    "The same with drivers and workers of studies in processes among them."
    died, finished = killed_again_and_again(zygote, table, unbroken, tmp_path, 50, seed=1, parallel=lambda i: i % 4 == 3)
    print(f"{sum(died.values())} kills survived ({dict(died)}), {finished} studies finished with the table of the unbroken one")
    assert sum(died.values()) >= 50


# The clock, and Ctrl-C

def test_the_clock_is_set_back(zygote, table, unbroken, tmp_path):
    "By an hour, in the middle of a study: it ends as ever, and no time is negative."
    from ttl_nb.study.store import Store
    folder = tmp_path/"study"
    assert zygote.run(small(table, folder), folder, clock_back=unbroken[0]/3) == 0, zygote.log.read_text()
    pd.testing.assert_frame_equal(rows(folder), unbroken[2])
    assert (Store(folder).table()["seconds"] > 0).all()
    assert zygote.run(small(table, folder), folder) == 0


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_ctrl_c(engine, zygote, table, unbroken, tmp_path):
    "All of the terminal's processes get it: the command says how to go on, leaves within seconds, and nobody stays behind."
    folder = tmp_path/"study"
    pid = zygote.start(small(table, folder, engine), folder)
    until(lambda: len(kept(folder)) >= 2, 240, "no run was finished")
    who = descendants(pid)
    start = time.monotonic(); os.killpg(pid, signal.SIGINT)
    code, seconds, said = zygote.end(), time.monotonic() - start, zygote.log.read_text()
    assert code == 130 and seconds < 10 and gone(who, 5), (code, seconds)
    assert "Traceback" not in said and said.count("ttl-nb:") == 1 and "the same command goes on from there" in " ".join(said.split()), said[-3000:]
    assert not spoilt(folder) and 2 <= len(before := kept(folder)) < RUNS
    assert zygote.run(small(table, folder), folder) == 0
    assert before.items() <= kept(folder).items()
    pd.testing.assert_frame_equal(rows(folder), unbroken[2])
