"""Do the intervals of ttl_nb.analysis.metrics hold what they promise? Simulated test sets with a known truth.

Every test breaks when its formula does: without clustering, without the covariance of the cases, without the readers'
variance, without checkpoints as readers, or with the plain logit interval near an AUC of 1.
"""
import numpy as np
import pytest
from scipy.stats import norm, t as student
from ttl_nb.analysis.metrics import (Influence, _influence, accuracy_interval, auc_interval, contrast,
                                     equivalence, mean_auc)

SHARED, OWN, NOISE = .7, .3, .5   # SD of an image's difficulty: for all models, for an arm, for a run
SIGMA = (SHARED**2 + OWN**2 + NOISE**2)**.5


def layout(rng, n_patients, share=.5, most=5):
    "Labels (n,) and patients (n,): a patient has one label and 1 to `most` images."
    patients = np.repeat(np.arange(n_patients), rng.integers(1, most + 1, n_patients))
    return (patients < round(share*n_patients)).astype(int), patients


def correlated(rng, shape, patients, alike=.7):
    "Noise (*shape, n) of SD 1, of which the share `alike` of the variance is common to a patient's images."
    common = rng.normal(size=(*shape, patients.max() + 1))[..., patients]
    return alike**.5*common + (1 - alike)**.5*rng.normal(size=(*shape, len(patients)))


def true_auc(gap, sigma=1.): return norm.cdf(gap/sigma/2**.5)
def gap_of(auc, sigma=1.): return norm.ppf(auc)*2**.5*sigma


def arms(seed, n_studies, n_seeds, aucs=(.75, .75), n_patients=100, seed_sd=.02, k=None, checkpoint_sd=0.):
    """Influences [study][arm][seed] of two arms, and the arms' true mean AUC.

    The runs of an arm share what it finds hard; their true AUCs have SD `seed_sd` among seeds and `checkpoint_sd` among
    the `k` checkpoints, of which seed s takes number s mod k.
    """
    rng = np.random.default_rng(seed)
    y, patients = layout(rng, n_patients, most=3)
    psis, thetas, truth = [], [], []
    shared = SHARED*correlated(rng, (n_studies, 1), patients)
    for auc in aucs:
        gap = gap_of(auc, SIGMA)
        slope = norm.pdf(gap/SIGMA/2**.5)/SIGMA/2**.5
        shifts = rng.normal(0, seed_sd/slope, (n_studies, n_seeds))
        if k: shifts = shifts + rng.normal(0, checkpoint_sd/slope, (n_studies, k))[:, np.arange(n_seeds) % k]
        sd = (seed_sd**2 + checkpoint_sd**2)**.5/slope
        truth.append(true_auc(rng.normal(gap, sd, 400_000), SIGMA).mean())
        scores = shared + OWN*correlated(rng, (n_studies, 1), patients) + NOISE*correlated(rng, shifts.shape, patients)
        theta, psi, sides, pairs = _influence(y == 1, scores + (gap + shifts)[..., None]*y, patients, n_patients)
        thetas.append(theta); psis.append(psi)
    ids, size = np.arange(n_patients), 2*sides[0][1]*sides[1][1]/n_patients

    def runs(arm, i):
        return [Influence(t, p, ids, n_patients - 2., pairs, size) for t, p in zip(thetas[arm][i], psis[arm][i])]

    return [[runs(arm, i) for arm in range(len(aucs))] for i in range(n_studies)], truth


def single_runs(seed, auc, n_patients, share=.5, n=1000, most=5, long_tails=False):
    "Labels, patients and scores (n, images) of `n` test sets for a model of true AUC `auc`."
    rng = np.random.default_rng(seed)
    y, patients = layout(rng, n_patients, share, most)
    s = correlated(rng, (n,), patients)
    if long_tails: return y, patients, -np.log(norm.cdf(-s))*np.where(y == 1, auc/(1 - auc), 1)
    return y, patients, s + gap_of(auc)*y


def covered(intervals, truth): return np.mean([i.low <= truth <= i.high for i in intervals])
def false_positives(contrasts): return np.mean([c.p < .05 for c in contrasts])


@pytest.mark.parametrize('auc, n_patients, share', [(.65, 120, .5), (.8, 120, .5), (.8, 200, .2), (.75, 40, .5)])
def test_interval_of_one_model_is_clustered_by_patient(auc, n_patients, share):
    y, patients, scores = single_runs(1, auc, n_patients, share)
    clustered = covered([auc_interval(y, s, patients) for s in scores], auc)
    plain = covered([auc_interval(y, s, np.arange(len(y))) for s in scores], auc)
    print(f'\nauc {auc}, {n_patients} patients, {share:.0%} positive: {clustered:.3f}, plain {plain:.3f}')
    assert .93 <= clustered <= .97
    assert plain < .90


@pytest.mark.parametrize('auc', [.95, .98, .995])
@pytest.mark.parametrize('n_patients, share, long_tails', [(60, .5, False), (200, .1, False), (200, .1, True)])
def test_interval_near_one(auc, n_patients, share, long_tails):
    y, patients, scores = single_runs(2, auc, n_patients, share, n=600, long_tails=long_tails)
    intervals = [auc_interval(y, s, patients) for s in scores]
    share_covered = covered(intervals, auc)
    print(f'\nauc {auc}, {n_patients} patients, {share:.0%} positive, long tails {long_tails}: {share_covered:.3f}')
    assert .93 <= share_covered <= .999
    assert all(0 <= i.low < i.high <= 1 for i in intervals)


def test_interval_of_out_of_fold_scores():
    y, patients, scores = single_runs(3, .8, 80)
    folds = np.random.default_rng(3).permutation(np.arange(80) % 5)[patients]
    scale = np.random.default_rng(4).normal(0, 3, (len(scores), 5))[:, folds]   # each fold's model: its own
    within = covered([auc_interval(y, s, patients, folds) for s in scores + scale], .8)
    pooled = covered([auc_interval(y, s, patients) for s in scores + scale], .8)
    print(f'\nwithin folds {within:.3f}, pooled {pooled:.3f}')
    assert .93 <= within <= .985
    assert pooled < .5


@pytest.mark.parametrize('share', [.6, .9, .98])
def test_interval_of_accuracy(share):
    y, patients, noise = single_runs(5, .5, 60)
    right = noise < norm.ppf(share)
    clustered = covered([accuracy_interval(np.ones(len(y), int), r, patients) for r in right], share)
    plain = covered([accuracy_interval(np.ones(len(y), int), r, np.arange(len(y))) for r in right], share)
    print(f'\naccuracy {share}: clustered {clustered:.3f}, plain {plain:.3f}')
    assert .93 <= clustered <= .98
    assert plain < .93


@pytest.mark.parametrize('n_seeds, n_studies', [(5, 2000), (10, 1500), (20, 1000)])
def test_false_positives_of_a_contrast(n_seeds, n_studies):
    studies, _ = arms(10 + n_seeds, n_studies, n_seeds)
    contrasts = [contrast(a, b) for a, b in studies]
    found = false_positives(contrasts)
    d = np.array([[i.auc for i in a] for a, _ in studies]) - np.array([[i.auc for i in b] for _, b in studies])
    seeds_only = np.abs(d.mean(1))/d.std(1, ddof=1)*n_seeds**.5
    naive = np.mean(seeds_only > student.ppf(.975, n_seeds - 1))          # plain t: other patients are forgotten
    se = np.mean([c.se**2 for c in contrasts])**.5/np.std(d.mean(1))
    print(f'\n{n_seeds} seeds: {found:.4f}, plain t over seeds {naive:.3f}, se {se:.3f} of true')
    assert .03 <= found <= .075
    assert .93 < se < 1.07
    if n_seeds >= 10: assert naive > .12


def test_false_positives_when_seeds_hardly_differ_or_patients_hardly_matter():
    still, _ = arms(31, 1000, 8, seed_sd=.001)
    wild, _ = arms(32, 1000, 8, seed_sd=.08)
    found = [false_positives([contrast(a, b) for a, b in studies]) for studies in (still, wild)]
    print(f'\nquiet seeds {found[0]:.3f}, wild seeds {found[1]:.3f}')
    assert all(.03 <= f <= .075 for f in found)


def test_coverage_of_a_real_difference():
    studies, (high, low) = arms(41, 1500, 10, aucs=(.80, .74))
    contrasts = [contrast(a, b) for a, b in studies]
    share = covered(contrasts, high - low)
    found = np.mean([c.low > 0 for c in contrasts])
    print(f'\ndifference {high - low:.3f}: coverage {share:.3f}, resolved {found:.2f}')
    assert .93 <= share <= .97
    assert .3 < found < .98            # a difference that may be missed: neither trivial nor hopeless
    assert abs(np.mean([c.estimate for c in contrasts]) - (high - low)) < .003


def test_checkpoints_are_readers():
    seeds, k = 12, 4
    studies, _ = arms(51, 1000, seeds, k=k, checkpoint_sd=.02, seed_sd=.005, n_patients=300)
    number = np.arange(seeds) % k
    as_readers = false_positives([contrast(a, b, number, number) for a, b in studies])
    ignored = false_positives([contrast(a, b) for a, b in studies])
    print(f'\ncheckpoints as readers {as_readers:.3f}, ignored {ignored:.3f}')
    assert .015 <= as_readers <= .07
    assert ignored > .09


def test_checkpoints_that_are_divided_differently():
    seeds = 12
    studies, _ = arms(61, 600, seeds, k=4, checkpoint_sd=.005, seed_sd=.01, n_patients=300)
    other, _ = arms(62, 600, seeds, k=3, checkpoint_sd=.03, seed_sd=.01, n_patients=300)
    pairs = [(a[0], b[0]) for a, b in zip(studies, other)]   # different patients: no covariance
    contrasts = [contrast(a, b, np.arange(seeds) % 4, np.arange(seeds) % 3) for a, b in pairs]
    found = false_positives(contrasts)
    first_only = false_positives([contrast(a, b, np.arange(seeds) % 4) for a, b in pairs])
    print(f'\n4 against 3 checkpoints: {found:.3f}, with the division of the first arm only {first_only:.3f}')
    assert found <= .07
    assert first_only > .08


@pytest.mark.parametrize('auc, k', [(.75, None), (.75, 4), (.97, None)])
def test_coverage_of_a_mean_over_seeds(auc, k):
    sds = dict(seed_sd=.01, checkpoint_sd=.02) if k else dict(seed_sd=.02 if auc < .9 else .004)
    studies, (truth,) = arms(71, 1000, 12, aucs=(auc,), k=k, **sds)
    number = None if k is None else np.arange(12) % k
    means = [mean_auc(a, number) for a, in studies]
    share, seeds_only = covered(means, truth), np.array([[i.auc for i in a] for a, in studies])
    se = np.mean([m.se**2 for m in means])**.5/np.std([m.estimate for m in means])
    naive = np.mean(np.abs(seeds_only.mean(1) - truth) < 2.2*seeds_only.std(1, ddof=1)/12**.5)
    print(f'\nmean of 12 seeds, auc {auc}, checkpoints {k}: {share:.3f}, plain t {naive:.3f}, se {se:.3f} of true')
    assert .9 < se < 1.1
    assert .93 <= share <= (.98 if auc < .9 else .995)
    assert naive < .80


def test_equivalence_is_rarely_found_at_the_margin():
    studies, (high, low) = arms(81, 1000, 10, aucs=(.80, .75), seed_sd=.01)
    wrong = np.mean([equivalence(contrast(a, b), margin=high - low).equivalent for a, b in studies])
    same, _ = arms(82, 300, 10, seed_sd=.01)
    right = np.mean([equivalence(contrast(a, b), margin=.08).equivalent for a, b in same])
    print(f'\nequivalent at the margin {wrong:.3f}, equal arms {right:.2f}')
    assert .02 <= wrong <= .075
    assert right > .8


def test_few_seeds_foretell_the_error_of_many():
    "Five seeds foretell the standard error of twenty, on which `readers_needed` hangs."
    few, _ = arms(92, 60, 5, aucs=(.79, .75), n_patients=300, seed_sd=.05)
    many, _ = arms(92, 60, 20, aucs=(.79, .75), n_patients=300, seed_sd=.05)
    widths = [np.sqrt(np.mean([contrast(a, b).se**2 for a, b in s])) for s in (few, many)]
    c5 = [contrast(a, b) for a, b in few]
    s2, cov = np.mean([c.var_readers for c in c5]), np.mean([c.cov_cases for c in c5])
    print(f'\nse with 20 seeds: {widths[1]:.4f}, foretold from 5 seeds {np.sqrt(s2/20 + cov):.4f}')
    assert abs(widths[1]/np.sqrt(s2/20 + cov) - 1) < .1
