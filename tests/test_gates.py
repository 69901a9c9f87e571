"""Each fault of a single run, put into the code itself, is caught by the gate or the check that is there for it."""
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ttl_nb.data.domain import Domain
from ttl_nb.errors import InputError
from ttl_nb.models.checkpoint import state_hash
from ttl_nb.study import gates
from ttl_nb.study.gates import GateFailed, check_run, checkpoints_differ, shuffled_labels
from ttl_nb.train import fit as fit_room
from ttl_nb.train import learner as learner_room
from ttl_nb.train import lr_finder
from ttl_nb.train.fit import fit, lr_curve, pretrain
from ttl_nb.train.recipe import Recipe

QUICK = dict(image_size=16, epochs=1, min_steps=20)


@pytest.fixture(scope="module")
def domain(tmp_path_factory)->Domain:
    folder, rng, y = tmp_path_factory.mktemp("images"), np.random.default_rng(0), np.tile([0, 1], 60)
    for i,c in enumerate(y):
        Image.fromarray(rng.normal(90 + 12*c, 30, (16, 16)).clip(0, 255).astype(np.uint8)).save(folder/f"{i}.png")
    items = pd.DataFrame(dict(file=[str(folder/f"{i}.png") for i in range(120)], label=np.array(["a", "b"])[y],
                              patient=[f"p{i}" for i in range(120)], split=["train"]*60 + ["test"]*60))
    return Domain("bright", items, ("a", "b"), root=folder)


@pytest.fixture(scope="module")
def source(domain):
    "A pretraining on other images would be as good; what counts is that it holds weights."
    return dict(source=pretrain(domain, seed=9, **QUICK))


def arm(**fields)->Recipe: return Recipe("bright", n_train=20, **(dict(source="source") | QUICK | fields))


@pytest.mark.parametrize("plan", ["head", "stage4", "full", "gradual", "gradual:epoch", "lp_ft", "only:stage2", "freeze_embed"])
@pytest.mark.parametrize("schedule", ["one_cycle", "one_cycle_lr", "cosine", "constant", "plateau"])
def test_honest_runs_pass(plan, schedule, domain, source):
    check_run(fit(arm(freezing=plan, schedule=schedule), domain, source))


def test_the_same_recipe_gives_the_same_bits(domain, source):
    "Two runs, with other random draws and another thread count in between."
    a = fit(arm(freezing="gradual"), domain, source)
    torch.rand(7); np.random.rand(7)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try: b = fit(arm(freezing="gradual"), domain, source)
    finally: torch.set_num_threads(threads) # Left at two, what is tested later crawls where two workers share two cores
    assert a.facts["trained"] == b.facts["trained"] and np.array_equal(a.scores, b.scores)
    assert a.facts["trained"] != fit(arm(freezing="gradual", seed=1), domain, source).facts["trained"]


def test_another_checkpoint_is_evaluated(domain, source, monkeypatch):
    "The fault of the published code: scores come from other weights than those that were trained."
    honest = fit_room.predict
    def swapped(net, *args):
        with torch.no_grad(): net.linear.bias.add_(.1)
        return honest(net, *args)
    monkeypatch.setattr(fit_room, "predict", swapped)
    with pytest.raises(GateFailed, match="evaluated weights are the trained ones"): check_run(fit(arm(), domain, source))


def test_two_arms_share_a_checkpoint():
    assert not checkpoints_differ(dict(gradual="aa", full="aa", head="bb")).passed


def test_frozen_weights_move(domain, source, monkeypatch):
    "The plan is not applied to the optimiser: everything learns."
    monkeypatch.setattr(fit_room.Freezing, "_apply", lambda self: None)
    with pytest.raises(GateFailed, match="weights of stem.*moved"): check_run(fit(arm(freezing="stage4"), domain, source))


def test_frozen_statistics_move(domain, source, monkeypatch):
    "fastai's way: a frozen stage keeps its BatchNorm in training mode."
    monkeypatch.setattr(fit_room.FreezingPlan, "statistics_fixed", lambda self, fraction=1.: () if _applied() else self.frozen(fraction))
    with pytest.raises(GateFailed, match="BatchNorm statistics of .*stem"): check_run(fit(arm(freezing="stage4"), domain, source))


def _applied()->bool:
    "Is the plan asked by the callback that applies it (and not by the one that checks it)?"
    import sys
    return sys._getframe(2).f_code.co_name == "_apply"


def test_momentum_is_not_cycled(domain, source, monkeypatch):
    "The published code wrote momentum to a key that its optimiser ignored."
    honest = learner_room._Optimiser._set_hyper
    monkeypatch.setattr(learner_room._Optimiser, "_set_hyper", lambda self, k, v: None if k == "mom" else honest(self, k, v))
    with pytest.raises(GateFailed, match="momentum stayed within"): check_run(fit(arm(), domain, source))


def test_group_rates_are_all_alike(domain, source, monkeypatch):
    monkeypatch.setattr(fit_room, "shares", lambda recipe: [1.]*3)
    with pytest.raises(GateFailed, match="group rates are"): check_run(fit(arm(), domain, source))


def test_stages_open_too_late(domain, source, monkeypatch):
    honest = fit_room.FreezingPlan.trainable
    monkeypatch.setattr(fit_room.FreezingPlan, "trainable", lambda self, fraction=1.: honest(self, fraction/3))
    with pytest.raises(GateFailed, match="stages opened as planned"): check_run(fit(arm(freezing="gradual"), domain, source))


def test_crops_do_not_take_the_same_corner(domain):
    from ttl_nb.train.batches import affine_matrices
    shifts = affine_matrices(64, torch.Generator().manual_seed(0))[:,:,2]
    assert len(shifts.unique(dim=0)) == 64 and (shifts[:,0] > 0).any() and (shifts[:,0] < 0).any()


def test_lr_finder_leaves_no_trace(domain, source, monkeypatch):
    "A run after a range test is the run without one; without `restored` it is not."
    from ttl_nb.train.learner import make_learner
    def trained(test_first:bool)->str:
        learner = fit(arm(), domain, source).learner
        if test_first: lr_finder.find_lr(learner, steps=10)
        with learner.no_bar(), learner.no_logging(): learner.fit(1)
        return state_hash(learner.model.state_dict())
    assert trained(True) == trained(False)
    from contextlib import nullcontext
    monkeypatch.setattr(lr_finder, "restored", nullcontext)
    assert trained(True) != trained(False)


def test_shuffled_labels_give_chance(domain):
    assert shuffled_labels(Recipe("bright", n_train=20, freezing="head", **QUICK), domain).passed


def test_true_labels_leak_past_the_shuffle(domain, monkeypatch):
    "Training reads labels from somewhere the shuffle does not reach."
    class Leaky(Domain):
        @property
        def labels(self): return domain.labels
    monkeypatch.setattr(gates, "_relabelled", lambda d, rows, labels: Leaky(d.name, d.items, d.classes, root=d.root))
    gate = shuffled_labels(Recipe("bright", n_train=40, freezing="head", **QUICK), domain)
    assert not gate.passed, gate.found


def test_training_images_are_scored(domain, monkeypatch):
    "The test rows are among the training rows: even shuffled labels are learned by heart."
    monkeypatch.setattr(fit_room, "draw_subset", lambda target, n, seed, balance, pool: np.arange(60, 120))
    gate = shuffled_labels(Recipe("bright", n_train=40, freezing="head", **QUICK), domain)
    assert not gate.passed, gate.found


def test_a_patient_in_two_splits(domain):
    items = domain.items.copy(); items.loc[119, "patient"] = "p0"
    with pytest.raises(InputError, match="p0"): Domain("bright", items, ("a", "b"), root=domain.root)
