"The explorer in the hands of a reader: switched by mouse, by keyboard and by a stranger's link, in a browser without a network."
import base64, hashlib, io, json, re, shutil
from itertools import product

import numpy as np
import pytest
from PIL import Image

import test_report
from browser import FLAGS, chromium, executable, page, watched
from test_report import HOSTILE, ODD, PASSED, invented_run, make_study
from ttl_nb.data.subset import draw_subset
from ttl_nb.errors import InputError
from ttl_nb.study import explorer
from ttl_nb.study.explorer import explorer_data, render_explorer, tile_pitch, write_explorer
from ttl_nb.study.gates import GateFailed
from ttl_nb.study.report import interval, number
from ttl_nb.study.results import Results, compare_arms


def run_with_images(recipe, target, seed, skill):
    "An invented run whose training images are those that its recipe draws."
    run = invented_run(recipe, target, seed, skill)
    run.train_rows = draw_subset(target, recipe.n_train, recipe.subset_seed, recipe.balance, target.splits(recipe.subset_seed)[-1].train)
    return run


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TTL_NB_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr(test_report, 'invented_run', run_with_images)


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "Source cats is better than none; each run has curves and images."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TTL_NB_CACHE', str(tmp_path_factory.mktemp('cache')))
        patch.setattr(test_report, 'invented_run', run_with_images)
        return make_study(tmp_path_factory.mktemp('plain'), skill=lambda r: 2.5 if r.source == 'cats' else .2, seeds=3)


@pytest.fixture(scope='module')
def file(plain, tmp_path_factory): return write_explorer(plain, tmp_path_factory.mktemp('page')/'explorer.html')


def choose(page, source=None, n=None, plan=None, seed=None):
    "Sets controls as a mouse does."
    for name, value in (('source', source), ('plan', plan)):
        if value is not None: page.locator(f'#{name} label').filter(has_text=re.compile(f'^{re.escape(value)}')).locator('input').check()
    if n is not None:
        sizes = [int(t.replace(',', '')) for t in page.locator('.ticks span').all_text_contents()]
        page.locator('#n').fill(str(sizes.index(n)))
    if seed is not None: page.locator(f'[name=seed][value="{seed}"]').check()


def said(page): return re.sub(r'\s+', ' ', page.locator('#picked').inner_text())
def address(page): return page.evaluate('Object.fromEntries(new URLSearchParams(location.hash.slice(1)))')


def everything(results):
    "(source, plan, n, seed or mean, what the card must say) of a study."
    for r in results.summary().itertuples():
        if r.freezing: yield r.source, r.freezing, r.n_train, 'mean', (number(r.auc), interval(r.low, r.high))
    for r in results.runs.itertuples(): yield r.source, r.freezing, r.n_train, r.seed, (number(r.auc), interval(r.auc_low, r.auc_high))


# The file

def test_asks_for_nothing_and_runs_nothing_else(file, plain):
    html = file.read_text()
    assert not re.search(r'https?://(?!www\.w3\.org/2000/svg)|@import|<link[^>]+stylesheet|<iframe|<object|\son[a-z]+="', html)
    assert {u[:15] for u in re.findall(r'url\("?([^)"]*)', html)} <= {'data:image/jpeg', '#${id}'} and not re.search(r'\ssrc=', html)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    script = re.search(r'<script>(.*?)</script>', html, re.S)[1]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy.replace('&#39;', "'") and "default-src 'none'" in policy.replace('&#39;', "'")
    assert html.count('<script') == 2


def test_no_patient_and_no_file_is_in_it(file, plain):
    html = file.read_text()
    assert str(plain.folder) not in html and '.png' not in html and 'ttl-nb study' not in html, 'a path, or the command, which holds paths'
    assert not [p for p in plain.cases['patient'] if p in html]
    assert not [i for i in plain.says['ids'] if i in html] and plain.says['target']['hash'] not in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    assert 'rows' not in data and sorted(k for d in data['draws'] for c in d['classes'] for k in c)[-1] < len(plain.cases)


def test_each_tile_is_its_image(plain):
    "What stands under a class is of that class, and looks as the image does."
    data, sheets = explorer_data(plain)
    images = [np.asarray(Image.open(io.BytesIO(s))) for s in sheets]
    with np.load(plain.folder/'thumbnails.npz') as f: pixels = dict(zip(f['rows'].tolist(), f['pixels']))
    pitch = tile_pitch(data['tiles']['side'])
    for d in data['draws']:
        run = plain.runs[(plain.runs['n_train'] == d['n']) & (plain.runs['seed'] == d['seed'])].iloc[0]
        rows = plain.store.arrays(run['recipe_id'])['train_rows']
        for c, tiles in enumerate(d['classes']):
            own = [r for r in rows.tolist() if plain.labels[r] == c]
            assert len(own) == len(tiles) == d['counts'][c]
            for r, k in zip(own, tiles):
                y, x = divmod(k % 256, 16)
                seen = images[k//256][y*pitch:y*pitch + 16, x*pitch:x*pitch + 16]
                assert np.abs(seen.astype(int) - pixels[r]).mean() < 40 < np.abs(seen.astype(int) - pixels[r][::-1, ::-1]).mean()


def test_without_thumbnails(plain, tmp_path):
    html = plain.export_html(tmp_path/'a.html', thumbnails=False).read_text()
    assert 'data:image' not in html and 'The training images are left out, as was asked for' in html


def test_a_folder_that_keeps_no_thumbnails_says_so(plain, tmp_path):
    copy = shutil.copytree(plain.folder, tmp_path/'study'); (copy/'thumbnails.npz').unlink()
    assert 'keeps no small copies of them' in render_explorer(Results(copy))


def test_too_large_is_cut_and_said(plain, monkeypatch):
    "Tiles are few, never half a picture; what is missing is said."
    whole, sheets = explorer_data(plain)
    room = len(json.dumps({k: v for k, v in whole.items() if k not in ('draws', 'tiles', 'left_out')})) + 300_000
    monkeypatch.setattr(explorer, 'PAGE_BYTES', room + sum(map(len, sheets))*2//3)
    data, fewer = explorer_data(plain)
    shown = {k for d in data['draws'] for c in d['classes'] for k in c}
    assert sum(map(len, fewer))*4/3 <= explorer.PAGE_BYTES - room and 0 < len(shown) < len({k for d in whole['draws'] for c in d['classes'] for k in c})
    assert any('the others would make the file too large' in o for o in data['left_out'])
    monkeypatch.setattr(explorer, 'RUN_BYTES', 10_000)
    data, _ = explorer_data(plain)
    assert sum('roc' in r for r in data['runs']) == 10 and all('auc' in r for r in data['runs'])
    assert any(f'for the first 10 of {len(plain.runs)} runs' in o for o in data['left_out'])


def test_differences_are_the_studys_own(plain):
    data, _ = explorer_data(plain)
    names, plans = plain.says['names'], plain.says['freezing']
    for d in data['differences']:
        a, b = (plain.arms[names[s], plans[p], n] for s, p, n in (d['a'], d['b']))
        c = compare_arms(a, b)
        assert d['said'] == [number(c.estimate, True), interval(c.low, c.high, True)]
        assert d['back'] == [number(-c.estimate, True), interval(-c.high, -c.low, True)]
        assert sum(x != y for x, y in zip(d['a'], d['b'])) == 1


def test_refused(plain, tmp_path):
    with pytest.raises(InputError, match='has no finished run yet'): make_study(tmp_path, leave=40).export_html()
    assert not (tmp_path/'study'/'explorer.html').exists()
    with pytest.raises(InputError, match="explorer '.*' cannot be written"): write_explorer(plain, tmp_path/'nowhere'/'a.html')
    copy = shutil.copytree(plain.folder, tmp_path/'copy')
    (copy/'gates.json').write_text(json.dumps([dict(name='shuffled labels give chance', passed=False, found='mean AUC 0.71')]))
    with pytest.raises(GateFailed, match='no explorer'): Results(copy).export_html()


# In a browser

def test_every_choice_shows_the_studys_own_numbers(page, file, plain):
    page.goto(file.as_uri())
    for source, plan, n, seed, words in everything(plain):
        choose(page, source, n, plan, seed)
        assert all(w in said(page) for w in (f'{source}, {plan}', f'{n} training images', *words)), (source, plan, n, seed, words, said(page))
        assert address(page) == dict(source=source, n=str(n), plan=plan, seed=str(seed))
        assert page.locator('#arms tr[aria-current]').get_attribute('data-plan') == plan
        assert page.locator('.tile').count() == n
        assert ('solved for' in page.locator('#loss').inner_text()) == (plan == 'head')
        assert page.locator('#loss > svg').count() == (plan != 'head') and page.locator('#roc > svg').count() == 1


def test_the_chosen_line_is_drawn_last_and_strongest(page, file):
    page.goto(file.as_uri())
    widths = """() => [...document.querySelectorAll('#curves g[data-line]')].map(g => [g.dataset.line, Math.max(...[...g.querySelectorAll(':scope > path[fill=none]')].filter(p => p.getAttribute('stroke') !== 'var(--paper)').map(p => +p.getAttribute('stroke-width')))])"""
    for source, plan in product(('cats', 'none'), ('head', 'full')):
        choose(page, source, 20, plan)
        found = page.evaluate(widths)
        assert len(found) == 5 and found[-1][1] == max(w for _, w in found) > 2*found[0][1]
        assert found[-1][0] == f'{("cats", "none").index(source)} {("head", "full").index(plan)}'
    choose(page, 'cats', 20, 'full')
    for view, lines in (('source', 2), ('plan', 3), ('all', 5)):
        page.locator(f'[name=view][value={view}]').check(force=True)
        assert page.locator('#curves g[data-line]').count() == lines


def test_a_point_and_a_row_can_be_clicked(page, file, plain):
    page.goto(file.as_uri())
    page.locator('#arms tr[data-n="10"][data-source=none][data-plan=full]').click()
    assert address(page) == dict(source='none', n='10', plan='full', seed='mean')
    last = page.locator('#curves g[data-line]').last.locator('path').last       # the chosen line's marker at 20
    last.scroll_into_view_if_needed()
    box = last.bounding_box()
    page.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
    assert 'none, full, 20 images' in page.locator('#curves .tip').inner_text().replace('\n', ' ')
    page.mouse.down(); page.mouse.up()
    assert address(page)['n'] == '20'


def test_pinned_beside_chosen(page, file, plain):
    page.goto(file.as_uri())
    choose(page, 'none', 20, 'full', 1)
    page.get_by_role('button', name='Pin to compare').click()
    assert page.evaluate('document.activeElement.id') == 'unpin'
    choose(page, 'cats')
    c = compare_arms(plain.arms['cats', 'full', 20], plain.arms['none', 'full', 20])
    words = page.locator('#difference').inner_text()
    assert number(c.estimate, True) in words and interval(c.low, c.high, True) in words and 'not of single seeds' in words
    assert page.locator('#loss svg path[fill=none]').count() == 4 and page.locator('#roc svg path[fill=none]').count() == 2
    page.get_by_role('button', name='Swap').click()
    assert 'none, full' in said(page) and number(-c.estimate, True) in page.locator('#difference').inner_text()
    choose(page, n=10)
    assert 'two things at once' in page.locator('#difference').inner_text()
    page.reload()
    assert 'none, full' in said(page) and 'cats, full' in page.locator('#other').inner_text() and 'two things at once' in page.locator('#difference').inner_text()
    page.get_by_role('button', name='Unpin').click()
    assert page.locator('#other').is_hidden() and page.locator('#difference').is_hidden()


def test_a_plan_that_a_source_lacks(page, file):
    "Source none has no gradual plan: another is shown and that is said; going back to cats brings gradual back."
    page.goto(file.as_uri())
    choose(page, 'cats', 10, 'gradual')
    choose(page, 'none')
    assert 'none, full' in said(page) and 'has no run with plan gradual: full is shown' in page.locator('#odd').inner_text()
    assert page.locator('#plan input').nth(2).is_disabled()
    choose(page, 'cats')
    assert 'cats, gradual' in said(page) and page.locator('#odd').is_hidden()


def test_by_keyboard_alone(page, file):
    page.goto(file.as_uri())
    for _ in range(30):
        page.keyboard.press('Tab')
        if page.evaluate('document.activeElement.name') == 'source': break
    page.keyboard.press('ArrowDown'); page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.id') == 'n'
    page.keyboard.press('Home')
    assert page.locator('#n').get_attribute('aria-valuetext') == '10 training images'
    page.keyboard.press('Tab'); page.keyboard.press('ArrowUp'); page.keyboard.press('Tab'); page.keyboard.press('ArrowDown')
    chosen = address(page)
    assert chosen['n'] == '10' and chosen['seed'] == '0' and page.locator(f'[name=seed][value="{chosen["seed"]}"]').is_checked()
    page.keyboard.press('Tab'); page.keyboard.press('Enter')
    assert 'with-source' in address(page)
    page.locator('#said', has_text=f'{chosen["source"]}, {chosen["plan"]}').wait_for(state='attached')
    said_aloud = page.locator('#said').text_content()
    assert chosen['source'] in said_aloud and 'seed 0' in said_aloud
    assert page.evaluate("[...document.querySelectorAll('svg[role=img]')].every(s => s.getAttribute('aria-label').length > 20)")


STRANGE = ['#source=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E', '#n=99999', '#plan=../../etc/passwd', '#seed=1e9', '#source=__proto__&plan=constructor&n=NaN&seed=-1&lines=toString&size=huge',
           '#%E0%A4%A', '#' + 'x'*5000, '#with-source=cats&with-n=10', '#with-source=none&with-n=10&with-plan=gradual&with-seed=0', '#source=cats&source=none&n=20%00', '#&&==&n', '#n=2e1']

@pytest.mark.parametrize('fragment', STRANGE, ids=range(len(STRANGE)))
def test_a_strangers_link(page, file, fragment):
    "Only what the page offers is taken from it; what was not is said by name of the field, not by its content."
    page.goto(file.as_uri())
    first = said(page)
    page.goto('about:blank'); page.goto(file.as_uri() + fragment)
    if fragment.startswith('#source=cats'): assert 'cats' in said(page)
    else: assert said(page) == first
    assert page.locator('#other').is_hidden() and not page.locator('body img').count()
    if page.locator('#odd').is_visible(): assert re.fullmatch(r'The link asks for something that this study does not have \((source|plan|n|seed|lines|size|address|, )+\): that part is left out\.', page.locator('#odd').inner_text())
    else: assert fragment in STRANGE[5:6] + STRANGE[7:9] + STRANGE[10:11] or 'n=20' in fragment


def test_a_link_restores_everything(page, file):
    asked = dict(source='none', n='10', plan='head', seed='2', **{'with-source': 'cats', 'with-n': '10', 'with-plan': 'full', 'with-seed': 'mean'}, lines='plan', size='projector')
    page.goto(file.as_uri() + '#' + '&'.join(f'{k}={v}' for k, v in asked.items()))
    assert 'none, head' in said(page) and 'seed 2' in said(page) and 'cats, full' in page.locator('#other').inner_text()
    assert page.get_by_role('button', name='Projector size').get_attribute('aria-pressed') == 'true' and page.evaluate('document.documentElement.dataset.scale') == 'projector'
    choose(page, seed=1)
    assert address(page) == asked | dict(seed='1')
    page.evaluate("location.hash = '#source=cats&n=20&plan=full&seed=mean'")
    page.locator('#picked', has_text='cats, full').wait_for()
    assert page.locator('#other').is_hidden()


def test_hostile_names_are_text(page, tmp_path):
    "Names of classes, sources and the target come from users, also those that would end a script."
    evil = '</script><script>window.hurt=1</script><img src=x onerror="window.hurt=2">'
    source = evil.replace('/', '∕') + HOSTILE.replace('/', '')
    results = make_study(tmp_path, classes=(evil, HOSTILE), sources=(source, 'none'), name=evil + '${7*7}', seeds=2)
    html = render_explorer(results)
    assert html.count('<script') == 2 and html.count('</script>') == 2 and '<img' not in html
    page.goto(results.export_html(tmp_path/'a.html').as_uri())
    for name in (source, 'none'):
        for i in range(2): page.locator('#source input').nth(i).check()
        page.locator('#source input').nth(results.says['names'].index(name)).check()
        assert name in page.locator('#picked h2').text_content() and not page.locator('main img').count()
    page.get_by_role('button', name='Pin to compare').click()
    page.locator('#source input').first.check()
    page.reload()
    assert source in page.locator('#picked h2').text_content() and evil in page.locator('h1').text_content() and evil in page.locator('#images h3').first.text_content()
    assert page.evaluate('window.hurt') is None


@pytest.mark.parametrize('odd', sorted(ODD.keys() - {'not_asked', 'classes', 'scratch_only'}))
def test_odd_studies(page, tmp_path, odd):
    "One seed, one size, folds, many classes: every choice draws without a complaint, and no nan is said."
    results = make_study(tmp_path, **ODD[odd])
    page.goto(results.export_html().as_uri())
    for i, (source, plan, n, seed, words) in enumerate(everything(results)):
        if i % 5: continue
        page.evaluate('h => location.hash = h', f'#source={source}&n={n}&plan={plan}&seed={seed}')
        page.locator('#picked', has_text=words[0]).wait_for()
        text = page.locator('body').inner_text()
        assert f'{source}, {plan}' in text and not re.search(r'\bnan\b|\bnull\b|undefined|\bNaN\b|Infinity', text, re.I), re.search(r'.{30}(nan|null|undefined|Infinity).{30}', text, re.I)
    assert not page.evaluate("[...document.querySelectorAll('svg *')].filter(e => [...e.attributes].some(a => /NaN|undefined|Infinity/.test(a.value))).length")


def test_an_unfinished_study(page, tmp_path):
    results = make_study(tmp_path, leave=11)
    page.goto(results.export_html().as_uri())
    assert '29 of 40 runs are done' in page.locator('header').inner_text()
    choose(page, 'cats', 20, 'head', int(results.says['seeds']) - 1 if (results.runs['seed'] == results.says['seeds'] - 1).any() else 2)
    last = results.says['seeds'] - 1
    there = {(r.source, r.freezing, r.n_train, r.seed) for r in results.runs.itertuples()}
    for source, plan in (('cats', 'head'), ('none', 'full')):
        for seed in sorted(set(results.runs['seed'])):
            choose(page, source, 20, plan, seed)
            assert ('not finished' in said(page)) == ((source, plan, 20, seed) not in there)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width, extra', [(390, ''), (390, '&size=projector'), (800, ''), (1280, '&size=projector')])
def test_no_wider_than_the_window(chromium, file, width, extra, scheme):
    context = chromium.new_context(viewport=dict(width=width, height=800), color_scheme=scheme)
    page = watched(context.new_page())
    page.goto(file.as_uri() + '#source=cats&n=20&plan=full&seed=0&with-source=none&with-n=20&with-plan=full&with-seed=0' + extra)
    wide = page.evaluate("""() => [...document.querySelectorAll('body *')].filter(e => !e.closest('.wide, .hidden, thead, svg, .segments input')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)""")
    assert page.evaluate('document.documentElement.scrollWidth') <= width and not wide, wide
    small = page.evaluate("[...document.querySelectorAll('body *')].filter(e => e.childNodes.length && [...e.childNodes].some(c => c.nodeType === 3 && c.textContent.trim()) && !e.closest('.hidden, script, style, noscript, thead') && parseFloat(getComputedStyle(e).fontSize) < 11.8).map(e => e.textContent)")
    assert not small, small
    context.close()
    assert not page.faults


def test_without_javascript(chromium, file, plain):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator('.desk').is_hidden() and page.locator('#scale').is_hidden() and 'needs JavaScript' in page.locator('noscript').inner_text()
    rows = page.locator('#arms tr[data-n]').all_inner_texts()
    assert len(rows) == len(plain.summary())
    for row, r in zip(rows, plain.summary().itertuples()): assert number(r.auc) in row and interval(r.low, r.high) in row
    context.close()


def test_printed(page, file):
    page.goto(file.as_uri())
    page.emulate_media(media='print')
    assert page.locator('#choose').is_hidden() and page.locator('#picked').is_visible() and page.locator('#curves svg').is_visible()
