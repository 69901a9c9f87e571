"Rates that are measured (Auto-RGN) and weights that are held back (L2-SP) beside every plan, schedule, backbone and start."
import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from combinations import check
from PIL import Image

from ttl_nb.data.catalog import from_csv
from ttl_nb.data.domain import Domain
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import Checkpoint, save_checkpoint, state_hash
from ttl_nb.models.initial import draw_all
from ttl_nb.models.ready import ready_source
from ttl_nb.models.stages import STAGES
from ttl_nb.study.gates import check_run
from ttl_nb.study.study import Study
from ttl_nb.train.fit import fit, lr_curve
from ttl_nb.train.freezing import PLANS
from ttl_nb.train.lr_finder import restored
from ttl_nb.train.recipe import Recipe

SIDE = 32
BOTH = dict(lr_rule="auto_rgn", regulariser="l2_sp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A table of images whose class is their brightness."
    folder, rng, y = tmp_path_factory.mktemp("images"), np.random.default_rng(0), np.tile([0, 1], 60)
    for i,c in enumerate(y): Image.fromarray(rng.normal(90 + 12*c, 30, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)).save(folder/f"{i}.png")
    pd.DataFrame(dict(file=[f"{i}.png" for i in range(120)], label=np.array(["a", "b"])[y], patient_id=[f"p{i}" for i in range(120)],
                      split=["train"]*60 + ["test"]*60)).to_csv(folder/"labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def domain(folder)->Domain: return from_csv(folder/"labels.csv", name="bright")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path_factory.mktemp("cache")))


def source(backbone="resnet10")->Checkpoint: return Checkpoint(draw_all(create_backbone(backbone), 0).state_dict(), backbone, ("a", "b"), SIDE, "drawn")


def run(domain, options=None, **fields):
    recipe = Recipe("bright", **(dict(source="s", image_size=SIDE, n_train=40, epochs=4, min_steps=0, head_solver="sgd", augment="none") | fields))
    return check_run(fit(recipe, domain, dict(s=source(recipe.backbone)), **(options or {})))


def weights(run)->str: return state_hash(run.after.state_dict())


@pytest.mark.parametrize("backbone, init", [("resnet10", "pretrained"), ("resnet10", "prefix:stage2"), ("squeezenet1_1", "scratch"), ("mobilenet_v3_small", "mean_var")])
def test_two_steps(backbone, init):
    "With squeezenet from scratch there are biases of zero, which have no relative gradient."
    for plan,schedule in product(PLANS, ("one_cycle", "plateau")): check(backbone, init, plan, schedule, **BOTH)


@pytest.mark.parametrize("fields", [dict(freezing="stage4"), dict(freezing="gradual", epochs=12), dict(freezing="lp_ft"), dict(freezing="head"),
    dict(freezing="stage3", augment="affine", views=2), dict(freezing="stage4", max_lr="find"), dict(freezing="stage4", schedule="plateau", max_lr=.03)],
    ids=lambda f: " ".join(map(str, f.values())))
def test_what_frozen_stages_make_is_kept_as_ever(domain, fields):
    kept, computed = (run(domain, dict(keep=keep) if keep is None else {}, **BOTH, **fields) for keep in (None, "usual"))
    assert weights(kept) == weights(computed) and kept.scores.tolist() == computed.scores.tolist()
    assert kept.recording.series("share", "share") == computed.recording.series("share", "share")


@pytest.mark.parametrize("fields", [{}, dict(augment="affine", mixup=.4), dict(optimiser="adamw", weight_decay=.1), dict(optimiser="sgd"), dict(batch_norm="eval"),
    dict(class_weights="balanced"), dict(precision="bfloat16"), dict(freezing="gradual:epoch")], ids=str)
def test_each_changes_the_weights_and_repeats_to_the_bit(domain, fields):
    found = [weights(run(domain, **fields, **more)) for more in ({}, dict(lr_rule="auto_rgn"), dict(regulariser="l2_sp"), BOTH)]
    assert len(set(found)) == 4 and weights(run(domain, **fields, **BOTH)) == found[3]


def test_the_same_images_in_the_same_order(domain):
    "Measuring ahead draws nothing: the first step of both sees the same batch from the same weights."
    plain, measured = (run(domain, augment="affine", **more) for more in (dict(lr_ratio=1.), dict(lr_rule="auto_rgn")))
    assert plain.recording.series("batch", "loss")[1][0] == measured.recording.series("batch", "loss")[1][0]
    assert plain.train_rows.tolist() == measured.train_rows.tolist() and plain.recording.series("batch", "mom") == measured.recording.series("batch", "mom")


def test_batch_norm_terms_stay(domain):
    affine = lambda r: {s: r.recording.series("stage", "affine", stage=s)[1][-1] for s in STAGES}
    assert not any(affine(run(domain, lr_rule="auto_rgn")).values()) and all(v for s,v in affine(run(domain)).items() if s != "head")


def test_weights_stay_nearer(domain):
    "Where they moved most, with the recipe's strength, over a training of 120 steps."
    far = [[r.recording.series("stage", "moved", stage=s)[1][-1] for s in ("stage3", "stage4")] for r in (run(domain, epochs=40, **more) for more in ({}, dict(regulariser="l2_sp")))]
    assert all(b < a for a,b in zip(*far)), far


def test_range_test_leaves_no_trace(domain):
    r = run(domain, **BOTH)
    r.learner.opt.share({}) # What another training may have left
    before = [dict(g, params=None) for g in r.learner.opt.opt.param_groups]
    with restored(r.learner): r.learner.opt.share({p: .5 for p in r.after.parameters()})
    assert [dict(g, params=None) for g in r.learner.opt.opt.param_groups] == before
    recipe = Recipe("bright", source="s", image_size=SIDE, n_train=40, augment="none")
    curves = [lr_curve(Recipe(**(vars(recipe) | more)), domain, dict(s=source()), steps=40) for more in (dict(lr_ratio=1.), BOTH, BOTH)]
    assert curves[1] == curves[2] and curves[0].lrs == curves[1].lrs and curves[0].losses != curves[1].losses


def test_in_a_study(domain, tmp_path):
    study = Study(domain, dict(s=source(), none=None), [20], ["head", "full"], 2, folder=tmp_path, image_size=SIDE, epochs=2, min_steps=0, **BOTH)
    results = study.run("inline")
    recipes = [vars(r) for _,r in study.grid]
    assert {(r["freezing"], r["lr_rule"], r["regulariser"]) for r in recipes} == {("head", "groups", "none"), ("full", "auto_rgn", "l2_sp")}
    page = study.report().read_text()
    assert "measured before every epoch (Auto-RGN)" in page and "held back towards the source" in page and len(results.rows()) == 8


def test_on_the_command_line(folder, tmp_path, ttl_nb):
    save_checkpoint(source(), tmp_path/"s.safetensors")
    def tell(*words): return ttl_nb(tmp_path, *words)
    shared = ["--target", folder/"labels.csv", "--source", f"s={tmp_path/'s.safetensors'}", "--image-size", SIDE, "--n-train", 20, "--seeds", 1, "--lr-rule", "auto_rgn", "--regulariser", "l2_sp"]
    done = tell("study", *shared, "--freezing", "full", "--epochs", 2, "--engine", "inline", "--folder", "out", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path/"out"/"study.json").read_text())["recipe"]["lr_rule"] == "auto_rgn"
    assert (found := tell("lr-find", *shared)).returncode == 0, found.stderr
    wrong = tell("study", *shared[:-1], "l2")
    assert wrong.returncode == 2 and "`regulariser` must be one of none, l2_sp, got 'l2'" in wrong.stderr.replace("\n", " ")


def test_on_the_page():
    "Picked on the playground, they stand in the recipe and in the link, and an example puts them back."
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui.playground import Playground
    offer = phantom_offer(["phantom-hernia"], 240)
    page = Playground(offer=offer)
    assert "lr_rule" not in page.bar.fragment and "regulariser" not in page.bar.fragment
    page.stages.lr_rule, page.stages.regulariser = BOTH.values()
    assert (page.recipe.lr_rule, page.recipe.regulariser) == ("auto_rgn", "l2_sp")
    again = Playground(offer=offer, link=page.bar.fragment)
    assert again.recipe.id == page.recipe.id and (again.stages.lr_rule, again.stages.regulariser) == ("auto_rgn", "l2_sp")
    again.bar.preset = 0
    assert (again.stages.lr_rule, again.recipe.regulariser) == ("groups", "none")
    again.restore("lr_rule=%22fastest%22"); assert "could not be opened" in again.bar.text
    page.close(); again.close()


@pytest.mark.parametrize("more", [dict(lr_rule="auto_rgn"), pytest.param(dict(regulariser="l2_sp"), marks=pytest.mark.slow)], ids=str)
def test_each_learns_on_real_images(real_data, more):
    "From simulated chests to a hospital's: the lower end of the interval is far above chance, and the loss halves."
    target = from_csv(real_data/"chest_kermany/labels.csv", name="chest")
    run = check_run(fit(Recipe("chest", source="s", n_train=100, image_size=96, augment="none", **more), target, dict(s=ready_source("phantom-chest"))))
    loss = run.recording.series("batch", "loss")[1]
    assert run.auc_ci.low > .75 and np.mean(loss[-20:]) < .5*np.mean(loss[:20]), (run, np.mean(loss[:20]), np.mean(loss[-20:]))
