"Similarity of layers: the same numbers as its definition and as torch-cka, known answers, honest bands and intervals, clear errors."
import sys

import numpy as np
import pytest
import torch
from project import ROOT
from torch import nn

from ttl_nb.analysis.activations import Activations, capture, pixels_as_input, stream, tap
from ttl_nb.analysis.similarity import (cka, cka_interval, compare_layers, gram_matrices, grams_of, null_band, procrustes, procrustes_distances,
                                        similarity, stream_similarity)
from ttl_nb.errors import InputError
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.initial import draw_all, reestimate_statistics

sys.path.insert(0, str(ROOT/"benchmarks"))
import similarity as benchmark

SIDE = 32


@pytest.fixture(scope="module")
def images():
    "Waves: images that a network tells apart."
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE]
    waves = [np.sin(rng.uniform(.1, .8)*x + rng.uniform(.1, .8)*y) for _ in range(64)]
    return np.stack([(127 + 90*w + 10*rng.normal(size=w.shape)).clip(0, 255).astype(np.uint8) for w in waves])


def network(seed, backbone="resnet10"): return draw_all(create_backbone(backbone), seed)

@pytest.fixture(scope="module")
def nets(): return network(0), network(1)


# Equal to what others compute

def hsic1(k, l):
    "Unbiased HSIC, word by word from Song et al. 2012, eq. 5, in double precision."
    n, one = len(k), np.ones((len(k), 1))
    k, l = (m*(1 - np.eye(n)) for m in (k, l))
    return float((np.trace(k @ l) + (one.T @ k @ one)*(one.T @ l @ one)/((n - 1)*(n - 2)) - 2/(n - 2)*(one.T @ k @ l @ one)).item()/(n*(n - 3)))


def reference(x, y):
    "CKA of two float64 arrays."
    k, l = x @ x.T, y @ y.T
    return hsic1(k, l)/np.sqrt(hsic1(k, k)*hsic1(l, l))


def centred(x): return x - x.mean(0)


@pytest.mark.parametrize("n,p,q", [(4, 3, 5), (5, 1, 200), (33, 40, 7), (130, 300, 129), (150, 9000, 3)])
def test_equals_the_definition(n, p, q):
    rng = np.random.default_rng(n)
    z = rng.normal(size=(n, 2))
    x, y = (z @ rng.normal(size=(2, d)) + rng.normal(2, 1, (n, d)) for d in (p, q))
    assert cka(x, y) == pytest.approx(reference(centred(x), centred(y)), abs=1e-9)


def test_all_layers_equal_the_definition(nets, images):
    found = compare_layers(*nets, images)
    a, b = ({l: centred(x.flatten(1).double().numpy()) for l, x in capture(net, images, "all").items()} for net in nets)
    assert found.rows == list(a) and found.columns == list(b) and len(found.rows) == 36
    expected = [[reference(x, y) for y in b.values()] for x in a.values()]
    assert np.abs(found.matrix - expected).max() < 1e-5


def test_what_is_small_beside_the_mean_is_seen():
    "Single precision holds seven digits: features are centred before they are multiplied."
    rng = np.random.default_rng(0)
    x, y = (np.float32(300 + f) for f in related(rng, 64, 1, .5, 500))
    found = similarity(*(grams_of(Activations(layer=torch.from_numpy(f))) for f in (x, y)))
    assert found.matrix[0, 0] == pytest.approx(reference(*(centred(f.astype(float)) for f in (x, y))), abs=1e-5)


def plain_net(seed):
    "Layers that work out of place, each called once."
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU()),
                             nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)).eval()


def test_equals_torch_cka(images):
    nets = plain_net(0), plain_net(1)
    layers = [*"0123", "4.0", "4.1", "4", *"567"] # In the order in which they are done: so torch-cka numbers them
    found = compare_layers(*nets, images, layers)
    assert found.rows == layers
    assert np.abs(found.matrix - benchmark.in_double(nets, pixels_as_input(images), layers)).max() < 1e-5


def test_streamed_batches_are_averaged_before_the_division(nets, images):
    "As Nguyen 2021 has it, and torch-cka for batches of one size."
    found = stream_similarity(*nets, images, ["stage1", "head"], batch_size=16)
    a, b = (capture(net, images, ["stage1", "head"]) for net in nets)
    def mean(x, y):
        parts = [(x[i:i+16].flatten(1).double().numpy(), y[i:i+16].flatten(1).double().numpy()) for i in range(0, 64, 16)]
        return np.mean([hsic1(centred(p) @ centred(p).T, centred(q) @ centred(q).T) for p, q in parts])
    for i, x in enumerate(a.values()):
        for j, y in enumerate(b.values()): assert found.matrix[i, j] == pytest.approx(mean(x, y)/np.sqrt(mean(x, x)*mean(y, y)), abs=1e-5)
    assert not found.exact and found.n == 64 and found.band == null_band(16, batches=4)


# Known answers

def test_rotation_scale_and_shift_change_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 30)), rng.normal(size=(60, 500))
    turn = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    for measure, same in ((cka, 1), (procrustes, 0)):
        assert measure(x, x) == pytest.approx(same, abs=1e-9) and measure(x, -.01*x @ turn + 3) == pytest.approx(same, abs=1e-9)
        assert measure(x @ turn, y) == pytest.approx(measure(x, y), abs=1e-9) == pytest.approx(measure(y, x), abs=1e-9)
    assert cka(x*np.r_[10, np.ones(29)], x) < .9, "not any linear map: scaling one feature is seen"


def in_other_orders(x, y, draws, rng):
    "CKA of `x` with the rows of `y` shuffled, from U-centred Gram matrices (Székely and Rizzo 2014)."
    def u(f):
        k, n = f @ f.T*(1 - np.eye(len(f))), len(f)
        r = k.sum(1)
        k = (k - (r[:, None] + r)/(n - 2) + r.sum()/((n - 1)*(n - 2)))*(1 - np.eye(n))
        return k/np.linalg.norm(k)
    k, l = u(centred(x)), u(centred(y))
    return np.array([(k*l[np.ix_(i, i)]).sum() for i in (rng.permutation(len(l)) for _ in range(draws))])


@pytest.mark.parametrize("n,draws", [(16, 6000), (50, 3000), (500, 250)])
def test_unrelated_layers_lie_in_the_band(n, draws):
    "Rows in other orders, and noise against noise: mean 0, the band's width, 95 % inside."
    rng, (low, high) = np.random.default_rng(n), null_band(n)
    orders = in_other_orders(rng.normal(size=(n, 40)), np.exp(rng.normal(size=(n, 200))), draws, rng)
    noise = np.array([cka(rng.normal(size=(n, 64)), rng.normal(size=(n, 300))) for _ in range(40 if n == 500 else 300)])
    for found in (orders, noise):
        assert abs(found.mean()) < 4*high/1.96/np.sqrt(len(found))
        assert found.std() == pytest.approx(high/1.96, rel=4/np.sqrt(2*len(found)))
        assert ((low <= found) & (found <= high)).mean() == pytest.approx(.95, abs=4*np.sqrt(.95*.05/len(found)))


def test_permuted_channels_are_the_same(images):
    "The channels between two layers in another order: weights far apart, every layer CKA 1."
    net, other = network(0), network(0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(32))
    block = other.stage1
    with torch.no_grad():
        for t in (block.conv1.weight, block.bn1.weight, block.bn1.bias, block.bn1.running_mean, block.bn1.running_var): t.copy_(t[order])
        block.conv2.weight.copy_(block.conv2.weight[:, order])
    assert (other.stage1.conv1.weight - net.stage1.conv1.weight).norm() > net.stage1.conv1.weight.norm()
    a, b = gram_matrices(net, images), gram_matrices(other, images)
    assert not torch.equal(capture(net, images, ["stage1.conv1"])["stage1.conv1"], capture(other, images, ["stage1.conv1"])["stage1.conv1"])
    assert np.diag(similarity(a, b).matrix) == pytest.approx(1, abs=1e-6)
    assert max(procrustes_distances(a, b).values()) < 1e-3


def test_what_is_kept_and_what_is_destroyed_is_found(images):
    "Stem and stage1 of the other network: they are 1, what comes later is not; a stage destroyed after that is the first to differ."
    net, kept, destroyed = network(0), network(1), network(0)
    for stage in ("stem", "stage1"): kept.stage(stage).load_state_dict(net.stage(stage).state_dict())
    destroyed.stage3.load_state_dict(network(5).stage3.state_dict())
    for other, same in ((kept, ("stem", "stage1")), (destroyed, ("stem", "stage1", "stage2"))):
        found = compare_layers(net, other, images).diagonal.set_index("layer").cka
        is_same = np.array([layer.split(".")[0] in same for layer in found.index])
        assert found[is_same].min() > 1 - 1e-6 and found[~is_same].max() < .999


# Intervals

def related(rng, patients, each, share, features=60):
    "Two layers whose population CKA is `share`; the images of a patient are alike."
    def draw(): return np.sqrt(.6)*np.repeat(rng.normal(size=(patients, features)), each, 0) + np.sqrt(.4)*rng.normal(size=(patients*each, features))
    common, own, width = draw(), draw(), np.sqrt(np.arange(1, features + 1)**-.7)
    return common*width, (np.sqrt(share)*common + np.sqrt(1 - share)*own)*width


@pytest.mark.parametrize("each,share", [(1, .3), (3, .3), (3, .8)])
def test_intervals_cover(each, share):
    "40 patients with one image or three."
    rng, who = np.random.default_rng(0), np.repeat(np.arange(40), each)
    found = [cka_interval(*related(rng, 40, each, share), who, draws=100) for _ in range(150)]
    assert np.mean([ci.low <= share <= ci.high for ci in found]) > .91
    assert np.mean([ci.high - ci.low for ci in found]) < 6*np.std([ci.estimate for ci in found]), "and are not just wide"


def test_images_of_a_patient_do_not_count_as_agreement():
    "Unrelated layers, patients with several images each: images counted as if independent, CKA is far from 0; with patients it lies in their band."
    rng, who, without, inside = np.random.default_rng(0), np.repeat(np.arange(30), [1, 2, 3, 4, 5]*6), [], []
    def layer(): return np.sqrt(.6)*rng.normal(size=(30, 300))[who] + np.sqrt(.4)*rng.normal(size=(len(who), 300))
    low, high = null_band(30)
    for _ in range(200):
        x, y = layer(), layer()
        without.append(cka(x, y)); inside.append(cka(x, y, who))
    assert min(without) > .4 and abs(np.mean(inside)) < 4*high/1.96/np.sqrt(200)
    assert ((low <= np.array(inside)) & (np.array(inside) <= high)).mean() > .92


def test_one_image_a_patient_is_no_patients_at_all():
    rng = np.random.default_rng(0)
    x, y = related(rng, 40, 1, .5)
    names = rng.permutation([f"p{i}" for i in range(40)])
    assert cka(x, y, names) == pytest.approx(cka(x, y), abs=1e-12)


def test_patients_with_the_same_image_twice_weigh_as_with_it_once():
    rng = np.random.default_rng(0)
    x, y = related(rng, 40, 1, .5)
    twice = np.r_[np.arange(40), np.arange(25)]
    assert cka(x[twice], y[twice], twice) == pytest.approx(cka(x, y), abs=1e-12)
    one, two = cka_interval(x, y), cka_interval(x[twice], y[twice], twice)
    assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=1e-5)


def test_intervals_of_layers_are_those_of_pairs(nets, images):
    who = np.repeat(np.arange(16), 4)
    found = compare_layers(*nets, images, "stages", patients=who)
    a, b = (capture(net, images) for net in nets)
    for i, (layer, x) in enumerate(a.items()):
        ci = cka_interval(x, b[layer], who)
        assert (found.matrix[i, i], found.low[layer], found.high[layer]) == pytest.approx((ci.estimate, ci.low, ci.high), abs=1e-4)
    assert found.band == null_band(16), "patients count, not images"
    plain = compare_layers(*nets, images, "stages", patients=who, draws=0)
    assert plain.low is None and np.array_equal(plain.matrix, found.matrix) and list(plain.diagonal) == ["layer", "cka"]


# One pass, nothing left behind

def test_one_pass_over_each_network(nets, images):
    seen = []
    hooks = [net.register_forward_pre_hook(lambda m, args: seen.append((m, len(args[0])))) for net in nets]
    try: compare_layers(*nets, images)
    finally:
        for h in hooks: h.remove()
    assert seen == [(nets[0], 64), (nets[1], 64)]


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121", "squeezenet1_1", "mobilenet_v3_small"])
def test_outputs_are_those_that_layers_returned(backbone, images):
    "Whatever works in place later: each output is that of the same network cut off there."
    net = network(0, backbone).eval()
    x = pixels_as_input(images[:4])
    found = tap(net, x, "stages")
    for stage, after in zip(("stem", "stage1", "stage2", "stage3", "stage4"), ("stage1", "stage2", "stage3", "stage4", "pool")):
        with torch.no_grad(): assert torch.equal(found[stage], net.part(x, until=after)), stage
    with torch.no_grad(): assert torch.equal(found["pool"], net.features(x)) and torch.equal(found["head"], net(x))
    every = tap(net, x, "all")
    assert all(torch.equal(every[stage], out) for stage, out in found.items()), "outermost names win"
    sizes = [tuple(out.shape) for out in every.values()]
    assert len(sizes) > 20 and all(torch.isfinite(out).all() for out in every.values())
    assert len({out.data_ptr() for out in every.values()}) == len(every), "each is a copy of its own"


@pytest.mark.parametrize("use", [lambda net, images: capture(net, images, "all"), lambda net, images: next(stream(net, [images])), gram_matrices,
                                 lambda net, images: compare_layers(net, net, images), lambda net, images: stream_similarity(net, net, images)])
def test_no_hook_and_no_mode_is_left(use, images):
    net, broken = network(0), []
    net.train(); net.stage2.eval()
    def fails(*_):
        if broken: raise ZeroDivisionError
    net.stage4.register_forward_hook(fails)
    modes = [m.training for m in net.modules()]
    def left(): return [m for m in net.modules() if len(m._forward_hooks) > (m is net.stage4)], [m.training for m in net.modules()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    use(net, images); assert left() == ([], modes)
    broken.append(True)
    with pytest.raises(ZeroDivisionError): use(net, images)
    assert left() == ([], modes) and all(torch.equal(v, net.state_dict()[k]) for k, v in state.items())


# Wrong pairings

def test_wrong_pairings_are_named(nets, images):
    def fails(said, *args, **kwargs):
        with pytest.raises(InputError, match=said): compare_layers(*args, **kwargs)
    fails("`images` has 1 image: give at least 2", *nets, images[:1])
    fails("must be a .* uint8 array", *nets, images/255)
    fails("in another order", *nets, images, other_images=images[::-1].copy())
    fails("`layers` has 'stage9'", *nets, images, ["stage9"])
    fails("image_size` 8 is too small", *nets, images[:, :8, :8])
    same = np.repeat(images[:1], 8, 0)
    fails("`before`: layer '.*' is constant", *nets, same)
    broken = network(0)
    with torch.no_grad(): broken.stage3.conv1.weight[0, 0, 0, 0] = float("nan")
    fails("`after`: layer 'stage3.conv1' has NaN", nets[0], broken, images)
    a, b = gram_matrices(nets[0], images), gram_matrices(nets[1], images[np.r_[1, 0, 2:64]])
    for compared in (similarity, procrustes_distances):
        with pytest.raises(InputError, match="another order"): compared(a, b)


def test_other_architectures_and_sizes_can_be_compared(nets, images):
    "CKA needs the same images, not the same features."
    other = network(0, "mobilenet_v3_small")
    reestimate_statistics(other, [pixels_as_input(images)])
    found = compare_layers(nets[0], other, images, "stages")
    assert np.isfinite(found.matrix).all()
    small = compare_layers(*nets, images, "stages", other_images=images[:, ::2, ::2].copy())
    assert small.matrix.shape == (7, 7) and np.isfinite(small.matrix).all()
