"Several sources at once under one head: in a run, in a study, on the command line, on the page."
import json, os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit, logit

from ttl_nb import cli
from ttl_nb.analysis.activations import extract_features
from ttl_nb.analysis.probe import fit_probe
from ttl_nb.data.catalog import from_csv
from ttl_nb.data.domain import Domain
from ttl_nb.data.pixels import load_pixels
from ttl_nb.errors import InputError
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import Checkpoint, save_checkpoint
from ttl_nb.models.initial import draw_all
from ttl_nb.models.ready import ready_source
from ttl_nb.study.gates import GateFailed, check_run
from ttl_nb.study.study import Study
from ttl_nb.train import fit as fit_module
from ttl_nb.train.fit import fit, lr_curve, pick_checkpoint, start_network
from ttl_nb.train.recipe import Recipe, canonical
from ttl_nb.train.several import fit_weights

SIDE, COMBINES = 32, ("stack", "average", "fit")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_table(folder, seed=0, n=120, shift=0):
    "A table of images whose class is their brightness, two images a patient."
    rng, y = np.random.default_rng(seed), np.repeat(np.tile([0, 1], n//4), 2)
    for i,c in enumerate(y): Image.fromarray(rng.normal(90 + 12*c, 30, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)).save(folder/f"{i}.png")
    return pd.DataFrame(dict(file=[f"{i}.png" for i in range(n)], label=np.array(["a", "b"])[y], patient_id=[f"p{i//2 + shift}" for i in range(n)],
                             split=["train"]*(n//2) + ["test"]*(n//2)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_table(folder).to_csv(folder/"labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def domain(folder)->Domain: return from_csv(folder/"labels.csv", name="bright")


def drawn(seed, backbone="resnet10", **more): return Checkpoint(draw_all(create_backbone(backbone), seed).state_dict(), backbone, ("a", "b"), SIDE, f"drawn{seed}", **more)
def mute(c): return replace(c, state={k: 0*v if k.startswith("stage4") else v for k,v in c.state.items()})


def sources(): return dict(left=[drawn(0), drawn(1)], right=[drawn(2), drawn(3)])
def recipe(combine="stack", **fields): return Recipe("bright", **(dict(source="left+right", combine=combine, freezing="head", image_size=SIDE, n_train=40) | fields))


# One run

def features_of(domain, rows, *checkpoints):
    pixels = load_pixels(domain, SIDE)[rows]
    return [extract_features(start_network(canonical(Recipe("bright", source="x", freezing="head", image_size=SIDE, input="grey")), 2, c, pixels), pixels) for c in checkpoints]


@pytest.mark.parametrize("seed", [0, 1])
def test_stack_is_a_probe_on_concatenated_features(domain, seed):
    "And seed 1 takes the second pretraining of each."
    found, s = check_run(fit(recipe(seed=seed), domain, sources())), sources()
    rows = found.train_rows
    x = np.concatenate(features_of(domain, rows, s["left"][seed], s["right"][seed]), 1)
    by_hand = fit_probe(x, domain.labels[rows], domain.patients[rows], seed=seed)
    np.testing.assert_array_equal(found.after.linear.weight.detach().numpy(), by_hand.weight.astype(np.float32))
    test = np.concatenate(features_of(domain, found.rows, s["left"][seed], s["right"][seed]), 1)
    np.testing.assert_allclose(found.scores[:,1], expit(np.diff(by_hand.logits(test), axis=1)[:,0]), atol=1e-5)


@pytest.mark.parametrize("combine", COMBINES)
def test_the_network_says_what_was_scored(domain, combine):
    found = check_run(fit(recipe(combine), domain, sources()))
    pixels = load_pixels(domain, SIDE)
    said = fit_module.predict(found.learner.model, pixels[found.rows], False, found.recipe)
    np.testing.assert_allclose(said, found.scores, atol=1e-5)
    again = fit(recipe(combine), domain, sources())
    assert again.scores.tolist() == found.scores.tolist() and again.recipe.id == found.recipe.id and again.facts == found.facts
    assert found.auc_ci.low < found.auc < found.auc_ci.high
    moved = [float((a - b).abs().max()) for (n, a),(_, b) in zip(found.after.state_dict().items(), found.before.state_dict().items()) if not n.startswith("head.")]
    assert max(moved) == 0


def test_average_is_the_mean_of_the_single_runs(domain):
    s = sources()
    logits = np.stack([logit(r.scores[:,1]) for r in (fit(recipe("none", source=name), domain, s) for name in s)])
    both, sure = fit(recipe("average"), domain, s), (abs(logits) < 8).all(0)
    np.testing.assert_allclose(both.scores[sure,1], expit(logits.mean(0)[sure]), atol=1e-3)
    assert sure.sum() > 20


def test_fit_trusts_what_knows_the_target_and_not_what_says_nothing(domain):
    s = dict(left=drawn(0), right=mute(drawn(2)))
    found = check_run(fit(recipe("fit"), domain, s))
    assert found.facts["weights"] == dict(left=1., right=0.)
    alone = fit(recipe("none", source="left"), domain, s)
    np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
    assert any("weights by target fit: left 1.00, right 0.00" in e["text"] for e in found.recording.since() if e["kind"] == "note")


def test_test_images_are_not_looked_at(domain, folder, tmp_path):
    "Other test images with shuffled labels: the same weights to the bit."
    table, rng = write_table(tmp_path), np.random.default_rng(5)
    test = (table["split"] == "test").to_numpy()
    table.loc[test, "label"] = rng.permutation(table.loc[test, "label"])
    for f in table["file"][test]: Image.fromarray(rng.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)).save(tmp_path/f)
    table.to_csv(tmp_path/"labels.csv", index=False)
    other = from_csv(tmp_path/"labels.csv", name="bright")
    for combine in COMBINES:
        a, b = (fit(recipe(combine), d, sources()) for d in (domain, other))
        assert a.train_rows.tolist() == b.train_rows.tolist() and a.scores.tolist() != b.scores.tolist()
        assert a.facts.get("weights") == b.facts.get("weights") and a.facts["trained"] == b.facts["trained"]


def test_patients_stay_together_in_inner_folds(monkeypatch):
    from ttl_nb.train import several
    seen, real = [], several.inner_folds
    def watched(labels, patients, seed=0):
        for train,test in (folds := real(labels, patients, seed)): seen.append(set(patients[train]) & set(patients[test]))
        return folds
    monkeypatch.setattr(several, "inner_folds", watched)
    rng, y, who = np.random.default_rng(0), np.repeat(np.tile([0, 1], 15), 2), np.repeat(np.arange(30), 2)
    x = [rng.normal(size=(60, 8)) + y[:,None] for _ in range(2)]
    fit_weights(x, y, who, several.alone(x, y, who))
    assert len(seen) == 15 and not any(seen) # Two sources and the one that knows nothing, five folds each


def test_steps_of_sgd_under_stack(domain):
    "As the playground learns: only the head moves, frozen features are kept, the range test works."
    r = recipe(head_solver="sgd", min_steps=40, epochs=1, augment="none")
    found = check_run(fit(r, domain, sources()))
    assert found.after.linear.weight.shape == (2, 512) and len(found.recording.series("batch", "loss")[0]) >= 40
    assert len(lr_curve(r, domain, sources(), steps=20).lrs) == 20
    assert np.isfinite(found.scores).all() and found.recipe.id != fit(recipe(), domain, sources()).recipe.id


def test_test_time_views(domain): assert fit(recipe("average", tta=3), domain, sources()).scores.shape == (60, 2)


@pytest.mark.parametrize("fields, says", [
    (dict(freezing="full"), "`freezing` 'full' does not go with several sources at once"), (dict(combine="none"), "say by `combine` how they come under one head"),
    (dict(source="left+lost"), "`source` must be one of none, left, right, got 'lost'"), (dict(source="left"), "needs several sources, joined by +"),
    (dict(combine="fit", head_solver="sgd"), "take lbfgs, or `combine` stack"), (dict(backbone="squeezenet1_1"), "source 'left' holds a resnet10, but `backbone` is 'squeezenet1_1'")], ids=str)
def test_what_cannot_be_meant_is_refused(domain, fields, says):
    with pytest.raises(InputError) as e: fit(recipe(**fields), domain, sources())
    assert says in str(e.value)


def test_networks_must_be_alike(domain):
    with pytest.raises(InputError, match="differ in their network: resnet10 \\(left\\), squeezenet1_1 \\(right\\)"): fit(recipe(), domain, dict(left=drawn(0), right=drawn(1, "squeezenet1_1")))
    with pytest.raises(InputError, match="way to read pixels: grey \\(left\\), xrv \\(right\\)"): fit(recipe(), domain, dict(left=drawn(0), right=drawn(1, input="xrv")))


# A study

@pytest.fixture(scope="module")
def studied(domain, tmp_path_factory):
    os.environ["TTL_NB_CACHE"], before = str(tmp_path_factory.mktemp("cache")), os.environ.get("TTL_NB_CACHE")
    computed, real = [], fit_module.extract_features
    study = Study(domain, sources() | {"left+right": None, "none": None}, [20, 40], ["head", "full"], 2, folder=tmp_path_factory.mktemp("study"), image_size=SIDE,
                  epochs=1, min_steps=0, combine=COMBINES)
    fit_module.extract_features = lambda *a: computed.append(1) or real(*a)
    try: results = study.run("inline")
    finally: fit_module.extract_features = real
    if before: os.environ["TTL_NB_CACHE"] = before
    return study, results, computed


def test_arms_of_a_study(studied):
    study, results, _ = studied
    names = ["left", "right", *[f"left+right {c}" for c in COMBINES], "none"]
    assert study.names == results.says["names"] == names and len(study) == 2*2*(3*2 + 3) == len(results.rows())
    assert study.left_out == ["source left+right has no `full`: several sources at once share one head, on features that stay as they are"]
    summary = results.summary().set_index(["source", "freezing", "n_train"])
    for c in COMBINES:
        row = summary.loc[(f"left+right {c}", "head", 40)]
        assert row["low"] < row["auc"] < row["high"] and row["pretrainings"] == 2 and row["seeds"] == 2
    asked = results.contrasts.query("a == 'left' and b == 'left+right fit'")
    assert set(asked["n_train"]) == {20, 40} and set(asked["reader"]) == {"checkpoint"}
    assert all(g["passed"] for g in results.gates if g["stops"] == "report")


def test_pretrainings_go_together(studied):
    study, results, _ = studied
    s = sources()
    for seed,r in study.grid:
        if r.combine != "none": assert pick_checkpoint(r, study.sources).members == tuple(study.sources[n][seed] for n in s) and r.checkpoint_hash == pick_checkpoint(r, study.sources).hash
    assert results.runs.query("source == 'left+right stack'")["checkpoint"].nunique() == 2


def test_features_are_computed_once_a_source(studied):
    "Single probes and several at once read what is kept; only random features (source none) are computed in a run."
    study, _, computed = studied
    assert len(computed) == sum(r.source == "none" and r.freezing == "head" for _,r in study.grid)


def test_what_is_said_of_it(studied):
    study, results, _ = studied
    weights = results.source_weights()
    assert set(weights["source"]) == {"left+right fit"} and np.allclose(weights.groupby("n_train")["mean"].sum(), 1) and len(weights) == 4
    page = study.report().read_text()
    for words in ("left+right stack", "drawn0 and drawn2; their features side by side under one head", "left+right fit at 40 images: weights of left", "rest on the images of all of them"): assert words in page, words
    assert "left and right: the logits of their own heads averaged" in study.export_html().read_text()


def test_a_finished_study_does_nothing_again(studied):
    study, _, _ = studied
    told = []
    study.run("inline", progress=lambda done, n, row: told.append((done, n, row)))
    assert told == [(len(study), len(study), None)]


def test_a_member_that_has_seen_the_target_is_refused(domain):
    seen = sources() | dict(right=drawn(2, images=fit_module.image_ids(domain.items["file"][:5])))
    with pytest.raises(InputError, match="source 'right' was trained on 5 of the target's own images"):
        Study(domain, seen | {"left+right": None}, [20], "head", 1, image_size=SIDE)


def test_a_member_that_knows_a_patient_stops_the_study(domain, tmp_path):
    knows = sources() | dict(right=drawn(2, patients=fit_module.patient_ids(domain, np.arange(4))))
    study = Study(domain, knows | {"left+right": None}, [20], "head", 2, folder=tmp_path, image_size=SIDE)
    with pytest.raises(GateFailed, match="source 'right' was trained on 2 of the target's patients"): study.run("inline")


@pytest.mark.parametrize("more, options, says", [
    ({"left+right": None}, dict(freezing="full"), "source 'left\\+right' is several at once, which go with the plan head alone"),
    ({"left+lost": None}, {}, "'lost' is not among the sources"), ({"left+left": None}, {}, "names a source twice"), ({"lost": None}, {}, "source 'lost' has no checkpoint"),
    ({}, dict(combine="fit"), "`combine` says how several sources"), ({"left+right": None}, dict(combine="mean"), "`combine` must be one of stack, average, fit"),
    ({"left+right": None}, dict(combine=["fit", "fit"]), "`combine` names fit twice")], ids=str)
def test_a_study_that_cannot_be_meant(domain, more, options, says):
    with pytest.raises(InputError, match=says): Study(domain, sources() | more, **(dict(n_train=[20], freezing=["head"], seeds=1, image_size=SIDE) | options))


# The command line

def test_on_the_command_line(folder, tmp_path, ttl_nb):
    for name,found in sources().items():
        for i,c in enumerate(found): save_checkpoint(c, tmp_path/f"{name}-{i}.safetensors")
    def tell(*words): return ttl_nb(tmp_path, *words)
    own = ["--source", "left=left-*.safetensors", "--source", "right=right-*.safetensors"]
    shared = ["study", "--target", folder/"labels.csv", "--image-size", SIDE, "--n-train", 20, "--seeds", 2, "--freezing", "head", "--engine", "inline"]
    done = tell(*shared, *own, "--source", "left+right", "--combine", "stack", "--combine", "fit", "--folder", "out", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    assert "left+right stack" in done.stdout and "left+right fit" in done.stdout and "report:" in done.stdout
    assert {r["source"] for r in json.loads((tmp_path/"rows.json").read_text())} == {"left", "right", "left+right stack", "left+right fit"}
    with pytest.raises(InputError, match="scores rank sources one by one"): cli.rank(folder/"labels.csv", ["left=" + str(tmp_path/"left-*.safetensors"), "right=" + str(tmp_path/"right-*.safetensors"), "left+right"])
    with pytest.raises(InputError, match="'right' is not one of the others"): cli.parse_sources(["left=" + str(tmp_path/"left-*.safetensors"), "left+right"])
    with pytest.raises(InputError, match="are always offered"): cli.playground(None, ["phantom-limb", "phantom-chest", "phantom-limb+phantom-chest"])


# The page

def test_on_the_page():
    "The last card: the plan becomes linear probing, another plan is refused in words, the link says all of it."
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui.playground import Playground
    offer = phantom_offer(["phantom-hernia"], 240)
    page = Playground(offer=offer, training=dict(epochs=1, min_steps=20))
    assert page.source.names[-1] == offer.several and page.ranking.titles[offer.several] == "All sources at once"
    page.source.value = offer.several
    assert page.stages.value == "head" and "linear probing" in page.stages.notice and page.stages._stages[0]["size"][0] == 96
    assert (page.recipe.combine, page.recipe.members) == ("stack", tuple(offer.sources)) and page.stages.learning == 2*(3*256 + 1)
    again = Playground(offer=offer, link=page.bar.fragment, training=dict(epochs=1, min_steps=20))
    assert again.recipe.id == page.recipe.id and again.source.value == offer.several
    page.stages.value = "full"
    assert "does not go with several sources at once" in page.bar.text and "take `freezing` head, or one source" in str(page.fit._message)
    page.source.value = "phantom-chest"
    assert page.recipe.combine == "none" and page.stages._stages[0]["size"][0] == 32
    page.close(); again.close()


def test_live_on_the_page():
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui.playground import Playground
    offer = phantom_offer(["phantom-hernia"], 240)
    page = Playground(offer=offer, training=dict(epochs=1, min_steps=12))
    page.source.value, page.size.value = offer.several, 20
    page.fit.start(); assert page.job.wait(120) == "done", page.job.traceback
    page.tick()
    result = page.job.result
    assert result["recipe"]["combine"] == "stack" and len(page.job.recording.series("batch", "loss")[0]) >= 12
    assert page.board.rows[0]["source"] == offer.several and {s for s,v in result["stages"].items() if v["weights"]} == {"head"}
    page.close()


# Real images

def test_each_learns_on_real_images(real_data):
    "From simulated objects, limbs and chests to a hospital's chests: the lower end of the interval is far above chance."
    target, s = from_csv(real_data/"chest_kermany/labels.csv", name="chest"), {name: ready_source(f"phantom-{name}") for name in ("natural", "limb", "chest")}
    for combine in COMBINES:
        run = check_run(fit(Recipe("chest", source="+".join(s), combine=combine, freezing="head", n_train=100, image_size=96), target, s))
        assert run.auc_ci.low > .75, (combine, run)
