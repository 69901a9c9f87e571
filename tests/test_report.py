"The report in the hands of a reader: hostile names, unfinished and odd studies, a phone's browser without a network."
import json, re, shutil
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ttl_nb.analysis.metrics import auc_interval
from ttl_nb.data.domain import Domain
from ttl_nb.models.backbone import create_backbone
from ttl_nb.models.checkpoint import Checkpoint
from ttl_nb.models.initial import draw_all
from ttl_nb.errors import InputError
from ttl_nb.study.baseline_arms import write_baselines
from ttl_nb.study.gates import GateFailed
from ttl_nb.study.report import render, write_report
from ttl_nb.study.results import Results, write_cases, write_study
from ttl_nb.study.store import Store
from ttl_nb.study.study import Study
from ttl_nb.train.freezing import FreezingPlan
from ttl_nb.train.recipe import is_converged_probe
from ttl_nb.train.recording import Recording

CHROMIUM = '/usr/bin/chromium'
HOSTILE = '<script>alert(1)</script>"\'&{{7*7}}$x^2'
PASSED = [dict(name='every run has its own weights', passed=True, found='all')]


def make_domain(folder, name, classes=('no', 'yes'), n=120, test=True):
    "A domain of noise; with a test set of two in five, or none."
    (folder/'images').mkdir(parents=True, exist_ok=True)
    rng, files = np.random.default_rng(0), [folder/'images'/f'{i}.png' for i in range(n)]
    for f in files: Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(f)
    split = np.where(np.arange(n)%5 < 3, 'train', 'test') if test else ['']*n
    items = pd.DataFrame(dict(file=[str(f) for f in files], label=np.resize(list(classes), n), patient=[f'p{i}' for i in range(n)], split=split))
    return Domain(name, items, tuple(classes), root=folder)


def make_source(seed, domain='cats'):
    return Checkpoint(draw_all(create_backbone(), seed).state_dict(), 'resnet10', ('a', 'b'), 16, domain, recipe=dict(n_train=40, epochs=1, min_steps=20),
                      score=dict(auc=.8, low=.7, high=.9, n_test=40))


def invented_run(recipe, target, seed, skill):
    "A run that was never trained: scores that carry `skill` of the labels, the same difficulty for every arm, and a loss that falls."
    splits = target.splits(recipe.subset_seed)
    rows = np.concatenate([o.test for o in splits])
    folds = np.concatenate([np.full(len(o.test), o.fold) for o in splits])
    rng, y = np.random.default_rng([seed, *recipe.id.encode()]), target.labels[rows]
    signal = skill*np.eye(len(target.classes))[y] + np.random.default_rng(9).normal(size=(len(target.labels), len(target.classes)))[rows]
    scores = np.exp(signal + .3*rng.normal(size=signal.shape))
    scores /= scores.sum(1, keepdims=True)
    recording = Recording()
    for step in range(0 if is_converged_probe(recipe) else 40): recording.add('batch', step, loss=.7 - .01*step, lr=[1e-3]*3, mom=.9)
    for at, stages in FreezingPlan(recipe.freezing).phases: recording.add('phase', int(40*at), learning=list(stages))
    ci = auc_interval(y, scores, target.hashed_patients[rows], folds if folds.any() else None)
    return SimpleNamespace(recipe=recipe, rows=rows, scores=scores, folds=folds, accuracy=.5, train_rows=rows[:2], recording=recording, seconds=1.,
                           facts=dict(trained=recipe.id), auc_ci=ci)


def make_study(folder, skill=lambda recipe: 1., classes=('no', 'yes'), sources=('cats', 'none'), test=True, leave=0, name='target', gates=PASSED, pretrainings=2, **axes):
    "The results of an invented study; the last `leave` runs are missing."
    target = make_domain(folder/'data', name, classes, test=test)
    found = {s: None if s == 'none' else [make_source(10*i + k, s) for k in range(pretrainings)] for i, s in enumerate(sources)}
    study = Study(target, found, folder=folder/'study', image_size=16, **(dict(n_train=[10, 20], freezing=['head', 'full', 'gradual'], seeds=4) | axes))
    store = Store(study.folder)
    write_study(study, 'ttl-nb study …'); write_cases(study)
    for seed, recipe in study.grid[:len(study.grid)-leave]: store.add(invented_run(recipe, target, seed, skill(recipe)), seed)
    if not leave: write_baselines(study)
    if gates is not None and not leave: (study.folder/'gates.json').write_text(json.dumps(gates))
    return study.results()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch): monkeypatch.setenv('TTL_NB_CACHE', str(tmp_path/'cache'))


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "An ordinary study: source cats is much better than none, plans differ little."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TTL_NB_CACHE', str(tmp_path_factory.mktemp('cache')))
        return make_study(tmp_path_factory.mktemp('plain'), skill=lambda r: 2.5 if r.source == 'cats' else .2, pretrainings=4)


def text_of(html): return unescape(re.sub(r'\s+', ' ', re.sub(r'<style>.*?</style>|<[^>]*>', ' ', html, flags=re.S)))


def assert_self_contained(html):
    assert not re.search(r'https?://|//[a-z]+\.[a-z]+/|<script|<link[^>]+stylesheet|@import|url\(|<iframe|<object|\son[a-z]+=', html)
    assert {u.split(',')[0] for u in re.findall(r'\ssrc\s*=\s*"([^"]*)"', html)} <= {'data:image/svg+xml;base64', 'data:image/png;base64'}
    assert all(u == 'data:,' or u.startswith('#') for u in re.findall(r'\shref\s*=\s*"([^"]*)"', html))
    ids = set(re.findall(r'\sid="([^"]*)"', html))
    assert {u[1:] for u in re.findall(r'href="(#[^"]*)"', html)} <= ids


def test_needs_no_network(plain):
    html = render(plain)
    assert_self_contained(html)
    assert 'Content-Security-Policy' in html and "default-src 'none'" in html
    assert all(re.findall(r'<img [^>]*alt="([^"]+)"', html)) and len(re.findall('<img ', html)) == len(re.findall('<img [^>]*alt="[^"]+"', html))


def test_hostile_names_are_text(tmp_path):
    "Names of classes, sources, target, gates and the command come from users."
    name = HOSTILE.replace('/', '')
    results = make_study(tmp_path, classes=(HOSTILE, 'b</style><img src=x onerror=alert(1)>'), sources=(name, 'none'), name=HOSTILE, seeds=2,
                         gates=[dict(name=HOSTILE, passed=True, found=HOSTILE)])
    html = render(results)
    assert '<script' not in html and 'onerror=alert(1)>' not in html and '<img src=x' not in html
    assert '&lt;script&gt;alert(1)' in html and '{{7*7}}' in html and '49' not in text_of(html).split('Versions and hashes')[0].split('{{')[0]
    assert html.count('</style>') == 1
    results.says['command'] = f'ttl-nb study --target "{HOSTILE}"'
    assert '<script' not in render(results)


def test_refuses_a_failed_gate(plain, tmp_path):
    copy = shutil.copytree(plain.folder, tmp_path/'study')
    (copy/'gates.json').write_text(json.dumps([*PASSED, dict(name='shuffled labels give chance', passed=False, found='mean AUC 0.71')]))
    with pytest.raises(GateFailed, match="gate 'shuffled labels give chance' failed: mean AUC 0.71"): write_report(Results(copy))
    assert not (copy/'report.html').exists()


def test_gates_not_asked_is_said(plain, tmp_path):
    copy = shutil.copytree(plain.folder, tmp_path/'study')
    (copy/'gates.json').unlink()
    assert 'have not been asked' in render(Results(copy)) and 'have not been asked' not in render(plain)


@pytest.mark.parametrize('leave', [1, 11, 39])
def test_unfinished_is_said_first(tmp_path, leave):
    results = make_study(tmp_path, leave=leave)
    said = text_of(render(results))
    assert f'{40-leave} of 40 runs are done, {leave} {"is" if leave == 1 else "are"} missing' in said
    assert said.index('unfinished') < said.index('The answer')
    assert 'The thumbnail has not been scored yet' in said


def test_arms_without_a_common_seed_are_not_compared(tmp_path):
    "Processes finish out of order: an arm may have seed 0 alone, another seed 1 alone."
    results = make_study(tmp_path, seeds=2)
    keep = [(r.seed == 0) == (r.freezing == 'full') for r in results.runs.itertuples()]
    with results.store._connect() as db:
        db.executemany('DELETE FROM runs WHERE recipe_id = ?', [(i,) for i, k in zip(results.runs['recipe_id'], keep) if not k])
    said = text_of(render(Results(results.folder)))
    assert 'full − gradual' not in said and 'cats − none' in said and f'{sum(keep)} of 20 runs are done' in said


def test_no_runs_is_an_error(tmp_path):
    with pytest.raises(InputError, match='has no finished run yet'): write_report(make_study(tmp_path, leave=40))
    assert not (tmp_path/'study'/'report.html').exists()


def test_where_it_is_written(plain, tmp_path):
    assert write_report(plain, tmp_path/'a.html') == tmp_path/'a.html' and sorted(f.name for f in tmp_path.iterdir() if f.is_file()) == ['a.html']
    with pytest.raises(InputError, match='cannot be written'): write_report(plain, tmp_path/'nowhere'/'a.html')
    with pytest.raises(InputError, match='cannot be written'): write_report(plain, tmp_path)


def rows_of(html):
    "Cells of every contrast's row: difference, interval, verdict and what would resolve it."
    for row in re.findall(r'<tr[^>]*><th scope="row" class="s4">.*?</tr>', html, flags=re.S):
        cells = {k: text_of(v).strip() for k, v in re.findall(r'data-label="([^"]*)">(.*?)</td>', row, flags=re.S)}
        cells['names'] = [o.strip() for o in text_of(row[row.index('>', 5)+1:row.index('</th>')]).replace('†', '').split(' − ')]
        yield cells


def test_verdicts_match_numbers(plain):
    "A row says who is better exactly where its interval and corrected p say so, and names the right one."
    html, seen = render(plain), set()
    for r in rows_of(html):
        estimate, low, high = (float(v.replace('−', '-')) for v in re.findall(r'[+−]?\d\.\d{3}', r['AUC difference [95 % interval]']))
        p = 0. if r['p (Holm)'].startswith('<') else float(r['p (Holm)'])
        better = (low > 0 or high < 0) and p < .05
        winner = r['names'][0 if estimate > 0 else 1]
        assert r['Verdict'] == (f'{"“none”" if winner == "none" else winner} better' if better else 'open'), r
        if 'What would resolve it' in r: assert (r['What would resolve it'] == '–') == better, r
        seen.add(r['Verdict'])
    assert {'cats better', 'open'} <= seen


def test_the_answer_follows_the_numbers(plain):
    said = text_of(render(plain)).split('What was compared')[1]
    for leader in plain.leaders:
        m = leader['mean']
        assert f'{leader["best"][0]}, {leader["best"][1]} has the highest mean AUC, {m.estimate:.3f} [{m.low:.3f}, {m.high:.3f}]' in said
    assert 'cats over “none”' in said and 'does as well' not in said


def test_no_skill_beyond_the_thumbnail_is_said(tmp_path):
    results = make_study(tmp_path, skill=lambda r: 0., seeds=3)
    assert not (results.summary()['over_low'] > 0).any()
    said = text_of(render(results))
    assert 'A 16×16 thumbnail does as well' in said and said.index('thumbnail does as well') < said.index('has the highest mean AUC')


ODD = dict(one_of_each=dict(sources=('cats',), n_train=[10], freezing=['full'], seeds=1), one_seed=dict(seeds=1), scratch_only=dict(sources=('none',), freezing=['full'], seeds=2),
           heads_only=dict(freezing=['head'], seeds=2), classes=dict(classes=('a', 'b', 'c'), seeds=2), folds=dict(test=False, seeds=2),
           classes_and_folds=dict(classes=('a', 'b', 'c'), test=False, seeds=2), many_sources=dict(sources=[f's{i}' for i in range(8)], n_train=[10], seeds=2, freezing=['full']),
           not_asked=dict(gates=None, seeds=2), plans=dict(freezing=['lp_ft', 'gradual:epoch', 'only:stage2', 'freeze_embed', 'head'], n_train=[10], seeds=2),
           inits=dict(freezing=['full'], init=['pretrained', 'mean_var', 'prefix:stage2', 'scratch', 'gabor'], n_train=[10], seeds=2))

@pytest.mark.parametrize('odd', ODD)
def test_odd_studies_have_a_report(tmp_path, odd):
    html = render(make_study(tmp_path, **ODD[odd]))
    assert_self_contained(html)
    said = text_of(html)
    assert not re.search(r'\bnan\b|\bNone\b|\binf\b|Traceback', said), re.findall(r'.{40}\b(?:nan|None|inf)\b.{40}', said)
    if 'folds' in odd: assert 'There is no test set' in said and 'five folds' in said
    if odd == 'one_seed': assert 'open (one seed)' in said and 'a second seed at least' in said
    if odd == 'inits': assert 'each tensor redrawn with its mean and spread' in said and 'a stem of Gabor filters' in said and 'none gabor' in said
    if odd == 'plans': assert 'surgical fine-tuning: stage2' in said and 'solved to convergence' in said
    if odd == 'heads_only': assert 'No arm learned by steps' in said
    if odd == 'one_of_each': assert 'It is the only arm at this size' in said and 'One size was studied' in said


def test_one_checkpoint_is_said(plain, tmp_path):
    one = make_study(tmp_path, seeds=1)
    assert 'one pretraining only' in text_of(render(one)) and '†' in render(one)
    assert '†' not in render(plain) and 'few pretrainings' not in text_of(render(plain))


def test_two_pretrainings_decide_nothing(tmp_path):
    "Two of them can agree by chance: whatever the interval, nothing is called better than what needs no checkpoint."
    two = make_study(tmp_path, skill=lambda r: 2.5 if r.source == 'cats' else .2)
    said = text_of(render(two))
    assert 'few pretrainings (2)' in said and 'cats over “none”' not in said and 'open (two pretrainings)' in said and '3 pretrainings' in said
    assert not two.contrasts.query('reader == "checkpoint"')['verdict'].str.endswith(' better').any()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280])
def test_in_a_browser(plain, tmp_path, width, scheme):
    "No message on the console, no request, nothing wider than the window, with all details open."
    sync = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    if not Path(CHROMIUM).exists(): pytest.skip(f'no browser at {CHROMIUM}: apt-get install chromium')
    file = write_report(plain, tmp_path/'report.html')
    with sync.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        tab, messages, requests = browser.new_page(viewport=dict(width=width, height=800), color_scheme=scheme), [], []
        tab.on('console', lambda m: messages.append(m.text)); tab.on('pageerror', lambda e: messages.append(str(e)))
        tab.on('request', lambda r: requests.append(r.url) if not r.url.startswith('data:') else None)
        tab.goto(file.as_uri())
        for opened in (False, True):
            tab.evaluate("open => document.querySelectorAll('details').forEach(d => d.open = open)", opened)
            wide = tab.evaluate("""() => [...document.querySelectorAll('body *')].filter(e => !e.closest('.wide, .hidden, thead, svg')
                && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)""")
            assert tab.evaluate('document.documentElement.scrollWidth') <= width and not wide, wide
        if width == 390: assert not tab.evaluate("[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 1).length")
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        browser.close()
    assert not messages and requests == [file.as_uri()]
