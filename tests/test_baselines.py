"Baselines in the hands of a reader: beside runs in report, explorer and board, in old folders, from the command line."
import json, re, shutil

import numpy as np
import pytest

import test_report
from browser import chromium, mount, page
from test_explorer import choose, said
from test_report import make_study, text_of
from ttl_nb.analysis.baselines import radiomics_scores, score_draw
from ttl_nb.cli import app
from ttl_nb.study.explorer import explorer_data, write_explorer
from ttl_nb.study.report import networks_only, render, thumbnail_warning, write_report
from ttl_nb.study.results import Results, compare_arms
from ttl_nb.ui.board import ResultsBoard


@pytest.fixture(scope='module')
def wide(tmp_path_factory):
    "A study with all baselines: source cats is much better than none; images are noise, so that no baseline knows anything."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TTL_NB_CACHE', str(tmp_path_factory.mktemp('cache')))
        return make_study(tmp_path_factory.mktemp('wide'), skill=lambda r: 2.5 if r.source == 'cats' else .2, pretrainings=4, baselines=['joined', 'radiomics'])


def test_each_is_an_arm(wide):
    assert wide.says['baselines'] == ['thumbnail', 'radiomics', 'joined'] and wide.plans == ['head', 'full', 'gradual', 'joined']
    names = {k[:2] for k in wide.arms}
    assert {('thumbnail', ''), ('radiomics', ''), ('cats', 'joined')} <= names and ('none', 'joined') not in names
    joined, head = (wide.arms['cats', p, 20] for p in ('joined', 'head'))
    assert joined.checkpoints == head.checkpoints and joined.seeds == head.seeds, 'paired by seed and pretraining'
    against = wide.contrasts[wide.contrasts['kind'] == 'baseline']
    assert len(against) == 2*(4 + 2) and set(against['b']) == {'radiomics'}
    for r in against.itertuples(): assert r.difference == compare_arms(wide.arms[r.a, r.same, r.n_train], wide.arms['radiomics', '', r.n_train]).estimate
    assert all(k[0] not in ('thumbnail', 'radiomics') for k in (l['best'] for l in wide.leaders))


def test_report_names_them(wide):
    text = text_of(render(wide))
    for words in ('radiomics, no network', 'Networks or hand-made features?', 'cats − radiomics', 'More than hand-made features?', '79 hand-made features (texture',
                  'head − joined', 'freezing plan joined'): assert words in text or words in render(wide), words
    assert re.search(r'At 10 images [\d]+ of 6 arms (are|is) shown to be better than radiomics', text)


def test_skill_of_hand_made_features_is_no_skill_of_networks(wide):
    "Radiomics over the thumbnail doesn't silence the warning."
    table = wide.summary()
    lame = table.assign(over_low=-.1, over_high=.1)
    lame.loc[(lame['source'] == 'radiomics') | (lame['freezing'] == 'joined'), 'over_low'] = .05
    assert thumbnail_warning(networks_only(lame)) and not thumbnail_warning(lame)


def test_plain_report_has_none_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv('TTL_NB_CACHE', str(tmp_path/'cache'))
    text = text_of(render(make_study(tmp_path, seeds=2)))
    assert 'radiomics' not in text and 'hand-made' not in text and 'joined' not in text and 'thumbnail, no network' in render(make_study(tmp_path/'b', seeds=2))


def test_an_old_folder_opens(wide, tmp_path):
    "As it was written before there were other baselines: one file, no word of it in study.json."
    copy = shutil.copytree(wide.folder, tmp_path/'study')
    for f in copy.glob('baseline-*.npz'): f.unlink()
    with np.load(copy/'baseline.npz') as f: old = {k: f[k] for k in f if k.split('_')[2] in ('scores', 'rows', 'folds')}
    np.savez_compressed(copy/'baseline.npz', **old)
    says = json.loads((copy/'study.json').read_text()); del says['baselines']; (copy/'study.json').write_text(json.dumps(says))
    results = Results(copy)
    assert {k[0] for k in results.arms} == {'cats', 'none', 'thumbnail'} and results.plans == says['freezing']
    assert write_report(results).is_file() and results.export_html().is_file()
    a, b = (r.summary().query("source == 'thumbnail'")['auc'].tolist() for r in (results, wide))
    assert a == b


def test_explorer_switches_to_joined(wide, tmp_path, page):
    "It is chosen like a plan; radiomics is a line and a row."
    file = write_explorer(wide, tmp_path/'explorer.html')
    page.goto(file.as_uri())
    choose(page, source='cats', n=20, plan='joined', seed='mean')
    row = wide.summary().query("source == 'cats' and freezing == 'joined' and n_train == 20").iloc[0]
    assert f'{row.auc:.3f}' in said(page)
    choose(page, seed=2)
    assert 'solved for' in page.locator('#loss').inner_text() and page.locator('#roc svg').count() == 1
    assert 'radiomics, no network' in page.locator('#curves-key').inner_text()
    assert page.locator('#arms tr.base').count() == 4
    data, _ = explorer_data(wide)
    assert {a['s'] for a in data['arms']} == {0, 1, -1, -2} and sum(data['plans'][r['p']]['name'] == 'joined' for r in data['runs']) == 8


@pytest.mark.parametrize('width', [390, 1280])
def test_report_in_a_browser(wide, tmp_path, page, width):
    page.set_viewport_size(dict(width=width, height=800))
    page.goto(write_report(wide, tmp_path/'report.html').as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate('document.documentElement.scrollWidth') <= width


def test_fold_by_fold(tmp_path, monkeypatch):
    "Where there is no test set, every image is scored once, by what never saw its patient."
    monkeypatch.setenv('TTL_NB_CACHE', str(tmp_path/'cache'))
    target = test_report.make_domain(tmp_path, 'folds', test=False)
    hand = np.random.default_rng(0).normal(size=(120, 79)).astype(np.float32); seen = []
    rows, scores, folds = score_draw(lambda a, b: seen.append((a, b)) or radiomics_scores(hand, target, a, b), target, 20, 1)
    assert sorted(rows) == list(range(120)) and set(folds) == {0, 1, 2, 3, 4} and all(not set(target.patients[a]) & set(target.patients[b]) for a, b in seen)


def test_several_labels_and_several_classes(tmp_path, monkeypatch):
    monkeypatch.setenv('TTL_NB_CACHE', str(tmp_path/'cache'))
    results = make_study(tmp_path, classes=('a', 'b', 'c'), seeds=2, baselines='radiomics', freezing=['head'])
    assert len(results.baselines['radiomics', ''][20, 1]['scores'][0]) == 3 and 'radiomics' in text_of(render(results))


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TTL_NB_CACHE', str(tmp_path/'cache'))
    table = test_report.make_domain(tmp_path, 'target').items.rename(columns=dict(patient='patient_id'))
    table.to_csv(tmp_path/'labels.csv', index=False)
    def ask(*more):
        with pytest.raises(SystemExit) as end: app(['study', '--target', str(tmp_path/'labels.csv'), '--source', 'none', '--n-train', '20', '--freezing', 'head', '--seeds', '2',
                                                    '--image-size', '16', '--engine', 'inline', '--folder', str(tmp_path/'study'), *more])
        return end.value.code, ' '.join(' '.join(capsys.readouterr()).split())
    code, text = ask('--baseline', 'radiomics')
    assert code == 0 and 'radiomics' in text and ('radiomics', '', 20) in Results(tmp_path/'study').arms, text
    for given, says in (('pixels', "`baselines` must be one of thumbnail, radiomics, joined, got 'pixels'"), ('joined', "keeps a source's weights")):
        code, text = ask('--baseline', given)
        assert code == 2 and says in text and 'Traceback' not in text, text


def test_board_shows_the_thumbnail(tmp_path, page):
    "Its line, its column, its words for those who can't see; and nothing where no result brings one."
    from test_panels import outcome, recipe
    board = ResultsBoard()
    for seed, (auc, small) in enumerate([(.8, .7), (.84, .74)]): board.add(outcome(recipe(source='chest', seed=seed), auc, thumbnail=dict(auc=small, low=.6, high=.8)))
    board.add(outcome(recipe(source='limb', seed=0), .7, thumbnail=dict(auc=.7, low=.6, high=.8)))
    assert [(f['n'], f['draws'], round(f['auc'], 3)) for f in board.floor] == [(50, 2, .72)] and [r['thumbnail'] for r in board.rows] == [.7, .74, .7]
    seen = mount(page, board, tmp_path)
    page.wait_for_selector('.board-floor', state='attached')
    assert 'thumbnail, no network: 0.72 at 50' in page.locator('.board-chart title').first.text_content()
    heads = page.locator('.board-table thead th').all_text_contents()
    assert page.locator('.board-row td').nth(heads.index('Thumbnail')).text_content() == '0.70'
    assert 'has shown no skill' in page.locator('.board-legend').inner_text() and 'thumbnail, no network' in page.locator('.board-chart').text_content()
    board.add(outcome(recipe(source='limb', n_train=200), .9, thumbnail=dict(auc=.8, low=.7, high=.9))); seen.sync()
    page.wait_for_function("document.querySelector('.board-floor').getAttribute('d').includes('L')")
    empty = ResultsBoard(); empty.add(outcome(recipe(), .6)); assert empty.floor == [] and empty.rows[0]['thumbnail'] is None
