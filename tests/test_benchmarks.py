"The runner of benchmarks: its arithmetic, its JSON, its exit status; and that one of its lines runs."
import json, subprocess, sys

import pytest
from project import ROOT

sys.path.insert(0, str(ROOT/'benchmarks'))
import runner
from runner import Bound, Line, Outcome

KEYS = ['name', 'value', 'unit', 'target', 'ok']


def line(name, target, **says): # `says`: what its Outcome holds
    "A line that has been measured before."
    return Line(name, 'ours', 'theirs', target, lambda quick: Outcome(**({'ours': [1.], 'peer': [4.], 'equal': True, 'said': 'x'} | says)))


def run(lines, tmp_path, *args):
    "Exit status and what stands in the JSON file."
    status = runner.main(lines, ['--json', str(tmp_path/'found.json'), *args])
    return status, json.loads((tmp_path/'found.json').read_text(encoding='utf-8'))


def test_ratio_is_that_of_the_medians():
    o = Outcome(ours=[1., 2., 30.], peer=[8., 20., 6.], equal=True, said='')
    assert o.ratio == 8/2 and o.spread == (6/30, 20/2)
    assert Outcome([2.], [3.], True, '', share=.05).ratio == pytest.approx(30), 'a twentieth of the work was timed'


def test_turns_alternate_and_the_warm_up_is_not_timed():
    order, clock = [], iter(range(100))
    ours, theirs = (lambda: order.append('o') or next(clock)), (lambda: order.append('t') or next(clock))
    mine, other, last, other_last = runner.in_turns(ours, theirs, turns=2, warm_up=True)
    assert ''.join(order) == 'ototot' and len(mine) == len(other) == 2 and (last, other_last) == (4, 5)
    assert all(0 <= s < 1 for s in mine+other)


def test_json_has_one_form(tmp_path, capsys):
    lines = [line('a', 3), line('b', 5), line('c', 3, equal=False), line('d', 2, bounds=(Bound('d_seconds', .7, 's', .5), Bound('d_mb', 3, 'MB', 3)))]
    status, found = run(lines, tmp_path)
    assert [list(o) for o in found] == [KEYS]*6
    assert [(o['name'], o['value'], o['target'], o['ok']) for o in found] == [
        ('a', 4, 3, True), ('b', 4, 5, False), ('c', 4, 3, False), ('d', 4, 2, True), ('d_seconds', .7, .5, False), ('d_mb', 3, 3, True)]
    assert [o['unit'] for o in found] == ['×']*4+['s', 'MB']
    said = capsys.readouterr().out
    assert status == 1 and 'NOT EQUAL' in said and 'd_seconds' in said and 'Python 3' in said


def test_exit_status(tmp_path):
    "Figures count in a full run, equalities always."
    slow, unequal = line('a', 5), line('a', 3, equal=False)
    assert [run([o], tmp_path, *q)[0] for o in (slow, unequal, line('a', 3)) for q in ((), ('--quick',))] == [1, 0, 1, 1, 0, 0]


def test_a_line_that_fails_takes_no_other_with_it(tmp_path, capsys):
    status, found = run([Line('broken', '', '', 2, lambda quick: 1/0), line('fine', 2)], tmp_path)
    assert status == 1 and found == [dict(name='broken', value=None, unit='×', target=2, ok=False), dict(name='fine', value=4, unit='×', target=2, ok=True)]
    assert 'ZeroDivisionError' in capsys.readouterr().err


def test_only(tmp_path, capsys):
    assert [o['name'] for o in run([line('a', 1), line('b', 1), line('c', 1)], tmp_path, '--only', 'c', '--only', 'a')[1]] == ['a', 'c']
    with pytest.raises(SystemExit): run([line('a', 1)], tmp_path, '--only', 'd')
    assert "invalid choice: 'd'" in capsys.readouterr().err


def test_speed_runs(tmp_path):
    "One of its lines from the command line, as users start it."
    r = subprocess.run([sys.executable, ROOT/'benchmarks/speed.py', '--only', 'import', '--quick', '--json', tmp_path/'speed.json'], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout+r.stderr
    ratio, seconds = json.loads((tmp_path/'speed.json').read_text(encoding='utf-8'))
    assert (ratio['name'], ratio['unit'], ratio['target']) == ('import', '×', 5) and ratio['value'] > 1
    assert (seconds['name'], seconds['unit'], seconds['target']) == ('import_seconds', 's', .5) and 0 < seconds['value'] < ratio['value']*60


def test_speed_has_every_line():
    import speed
    assert {o.name: o.target for o in speed.LINES} == dict(probe=20, gradual=2, full=1.3, lr_finder=5, probes_240=200, dicom_epoch=20, dicom_decode=1.5,
                                                           processes=1.3, **{'import': 5})
    assert 'torch' not in vars(speed) and 'fastai' not in vars(speed), 'each line imports what it needs: `--only import` stays quick'


def test_files_without_real_images(tmp_path, monkeypatch):
    "Without the radiographs pictures are drawn, as many of each class and split as asked for; with them, no more are read."
    import speed
    monkeypatch.setattr(speed, 'real_folder', lambda: None)
    domain = speed.images(tmp_path, 8, 4).domain()
    assert domain.counts()['images'].tolist() == [4, 2, 4, 2] and len(list(tmp_path.glob('*.jpg'))) == 12


def test_similarity_runs(tmp_path):
    "All of its lines at their smallest: both sides run, and their results are equal."
    r = subprocess.run([sys.executable, ROOT/'benchmarks/similarity.py', '--quick', '--json', tmp_path/'similarity.json'], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout+r.stderr
    found = json.loads((tmp_path/'similarity.json').read_text(encoding='utf-8'))
    assert {o['name']: (o['unit'], o['target']) for o in found} == dict(cka_resnet18=('×', 3), cka_resnet50=('×', 6), cka_peak_mb=('MB', 1500), stream_mb_growth=('MB', 20))
    assert all(o['value'] > 0 for o in found[:3]) and found[3]['value'] < 100


@pytest.mark.slow
def test_playground(tmp_path):
    "`make benchui` at its smallest: every figure is found, and what is checked beside it holds."
    pytest.importorskip('playwright.sync_api')
    r = subprocess.run([sys.executable, ROOT/'benchmarks/ui.py', '--quick', '--json', tmp_path/'ui.json'], capture_output=True, text=True)
    found = json.loads((tmp_path/'ui.json').read_text(encoding='utf-8'))
    assert {o['name'] for o in found} == {'page_ready_s', 'seat_mb', 'first_point_s', 'update_kb', 'trainer_mb', 'stop_ms_median', 'stop_ms_worst', 'update_ms',
                                          'blank_frames', 'live_overhead_pct', 'kernels_after_reloads'}
    assert all(o['value'] is not None for o in found), r.stdout + r.stderr
