"""One trainer for all seats: seats stay light, wait fairly, lose nothing but their own run, and nothing outlives its parent."""
import ast, importlib, json, os, signal, socket, stat, subprocess, sys, threading, time
from pathlib import Path

import numpy as np
import pytest
from jobs import SIDE, request, until

from ttl_nb.data.phantom import phantom
from ttl_nb.errors import InputError
from ttl_nb.train.recording import Recording
from ttl_nb.ui.job import Job
from ttl_nb.ui.offer import Offer
from ttl_nb.ui import trainer as trainer_room
from ttl_nb.ui.trainer import Launched, Trainer, WorkerPlace, connect

LONG = dict(min_steps=2000)
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked at in /proc")


@pytest.fixture(scope="module")
def offer(tmp_path_factory):
    usual = os.environ.get("TTL_NB_CACHE")
    os.environ["TTL_NB_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield Offer({"phantom-pneumonia": phantom("phantom-pneumonia", 60, size=SIDE)}, {}, SIDE)
    os.environ.pop("TTL_NB_CACHE") if usual is None else os.environ.update(TTL_NB_CACHE=usual)


@pytest.fixture(scope="module")
def trainer(offer):
    with Launched(offer.to_dict()) as trainer:
        until(lambda: not children(trainer.pid)) # It has read the images
        yield trainer
    assert not alive(trainer.pid) and not Path(trainer.address).exists() and not trainer.folder.exists()


@pytest.fixture
def seats(trainer):
    "As many jobs as are asked for, each with a line of its own."
    made = []
    def some(n): made.extend(Job(WorkerPlace(connect(trainer.address))) for _ in range(n)); return made[-n:] if n > 1 else made[-1]
    yield some
    for job in made: job.place.connection.close()
    until(lambda: not children(trainer.pid))
    assert not [t for t in threading.enumerate() if t.name == "ttl_nb seat"]


def children(pid): return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

def alive(pid):
    try: return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError): return False


# A run

def test_the_same_as_in_a_thread(seats, offer):
    from ttl_nb.ui.outcome import perform
    job, recording = seats(1), Recording()
    here = perform(request(watch=8), offer.targets, {}, recording)[0]
    job.start(request(watch=8))
    assert job.wait(30) == "done" and job.planned == 8 and job.learner is None
    assert {k: v for k,v in job.result.items() if k != "seconds"} == {k: v for k,v in here.items() if k != "seconds"}
    def says(r): return [{k: v for k,v in e.items() if k != "t"} for e in r.since()]
    assert says(job.recording) == says(recording) and job.recording.recipe == recording.recipe
    job.start(request("find_rate"))
    assert job.wait(30) == "done" and job.result["kind"] == "find_rate" and len(job.result["lrs"]) == len(job.recording.series("rate", "lr")[0])


SEAT = """
import sys
from ttl_nb.ui.job import Job
from ttl_nb.ui.trainer import WorkerPlace, connect
job = Job(WorkerPlace(connect({address!r})))
job.start({request!r})
assert job.wait(30) == "done", (job.state, job.error)
job.start(dict({request!r}, kind="find_rate")); assert job.wait(30) == "done", job.error
job.start(dict({request!r}, recipe=dict(target="x"))); assert job.wait(30) == "failed" and "`target`" in job.error
heavy = {{"torch", "torchvision", "fastai", "timm", "matplotlib"}} & {{m.split(".")[0] for m in sys.modules}}
assert not heavy, heavy
job.place.connection.close()
"""

def test_a_seat_imports_neither_torch_nor_fastai(trainer):
    r = subprocess.run([sys.executable, "-c", SEAT.format(address=trainer.address, request=request(watch=8))], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr


def test_stop_pause_step_keep(seats):
    job = seats(1)
    job.start(request())
    assert job.wait(30) == "done"
    good, took = job.result, []
    for kind in ("fit", "find_rate", "fit"):
        job.start(request(kind, **LONG))
        until(lambda: job.steps > 1)
        start = time.monotonic()
        job.stop()
        assert job.wait(10) == "idle" and job.result is good
        took.append(time.monotonic() - start)
    assert max(took) < .6, took
    job.start(request(**LONG))
    job.pause()
    until(lambda: job.state == "paused")
    for unit,more in ("batch", 1), ("epoch", 2), ("epoch", 2):
        at = job.steps
        job.step(unit)
        until(lambda: job.state == "paused" and job.steps > at)
        time.sleep(.1)
        assert 1 <= job.steps - at <= more and job.state == "paused"
    job.resume()
    job.pause()
    job.resume()
    until(lambda: job.state == "running" and job.steps > 12)
    job.stop(keep=True)
    assert job.wait(10) == "done" and job.result["stopped"] and job.result["steps"] == job.steps and job.result is not good


def test_forty_random_sequences(seats):
    rng, job, ends = np.random.default_rng(0), seats(1), []
    job.start(request())
    assert job.wait(30) == "done"
    usual = job.result["scores"]
    for _ in range(40):
        before = job.result
        job.start(request())
        for what in rng.choice(["pause", "resume", "batch", "epoch", "nap", "nap", "stop", "keep"], int(rng.integers(1, 6))):
            if what in ("pause", "resume"): getattr(job, what)()
            elif what in ("batch", "epoch"): job.step(what)
            elif what == "nap": time.sleep(rng.exponential(.05))
            else: job.stop(what == "keep")
        if rng.random() < .4: job.stop()
        while job.busy: job.resume(); time.sleep(.01)
        ends.append(job.wait(20))
        assert ends[-1] in ("done", "idle"), job.error
        if ends[-1] == "idle": assert job.result is before
        elif not job.result["stopped"]: assert job.result["scores"] == usual
    assert {"done", "idle"} == set(ends) and len(job.place.connection.runs) == 0


# Many seats

def test_seats_take_turns(seats, trainer):
    "Two at a time; one seat with three wishes does not keep the others waiting; everybody is told the place."
    first, second, third = seats(3)
    greedy = [first, Job(first.place), Job(first.place)]
    for job in greedy: job.start(request(**LONG))
    until(lambda: [j.state for j in greedy] == ["running", "running", "queued"])
    assert len(children(trainer.pid)) == 2
    fourth = Job(first.place)
    fourth.start(request())
    until(lambda: fourth.state == "failed")
    assert "3 runs already" in fourth.error
    second.start(request(**LONG))
    until(lambda: (second.queue, greedy[2].queue) == (1, 2))
    third.start(request(**LONG))
    until(lambda: (second.queue, third.queue, greedy[2].queue) == (1, 2, 3) and greedy[2].state == second.state == "queued")
    greedy[0].stop()
    until(lambda: second.state == "running" and (third.queue, greedy[2].queue) == (1, 2))
    greedy[1].stop()
    until(lambda: third.state == "running" and greedy[2].queue == 1)
    second.stop()
    until(lambda: greedy[2].state == "running" and greedy[2].queue == 0)
    assert len(children(trainer.pid)) <= 3


def test_a_pause_gives_its_turn_away(seats):
    a, b, c = seats(3)
    for job in (a, b): job.start(request(**LONG)); job.pause()
    until(lambda: a.state == b.state == "paused")
    c.start(request())
    assert c.wait(20) == "done" and a.state == b.state == "paused"
    c.start(request(**LONG))
    until(lambda: c.state == "running")
    a.resume()
    until(lambda: a.state == "running" and a.steps > 3)
    b.resume()
    until(lambda: b.state == "queued" and b.queue == 1)
    b.pause()
    until(lambda: b.state == "paused")
    b.step("batch")
    until(lambda: b.state == "queued")
    at = b.steps
    c.stop()
    until(lambda: b.state == "paused" and b.steps == at + 1)
    b.stop()
    assert b.wait(10) == "idle" and a.state == "running"


def test_a_seat_that_leaves_takes_its_runs_along(seats, trainer):
    stays, leaves = seats(2)
    leaves.start(request(**LONG))
    waiting = Job(leaves.place)
    stays.start(request(**LONG))
    until(lambda: stays.steps > 1 and leaves.steps > 1)
    waiting.start(request())
    until(lambda: waiting.state == "queued" and waiting.queue == 1)
    leaves.place.connection.close()
    until(lambda: len(children(trainer.pid)) == 1)
    assert leaves.state == waiting.state == "failed" and "connection to the trainer was lost" in leaves.error and stays.state == "running"
    leaves.start(request())
    assert leaves.wait(20) == "done", "a line that was lost is opened anew"


def test_those_who_pause_for_long_make_room(offer, tmp_path, monkeypatch):
    "When processes are many, the run that was paused longest is ended, in words."
    trainer, said, killed = Trainer(offer, str(tmp_path/"own"/"trainer")), [], []
    class Seat:
        class wire: send = staticmethod(lambda **m: said.append(m))
        runs = {}
    for i in range(8):
        run = trainer_room._Run(Seat, i, {})
        run.worker, run.state, run.since = trainer_room._Worker(None, 10**7 + i, run), "paused" if i < 6 else "running", time.monotonic() - (100 if i == 3 else 70 if i == 1 else 10)
        trainer.workers.append(run.worker)
    monkeypatch.setattr(trainer, "_kill", lambda worker: (killed.append(worker.pid), trainer.workers.remove(worker)), raising=False)
    new = trainer_room._Run(Seat, 9, {})
    assert not trainer._begin(new) and killed == [10**7 + 3] and said[0]["run"] == 3 and "paused for long while others waited" in said[0]["error"]
    trainer.workers.clear()
    trainer._close()


# What goes wrong

def test_a_worker_that_dies(seats, trainer):
    job = seats(1)
    job.start(request())
    assert job.wait(20) == "done"
    good = job.result
    job.start(request(**LONG))
    until(lambda: job.steps > 1)
    os.kill(children(trainer.pid)[0], signal.SIGKILL)
    assert job.wait(10) == "failed" and "ended unexpectedly (signal 9: perhaps the memory ran out)" in job.error and job.result is good
    job.start(request())
    assert job.wait(20) == "done"


def test_what_cannot_be_asked(seats):
    job = seats(1)
    for fields in (dict(target="/etc/passwd"), dict(source="../x"), dict(n_train=10**6), dict(epochs=10**6), dict(image_size=1024), dict(backbone="resnet50"), dict(max_lr="x"*100)):
        job.start(request(**fields))
        assert job.wait(10) == "failed" and f"`{[*fields][0]}`" in job.error.replace("field of a recipe` must", f"{[*fields][0]}`"), job.error
    job.start(request(target="x"*70_000))
    assert job.wait(10) == "failed" and "longer than any recipe" in job.error


def test_strangers_on_the_line(trainer, seats):
    "Whoever sends something else is left; the others notice nothing."
    job = seats(1)
    job.start(request(**LONG))
    until(lambda: job.state == "running")
    hello, run = b'{"do":"hello"}\n', b'{"do":"run","run":1,"request":%s}\n'
    for said in (b"\n\n{}\n", b"x\n", b'{"do":"run","run":1}\n', b"[" * 10**5, b'{"do":"worker","secret":""}\n', b'{"do":"worker","secret":["x"],"pid":1}\n', hello + b'{"do":"rm"}\n',
                 hello + run % b"1" + b'{"do":"stop","run":"1"}\n', hello + b'{"do":["run"],"run":{}}\n', hello + b"a"*2**17, hello + b"["*5000 + b"\n", b"\x80\x04\x95\n"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(5)
            stranger.connect(trainer.address)
            try:
                stranger.sendall(said)
                while stranger.recv(2**16): pass
            except (BrokenPipeError, ConnectionResetError): pass
    with socket.socket(socket.AF_UNIX) as stranger: # Odd values in well-formed lines are answered in words
        stranger.connect(trainer.address)
        stranger.sendall(hello + b"".join(run % r for r in (b"null", b"[]", b'{"recipe":[]}', b'{"recipe":{"target":{}}}', b'{"recipe":{"max_lr":NaN}}', b'{"recipe":{},"watch":1e999}')))
        answers, file = [], stranger.makefile()
        while len(answers) < 7: answers.append(json.loads(file.readline()))
        assert [a.get("do") for a in answers[1:]] == ["failed"]*6, answers
    assert job.state == "running" and trainer.process.poll() is None


def test_only_its_owner_may_enter(trainer):
    assert stat.S_IMODE(os.stat(trainer.address).st_mode) == 0o600 and stat.S_IMODE(trainer.folder.stat().st_mode) == 0o700


def test_nothing_is_unpickled():
    names = [n for room in ("job", "outcome", "trainer") for node in ast.walk(ast.parse(Path(importlib.import_module(f"ttl_nb.ui.{room}").__file__).read_text()))
             if isinstance(node, (ast.Import, ast.ImportFrom)) for n in ([getattr(node, "module", "") or ""] + [a.name for a in node.names])]
    assert not {"pickle", "multiprocessing", "joblib", "marshal", "shelve"} & {n.split(".")[0] for n in names}


# Its end

PARENT = """
import json, os, sys, time
from ttl_nb.ui.job import Job
from ttl_nb.ui.trainer import Launched, WorkerPlace, connect
trainer = Launched(json.load(open({offer!r})))
job = Job(WorkerPlace(connect(trainer.address)))
job.start({request!r})
while job.steps < 2: time.sleep(.01)
children = open(f"/proc/{{trainer.pid}}/task/{{trainer.pid}}/children").read().split()
print(json.dumps([str(trainer.folder), trainer.pid, *map(int, children)]), flush=True)
time.sleep(60)
"""

def test_it_ends_with_its_parent(offer, tmp_path):
    (tmp_path/"offer.json").write_text(json.dumps(offer.to_dict()))
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(offer=str(tmp_path/"offer.json"), request=request(**LONG))], stdout=subprocess.PIPE)
    folder, *pids = json.loads(parent.stdout.readline())
    assert Path(folder).is_dir()
    assert len(pids) == 2 and all(map(alive, pids))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not any(map(alive, pids)), 5)
    assert not Path(folder).exists()


def test_one_that_cannot_start_says_why(offer):
    bad = offer.to_dict() | dict(sources=dict(x=["nowhere.safetensors"]))
    with pytest.raises(InputError, match="the trainer could not be started: .*nowhere.safetensors"): Launched(bad)


def test_one_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not answer"): connect(str(tmp_path/"nobody"), seconds=.2).close()


# Where forks are not safe, and sockets have no files

def test_started_workers_over_a_port(offer):
    with Launched(offer.to_dict(), spawn=True, tcp=True) as trainer:
        with pytest.raises(InputError, match="does not let this page in"): connect(trainer.address, "wrong")
        job = Job(WorkerPlace(connect(trainer.address, trainer.token)))
        job.start(request())
        assert job.wait(60) == "done", job.error
        warm, good = children(trainer.pid), job.result
        job.start(request(**LONG))
        until(lambda: job.steps > 1, 60)
        job.stop()
        assert job.wait(10) == "idle" and set(warm) <= set(children(trainer.pid)), "a worker that stops stays warm"
        job.start(request())
        assert job.wait(60) == "done" and job.result["scores"] == good["scores"]
        job.start(request(**LONG))
        until(lambda: job.steps > 1, 60)
        for pid in children(trainer.pid): os.kill(pid, signal.SIGKILL)
        assert job.wait(10) == "failed" and "ended unexpectedly" in job.error
        job.start(request())
        until(lambda: children(trainer.pid))
        pids = children(trainer.pid)
        job.place.connection.close()
    until(lambda: not any(map(alive, pids)), 5)
