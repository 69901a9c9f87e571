"The playground under Voila in a real browser: the whole story by mouse and by keyboard, its link, a class, nothing asked of other hosts."
import re, sys, time

import pytest

from browser import chromium, watched  # noqa: F401 (fixtures)
from project import ROOT

sys.path.insert(0, str(ROOT/'benchmarks'))
from ui import seat_processes

pytest.importorskip('playwright.sync_api')


def served_page(chromium, **kwargs):
    context = chromium.new_context(viewport=dict(width=1280, height=800), **kwargs)
    page = watched(context.new_page())
    page.set_default_timeout(30_000)
    return page


def opened(page, link):
    page.goto(link)
    page.get_by_role('heading', name=re.compile('Targeted transfer learning')).wait_for()
    return page


@pytest.fixture(scope='module')
def server():
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui.server import serve
    with serve(phantom_offer(['phantom-pneumonia', 'phantom-hernia'], 300), port=8900, training=dict(epochs=3, min_steps=24)) as served: yield served


@pytest.fixture
def page(chromium, server):
    page = served_page(chromium, permissions=['clipboard-read', 'clipboard-write'])
    yield opened(page, server.link)
    faults = [f for f in page.faults if '403' not in f] # Voila's own beacon on leaving carries no token of xsrf; kernels are culled
    page.context.close()
    assert not faults, '\n'.join(faults)


def trained(page, n=1): # Wait until so many runs are on the board
    try: page.get_by_text(re.compile(rf'Run {n} added')).wait_for(state='attached', timeout=60_000)
    except Exception as e: raise AssertionError(f'no run {n}; the page says: {[t for t in page.locator(".ttl-status, .ttl-page-text, .ttl-notice").all_inner_texts() if t]}') from e


def open_to(page, step):
    names = ['source', 'freeze', 'learning rate', 'train', 'what was reused', 'compare']
    for name in names[:step - 1]: page.get_by_role('button', name=f'Next: {name}').click()


def test_the_story_by_mouse(page, server):
    assert not page.get_by_role('heading', name='2 · Source').is_visible()
    slider = page.get_by_role('slider', name=re.compile('raining images'))
    slider.focus(); page.keyboard.press('Home')
    open_to(page, 2)
    page.get_by_role('radio', name=re.compile('Chest radiographs')).check()
    page.get_by_role('button', name='Chest radiographs: one up').click()
    open_to_freeze = page.get_by_role('button', name='Next: freeze'); open_to_freeze.click()
    page.get_by_role('button', name=re.compile('^Stem')).click()
    page.get_by_role('button', name='Next: learning rate').click()
    page.get_by_role('button', name='Find the learning rate').click()
    page.get_by_text(re.compile('Range test done')).first.wait_for(timeout=60_000)
    page.get_by_role('button', name='Next: train').click()
    page.get_by_role('button', name='Train', exact=True).click()
    trained(page)
    page.get_by_role('button', name=re.compile('Step 6')).click()
    page.get_by_role('radio', name=re.compile('^first filters')).wait_for()
    page.get_by_role('radio', name=re.compile('^stage 4')).click()
    page.get_by_role('img', name=re.compile('of stage 4 after training')).wait_for()
    page.get_by_role('button', name=re.compile('Step 7')).click()
    page.get_by_role('heading', name='7 · Compare').wait_for()
    page.get_by_role('button', name='Copy link').click()
    copied = page.evaluate('navigator.clipboard.readText()')
    assert 'phantom-chest' in copied and copied == page.url
    chosen = page.url.split('#')[1]
    page.reload()
    page.get_by_role('heading', name='5 · Train').wait_for()
    assert page.get_by_role('radio', name=re.compile('Chest radiographs')).is_checked()
    page.wait_for_function('h => location.hash.slice(1) === h', arg=chosen)


def test_stop_while_training_and_train_again(page):
    open_to(page, 5)
    page.get_by_role('button', name='Train', exact=True).click()
    page.get_by_text(re.compile(r'Step \d+ of 24')).first.wait_for(timeout=60_000)
    page.get_by_role('button', name='Stop', exact=True).last.click()
    page.get_by_text(re.compile('nothing of this run was kept')).first.wait_for()
    page.get_by_role('button', name='Train', exact=True).click()
    trained(page)


def test_the_story_by_keyboard(page):
    "Tab, arrows, space and enter alone."
    def to(role, name, most=160):
        wanted = page.get_by_role(role, name=name)
        for _ in range(most):
            if wanted.count() and wanted.first.evaluate('e => e === document.activeElement || e.contains(document.activeElement)'): return
            page.keyboard.press('Tab')
        raise AssertionError(f'the {role} {name} cannot be reached by Tab')
    page.locator('body').click(position=dict(x=2, y=2))
    to('slider', re.compile('raining images')); page.keyboard.press('Home')
    to('button', 'Next: source'); page.keyboard.press('Enter')
    page.get_by_role('heading', name='2 · Source').wait_for()
    to('radio', re.compile('No source')); page.keyboard.press('ArrowRight')
    to('button', 'Next: freeze'); page.keyboard.press('Enter')
    to('button', re.compile('^Stage 2')); page.keyboard.press('Space')
    to('button', 'Next: learning rate'); page.keyboard.press('Enter')
    to('button', 'Next: train'); page.keyboard.press('Enter')
    to('button', re.compile('^Train$')); page.keyboard.press('Enter')
    trained(page)
    assert 'phantom-natural' in page.url and 'freezing' in page.url


def test_a_strangers_link(chromium, server):
    page = served_page(chromium)
    opened(page, server.link + '#source=%22/etc/passwd%22&n_train=99999999')
    page.get_by_text(re.compile('The link could not be opened')).wait_for()
    assert not page.get_by_text('root:').count()
    page.context.close()


def test_without_the_token(chromium, server):
    page = served_page(chromium)
    page.goto(server.link.split('?')[0])
    page.wait_for_timeout(1500)
    assert not page.get_by_role('heading', name=re.compile('1 · Data')).count()
    page.context.close()


@pytest.mark.parametrize('scale', ['normal', 'projector'])
def test_nothing_keeps_people_out(page, scale):
    "An audit with axe-core: nothing serious."
    from axe_playwright_python.sync_playwright import Axe
    open_to(page, 5)
    if scale == 'projector': page.get_by_role('button', name='Projector').click()
    page.get_by_role('button', name='Train', exact=True).click()
    trained(page)
    page.wait_for_timeout(500)
    found = Axe().run(page, context='.ttl-playground').response['violations']
    serious = [(v['id'], v['impact'], [n['html'][:160] for n in v['nodes'][:3]]) for v in found if v['impact'] in ('serious', 'critical')]
    assert not serious, serious


def test_reloading_leaks_no_kernel(chromium, server, monkeypatch):
    import json
    from urllib.request import urlopen
    page = served_page(chromium)
    opened(page, server.link)
    for _ in range(3): page.reload(); page.get_by_role('heading', name='1 · Data').wait_for()
    from ttl_nb.ui.server import CULL
    end = time.monotonic() + CULL + 40
    while len(seat_processes(server.voila.pid)) != 1 and time.monotonic() < end: time.sleep(1)
    assert len(seat_processes(server.voila.pid)) == 1
    page.context.close()


def test_seats_end_with_a_server_that_is_killed(chromium, tmp_path):
    "A seat is a fork of another process, and no child of the server."
    import psutil
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui.server import serve
    page = served_page(chromium)
    with serve(phantom_offer(['phantom-pneumonia'], 300), port=8940) as server:
        opened(page, server.link)
        left = [*psutil.Process(server.voila.pid).children(recursive=True)]
        assert len(seat_processes(server.voila.pid)) == 1 and len(left) >= 2
        page.context.close()
        server.voila.kill()
        assert not psutil.wait_procs(left, timeout=20)[1], left
