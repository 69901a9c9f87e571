"Initialisation arms keep what their name says of the source's weights, destroy the rest, and draw from their seed alone."
import math

import numpy as np
import pytest, torch

from ttl_nb.errors import InputError
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import state_hash
from ttl_nb.models.initial import draw_all, initialise, reestimate_statistics
from ttl_nb.models.stages import INITS, STAGES, random_early, random_stages, reads_source

REDRAWN = ("mean_var", "mean_var_channel", "permuted")
SMALL = ("resnet10", "squeezenet1_1", "mobilenet_v3_small")


def source_state(name, input="grey"):
    "Weights that look trained: no mean is 0, no statistic 0 or 1, one tensor is constant."
    net, g = draw_all(create_backbone(name, input=input), 99), torch.Generator().manual_seed(1)
    for k, p in net.named_parameters(): p.data.add_(.05*torch.randn(p.shape, generator=g) + .02)
    for k, b in net.named_buffers():
        if k.endswith("running_mean"): b.fill_(.3)
        if k.endswith("running_var"): b.fill_(2.)
    constant = next(k for k, p in net.named_parameters() if k.startswith("stage1") and p.ndim == 1)
    net.get_parameter(constant).data.fill_(.7)
    return {k: v.clone() for k, v in net.state_dict().items()}


@pytest.fixture(scope="module")
def states(): return {name: source_state(name) for name in SMALL}


def start(name, init, states, seed=0): return initialise(create_backbone(name), init, seed, states[name])


def body(net): return {k: p for k, p in net.named_parameters() if not k.startswith("head.")}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("init", INITS)
def test_an_arm_draws_from_its_seed_alone(name, init, states):
    one = state_hash(start(name, init, states).state_dict())
    torch.rand(7)
    before = torch.get_rng_state()
    assert state_hash(start(name, init, states).state_dict()) == one
    assert torch.equal(before, torch.get_rng_state())
    assert state_hash(start(name, init, states, 1).state_dict()) != one


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("init", INITS)
def test_only_the_stages_that_an_arm_names_leave_the_source(name, init, states):
    net, state = start(name, init, states), states[name]
    assert all(v.isfinite().all() for v in net.state_dict().values())
    for s in STAGES[:-1]:
        same = all(torch.equal(v, state[f"{s}.{k}"]) for k, v in net.stage(s).state_dict().items())
        assert same == (s not in random_stages(init)), s
    assert torch.equal(net.linear.weight, draw_all(create_backbone(name), 0).linear.weight)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("init", ["mean_var", "mean_var_channel"])
def test_mean_and_standard_deviation_are_the_sources(name, init, states):
    for k, p in body(start(name, init, states)).items():
        w, d = states[name][k].double(), p.detach().double()
        assert abs(w.mean() - d.mean()) < 1e-6 and abs(w.std(correction=0) - d.std(correction=0)) < 1e-6, k
        if init == "mean_var_channel" and w.ndim == 4 and w[0].numel() > 1:
            assert (w.mean((1, 2, 3)) - d.mean((1, 2, 3))).abs().max() < 1e-6
            assert (w.std((1, 2, 3), correction=0) - d.std((1, 2, 3), correction=0)).abs().max() < 1e-6
        if w.numel() > 100 and w.std(): assert abs(np.corrcoef(w.flatten(), d.flatten())[0, 1]) < (.75 if init == "mean_var_channel" else .35), k


def test_the_published_fault_would_be_noticed(states):
    "Its code drew with the mean as the standard deviation."
    k, w = next((k, states["resnet10"][k]) for k in states["resnet10"] if k.endswith("conv1.weight"))
    wrong = w.mean() + w.mean()*torch.randn(w.shape, generator=torch.Generator().manual_seed(0))
    assert abs(wrong.std() - w.std()) > 1e-3


@pytest.mark.parametrize("init", REDRAWN)
def test_constant_and_single_entry_tensors_stay(init):
    from ttl_nb.models.initial import _REDRAWS
    g = torch.Generator().manual_seed(0)
    for w in (torch.tensor(3.), torch.tensor([3.]), torch.full((5,), -.25), torch.full((4, 1, 1, 1), 2.), torch.zeros(2, 3, 3, 3), torch.ones(6, 1, 3, 3)):
        assert torch.equal(_REDRAWS[init](w, g), w)


@pytest.mark.parametrize("name", SMALL)
def test_permuted_keeps_every_number_and_moves_it(name, states):
    for k, p in body(start(name, "permuted", states)).items():
        w = states[name][k]
        assert torch.equal(p.flatten().sort()[0], w.flatten().sort()[0]), k
        if w.numel() > 100 and w.std(): assert (p == w).float().mean() < .1, k


@pytest.mark.parametrize("name,input", [("resnet10", "grey"), ("densenet121", "imagenet"), ("squeezenet1_1", "imagenet"), ("mobilenet_v3_small", "grey")])
def test_gabor_changes_the_first_convolution_alone(name, input):
    gabor, scratch = [initialise(create_backbone(name, input=input), i, 3) for i in ("gabor", "scratch")]
    differ = [k for k, v in gabor.state_dict().items() if not torch.equal(v, scratch.state_dict()[k])]
    assert len(differ) == 1 and differ[0].startswith("stem.") and differ[0].endswith(".weight")
    w, s = gabor.state_dict()[differ[0]], scratch.state_dict()[differ[0]]
    assert w.mean((2, 3)).abs().max() < 1e-6, "each filter has no mean"
    assert torch.equal(w, w[:, :1].expand_as(w)), "channels are alike"
    assert abs(w.std()*math.sqrt(w.shape[1])/s.std() - 1) < .15, "as strong as scratch on grey"
    flat = torch.nn.functional.normalize(w[:, 0].flatten(1))
    assert ((flat @ flat.T).abs() > .999).sum() < 3*len(flat), "the filters vary"


def test_gabor_filters_prefer_one_direction_each(): # a wave has a line spectrum, noise does not
    from ttl_nb.models.initial import gabor_filters
    power = torch.fft.fft2(gabor_filters(64, 7, torch.Generator().manual_seed(0)), s=(16, 16)).abs().square()
    noise = torch.fft.fft2(torch.randn(64, 7, 7, generator=torch.Generator().manual_seed(0)), s=(16, 16)).abs().square()
    share = [(p.amax((1, 2))/p.sum((1, 2))).mean() for p in (power, noise)]
    assert share[0] > 2*share[1]


@pytest.mark.parametrize("init", [i for i in INITS if reads_source(i)])
def test_an_arm_without_its_source_is_refused(init, states):
    with pytest.raises(InputError, match=f"`init` '{init}' starts from a source's weights"): initialise(create_backbone(), init, 0)
    with pytest.raises(InputError, match="does not fit backbone 'resnet10'"): initialise(create_backbone(), init, 0, states["squeezenet1_1"])
    with pytest.raises(InputError, match="reads its pixels as 'grey', the network as 'imagenet'"):
        initialise(create_backbone(input="imagenet"), init, 0, states["resnet10"])


def test_random_early_layers(): assert {i for i in INITS if random_early(i)} == {"scratch", "gabor", *REDRAWN}


# BatchNorm statistics

def images(n=32, seed=0): return torch.rand(n, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def statistics(net): return {k: v.clone() for k, v in net.state_dict().items() if "running_" in k}


@pytest.mark.parametrize("name", ["resnet10", "mobilenet_v3_small", "densenet121"])
@pytest.mark.parametrize("init", REDRAWN)
def test_statistics_of_redrawn_weights_come_from_the_images(name, init):
    state, x = source_state(name), images()
    net = initialise(create_backbone(name), init, 0, state)
    weights = {k: p.clone() for k, p in body(net).items()}
    reestimate_statistics(net, [x[:16], x[16:]], random_stages(init))
    first = next(m for m in net.stem.modules() if isinstance(m, torch.nn.BatchNorm2d))
    conv = next(m for m in net.stem.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad(): halves = [conv(net.normalise(h)) for h in (x[:16], x[16:])]
    assert torch.allclose(first.running_mean, sum(h.mean((0, 2, 3)) for h in halves)/2, atol=1e-4*first.running_mean.abs().max())
    assert torch.allclose(first.running_var, sum(h.var((0, 2, 3)) for h in halves)/2, rtol=1e-3)
    assert all(torch.equal(p, weights[k]) for k, p in body(net).items()), "weights stay"
    assert all((v > 0).all() or "var" not in k for k, v in statistics(net).items()) and net.eval()(x).isfinite().all()


def test_modes_momenta_and_copied_stages_are_left_as_they_were():
    state, x = source_state("resnet10"), images()
    net = initialise(create_backbone(), "prefix:stage1", 0, state).train()
    net.stage2.eval()
    modes, before = [m.training for m in net.modules()], statistics(net)
    reestimate_statistics(net, [x], random_stages("prefix:stage1"))
    after = statistics(net)
    changed = {k.split(".")[0] for k in after if not torch.equal(after[k], before[k])}
    assert changed == {"stage2", "stage3", "stage4"}
    assert [m.training for m in net.modules()] == modes
    assert {m.momentum for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {.1}


def test_modes_are_put_back_after_a_failure():
    net = draw_all(create_backbone(), 0).eval()
    with pytest.raises(InputError): reestimate_statistics(net, [images(), torch.rand(2, 3, 64, 64)])
    assert not any(m.training for m in net.modules()) and {m.momentum for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {.1}


def test_networks_without_batchnorm_need_no_images():
    net = draw_all(create_backbone("squeezenet1_1"), 0)
    before = state_hash(net.state_dict())
    assert state_hash(reestimate_statistics(net, []).state_dict()) == before
