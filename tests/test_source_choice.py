"Scores that choose a source: against slow references written from the definitions, known answers, and what must not change them."
import itertools, math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest, torch
from scipy.optimize import linear_sum_assignment, minimize
from scipy.stats import kendalltau, multivariate_normal

from ttl_nb.analysis.source_choice import SCORES, Ranking, h_score, leep, logme, ot_distance, rank_sources, transrate
from ttl_nb.data.phantom import phantom
from ttl_nb.data.pixels import load_pixels
from ttl_nb.data.subset import draw_subset
from ttl_nb.errors import InputError
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import Checkpoint, save_checkpoint
from ttl_nb.models.initial import draw_all

SHAPES = {"n > F": (60, 5, 2), "n < F": (24, 60, 2), "n = F": (20, 20, 3), "many classes": (45, 6, 9), "one feature": (30, 1, 2)}


def case(shape, seed=0, gap=1.):
    "Features of classes that overlap, some of them correlated, all away from 0."
    n, f, c = SHAPES[shape]
    rng = np.random.default_rng([seed, n, f])
    y = np.r_[np.arange(c), rng.integers(0, c, n - c)]
    x = rng.normal(size=(n, f)) @ rng.normal(size=(f, f))/math.sqrt(f) + gap*rng.normal(size=(c, f))[y] + .5
    return x, y


# Slow references, straight from the definitions

def slow_logme(x, y):
    "The largest Gaussian density of each class's labels, by a general optimiser over log α and log β."
    n, found = len(x), []
    for c in np.unique(y):
        t = (y == c).astype(float)
        def loss(p): return -multivariate_normal.logpdf(t, np.zeros(n), np.eye(n)*math.exp(-p[1]) + x @ x.T*math.exp(-p[0]))/n
        starts = itertools.product((0., 5.), (0., 3.))
        found.append(-min(minimize(loss, s, method="Nelder-Mead", options=dict(xatol=1e-4, fatol=1e-9, maxiter=1000)).fun for s in starts))
    return np.mean(found)


def authors_logme(x, y, rounds=11):
    "The fixed point of You et al. 2021: γ effective parameters, α = γ/‖m‖², β = (n-γ)/‖y-Fm‖², from 1 and 1."
    n, f = x.shape
    values, axes = np.linalg.eigh(x.T @ x)
    values, found = np.maximum(values, 0), []
    for c in np.unique(y):
        t, a, b = (y == c).astype(float), 1., 1.
        def mean(): return axes @ (b*(axes.T @ (x.T @ t))/(a + b*values))
        for _ in range(rounds):
            m, gamma = mean(), (b*values/(a + b*values)).sum()
            a, b = gamma/(m @ m), (n - gamma)/((t - x @ m)**2).sum()
        m = mean()
        half = f*math.log(a) + n*math.log(b) - np.log(a + b*values).sum() - n*math.log(2*math.pi)
        found.append((half - b*((t - x @ m)**2).sum() - a*(m @ m))/2/n)
    return np.mean(found)


def ledoit_wolf(x):
    "Shrinkage and covariance of Ledoit and Wolf 2004, by their sums over images."
    n, f = x.shape
    x = x - x.mean(0)
    s = sum(np.outer(v, v) for v in x)/n
    mu = np.trace(s)/f
    d2 = ((s - mu*np.eye(f))**2).sum()/f
    b2 = sum(((np.outer(v, v) - s)**2).sum()/f for v in x)/n**2
    a = min(b2, d2)/d2
    return a, (1 - a)*s + a*mu*np.eye(f)


def slow_h_score(x, y, shrink):
    means = np.stack([x[y == c].mean(0) for c in y])
    between = np.atleast_2d(np.cov(means, rowvar=False))
    if not shrink: return np.trace(np.linalg.pinv(np.atleast_2d(np.cov(x, rowvar=False)), rcond=1e-10) @ between)
    a, cov = ledoit_wolf(x)
    return np.trace(np.linalg.inv(cov) @ ((1 - a)*between))


def slow_transrate(x, y, eps):
    def rate(z): return .5*np.log(np.linalg.eigvalsh(np.eye(z.shape[1]) + z.T @ z/(len(z)*eps))).sum()
    z = x - x.mean(0)
    return rate(z) - sum(np.mean(y == c)*rate(z[y == c]) for c in np.unique(y))


def slow_leep(theta, y):
    total = 0.
    for i in range(len(y)):
        p = 0.
        for z in range(theta.shape[1]):
            mass = sum(theta[j, z] for j in range(len(y)))
            if mass > 0: p += theta[i, z]*sum(theta[j, z] for j in range(len(y)) if y[j] == y[i])/mass
        total += math.log(p)
    return total/len(y)


def slow_ot(x, y, epsilon=.05, rounds=3000):
    "Sinkhorn's iteration on potentials, one log-sum-exp after the other."
    unit = np.mean([[((a - b)**2).sum() for b in y] for a in x])
    def lse(v): return v.max() + math.log(np.exp(v - v.max()).sum())
    def regularised(a, b):
        c = np.array([[((p - q)**2).sum() for q in b] for p in a])/unit
        f, g = np.zeros(len(a)), np.zeros(len(b))
        for _ in range(rounds):
            old = f
            f = np.array([-epsilon*lse((g - c[i])/epsilon - math.log(len(b))) for i in range(len(a))])
            g = np.array([-epsilon*lse((f - c[:, j])/epsilon - math.log(len(a))) for j in range(len(b))])
            if np.abs(f - old).max() < 1e-10: break
        return f.mean() + g.mean()
    return regularised(x, y) - .5*regularised(x, x) - .5*regularised(y, y)


@pytest.mark.parametrize("shape", SHAPES)
def test_logme_is_the_largest_evidence(shape):
    x, y = case(shape)
    assert logme(x, y) == pytest.approx(slow_logme(x, y), abs=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_logme_is_where_the_authors_iteration_goes(shape, seed):
    x, y = case(shape, seed)
    assert logme(x, y) >= authors_logme(x, y, 11) - 1e-6 # never below the α and β that their rounds end at
    if shape in ("n > F", "many classes"): assert logme(x, y) == pytest.approx(authors_logme(x, y, 2000), abs=1e-6)


@pytest.mark.parametrize("shape,shrink", [(s, shrink) for s in SHAPES for shrink in (False, True)
                                          if (s, shrink) != ("one feature", True)]) # one variance has nothing to be shrunk towards
def test_h_score_is_its_definition(shape, shrink):
    x, y = case(shape)
    assert h_score(x, y, shrink) == pytest.approx(slow_h_score(x, y, shrink), rel=1e-8)


def test_h_score_shrinks_by_itself_below_as_many_images_as_features():
    for shape, shrunk in (("n < F", True), ("n = F", False), ("n > F", False)):
        x, y = case(shape)
        assert h_score(x, y) == h_score(x, y, shrunk) != h_score(x, y, not shrunk)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", (1e-4, .1))
def test_transrate_is_its_definition(shape, eps):
    x, y = case(shape)
    assert transrate(x, y, eps) == pytest.approx(slow_transrate(x, y, eps), rel=1e-9, abs=1e-9)
    assert transrate(x, y, eps) >= -1e-9 # log det is concave


@pytest.mark.parametrize("n,z,c", ((30, 4, 2), (50, 10, 7), (12, 40, 3)))
def test_leep_is_its_definition(n, z, c):
    rng = np.random.default_rng(n)
    theta, y = rng.dirichlet(np.full(z, .3), n), np.r_[np.arange(c), rng.integers(0, c, n - c)]
    theta[:, 0] = 0; theta /= theta.sum(1, keepdims=True) # a source class that nothing looks like
    assert leep(theta, y) == pytest.approx(slow_leep(theta, y), abs=1e-12)
    assert leep(theta, y) <= 0


@pytest.mark.parametrize("m,n,f", ((12, 9, 2), (10, 14, 30)))
def test_ot_is_its_definition(m, n, f):
    rng = np.random.default_rng(m)
    x, y = rng.normal(size=(m, f)), rng.normal(size=(n, f)) + .5
    assert ot_distance(x, y) == pytest.approx(slow_ot(x, y), abs=2e-5)


def test_ot_without_entropy_is_the_best_assignment():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(16, 4)), rng.normal(size=(16, 4)) + 1
    cost = ((x[:, None] - y)**2).sum(2)
    rows, columns = linear_sum_assignment(cost)
    assert ot_distance(x, y, epsilon=.002) == pytest.approx(cost[rows, columns].mean()/cost.mean(), abs=.01)


# Known answers, and what must not matter

def test_separable_classes_have_the_best_scores():
    y = np.repeat(np.arange(4), 10)
    x = 3*np.eye(4)[y]
    assert h_score(x, y) == pytest.approx(3) and leep(np.eye(4)[(y + 1) % 4], y) == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(0)
    for score in (logme, h_score, transrate):
        means = [np.mean([score(rng.normal(size=(40, 4)) + gap*np.eye(4)[y], y) for _ in range(5)]) for gap in (0, 1, 3)]
        assert means == sorted(means) and math.isfinite(score(x, y)), score
    assert math.isfinite(logme(np.eye(40)[:, :39] + 0., y)) # the labels lie in the features' span


def test_labels_that_say_nothing_have_the_scores_of_noise():
    "H of noise is near (C-1)F/(n-1); LEEP of noise near minus the labels' entropy."
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    assert np.mean([h_score(rng.normal(size=(200, 20)), y) for _ in range(50)]) == pytest.approx(20/199, rel=.1)
    assert leep(rng.dirichlet(np.full(5, 1.), 200), y) == pytest.approx(-math.log(2), abs=.02)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s != "one feature"])
def test_what_must_not_change_a_score(shape):
    x, y = case(shape)
    rng = np.random.default_rng(1)
    rotation, order = np.linalg.qr(rng.normal(size=(x.shape[1],)*2))[0], rng.permutation(len(x))
    for score in (logme, h_score, transrate, lambda f, t: h_score(f, t, True)):
        value = score(x, y)
        assert score(x[order], y[order]) == pytest.approx(value, rel=1e-6)             # the images' order
        assert score(x, np.array(list("zyxwvutsrqponml"))[y]) == pytest.approx(value, rel=1e-6) # the classes' names
        assert score(x @ rotation, y) == pytest.approx(value, rel=1e-6)                # a rotation of the features
        assert score(x.astype(np.float32), y) == pytest.approx(value, rel=1e-3)
    for score in (logme, h_score, lambda f, t: h_score(f, t, True)): # scale; for LogME over ten orders of magnitude
        assert score(1e-5*x, y) == pytest.approx(score(x, y), rel=1e-6) == score(1e5*x, y)
    for score in (h_score, transrate): # a shift, and a feature that is the same for all images, are seen by LogME alone
        assert score(x + 7, y) == pytest.approx(score(x, y), rel=1e-6)
    assert transrate(np.c_[x, np.full(len(x), 3.)], y) == pytest.approx(transrate(x, y), rel=1e-6)
    assert h_score(np.c_[x, np.full(len(x), 3.)], y, False) == pytest.approx(h_score(x, y, False), rel=1e-6)
    assert transrate(10*x, y) != pytest.approx(transrate(x, y), rel=1e-3) # the unit of ε, as the notebook says


def test_the_h_score_is_blind_to_invertible_maps():
    x, y = case("n > F")
    assert h_score(x @ np.random.default_rng(2).normal(size=(5, 5)) - 3, y) == pytest.approx(h_score(x, y), rel=1e-6)


def test_doubling_every_image_changes_no_rate():
    x, y = case("n > F")
    assert transrate(np.r_[x, x], np.r_[y, y]) == pytest.approx(transrate(x, y), rel=1e-9)
    theta = np.random.default_rng(0).dirichlet(np.ones(4), len(y))
    assert leep(np.r_[theta, theta], np.r_[y, y]) == pytest.approx(leep(theta, y), rel=1e-9) == leep(theta[:, ::-1], y)


def test_ot_between_moved_and_equal_clouds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 6))
    assert ot_distance(x, x[::-1]) == pytest.approx(0, abs=1e-5)
    for step in (.5, 2., 20.):
        moved = x + step
        assert ot_distance(x, moved) == pytest.approx(6*step**2/((x[:, None] - moved)**2).sum(2).mean(), abs=1e-4)
    assert ot_distance(1e4*x, 1e4*(x + 1) + 1e6) == pytest.approx(ot_distance(x, x + 101), rel=1e-4)
    assert 0 <= ot_distance(x, x + .5) < ot_distance(x, x + 2) < ot_distance(x, x + 20) <= 1
    assert ot_distance(x[:10], x[6:]) == pytest.approx(ot_distance(x[6:], x[:10]), abs=1e-5)
    many = np.r_[rng.normal(size=(80, 6)), [[1e3]*6]] # an outlier: exp(-cost/ε) is 0 to a computer in all its row
    assert .9 < ot_distance(many, x) < 1
    assert ot_distance(np.ones((5, 6)), x) > 0 # one cloud that is a single point


@pytest.mark.parametrize("score", (logme, h_score, transrate))
def test_several_labels_an_image_are_told_apart_one_by_one(score):
    x, _ = case("n > F")
    y = np.random.default_rng(3).integers(0, 2, (60, 3)).astype(np.float32)
    assert score(x, y) == pytest.approx(np.mean([score(x, c) for c in y.T]))
    assert score(x, np.c_[y, np.zeros(60)]) == pytest.approx(score(x, y)) # a label that nobody has is left out


# Errors

@pytest.mark.parametrize("score", (logme, h_score, transrate, leep))
def test_bad_input_is_named(score):
    x, y = case("n > F")
    x = np.abs(x)/np.abs(x).sum(1, keepdims=True)
    score(x, y)
    name = "source_probabilities" if score is leep else "features"
    for bad in (np.nan, np.inf):
        spoilt = x.copy(); spoilt[7, 2] = bad
        with pytest.raises(InputError, match=f"`{name}` has NaN or infinite numbers in 1 of 60 rows .first: row 7"): score(spoilt, y)
    with pytest.raises(InputError, match=rf"`{name}` must be \(n,F\).*got shape \(60,\)"): score(x[:, 0], y)
    with pytest.raises(InputError, match=rf"`labels` must be \(60,\).*got shape \(59,\)"): score(x, y[:-1])
    with pytest.raises(InputError, match="`labels` are the same for all 60 images"): score(x, 0*y)
    with pytest.raises(InputError, match="`labels` has NaN"): score(x, np.where(y > 0, np.nan, 0.))
    with pytest.raises(InputError, match="0 or 1 everywhere"): score(x, np.c_[y, 2*y])
    if score is not leep:
        with pytest.raises(InputError, match="`features` are constant: all 60 images"): score(np.full_like(x, .2), y)


def test_bad_probabilities_and_clouds_are_named():
    y = np.arange(10) % 2
    with pytest.raises(InputError, match="row 0 sums to 1.8.*several labels an image"): leep(np.full((10, 2), .9), y)
    with pytest.raises(InputError, match="at least 0"): leep(np.tile([1.5, -.5], (10, 1)), y)
    x = np.random.default_rng(0).normal(size=(10, 3))
    with pytest.raises(InputError, match="`source_features` has 3 features and `target_features` 2"): ot_distance(x, x[:, :2])
    with pytest.raises(InputError, match="`target_features` has NaN"): ot_distance(x, x*np.nan)
    with pytest.raises(InputError, match="constant and the same"): ot_distance(np.ones((4, 2)), np.ones((4, 2)))
    with pytest.raises(InputError, match="`eps` must be above 0"): transrate(x, y, 0)
    with pytest.raises(InputError, match="`epsilon` must be a number at least"): ot_distance(x, x, 0)


# Ranking sources

@pytest.fixture(scope="module")
def target(): return phantom("phantom-emphysema", 300, size=32)


@pytest.fixture(scope="module")
def pixels(target): return np.asarray(load_pixels(target, 32))


def checkpoint(seed, classes=("a", "b"), domain="mine", recipe=None, spoil=None):
    net = draw_all(create_backbone("resnet10", len(classes)), seed)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    if spoil is not None: state["stage4.bn2.weight"], state["stage4.downsample.1.weight"] = (state[k]*0 + spoil for k in ("stage4.bn2.weight", "stage4.downsample.1.weight"))
    return Checkpoint(state, "resnet10", classes, 32, domain, recipe=recipe or dict(balance="balanced"))


@pytest.fixture(scope="module")
def sources(): return dict(one=[checkpoint(1), checkpoint(2)], other=checkpoint(3, tuple("abc")))


@pytest.mark.parametrize("has_test_set", (True, False))
def test_scores_come_from_the_training_sets_alone(target, pixels, sources, has_test_set):
    "Pixels of every image that was not drawn are spoilt; nothing may change. Without a test set, the first fold's training patients are drawn from."
    if not has_test_set: target = replace(target, items=target.items.assign(split=""))
    drawn = np.unique(np.concatenate([draw_subset(target, 20, s, pool=target.splits(s)[0].train) for s in range(3)]))
    spoilt = np.random.default_rng(0).integers(0, 256, pixels.shape).astype(np.uint8)
    spoilt[drawn] = pixels[drawn]
    a, b, c = (rank_sources(target, sources, 20, 3, pixels=p) for p in (pixels, spoilt, None))
    pd.testing.assert_frame_equal(a.scores, b.scores); pd.testing.assert_frame_equal(a.scores, c.scores)
    assert not set(drawn) & set(target.splits(0)[0].test) or not has_test_set


def test_a_seed_takes_its_subset_and_the_next_pretraining(target, pixels, sources):
    from ttl_nb.analysis.activations import extract_features
    scores = rank_sources(target, sources, 20, 3, pixels=pixels).scores
    one = scores[(scores["source"] == "one") & (scores["score"] == "transrate")].sort_values("seed")
    assert list(one["seed"]) == [0, 1, 2] and list(one["checkpoint"]) == [0, 1, 0]
    for seed, k, value in zip(one["seed"], one["checkpoint"], one["value"]):
        rows = draw_subset(target, 20, seed, pool=target.splits(seed)[0].train)
        net = create_backbone("resnet10", 2)
        net.load_state_dict(sources["one"][k].state)
        assert transrate(extract_features(net, pixels[rows]), target.labels[rows]) == pytest.approx(value, rel=1e-4)


def test_files_lists_and_checkpoints_are_the_same_source(target, pixels, sources, tmp_path):
    file = save_checkpoint(sources["other"], tmp_path/"other.safetensors")
    by_file = rank_sources(target, dict(other=str(file)), 20, 2, pixels=pixels).scores
    by_list = rank_sources(target, [sources["other"]], 20, 2, pixels=pixels).scores.replace("mine", "other")
    for found in (by_file, by_list): pd.testing.assert_frame_equal(found, rank_sources(target, dict(other=sources["other"], none=None), 20, 2, pixels=pixels).scores)


def test_no_global_generator_is_touched_and_progress_is_told(target, pixels, sources):
    torch.manual_seed(5); np.random.seed(5)
    before, told = (torch.get_rng_state(), np.random.get_state()[1].copy()), []
    rank_sources(target, sources, 20, 3, pixels=pixels, progress=lambda done, of: told.append((done, of)))
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    assert told == [(i, 6) for i in range(1, 7)] # two networks of one, one of the other, three of none


def test_a_source_that_sees_the_classes_is_ranked_first(target):
    "Planted: images of one class are brighter, and one source's features are nothing but noise to that."
    y = target.labels
    rng = np.random.default_rng(0)
    pixels = np.clip(rng.normal(90, 40, (len(y), 32, 32)) + 60*y[:, None, None], 0, 255).astype(np.uint8)
    flat = checkpoint(4)
    flat.state["normalise.std"].fill_(1e4) # all images look alike but for rounding
    r = rank_sources(target, dict(blunt=flat, sharp=checkpoint(5)), 40, 3, pixels=pixels, measured=dict(blunt=.5, sharp=.9))
    assert r.table[r.table["rank"] == 1].set_index("score").loc[["transrate"], "source"].tolist() == ["sharp"]
    transrate_row = r.agreement.set_index("score").loc["transrate"]
    assert (transrate_row["picks"], transrate_row["tau"], transrate_row["regret"]) == ("sharp", 1, 0) and transrate_row["by_chance"] == pytest.approx(.2)


def test_leep_is_left_out_with_its_reason(target, pixels):
    multi, own = phantom("phantom-chest", 60, size=32), phantom("phantom-natural", 200, size=32)
    found = dict(silent=checkpoint(1, recipe=dict(balance="prevalence")), headless=checkpoint(2, ()), multi=checkpoint(3, multi.classes, "phantom-chest"),
                 told=checkpoint(4, own.classes, "x", dict(balance="prevalence")))
    r = rank_sources(target, found, 20, 2, pixels=pixels, source_domains=dict(told=own, multi=multi), most=16)
    assert set(r.scores.loc[r.scores["score"] == "leep", "source"]) == {"told"}
    assert [any(f"'{s}' {why}" in n for n in r.notes) for s, why in (("silent", "doesn't say"), ("headless", "came without"), ("multi", "gives several"))] == [True]*3 and len(r.notes) == 3
    assert set(r.scores.loc[r.scores["score"] == "ot_distance", "source"]) == {"told", "multi"}
    assert all(n in r.summary() for n in r.notes) and "leep" not in set(rank_sources(target, found, 20, 2, pixels=pixels).scores["score"])


def test_faults_are_named(target, pixels, sources):
    other = checkpoint(9); object.__setattr__(other, "image_size", 64)
    for error, extra in (("source 'b' was trained at 64 pixels, but `image_size` is 32", dict(sources=dict(a=checkpoint(1), b=other))),
                         ("`measured` has an AUC of 'knee'", dict(measured=dict(knee=.7, one=.8))),
                         ("`measured` of 'one' must be an AUC between 0 and 1", dict(measured=dict(one=70, other=.5))),
                         ("`measured` has different numbers of AUCs", dict(measured=dict(one=[.7, .8], other=.5))),
                         ("`measured` has the AUC of one, none alone", dict(measured=dict(one=.7, none=.6))),
                         ("`source_domains` names 'knee'", dict(source_domains=dict(knee=target))),
                         ("source 'one' tells a, b apart", dict(source_domains=dict(one=target))),
                         ("`pixels` holds 5 images", dict(pixels=pixels[:5])),
                         ("`seeds` must be a whole number at least 1", dict(seeds=0)),
                         ("largest balanced training set", dict(n_train=5000)),
                         ("`sources` is empty", dict(sources=dict(none=None)))):
        with pytest.raises(InputError, match=error): rank_sources(**(dict(target=target, sources=sources, n_train=20, seeds=2, pixels=pixels) | extra))
    dead = checkpoint(1)
    for k in ("stage4.bn2.weight", "stage4.downsample.1.weight"): dead.state[k].fill_(0)
    with pytest.raises(InputError, match="source 'dead', pretraining 0: `features` are constant"): rank_sources(target, dict(dead=dead), 20, 2, pixels=pixels)
    dead.state["stem.0.weight"].fill_(float("nan"))
    with pytest.raises(InputError, match="source 'dead', pretraining 0: `features` has NaN"): rank_sources(target, dict(dead=dead), 20, 2, pixels=pixels)


# Agreement with what was measured

def made_up(values, measured, score="logme"):
    "`values` (seeds,sources)."
    names = list("abcdefgh")[:values.shape[1]]
    rows = [dict(source=s, score=score, seed=i, checkpoint=0, value=v) for i, row in enumerate(values) for s, v in zip(names, row)]
    return Ranking(pd.DataFrame(rows), "t", 50, dict(zip(names, measured)))


def test_agreement_is_tau_and_regret_of_each_seed():
    rng = np.random.default_rng(0)
    values, truth = rng.normal(size=(7, 6)), rng.uniform(.6, .9, 6)
    for score, sign in (("logme", 1), ("ot_distance", -1)):
        a = made_up(values, truth, score).agreement.iloc[0]
        taus = [kendalltau(sign*v, truth).statistic for v in values]
        regrets = [truth.max() - truth[(sign*v).argmax()] for v in values]
        assert (a["tau"], a["regret"]) == (pytest.approx(np.mean(taus)), pytest.approx(np.mean(regrets)))
        assert (a["tau_low"], a["tau_high"]) == tuple(pytest.approx(q) for q in np.quantile(taus, (.025, .975)))
        assert a["by_chance"] == pytest.approx(truth.max() - truth.mean()) and a["picks"] == "abcdef"[(sign*values.mean(0)).argmax()]


def test_noise_in_what_was_measured_widens_the_band():
    "A perfect score of sources whose AUCs overlap from seed to seed."
    order, rng = np.tile([1., 2, 3], (5, 1)), np.random.default_rng(0)
    aucs = np.array([.80, .81, .82])[:, None] + rng.normal(0, .05, (3, 5))
    aucs += np.array([.80, .81, .82])[:, None] - aucs.mean(1, keepdims=True)
    exact, noisy = made_up(order, aucs.mean(1)).agreement.iloc[0], made_up(order, aucs.tolist()).agreement.iloc[0]
    assert exact["tau"] == exact["tau_low"] == noisy["tau"] == 1 and noisy["tau_low"] < 1 and noisy["regret_high"] > exact["regret_high"] == 0


def test_random_weights_above_every_source_are_told():
    low, high = made_up(np.tile([1., 2], (3, 1)), [.7, .8]), made_up(np.tile([1., 2], (3, 1)), [.7, .8])
    for r, value in ((low, 1.5), (high, 2.5)):
        rows = [dict(source="none", score="logme", seed=i, checkpoint=0, value=value) for i in range(3)]
        object.__setattr__(r, "scores", pd.concat([r.scores, pd.DataFrame(rows)], ignore_index=True))
    assert "LogME puts random weights above every source" in high.summary() and "random weights" not in low.summary()


def test_equal_aucs_have_no_order():
    a = made_up(np.tile([1., 2, 3], (3, 1)), [.8, .8, .8]).agreement.iloc[0]
    assert math.isnan(a["tau"]) and a["regret"] == 0


def test_the_picture_shows_every_source_and_score(target, pixels, sources):
    r = rank_sources(target, sources, 20, 3, pixels=pixels, measured=dict(one=[.7, .72, .75], other=[.8, .7, .79]))
    ax = r.plot()
    assert [t.get_text().split("\n")[0] for t in ax.get_xticklabels()] == ["LogME", "H-score", "TransRate", "LEEP", "measured"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one, 0.723", "other, 0.763", "none: random weights"]
    marks = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
    assert len(marks) == 2*5 and all(0 <= line.get_ydata()[0] <= 1 for line in marks)
    assert r.plot(ax) is ax and "matplotlib.pyplot" not in str(type(ax.figure))
    assert all(SCORES[s] in r.summary() for s in ("logme", "h_score", "transrate", "leep")) and "Chaves" in r.summary()
    assert r.table["rank"].isna().sum() == 3 and set(r.table.loc[r.table["rank"].isna(), "source"]) == {"none"}
