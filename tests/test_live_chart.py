"The live chart: what it sends, and what a browser shows of it, from disk and without a kernel."
import csv, io, json, re, statistics, struct, time

import numpy as np
import pytest
from browser import chromium, mount, page
from PIL import Image
from project import ROOT

from ttl_nb.errors import InputError
from ttl_nb.models.stages import STAGES
from ttl_nb.pictures import OKABE_ITO
from ttl_nb.train.recording import Recording
from ttl_nb.ui.live_chart import LIMIT, LiveChart, export_html, replay
from ttl_nb.ui.look import css, module


def training(steps=100, seed=0, valid=10, t=.02, shift=0., **odd): # odd: step -> loss, as s50=9.
    "A recording as `fit` leaves it."
    rng, rec = np.random.default_rng(seed), Recording({})
    for i in range(steps):
        if i in (0, steps//5): rec.add('phase', i, learning=list(STAGES[-1:] if i == 0 else STAGES))
        rec.add('batch', i, loss=odd.get(f's{i}', .4 + shift + .3*np.exp(-3*i/steps) + .02*rng.standard_normal()), lr=[1e-4, 3e-4, 9e-4*(1 - i/steps/2)], mom=.95 - .1*i/steps)
        if valid and i % valid == valid-1: rec.add('valid', i+1, loss=.5 + shift, auc=.6 + .3*i/steps)
    for e in rec.events: e['t'] = e['step']*t
    return rec


def range_test(valley=1e-3):
    rec = Recording({})
    for i, lr in enumerate(np.geomspace(1e-6, 1., 61)): rec.add('rate', i, lr=float(lr), loss=.7 - .3/(1 + (3e-4/lr)**2) + 3*lr, smooth=.7 - .3/(1 + (3e-4/lr)**2) + 2*lr)
    for name, lr in (('valley', valley), ('steep', 2.5e-4), ('minimum', 2e-2)): rec.add('suggestion', 61, name=name, lr=lr)
    return rec


def caught(**kwargs):
    "A chart, and the list of what it sends."
    chart, sent = LiveChart(**kwargs), []
    chart.send = lambda content, buffers=None: sent.append((content, buffers))
    return chart, sent


# What is sent

def test_an_update_is_small_however_long_the_run():
    chart, sent = caught()
    live = Recording({})
    chart.follow(live)
    sizes, took = [], []
    for k in range(400):
        for e in training(steps=25, seed=k).events: live.events.append(dict(e, step=e['step'] + 25*k))
        start = time.perf_counter(); sizes.append(chart.update()); took.append(time.perf_counter() - start)
    assert 0 < max(sizes) <= 1000 and len(sent) == 401
    assert statistics.median(took) < 1e-3, f'{1e3*statistics.median(took):.2f} ms of kernel time an update'
    assert statistics.median(took[-100:]) < 3*statistics.median(took[:100]) + 1e-4


def test_a_busy_kernel_catches_up_in_small_messages():
    "Ten thousand steps in one go: no message is large, and nothing is left out."
    chart, sent = caught()
    chart.follow(live := Recording({}))
    for e in training(steps=10_000).events: live.events.append(e)
    sizes = []
    while n := chart.update(): sizes.append(n)
    assert max(sizes) <= 1000 and [c['n'] for c, _ in sent] == list(range(1, len(sent)+1))
    chart.follow(live, 'again', replace=True)
    together = sum(len(b[0]) for _, b in sent[1:-1]) - 2*(len(sizes) - 1)  # each message names its run anew
    assert together == len(sent[-1][1][0])


def test_runs_are_named_replaced_and_forgotten():
    chart, sent = caught()
    for name in 'abc': chart.follow(training(seed=ord(name)), name)
    assert chart.names == ['a', 'b', 'c'] and [r['slot'] for r in sent[-1][0]['runs']] == [0, 1, 2]
    chart.forget('b'); chart.follow(training(), 'd')
    assert [(r['name'], r['slot']) for r in sent[-1][0]['runs']] == [('a', 0), ('c', 2), ('d', 1)]
    chart.follow(training(), 'a')                                         # the newest is last
    assert chart.names == ['c', 'd', 'a']
    chart.follow(training(), 'only', replace=True)
    assert chart.names == ['only']
    with pytest.raises(InputError, match='`name` must be one of only'): chart.forget('a')


def test_everything_is_sent_again_when_a_view_asks():
    chart, sent = caught()
    chart.follow(rec := training())
    chart._handle_custom_msg({'do': 'resync'}, [])
    assert chart.seen and sent[-1][0]['all'] and sent[-1][1] == sent[-2][1]
    rec.add('batch', 100, loss=.1, lr=[1e-3], mom=.9)
    assert chart.update() > 0 and struct.unpack('<f', sent[-1][1][0][-10:-6])[0] == pytest.approx(.1)
    for strange in ({}, {'do': 'else'}, 'resync', None): chart._handle_custom_msg(strange, [])
    assert chart.update() == 0


def test_odd_recordings():
    chart, _ = caught()
    rec = Recording({})
    chart.follow(rec)
    rec.add('note', 0, text='hello'); rec.add('stage', 0, stage='head', moved=.1); rec.add('unheard', 3, of=1)
    assert chart.update() == 0 and 'nothing has been recorded' not in chart.alt
    rec.add('batch', 7, loss=float('inf'), lr=.1); rec.add('batch', 2**20, loss=1e300, lr=[0., 0.], mom=1.5); rec.add('valid', 2**20, loss=None)
    rec.add('suggestion', 9, name='é'*100, lr=None)
    assert 0 < chart.update() < 1000 and chart.picture().startswith(b'\x89PNG') and 'not a number from step 7' in chart.alt


def test_nothing_is_fetched():
    for text in (module('live_chart.js'), css('live_chart.css')):
        assert not re.search(r'https?://(?!www\.w3\.org/2000/svg)|@import|url\(', text)


# What a browser shows

COLOUR = "n => [1, 3, 5].map(i => parseInt(n.slice(i, i + 2), 16))"
INKED = """([name, box]) => { const c = document.querySelector('.ttl-chart canvas'), g = c.getContext('2d'), want = (%s)(name);
  const [x, y, w, h] = box ? [box[0]*c.width, box[1]*c.height, box[2]*c.width, box[3]*c.height].map(Math.round) : [0, 0, c.width, c.height], d = g.getImageData(x, y, w, h).data; let n = 0;
  for (let i = 0; i < d.length; i += 4) if (Math.abs(d[i] - want[0]) + Math.abs(d[i+1] - want[1]) + Math.abs(d[i+2] - want[2]) < 40) n++; return n; }""" % COLOUR


def inked(page, colour=OKABE_ITO[0], box=None): # box: x, y, width, height as shares of the canvas
    "Pixels of the canvas that have a colour."
    return page.evaluate(INKED, [colour, box])


def settled(page): page.wait_for_timeout(120); page.evaluate('() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))')


def shown_csv(page):
    with page.expect_download() as d: page.get_by_role('button', name='Save all values as CSV').click()
    return list(csv.DictReader(io.StringIO(open(d.value.path(), encoding='utf-8').read())))


def test_curves_grow(page, tmp_path):
    chart, whole = LiveChart(), training(steps=200)
    chart.planned = 200; live = Recording({}); chart.follow(live, 'chest, N = 50')
    seen = mount(page, chart, tmp_path); settled(page)
    assert chart.seen and inked(page) == 0 and page.locator('.ttl-status').inner_text() == 'Waiting for the first step.'
    found = []
    for k in range(0, len(whole), 37):
        live.events += whole.events[k:k+37]
        assert 0 < chart.update() <= 1000
        seen.sync(); settled(page); found.append(inked(page))
    while chart.update(): seen.sync()
    assert found[0] > 50 and found[-1] > 2*found[0], found
    page.wait_for_timeout(300)
    assert 'step 200' in page.locator('.ttl-status').inner_text() and 'step 200' in page.locator('canvas').get_attribute('aria-label')
    rows = shown_csv(page)
    want = [(e['step'], e['loss']) for e in whole.events if e['kind'] == 'batch']
    assert [(int(r['step']), pytest.approx(float(r['loss']), rel=1e-5)) for r in rows if r['kind'] == 'training'] == want
    assert sum(r['kind'] == 'validation' for r in rows) == 20


def test_no_frame_is_blank(page, tmp_path):
    "A thousand updates while every frame is looked at."
    chart = LiveChart(); chart.follow(live := Recording({}))
    seen = mount(page, chart, tmp_path)
    live.events += training(steps=50).events; chart.update(); seen.sync(); settled(page)
    for i in range(50, 1050): live.add('batch', i, loss=.5 + .1*np.sin(i/20), lr=[1e-4, 1e-4, 1e-3], mom=.9); chart.update()
    messages, seen._waiting = seen._waiting, []
    assert len(messages) == 1000
    frames, blank = page.evaluate("""([messages, blue]) => new Promise(done => {
      const c = document.querySelector('.ttl-chart canvas'), g = c.getContext('2d'); let frames = 0, blank = 0, i = 0, over = false;
      const look = () => { const d = g.getImageData(0, 0, c.width, c.height / 2).data; let n = 0;
        for (let k = 0; k < d.length; k += 4) if (d[k + 2] - d[k] > 100) n++;
        frames++; if (n < 50) blank++; if (!over) requestAnimationFrame(look); else done([frames, blank]); };
      requestAnimationFrame(look);
      const feed = () => { if (i < messages.length) { model.receive(messages[i++]); if (i % 200 === 0) document.getElementById('root').style.width = `${900 - i / 10}px`; setTimeout(feed, 3); } else over = true; };
      feed(); })""", [messages, OKABE_ITO[0]])
    assert frames > 40 and blank == 0, f'{blank} of {frames} frames were blank'
    settled(page); page.wait_for_timeout(400)
    assert 'step 1,050' in page.locator('.ttl-status').inner_text()


def test_reload_late_view_and_a_lost_message(page, tmp_path):
    chart = LiveChart(); chart.follow(rec := training(), 'first')
    seen = mount(page, chart, tmp_path); settled(page)
    before = inked(page)
    assert before > 200
    page.reload(); page.wait_for_function('window.ready'); seen.sync(); settled(page)
    assert inked(page) == pytest.approx(before, rel=.02)
    page.evaluate('addView()'); seen.sync(); settled(page)
    assert page.locator('.ttl-chart').count() == 2
    page.evaluate('removeView(0)'); settled(page)
    assert page.locator('.ttl-chart').count() == 1 and inked(page) == pytest.approx(before, rel=.02)
    rec.add('batch', 100, loss=.4, lr=[1e-3], mom=.9); chart.update(); seen._waiting.clear()   # lost on the way
    rec.add('batch', 101, loss=.4, lr=[1e-3], mom=.9); chart.update()
    page.wait_for_timeout(550); seen.sync(); settled(page)
    assert [int(r['step']) for r in shown_csv(page) if r['kind'] == 'training'] == list(range(102))


def test_three_runs_over_each_other(page, tmp_path):
    chart = LiveChart()
    for i, name in enumerate(('none', 'natural', '=chest <b>')): chart.follow(training(seed=i, shift=.1*i), name)
    seen = mount(page, chart, tmp_path); settled(page)
    legend = page.get_by_role('list', name='Lines')
    assert legend.get_by_role('button').all_inner_texts() == ['none', 'natural', '=chest <b>']
    assert inked(page, OKABE_ITO[2]) > 200, 'the newest is drawn strongest'
    legend.get_by_role('button', name='=chest').click(); settled(page)
    assert inked(page, OKABE_ITO[2]) == 0 and inked(page, OKABE_ITO[1]) > 200
    assert {r['run'] for r in shown_csv(page)} == {'none', 'natural', "'=chest <b>"}           # no formula in a spreadsheet
    chart.forget('natural'); seen.sync(); settled(page)
    assert inked(page, OKABE_ITO[1]) == 0 and legend.get_by_role('button').count() == 2


def test_the_rate_is_dragged_pressed_typed_and_stepped(page, tmp_path):
    chart = LiveChart('rate'); chart.follow(range_test(), 'range test')
    seen = mount(page, chart, tmp_path); settled(page)
    assert page.get_by_role('slider').count() == 0                                            # nothing is chosen yet
    page.get_by_role('button', name='valley').click(); seen.sync(); settled(page)
    assert chart.rate == .001 and page.get_by_role('button', name='valley').get_attribute('aria-pressed') == 'true'
    handle = page.get_by_role('slider', name='Chosen learning rate')
    box, plot = handle.bounding_box(), page.locator('.ttl-chart-plot').bounding_box()
    page.mouse.move(box['x'] + box['width']/2, box['y'] + 40); page.mouse.down(); page.mouse.move(box['x'] + 150, box['y'] + 40, steps=5); page.mouse.up(); seen.sync()
    assert .002 < chart.rate < .1 and chart.rate == float(f'{chart.rate:.2g}')
    dragged = chart.rate
    handle.focus(); page.keyboard.press('ArrowLeft'); seen.sync()
    assert dragged/1.3 < chart.rate < dragged and page.get_by_role('status').inner_text() == f'Learning rate {chart.rate:g} chosen'
    chip = page.get_by_role('button', name='steep').bounding_box()                             # a suggestion can be dragged from
    page.mouse.move(chip['x'] + 20, chip['y'] + 10); page.mouse.down(); page.mouse.move(chip['x'] - 80, chip['y'] + 10, steps=4); page.mouse.up(); seen.sync()
    assert 1e-6 < chart.rate < 2.5e-4
    page.mouse.click(plot['x'] + plot['width']*.5, plot['y'] + plot['height']*.6); seen.sync()  # a click on the curve
    assert 1e-4 < chart.rate < 1e-2
    field = page.get_by_label('Learning rate', exact=True)
    field.fill('5e-3'); field.press('Enter'); seen.sync(); assert chart.rate == .005
    field.fill('fast'); field.press('Enter'); seen.sync(); assert chart.rate == .005 and page.get_by_text('Type a learning rate above 0').first.is_visible()
    page.get_by_role('button', name='minimum').focus(); page.keyboard.press('Enter'); seen.sync(); assert chart.rate == .02
    chart.rate = .3; seen.sync(); settled(page)
    assert handle.get_attribute('aria-valuetext') == 'learning rate 0.3'


def test_zoom_and_read_out(page, tmp_path):
    chart = LiveChart(); chart.follow(training(s50=.9), 'chest')
    mount(page, chart, tmp_path); settled(page)
    plot, box = page.locator('.ttl-chart-plot'), page.locator('.ttl-chart-plot').bounding_box()
    said, back, status = page.locator('.ttl-chart-said'), page.get_by_role('button', name='Show the whole range again'), page.locator('[role=status]')
    page.mouse.move(box['x'] + box['width']/2, box['y'] + 100); settled(page)
    assert said.is_visible() and 'training' in said.inner_text() and 'momentum' in said.inner_text()
    before = page.screenshot()
    page.mouse.down(); page.mouse.move(box['x'] + box['width']*.75, box['y'] + 90, steps=4); page.mouse.up(); settled(page)
    assert back.is_visible() and re.match(r'Shown: \d+', status.inner_text()) and page.screenshot() != before
    page.mouse.dblclick(box['x'] + 200, box['y'] + 100); settled(page)
    assert not back.is_visible()
    page.mouse.move(0, 0); plot.focus(); page.keyboard.press('Home'); settled(page); assert 'step 0' in status.inner_text()
    for _ in range(3): page.keyboard.press('ArrowRight')
    settled(page); assert 'step 3:' in status.inner_text() and said.is_visible()
    page.keyboard.press('+'); settled(page); assert back.is_visible()
    page.keyboard.press('0'); settled(page); assert not back.is_visible()
    page.keyboard.press('t'); assert page.get_by_role('region', name='Values of the curves').is_visible()
    page.keyboard.press('Escape'); settled(page); assert not said.is_visible()


def test_table_and_picture(page, tmp_path):
    chart = LiveChart(); chart.follow(training(), 'chest')
    mount(page, chart, tmp_path); settled(page)
    page.get_by_role('button', name='table').click()
    table = page.get_by_role('table')
    assert table.get_by_role('row').count() == 11 and table.get_by_role('row').nth(1).get_by_role('cell').nth(2).inner_text() == '0.5'
    page.get_by_role('button', name='table').click(); assert not table.is_visible()
    with page.expect_download() as d: page.get_by_role('button', name='Save the picture as PNG').click()
    picture = np.asarray(Image.open(d.value.path()).convert('RGB')).reshape(-1, 3)
    assert d.value.suggested_filename == 'curves.png' and (np.abs(picture.astype(int) - (0, 114, 178)).sum(1) < 40).sum() > 200


def test_extremes_of_a_long_run_are_drawn(page, tmp_path):
    "One step of 30,000 stands out by a little, one by far, one is no number: each is seen."
    chart = LiveChart(); chart.follow(training(steps=30_000, valid=3000), 'long')
    seen = mount(page, chart, tmp_path); settled(page)
    pixels = lambda: np.asarray(Image.open(io.BytesIO(page.locator('canvas').screenshot())).convert('RGB')).astype(int)
    plain = pixels()
    chart.follow(training(steps=30_000, valid=3000, s15013=.62), 'long'); seen.sync(); settled(page)
    columns = (np.abs(pixels() - plain).max(2) > 25).sum(0)
    assert columns.max() >= 5 and (columns >= 5).sum() <= 3, 'a line up to one loss of .62 among losses of .4 to .5'
    chart.follow(training(steps=30_000, valid=3000, s15013=900., s20000=None), 'long'); seen.sync(); settled(page)
    page.wait_for_timeout(400)
    assert inked(page, '#a34700') > 20, 'the mark of what is above, and of what is no number'
    assert 'not a number from step 20,000' in page.locator('.ttl-status').inner_text()
    took = page.evaluate("""async () => { const t = performance.now(); let n = 0; const w = document.getElementById('root'); const frame = () => new Promise(r => requestAnimationFrame(r));
      for (; n < 10; n++) { w.style.width = `${900 - n}px`; await frame(); await frame(); } return (performance.now() - t) / 20; }""")
    assert took < 250, f'{took:.0f} ms a frame'


def test_themes_scale_and_sharpness(chromium, tmp_path):
    from browser import watched
    paper = {}
    for dark, attributes, want in ((False, '', 255), (True, '', 27), (True, 'data-jp-theme-light="true"', 255), (False, 'data-jp-theme-light="false"', 27)):
        context = chromium.new_context(viewport=dict(width=900, height=700), color_scheme='dark' if dark else 'light', device_scale_factor=2)
        page = watched(context.new_page()); chart = LiveChart(scale='projector'); chart.follow(training())
        seen = mount(page, chart, tmp_path, body=attributes); settled(page)
        size = page.evaluate("() => { const c = document.querySelector('canvas'); return [c.width, c.clientWidth, c.height, c.clientHeight, c.getContext('2d').getImageData(2, 2, 1, 1).data[0]]; }")
        assert size[0] == 2*size[1] and size[2] == 2*size[3] and size[3] == round(300*1.35) and size[4] == want, (dark, attributes, size)
        chart.scale, chart.height = 'normal', 200; seen.sync(); settled(page)
        assert page.evaluate("document.querySelector('canvas').clientHeight") == 200 and not page.faults
        context.close()


def test_narrow(page, tmp_path):
    page.set_viewport_size(dict(width=390, height=800))
    for chart in (LiveChart(), LiveChart('rate')):
        chart.follow(training() if chart.kind == 'fit' else range_test(), 'a run with a rather long name, N = 50'); chart.rate = .9
        mount(page, chart, tmp_path); settled(page)
        assert page.evaluate('document.documentElement.scrollWidth') <= 390


# Without training, without Python

def test_replay_plays(page, tmp_path):
    chart = replay(training(steps=100, t=.02), speed=2)
    seen = mount(page, chart, tmp_path); settled(page)
    early = inked(page)
    page.get_by_role('button', name='Play again').wait_for(timeout=5000); settled(page)
    assert inked(page) > early and len(shown_csv(page)) == 110                                # once, though the curves came twice
    bar = page.get_by_label('Moment of the run')
    assert bar.get_attribute('aria-valuetext') == '2.0 s of 2.0 s'
    bar.evaluate("b => { b.value = 300; b.dispatchEvent(new Event('input')); }"); settled(page); page.wait_for_timeout(400)
    assert 'step 30 of 100' in page.locator('.ttl-status').inner_text()
    page.get_by_role('button', name='Play', exact=True).click(); page.get_by_role('button', name='Pause').click(); page.wait_for_timeout(400)
    assert 'step 100' not in page.locator('.ttl-status').inner_text()
    assert seen.sync() and chart.seen


@pytest.mark.parametrize('scripts', [True, False], ids=['scripts', 'no scripts'])
def test_exported_page(chromium, tmp_path, scripts):
    "From disk, offline: nothing is asked for. Without scripts the picture is there."
    from browser import watched
    file = export_html({'none': training(seed=1), 'chest </script><img src=x>': training()}, tmp_path/'run.html', title='Two [[sources]] & more')
    context = chromium.new_context(viewport=dict(width=1280, height=800), java_script_enabled=scripts, offline=True)
    page, asked = watched(context.new_page()), []
    page.on('request', lambda r: asked.append(r.url) if not r.url.startswith(('data:', 'blob:')) else None)
    page.goto(file.as_uri())
    assert page.get_by_role('heading', name='Two [[sources]] & more').is_visible() and len(asked) == 1 and not page.faults
    if scripts:
        settled(page)
        assert inked(page, OKABE_ITO[1]) > 200 and page.get_by_role('button', name='chest </script>').is_visible()
        page.get_by_role('button', name='Play again').click(); settled(page)
        assert page.get_by_role('button', name='Pause').is_visible() and not page.faults
    else: assert page.get_by_role('img', name='Training curves').bounding_box()['width'] > 500
    context.close()


def test_kept_curves_need_no_kernel(page, tmp_path):
    "A notebook that was saved with its widgets shows the curves; nobody answers there."
    chart = LiveChart(); chart.follow(training(), 'chest'); chart.keep()
    chart._handle_custom_msg = lambda *a: None
    mount(page, chart, tmp_path); settled(page)
    assert inked(page) > 200


def test_a_picture_stays_in_the_notebook(tmp_path):
    "In a real kernel: what a notebook holds after `keep`, and what a page made of it shows."
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter
    cells = ['from ttl_nb.train.recording import Recording\nfrom ttl_nb.ui.live_chart import LiveChart\nlive = Recording(); chart = LiveChart(); chart.follow(live, "chest"); chart',
             'for i in range(30): live.add("batch", i, loss=1/(i + 1), lr=[1e-3], mom=.9); chart.update()\nchart.keep()']
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=dict(kernelspec=dict(name='python3', display_name='', language='python')))
    NotebookClient(nb, timeout=60, resources=dict(metadata=dict(path=str(ROOT)))).execute()
    shown, = nb.cells[0].outputs
    assert {'image/png', 'application/vnd.jupyter.widget-view+json'} <= shown.data.keys() and '30 steps' in shown.metadata['image/png']['alt']
    assert len(json.dumps(shown)) < 100_000
    nb.metadata.pop('widgets', None)                                       # a page that has no widgets
    assert re.search(r'<img[^>]*alt="Training curves\. chest: 30 steps', HTMLExporter().from_notebook_node(nb)[0])
