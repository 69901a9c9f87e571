"Phantoms are the same everywhere, differ between hospitals as real images do, and give no label away."
import os, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ttl_nb.analysis.metrics import auc_influence, auc_interval, contrast
from ttl_nb.data.phantom import KINDS, draw_phantoms, phantom, phantom_table
from ttl_nb.data.pixels import load_pixels
from ttl_nb.data.subset import draw_subset
from ttl_nb.data.simulation import chest

RECORDED = Path(__file__).parent/'data'/'phantoms.npz'
TARGETS = [k for k, kind in KINDS.items() if kind.target]

def one_now(*names): # The others are drawn by `make slow`
    first, *rest = names
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in rest)]


def addresses(): # Two images of each domain at each hospital, and one of another population and size
    "Addresses whose images are recorded."
    found = [f for k in KINDS for h in 'AB' for f in phantom_table(k, 9, 0, 48, h)['file'].iloc[[0, 8]]]
    return found + list(phantom_table('phantom-chest', 3, 7, 64, 'A')['file'].iloc[2:])


def record():
    "Write the recorded images anew: after a change of the simulator that raised `VERSION`."
    RECORDED.parent.mkdir(exist_ok=True)
    tables = {k: phantom(k, 120).items.drop(columns='file').to_csv() for k in KINDS}
    np.savez_compressed(RECORDED, **{f'image {f}': x for f, x in zip(addresses(), draw_phantoms(addresses()))},
                        **{f'table {k}': np.array(t) for k, t in tables.items()})


def test_images_are_the_recorded_ones():
    recorded = np.load(RECORDED)
    assert {n[6:] for n in recorded if n.startswith('image ')} == set(addresses())
    for f, x in zip(addresses(), draw_phantoms(addresses())):
        off = np.abs(x.astype(int) - recorded[f'image {f}'])
        assert off.max() <= 1, f'{f}: {(off > 1).sum()} pixels are more than a grey level off: raise VERSION, or find what changed'


def test_patients_and_labels_are_the_recorded_ones():
    recorded = np.load(RECORDED)
    for k in KINDS: assert phantom(k, 120).items.drop(columns='file').to_csv() == str(recorded[f'table {k}']), k


def test_another_process_draws_the_same():
    code = ('import sys, hashlib; from ttl_nb.data.phantom import draw_phantoms\n'
            'print(hashlib.sha256(b"".join(x.tobytes() for x in draw_phantoms(sys.argv[1:]))).hexdigest())')
    env = [dict(os.environ, PYTHONHASHSEED=h, OMP_NUM_THREADS=t, OPENBLAS_NUM_THREADS=t) for h, t in (('1', '1'), ('2', '2'))]
    out = [subprocess.run([sys.executable, '-c', code, *addresses()], env=e, capture_output=True, text=True, check=True).stdout for e in env]
    assert out[0] == out[1]


def linear(train, y, test):
    "Scores of an L2 logistic regression on standardised features."
    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=500)).fit(train, y).decision_function(test)


@pytest.mark.parametrize('name', one_now('phantom-pneumonia', 'phantom-emphysema', 'phantom-hernia'))
def test_corners_say_nothing_of_the_label(name):
    "Where markers, collimation and bare noise are, on 2200 images; at a level that three targets share."
    domain = phantom(name, 2200)
    x = np.asarray(load_pixels(domain, 96)).astype(np.float32)
    corners = np.concatenate([x[:, v, h].reshape(len(x), -1) for v in (slice(14), slice(-14, None)) for h in (slice(14), slice(-14, None))], 1)
    split = domain.splits()[0]
    scores = linear(corners[split.train], domain.labels[split.train], corners[split.test])
    found = auc_interval(domain.labels[split.test], scores, domain.patients[split.test], level=1-.05/3)
    assert found.low <= .5 <= found.high, f'{name}: the corners tell the label at {found}'


@pytest.mark.parametrize('name', TARGETS)
def test_order_and_number_of_images_say_nothing(name):
    domain = phantom(name, 4000)
    first = ~domain.items['patient'].duplicated().to_numpy()
    y = domain.labels[first]
    views = domain.items.groupby('patient', sort=False).size().to_numpy()
    for what, x in (('order', np.arange(len(y))), ('number of images', views), ('parity', np.arange(len(y)) % 2)):
        assert spearmanr(x[:-1], y[:-1]).pvalue > 1e-3, f'{name}: the {what} follows the label'
    assert abs(y.mean() - .5) < .05


@pytest.mark.parametrize('target', ['pneumonia', 'emphysema', 'hernia'])
def test_a_finding_changes_the_body_and_not_the_frame(target):
    "With and without it, the same patient: the frame moves only as far as the window follows the body."
    def rng(*keys): return np.random.default_rng([5, *keys])
    for seed in [s for s in range(40) if chest.draw_patient(rng(s), target)['findings'][target] > 0][:6]:
        patient = chest.draw_patient(rng(seed), target)
        healthy = {**patient, 'findings': {**patient['findings'], target: 0.}}
        ill, well = (chest.draw([chest.draw_image(rng(seed, 1), p)], 96, 'B', [rng(seed, 2)])[0] for p in (patient, healthy))
        off = np.abs(ill - well)
        frame = max(off[:8].max(), off[:60, :3].max(), off[:60, -3:].max())
        assert off.max() > 5/255 and frame < off.max()/4, f'patient {seed}: {255*frame:.1f} grey levels in the frame, {255*off.max():.1f} in all'


def features_of(domain):
    "What a ready source sees in a domain's images."
    from ttl_nb.analysis.activations import extract_features
    from ttl_nb.models.backbone import create_backbone
    from ttl_nb.models.ready import ready_source
    from ttl_nb.train.learner import one_thread
    source = ready_source('phantom-chest')[0]
    net = create_backbone(source.backbone, len(source.classes))
    net.load_state_dict(source.state)
    with one_thread(): return extract_features(net, np.asarray(load_pixels(domain, 96)))


@pytest.mark.parametrize('name', one_now('phantom-pneumonia', 'phantom-emphysema'))
def test_another_hospital_costs_auc(name):
    "The same test patients, imaged at A and at B, scored by classifiers that were trained on A's images of 5 × 800 draws."
    at = {h: phantom(name, 2200, hospital=h) for h in 'AB'}
    x, split, y = {h: features_of(d) for h, d in at.items()}, at['A'].splits()[0], at['A'].labels
    found = {'A': [], 'B': []}
    for seed in range(5):
        rows = draw_subset(at['A'], 800, seed, pool=split.train)
        scores = {h: linear(x['A'][rows], y[rows], x[h][split.test]) for h in 'AB'}
        for h, s in scores.items(): found[h].append(auc_influence(y[split.test], s, at['A'].patients[split.test]))
    assert np.mean([f.auc for f in found['A']]) > .7
    off = contrast(found['A'], found['B'])
    assert off.low > 0, f'{name}: hospital B costs {off}'


def test_a_ready_source_scores_what_it_says():
    from ttl_nb.models.ready import ready_source
    from ttl_nb.train.pretrain import score_source
    source = ready_source('phantom-chest')[1]
    found = score_source(source, phantom('phantom-chest'))
    assert found['n_test'] == source.score['n_test']
    assert abs(found['auc'] - source.score['auc']) < 2e-4, (found, source.score)


def test_written_as_dicom_and_read_back(tmp_path):
    "Every Domain function takes phantoms, and a folder of DX files of them is the same domain."
    from ttl_nb.data.catalog import from_csv
    from ttl_nb.data.export import write_dicom
    domain = phantom('phantom-emphysema', 16)
    write_dicom(domain, tmp_path)
    back = from_csv(tmp_path/'labels.csv')
    assert list(back.items['label']) == list(domain.items['label']) and len(set(back.patients)) == len(set(domain.patients))
    off = np.abs(np.asarray(load_pixels(back, 96)).astype(int) - load_pixels(domain, 96))
    assert off.max() <= 1


if __name__ == '__main__': record()
