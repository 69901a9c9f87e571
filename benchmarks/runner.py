"""Figures and what they should be: a table for people, JSON for machines.

A benchmark is a list of lines and a call of `main`. A `Line` measures this package and a peer, in turns, so that a machine
that slows down slows both; its figure is the ratio of the two medians. `Figures` measure this package alone, each against
what it may be at most, or only told. Either counts only if what was checked on the way held."""
import argparse, json, os, platform, subprocess, sys, tempfile, time, traceback
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Callable


@dataclass(frozen=True)
class Bound:
    "A figure of its own beside a ratio."
    name: str # As in the JSON file
    value: float # What was found
    unit: str # Of both numbers
    target: float | None = None # At most this (at least, where it is a ratio: ×); `None`: it is only told

    @property
    def reached(self): return self.target is None or (self.value >= self.target if self.unit == "×" else self.value <= self.target)


@dataclass(frozen=True)
class Outcome:
    "What a line found."
    ours: list # Seconds of each turn
    peer: list # Seconds of the peer in the same turns
    equal: bool # Did the equality hold?
    said: str # What was compared, and how far it agreed
    share: float = 1. # What part of the peer's work was timed: its seconds are divided by this
    threads: str = "" # How both sides ran
    bounds: tuple = () # Further figures

    @property
    def ratio(self): return median(self.peer)/self.share/median(self.ours)

    @property
    def spread(self): # (smallest, largest)
        "Ratio of single turns."
        found = [p/self.share/o for o, p in zip(self.ours, self.peer)]
        return min(found), max(found)


@dataclass(frozen=True)
class Line:
    "One line of a benchmark: a ratio."
    name: str # For `--only`
    what: str # What is timed
    against: str # The peer
    target: float # Ratio that it should reach at least
    measure: Callable # `measure(quick)` -> `Outcome`

    def failed(self): return [_row(self.name, None, "×", self.target, False)]

    def rows(self, outcome):
        ratio = _row(self.name, outcome.ratio, "×", self.target, outcome.equal and outcome.ratio >= self.target)
        return [ratio, *[_row(b.name, b.value, b.unit, b.target, b.reached) for b in outcome.bounds]]

    def cells(self, outcome, row): # Single turns, ours, peer, what
        if row["name"] != self.name: return "", "", "", ""
        low, high = outcome.spread
        return (f"{low:.3g} to {high:.3g} (n={len(outcome.ours)})", f"{median(outcome.ours):.3g} s", f"{median(outcome.peer)/outcome.share:.3g} s", self.what)

    def title(self, outcome):
        how = f" ({outcome.threads})" if outcome.threads else ""
        return f"{outcome.ratio:.3g} × against {self.against}{how},"


@dataclass(frozen=True)
class Found:
    "What a line without a peer found."
    values: dict # Name -> a number, or those of single turns: their median counts
    said: str # What was checked, and what else was seen
    equal: bool = True # Did what was checked hold?


@dataclass(frozen=True)
class Figures:
    "One line of a benchmark: figures without a peer."
    name: str # For `--only`
    what: str # What is measured
    targets: dict # Name of each figure, as in the JSON file -> (unit, at most), or (unit, None) for one that is only told
    measure: Callable # `measure(quick)` -> `Found`

    def failed(self): return [_row(name, None, unit, target, False) for name, (unit, target) in self.targets.items()]

    def rows(self, found):
        bounds = [Bound(name, median(_turns(found.values[name])), unit, target) for name, (unit, target) in self.targets.items()]
        return [_row(b.name, b.value, b.unit, b.target, found.equal and b.reached) for b in bounds]

    def cells(self, found, row):
        turns = _turns(found.values[row["name"]])
        spread = f"{short(min(turns))} to {short(max(turns))} (n={len(turns)})" if len(turns) > 1 else ""
        return spread, "", "", self.what if row["name"] == next(iter(self.targets)) else ""

    def title(self, found): return ""


def short(x): return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"

def _turns(value): return list(value) if isinstance(value, (list, tuple)) else [value]

def _row(name, value, unit, target, ok): return dict(name=name, value=None if value is None else round(value, 3), unit=unit, target=target, ok=bool(ok))


def in_turns(
    ours, # Called without arguments
    peer, # Called without arguments
    turns=3, # How often each
    warm_up=False, # Call each once before, untimed?
): # Two lists of seconds, and what the last calls returned
    "Time two functions, one after the other, several times."
    found = {ours: ([], None), peer: ([], None)}
    for turn in range(-warm_up, turns):
        for f in found:
            seconds, result = seconds_of(f)
            found[f] = (found[f][0] + [seconds]*(turn >= 0), result)
    return found[ours][0], found[peer][0], found[ours][1], found[peer][1]


def seconds_of(f): # Called without arguments
    "Wall time of a call, and what it returned."
    start = time.perf_counter()
    result = f()
    return time.perf_counter() - start, result


def mean_interval(
    values, # One a seed
): # (mean, low, high); no limits (NaN) from a single one
    "Mean over seeds with its 95 % interval (Student)."
    from scipy.stats import sem, t
    half = t.ppf(.975, len(values) - 1)*sem(values) if len(values) > 1 else float("nan")
    found = sum(values)/len(values)
    return found, found - half, found + half


def between(mean, low, high, digits=3): return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def best_of(
    tries, # Label -> function without arguments
    turns=2, # How often each
): # The label
    "The quickest of several ways, each at its best."
    return min(tries, key=lambda label: min(seconds_of(tries[label])[0] for _ in range(turns)))


def in_process(
    module, # Name of a benchmark, such as `scaling`
    call, # A call of one of its functions, as text; what it returns must be JSON
): # What it returned
    "Call a function in a process of its own."
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {module}, json; print('\\n' + json.dumps({module}.{call}))"
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if r.returncode: raise RuntimeError(r.stderr)
    return json.loads(r.stdout.strip().splitlines()[-1])


def rows(
    line, # A `Line`, or `Figures`
    outcome, # What it measured; `None` where it could not be
): # Dicts of name, value, unit, target, ok
    "What goes into the JSON file."
    return line.failed() if outcome is None else line.rows(outcome)


def _processor():
    try: return next(l.split(":", 1)[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name"))
    except (OSError, StopIteration): return platform.processor() or platform.machine()


PACKAGES = ("torch", "torchvision", "fastai", "numpy", "scikit-learn", "pillow", "pydicom")

def machine(packages=PACKAGES): # One line of text
    "The machine and the versions that figures hold for."
    def of(name):
        try: return f"{name} {version(name)}"
        except PackageNotFoundError: return f"no {name}"
    return f"{_processor()}, {os.cpu_count()} cores; {platform.system()}, Python {platform.python_version()}, {', '.join(map(of, packages))}"


@contextmanager
def temporary_folder():
    "A folder that is removed afterwards."
    with tempfile.TemporaryDirectory(prefix="ttl_nb_bench_") as folder: yield Path(folder)


def table(
    found, # (line, what it measured or None) for each line
): # A rich table
    "The figures of all lines for people."
    from rich.table import Table
    t, lines = Table(box=None, header_style="bold", pad_edge=False), []
    for line, outcome in found:
        for row in rows(line, outcome):
            sign, unit = ("≥" if row["unit"] == "×" else "≤"), f" {row['unit']}".rstrip()
            value = "failed" if row["value"] is None else short(row["value"]) + unit
            target = "" if row["target"] is None else f"{sign} {row['target']:g}{unit}"
            passed = "" if row["target"] is None and row["ok"] else "[green]✓[/]" if row["ok"] else "[red]✗[/]"
            rest = ("", "", "", line.what) if outcome is None else line.cells(outcome, row)
            lines.append((passed, row["name"], value, target, *rest))
    shown = [i for i in range(8) if i < 4 or any(l[i] for l in lines)] # Ours and peer only where there is one
    for i in shown: t.add_column(("", "figure", "found", "target", "single turns", "ours", "peer", "what")[i], no_wrap=i < 7)
    for l in lines: t.add_row(*[l[i] for i in shown])
    return t


def sentence(
    line, # A `Line`, or `Figures`
    outcome, # What it measured, or None
    seconds, # Time that the line took
): # Text
    "What was done in one line, and what was checked."
    if outcome is None: return f"[bold]{line.name}[/] failed after {seconds:.0f} s: why stands above"
    checked = "[red]NOT EQUAL[/]: " if not outcome.equal else "equal: " if isinstance(line, Line) else ""
    return f"[bold]{line.name}[/] {line.title(outcome)} measured in {seconds:.0f} s\n   {checked}{outcome.said}".replace("]  ", "] ")


def _measured(line, quick):
    try: return line.measure(quick)
    except Exception:
        traceback.print_exc()
        return None


def main(
    lines, # The benchmark
    argv=None, # Command line; that of the process if `None`
    packages=PACKAGES, # Whose versions are told
    options=None, # An `ArgumentParser` without help whose options are taken too
    says=None, # Where the options go: a `Namespace`
    card="", # Name of an accelerator
): # Exit status: 0 if every figure was reached (with --quick: if all checks held)
    "Run a benchmark from the command line."
    from rich.console import Console
    how = dict(formatter_class=argparse.RawDescriptionHelpFormatter, parents=[options] if options else [])
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__, **how)
    parser.add_argument("--json", metavar="FILE", help="also write a list of {name, value, unit, target, ok}, and beside it, ending in .txt, what stands here")
    names = [l.name for l in lines]
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help=f"one line (repeat it for several): {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns: does it run, do its checks hold? Its figures say nothing")
    says = parser.parse_args(argv, says)
    console, found = Console(highlight=False, record=True), []
    console.print(", ".join([f"{date.today()}: {machine(packages)}", *[card]*bool(card)]), soft_wrap=True)
    if not says.quick and (load := os.getloadavg()[0]) > .5:
        console.print(f"[yellow]something else is running here (load {load:.1f}): figures hold for a machine that does nothing else[/]")
    for line in (l for l in lines if not says.only or l.name in says.only):
        seconds, outcome = seconds_of(lambda: _measured(line, says.quick))
        found.append((line, outcome))
        console.print(sentence(line, outcome, seconds), soft_wrap=True)
    console.width = max(console.width, 140)
    console.print(table(found))
    if says.quick: console.print("[yellow]--quick: these figures are of sizes too small to mean anything[/]")
    written = [row for line, outcome in found for row in rows(line, outcome)]
    if says.json:
        Path(says.json).write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        Path(says.json).with_suffix(".txt").write_text(console.export_text(), encoding="utf-8")
    return int(any(o is None or not o.equal for _, o in found) if says.quick else not all(row["ok"] for row in written))
