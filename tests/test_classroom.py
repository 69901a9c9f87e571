"A class under Voila in a real browser: seats with seeds of their own, a full class, the teacher's board, the queue, a place that gets free."
import re

import pytest

from browser import chromium, watched  # noqa: F401 (fixtures)
from jobs import until

pytest.importorskip('playwright.sync_api')


@pytest.fixture(scope='module')
def server():
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui.server import serve
    with serve(phantom_offer(['phantom-pneumonia'], 300), seats=3, port=8920, training=dict(epochs=3, min_steps=24)) as served: yield served


def leave(page):
    "Close a page as its reader does: it may say that it goes."
    if page.is_closed(): return
    with page.expect_event('close'): page.close(run_before_unload=True)


@pytest.fixture
def come(chromium, server):
    "Opens a link in a browser of its own; at the end everybody leaves, and all seats are free again."
    pages = []
    def open_link(link, said='Targeted transfer learning'):
        page = watched(chromium.new_context(viewport=dict(width=1280, height=800)).new_page())
        page.set_default_timeout(30_000)
        pages.append(page)
        page.goto(link)
        page.get_by_text(re.compile(said)).first.wait_for()
        return page
    yield open_link
    for page in pages: leave(page); page.context.close()
    until(lambda: not sitting(server), otherwise='seats are still taken', every=.1)
    faults = [f for page in pages for f in page.faults]
    assert not faults, '\n'.join(faults)


def sitting(server):
    from ttl_nb.ui.classroom import Classroom
    return Classroom(server.folder/'class', 3).taken()


def number(page): # Of a seat, as its page says
    return int(re.search(r'seat (\d+)', page.get_by_role('heading', name=re.compile('Targeted')).inner_text())[1])


def seeds(page): return [int(page.get_by_label(name, exact=True).input_value()) for name in ('Which images', 'Which initial weights')]


def to_training(page):
    for name in ('source', 'freeze', 'learning rate', 'train'): page.get_by_role('button', name=f'Next: {name}').click()
    return page.get_by_role('button', name='Train', exact=True)


def train(page): page.get_by_role('button', name='Train', exact=True).click()


def trained(page): page.get_by_text(re.compile(r'Run \d+ added')).first.wait_for(state='attached', timeout=90_000)


def test_seats(come, server):
    "Everybody has a number and its seeds; who comes late is told so, and gets the place of who leaves."
    pages = [come(server.join) for _ in range(3)]
    numbers = [number(p) for p in pages]
    assert len(set(numbers)) == 3
    assert [seeds(p) for p in pages] == [[n, n] for n in numbers]
    assert [re.findall(r'(?:subset|init|order|source)_seed=(\d+)', p.url) for p in pages] == [[str(n)]*4 for n in numbers]
    late = come(server.join, 'the class is full')
    assert 'all 3 seats are taken' in late.inner_text('body')
    assert not late.get_by_role('slider').count()
    pages[0].reload() # Leaves and comes again, also in a full class
    pages[0].get_by_role('heading', name=re.compile(r'seat \d+')).wait_for()
    assert seeds(pages[0]) == [numbers[0]]*2 # The address keeps what was set
    leave(pages[1])
    until(lambda: sitting(server) == 2, otherwise='the page is closed, but its seat is still taken', every=.1)
    late.reload()
    late.get_by_role('heading', name=re.compile(r'seat \d+')).wait_for()
    assert number(late) > max(numbers) # Nobody else ever had these seeds
    assert seeds(late) == [number(late)]*2


@pytest.mark.parametrize('guess', ['x', '', 'ü', 'x&teacher=y'])
def test_guessing_does_not_open_the_board(come, server, guess):
    page = come(f'{server.join}&teacher={guess}')
    assert number(page) and not page.get_by_text('seats are taken').count() and not page.get_by_role('button', name=re.compile('The class')).count()


def test_the_board_gathers_the_class(come, server):
    import segno
    teacher = come(server.link)
    teacher.get_by_role('button', name=re.compile('Step 8: The class')).click()
    teacher.get_by_role('heading', name='8 · The class').wait_for()
    assert teacher.get_by_text(server.join, exact=True).is_visible() and 'teacher' not in server.join
    drawn = teacher.locator('.ttl-door svg path').last.get_attribute('d')
    assert drawn and drawn in segno.make(server.join, error='m').svg_inline(scale=5, border=2, dark='#000', light='#fff')
    students = [come(server.join) for _ in range(2)]
    teacher.get_by_text('2 of 3 seats are taken; 0 runs were handed in').wait_for()
    for page in students: to_training(page)
    for page in students: train(page)
    for page in students: trained(page)
    teacher.get_by_text('2 of 3 seats are taken; 2 runs were handed in').wait_for()
    board = teacher.locator('.ttl-step-8').get_by_role('region', name='Results board')
    rows = board.locator('tbody tr', has_text='seat').all_inner_texts()
    assert sorted(int(re.search(r'seat (\d+)', r)[1]) for r in rows) == sorted(number(p) for p in students), rows
    assert re.search('2 runs', board.locator('svg').first.text_content() + board.inner_text()), board.inner_text() # One point with its spread
    again = come(server.link) # The teacher's page, loaded once more, finds what was handed in before
    again.get_by_text('2 runs were handed in').wait_for(state='attached')


def test_a_third_run_waits_for_its_turn(come, server):
    pages = [come(server.join) for _ in range(3)] + [come(server.link)]
    for page in pages: to_training(page)
    for page in pages: train(page)
    said = pages[3].get_by_text(re.compile('Waiting for a free place: you are (second|2nd) in the queue'))
    said.first.wait_for(timeout=10_000)
    pages[2].get_by_text(re.compile('Waiting for a free place: you are next')).first.wait_for(timeout=10_000)
    for page in pages: trained(page)
