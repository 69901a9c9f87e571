"What `compare` finds: planted reuse and destruction, real runs on real radiographs, and a clear error for every wrong pairing."
import copy, math

import numpy as np
import pytest
import torch

from ttl_nb.analysis.activations import extract_features, extract_logits
from ttl_nb.analysis.metrics import auc
from ttl_nb.analysis.probe import fit_probe
from ttl_nb.analysis.reuse import Heldout, barrier_of, compare, heldout_of, random_floor, rewound_logits, straight_path
from ttl_nb.data.catalog import from_csv, phantom
from ttl_nb.data.pixels import load_pixels
from ttl_nb.errors import InputError
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import state_hash
from ttl_nb.models.initial import draw_head, reestimate_statistics
from ttl_nb.models.ready import ready_source
from ttl_nb.models.stages import STAGES
from ttl_nb.stopping import Stopped, stoppable
from ttl_nb.study.reuse_share import reuse_share, reuse_shares
from ttl_nb.study.study import Study
from ttl_nb.train.fit import fit, pretrain
from ttl_nb.train.recipe import Recipe

SIZE, N = 32, 96


@pytest.fixture(scope="module")
def domain(): return phantom("phantom-pneumonia", 2*N, size=SIZE)


@pytest.fixture(scope="module")
def held(domain): return heldout_of(domain, load_pixels(domain, SIZE), np.arange(len(domain)), most=N)


@pytest.fixture(scope="module")
def trained(domain, held):
    "A network whose head was fitted to the domain's images; all its features are random."
    net = random_floor(create_backbone("resnet10"), held.images, 1)
    images = np.asarray(load_pixels(domain, SIZE))
    probe = fit_probe(extract_features(net, images), domain.labels, domain.patients, strength=.01)
    with torch.no_grad():
        net.linear.weight.copy_(torch.from_numpy(probe.weight)); net.linear.bias.copy_(torch.from_numpy(probe.bias))
    return net


def with_redrawn(net, held, stages, seed=7):
    "A copy of `net` in which some stages were drawn anew."
    changed, drawn = copy.deepcopy(net), random_floor(net, held.images, seed)
    for s in stages: changed.stage(s).load_state_dict(drawn.stage(s).state_dict())
    return changed


def table(found): return found.stages.set_index("stage")


# --- planted reuse, planted destruction

@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_planted_destruction_is_found_where_it_was_planted(stage, trained, held):
    "One stage of the initial network was another one: everything below it is reused, putting it back costs."
    found = table(compare(with_redrawn(trained, held, [stage]), trained, held))
    at, below = STAGES.index(stage), list(STAGES[:STAGES.index(stage)])
    assert found.weights.gt(0).tolist() == [s == stage for s in STAGES]
    assert found.cka[below].sub(1).abs().max() < 1e-6 if below else True
    assert found.cka_high[stage] < .999, "two random stages see much the same in an image, but not all"
    assert found.cost.drop(stage).eq(0).all() and found.cost_high.drop(stage).eq(0).all()
    assert found.probe_gain[below].eq(0).all()


def test_planted_reuse_is_found(trained, held):
    "Stem to stage2 were copied, the rest was drawn anew: CKA stays at 1 as far as the copies reach and falls to the random floor's order behind them."
    found = table(compare(with_redrawn(trained, held, ["stage3", "stage4", "head"]), trained, held))
    kept, lost = ["stem", "stage1", "stage2"], ["stage3", "stage4"]
    assert found.cka[kept].min() > 1 - 1e-6 and found.cka_low[kept].min() > 1 - 1e-6
    assert (found.cka_random[kept] < found.cka_low[kept]).all(), "the floor must lie below what was copied"
    assert (found.cka[lost] < .9).all() and found.weights[kept].eq(0).all() and found.weights[lost].gt(1).all()


def test_nothing_changed(trained, held):
    "A network with itself: all similar, nothing moved, nothing costs, no barrier."
    found = compare(trained, trained, held)
    t = table(found)
    assert found.layers.cka.sub(1).abs().max() < 1e-6 and found.layers.procrustes.abs().max() < 1e-4
    assert t[["weights", "affine", "statistics", "cost", "cost_high", "probe_gain"]].eq(0).all(axis=None)
    assert found.barrier < 1e-9 and "nothing moved" in found.summary()


def permuted(net, seed=0):
    "The same function with the channels of stem and first stage in another order."
    net, g = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    outer, inner = torch.randperm(32, generator=g), torch.randperm(32, generator=g)
    def leave(conv, bn, order):
        conv.weight.data = conv.weight.data[order].contiguous(memory_format=torch.channels_last)
        for name in ("weight", "bias", "running_mean", "running_var"): getattr(bn, name).data = getattr(bn, name).data[order]
    def enter(conv, order): conv.weight.data = conv.weight.data[:,order].contiguous(memory_format=torch.channels_last)
    leave(net.stem[0], net.stem[1], outer)
    enter(net.stage1.conv1, outer); leave(net.stage1.conv1, net.stage1.bn1, inner)
    enter(net.stage1.conv2, inner); leave(net.stage1.conv2, net.stage1.bn2, outer)
    enter(net.stage2.conv1, outer); enter(net.stage2.downsample[0], outer)
    return net


def test_channels_that_swap_places_move_the_weights_and_not_the_features(trained, held):
    other = permuted(trained)
    assert np.abs(extract_logits(other, held.images) - extract_logits(trained, held.images)).max() < 1e-3
    found = compare(trained, other, held)
    assert found.layers.cka.sub(1).abs().max() < 1e-5
    assert table(found).weights[["stem", "stage1", "stage2"]].min() > .5 and table(found).weights["stage3"] == 0
    assert found.barrier > 0 or found.path.loss.max() > 0, "the straight line between the two runs through other functions"


def test_rewinding_a_permuted_network_breaks_it_as_the_notebook_says(trained, held):
    "Weights are put back, not functions: stages that only swapped channels no longer fit one another."
    back = rewound_logits(trained, permuted(trained), held.images)
    assert np.abs(back["stem"] - back[""]).max() > .1 and np.abs(back["stage4"] - back[""]).max() < 1e-6


# --- what it must leave alone, and what it must agree with

def test_networks_are_left_as_they_were(trained, held):
    before, after = with_redrawn(trained, held, ["stage2"]), copy.deepcopy(trained)
    after.train(); after.stage1.eval(); after.stage2.requires_grad_(False)
    seen = [(state_hash(net.state_dict()), [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]) for net in (before, after)]
    state = torch.get_rng_state()
    compare(before, after, held)
    with pytest.raises(Stopped), stoppable(lambda reached: True): compare(before, after, held)
    assert seen == [(state_hash(net.state_dict()), [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]) for net in (before, after)]
    assert not any(m._forward_hooks for net in (before, after) for m in net.modules())
    assert torch.equal(state, torch.get_rng_state())


@pytest.fixture(scope="module")
def floored(trained, held):
    "A comparison with three floors, as a function that does it anew, and its result."
    before, other = with_redrawn(trained, held, ["stage2"]), with_redrawn(trained, held, STAGES[:-1], 3)
    again = lambda: compare(before, trained, held, floors=dict(other_seed=other, itself=trained))
    return again, again()


def test_the_same_seed_gives_the_same_numbers(floored):
    again, a = floored
    b = again()
    for name in ("layers", "stages", "path"): assert getattr(a, name).equals(getattr(b, name)), name


def test_floors_are_named_in_the_tables(floored):
    found = floored[1]
    assert [*found.floors] == ["random", "other_seed", "itself"]
    for t in (found.layers, found.stages): assert {"cka_random", "cka_other_seed", "cka_itself"} <= {*t.columns}
    assert table(found).cka_itself.sub(1).abs().max() < 1e-6, "floors are compared with `after`"


def test_the_path_meets_its_ends(trained, held):
    before = with_redrawn(trained, held, ["stage3"])
    path = straight_path(before, trained, held, 3)
    for net, row in ((before, path.iloc[0]), (trained, path.iloc[-1])):
        net = copy.deepcopy(net)
        reestimate_statistics(net, [torch.from_numpy(p)[:,None].float()/255 for p in np.array_split(held.images, 2)])
        assert abs(auc(held.labels, extract_logits(net.eval(), held.images)) - row.auc) < 1e-6
    assert barrier_of(path) >= 0 and math.isfinite(barrier_of(path))


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121", "squeezenet1_1", "mobilenet_v3_small"])
def test_every_backbone_can_be_compared(backbone, held):
    "With BatchNorm or without, with stages that work in place or not."
    few = Heldout(held.images[:24], held.labels[:24], held.patients[:24], held.classes)
    after = random_floor(create_backbone(backbone), few.images, 3)
    found = compare(draw_head(copy.deepcopy(after), 5), after, few)
    assert table(found).cka[list(STAGES[:-1])].sub(1).abs().max() < 1e-6 and table(found).weights.drop("head").eq(0).all()
    assert found.layers.notna().all(axis=None) and not {*found.left_out} & ({*STAGES} | {*found.layers.layer})


# --- wrong pairings

def spoilt(net, value):
    net = copy.deepcopy(net)
    with torch.no_grad(): net.stage2.conv1.weight[0] = value
    return net


@pytest.mark.parametrize("words, call", [
    ("backbones 'resnet10' and 'resnet18'", lambda net, h: compare(net, create_backbone("resnet18"), h)),
    ("pixel contracts 'grey' and 'imagenet'", lambda net, h: compare(net, create_backbone("resnet10", input="imagenet"), h)),
    ("'head.2.weight' is \\(2, 256\\) before and \\(3, 256\\) after", lambda net, h: compare(net, create_backbone("resnet10", 3), h)),
    ("`floors\\['other'\\]` are not the same network", lambda net, h: compare(net, net, h, floors=dict(other=create_backbone("resnet18")))),
    ("image_size` 8 is too small for backbone 'resnet10'", lambda net, h: compare(net, net, Heldout(h.images[:,:8,:8], h.labels, h.patients, h.classes))),
    ("`labels` has 95 rows and `images` has 96", lambda net, h: Heldout(h.images, h.labels[1:], h.patients, h.classes)),
    ("`patients` has 95 rows and `images` has 96", lambda net, h: Heldout(h.images, h.labels, h.patients[1:], h.classes)),
    ("`images` has 1 image: give at least 8", lambda net, h: Heldout(h.images[:1], h.labels[:1], h.patients[:1], h.classes)),
    ("class 'pneumonia' of no patients", lambda net, h: Heldout(h.images, 0*h.labels, h.patients, ("normal", "pneumonia"))),
    ("are the same one", lambda net, h: Heldout(np.repeat(h.images[:1], 96, 0), h.labels, h.patients, h.classes)),
    ("is constant", lambda net, h: compare(net, silent(net), h)),
    ("NaN or infinite", lambda net, h: compare(net, spoilt(net, float("nan")), h)),
    ("NaN or infinite", lambda net, h: compare(spoilt(net, float("nan")), net, h)),
])
def test_a_wrong_pairing_is_named(words, call, trained, held):
    with pytest.raises(InputError, match=words): call(trained, held)


def silent(net):
    "A network whose second stage returns the same for all images."
    net = copy.deepcopy(net)
    with torch.no_grad():
        for bn in (net.stage2.bn2, net.stage2.downsample[1]): bn.weight.zero_(); bn.bias.fill_(-1.)
    return net


def test_images_of_another_domain_are_refused(domain):
    with pytest.raises(InputError, match="`pixels` holds 7 images"): heldout_of(domain, np.zeros((7, SIZE, SIZE), np.uint8))


# --- from a run, from a study

def test_a_run_is_compared_on_images_that_it_has_not_seen():
    target = phantom("phantom-pneumonia", 240, size=SIZE)
    source = dict(limb=ready_source("phantom-limb"))
    run = fit(Recipe(target.name, n_train=40, source="limb", image_size=SIZE, freezing="stage4", epochs=2, min_steps=12, backbone=source["limb"][0].backbone), target, source)
    held = run.heldout(most=40)
    assert len(held) <= 40 and held.images.shape[1] == SIZE
    seen = {p.tobytes() for p in load_pixels(target, SIZE)[run.train_rows]}
    assert not seen & {p.tobytes() for p in held.images}
    found = table(run.compare())
    assert found.weights[["stem", "stage1", "stage2", "stage3"]].eq(0).all() and found.weights["stage4"] > 0
    assert found.cka[["stem", "stage1", "stage2", "stage3"]].sub(1).abs().max() < 1e-6 and found.cka["stage4"] < 1
    assert found.cost[["stem", "stage1", "stage2", "stage3"]].eq(0).all()
    with pytest.raises(InputError, match="`pixels` are 16×16, but this run was trained at `image_size` 32"): run.compare(np.zeros((len(target), 16, 16), np.uint8))


def test_the_share_of_reuse_is_read_from_a_study(tmp_path):
    target = phantom("phantom-pneumonia", 200, size=SIZE)
    quick = dict(image_size=SIZE, epochs=1, min_steps=6)
    study = Study(target, dict(limb=pretrain(phantom("phantom-limb", 240, size=SIZE), **quick), none=None), n_train=[40], freezing=["full"], seeds=2,
                  init=("pretrained", "mean_var", "scratch"), folder=tmp_path, **quick)
    study.run(engine="inline")
    share = reuse_share(study)
    assert (share.source, share.n_train, share.freezing, share.scratch, share.control) == ("limb", 40, "full", "full", "mean_var")
    arms = study.results().arms
    assert abs(share.gain.estimate - (arms["limb", "full", 40].mean.estimate - arms["none", "full", 40].mean.estimate)) < 1e-9
    assert abs(share.beyond.estimate - (arms["limb", "full", 40].mean.estimate - arms["limb mean_var", "full", 40].mean.estimate)) < 1e-9
    assert (share.share is None) == (not share.gain.low > 0 or share.gain.reader == "checkpoint") and "limb" in share.summary()
    assert len(reuse_shares(study)) == 1


# --- real radiographs

def test_what_is_reused_on_real_radiographs(real_data, tmp_path):
    "A converged probe changes the head alone; a whole network that learned hard has moved, and its numbers fit one another."
    target = from_csv(real_data/"chest_kermany"/"labels.csv", name="chest")
    pixels = load_pixels(target, SIZE, cache=tmp_path)
    source = dict(phantom=ready_source("phantom-chest"))
    arm = dict(target="chest", n_train=50, source="phantom", image_size=SIZE, backbone=source["phantom"][0].backbone)
    probe = fit(Recipe(**arm, freezing="head"), target, source, pixels)
    full = fit(Recipe(**arm, freezing="full", epochs=4, min_steps=30), target, source, pixels)
    whole = full.compare(pixels, most=1000)
    a, b = table(probe.compare(pixels, most=160)), table(whole)
    assert a.weights.drop("head").eq(0).all() and a.weights["head"] > 0 and a.cost.drop("head").eq(0).all()
    assert (b.weights > 0).all() and (b.cka_low <= b.cka).all() and (b.cka <= b.cka_high).all() and (b.cost_low <= b.cost).all()
    assert b.cka["stem"] > b.cka["stage4"], "the last stage moves its features more than the first"
    assert whole.n == len(full.rows) and abs(whole.auc.estimate - full.auc) < 1e-6
