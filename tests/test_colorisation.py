"A module that learns to colour grey before an RGB network (Morra 2020), beside every plan, rule and start, in studies, files, the command line and the page."
import json, os

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ttl_nb.data.catalog import from_csv
from ttl_nb.data.phantom import phantom
from ttl_nb.data.pixels import load_pixels
from ttl_nb.errors import InputError
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, state_hash
from ttl_nb.models.colour import PREFIX, colour_of, strength
from ttl_nb.models.imported import from_file
from ttl_nb.models.initial import draw_all
from ttl_nb.models.stages import INPUTS, STAGES
from ttl_nb.study.gates import check_run
from ttl_nb.study.study import Study
from ttl_nb.train.fit import as_checkpoint, fit, lr_curve, start_network
from ttl_nb.train.freezing import PLANS, FreezingPlan
from ttl_nb.train.learner import one_thread
from ttl_nb.train.recipe import Recipe, canonical

SIDE, NAME = 32, "phantom-hernia"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    os.environ["TTL_NB_CACHE"] = str(tmp_path_factory.mktemp("phantoms"))
    return phantom(NAME, 160, size=SIDE)


@pytest.fixture(scope="module")
def pixels(target): return load_pixels(target, SIDE)


def photos(backbone="resnet10", input="imagenet", **more)->Checkpoint:
    "Weights that read three channels; drawn, since what counts here is not what they know."
    net = draw_all(create_backbone(backbone, input=input, **more), 3)
    return Checkpoint(net.state_dict(), backbone, ("a", "b"), 0, "photos", input=input)


def run(target, pixels, checkpoint=None, keep="usual", **fields):
    checkpoint = checkpoint or photos(fields.get("backbone", "resnet10"))
    recipe = Recipe(NAME, **(dict(source="photos", n_train=24, image_size=SIDE, epochs=4, min_steps=0, augment="none", colour="learned") | fields))
    return check_run(fit(recipe, target, dict(photos=checkpoint), pixels, **(dict(keep=keep) if keep is None else {})))


def weights(run)->str: return state_hash(run.after.state_dict())


def moved(run)->list[str]:
    start, end = run.initial, run.after.state_dict()
    names = dict(run.after.named_parameters())
    return sorted({"colour" if k.startswith(PREFIX) else k.split(".")[0] for k in names if not torch.equal(start[k], end[k])})


@pytest.mark.parametrize("backbone, input", [("resnet10", i) for i,c in INPUTS.items() if c.channels == 3] + [("squeezenet1_1", "imagenet"), ("mobilenet_v3_small", "imagenet")])
def test_it_starts_as_grey_in_three_channels(backbone, input, pixels):
    x = torch.from_numpy(np.array(pixels[:8]))[:,None].float()/255
    def out(**more):
        net = start_network(canonical(Recipe(NAME, source="photos", backbone=backbone, image_size=SIDE, input=input, **more)), 2, photos(backbone, input), pixels[:8])
        with one_thread(), torch.no_grad(): return net.eval()(x), net.features(x)
    for grey,coloured in zip(out(), out(colour="learned")): torch.testing.assert_close(grey, coloured, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("plan", PLANS)
def test_it_learns_under_every_plan_and_what_is_frozen_stands_still(plan, target, pixels):
    r = run(target, pixels, freezing=plan, epochs=8)
    p = FreezingPlan(plan, r.recipe.batch_norm, 8)
    assert moved(r) == sorted({"colour", *(s for start,stages in p.phases for s in stages)})
    still = [s for s in STAGES if not any(s in stages for _,stages in p.phases)]
    start, end = r.initial, r.after.state_dict()
    assert all(torch.equal(start[k], v) for k,v in end.items() if k.split(".")[0] in still), "a weight or a statistic of a frozen stage moved"
    assert min(r.recording.series("stage", "grad", stage="colour")[1]) > 0 and r.recording.series("stage", "moved", stage="colour")[1][-1] > 0


@pytest.mark.parametrize("fields", [dict(freezing="head"), dict(freezing="stage3"), dict(freezing="gradual", epochs=12), dict(freezing="stage4", augment="affine", views=2)],
                         ids=lambda f: " ".join(map(str, f.values())))
def test_nothing_is_kept_and_that_is_said(fields, target, pixels):
    kept, computed = (run(target, pixels, keep=keep, **fields) for keep in ("usual", None))
    assert weights(kept) == weights(computed) and kept.scores.tolist() == computed.scores.tolist()
    notes = [e["text"] for e in kept.recording.since() if e["kind"] == "note"]
    assert sum("computed in every step: what colours the images" in n for n in notes) == 1 and not any("computed once" in n for n in notes)


@pytest.mark.parametrize("fields", [{}, dict(lr_rule="auto_rgn"), dict(regulariser="l2_sp"), dict(lr_rule="auto_rgn", regulariser="l2_sp", freezing="gradual", epochs=5),
    dict(schedule="plateau"), dict(max_lr="find"), dict(augment="affine", mixup=.4), dict(optimiser="sgd"), dict(batch_norm="live"), dict(precision="bfloat16"),
    dict(freezing="freeze_embed"), dict(tta=3, augment="affine"), dict(init="mean_var"), dict(init="prefix:stage2"), dict(source="none", input="imagenet")], ids=str)
def test_beside_everything_else_it_repeats_to_the_bit(fields, target, pixels):
    fields = dict(freezing="stage3", epochs=2) | fields if fields.get("source") != "none" else fields
    coloured, again, grey = (run(target, pixels, **fields, **more) for more in ({}, {}, dict(colour="replicate")))
    assert weights(coloured) == weights(again) != weights(grey) and "colour" in moved(coloured) and "colour" not in moved(grey)
    assert coloured.train_rows.tolist() == grey.train_rows.tolist() and coloured.recipe.id == again.recipe.id != grey.recipe.id


def test_held_back_it_stays_nearer_to_grey(target, pixels):
    free, held = (strength(run(target, pixels, freezing="head", epochs=20, max_lr=1e-2, **more).after.normalise.colour) for more in ({}, dict(regulariser="l2_sp")))
    assert 0 < held < free


def test_a_source_brings_its_colours(target, pixels, tmp_path):
    r = run(target, pixels, freezing="full")
    save_checkpoint(as_checkpoint(r), tmp_path/"c.safetensors")
    c = load_checkpoint(tmp_path/"c.safetensors")
    assert c.hash == as_checkpoint(r).hash and (c.input, colour_of(c.state), c.recipe["colour"]) == ("imagenet", "kept", "learned")
    x = torch.from_numpy(np.array(pixels[:8]))[:,None].float()/255
    for init in ("pretrained", "mean_var", "prefix:stage1"):
        next_ = run(target, pixels, c, freezing="head" if init == "pretrained" else "full", init=init, seed=1)
        brought = next_.before.normalise.colour.state_dict()
        assert all(torch.equal(v, c.state[PREFIX + k]) for k,v in brought.items()) and "colour" in moved(next_)
    with one_thread(), torch.no_grad():
        start = start_network(canonical(Recipe(NAME, source="photos", image_size=SIDE, input="imagenet", colour="learned")), 2, c, pixels[:8]).eval()
        assert torch.equal(start.features(x), r.after.eval().features(x))
    with pytest.raises(InputError, match="source 'photos' has learned colours of its own.*take 'kept', or 'learned'"): run(target, pixels, c, colour="replicate")
    with pytest.raises(InputError, match="source 'photos' has no colours that could be kept"): run(target, pixels, colour="kept")


def test_colours_may_be_kept(target, pixels):
    "They stand still under every plan, so that frozen stages are computed once and a head can be solved for on their features."
    c = as_checkpoint(run(target, pixels, freezing="full", epochs=8, max_lr=1e-2))
    for plan in ("head", "stage4", "full"):
        kept, computed = (run(target, pixels, c, freezing=plan, colour="kept", keep=keep, head_solver="sgd") for keep in ("usual", None))
        assert weights(kept) == weights(computed) and "colour" not in moved(kept) and kept.before.normalise.colour.mix.weight.any()
        assert any("computed once" in e["text"] for e in kept.recording.since() if e["kind"] == "note") == (plan != "full")
    solved = run(target, pixels, c, freezing="head", colour="kept")
    assert solved.recipe.head_solver == "lbfgs" and solved.recipe.id not in {kept.recipe.id, computed.recipe.id}
    grey = Checkpoint({k: v for k,v in c.state.items() if not k.startswith(PREFIX)}, "resnet10", c.classes, SIDE, "photos", input="imagenet")
    assert run(target, pixels, grey, freezing="head", colour="replicate").scores.tolist() != solved.scores.tolist()


def test_networks_that_read_one_channel_are_refused(target, pixels):
    grey = Checkpoint(draw_all(create_backbone(), 0).state_dict(), "resnet10", ("a", "b"), 0, "photos")
    with pytest.raises(InputError, match="source 'photos' reads one grey channel: take weights of colour images"): run(target, pixels, grey)
    with pytest.raises(InputError, match="`source` none reads one grey channel"): Recipe(NAME, colour="learned")


def test_what_was_reused(target, pixels):
    r = run(target, pixels, freezing="head")
    found = r.compare(pixels, most=48)
    assert "a module learned to colour an even grey" in found.summary() and set(found.stages["stage"]) == set(STAGES)
    assert found.layers.set_index("layer").loc["stem", "cka"] < 1, "another input, another output, though the stem stood still"


def test_a_range_test_leaves_no_trace(target, pixels):
    recipe = Recipe(NAME, source="photos", n_train=24, image_size=SIDE, augment="none", freezing="head")
    grey, coloured, again = (lr_curve(Recipe(**(vars(recipe) | more)), target, dict(photos=photos()), pixels, steps=40) for more in ({}, dict(colour="learned"), dict(colour="learned")))
    assert coloured == again and grey.losses != coloured.losses and abs(grey.losses[0] - coloured.losses[0]) < 1e-6


def test_in_a_study(target, tmp_path):
    study = Study(target, dict(photos=photos(), none=None), [20], ["head", "full"], 2, folder=tmp_path, image_size=SIDE, epochs=2, min_steps=0, colour="learned", baselines=["joined"])
    results = study.run("inline")
    assert {(r.source, r.freezing, r.colour, r.head_solver, r.input) for _,r in study.grid} == {(s, f, "learned", "sgd", "imagenet") for s in ("photos", "none") for f in ("head", "full")}
    assert "from grey to colour" in study.report().read_text() and len(results.rows()) >= 8
    gates = {g["name"]: g for g in json.loads((tmp_path/"gates.json").read_text())}
    assert gates["shuffled labels give chance"]["passed"]
    brings = Study(target, dict(own=photos(colour="learned")), [20], ["head", "full"], 2, folder=tmp_path/"own", image_size=SIDE, epochs=2, min_steps=0, colour="kept", baselines=["joined"])
    assert len(brings.run("inline").rows()) and {r.head_solver for _,r in brings.grid if r.freezing == "head"} == {"lbfgs"}
    with pytest.raises(InputError, match="source 'own' has learned colours of its own"): Study(target, dict(own=photos(colour="learned")), [20], ["full"], 2, folder=tmp_path/"x", image_size=SIDE)


def test_on_the_command_line(tmp_path, ttl_nb):
    rng, y = np.random.default_rng(0), np.tile([0, 1], 50)
    for i,c in enumerate(y): Image.fromarray(rng.normal(90 + 12*c, 30, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)).save(tmp_path/f"{i}.png")
    pd.DataFrame(dict(file=[f"{i}.png" for i in range(100)], label=np.array(["a", "b"])[y], patient_id=[f"p{i}" for i in range(100)], split=["train"]*60 + ["test"]*40)).to_csv(tmp_path/"labels.csv", index=False)
    save_checkpoint(photos(), tmp_path/"photos.safetensors")
    save_checkpoint(Checkpoint(draw_all(create_backbone(), 0).state_dict(), "resnet10", ("a", "b"), SIDE, "knees"), tmp_path/"knee.safetensors")
    def tell(*words): return ttl_nb(tmp_path, *words)
    shared = ["--target", "labels.csv", "--source", "photos=photos.safetensors", "--image-size", SIDE, "--n-train", 20, "--seeds", 1, "--colour", "learned"]
    done = tell("study", *shared, "--freezing", "head", "--epochs", 2, "--engine", "inline", "--folder", "out")
    assert done.returncode == 0, done.stderr
    says = json.loads((tmp_path/"out"/"study.json").read_text())["recipe"]
    assert says["colour"] == "learned"
    assert (found := tell("lr-find", *shared)).returncode == 0, found.stderr
    wrong = tell("study", "--target", "labels.csv", "--source", "knee=knee.safetensors", "--image-size", SIDE, "--colour", "learned")
    assert wrong.returncode == 2 and "source 'knee' reads one grey channel" in wrong.stderr.replace("\n", " "), wrong.stderr


def test_on_the_page(tmp_path):
    "Picked on the playground it stands in the recipe and in the link; a source of one channel has none."
    from ttl_nb.models.ready import ready_files
    from ttl_nb.ui.offer import Offer
    from ttl_nb.ui.playground import Playground
    save_checkpoint(Checkpoint(photos().state, "resnet10", ("a", "b"), 96, "photos", input="imagenet"), tmp_path/"photos.safetensors")
    own = phantom(NAME, 240)
    offer = Offer({NAME: own}, dict(photos=[str(tmp_path/"photos.safetensors")], **{"phantom-chest": [str(f) for f in ready_files("phantom-chest")]}))
    page = Playground(offer=offer, training=dict(epochs=1, min_steps=4))
    page.source.value = "photos"; assert page.stages.reads_colour and "colour" not in page.bar.fragment
    page.stages.value, page.stages.colour = "head", "learned"
    assert page.recipe.colour == "learned" and "colour=%22learned%22" in page.bar.fragment
    again = Playground(offer=offer, link=page.bar.fragment, training=dict(epochs=1, min_steps=4))
    assert (again.stages.colour, again.recipe.id) == ("learned", page.recipe.id)
    page.source.value = "phantom-chest"; assert not page.stages.reads_colour and page.recipe.colour == "replicate"
    again.restore("source=%22phantom-chest%22&colour=%22learned%22"); assert "reads one grey channel" in again.bar.text
    page.source.value = "photos"; page.fit.controls.click("train"); page.job.wait(60); page.tick()
    assert page.job.state == "done" and any("grey was coloured" in n for n in page.job.result["notes"])
    page.bar.preset = 0; assert page.stages.colour == "replicate"
    page.close(); again.close()


def test_it_learns_on_real_images(real_data):
    "ImageNet's SqueezeNet, frozen, before chest radiographs: the head and the colours alone."
    file = real_data/"weights/squeezenet1_1_notop_torchvision_norm.pt"
    if not file.is_file(): pytest.skip(f"no {file.name} in {file.parent}")
    source, target = from_file(file, "squeezenet1_1", "imagenet"), from_csv(real_data/"chest_kermany/labels.csv", name="chest")
    r = check_run(fit(Recipe("chest", source="s", n_train=100, backbone="squeezenet1_1", freezing="head", colour="learned", augment="none"), target, dict(s=source)))
    loss = r.recording.series("batch", "loss")[1]
    assert r.auc_ci.low > .7 and np.mean(loss[-20:]) < .9*np.mean(loss[:20]) and strength(r.after.normalise.colour) > 0, (r, np.mean(loss[:20]), np.mean(loss[-20:]))
