"""Spoilt files, thousands of them: each gives a result or one sentence, never a crash, a hang, another error, or a gigabyte.

    python benchmarks/fuzz.py [--json FILE] [--quick] [--only dicom] [--keep FOLDER]

Every file is read in a child process, which may be killed by what it reads: that is then counted."""
import json, os, queue, signal, subprocess, sys, tempfile, threading, time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

LONGEST, MOST = 10., 1024. # Seconds of a processor, and MB (resident, of the whole process), that one file may take
PATIENCE = 6 # A reader that says nothing for so many times as long hangs (others may keep the processors busy)


@dataclass
class Tally:
    "What became of the files of one kind."
    results: int = 0
    named: int = 0 # Errors of the package's own: one sentence
    bad: list = field(default_factory=list) # (number, what happened)
    reasons: Counter = field(default_factory=Counter) # Words of the named errors
    slowest: tuple = (0., None) # (seconds, number)
    largest: tuple = (0., None) # (MB, number)

    @property
    def tried(self): return self.results + self.named + len(self.bad)

    def __str__(self):
        text = (f"{self.tried} tried: {self.results} results, {self.named} named errors, {len(self.bad)} bad; "
                f"slowest {self.slowest[0]:.1f} s (#{self.slowest[1]}), most memory {self.largest[0]:.0f} MB (#{self.largest[1]})")
        return "\n".join([text, *[f"  #{n}: {what}" for n, what in self.bad[:20]]])


def peak_mb(reset=False):
    "Most memory since it was last reset, of this process; Linux."
    if reset:
        try: Path("/proc/self/clear_refs").write_text("5")
        except OSError: pass
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])/1024


def child(kind, numbers, folder):
    "Read files one after the other, saying before and after each what happens."
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30,)*2) # The machine shall live
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.insert(0, str(Path(__file__).parent))
    from mutations import KINDS
    from ttl_nb.errors import InputError
    os.environ["TTL_NB_CACHE"] = str(Path(folder)/"cache")
    say = lambda **what: (out.write(json.dumps(what) + "\n"), out.flush())
    out = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
    for n in numbers:
        file = KINDS[kind].make(n, folder)
        say(begins=n); start = time.process_time(); peak_mb(reset=True)
        try: KINDS[kind].read(file); end = dict(result=True)
        except InputError as e: end = dict(named=str(e)) if len(str(e)) < 3000 and "\n" not in str(e) else dict(bad=f"no sentence, but {len(str(e))} characters: {str(e)[:100]!r}")
        except Exception as e:
            import traceback
            at = traceback.extract_tb(e.__traceback__)
            own = next((f for f in reversed(at) if "ttl_nb" in f.filename), at[-1])
            end = dict(bad=f"{type(e).__name__}: {str(e)[:200]} ({Path(own.filename).name}:{own.lineno})")
        say(ended=n, seconds=time.process_time() - start, mb=peak_mb(), **end)
        file.unlink(missing_ok=True)


def lines_of(process, first, longest):
    "Lines that a process writes; `None` when none comes for so long (the first may take its time)."
    lines = queue.Queue()
    def listen():
        for line in process.stdout: lines.put(line)
        lines.put("")
    threading.Thread(target=listen, daemon=True).start()
    while True:
        try: line = lines.get(timeout=first)
        except queue.Empty: yield None; return
        if not line: return
        yield line
        first = longest


def run(kind, numbers, longest=LONGEST, most=MOST, starts=120.):
    "Read all these files, in as many processes as it takes."
    tally, left = Tally(), list(numbers)
    with tempfile.TemporaryDirectory(prefix="ttl_nb_fuzz_") as folder:
        while left: left = _run_some(kind, left, folder, tally, longest, most, starts)
    return tally

def _run_some(kind, left, folder, tally, longest, most, starts):
    command = [sys.executable, "-W", "ignore", __file__, "--child", kind, folder, json.dumps(left)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"), start_new_session=True)
    at, begun = None, None
    try:
        for line in lines_of(process, starts, PATIENCE*longest):
            if line is None: break
            says = json.loads(line)
            if "begins" in says: at = says["begins"]; continue
            left, at = left[left.index(says["ended"]) + 1:], None
            _count(tally, says, longest, most)
    finally:
        try: os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError: pass
        code = process.wait()
    if at is None and left: raise RuntimeError(f"the reader of {kind} did not start (exit {code})")
    if at is None: return []
    hung = code == -signal.SIGKILL
    tally.bad.append((at, f"hung for {longest:.0f} s" if hung else f"crashed: {signal.Signals(-code).name if code < 0 else f'exit {code}'}"))
    return left[left.index(at) + 1:]

def _count(tally, says, longest, most):
    n, seconds, mb = says["ended"], says["seconds"], says["mb"]
    tally.slowest, tally.largest = max(tally.slowest, (seconds, n), key=lambda o: o[0]), max(tally.largest, (mb, n), key=lambda o: o[0])
    if "bad" in says: tally.bad.append((n, says["bad"]))
    elif seconds > longest: tally.bad.append((n, f"took {seconds:.1f} s"))
    elif mb > most: tally.bad.append((n, f"took {mb:.0f} MB"))
    elif "named" in says: tally.named += 1; tally.reasons[_words(says["named"])] += 1
    else: tally.results += 1

def _words(sentence):
    "A sentence without what is particular to one file."
    import re
    return re.sub(r"\d+", "0", re.sub(r"\S*ttl_nb_fuzz\S*", "FILE", sentence[:400]))[:90]


def line(kind, count, what):
    from runner import Figures, Found
    def measure(quick):
        found = run(kind, range(max(20, count//20) if quick else count))
        print(f"{kind}: {found}\n  " + "\n  ".join(f"{n:5d}  {words}" for words, n in found.reasons.most_common(12)), flush=True)
        return Found({f"{kind}_tried": found.tried, f"{kind}_results": found.results, f"{kind}_named": found.named, f"{kind}_bad": len(found.bad),
                      f"{kind}_slowest_s": found.slowest[0], f"{kind}_peak_mb": found.largest[0]}, "each a result or one sentence")
    targets = {f"{kind}_bad": ("", 0), f"{kind}_slowest_s": ("s", LONGEST), f"{kind}_peak_mb": ("MB", MOST), **{f"{kind}_{k}": ("", None) for k in ("tried", "results", "named")}}
    return Figures(kind, what, targets, measure)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]: child(sys.argv[2], json.loads(sys.argv[4]), sys.argv[3]); sys.exit()
    from mutations import KINDS
    from runner import main
    WHAT = dict(dicom="DICOM files", image="pictures", table="csv tables", checkpoint="checkpoints and weights", archive="MedMNIST archives")
    sys.exit(main([line(kind, k.count, f"spoilt {WHAT[kind]}") for kind, k in KINDS.items()], sys.argv[1:]))
