"The reuse explorer in a browser: choices move together, by mouse and by keyboard, in a widget and in a file without Python."
import json, re

import numpy as np
import pytest

from browser import chromium, mount, page, watched  # noqa: F401 (fixtures)

pytest.importorskip('playwright.sync_api')


@pytest.fixture(scope='module')
def runs():
    "Two runs: in the second nothing was changed but stage3, of which one unit was turned round."
    import torch
    from ttl_nb.data.catalog import phantom
    from ttl_nb.data.pixels import load_pixels
    from ttl_nb.models.backbone import create_backbone
    from ttl_nb.models.initial import initialise
    from ttl_nb.ui.reuse_explorer import explorer_run
    pixels = load_pixels(phantom('phantom-pneumonia', 40, size=48), 48)[:6]
    nets = [initialise(create_backbone('resnet10'), 'scratch', 0) for _ in range(2)]
    with torch.no_grad(): nets[1].stage3.conv1.weight.mul_(-1)
    labels = ['NORMAL', 'PNEUMONIA']*3
    return [explorer_run('unchanged', nets[0], nets[0], pixels, labels, range(6)),
            explorer_run('turned', *nets, pixels, labels, range(6), dict(stage3=dict(moved=2., cka=.412, cka_random=.2), stage1=dict(moved=0., cka=1.)))]


def pixel_sum(page, name): # How far the pixels of the canvas of that name are from one another
    return page.get_by_role('img', name=re.compile(name)).evaluate("c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let low = 765, top = 0; "
                                                                  "for (let i = 0; i < d.length; i += 4) { const v = d[i] + d[i + 1] + d[i + 2]; low = Math.min(low, v); top = Math.max(top, v); } return top - low; }")


def walk(page):
    "What both the widget and the file must do."
    page.get_by_role('radio', name=re.compile('^stage 1')).click()
    page.get_by_role('img', name=re.compile('of stage 1 difference')).wait_for()
    assert pixel_sum(page, 'difference') == 0, 'stage 1 is the same before and after'
    assert pixel_sum(page, 'after training') > 100
    assert page.get_by_text('weights did not move · CKA before to after 1').is_visible()
    page.get_by_role('radio', name=re.compile('^stage 3')).click()
    page.get_by_role('img', name=re.compile('of stage 3 difference')).wait_for()
    assert pixel_sum(page, 'difference') > 100
    assert page.get_by_text('CKA before to after 0.41 (to random weights 0.2)').is_visible()
    status = page.get_by_role('status')
    first = status.inner_text()
    page.get_by_role('radiogroup', name='Image').get_by_role('radio').first.focus()
    page.keyboard.press('ArrowRight'); page.keyboard.press('ArrowRight')
    page.get_by_role('img', name='NORMAL, image 2', exact=True).wait_for()
    assert status.inner_text() != first and 'NORMAL, image 2' in status.inner_text()
    units = page.get_by_role('radiogroup', name=re.compile('^Unit')).get_by_role('radio')
    units.last.click()
    assert units.last.get_attribute('aria-checked') == 'true'
    unit = re.search(r'unit (\d+)', units.last.get_attribute('aria-label'))[1]
    page.get_by_role('img', name=f'unit {unit} of stage 3 after training').wait_for()
    page.get_by_role('radio', name=re.compile('^first filters')).click()
    page.get_by_role('img', name=re.compile(r'^filter \d+ before training')).wait_for()
    assert not page.get_by_role('radiogroup', name='Image').is_visible()


def test_widget(page, tmp_path, runs):
    from ttl_nb.ui.reuse_explorer import ReuseExplorer
    explorer = ReuseExplorer()
    seen = mount(page, explorer, tmp_path)
    assert page.get_by_text('Train first').is_visible()
    for run in runs: explorer.add(run)
    seen.sync()
    walk(page)
    page.get_by_role('radio', name=re.compile('^stage 3')).click()
    page.get_by_label('Run', exact=True).select_option('unchanged')
    page.get_by_role('img', name=re.compile('of stage 3 difference')).wait_for()
    page.wait_for_function("() => /changed by 0 %/.test(document.querySelector('[role=status]').textContent)")
    assert pixel_sum(page, 'difference') == 0


def test_file(page, tmp_path, runs):
    from ttl_nb.ui.reuse_explorer import write_explorer
    page.goto(write_explorer(runs, tmp_path/'reuse.html', 'Chest → pneumonia').as_uri())
    page.get_by_role('heading', name='Chest → pneumonia').wait_for()
    page.get_by_label('Run', exact=True).select_option('turned')
    walk(page)


def test_numbers_are_those_of_the_networks(runs):
    "The tile of a unit, its scale and its mean say the same."
    import base64, io
    from PIL import Image
    for stage in runs[1]['stages']:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(stage['sprite'].split(',')[1]))), float)/255
        h, w = stage['height'], stage['width']
        for u,(low, top) in enumerate(zip(stage['low'], stage['top'])):
            tile = picture[:h, (2*u + 1)*w:(2*u + 2)*w]
            assert abs(low + tile.mean()*(top - low) - stage['after'][0][u]) <= (top - low)/500 + 1e-3*abs(top)


def test_accessible(page, tmp_path, runs):
    axe = pytest.importorskip('axe_playwright_python.sync_playwright')
    from ttl_nb.ui.reuse_explorer import write_explorer
    page.goto(write_explorer(runs, tmp_path/'reuse.html').as_uri())
    page.get_by_role('radio', name=re.compile('^stage 3')).wait_for()
    found = axe.Axe().run(page, options=dict(runOnly=['wcag2a', 'wcag2aa'])).response['violations']
    assert not [v for v in found if v['impact'] in ('serious', 'critical')], json.dumps([(v['id'], v['nodes'][0]['html']) for v in found])
