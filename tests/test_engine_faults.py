"A piece of work that fails ends the others quietly."
import subprocess, sys

CODE = '''
import sys
from operator import truediv
from ttl_nb.study.engine import run_processes
if __name__ == "__main__":
    for turn in range(3):
        try: print(len(list(run_processes(float, truediv, [1, 2, 0, *range(1, 300)], workers=2))))
        except ZeroDivisionError: print("one failed")
'''


def test_one_that_fails_ends_the_others_without_a_traceback(tmp_path):
    "The pool's own thread tripped over work that still waited when the pool was shut down."
    (tmp_path/'work.py').write_text(CODE)
    r = subprocess.run([sys.executable, 'work.py'], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert r.stdout.split('\n')[:3] == ['one failed']*3, r.stderr
    assert 'Traceback' not in r.stderr, r.stderr


INTERRUPTED = '''
import os, signal, time
from ttl_nb.study.engine import run_processes
def interrupted(prepared, piece):
    os.kill(os.getpid(), signal.SIGINT); time.sleep(.2)
    return "went on"
if __name__ == "__main__": print(*run_processes(dict, interrupted, range(3), workers=2), sep="\\n")
'''


def test_ctrl_c_is_the_drivers(tmp_path):
    "A terminal sends it to all of its processes: a worker that took it amid the pool's own code left a traceback behind."
    (tmp_path/'work.py').write_text(INTERRUPTED)
    r = subprocess.run([sys.executable, 'work.py'], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert r.stdout.split('\n')[:3] == ['went on']*3 and 'Traceback' not in r.stderr, r.stdout + r.stderr


MEETING = '''
import os, time
from pathlib import Path
from ttl_nb.study.engine import run_processes
def meet(folder):
    (folder/str(os.getpid())).touch()
    end = time.monotonic() + 20
    while (met := len(list(folder.iterdir()))) < 2 and time.monotonic() < end: time.sleep(.05)
    return met
class Company:
    "What it takes long to read, such as a class that is to be imported; here it takes another worker."
    def __reduce__(self): return meet, (Path("workers"),)
class Job:
    "What workers prepare themselves with: first what takes long to read, then as many bytes as weights have."
    def __init__(self, company, weights): self.company, self.weights = company, weights
    def __call__(self): return self.company
if __name__ == "__main__":
    Path("workers").mkdir()
    print(*run_processes(Job(Company(), bytes(10**7)), lambda met, piece: met, range(2), workers=2))
'''


def test_workers_start_side_by_side(tmp_path):
    "Each was sent all its weights, through a pipe that it read on after its imports alone: the next one was started after that."
    (tmp_path/'work.py').write_text(MEETING)
    r = subprocess.run([sys.executable, 'work.py'], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert r.stdout.split() == ['2', '2'], r.stdout + r.stderr
