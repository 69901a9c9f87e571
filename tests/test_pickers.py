"The pickers: what they know, what they refuse, and how they answer in a browser, by mouse and by keys."
import re, subprocess, sys

import numpy as np
import pytest
from browser import chromium, mount, page
from hypothesis import given, settings, strategies as st

from ttl_nb.data.phantom import phantom
from ttl_nb.data.pixels import load_pixels
from ttl_nb.data.subset import draw_subset
from ttl_nb.errors import InputError
from ttl_nb.models.stages import BACKBONES, STAGES
from ttl_nb.train.freezing import BATCH_NORM, PLANS, FreezingPlan
from ttl_nb.ui.pickers import (SizePicker, SourcePicker, StagePicker, chosen_images, clicked_plan, nearest_plan, network_stages,
                               norm_states, plan_facts, timeline)

SIZES = (10, 20, 50, 100)
SCORES = ('', 'AUC 0.93 on its own task', 'AUC 0.72 on its own task')


@pytest.fixture(scope='module')
def domain(): return phantom('phantom-pneumonia', 260, size=32)


@pytest.fixture(scope='module')
def draw(domain): return chosen_images(domain, load_pixels(domain, 32))


def cards():
    rng = np.random.default_rng(0)
    def pictures(): return list(rng.integers(0, 255, (6, 16, 16), dtype=np.uint8))
    return [dict(name='objects', title='Everyday objects', n_images=4800, classes=[f'class {i}' for i in range(10)], score=SCORES[1],
                 shares='nothing but being pictures', thumbnails=pictures()),
            dict(name='limb', title='Limb radiographs', body_part='limb', n_images=4800, n_patients=900, classes=['normal', 'abnormal'], score=SCORES[2],
                 shares='another body part: limb', thumbnails=pictures()),
            dict(name='chest', title='Chest radiographs', body_part='chest', shares='same body part: chest', thumbnails=pictures())]


# The tables that stand for the network and the plans

@pytest.mark.parametrize('input', ('grey', 'imagenet'))
@pytest.mark.parametrize('name', BACKBONES)
def test_sizes_are_those_of_the_network(name, input):
    torch = pytest.importorskip('torch')
    from ttl_nb.models.backbone import create_backbone
    net = create_backbone(name, 3, input, draw=False).eval()
    has_norm = {s: any(isinstance(m, torch.nn.BatchNorm2d) for m in net.stage(s).modules()) for s in STAGES}
    for size in (64, 96, 97) if input == 'grey' else (96,):
        told, x = network_stages(name, size, 3, input), net.normalise(torch.zeros(1, 1, size, size))
        for s in told:
            x = net.stage(s['name'])(x)
            assert s['parameters'] == sum(p.numel() for p in net.stage(s['name']).parameters()), (name, s)
            assert s['size'] == (tuple(x.shape[1:3]) if s['name'] != 'head' else (3, 1)), (name, size, s)
            assert s['batch_norm'] == has_norm[s['name']], (name, s)


@pytest.mark.parametrize('batch_norm', BATCH_NORM)
@pytest.mark.parametrize('plan', PLANS)
def test_a_picture_of_a_plan_is_the_plan(plan, batch_norm):
    "At every step of a training of 7 epochs: what the tables say learns is what learns."
    facts, p = plan_facts(7)[plan], FreezingPlan(plan, batch_norm, 7)
    for f in np.arange(200)/200:
        assert tuple(s for s in STAGES if facts['opens'][s] is not None and facts['opens'][s] <= f + 1e-9) == p.trainable(f), f
        i = max(i for i, start in enumerate(facts['phases']) if start <= f + 1e-9)
        moves = {s: states[i] for s, states in facts['norms'][batch_norm].items()}
        assert {s for s, m in moves.items() if m == 'moves'} == set(STAGES[:-1]) - set(p.statistics_fixed(f)), f
        assert {s for s, m in moves.items() if m == 'fixed'} == set(STAGES[:-1]) & set(p.affine_fixed(f)) & set(p.statistics_fixed(f)), f
    assert [m['at'] for m in timeline(plan, 7) if m['restarts']] == list(p.cycles[1:])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLANS), st.lists(st.sampled_from(STAGES), max_size=12))
def test_clicks_lead_to_plans_and_back(plan, stages):
    "Whatever is clicked, what was clicked happens, and there is always a plan and a sentence."
    for stage in stages:
        new, sentence = clicked_plan(plan, stage)
        before, after = FreezingPlan(plan).trainable(1.), FreezingPlan(new).trainable(1.)
        assert new in PLANS and sentence.endswith('.')
        assert (stage in after) != (stage in before) if stage != 'head' else new == plan
        plan = new


def test_nearest_is_nearest():
    "Against all plans, for every set of stages."
    sets = {p: set(FreezingPlan(p).trainable()) for p in PLANS if p not in ('gradual', 'gradual:epoch', 'lp_ft')}
    for number in range(32):
        wanted = {s for i, s in enumerate(STAGES[:-1]) if number >> i & 1} | {'head'}
        got = nearest_plan(wanted)
        assert len(sets[got] ^ wanted) == min(len(s ^ wanted) for s in sets.values()), (wanted, got)
    assert nearest_plan(STAGES) == 'full' and nearest_plan(['stage4']) == 'stage4' and nearest_plan(STAGES[1:]) == 'stage1'


# Without a browser: values set and clicked

BAD = {
    'source': [None, 7, '', 'Chest', '../chest', '<b>', ['chest'], {}, 'x'*10_000],
    'n': [None, '50', 9, 101, 50.0, float('nan'), float('inf'), True, -1, 10**30, [50]],
    'seed': [None, '0', -1, 2**31, .5, True, float('nan')],
    'freezing': [None, 3, '', 'Full', 'only:head', 'gradul', ['full'], '__class__'],
    'batch_norm': [None, 'Frozen', 0, True], 'method': [None, 'l2', 0, True, ['groups']], 'max_lr': ['', 'finds', float('nan'), float('inf'), 0, -1e-3, 11, True],
    'lr_ratio': [None, 0, .5, 101, 'x', float('nan')], 'epochs': [None, 0, 1.5, '10'], 'scale': [None, 'huge']}
TRAITS = [('source', 'value', 'source', '`source` must be one of none, objects, limb, chest'), ('size', 'value', 'n', '`n_train` must be a whole number at least 10 and at most 100'),
          ('size', 'subset_seed', 'seed', '`subset_seed`'), ('size', 'init_seed', 'seed', '`init_seed`'), ('stage', 'value', 'freezing', 'full, gradual'),
          ('stage', 'batch_norm', 'batch_norm', 'frozen, eval, live'), ('stage', 'lr_rule', 'method', 'groups, auto_rgn'), ('stage', 'regulariser', 'method', 'none, l2_sp'), ('stage', 'colour', 'method', 'replicate, learned, kept'), ('stage', 'max_lr', 'max_lr', '`max_lr`'), ('stage', 'lr_ratio', 'lr_ratio', '`lr_ratio`'),
          ('stage', 'epochs', 'epochs', '`epochs`'), ('source', 'scale', 'scale', 'normal, projector')]


def make(kind, draw):
    if kind == 'source': return SourcePicker(cards(), 'chest')
    return SizePicker(SIZES, 20, draw) if kind == 'size' else StagePicker(value='gradual', steps=200)


@pytest.mark.parametrize('kind, trait, bad, says', TRAITS, ids=[f'{k}.{t}' for k, t, _, _ in TRAITS])
def test_values_of_a_link_are_checked(kind, trait, bad, says, draw):
    "In Python an error with the options, from a browser the old value and that sentence."
    w = make(kind, draw)
    old = getattr(w, trait)
    for value in BAD[bad]:
        with pytest.raises(InputError, match=re.escape(says)): setattr(w, trait, value)
        assert getattr(w, trait) == old, value
        w.set_state({trait: value})
        assert getattr(w, trait) == old, value
        if trait in w._from_browser: assert says in w.notice
    arguments = dict(source=lambda **k: SourcePicker(cards(), **k), size=lambda **k: SizePicker(SIZES, images=draw, **k), stage=StagePicker)[kind]
    with pytest.raises(InputError, match=re.escape(says)): arguments(**{trait: BAD[bad][1]})


@pytest.mark.parametrize('kind', ('source', 'size', 'stage'))
def test_a_browser_sets_values_alone(kind, draw):
    "Not cards, plans, pictures, script or style."
    w = make(kind, draw)
    guarded = {k: getattr(w, k) for k in ('_esm', '_css', *[k for k in w.keys if re.match('_(cards|sizes|classes|labels|rows|pictures|drawn|stages|plans|rates|norms|rules|holds|colours)$', k)])}
    assert len(guarded) > 2
    w.set_state({k: 'alert(1)' for k in guarded})
    assert all(getattr(w, k) == v for k, v in guarded.items())


def test_cards_that_cannot_be():
    for bad in ([{}], [dict(name='')], [dict(name=3)], cards() + cards()):
        with pytest.raises(InputError, match='cards'): SourcePicker(bad)
    w = SourcePicker([dict(name='x', thumbnails=[b'\x89PNG', np.zeros((4, 4), np.uint8)]*6)])
    assert w.names == ['none', 'x'] and [len(c['thumbnails']) for c in w._cards] == [6, 6]
    assert SourcePicker([dict(name='none', title='Nothing')]).names == ['none']


def test_sizes_are_nested_and_are_those_of_a_recipe(domain, draw):
    w = SizePicker(SIZES, 10, draw)
    for seed in (0, 7):
        w.subset_seed = seed
        for n in (10, 11, 50, 100):
            w.value = n
            assert w.rows == draw_subset(domain, n, seed, 'balanced', domain.splits(seed)[0].train).tolist()
            assert sum(w.counts.values()) == n and max(w.counts.values()) - min(w.counts.values()) <= 1
    assert len(w._pictures) == 60 and all(p.startswith('data:image/png;base64,') for p in w._pictures)


def test_seeds_are_apart(draw):
    w = SizePicker(SIZES, 10, draw)
    rows = w.rows
    assert w.dice('init_seed') == w.init_seed != 0 and w.rows == rows and w.subset_seed == 0
    assert w.dice() == w.subset_seed != 0 and w.rows != rows
    with pytest.raises(InputError, match='subset_seed, init_seed'): w.dice('seed')


def test_images_that_do_not_fit(draw):
    with pytest.raises(InputError, match='two sizes'): SizePicker((10,), 10)
    with pytest.raises(InputError, match='`images` gave 10 images where 100'): SizePicker(SIZES, 10, lambda n, seed: draw(10, seed))
    with pytest.raises(InputError, match='label'): SizePicker(SIZES, 10, draw, classes=['a', 'b'])
    assert SizePicker(SIZES, 10).counts == {}
    numbered = SizePicker(SIZES, 10, lambda n, seed: [dict(row=i, label=i % 2) for i in range(n)], classes=['a', 'b'])
    assert numbered.counts == {'a': 5, 'b': 5}


def test_a_stage_is_clicked():
    w = StagePicker(value='full')
    assert [w.click(s) for s in ('stem', 'stage1', 'stage2', 'stage3', 'head')] == ['stage1', 'stage2', 'stage3', 'stage4', 'stage4']
    assert w.notice == 'The head is new: it learns in every plan.' and w.plan == FreezingPlan('stage4', 'frozen', 10)
    with pytest.raises(InputError, match='stem, stage1'): w.click('stage9')
    with pytest.raises(InputError, match='in this order'): StagePicker(network_stages()[:3])
    assert StagePicker(network_stages('timm/resnet34')).learning is None


def test_nothing_heavy_is_loaded():
    code = 'import sys\nfrom ttl_nb.ui.pickers import *\nStagePicker(); SourcePicker([])\nprint({"torch", "fastai", "matplotlib"} & {m.split(".")[0] for m in sys.modules})'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == 'set()'


# In a browser

VARIANTS = {'normal': {}, 'projector': dict(scale='projector'), 'dark': dict(body="data-jp-theme-light='false'"), 'narrow': dict(width=390)}


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('kind', ('source', 'size', 'stage'))
def test_it_fits_and_can_be_read(kind, variant, draw, page, tmp_path):
    "Nothing runs over, nothing is smaller than 12 px, no serious finding of axe."
    v, w = VARIANTS[variant], make(kind, draw)
    if 'width' in v: page.set_viewport_size(dict(width=v['width'], height=800))
    w.scale = v.get('scale', 'normal')
    mount(page, w, tmp_path, body=v.get('body', ''))
    page.wait_for_timeout(300)
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    small = page.evaluate('''least => [...document.querySelectorAll(".ttl *")].filter(e => [...e.childNodes].some(c => c.nodeType === 3 && c.data.trim())
        && e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < least).map(e => e.className)''', 12*(1.35 if variant == 'projector' else 1))
    assert not small
    cut = page.evaluate('''() => [...document.querySelectorAll(".ttl button, .ttl span, .ttl label, .ttl p")].filter(e => e.checkVisibility() && !e.closest(".ttl-pick-box")
        && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").map(e => e.className + ": " + e.textContent)''')
    assert not cut
    Axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe
    found = [x for x in Axe().run(page, '.ttl').response['violations'] if x['impact'] in ('serious', 'critical')]
    assert not found, [(x['id'], [n['html'][:120] for n in x['nodes']]) for x in found]


def test_source_by_mouse_and_keys(page, tmp_path):
    w = SourcePicker(cards())
    seen = mount(page, w, tmp_path)
    radio = lambda name: page.get_by_role('radio', name=name)
    assert page.get_by_role('radiogroup').get_attribute('aria-label') == 'Source to transfer from' and radio('No source').is_checked()
    page.locator('.ttl-pick-card', has_text='Chest').locator('img').first.click()
    seen.sync(); assert w.value == 'chest' and radio('Chest radiographs').is_checked()
    page.keyboard.press('ArrowUp'); seen.sync(); assert w.value == 'limb'
    page.keyboard.press('ArrowDown'); page.keyboard.press('ArrowDown'); seen.sync(); assert w.value == 'none'
    w.value = 'objects'; seen.sync(); assert radio('Everyday objects').is_checked() and page.locator('[data-chosen]').count() == 1
    assert 'same body part' in radio('Chest radiographs').evaluate('e => document.getElementById(e.getAttribute("aria-describedby")).textContent')
    page.evaluate('model.set("value", "../x"); model.save_changes()')
    seen.sync(); assert w.value == 'objects' and radio('Everyday objects').is_checked()
    assert 'must be one of none, objects, limb, chest' in page.get_by_role('status').inner_text()
    w.disabled = True; seen.sync(); assert radio('No source').is_disabled()
    w.disabled = False; w.show([dict(name='mine', title='<i>Mine</i>')]); seen.sync()
    assert w.value == 'none' and page.get_by_role('radio').count() == 2 and radio('<i>Mine</i>').count() == 1 and not page.locator('.ttl i').count()


def shown(page):
    "The pictures of the images that are chosen."
    return [t.get_attribute('src') for t in page.locator('.ttl-pick-tile:not([data-out]) img').all()]


def test_size_by_mouse_and_keys(draw, page, tmp_path):
    w = SizePicker(SIZES, 20, draw)
    seen = mount(page, w, tmp_path)
    slider = page.get_by_role('slider', name='Training images')
    first = shown(page)
    assert slider.get_attribute('aria-valuetext') == '20 images' and first == w._pictures[:20]
    slider.focus()
    for key, n in (('ArrowRight', 25), ('ArrowUp', 30), ('ArrowLeft', 25), ('PageUp', 50), ('PageUp', 100), ('End', 100), ('ArrowDown', 80), ('PageDown', 50), ('Home', 10), ('ArrowLeft', 10)):
        page.keyboard.press(key); seen.sync()
        assert w.value == n == int(page.get_by_role('spinbutton', name='Training images').input_value()), key
        assert shown(page) == w._pictures[:n]
        assert page.locator('.ttl-pick-counts').inner_text().split() == [str(n//2 + (n % 2 and w.counts['no pneumonia'] > n//2)), 'no', 'pneumonia', str(w.counts['pneumonia']), 'pneumonia']
    box = slider.bounding_box()
    page.mouse.move(box['x'] + 12, box['y'] + box['height']/2); page.mouse.down()
    page.mouse.move(box['x'] + box['width'] - 12, box['y'] + box['height']/2, steps=20); page.mouse.up()
    seen.sync(); assert w.value == 100 and len(shown(page)) == 60 and shown(page)[:20] == first
    assert page.locator('.ttl-pick-more').text_content() == '+40 more' and page.get_by_text('Pictures of the first 60; all 100 are trained on.').is_visible()
    page.get_by_role('spinbutton', name='Training images').fill('33'); page.keyboard.press('Enter')
    seen.sync(); assert w.value == 33 and len(shown(page)) == 33 and page.locator('.ttl-pick-more').is_hidden()
    page.get_by_role('spinbutton', name='Training images').fill('5000'); page.keyboard.press('Tab'); seen.sync(); assert w.value == 100
    page.locator('.ttl-pick-ticks button', has_text='20').click(); seen.sync(); assert w.value == 20
    w.value = 100; w.show(lambda n, seed: [dict(row=i, label='abc'[i % 3]) for i in range(n)], sizes=(5, 60)); seen.sync()
    assert w.value == 60 == int(page.get_by_role('spinbutton', name='Training images').input_value()) and slider.input_value() == '1000'
    assert page.locator('.ttl-pick-counts').inner_text().split() == ['20', 'a', '20', 'b', '20', 'c'] and page.locator('.ttl-pick-ticks').inner_text().split() == ['5', '60']
    with pytest.raises(InputError, match='images'): w.show(lambda n, seed: [], sizes=(5, 60))
    assert w.counts == dict(a=20, b=20, c=20)


def test_seeds_in_the_browser(draw, page, tmp_path):
    w = SizePicker(SIZES, 20, draw)
    seen = mount(page, w, tmp_path)
    before = shown(page) # All: one alone may be drawn again
    page.get_by_role('button', name='Draw other weights').press('Enter'); seen.sync()
    assert w.init_seed != 0 and w.subset_seed == 0 and shown(page) == before
    page.get_by_role('button', name='Draw other images').click()
    assert page.locator('[data-waiting]').count() == 1
    seen.sync(); assert w.subset_seed != 0 and page.locator('[data-waiting]').count() == 0 and shown(page) == w._pictures[:20] != before
    field = page.get_by_role('spinbutton', name='Which images')
    field.fill('0'); field.press('Enter'); seen.sync(); assert w.subset_seed == 0 and shown(page) == before
    for bad in ('-1', '', '1.5', '99999999999'):
        field.fill(bad); field.press('Enter'); field.blur(); seen.sync(); assert w.subset_seed == 0 and field.input_value() == '0'


def test_stages_by_mouse_and_keys(page, tmp_path):
    w = StagePicker(steps=200)
    seen = mount(page, w, tmp_path)
    stage = lambda name: page.get_by_role('button', name=f'{name} learns')
    pressed = lambda: [b.get_attribute('aria-pressed') for b in page.locator('.ttl-pick-stage').all()]
    select, status = page.get_by_role('combobox', name='Freezing plan'), page.get_by_role('status')
    assert pressed() == ['true']*6 and select.input_value() == 'full'
    stage('Stage 2').click(); seen.sync()
    assert w.value == 'stage3' == select.input_value() and pressed() == ['false']*3 + ['true']*3 and 'Stage 3 and above' in status.inner_text()
    assert '1,149,698 of 1,227,618 parameters learn' in page.locator('.ttl-pick-total').inner_text() and w.learning == 1_149_698
    stage('Stage 3').focus(); page.keyboard.press('Enter'); seen.sync(); assert w.value == 'stage4'
    page.keyboard.press('ArrowRight'); page.keyboard.press(' '); seen.sync(); assert w.value == 'head' and pressed() == ['false']*5 + ['true']
    page.keyboard.press('ArrowRight'); page.keyboard.press(' '); seen.sync(); assert w.value == 'head' and 'learns in every plan' in status.inner_text()
    said = lambda name: stage(name).locator('.ttl-pick-figures').inner_text()
    assert 'rate 0' in said('Stem') and '1e-3' in said('Head')
    w.max_lr = 3e-3; w.value = 'gradual'; seen.sync()
    assert '3.3e-4 = lr/9' in said('Stem') and '1e-3 = lr/3' in said('Stage 3') and 'from 20' in stage('Stem').inner_text()
    rows = page.locator('.ttl-pick-timeline li').all_inner_texts()
    assert [r.replace('\xa0', ' ').split('\n')[-1] for r in rows] == ['from the first step', *['from 10 %, step 20']*2, *['from 20 %, step 40']*3]
    select.select_option('lp_ft'); seen.sync(); assert w.value == 'lp_ft' and 'starts anew at 50' in page.locator('.ttl-pick-timeline').inner_text()
    w.value = 'stage4'; seen.sync(); assert 'BatchNorm fixed' in said('Stem')
    page.get_by_role('radio', name='Live everywhere').check(); seen.sync(); assert w.batch_norm == 'live' and 'BatchNorm moves' in said('Stem') and 'BatchNorm learns' in said('Stage 4')
    w.show(network_stages('squeezenet1_1', 96, 3)); seen.sync(); assert '3 classes' in said('Head') and 'no BatchNorm' in page.locator('.ttl').inner_text() and page.get_by_role('radio').first.is_disabled()
    stage('Stage 4').click(); seen.sync(); assert w.value == 'head'; stage('Stage 4').click(); seen.sync(); assert w.value == 'stage4'
    w.random = True; w.max_lr = 'find'; seen.sync(); assert 'stays random' in stage('Stem').inner_text() and said('Stage 4').startswith('lr\n')
    rates, holds = (page.get_by_role('combobox', name=n) for n in ('Learning rates', 'What holds weights back'))
    rates.select_option('auto_rgn'); holds.select_option('l2_sp'); seen.sync(); assert (w.lr_rule, w.regulariser) == ('auto_rgn', 'l2_sp')
    assert said('Stage 4').startswith('≤ lr\n') and 'Lee 2023' in page.locator('.ttl-pick-choices').inner_text() and 'Li 2018' in page.locator('.ttl-pick-choices').inner_text()
    w.max_lr = 3e-3; w.lr_rule = 'groups'; seen.sync(); assert rates.input_value() == 'groups' and said('Stage 4').startswith('3e-3\n')
    w.lr_rule = 'auto_rgn'; seen.sync(); assert said('Stage 4').startswith('≤ 3e-3\n')
    colours = page.get_by_role('combobox', name='From grey to colour')
    assert colours.is_disabled() and 'one grey channel' in page.locator('.ttl-pick-choices').inner_text()
    w.reads_colour = True; seen.sync(); colours.select_option('learned'); seen.sync(); assert w.colour == 'learned' and 'Morra 2020' in page.locator('.ttl-pick-choices').inner_text()
    w.disabled = True; seen.sync(); assert rates.is_disabled() and holds.is_disabled() and colours.is_disabled()


@pytest.mark.parametrize('plan', PLANS)
def test_every_click_is_answered_as_in_python(plan, page, tmp_path):
    "The table in the browser leads where `click` does."
    w = StagePicker(value=plan)
    seen = mount(page, w, tmp_path)
    for i, stage in enumerate(STAGES):
        w.value = plan; seen.sync()
        page.locator('.ttl-pick-stage').nth(i).click(); seen.sync()
        there, notice = w.value, w.notice
        w.value = plan
        assert (w.click(stage), w.notice) == (there, notice)
        assert [b.get_attribute('aria-pressed') == 'true' for b in page.locator('.ttl-pick-stage').all()] == [s in FreezingPlan(there).trainable() for s in STAGES]


@pytest.mark.parametrize('kind', ('source', 'size', 'stage'))
def test_views_agree_and_leave_nothing(kind, draw, page, tmp_path):
    w = make(kind, draw)
    seen = mount(page, w, tmp_path)
    one = page.evaluate('model.heard.length')
    page.evaluate('addView()')
    w.value = {'source': 'limb', 'size': 50, 'stage': 'head'}[kind]; seen.sync()
    a, b = (page.locator('.view').nth(i) for i in (0, 1))
    strip = lambda view: re.sub(r'ttl-pick-\w+-\d+', '', view.inner_html())
    assert strip(a) == strip(b) and page.evaluate('model.heard.length') == 2*one
    page.evaluate('removeView(1)'); page.evaluate('removeView(0)')
    assert page.evaluate('model.heard.length') == 0
