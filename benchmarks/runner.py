"""Two sides of a comparison, timed in turns in one run: a table for people, JSON for machines.

A benchmark is a list of `Line`s and a call of `main`. Each line measures this package and a peer, in turns, so that a
machine that slows down slows both; its figure is the ratio of the two medians, and it counts only if its equality held."""
import argparse, json, os, platform, sys, tempfile, time, traceback
from contextlib import contextmanager
from dataclasses import dataclass
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
    target: float # At most this


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
    "One line of a benchmark."
    name: str # For `--only`
    what: str # What is timed
    against: str # The peer
    target: float # Ratio that it should reach at least
    measure: Callable # `measure(quick)` -> `Outcome`


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


def best_of(
    tries, # Label -> function without arguments
    turns=2, # How often each
): # The label
    "The quickest of several ways, each at its best."
    return min(tries, key=lambda label: min(seconds_of(tries[label])[0] for _ in range(turns)))


def rows(
    line, # A `Line`
    outcome, # Its `Outcome`; `None` where it could not be measured
): # Dicts of name, value, unit, target, ok
    "What goes into the JSON file."
    if outcome is None: return [dict(name=line.name, value=None, unit="×", target=line.target, ok=False)]
    ratio = dict(name=line.name, value=round(outcome.ratio, 3), unit="×", target=line.target, ok=bool(outcome.equal and outcome.ratio >= line.target))
    beside = [dict(name=b.name, value=round(b.value, 3), unit=b.unit, target=b.target, ok=bool(b.value <= b.target)) for b in outcome.bounds]
    return [ratio, *beside]


def _processor():
    try: return next(l.split(":", 1)[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name"))
    except (OSError, StopIteration): return platform.processor() or platform.machine()


def machine(): # One line of text
    "The machine and the versions that figures hold for."
    def of(name):
        try: return f"{name} {version(name)}"
        except PackageNotFoundError: return f"no {name}"
    packages = ", ".join(map(of, ("torch", "torchvision", "fastai", "numpy", "scikit-learn", "pillow", "pydicom")))
    return f"{_processor()}, {os.cpu_count()} cores; {platform.system()}, Python {platform.python_version()}, {packages}"


@contextmanager
def temporary_folder():
    "A folder that is removed afterwards."
    with tempfile.TemporaryDirectory(prefix="ttl_nb_bench_") as folder: yield Path(folder)


def table(
    found, # (Line, Outcome or None) for each line
): # A rich table
    "The figures of all lines for people."
    from rich.table import Table
    t = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "line", "ratio", "at least", "single turns", "ours", "peer", "what"): t.add_column(column, no_wrap=column != "what")
    for line, outcome in found:
        for row in rows(line, outcome):
            mark = "[green]✓[/]" if row["ok"] else "[red]✗[/]"
            if outcome is None: t.add_row(mark, line.name, "failed", f"{line.target:g} ×", *[""]*3, line.what)
            elif row["name"] != line.name: t.add_row(mark, row["name"], f"{row['value']:.2f} {row['unit']}", f"≤ {row['target']:g} {row['unit']}")
            else:
                low, high = outcome.spread
                t.add_row(mark, line.name, f"{outcome.ratio:.3g} ×", f"{line.target:g} ×", f"{low:.3g} to {high:.3g} (n={len(outcome.ours)})",
                          f"{median(outcome.ours):.3g} s", f"{median(outcome.peer)/outcome.share:.3g} s", line.what)
    return t


def sentence(
    line, # A `Line`
    outcome, # Its `Outcome`, or None
    seconds, # Time that the line took
): # Text
    "What was done in one line, and what was equal."
    if outcome is None: return f"[bold]{line.name}[/] failed after {seconds:.0f} s: why stands above"
    how = f" ({outcome.threads})" if outcome.threads else ""
    return (f"[bold]{line.name}[/] {outcome.ratio:.3g} × against {line.against}{how}, measured in {seconds:.0f} s\n"
            f"   {'equal' if outcome.equal else '[red]NOT EQUAL[/]'}: {outcome.said}")


def _measured(line, quick):
    try: return line.measure(quick)
    except Exception:
        traceback.print_exc()
        return None


def main(
    lines, # The benchmark
    argv=None, # Command line; that of the process if `None`
): # Exit status: 0 if every figure was reached (with --quick: if every equality held)
    "Run a benchmark from the command line."
    from rich.console import Console
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write a list of {name, value, unit, target, ok}")
    names = [l.name for l in lines]
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help=f"one line (repeat it for several): {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns: does it run, are results equal? Its ratios say nothing")
    says = parser.parse_args(argv)
    console, found = Console(highlight=False), []
    console.print(machine(), soft_wrap=True)
    if not says.quick and (load := os.getloadavg()[0]) > .5:
        console.print(f"[yellow]something else is running here (load {load:.1f}): figures hold for a machine that does nothing else[/]")
    for line in (l for l in lines if not says.only or l.name in says.only):
        seconds, outcome = seconds_of(lambda: _measured(line, says.quick))
        found.append((line, outcome))
        console.print(sentence(line, outcome, seconds), soft_wrap=True)
    console.width = max(console.width, 140)
    console.print(table(found))
    if says.quick: console.print("[yellow]--quick: these ratios are of sizes too small to mean anything[/]")
    written = [row for line, outcome in found for row in rows(line, outcome)]
    if says.json: Path(says.json).write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(o is None or not o.equal for _, o in found) if says.quick else not all(row["ok"] for row in written))
