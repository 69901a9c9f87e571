"""What `make test` runs, part by part, with the time each took. `run.py FILE` runs one notebook or test file.

Standard library only: it is started by the system's Python, before there is an environment."""
import os, subprocess, sys, tempfile, time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
BIN = (ROOT/os.environ.get('VENV', '.venv')/'bin').absolute()
STRUCTURE = ['tests/test_floors.py', 'tests/test_structure.py']
IN_STEP = 'tests/test_in_step.py'
LONG = [f'tests/test_{o}.py' for o in ('ray', 'kill_and_resume', 'playground', 'demo', 'classroom', 'full_disk', 'benchmarks', 'methods')] # First, so that none is left alone at the end


def pytest(*args, report=None): return [BIN/'python', '-m', 'pytest', '-q', *args, *([f'--junitxml={report}'] if report else [])]

def notebooks(*args): return [BIN/'nbdev-test', '--timing', '--n-workers', '2', *args]

def install(): return ['make', '--no-print-directory', 'install']


def parts(tmp): # Folder for the counts of each pytest part
    "Everything, the cheap and telling first: `[(name, command)]`."
    rest = sorted({f'tests/{f.name}' for f in (ROOT/'tests').glob('test_*.py')} - {*STRUCTURE, IN_STEP, *LONG})
    return [('install', install()),
            ('in step', pytest(IN_STEP, report=tmp/'in_step.xml')),
            ('structure', pytest(*STRUCTURE, report=tmp/'structure.xml')),
            ('notebooks', notebooks()),
            ('pytest', pytest('-n', '2', '--dist', 'loadfile', '--no-loadscope-reorder', '--durations=5', *LONG, *rest, report=tmp/'pytest.xml'))]


def one(name): # `nbs/data/30_domain.ipynb`, `data/30_domain`, `tests/test_x.py`, `test_x` or `tests/test_x.py::test_y`
    "The parts that run one notebook or test file."
    path, _, test = name.partition('::')
    for o in (path, f'nbs/{path}', f'nbs/{path}.ipynb', f'{path}.ipynb', f'tests/{path}', f'tests/{path}.py', f'{path}.py'):
        if not (ROOT/o).is_file(): continue
        cmd = notebooks(o) if o.endswith('.ipynb') else pytest('--durations=5', f'{o}::{test}' if test else o)
        return [('install', install()), (o, cmd)]
    sys.exit(f'ONLY={name}: no such notebook or test file; say for example ONLY=nbs/data/30_domain.ipynb or ONLY=tests/test_floors.py')


def counts(tmp):
    "Tests passed, skipped and total seconds over pytest's reports in `tmp`."
    suites = [s for f in tmp.glob('*.xml') for s in ElementTree.parse(f).iter('testsuite')]
    total, bad, skipped = [sum(int(s.get(k, 0)) for s in suites) for k in ('tests', 'failures', 'skipped')]
    return total-bad-skipped, skipped


def environment(tmp): # Folder of this run
    "One thread a process, no window, a cache of its own, and the environment's commands first."
    return dict(os.environ, OMP_NUM_THREADS='1', MPLBACKEND='agg', TTL_NB_CACHE=str(tmp/'cache'), VENV=os.environ.get('VENV', '.venv'),
                PATH=f'{BIN}{os.pathsep}{os.environ["PATH"]}')


def main(only=''): # One notebook or test file; everything if empty
    "Run the parts until one fails; the exit status is that of the failed part."
    with tempfile.TemporaryDirectory(prefix='ttl_nb_test_') as tmp:
        tmp, took, start = Path(tmp), [], time.monotonic()
        for name, cmd in one(only) if only else parts(tmp):
            print(f'\n=== {name}', flush=True)
            t = time.monotonic()
            rc = subprocess.run([str(o) for o in cmd], cwd=ROOT, env=environment(tmp)).returncode
            took.append((name, time.monotonic()-t))
            if rc: break
        print('\n=== what each part took')
        for n, s in took: print(f'{s:8.1f} s  {n}{"  FAILED" if rc and n == name else ""}')
        total = time.monotonic()-start
        if rc:
            print(f'=== make test FAILED in part "{name}" after {total:.0f} s: the message is above; '
                  'run one file again with make test ONLY=FILE')
            return rc
        if only: print(f'=== {only} passed in {total:.1f} s')
        else:
            n = len([o for o in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts])
            passed, skipped = counts(tmp)
            print(f'=== make test: {n} notebooks fine, tests: {passed} passed, {skipped} skipped in {total:.2f}s')
        return 0


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
