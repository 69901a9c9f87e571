"Backbones cut into stages compute what the original network computes, whatever its pixel contract, and survive being run in parts."
import sys

import pytest, torch
from torchvision import models as tv

from ttl_nb.errors import InputError
from ttl_nb.models.backbone import Normalise, create_backbone, original_names
from ttl_nb.models.initial import draw_all, reestimate_statistics
from ttl_nb.models.stages import BACKBONES, INPUTS, STAGES, check_image_size

ORIGINALS = {n: getattr(tv, n) for n in BACKBONES if hasattr(tv, n)}
TIMM = {"resnet18": 16, "densenet121": 32, "mobilenetv3_small_100": 16, "efficientnet_b0": 16, "convnext_atto": 32, "regnetx_002": 16,
        "resnetv2_18": 16} # network: smallest of the sizes tried


def pixels(n=2, size=64, seed=0): return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def drawn(name, input="grey", seed=0): return draw_all(create_backbone(name, input=input), seed).eval()


def settled(net): # A network with drawn weights
    "Its statistics measured on some images, so that evaluation mode sees numbers of normal size."
    return reestimate_statistics(net.eval(), [pixels(8, seed=1)])


def close(a, b): return a.shape == b.shape and (a - b).abs().max() <= 1e-4*b.abs().max()


def features_of(original, x): # One of torchvision's networks, normalised RGB
    "Pooled features of one of torchvision's networks, by torchvision's own forward."
    if hasattr(original, "layer4"):
        original.fc = torch.nn.Identity()
        return original(x)
    f = original.features(x)
    return (f.relu() if isinstance(original, tv.DenseNet) else f).mean((2, 3))


@pytest.mark.parametrize("name", ORIGINALS)
def test_staged_features_are_the_original_networks(name):
    net = settled(drawn(name, "imagenet"))
    original = ORIGINALS[name](weights=None).eval()
    names, state = original_names(name, "imagenet"), net.state_dict()
    left = original.load_state_dict({k: state[v] for k, v in names.items() if v}, strict=False)
    assert not left.unexpected_keys and left.missing_keys == [k for k, v in names.items() if not v]
    mean, std = torch.tensor(INPUTS["imagenet"].mean), torch.tensor(INPUTS["imagenet"].std)
    for size in (64, 96):
        rgb = (pixels(size=size).expand(-1, 3, -1, -1) - mean[:, None, None])/std[:, None, None]
        with torch.no_grad(): own, theirs = net.features(pixels(size=size)), features_of(original, rgb)
        assert close(own, theirs) and own.std() > 0


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("input", ["grey", "imagenet", "xrv"])
def test_every_contract_reads_one_grey_channel(name, input):
    net = create_backbone(name, 3, input)
    assert net(pixels()).shape == (2, 3)
    assert next(m for m in net.stem.modules() if isinstance(m, torch.nn.Conv2d)).in_channels == INPUTS[input].channels


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("train", [True, False])
def test_no_stage_changes_its_input(name, train):
    "In-place operations must not reach back into a cached activation of the stage before."
    net = drawn(name).train(train)
    x = net.normalise(pixels(4))
    for s in STAGES:
        before = x.detach().clone()
        y = net.stage(s)(x.detach())
        assert torch.equal(x, before), s
        x = y


@pytest.mark.parametrize("name", BACKBONES)
def test_a_batch_of_one_image(name):
    net = settled(drawn(name))
    for x in (pixels(), pixels(size=96)):
        assert close(net.eval()(x[:1]), net(x)[:1])
        assert net.train()(x[:1]).isfinite().all()


@pytest.mark.parametrize("name", BACKBONES)
def test_smallest_images(name):
    net, low = drawn(name), BACKBONES[name].min_size
    assert net(pixels(size=low)).shape == (2, 2)
    for call in (lambda: net(pixels(size=low-1)), lambda: net.features(pixels(size=low-1)), lambda: check_image_size(name, low-1)):
        with pytest.raises(InputError, match=f"`image_size` {low-1} is too small for backbone '{name}'.*at least {low}"): call()
    if low > 16: # the bound is the network's own, not caution
        net.min_size = 1
        with pytest.raises(RuntimeError, match="too small"): net(pixels(size=low-1))


def test_replicating_is_exact_at_borders_and_summing_the_stem_is_not():
    net = drawn("resnet18", "imagenet")
    conv, x = net.stem[0], pixels()
    mean, std = net.normalise.mean, net.normalise.std
    replicated = conv(net.normalise(x))
    summed = torch.nn.functional.conv2d(x, (conv.weight/std).sum(1, keepdim=True), stride=2, padding=3) \
        - (conv.weight*(mean/std)).sum((1, 2, 3))[:, None, None]
    off = (replicated - summed).abs().amax((0, 1))
    assert off[4:-4, 4:-4].max() < 1e-4 < 1e-2 < off[0].max()


def test_grey_buffers_keep_the_names_and_shapes_of_the_first_checkpoints():
    state = create_backbone("resnet10").state_dict()
    assert {k: tuple(v.shape) for k, v in state.items() if k.startswith("normalise")} == {"normalise.mean": (), "normalise.std": ()}
    assert (state["normalise.mean"].item(), state["normalise.std"].item()) == (.5, .25)
    Normalise().load_state_dict({"mean": torch.tensor(.5), "std": torch.tensor(.25)})


@pytest.mark.parametrize("name", [*BACKBONES])
def test_building_leaves_torchs_generator_alone(name):
    before = torch.get_rng_state()
    create_backbone(name); original_names(name)
    assert torch.equal(before, torch.get_rng_state())


# timm

def test_without_timm_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'ttl_nb\[timm\]'"): create_backbone("timm/resnet18")


@pytest.mark.parametrize("name", TIMM)
def test_timm_networks_in_stages_give_their_own_features(name):
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'ttl_nb[timm]'")
    before = torch.get_rng_state()
    net = create_backbone(f"timm/{name}", 4, "imagenet")
    assert torch.equal(before, torch.get_rng_state())
    net = settled(draw_all(net, 0))
    assert net.min_size == TIMM[name] and net(pixels()).shape == (2, 4)
    names, state = original_names(f"timm/{name}", "imagenet"), net.state_dict()
    assert {v for v in names.values() if v} == {k for k in state if k.split(".")[0] in STAGES[:-1]}
    original = timm.create_model(name).eval()
    left = original.load_state_dict({k: state[v] for k, v in names.items() if v}, strict=False)
    assert all(k.split(".")[0] in ("fc", "head", "classifier", "conv_head", "norm_head", "pre_logits") for k in left.missing_keys)
    x = pixels(size=96)
    with torch.no_grad(): own, theirs = net.features(x), original.forward_features(net.normalise(x)).mean((2, 3))
    assert close(own, theirs) and own.std() > 0
    sizes, x = [], net.normalise(pixels())
    for s in STAGES[:-1]: x = net.stage(s)(x); sizes.append(x.shape[-1])
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes[1:])) == 4
    again = draw_all(create_backbone(f"timm/{name}", 4, "imagenet"), 0).state_dict()
    first = draw_all(create_backbone(f"timm/{name}", 4, "imagenet"), 0).state_dict()
    assert all(torch.equal(v, again[k]) for k, v in first.items())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s16_224", "hrnet_w18_small", "pvt_v2_b0"])
def test_networks_that_are_no_chain_of_stages_are_refused(name):
    pytest.importorskip("timm", reason="timm is not installed: pip install 'ttl_nb[timm]'")
    with pytest.raises(InputError, match=f"'timm/{name}' cannot be cut into stem, stage1.*take a convolutional network"): create_backbone(f"timm/{name}")


def test_a_network_of_ones_own_stands_in_timms_register():
    "With torch's own initialisation; also where nothing is drawn because weights will be loaded."
    pytest.importorskip("timm", reason="timm is not installed: pip install 'ttl_nb[timm]'")
    from timm.models import register_model
    class Own(torch.nn.Module):
        def __init__(self, n_in):
            super().__init__()
            for i in range(5): self.add_module(f"part{i}", torch.nn.Sequential(torch.nn.Conv2d(8 if i else n_in, 8, 3, 2, 1), torch.nn.GroupNorm(2, 8), torch.nn.ReLU()))
            self.feature_info = [dict(module=f"part{i}", num_chs=8, reduction=2**(i + 1)) for i in range(5)]
        def forward_features(self, x):
            for m in self.children(): x = m(x)
            return x
    def own_network(pretrained=False, in_chans=3, **kwargs): return Own(in_chans)
    register_model(own_network)
    net = create_backbone("timm/own_network").eval()
    loaded = create_backbone("timm/own_network", draw=False).eval()
    loaded.load_state_dict(net.state_dict())
    x = torch.rand(2, 1, 64, 64)
    assert torch.equal(net(x), loaded(x)) and [net.stage(s)[0][0].in_channels for s in ("stem", "stage4")] == [1, 8]


@pytest.mark.parametrize("fault", [lambda net, x: 1.01*type(net).forward_features(net, x), lambda net, x: type(net).forward_features(net, x.square())])
def test_stages_that_do_not_give_timms_own_features_are_refused(monkeypatch, fault):
    "What timm says of a network is not believed, it is tried."
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'ttl_nb[timm]'")
    net = timm.create_model("resnet18", in_chans=1)
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: net)
    assert create_backbone("timm/resnet18")
    net.forward_features = lambda x: fault(net, x)
    with pytest.raises(InputError, match="cannot be cut"): create_backbone("timm/resnet18")


def test_a_timm_stage_that_changes_its_input_is_refused(monkeypatch):
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'ttl_nb[timm]'")
    net = timm.create_model("resnet18", in_chans=1)
    net.layer3.insert(0, torch.nn.Hardtanh(0, .01, inplace=True))
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: net)
    with pytest.raises(InputError, match="cannot be cut"): create_backbone("timm/resnet18")
    net.layer3[0].inplace = False
    assert create_backbone("timm/resnet18")


def test_names_that_timm_does_not_know():
    pytest.importorskip("timm", reason="timm is not installed: pip install 'ttl_nb[timm]'")
    with pytest.raises(InputError, match="near it are .*timm/resnet34"): create_backbone("timm/resnet3 4")
    with pytest.raises(InputError, match="the network is timm/resnet34, its weights a source"): create_backbone("timm/resnet34.a1_in1k")
    with pytest.raises(InputError, match="must be timm/NAME"): create_backbone("timm/")
