"The panels: what their buttons, words and tables do with a pretended job, and in a browser."
import csv, io, subprocess, sys
from dataclasses import asdict

import numpy as np
import pytest
from browser import chromium, mount, page
from ttl_nb.errors import InputError
from ttl_nb.models.stages import STAGES
from ttl_nb.train.recipe import Recipe, canonical
from ttl_nb.train.recording import Recording
from ttl_nb.ui.look import png
from ttl_nb.ui.panels import FitPanel, FreezingMeter, RatePanel, ResultsBoard, Scores
from ttl_nb.ui.watcher import Watcher, foresee, planned_steps


class FakeJob:
    "A job without a network: it moves on when the test says so."
    def __init__(self):
        self.state, self.queue, self.planned, self.recording, self.result, self.error = 'idle', 0, 0, Recording(), None, None
        self.asked = []

    def start(self, request):
        if self.state not in ('idle', 'done', 'failed'): raise InputError(f'a run is {self.state}')
        self.request, self.recording, self.state, self.queue, self.error = request, Recording(request['recipe']), 'queued', 1, None

    def pause(self): self.asked.append('pause'); self.state = 'pausing'
    def resume(self): self.asked.append('resume'); self.state = 'running'
    def step(self, unit): self.asked.append(f'step {unit}'); self.state = 'running'
    def stop(self, keep=False): self.asked.append('keep' if keep else 'stop'); self.state = 'cancelling'

    def batches(self, n, loss=.6): # Steps done, and the loss at each of them
        "Training goes on."
        self.state = 'running'
        for i in range(n): self.recording.add('batch', len(self.recording.series('batch', 'loss')[0]), loss=loss, lr=[1e-4, 3e-4, 1e-3], mom=.9)

    def done(self, **facts): self.state, self.result = 'done', outcome(self.request['recipe'], **facts)
    def failed(self, why): self.state, self.error = 'failed', why


def outcome(recipe, auc=.8, n=60, **facts): # Fields of a recipe; the rest is what a run says
    "A result as a run gives it."
    r = canonical(Recipe(**recipe))
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    p = np.clip(.5 + .3*(labels - .5) + .2*rng.normal(size=n), .001, .999).round(5)
    grid = np.linspace(0, 1, 11)
    said = (p > .5).astype(int)
    return dict(kind='fit', recipe=asdict(r), id=r.id, auc=auc, low=auc - .06, high=min(1., auc + .06), accuracy=.75, seconds=8.2, steps=200, planned_steps=200,
                stopped_at=None, rows=list(range(500, 500 + n)), labels=labels.tolist(), scores=np.c_[1 - p, p].tolist(), classes=['no pneumonia', 'pneumonia'],
                confusion=[[int(((labels == t) & (said == s)).sum()) for s in (0, 1)] for t in (0, 1)],
                roc=dict(fpr=grid.tolist(), tpr=(grid**.4).tolist(), low=(grid**.7).tolist(), high=(grid**.2).tolist()), notes=['a note of this run']) | facts


def picture(row): return png(np.full((16, 16), row % 200, np.uint8))
def recipe(**kwargs): return dict(dict(target='pneumonia', n_train=50), **kwargs)
def on(panel): return {k for k, v in panel.controls.states.items() if v == 'on'}
def notices(panel): return ' '.join(o['text'] for o in panel.controls.notices)

@pytest.fixture
def job(): return FakeJob()
@pytest.fixture
def fit(job): return FitPanel(job, recipe, picture)


# The fit panel

def test_buttons_follow_the_state(job, fit):
    assert on(fit) == {'train', 'batch', 'epoch'} and fit.controls.states['resume'] == 'hidden'
    fit.controls.click('train')
    assert job.request['kind'] == 'fit' and job.request['watch'] and on(fit) == {'stop'}
    job.state = 'running'; fit.tick()
    assert on(fit) == {'pause', 'stop'}, 'nothing was learned yet that could be kept'
    job.batches(10); fit.tick()
    assert on(fit) == {'pause', 'keep', 'stop'}
    fit.controls.click('pause')
    assert on(fit) == {'resume', 'keep', 'stop'} and fit.controls.states['pause'] == 'hidden'
    job.state = 'paused'; fit.tick()
    assert on(fit) == {'resume', 'batch', 'epoch', 'keep', 'stop'} and fit.controls.said == 'Paused after step 10 of 200.'
    fit.controls.click('batch'); fit.controls.click('epoch')
    assert job.asked == ['pause', 'step batch'], 'a step was asked for while the job ran'
    fit.controls.click('keep')
    assert on(fit) == set() and fit.controls.said == 'Stopping.'
    job.done(stopped_at=[11, 200]); fit.tick()
    assert on(fit) == {'train', 'batch', 'epoch'} and 'stopped after step 11 of 200 and kept' in fit.controls.status


def test_a_step_starts_a_run(job, fit):
    fit.controls.click('epoch')
    assert job.asked == ['step epoch'] and fit.busy


def test_a_result_outlives_stops_and_failures(job, fit):
    told = []
    fit.on_result(told.append)
    fit.controls.click('train'); job.done(auc=.81); fit.tick()
    assert fit.result is job.result and fit.scores.data['auc'] == .81 and told == [job.result]
    fit.controls.click('train'); job.batches(5); fit.tick(); fit.controls.click('stop'); job.state = 'idle'; fit.tick()
    assert fit.result['auc'] == .81 and 'nothing of this run was kept' in notices(fit) and 'AUC' not in fit.controls.status
    fit.controls.click('train'); job.failed('the memory ran out: take a smaller `batch_size`'); fit.tick()
    assert fit.result['auc'] == .81 and fit.scores.data['auc'] == .81 and len(told) == 1
    assert 'memory ran out' in notices(fit) and 'from the run before' in notices(fit) and fit.controls.notices[0]['kind'] == 'error'


def test_an_end_between_two_looks_loses_no_result(fit, job):
    "The state is read once: were it read again, a panel would show an end without its result."
    fit.controls.click('train'); job.batches(3)
    states = iter(['running', 'done'])
    job.done()
    class Quick(FakeJob):
        state = property(lambda self: next(states), lambda self, v: None)
    quick = Quick()
    quick.recording, quick.result = job.recording, job.result
    fit.job = quick
    fit.tick()
    assert fit.controls.states['train'] == 'off'
    states = iter(['done']*9)
    fit.tick()
    assert fit.result is job.result and fit.controls.states['train'] == 'on'


def test_what_cannot_be_run_is_said(job):
    panel = FitPanel(job, lambda: recipe(freezing='gradul'))
    panel.controls.click('train')
    assert job.state == 'idle' and 'gradul' in notices(panel) and "did you mean 'gradual'" in notices(panel)
    panel.recipe = recipe
    job.state = 'running'
    panel.start()
    assert 'a run is running' in notices(panel) and not panel.busy


def test_trouble_is_said_while_it_happens(job, fit):
    fit.controls.click('train'); job.batches(12); job.batches(1, float('nan')); fit.tick()
    assert 'no number any more since step 13' in notices(fit)
    fit.controls.click('stop'); job.state = 'idle'; fit.tick()
    fit.controls.click('train'); job.batches(12); job.batches(20, 8.); fit.tick()
    assert 'no number' not in notices(fit) and 'has climbed' in notices(fit)
    fit.controls.click('stop'); job.state = 'idle'; fit.tick()
    fit.controls.click('train'); job.batches(10); job.recording.add('valid', 10, loss=.6); fit.tick()
    assert 'of one class' in notices(fit)


def test_what_may_go_wrong_is_said_before(job):
    panel = FitPanel(job, lambda: recipe(max_lr=.5), cautions=lambda r: foresee(r, .002))
    panel.consider()
    assert '250 times' in notices(panel) and job.state == 'idle'
    panel.recipe = lambda: recipe(n_train=1)
    panel.consider()
    assert "can't be run" in notices(panel)


def test_words_change_at_most_four_times_a_second(job, fit):
    fit.controls.click('train'); job.batches(1); fit.tick()
    sent = []
    fit.controls.observe(sent.append, 'status')
    for _ in range(50): job.batches(1); fit.tick()
    assert len(sent) <= 1


def test_runs_are_overlaid_and_the_oldest_goes(job, fit):
    for _ in range(6): fit.controls.click('train'); job.batches(2); fit.tick(); job.done(); fit.tick()
    assert len(fit.chart.names) == 4 and len(set(fit.chart.names)) == 4


def test_a_probe_has_no_steps(job):
    panel = FitPanel(job, lambda: recipe(source='chest', freezing='head'))
    panel.controls.click('train'); job.done(steps=0); panel.tick()
    assert planned_steps(panel.recipe()) == 0 and 'solved for' in panel.controls.status


# Learning rates, and a job that two panels share

def test_the_range_test_chooses_a_rate(job):
    panel = RatePanel(job, recipe)
    panel.controls.click('find')
    assert job.request['kind'] == 'find_rate' and on(panel) == {'stop'}
    job.state, job.result = 'done', dict(kind='find_rate', lrs=[1e-7, 1.], losses=[1., 2.], smooth=[1., 2.], suggestions=dict(valley=.0021, steep=None, minimum=.01), chosen=.0021, seconds=2.)
    panel.tick()
    assert panel.value == pytest.approx(.0021) == panel.suggested and 'Suggested: 0.0021' in panel.controls.status and 'longest fall' in notices(panel)
    panel.chart.rate = .01                                # dragged
    assert panel.value == .01
    with pytest.raises(InputError, match='max_lr'): panel.value = 50
    panel.controls.click('find')
    job.state, job.result = 'done', dict(job.result, suggestions={}, chosen=None)
    panel.tick()
    assert panel.value == .01 and 'none can be suggested' in notices(panel)


def test_a_probe_needs_no_rate(job):
    panel = RatePanel(job, lambda: recipe(source='chest', freezing='head'))
    panel.controls.click('find')
    assert job.state == 'idle' and 'no learning rate to find' in notices(panel)


def test_two_panels_share_a_job(job, fit):
    rate = RatePanel(job, recipe)
    rate.controls.click('find'); fit.tick()
    assert on(fit) == set() and 'another run' in fit.controls.status
    job.failed('no'); rate.tick(); fit.tick()
    assert on(fit) == {'train', 'batch', 'epoch'} and fit.controls.status == 'Ready.' and not notices(fit)
    assert 'This run failed: no.' in notices(rate)


# Scores

def test_matrix_as_the_run_counts_it():
    result = outcome(recipe())
    scores = Scores(picture)
    scores.show(result)
    counts = [[0, 0], [0, 0]]
    for t in (0, 1):
        for s in (0, 1): scores.open_cell(t, s); counts[t][s] = scores.cell['total']
    assert counts == result['confusion']


def test_a_page_gets_no_other_rows():
    asked = []
    scores = Scores(lambda row: asked.append(row) or b'')
    scores._heard(dict(open=[0, 0])); scores.show(outcome(recipe()))
    for bad in (None, 3, dict(open='00'), dict(open=[0, 7]), dict(open=[-1, 0]), dict(open=['0', 0]), dict(open=[0, 0], start=-5), dict(open=[0, 0], start='a')): scores._heard(bad)
    assert not asked
    scores._heard(dict(open=[1, 1]))
    assert asked and set(asked) <= set(scores.result['rows']) and len(asked) <= 24


# The meter

def stages(**facts): return {s: dict(dict(learned=s == 'head', weights=.5 if s == 'head' else 0., affine=0., statistics=0.), **facts.get(s, {})) for s in STAGES}

def test_the_meter_says_what_it_sees():
    meter = FreezingMeter()
    meter.show(stages(stage2=dict(statistics=.1), stage3=dict(weights=1e-9)))
    kinds = {r['name']: r['kind'] for r in meter.rows}
    assert kinds == dict(stem='still', stage1='still', stage2='leak', stage3='leak', stage4='still', head='moved')
    assert next(r for r in meter.rows if r['name'] == 'stage3')['said']['weights'] == '< 0.0001 %', 'what moved never reads as 0'
    assert meter.rows[-1]['parts']['statistics'] is None
    assert "stage2: frozen, but BatchNorm's statistics moved" in meter.words and 'exactly where the source left them' in meter.words


# The board

def filled(**kwargs):
    board = ResultsBoard(**kwargs)
    for seed, auc in enumerate((.80, .84, .79)): board.add(outcome(recipe(source='chest', seed=seed), auc), predicted=['chest', 'limb', 'none'])
    board.add(outcome(recipe(source='chest', n_train=200), .9))
    board.add(outcome(recipe(source='limb'), .7)); board.add(outcome(recipe(), .6, stopped_at=[40, 200]))
    return board


def test_means_and_predictions():
    board = filled()
    mean = next(p for p in board.means if p['runs'] == 3)
    assert mean['auc'] == pytest.approx(np.mean([.80, .84, .79])) and mean['sd'] == pytest.approx(np.std([.80, .84, .79], ddof=1))
    assert len({r['colour'] for r in board.arms}) == 3
    found = {s['name']: s['found'] for s in board.verdict['sources']}
    assert found == dict(chest=1, limb=2, none=None) and 'another seed' in board.verdict['said']
    for seed in (1, 2): board.add(outcome(recipe(source='limb', seed=seed), .71))
    assert board.verdict['said'] == 'As you predicted: chest 0.81, limb 0.71.'


def test_equal_recipes_are_one_run():
    board = filled()
    assert board.add(outcome(recipe(source='limb'), .75)) == 5 and len(board.rows) == 6
    board.add(outcome(recipe(source='limb'), .75), who='seat 3')
    assert len(board.rows) == 7 and next(p for p in board.means if p['source'] == 'limb')['runs'] == 1


def test_csv_holds_everything(tmp_path):
    board = filled()
    board.add(outcome(recipe(seed=9)), who='=cmd()')
    table = list(csv.DictReader(io.StringIO(board.to_csv(tmp_path/'x.csv').read_text())))
    assert len(table) == 7 and table[5]['stopped_at'] == '40.0' and table[0]['predicted_rank'] == '1' and table[1]['recipe_subset_seed'] == '1'
    assert table[-1]['who'] == "'=cmd()"
    assert ResultsBoard().csv.startswith('number,')


def test_a_page_asks_only_for_what_is_there():
    used = []
    board = filled(use=used.append)
    for bad in (dict(select=99), dict(delete='1'), dict(delete=-1), dict(use=0), dict(nonsense=1)): board._heard(bad)
    assert len(board.rows) == 6 and board.selected == 0 and not used
    board._heard(dict(use=4))
    assert used[0]['n_train'] == 200
    board._heard(dict(delete=1)); assert len(board.rows) == 5
    board._heard(dict(undo=True)); assert [r['number'] for r in board.rows] == [1, 2, 3, 4, 5, 6]


def test_nothing_heavy_is_loaded():
    code = 'import ttl_nb.ui.panels, sys; print(*({"torch", "fastai", "matplotlib", "sklearn"} & set(sys.modules)))'
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert r.returncode == 0 and not r.stdout.strip(), r.stdout + r.stderr


# In a browser

def focused(page): return page.evaluate('document.activeElement.dataset.name || document.activeElement.dataset.key || document.activeElement.tagName')

def test_buttons_by_keyboard(page, tmp_path, job, fit):
    seen = mount(page, fit.controls, tmp_path)
    page.keyboard.press('Tab'); page.keyboard.press('Enter'); seen.sync()
    assert job.state == 'queued' and focused(page) == 'train', 'a button that goes off keeps the focus'
    page.keyboard.press('Enter'); seen.sync()
    assert job.state == 'queued'
    job.batches(50); fit.tick(); seen.sync()
    assert page.get_by_role('progressbar').get_attribute('aria-valuenow') == '25'
    page.get_by_role('button', name='Pause').press('Space'); seen.sync()
    assert job.asked == ['pause'] and focused(page) == 'resume', 'the focus goes on from Pause to Resume'
    job.failed('a lost <b>disk</b>'); fit.tick(); seen.sync()
    assert page.get_by_text('Error: This run failed: a lost <b>disk</b>.').is_visible()


def test_cells_open_their_images(page, tmp_path):
    scores = Scores(picture)
    result = outcome(recipe(), n=120)
    scores.show(result)
    seen = mount(page, scores, tmp_path)
    page.get_by_role('button', name='no pneumonia said to be pneumonia').click(); seen.sync()
    assert page.locator('.scores-strip img').count() == result['confusion'][0][1] and page.get_by_text('but said to be pneumonia').is_visible()
    right = page.get_by_role('button', name=f'{result["confusion"][1][1]} of 60 pneumonia said to be pneumonia')
    right.click(); seen.sync()
    assert page.locator('.scores-strip img').count() == 24
    page.get_by_role('button', name='Show more').click(); seen.sync()
    assert page.locator('.scores-strip img').count() == min(48, result['confusion'][1][1])
    assert page.locator('.scores-strip img').evaluate_all('all => all.every(i => i.complete && i.naturalWidth === 16)')
    page.get_by_role('button', name='Close').press('Enter')
    assert page.locator('.scores-strip').count() == 0 and right.evaluate('b => b === document.activeElement')
    page.get_by_role('slider').fill('1'); page.wait_for_timeout(250); seen.sync()
    assert scores.threshold == 1 and page.get_by_role('img', name='0 of 60 pneumonia said to be pneumonia').is_visible()


def test_meter_in_a_browser(page, tmp_path):
    meter = FreezingMeter()
    meter.show(stages(stage2=dict(statistics=.1)), 'chest, N = 50')
    mount(page, meter, tmp_path)
    assert page.locator('td.meter-leak').count() == 1 and page.get_by_text("▲ frozen, but BatchNorm's statistics moved").is_visible()
    assert page.get_by_text('did not move', exact=True).count() == 14 and page.get_by_text('has none').count() == 2
    assert page.locator('.meter-zero').evaluate_all('all => all.every(i => i.getBoundingClientRect().width === 0)')


def test_board_by_keyboard(page, tmp_path):
    used, board = [], filled(link=lambda r: f'#n_train={r["n_train"]}', use=lambda r: used.append(r))
    seen = mount(page, board, tmp_path)
    page.wait_for_selector('.board-chart')
    page.get_by_role('button', name='Run 4: show its recipe').press('Enter'); seen.sync()
    assert board.selected == 4
    page.wait_for_selector('.board-details')
    assert focused(page) == 'open 4' and page.get_by_label('Link to this recipe').input_value().endswith('#n_train=200')
    page.get_by_role('button', name='Set the page to this recipe').click(); seen.sync()
    assert used[0]['n_train'] == 200
    page.get_by_role('button', name='Delete run 4').press('Enter'); seen.sync()
    assert len(board.rows) == 5
    page.get_by_role('button', name='Undo').press('Enter'); seen.sync()
    assert len(board.rows) == 6
    page.wait_for_function('document.querySelectorAll(".board-row").length === 6')
    with page.expect_download() as download: page.get_by_role('button', name='Export CSV').click(); seen.sync()
    assert download.value.suggested_filename.endswith('.csv')
    at = page.locator('.board-point', has=page.locator('title', has_text='Run 1:')).bounding_box()
    page.mouse.click(at['x'] + at['width']/2, at['y'] + at['height']/2); seen.sync()
    assert board.selected == 1


@pytest.mark.parametrize('scale', ['normal', 'projector'])
def test_nothing_overflows(page, tmp_path, scale):
    meter = FreezingMeter()
    meter.show(stages(stage2=dict(statistics=.1)))
    scores = Scores(picture)
    scores.show(outcome(recipe()))
    board = filled()
    for width in (1280, 390):
        page.set_viewport_size(dict(width=width, height=800))
        for widget in (meter, scores, board):
            widget.scale = scale
            mount(page, widget, tmp_path).close()
            page.wait_for_timeout(100)
            assert page.evaluate('document.documentElement.scrollWidth') <= width, (type(widget).__name__, width)


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_nothing_keeps_people_out(page, tmp_path, theme, fit, job):
    "No serious finding of axe, with everything open."
    Axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe
    page.emulate_media(color_scheme=theme)
    meter = FreezingMeter()
    meter.show(stages(stage2=dict(statistics=.1)))
    scores = Scores(picture)
    scores.show(outcome(recipe()))
    board = filled(link=lambda r: '#x', use=lambda r: None)
    fit.controls.click('train'); job.batches(15, 9.); fit._say('error', 'a sentence')
    for widget in (meter, scores, board, fit.controls):
        seen = mount(page, widget, tmp_path, body='style="background: light-dark(#fff, #1b1f23); color-scheme: light dark"')
        if widget is scores: page.locator('button.scores-cell').nth(1).click()
        if widget is board: board.select(3)
        seen.sync(); page.wait_for_timeout(150)
        found = [(v['id'], v['nodes'][0]['html'][:120]) for v in Axe().run(page).response['violations'] if v['impact'] in ('serious', 'critical')]
        assert not found, (type(widget).__name__, found)


def test_three_classes(page, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    p = rng.dirichlet([1, 1, 1], 90) + np.eye(3)[labels]
    p = (p/p.sum(1, keepdims=True)).round(5)
    scores = Scores(picture)
    scores.show(dict(outcome(recipe(), n=90), labels=labels.tolist(), scores=p.tolist(), classes=['a', 'b', 'c'], confusion=None))
    seen = mount(page, scores, tmp_path)
    assert page.locator('.scores-cell').count() == 9 and page.get_by_role('slider').count() == 0
    page.locator('button.scores-cell').first.click(); seen.sync()
    assert page.locator('.scores-strip img').count() == min(24, scores.cell['total']) > 0
