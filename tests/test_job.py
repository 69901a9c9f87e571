"""A run in the background of this process: whatever is asked of it and when, it ends, leaves nothing behind, and keeps the last good result."""
import threading, time

import numpy as np
import pytest
import torch
from jobs import SIDE, request, until

from ttl_nb.analysis import activations as activations_room
from ttl_nb.data import pixels as pixels_room
from ttl_nb.data.phantom import phantom
from ttl_nb.errors import InputError
from ttl_nb.train import fit as fit_room
from ttl_nb.train.prefix import FrozenPrefix
from ttl_nb.train.recording import Recording
from ttl_nb.ui import outcome as outcome_room
from ttl_nb.ui.job import Job, ThreadPlace
from ttl_nb.ui.outcome import perform

AT_ONCE = .3 # Seconds in which a run has to stop


@pytest.fixture(scope="module")
def domain(): return phantom("phantom-pneumonia", 60, size=SIDE)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def pixels(domain, tmp_path_factory): return {domain.name: pixels_room.load_pixels(domain, SIDE, tmp_path_factory.mktemp("pixels"))}


@pytest.fixture
def job(domain, pixels):
    job = Job(ThreadPlace({domain.name: domain}, pixels=pixels))
    yield job
    job.stop()
    assert job.wait(20) in ("idle", "done", "failed") and not runs()


def runs(): return [t for t in threading.enumerate() if t.name == "ttl_nb run"]


def reached(job, *states): until(lambda: job.state in states)


def stopped_in(job, **how):
    "Seconds from Stop to the end."
    start = time.monotonic()
    job.stop(**how)
    asked = time.monotonic() - start
    job.wait(20)
    assert asked < .05, "Stop must return at once"
    return time.monotonic() - start


# Stop

LONG = dict(min_steps=10**5)

def slowly(honest, each, seen):
    def slow(*args, **kwargs): seen.append(1); time.sleep(each); return honest(*args, **kwargs)
    return slow


def test_while_decoding(domain, monkeypatch):
    seen, job = [], Job(ThreadPlace({domain.name: domain}))
    monkeypatch.setattr(pixels_room, "_resize", slowly(pixels_room._resize, .05, seen))
    job.start(request())
    until(lambda: len(seen) > 3)
    assert stopped_in(job) < AT_ONCE and job.state == "idle" and not runs()
    assert not list(pixels_room.cache_folder().glob("*")), "half a map is left"


def test_while_frozen_stages_are_computed(job, monkeypatch):
    seen = []
    monkeypatch.setattr(FrozenPrefix, "_outputs", slowly(FrozenPrefix._outputs, .05, seen))
    monkeypatch.setattr("ttl_nb.train.prefix._chunks", lambda n: [[1]*n])
    job.start(request(n_train=30))
    until(lambda: len(seen) > 2)
    assert stopped_in(job) < AT_ONCE and job.state == "idle"


def test_while_a_rate_is_looked_for(job):
    job.start(request("find_rate") | dict(steps=10**5))
    until(lambda: job.steps > 2)
    assert stopped_in(job) < AT_ONCE and job.state == "idle"


def test_while_the_rate_of_a_fit_is_looked_for(job, monkeypatch):
    seen, honest = [], fit_room.find_lr
    monkeypatch.setattr(fit_room, "find_lr", lambda *args, **kwargs: seen.append(1) or honest(*args, **(kwargs | dict(steps=10**5))))
    job.start(request(max_lr="find"))
    until(lambda: seen)
    time.sleep(.2)
    assert stopped_in(job, keep=True) < AT_ONCE and job.state == "idle", "before the first step there is nothing to keep"


@pytest.mark.parametrize("watch", [False, 20])
def test_while_learning(job, watch):
    job.start(request(watch=watch, **LONG))
    until(lambda: job.steps > 2)
    assert stopped_in(job) < AT_ONCE and job.state == "idle" and job.result is None and job.learner is None


def test_while_scoring(job, monkeypatch):
    seen, honest = [], activations_room.pixels_as_input
    monkeypatch.setattr(activations_room, "pixels_as_input", slowly(honest, .05, seen))
    monkeypatch.setattr(activations_room, "BATCH", 2)
    job.start(request())
    until(lambda: seen)
    assert stopped_in(job) < AT_ONCE and job.state == "idle"


def test_while_paused(job):
    job.start(request(**LONG))
    job.pause()
    reached(job, "paused")
    assert stopped_in(job) < AT_ONCE and job.state == "idle"


def test_while_waiting_for_another(job):
    job.start(request(**LONG))
    other = Job(job.place)
    other.start(request())
    until(lambda: job.state == "running")
    assert (other.state, other.queue) == ("queued", 1) and stopped_in(other) < AT_ONCE and job.state == "running"
    other.start(request())
    job.stop()
    assert other.wait(20) == "done"


# Keep

def test_what_was_learned_is_kept(job):
    job.start(request(**LONG))
    until(lambda: job.steps > 2)
    job.stop(keep=True)
    assert job.state == "cancelling" and job.wait(20) == "done"
    done, planned = job.result["stopped_at"]
    assert 3 <= done < planned == 10**5 and job.result["stopped"] and job.result["stages"]["stage4"]["weights"] > 0
    assert done == job.steps == len(job.recording.series("batch", "loss")[0])


def test_kept_while_frozen_stages_of_a_later_phase_are_computed(job, monkeypatch):
    "The training ends, not the run."
    seen, honest = [], FrozenPrefix._compute
    def compute(self, cuts):
        if self.learn.train_iter > 1: seen.append(1); until(lambda: job._wishes.end)
        return honest(self, cuts)
    monkeypatch.setattr(FrozenPrefix, "_compute", compute)
    monkeypatch.setattr(FrozenPrefix, "_cuts_to_come", lambda self: [])
    job.start(request(freezing="gradual", source="none", min_steps=40))
    until(lambda: seen)
    job.stop(keep=True)
    assert job.wait(20) == "done" and 0 < job.result["steps"] < 40


def test_kept_while_scoring_is_done(job, monkeypatch):
    seen = []
    monkeypatch.setattr(activations_room, "pixels_as_input", slowly(activations_room.pixels_as_input, .1, seen))
    job.start(request())
    until(lambda: seen)
    job.stop(keep=True)
    assert job.wait(20) == "done" and not job.result["stopped"]


# Pause and step

def test_pauses_change_nothing(job, domain, pixels):
    "Taken step by step and epoch by epoch, the same scores to the bit."
    straight = perform(request(watch=8), {domain.name: domain}, {}, Recording(), pixels=pixels)[0]
    job.start(request(watch=8))
    job.pause()
    for unit,more in ("batch", 1), ("batch", 1), ("epoch", 2), ("epoch", 2), ("batch", 1):
        reached(job, "paused")
        before = job.steps
        job.step(unit)
        assert job.state in ("running", "pausing", "paused")
        until(lambda: job.state == "paused" and job.steps > before)
        assert job.steps == before + more, unit
        time.sleep(.03)
        assert job.steps == before + more, "it moved while it was paused"
    job.resume()
    assert job.wait(20) == "done"
    for name in ("scores", "auc", "stages", "id", "roc", "views"): assert job.result[name] == straight[name], name


def test_time_does_not_run_while_it_is_paused(job):
    job.start(request())
    job.pause()
    reached(job, "paused")
    time.sleep(1)
    job.resume()
    assert job.wait(20) == "done" and job.result["seconds"] < .9


# What goes wrong

def test_errors_are_sentences(job, monkeypatch):
    job.start(request())
    assert job.wait(20) == "done"
    good = job.result, job.run, job.learner
    for fields,said in ((dict(n_train=10**4), "10000"), (dict(target="chest"), "`target` must be one of phantom-pneumonia, got 'chest'"),
                        (dict(batch_size=1), "`batch_size` must be a whole number at least 2"), (dict(nothing=1), "field of a recipe")):
        job.start(request(**fields))
        assert job.wait(20) == "failed" and said in job.error and (job.result, job.run, job.learner) == good
    for error,said in ((ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero. The results so far are safe"), (MemoryError(), "the memory ran out")):
        def breaks(*args, **kwargs): raise error
        with monkeypatch.context() as m:
            m.setattr(fit_room, "predict", breaks)
            job.start(request())
            assert job.wait(20) == "failed" and said in job.error and "breaks" in job.traceback and (job.result, job.run, job.learner) == good
    job.start(request())
    assert job.error is None and job.wait(20) == "done" and job.result["scores"] == good[0]["scores"]


def test_a_rate_beyond_all_bounds(job):
    job.start(request(max_lr=10., optimiser="sgd", schedule="constant", freezing="full", lr_ratio=1., min_steps=200))
    assert job.wait(20) == "failed" and "the learning rate (10 there) is too high" in job.error and job.steps < 100


def test_one_at_a_time(job):
    job.start(request(**LONG))
    with pytest.raises(InputError, match="a run is (queued|running): stop it"): job.start(request())
    with pytest.raises(InputError, match="`unit` must be one of batch, epoch"): job.step("year")


# Anything in any order

def hooks(net): return [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks]


def test_two_hundred_random_sequences(domain, pixels, monkeypatch):
    "No thread, no hook, no callback is left; results are those of runs that were left alone, or stay what they were."
    rng, learners, honest = np.random.default_rng(0), [], fit_room.make_learner
    monkeypatch.setattr(fit_room, "make_learner", lambda *args: learners.append(honest(*args)) or learners[-1])
    monkeypatch.setattr(outcome_room, "explored", lambda run, pixels, stages: {})
    kinds = [request(freezing=f, seed=s, watch=w) for f,s,w in (("full", 0, False), ("stage4", 1, 8), ("gradual", 2, False))] + [request("find_rate") | dict(steps=12)]
    alone = [perform(k, {domain.name: domain}, {}, Recording(), pixels=pixels)[0] for k in kinds]
    job, usual, threads, ends = Job(ThreadPlace({domain.name: domain}, pixels=pixels)), len(learners[0].cbs), torch.get_num_threads(), []

    def ended(number, before):
        state = job.wait(20)
        ends.append(state)
        assert state in ("done", "idle") and not runs(), (state, job.error)
        if state == "idle": assert job.result is before; return
        assert job.result["recipe"]["subset_seed"] == alone[number]["recipe"]["subset_seed"] and job.result["kind"] == kinds[number]["kind"]
        if job.result.get("stopped"): assert job.result["steps"] < 8
        elif number < 3: assert job.result["scores"] == alone[number]["scores"] and job.result["stages"] == alone[number]["stages"]
        else: assert job.result["losses"] == alone[number]["losses"]

    for _ in range(200):
        number, before = int(rng.integers(4)), job.result
        job.start(kinds[number])
        for what in rng.choice(["pause", "resume", "batch", "epoch", "nap", "nap", "stop", "keep", "restart"], int(rng.integers(1, 6))):
            if what in ("pause", "resume"): getattr(job, what)()
            elif what in ("batch", "epoch"): job.step(what)
            elif what == "nap": time.sleep(rng.exponential(.02))
            elif what in ("stop", "keep"): job.stop(what == "keep")
            else:
                job.stop()
                ended(number, before)
                number, before = int(rng.integers(4)), job.result
                job.start(kinds[number])
        if rng.random() < .5: job.stop()
        while job.busy: job.resume(); time.sleep(.002)
        ended(number, before)
    assert ends.count("done") > 40 and ends.count("idle") > 40, ends
    assert not [l for l in learners if hooks(l.model) or len(l.cbs) != usual] and len(learners) > 100
    assert torch.get_num_threads() == threads and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
