"""Ray on a cluster of several nodes on this machine: nodes, workers and the driver die; the table is the one of `inline`."""
import os, signal, socket, subprocess, sys, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs import until
from killing import descendants, gone
from test_kill_and_resume import ENV, kill_when_begun, make_table, rows, study

from ttl_nb.errors import InputError
from ttl_nb.study import cluster as room
from ttl_nb.study.engine import ENV as WORKER, TRIES, Failed, engine_named

ray = pytest.importorskip("ray")
STORE = 100*2**20 # Bytes of a node's object store
NODE = dict(object_store_memory=STORE, include_log_monitor=False, no_monitor=True)


@pytest.fixture(scope="module")
def nodes():
    "A cluster with one, two and one CPUs in a node, which only this machine can reach, joined by this process."
    from ray.cluster_utils import Cluster
    with room._alone(room._import_ray()):
        cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False, **NODE))
        try:
            cluster.add_node(num_cpus=2, **NODE)
            room._join(ray, cluster.address)
            yield cluster
        finally: ray.shutdown(); cluster.shutdown()


def on_ray(prepare, work, pieces, stops=(InputError,), **options):
    return list(engine_named("ray", **options)(prepare, work, pieces, stops=stops))


# Data, versions, failures: pieces that need no torch

def test_data_reach_a_node_once(nodes, monkeypatch):
    "One `put`; processes of a node read the same memory, in place; each has one quiet thread."
    honest, puts = ray.put, []
    monkeypatch.setattr(ray, "put", lambda what: puts.append(what) or honest(what))
    def prepare(): return "small", np.zeros((400, 64, 64), np.uint8)
    def where(array): # The file that this part of the memory belongs to
        at = array.__array_interface__["data"][0]
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, _, _, device, inode, *name = line.split()
            low, high = (int(v, 16) for v in span.split("-"))
            if low <= at < high: return device, inode, *name[:1]
    def work(prepared, piece):
        time.sleep(.3)
        return ray.get_runtime_context().get_node_id(), os.getpid(), where(prepared[1]), prepared[1].flags.writeable, {k: os.environ.get(k) for k in WORKER}
    found = on_ray(prepare, work, range(12))
    assert len(found) == 12 and len(puts) == 1 and not any(isinstance(f, Failed) for f in found), found
    of_node = {node: {f[2] for f in found if f[0] == node} for node in {f[0] for f in found}}
    assert len(of_node) == 2 and len({f[1] for f in found}) == 3, "two nodes with three processes"
    assert all(len(files) == 1 and "plasma" in next(iter(files))[2] for files in of_node.values()), "a node holds more than one copy"
    assert not any(f[3] for f in found) and all(f[4] == WORKER for f in found)


def test_a_piece_that_kills_its_worker_is_given_up_after_three_tries(nodes, tmp_path):
    "The others are done; one that fails twice is done in the end; what a user must mend stops everything."
    def work(folder, piece):
        tries = len(list(Path(folder).glob(f"{piece}-*")))
        (Path(folder)/f"{piece}-{tries}").touch()
        if piece == "deadly": os._exit(1)
        if piece == "twice" and tries < 2: raise OSError("not yet")
        if piece == "mend": raise InputError("mend it")
        return piece
    found = on_ray(lambda: str(tmp_path), work, ["a", "deadly", "b", "twice", "c"])
    assert sorted(f for f in found if not isinstance(f, Failed)) == ["a", "b", "c", "twice"]
    [failed] = [f for f in found if isinstance(f, Failed)]
    assert failed.piece == "deadly" and "WorkerCrashedError" in failed.error
    assert len(list(tmp_path.glob("deadly-*"))) == TRIES == 3 and len(list(tmp_path.glob("a-*"))) == 1
    with pytest.raises(InputError, match="mend it"): on_ray(lambda: str(tmp_path), work, ["a", "mend"])


def test_other_versions_are_refused(nodes, monkeypatch):
    monkeypatch.setattr(room, "versions", lambda: dict(ttl_nb="0.0", torch="1.0"))
    with pytest.raises(InputError, match=rf"machine '{socket.gethostname()}' of the cluster has ttl_nb .* instead of 0.0, torch .* instead of 1.0"):
        on_ray(int, lambda a, b: b, [1, 2])


def test_a_cluster_without_room(nodes):
    with pytest.raises(InputError, match="asks for 1 CPU and 0.25 of a card .*together they have 3 CPUs and 0 cards"): on_ray(int, lambda a, b: b, [1], gpus=.25)
    with pytest.raises(InputError, match="belongs to the Ray cluster at"): on_ray(int, lambda a, b: b, [1], address="127.0.0.1:1")


DRIVER = """
import sys
from pathlib import Path
from ttl_nb.study.engine import engine_named
def work(prepared, piece):
    import time; time.sleep(.2)
    return piece
kept = Path(sys.argv[1])
for piece in engine_named("ray", address=sys.argv[2] or None)(int, work, [i for i in range(20) if not (kept/str(i)).exists()]): (kept/str(piece)).touch()
"""


def driver(kept, address): # With the cluster's token, which is in the environment since the cluster was started; on the loopback, as on systems that have no other
    return subprocess.Popen([sys.executable, "-c", DRIVER, kept, address], env=os.environ | dict(OMP_NUM_THREADS="1", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_driver_goes_on_where_it_was(nodes, tmp_path):
    "Its workers leave; nothing that was kept is done again."
    def workers(): return {a["pid"] for a in map(worker_of, processes()) if a and a["pid"] not in own}
    own = {a["pid"] for a in map(worker_of, processes()) if a}
    process = driver(tmp_path, nodes.address)
    try:
        until(lambda: len(list(tmp_path.iterdir())) >= 4 or process.poll() is not None, 150)
        mine = workers()
    finally: process.kill(); process.wait(); process.stdout.close()
    before = {f.name: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    assert 4 <= len(before) < 20 and mine
    assert gone(mine, 60), "workers of a dead driver stayed"
    process = driver(tmp_path, nodes.address)
    assert (process.communicate(timeout=150)[0], process.returncode) == ("", 0)
    assert {f.name: f.stat().st_mtime_ns for f in tmp_path.iterdir() if f.name in before} == before and len(list(tmp_path.iterdir())) == 20


def processes(): return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]

def worker_of(pid):
    "Is this process a worker of Ray?"
    try: name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError: return None
    return dict(pid=pid, name=name) if name.startswith("ray::") and not any(s in name for s in ("Agent", "Spill", "Restore", "Monitor")) else None


# A cluster of this machine alone

def listening(pids): # Addresses that these processes listen on, as the system writes them
    sockets = {os.readlink(f) for p in pids for f in _open(p)}
    lines = [line.split() for n in ("tcp", "tcp6") for line in Path(f"/proc/net/{n}").read_text().splitlines()[1:]]
    return {line[1].rsplit(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}

def _open(pid):
    try: return [f for f in Path(f"/proc/{pid}/fd").iterdir() if f.is_symlink()]
    except OSError: return []


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_a_local_cluster_is_quiet_private_and_gone(tmp_path):
    "It says nothing, listens on the loopback alone, writes nothing into the home folder, and its workers die with its driver."
    env = ENV | dict(HOME=str(tmp_path/"home")); (tmp_path/"home").mkdir(); (tmp_path/"kept").mkdir()
    process = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path/"kept", ""], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: len(list((tmp_path/"kept").iterdir())) >= 4 or process.poll() is not None, 200)
        pids, begun = descendants(process.pid), process.poll() is None
        agents = {p for p in pids if b"Agent" in Path(f"/proc/{p}/cmdline").read_bytes()} # Two idle ones try for a minute to tell that they leave
        addresses = listening([process.pid, *pids])
    finally: process.kill()
    said = process.communicate(timeout=30)[0]
    assert begun and said == "", said
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"} and addresses, addresses
    assert len(agents) <= 2 and gone(set(pids) - agents, 30), "Ray's processes outlived their driver"
    assert not list((tmp_path/"home").iterdir())


# Studies

@pytest.fixture(scope="module")
def table(tmp_path_factory)->Path: return make_table(tmp_path_factory.mktemp("data")/"stripes", 80)


@pytest.fixture(scope="module")
def pretrained():
    from ttl_nb.data.phantom import phantom
    from ttl_nb.train.fit import pretrain
    return pretrain(phantom("phantom-limb", 160, size=32), 40, seed=0, image_size=32, epochs=1, min_steps=8)


def plan(table, source, folder):
    from ttl_nb.data.catalog import from_csv
    from ttl_nb.study.study import Study
    target = from_csv(table, label="label", patient="patient_id", split="split", name="stripes")
    return Study(target, dict(other=source, none=None), [12], ["head", "full"], 3, folder=folder, image_size=32, epochs=1, min_steps=8)


def measured(found)->pd.DataFrame:
    "What a study found, recipe by recipe, with the hash of the trained weights, without times."
    return found.runs.drop(columns="seconds").assign(scores=[found.store.arrays(i)["scores"].tobytes() for i in found.runs["recipe_id"]])


@pytest.fixture(scope="module")
def inline(table, pretrained, tmp_path_factory):
    return measured(plan(table, pretrained, tmp_path_factory.mktemp("inline")/"study").run("inline"))


def test_a_node_is_killed_in_the_middle(nodes, table, pretrained, inline, tmp_path):
    "Its runs are done elsewhere; the table is the one of `inline`, to the bit."
    node, killed = nodes.add_node(num_cpus=1, **NODE), []
    until(lambda: sum(n["Alive"] for n in ray.nodes()) == 3, 60)
    def watch(done, n, row):
        if done >= 2 and not killed: killed.append(done); nodes.remove_node(node, allow_graceful=False)
    found = plan(table, pretrained, tmp_path/"study").run("ray", progress=watch)
    assert killed == [2] and not len(found.failed) and found.missing == 0
    pd.testing.assert_frame_equal(measured(found), inline)


def test_a_run_that_always_kills_its_worker(nodes, table, pretrained, inline, tmp_path, monkeypatch):
    "It is told as failed, with its error; the others are done; the next start tries it again."
    from ttl_nb.study import study as study_room
    from ttl_nb.study.report import render
    planned = plan(table, pretrained, tmp_path/"study")
    _, victim = planned.grid[-1]
    honest = study_room._do_run
    def poisoned(prepared, piece): return os._exit(1) if piece[1].id == victim.id else honest(prepared, piece)
    monkeypatch.setattr(study_room, "_do_run", poisoned)
    found = planned.run("ray")
    assert found.missing == 1 and found.failed[["recipe_id", "tries"]].values.tolist() == [[victim.id, 3]] and "WorkerCrashedError" in found.failed["error"][0]
    assert "1 run failed 3 times and is tried again when the study is started again. Failed: " in render(found)
    monkeypatch.setattr(study_room, "_do_run", honest)
    again = planned.run("ray")
    assert not len(again.failed)
    pd.testing.assert_frame_equal(measured(again), inline)


# The same with the command line

def test_the_extra_is_missing(table, tmp_path, monkeypatch, capsys):
    from ttl_nb.cli import app
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as end: app(study(table, tmp_path/"study", "ray")[3:])
    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 2 and "ttl-nb: engine ray needs the package ray: install the extra `cluster` with pip install 'ttl_nb[cluster]'" in said


@pytest.mark.slow
def test_a_killed_command_goes_on(table, tmp_path):
    "`ttl-nb study --engine ray` on a cluster of its own, killed with all its processes, ends with the table of `inline`."
    folder = tmp_path/"study"
    finished = kill_when_begun(study(table, folder, "ray"), folder)
    assert 0 < len(finished) < 10
    times = {i: (folder/"runs"/f"{i}.npz").stat().st_mtime_ns for i in finished}
    r = subprocess.run(study(table, folder, "ray"), env=ENV, capture_output=True, text=True)
    assert r.returncode == 0 and r.stderr == "", r.stderr
    assert {i: (folder/"runs"/f"{i}.npz").stat().st_mtime_ns for i in finished} == times, "finished runs were repeated"
    subprocess.run(study(table, tmp_path/"inline", "inline"), env=ENV, check=True, stdout=subprocess.DEVNULL)
    pd.testing.assert_frame_equal(rows(folder), rows(tmp_path/"inline"))
