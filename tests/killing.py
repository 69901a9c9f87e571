"""Commands that can be killed at any moment, without waiting each time for torch to load: a process that has it forks a child for each."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

ZYGOTE = '''
import json, os, signal, sys, time
import ttl_nb.cli, ttl_nb.study.report, ttl_nb.study.study
def kill_at(event, folder):
    "SIGKILL at the n-th time that something is opened for writing, renamed, removed or looked up in SQLite below a folder."
    seen = [0]
    def hook(name, args):
        if name not in ("open", "os.rename", "os.remove", "os.truncate", "sqlite3.connect", "os.mkdir"): return
        if name == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR): return
        if not any(str(a).startswith(folder) for a in args[:2]): return
        seen[0] += 1
        if seen[0] == event: os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    return seen
def begin(order):
    os.setsid(); signal.signal(signal.SIGINT, signal.default_int_handler)
    out = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1); os.dup2(out, 2)
    os.environ.update(order["env"]); sys.argv = ["ttl-nb", *order["words"]]
    seen = kill_at(order["event"], order["folder"])
    if order["clock_back"]:
        true, start = time.time, time.monotonic()
        time.time = lambda: true() - (3600 if time.monotonic() - start > order["clock_back"] else 0)
    try: ttl_nb.cli.app(order["words"]); code = 0
    except SystemExit as e: code = e.code or 0
    except BaseException: import traceback; traceback.print_exc(); code = 1
    open(order["log"] + ".events", "w").write(str(seen[0]))
    sys.stdout.flush(); sys.stderr.flush(); os._exit(code)
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if not pid: begin(json.loads(line))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
'''


class Zygote:
    "Starts commands of `ttl-nb`, one at a time."
    def __init__(self, cache):
        self.env = dict(TTL_NB_CACHE=str(cache), OMP_NUM_THREADS="1", COLUMNS="300")
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", ZYGOTE], env=os.environ | self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def start(self, words, folder, event=0, clock_back=0.): # Words after `ttl-nb`; below `folder` writes are counted
        self.log = Path(folder).parent/f"{Path(folder).name}.log"
        order = dict(words=[str(w) for w in words], folder=str(folder), event=event, clock_back=clock_back, log=str(self.log), env=self.env)
        self.process.stdin.write(json.dumps(order) + "\n"); self.process.stdin.flush()
        self.pid = int(self.process.stdout.readline())
        return self.pid

    def end(self): # Exit code of the command; negative: the signal that ended it
        return int(self.process.stdout.readline())

    def run(self, words, folder, **how): self.start(words, folder, **how); return self.end()

    @property
    def events(self): return int(Path(f"{self.log}.events").read_text()) # Of the last command that came to its end

    def close(self):
        if hasattr(self, "pid"): kill(self.pid) # Where a test was broken off
        self.process.stdin.close(); self.process.stdout.close(); self.process.kill(); self.process.wait()


def runs(pid): # Is this process alive?
    try: return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError: return False


def children(pid): # Processes that it started
    try: return [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t/"children").read_text().split()]
    except OSError: return []


def descendants(pid): return [p for c in children(pid) for p in (c, *descendants(c))]


def gone(pids, seconds=15.):
    "Wait until none of these processes is alive."
    until = time.monotonic() + seconds
    while any(map(runs, pids)) and time.monotonic() < until: time.sleep(.05)
    return not any(map(runs, pids))


def kill(pid):
    try: os.kill(pid, signal.SIGKILL)
    except ProcessLookupError: pass
