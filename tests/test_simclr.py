"Sources that learned from the target's own images without their labels: made, told, allowed, refused, and better than random weights."
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ttl_nb.analysis.activations import extract_features
from ttl_nb.analysis.metrics import auc
from ttl_nb.analysis.source_choice import rank_sources
from ttl_nb.data.catalog import from_csv
from ttl_nb.data.domain import Domain
from ttl_nb.data.pixels import load_pixels
from ttl_nb.data.subset import draw_subset
from ttl_nb.errors import InputError
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import load_checkpoint
from ttl_nb.models.header import learned_blind, read_header
from ttl_nb.models.initial import draw_all, load_backbone
from ttl_nb.study.study import Study
from ttl_nb.train.fit import fit, image_ids, pretrain
from ttl_nb.train.learner import one_thread
from ttl_nb.train.recipe import Recipe
from ttl_nb.train.simclr import pretrain_simclr, unlabelled_rows

SIDE, QUICK = 32, dict(image_size=32, epochs=2, min_steps=0, batch_size=16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory)->Path:
    "Images whose class is their brightness, two of each patient; the last training image is a copy of a test image."
    folder, rng, y = tmp_path_factory.mktemp("images"), np.random.default_rng(0), np.tile([0, 0, 1, 1], 25)
    for i,c in enumerate(y): Image.fromarray(rng.normal(90 + 12*c, 30, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)).save(folder/f"{i}.png")
    (folder/"59.png").write_bytes((folder/"60.png").read_bytes())
    pd.DataFrame(dict(file=[f"{i}.png" for i in range(100)], label=np.array(["a", "b"])[y], patient_id=[f"p{i//2}" for i in range(100)],
                      split=["train"]*60 + ["test"]*40)).to_csv(folder/"labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def domain(folder)->Domain: return from_csv(folder/"labels.csv", name="bright")


@pytest.fixture(scope="module")
def source(domain): return pretrain_simclr(domain, **QUICK)


def test_no_copy_of_a_test_image_is_learned_from(domain, source):
    rows = unlabelled_rows(domain)
    assert sorted(rows) == list(range(59)) and source.recipe["n_train"] == 59
    assert not set(source.images) & set(image_ids(domain.items["file"][domain.items["split"] == "test"]))


def test_patients_take_turns(domain):
    assert len(set(domain.patients[unlabelled_rows(domain, 30)])) == 30 and unlabelled_rows(domain, 10).tolist() == unlabelled_rows(domain, 30)[:10].tolist()


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "mobilenet_v3_small", "resnet18"])
def test_any_network(domain, backbone):
    found = pretrain_simclr(domain, 24, backbone=backbone, **QUICK | dict(epochs=1))
    net = load_backbone(create_backbone(backbone, 2), found.state)
    assert np.isfinite(extract_features(net, np.zeros((2, SIDE, SIDE), np.uint8))).all()


def test_labels_in_a_table_change_nothing(folder, domain, source):
    table = pd.read_csv(folder/"labels.csv")
    table["label"] = np.random.default_rng(1).permutation(table["label"]); table.to_csv(folder/"mixed.csv", index=False)
    mixed = from_csv(folder/"mixed.csv", name="bright")
    assert mixed.hash != domain.hash and pretrain_simclr(mixed, **QUICK).hash == source.hash


def test_nobody_elses_draws(domain, source):
    import torch
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again = pretrain_simclr(domain, **QUICK)
    assert again.hash == source.hash and torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]


def test_a_study_takes_it_and_says_it(domain, source, tmp_path):
    quick = dict(image_size=SIDE, epochs=2, min_steps=0)
    study = Study(domain, dict(own=source, none=None), [20], ["head", "full"], 2, folder=tmp_path, **quick)
    study.run("inline")
    page = study.report().read_text()
    assert "bright, without labels" in page and len(study.results().rows()) == 8
    with pytest.raises(InputError, match="was trained on 59 of the target's own images"):
        Study(domain, dict(own=replace(source, recipe={})), [20], ["head"], 2, folder=tmp_path/"b", **quick)
    with pytest.raises(InputError, match="was trained on 61 of the target's own images"):
        Study(domain, dict(own=pretrain(domain, **QUICK)), [20], ["head"], 2, folder=tmp_path/"b", **quick)


def test_test_images_are_refused_with_and_without_labels(domain, tmp_path):
    whole = replace(domain, items=domain.items.assign(split="", patient=[f"q{i}" for i in range(len(domain))]))
    known = pretrain_simclr(whole, **QUICK)
    assert known.recipe["n_train"] == 100
    for target,says in ((domain, "of the target's test images"), (whole, "this target has no test set")):
        with pytest.raises(InputError, match=says): Study(target, dict(own=known), [20], ["head"], 2, folder=tmp_path, image_size=SIDE)


def test_ranked_without_leep(domain, source):
    found = rank_sources(domain, dict(own=[source]), 20, 2, SIDE)
    assert "LEEP" not in set(found.table[found.table.source == "own"].score.str.upper()) and {"own", "none"} <= set(found.table.source)


def test_every_plan_starts_from_it(domain, source):
    for freezing in ("head", "gradual", "lp_ft"):
        run = fit(Recipe("bright", source="own", image_size=SIDE, n_train=20, freezing=freezing, epochs=2, min_steps=0), domain, dict(own=source))
        assert run.facts["source"] == source.hash and np.isfinite(run.auc)
        assert all((run.initial[k] == v).all() for k,v in source.state.items())


def test_on_the_command_line(folder, tmp_path, ttl_nb):
    done = ttl_nb(tmp_path, "pretrain", folder/"labels.csv", "--out", "own.safetensors", "--method", "simclr", "--seeds", 2, "--epochs", 2, "--image-size", SIDE, "--half", "--no-flip")
    assert done.returncode == 0, done.stderr
    assert "no labels read" in done.stdout and "59 training images" in done.stdout and "AUC" not in done.stdout
    header = read_header(tmp_path/"own-0.safetensors")
    assert learned_blind(header["recipe"]) and header["recipe"]["view"]["flip"] is False and header["classes"] == [] and .4 < header["score"]["nearer"] <= 1
    assert load_checkpoint(tmp_path/"own-0.safetensors").hash != load_checkpoint(tmp_path/"own-1.safetensors").hash
    shared = ["--target", folder/"labels.csv", "--image-size", SIDE, "--n-train", 20, "--seeds", 2]
    found = ttl_nb(tmp_path, "study", *shared, "--source", "own=own-*.safetensors", "--source", "none", "--freezing", "head", "--folder", "out", "--engine", "inline")
    assert found.returncode == 0, found.stderr
    wrong = ttl_nb(tmp_path, "pretrain", folder/"labels.csv", "--out", "own.safetensors", "--method", "moco")
    assert wrong.returncode == 2 and "`--method` must be one of labels, simclr, got 'moco'" in wrong.stderr.replace("\n", " ")


def test_on_the_page(domain, tmp_path):
    "A picker's card says what it is, and a run starts from it."
    from ttl_nb.ui.offer import Offer, cards, checked_recipe
    pretrain_simclr(domain, file=tmp_path/"own.safetensors", **QUICK)
    offer = Offer({"bright": domain}, dict(own=[str(tmp_path/"own.safetensors")]), SIDE)
    card = cards(offer, "bright")[1]
    assert card["score"] == "learned from images without their labels (SimCLR)" and card["shares"] == "the target's own training images" and card["n_images"] == 59
    run = fit(checked_recipe(offer, dict(source="own", n_train=20, freezing="head")), domain, offer.sources)
    assert run.facts["source"] == load_checkpoint(tmp_path/"own.safetensors").hash


def neighbours_auc(train, labels, test, truth, k=15)->float:
    "AUC of the share of class 1 among the nearest training images, by cosine: no head is trained."
    a, b = ((v - train.mean(0))/np.linalg.norm(v - train.mean(0), axis=1, keepdims=True) for v in (train, test))
    return auc(truth, labels[np.argsort(-(b @ a.T), axis=1, kind="stable")[:,:k]].mean(1))


def test_learns_on_real_images(real_data, tmp_path):
    "From 400 films of children's chests without labels: views are known again, and probes and neighbours tell disease better than with random weights."
    target = from_csv(real_data/"chest_kermany/labels.csv", name="chest")
    pixels, rows = np.array(load_pixels(target, 48)), np.flatnonzero(target.items["split"] == "test")
    own = pretrain_simclr(target, 400, image_size=48, epochs=10, min_steps=0, pixels=pixels)
    assert own.score["nearer"] > own.score["nearer_before"] + .1 and own.score["same"] > own.score["other"] + .2, own.score
    study = Study(target, dict(own=own, none=None), [50], ["head"], 4, folder=tmp_path, image_size=48)
    study.gates = lambda: [] # Asked in another place
    found = study.run("inline").contrasts.set_index(["a", "b"]).loc[("own", "none")]
    assert found.low > 0, found
    few, nets = draw_subset(target, 200, 0, pool=target.splits()[0].train), [draw_all(create_backbone("resnet10"), 0), load_backbone(create_backbone("resnet10"), own.state)]
    with one_thread(): seen = [[extract_features(net, pixels[r]) for r in (few, rows)] for net in nets]
    by_neighbours = [neighbours_auc(a, target.labels[few], b, target.labels[rows]) for a,b in seen]
    assert by_neighbours[1] > by_neighbours[0] + .02, by_neighbours
