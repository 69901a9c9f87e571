"""The ten faults of the experiment that this toolkit is named after, each planted in a copy of a small study, each caught by a gate that names it.

A fault is put into the code (or into the data, or the plan) that a study runs on, never into what a run says of itself."""
import copy, json, shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ttl_nb.data import catalog
from ttl_nb.data.domain import Domain
from ttl_nb.models import initial
from ttl_nb.study import study as study_room
from ttl_nb.study.gates import GateFailed, stop
from ttl_nb.study.report import write_report
from ttl_nb.study.results import Results
from ttl_nb.study.store import Store
from ttl_nb.study.study import Study
from ttl_nb.train import batches, fit as fit_room, learner as learner_room, lr_finder, recipe as recipe_room
from ttl_nb.train.batches import PixelDataset
from ttl_nb.train.fit import pretrain

QUICK = dict(image_size=16, epochs=1, min_steps=20)


def striped(folder, name, n=120, strength=20)->Domain:
    "Noise in which every other row of a class is brighter."
    (folder/name).mkdir()
    rng, y = np.random.default_rng(len(name)), np.tile([0, 1], n//2)
    for i,c in enumerate(y):
        image = rng.normal(100, 30, (16, 16)); image[::2] += strength*c
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder/name/f"{i}.png")
    items = pd.DataFrame(dict(file=[str(folder/name/f"{i}.png") for i in range(n)], label=np.array(["no", "yes"])[y],
                              patient=[f"{name}{i}" for i in range(n)], split=np.where(np.arange(n) < n*.6, "train", "test")))
    return Domain(name, items, ("no", "yes"), root=folder/name)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTL_NB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def target(tmp_path_factory)->Domain: return striped(tmp_path_factory.mktemp("data"), "target")


@pytest.fixture(scope="module")
def chest(tmp_path_factory)->Domain: return striped(tmp_path_factory.mktemp("data"), "chest", 160, 30)


@pytest.fixture(scope="module")
def arms(chest)->dict: return dict(chest=pretrain(chest, max_images=40, **QUICK), none=None)


def plan(target, arms, folder, **changes)->Study:
    "The study that faults are planted in."
    return Study(target, arms, folder=folder, **(dict(n_train=[10], freezing=["full", "gradual"], seeds=2) | QUICK | changes))


def answer(study, name): return next(g for g in study.plan_gates() if g.name == name)


def caught(study, name:str, found:str=""):
    "The study stops, the gate says why, its folder keeps the answer, and nothing can be made of it."
    with pytest.raises(GateFailed, match=f"gate '{name}' failed.*{found}"): study.run(engine="inline")
    says = [g for g in json.loads((study.folder/"gates.json").read_text()) if not g["passed"]]
    assert [g["name"] for g in says] == [name] and says[0]["stops"] == "report"
    with pytest.raises(GateFailed, match=f"no report: gate '{name}' failed"): study.report()
    with pytest.raises(GateFailed, match=f"gate '{name}' failed"): stop(study.results().gates, "verdict")


@pytest.fixture(scope="module")
def honest(target, arms, tmp_path_factory)->Study:
    "The study without a fault."
    study = plan(target, arms, tmp_path_factory.mktemp("honest"))
    study.run(engine="inline")
    return study


def test_without_a_fault_every_gate_says_yes(honest):
    gates = honest.results().gates
    assert all(g["passed"] for g in gates), gates
    stop(gates, "verdict")
    assert {g["name"] for g in gates} == {
        "no patient in two splits", "no target patient in a source", "no blank was read as a positive", "arms share normalisation, learning-rate policy and budget",
        "sources are of one size", "more than one seed", "every run has its own weights", "every run has its own scores", "a network is like itself", "shuffled labels give chance"}
    html = honest.report().read_text()
    assert all(g["name"] in html for g in gates) and "No claim can be judged" not in html


def swap(monkeypatch, mine, other, in_place:bool):
    "Arms of which `mine` is true are scored with the trained network of the arm of which `other` is, loaded into theirs or beside it."
    score, kept = fit_room.predict, {}
    def swapped(net, pixels, multi_label, recipe):
        key = recipe.source, recipe.subset_seed
        if other(recipe): kept[key] = copy.deepcopy(net.state_dict())
        if mine(recipe):
            net = net if in_place else copy.deepcopy(net)
            net.load_state_dict(kept[key])
        return score(net, pixels, multi_label, recipe)
    monkeypatch.setattr(fit_room, "predict", swapped)


@pytest.mark.parametrize("in_place, gate, found", [(True, "evaluated weights are the trained ones", "chest, gradual, N = 10, seed 0: trained"), (False, "every run has its own scores", "share their scores")])
def test_1_gradual_unfreezing_is_evaluated_with_another_arms_checkpoint(in_place, gate, found, target, arms, tmp_path, monkeypatch):
    "The headline arm loads the checkpoint of plain fine-tuning."
    swap(monkeypatch, lambda r: r.freezing == "gradual", lambda r: r.freezing == "full", in_place)
    caught(plan(target, arms, tmp_path), gate, found)


def test_2_mean_var_takes_the_mean_for_the_standard_deviation(target, arms, tmp_path, monkeypatch):
    "`normal_(mean, mean)`, as published."
    monkeypatch.setitem(initial._REDRAWS, "mean_var", lambda w, g: w.mean() + w.mean().abs()*torch.randn(w.shape, generator=g))
    caught(plan(target, arms, tmp_path, init=["pretrained", "mean_var", "scratch"], freezing=["full"]),
           "weights started as said", "chest mean_var, full, N = 10, seed 0: 'stem.* standard deviation .* instead of")


@pytest.mark.parametrize("in_place, gate", [(True, "evaluated weights are the trained ones"), (False, "every run has its own scores")])
def test_3_mean_var_is_evaluated_with_the_pretrained_arms_checkpoint(in_place, gate, target, arms, tmp_path, monkeypatch):
    swap(monkeypatch, lambda r: r.init == "mean_var", lambda r: r.init == "pretrained", in_place)
    caught(plan(target, arms, tmp_path, init=["pretrained", "mean_var", "scratch"], freezing=["full"]), gate)


def test_4_scratch_learns_at_a_ninth_of_the_rate(target, arms, tmp_path, monkeypatch):
    "Random early layers get lr/9: in the plan, and where the plan is right, in the optimiser."
    with monkeypatch.context() as patch:
        patch.setattr(recipe_room, "random_early", lambda init: False)
        caught(plan(target, arms, tmp_path/"planned"), "arms share normalisation, learning-rate policy and budget", "`lr_ratio` 3 slows the random early layers of none")
    monkeypatch.setattr(fit_room, "shares", lambda recipe: [1/9, 1/3, 1.])
    caught(plan(target, dict(none=None), tmp_path/"alone", freezing=["full"]),
           "rates and momentum followed the schedule", "none, full.*group rates are .0.1111, 0.3333, 1.0. of the head's instead of .1.0, 1.0, 1.0.")


def test_4_scratch_has_other_normalisation(target, arms, tmp_path, monkeypatch):
    monkeypatch.setattr(study_room, "_none_input", lambda sources: "unit")
    caught(plan(target, arms, tmp_path), "arms share normalisation, learning-rate policy and budget", "none reads pixels as unit, chest as grey")


def test_4_scratch_has_another_budget(target, arms, tmp_path, monkeypatch):
    "The source's arms get twice the steps; nothing in their recipes says so."
    learn = fit_room.train_steps
    monkeypatch.setattr(fit_room, "train_steps", lambda recipe, *args, **kw: learn(replace(recipe, min_steps=40) if recipe.source == "chest" else recipe, *args, **kw))
    caught(plan(target, arms, tmp_path), "arms share normalisation, learning-rate policy and budget", "at 10 images there were 40 steps .chest. and 20 steps .none.")


def test_5_source_size_is_confounded_with_anatomy(target, chest, tmp_path):
    "172,000 chest radiographs against 37,000 bones: scores may be shown, with a caution; no claim about anatomy can be judged."
    uneven = dict(chest=pretrain(chest, max_images=80, **QUICK), bone=pretrain(striped(tmp_path, "bone", 60, 40), max_images=20, **QUICK))
    study = plan(target, uneven, tmp_path/"study", freezing=["head"])
    gates = study.run(engine="inline").gates
    with pytest.raises(GateFailed, match="no verdict: gate 'sources are of one size' failed: chest: 80 images; bone: 20 images"): stop(gates, "verdict", "no verdict: ")
    html = study.report().read_text()
    assert "No claim can be judged by this study: gate ‘sources are of one size’ says no" in html and "may be one of size" in html


def test_6_one_seed(target, arms, tmp_path):
    study = plan(target, arms, tmp_path, seeds=1, freezing=["full"])
    gates = study.run(engine="inline").gates
    with pytest.raises(GateFailed, match="gate 'more than one seed' failed: one seed"): stop(gates, "verdict")
    assert "No claim can be judged by this study: gate ‘more than one seed’ says no" in study.report().read_text()
    contrasts = study.results().contrasts
    assert set(contrasts["verdict"]) == {"open: one seed"}


def test_7_a_validation_set_larger_than_n_decides(target, arms, tmp_path, monkeypatch):
    "Every image that was left out decides when the rate falls, for ten images that are learned from."
    def beside(recipe, target, rows, heldout, pixels): return [PixelDataset(pixels[r], target.labels[r]) for r in (rows, heldout)]
    monkeypatch.setattr(fit_room, "_datasets", beside)
    caught(plan(target, arms, tmp_path, schedule="plateau"), "no validation images beside the N", "48 validation images decided .plateau. and 10 were learned from, where N is 10")


def test_8_momentum_is_written_to_a_key_that_nobody_reads(target, arms, tmp_path, monkeypatch):
    write = learner_room._Optimiser._set_hyper
    def elsewhere(self, k, v):
        if k != "mom": return write(self, k, v)
        for group,value in zip(self.opt.param_groups, v): group["momentum_"] = value
    monkeypatch.setattr(learner_room._Optimiser, "_set_hyper", elsewhere)
    caught(plan(target, arms, tmp_path), "rates and momentum followed the schedule", "momentum stayed within")


def test_9_the_random_crop_takes_the_same_corner(target, arms, tmp_path, monkeypatch):
    draw = batches.affine_matrices
    def cornered(n, g, *args, **kw):
        found = draw(n, g, *args, **kw)
        found[:,:,2] = -.1
        return found
    monkeypatch.setattr(batches, "affine_matrices", cornered)
    caught(plan(target, arms, tmp_path), "shifts vary from image to image", r"0.0. and 0.0. without signs., where 0.46 .0.23. are expected")


def chexpert(root, n=40):
    "A small CheXpert: every third report says nothing of an oedema, and every fifth nothing of an atelectasis."
    rng, labels = np.random.default_rng(0), list(catalog.CHEXPERT_LABELS)
    for split,first in (("train", 0), ("valid", 1000)):
        rows = []
        for i in range(n):
            file = f"{split}/patient{first + i:05d}/study1/view1_frontal.jpg"
            (root/file).parent.mkdir(parents=True)
            Image.fromarray(rng.integers(60, 180, (16, 16), dtype=np.uint8)).save(root/file)
            cells = [f"{(i//(k + 1)) % 2}.0" for k in range(5)]
            if i % 3 == 0: cells[labels.index("Edema")] = ""
            if i % 5 == 0: cells[labels.index("Atelectasis")] = ""
            rows.append(f"CheXpert-v1.0-small/{file},Female,60,Frontal,AP,,{','.join(cells)}")
        (root/f"{split}.csv").write_text("\n".join(["Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding," + ",".join(labels), *rows]))
    return root


def test_10_blanks_are_imputed_as_positives(target, tmp_path, monkeypatch):
    "Of two labels, in the source: what the table said nothing of is taken for present."
    root, read = chexpert(tmp_path/"chexpert"), catalog._observation
    right = pretrain(catalog.chexpert(root), max_images=20, **QUICK)
    assert ("Edema", "blank", "negative", 28) in right.imputed
    assert answer(plan(target, dict(chexpert=right), tmp_path/"right"), "no blank was read as a positive").passed
    def imputed(cells, uncertain, file): return read(cells.replace("", "1.0") if cells.name in ("Edema", "Atelectasis") else cells, uncertain, file)
    monkeypatch.setattr(catalog, "_observation", imputed)
    study = plan(target, dict(chexpert=pretrain(catalog.chexpert(root), max_images=20, **QUICK)), tmp_path/"study")
    caught(study, "no blank was read as a positive", "28 blank cells of Edema are positive in source 'chexpert'; 16 blank cells of Atelectasis are positive")
    assert not Store(study.folder).ids()


def test_a_target_patient_in_a_source(target, arms, tmp_path):
    "Another image of a patient of the target, under another name: no file is the same, the patient is."
    leaked = replace(arms["chest"], patients=(*arms["chest"].patients, target.hashed_patients[0][:12]))
    study = plan(target, dict(chest=leaked), tmp_path)
    caught(study, "no target patient in a source", "source 'chest' was trained on 1 of the target's patients")
    assert not Store(study.folder).ids()
    found = answer(plan(target, dict(chest=leaked), tmp_path/"said", other_people="chest"), "no target patient in a source")
    assert found.passed and "chest is said to number other people" in found.found


def test_training_patients_are_scored(target, arms, tmp_path, monkeypatch):
    "The test rows are drawn into the training set."
    monkeypatch.setattr(fit_room, "draw_subset", lambda t, n, seed, balance, pool: np.arange(len(t))[-n:])
    caught(plan(target, arms, tmp_path), "no patient in training and test", "10 patients are in both")


def test_the_range_test_leaves_something_behind(target, arms, tmp_path, monkeypatch):
    from contextlib import nullcontext
    monkeypatch.setattr(lr_finder, "restored", nullcontext)
    caught(plan(target, arms, tmp_path, max_lr="find"), "the range test left no trace", "it changed .*weights")


def test_a_folder_written_before_gates_said_what_they_stop(honest, tmp_path):
    folder = shutil.copytree(honest.folder, tmp_path/"old")
    (folder/"gates.json").write_text(json.dumps([dict(name="every run has its own weights", passed=False, found="runs a, b share their weights")]))
    with pytest.raises(GateFailed, match="no report: gate 'every run has its own weights' failed"): write_report(Results(folder))
