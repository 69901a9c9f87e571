"The runner of benchmarks: its arithmetic, its JSON, its exit status; and that a line of each benchmark runs."
import argparse, json, math, os, re, subprocess, sys

import pytest
from project import ROOT

sys.path.insert(0, str(ROOT/'benchmarks'))
import runner
from runner import Bound, Figures, Found, Line, Outcome

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


def test_figures_that_are_only_told(tmp_path, capsys):
    "Without a target there is nothing to miss, and nothing to reach; a further ratio has to be large, not small."
    told = Figures('told', '', dict(t_auc=('', None), t_s=('s', 5)), lambda quick: Found(dict(t_auc=.7, t_s=[4, 5, 9]), 'x'))
    status, found = run([line('a', 3, bounds=(Bound('a_memory', 7, 'MB'), Bound('a_loop', 1.2, '×', 1), Bound('a_files', .8, '×', 1))), told], tmp_path)
    assert [(o['name'], o['target'], o['ok']) for o in found] == [('a', 3, True), ('a_memory', None, True), ('a_loop', 1, True), ('a_files', 1, False),
                                                                  ('t_auc', None, True), ('t_s', 5, True)]
    assert status == 1 and re.search(r'^ +a_memory +7 MB +', capsys.readouterr().out, re.M)


def test_what_stood_there_is_kept_beside_the_json(tmp_path):
    "Date, machine, card and versions; what was checked; the table."
    runner.main([line('a', 3)], ['--json', str(tmp_path/'found.json')], card='some card')
    first, *rest = (tmp_path/'found.txt').read_text(encoding='utf-8').splitlines()
    assert re.match(r'20\d\d-\d\d-\d\d: ', first) and 'Python 3' in first and first.endswith('some card')
    assert any('equal: x' in l for l in rest) and any('≥ 3 ×' in l for l in rest)


def test_further_options(tmp_path):
    options, says = argparse.ArgumentParser(add_help=False), argparse.Namespace(size=3)
    options.add_argument('--size', type=int, default=3)
    seen = []
    runner.main([Line('a', '', '', 1, lambda quick: seen.append(says.size) or Outcome([1.], [1.], True, ''))], ['--size', '5'], options=options, says=says)
    assert seen == [5]


def test_interval_over_seeds():
    mean, low, high = runner.mean_interval([.7, .8, .9])
    assert mean == pytest.approx(.8) and high - mean == pytest.approx(mean - low) == pytest.approx(4.3027*.1/3**.5, rel=1e-4)
    assert math.isnan(runner.mean_interval([.7])[1])


def test_one_table_of_all(tmp_path, capsys):
    import table
    run([line('probe', 3), line('import', 5, bounds=(Bound('import_seconds', .7, 's', .5), Bound('import_mb', 3, 'MB')))], tmp_path)
    for end in ('json', 'txt'): (tmp_path/f'found.{end}').rename(tmp_path/f'speed.{end}')
    (tmp_path/'gpu.json').write_text(json.dumps([dict(name='x', value=None, unit='×', target=3, ok=False)]))
    found = table.markdown(table.read(tmp_path), lambda name: dict(probe='probing') if name == 'speed' else {}).splitlines()
    assert found[2:6] == ['| speed | probe | probing | 4 × | ≥ 3 × | yes |', '|  | import |  | 4 × | ≥ 5 × | no |',
                          '|  | import_seconds |  | 0.7 s | ≤ 0.5 s | no |', '|  | import_mb |  | 3 MB |  |  |']
    assert found[6] == '| gpu | x |  | failed | ≥ 3 × | no |' and found[-2].startswith('- speed: 20') and found[-1] == '- gpu: machine not told'
    (tmp_path/'scaling.png').write_bytes(b'x')
    assert table.page(tmp_path).startswith('# Beside others') and '](scaling.png)' in table.page(tmp_path) and '](quality.png)' not in table.page(tmp_path)
    assert '## What was checked: speed' in table.page(tmp_path) and 'measured in' in table.page(tmp_path)
    assert table.meanings('speed')['probe'] == 'linear probing, 400 images, 20 epochs, from files to test AUC'
    assert {'decode_exponent', 'resnet50_full', 'time_50'} <= {k for name in ('scaling', 'gpu', 'quality') for k in table.meanings(name)}


def test_what_was_checked_ends_where_the_table_begins(tmp_path):
    "Figures without a bound have no sign before them either."
    import table
    (tmp_path/'x.txt').write_text('machine\nx measured in 3 s\n   equal: yes\n   figure  found\n   free    3\n✓  x  1  ≥ 1\n', encoding='utf-8')
    assert table.checked(tmp_path/'x.txt') == '- x measured in 3 s\n  equal: yes'


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


def quick(script, tmp_path, *args):
    "A benchmark at its smallest, as users start it: what stands in its JSON file."
    command = [sys.executable, ROOT/f'benchmarks/{script}.py', '--quick', '--json', tmp_path/'found.json', *args]
    r = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert r.returncode == 0, r.stdout+r.stderr
    return {o['name']: o for o in json.loads((tmp_path/'found.json').read_text(encoding='utf-8'))}


@pytest.mark.parametrize('power', [.5, 1, 2])
def test_exponent_of_growth(power):
    import scaling
    sizes = [50, 200, 1000, 2000, 5000, 10_000, 20_000]
    assert scaling.last_decade(sizes) == 3 and scaling.last_decade([1, 3, 10, 20, 30]) == 1 and scaling.last_decade([1, 100, 1000]) == 0 == scaling.last_decade([4, 8])
    assert scaling.exponent(sizes, [3*n**power for n in sizes]) == pytest.approx((power, power, power))
    slope, low, high = scaling.exponent(sizes[3:], [1.1*n**power if i % 2 else n**power for i, n in enumerate(sizes[3:])])
    assert low < power < high and low < slope < high
    found, said = scaling.growth('p', 'x', 'y', 's', sizes, dict(a=[3000 + n**power/1000 for n in sizes]))
    assert scaling.SERIES.pop('p')[2]['a'][0] == sizes and 'a ' in said
    assert (found['a_exponent'] > scaling.MOST) == (power == 2), 'what is done once does not hide how it grows'


def test_a_process_of_its_own():
    assert runner.in_process('runner', 'short(3.14159)') == '3.14' and runner.in_process('runner', 'os.getpid()') != os.getpid()
    with pytest.raises(RuntimeError, match='ZeroDivisionError'): runner.in_process('runner', 'short(1/0)')
    import scaling
    assert scaling.apart(scaling.exponent, False)((1, 10, 100), (2, 20, 200))[0] == pytest.approx(1)


def test_scaling_runs(tmp_path):
    found = quick('scaling', tmp_path, '--picture', tmp_path/'scaling.png')
    names = ('decode', 'probe', 'epoch', 'predict', 'images_mb', 'store', 'gates', 'tables', 'report', 'explorer', 'runs_mb', 'seats', 'seats_mb')
    assert set(found) == {f'{o}_exponent' for o in names} | {'run_overhead_ms'}
    assert all(math.isfinite(o['value']) for o in found.values()) and (tmp_path/'scaling.png').stat().st_size > 10_000


def test_a_difference_within_noise():
    from gpu import within
    assert within((.02, -.01, .05)) and within((.004, .003, .005)) and not within((.02, .01, .03)) and not within((-.02, -.03, -.01))


def test_gpu_runs_where_there_is_none(tmp_path):
    found = quick('gpu', tmp_path, '--device', 'cpu', '--only', 'densenet121_full')
    rest = {f'densenet121_full_{k}' for k in ('images_s', 'over_memory', 'over_loop', 'share_pct', 'peak_mb')}
    assert found.pop('densenet121_full')['target'] == 3 and set(found) == rest and all(o['value'] > 0 and o['target'] is None for o in found.values())


def test_better_or_as_good():
    from quality import not_worse
    assert not_worse([.8, .9], [.8, .9])[0] and not_worse([.81, .92, .93], [.8, .9, .91])[0] and not not_worse([.7, .71, .7], [.8, .8, .8])[0]


def test_quality_runs(tmp_path):
    found = quick('quality', tmp_path, '--only', 'time_50', '--picture', tmp_path/'quality.png')
    assert list(found) == ['time_50', 'auc_ours_50', 'auc_fastai_50', 'auc_loop_50', 'time_50_over_loop']
    assert all(0 <= found[f'auc_{o}_50']['value'] <= 1 for o in ('ours', 'fastai', 'loop')) and (tmp_path/'quality.png').stat().st_size > 5_000


@pytest.mark.slow
def test_classroom_runs(tmp_path):
    "Three seats are opened at once, train, and click at random: nobody is killed, every run ends, nothing is left over."
    found = quick('classroom', tmp_path)
    assert found['seats_ready']['value'] == 3 and found['killed']['value'] == found['unfinished']['value'] == 0
    assert {n: found[n]['value'] for n in ('kernels_more', 'threads_more', 'files_more')} == dict(kernels_more=0, threads_more=0, files_more=0)
    assert found['total_mb']['value'] < 4000 and found['mb_more']['value'] < 300


@pytest.mark.slow
def test_playground(tmp_path):
    "`make benchui` at its smallest: every figure is found, and what is checked beside it holds."
    pytest.importorskip('playwright.sync_api')
    r = subprocess.run([sys.executable, ROOT/'benchmarks/ui.py', '--quick', '--json', tmp_path/'ui.json'], capture_output=True, text=True)
    found = json.loads((tmp_path/'ui.json').read_text(encoding='utf-8'))
    assert {o['name'] for o in found} == {'page_ready_s', 'seat_mb', 'first_point_s', 'update_kb', 'trainer_mb', 'stop_ms_median', 'stop_ms_worst', 'update_ms',
                                          'blank_frames', 'live_overhead_pct', 'kernels_after_reloads'}
    assert all(o['value'] is not None for o in found), r.stdout + r.stderr
