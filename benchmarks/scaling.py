"""How do time and memory grow with images, runs and seats? `python benchmarks/scaling.py [--json FILE] [--only NAME] [--quick] [--picture FILE]`

Each size runs in a process of its own. The figure is the exponent of growth, 1 where twice as much takes twice as long: the slope
of log time over log size by least squares, over the last decade of sizes, where what is done only once hides nothing. Images
are drawn, runs are kept, tabled and reported as a study does it but are not trained: their scores are drawn. Reads /proc: Linux."""
import argparse, json, math, subprocess, sys
from functools import cache
from pathlib import Path
from statistics import median
from unittest.mock import patch

from runner import Figures, Found, in_process, main, seconds_of, short, temporary_folder
from similarity import resident
from speed import SIDE, Images, draw_files, fresh_cache, images, recipe, source

MOST = 1.1 # Exponent
SERIES = {} # Panel -> (x label, y label, {name: (sizes, values)}): what was measured
OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--picture", metavar="FILE", help="draw what was measured, a panel each")
SAYS = argparse.Namespace()


# Growth

def last_decade(sizes): # Ascending
    "Where the largest sizes begin: what is at most ten times smaller than the largest, three at least."
    return min(next(i for i, n in enumerate(sizes) if n >= sizes[-1]/10), max(0, len(sizes) - 3))


def exponent(sizes, values): # Both above 0
    "(slope, low, high) of log value over log size with its 95 % interval; no limits (NaN) from two points."
    import numpy as np
    from scipy.stats import linregress, t
    found = linregress(np.log(sizes), np.log(values))
    half = t.ppf(.975, len(sizes) - 2)*found.stderr if len(sizes) > 2 else math.nan
    return float(found.slope), float(found.slope - half), float(found.slope + half)


def growth(panel, x, y, unit, sizes, found): # `found`: name -> a value for each size
    "Keep what was measured for the picture; the exponent of each name, and what to say."
    values, said = {}, []
    SERIES[panel] = x, y, {name: (sizes, v) for name, v in found.items()}
    for name, v in found.items():
        at = last_decade(sizes)
        slope, low, high = exponent(sizes[at:], v[at:])
        values[f"{name}_exponent"] = slope
        said.append(f"{name} {slope:.2f} [{low:.2f}, {high:.2f}], {short(v[0])} {unit} at {sizes[0]:,}, {short(v[-1])} {unit} at {sizes[-1]:,}")
    return values, "; ".join(said)


def apart(f, quick): # A function of this file
    "It in a process of its own; where everything is only tried, in this one."
    return f if quick else lambda *args: in_process("scaling", f"{f.__name__}{args!r}")


def by_size(call, sizes, names): # `call`: size -> {name: value}
    "Name -> values, a size after the other."
    found = [call(n) for n in sizes]
    return {name: [f[name] for f in found] for name in names}


# Images

TESTS = 100 # Test images, at every size

def many_files(folder, n, drawn=500): # Where to, how many, and how many of them are drawn
    "Write image files: from `drawn` on copies with a few bytes behind the picture, which are other files and the same work."
    import pandas as pd
    table = draw_files(folder, min(n, drawn))
    for i in range(len(table), n): (folder/f"{i}.jpg").write_bytes((folder/f"{i % drawn}.jpg").read_bytes() + i.to_bytes(4, "big"))
    pd.DataFrame([(f"{i}.jpg", "AB"[i % 2], i) for i in range(n)], columns=table.columns).to_csv(folder/"table.csv", index=False)


def with_images(folder, n): # In a process of its own
    "Seconds of each step with `n` training images, and the megabytes that all of them added at the most."
    import pandas as pd
    from ttl_nb.data.pixels import load_pixels
    from ttl_nb.train.fit import fit
    from ttl_nb.train.learner import one_thread
    from ttl_nb.train.predict import predict
    folder, sources, found = Path(folder), {"source": source(0, "resnet10")}, {}
    def decode():
        domain = Images(own/"table.csv", folder).domain()
        return domain.hash, domain, load_pixels(domain, SIDE)
    def train(freezing, **more): return fit(recipe(freezing, n, 1, backbone="resnet10", **more), domain, sources, pixels)
    with fresh_cache() as own, one_thread():
        table = pd.read_csv(folder/"table.csv")[:n + TESTS]
        table.assign(split=["train"]*n + ["test"]*TESTS).to_csv(own/"table.csv", index=False)
        before, _ = resident()
        found["decode"], (_, domain, pixels) = seconds_of(decode)
        found["probe"], _ = seconds_of(lambda: train("head", head_solver="lbfgs").auc)
        found["epoch"], run = seconds_of(lambda: train("full"))
        found["predict"], _ = seconds_of(lambda: predict(run.after, pixels))
        return found | dict(images_mb=max(1., resident()[1] - before))


def of_images(quick):
    sizes = [32, 96] if quick else [50, 200, 1000, 2000, 5000, 20_000]
    with temporary_folder() as folder:
        many_files(folder, sizes[-1] + TESTS)
        found = by_size(lambda n: apart(with_images, quick)(str(folder), n), sizes, ("decode", "probe", "epoch", "predict", "images_mb"))
    memory = dict(images_mb=found.pop("images_mb"))
    times, said = growth("images: time", "training images", "seconds", "s", sizes, found)
    more, also = growth("images: memory", "training images", "MB added at the most", "MB", sizes, memory)
    return Found(times | more, f"resnet10 at {SIDE} pixels, one epoch, no augmentation; {said}; {also}")


# Runs

SHAPES = { # Runs -> sources, plans, sizes, seeds: as studies grow
    10: (2, 1, 1, 5), 30: (2, 1, 3, 5), 100: (2, 1, 5, 10), 300: (3, 2, 5, 10), 1000: (5, 4, 5, 10)}
TINY = {4: (2, 1, 1, 2), 16: (2, 2, 2, 2)}
PLANS, SIZES = ("full", "gradual", "lp_ft", "stage4"), (16, 24, 32, 48, 64)

@cache
def happened():
    "What 200 steps leave in a recording."
    from ttl_nb.models.stages import STAGES
    from ttl_nb.train.recording import Recording
    found = Recording({})
    found.add("phase", 0, learning=list(STAGES))
    for i in range(200): found.add("batch", i, loss=.7/(1 + i/50), lr=[1e-4, 3e-4, 1e-3], mom=.9)
    for i in range(10, 201, 10):
        for s in STAGES: found.add("stage", i, stage=s, grad=.1, moved=.01, statistics=.01, affine=.01)
    return found


def drawn_run(recipe, target, sources, pixels, device): # As `fit` is called
    "A run as `fit` returns one, whose scores are drawn."
    import numpy as np
    from ttl_nb.data.subset import draw_subset
    from ttl_nb.train.fit import Run
    split, g = target.splits(recipe.subset_seed)[0], np.random.default_rng(int(recipe.id, 16))
    p = 1/(1 + np.exp(-1.2*target.labels[split.test] - g.normal(size=len(split.test))))
    rows = draw_subset(target, recipe.n_train, recipe.subset_seed, recipe.balance, split.train)
    facts = dict(trained=recipe.id, evaluated=recipe.id, source=recipe.checkpoint_hash)
    return Run(recipe, target, split.test, np.stack([1 - p, p], 1).astype(np.float32), np.zeros(len(p), int), rows, happened(), lambda: None, 1., facts)


def with_runs(table, folder, shape): # In a process of its own
    "Seconds that a study takes for anything but its trainings, and the megabytes that it added at the most."
    import time
    from ttl_nb.study.study import Study
    sources, plans, sizes, seeds = shape
    def tables():
        results = study.results()
        return results.summary(), results.contrasts, results.leaders
    with fresh_cache() as own:
        study = Study(Images(Path(table), Path(folder)).domain(), {f"source{i}": source(i, "resnet10") for i in range(sources)}, SIZES[:sizes], PLANS[:plans],
                      seeds, folder=own/"study", image_size=SIDE)
        marks, (before, _) = [], resident()
        with patch("ttl_nb.study.study.fit", drawn_run), patch("ttl_nb.study.study.check_run", lambda run: run):
            whole, _ = seconds_of(lambda: study.run(engine="inline", progress=lambda *_: marks.append(time.perf_counter())))
        found = dict(store=marks[-1] - marks[0], gates=whole - (marks[-1] - marks[0]))
        found["tables"] = median(seconds_of(tables)[0] for _ in range(3)) # The others take long enough to be timed once
        for name, f in dict(report=study.report, explorer=study.export_html).items(): found[name], _ = seconds_of(f)
        return found | dict(runs_mb=max(1., resident()[1] - before))


def of_runs(quick):
    shapes = TINY if quick else SHAPES
    with temporary_folder() as folder:
        files = images(folder, 2*SIZES[-1], 40 if quick else 400)
        found = by_size(lambda n: apart(with_runs, quick)(str(files.table), str(files.folder), shapes[n]), [*shapes], ("store", "gates", "tables", "report", "explorer", "runs_mb"))
    memory, most = dict(runs_mb=found.pop("runs_mb")), max(shapes)
    times, said = growth("runs of a study: time", "runs", "seconds", "s", [*shapes], found)
    more, also = growth("runs of a study: memory", "runs", "MB added at the most", "MB", [*shapes], memory)
    each = 1000*sum(v[-1] for v in found.values())/most
    parts = " × ".join(f"{n} {what}" for n, what in zip(shapes[most], ("sources", "plans", "sizes", "seeds")))
    return Found(times | more | dict(run_overhead_ms=each), f"{most:,} runs are {parts}; gates and baselines count as gates; {said}; {also}")


# Seats

REQUEST = dict(kind="fit", recipe=dict(target="phantom-pneumonia", n_train=12, image_size=32, min_steps=8, epochs=1, augment="none", freezing="stage4", batch_size=6))
SEAT = """
import json, sys
from ttl_nb.ui.job import Job
from ttl_nb.ui.trainer import WorkerPlace, connect
job = Job(WorkerPlace(connect(sys.argv[1])))
for line in ("ready", "done"):
    if line == "done": job.start(json.loads(sys.argv[2])); assert job.wait(600) == "done", job.error
    print(line, flush=True); sys.stdin.readline()
"""

def with_seats(trainer, n): # `trainer`: a `Launched`
    "Seconds until `n` seats that ask at the same moment have trained once each, and megabytes (PSS) of all of them and of the trainer."
    import psutil
    from contextlib import ExitStack
    def seat(): return subprocess.Popen([sys.executable, "-c", SEAT, trainer.address, json.dumps(REQUEST)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with ExitStack() as stack:
        seats = [stack.enter_context(seat()) for _ in range(n)]
        def hear(word):
            if (said := {s.stdout.readline().strip() for s in seats}) != {word}: raise RuntimeError(f"a seat said {said} instead of {word}")
        def train():
            for s in seats: s.stdin.write("\n"); s.stdin.flush()
            hear("done")
        hear("ready")
        seconds, _ = seconds_of(train)
        memory = sum(psutil.Process(p).memory_full_info().pss for p in (trainer.pid, *[s.pid for s in seats]))
        return dict(seats=seconds, seats_mb=memory/1e6)


def of_seats(quick):
    from ttl_nb.data.phantom import phantom
    from ttl_nb.ui.offer import Offer
    from ttl_nb.ui.trainer import Launched
    sizes = [1, 2] if quick else [1, 3, 10, 20, 30]
    with fresh_cache():
        target, side = REQUEST["recipe"]["target"], REQUEST["recipe"]["image_size"]
        offer = Offer({target: phantom(target, 60, size=side)}, {}, side)
        offer.pixels(target)
        with Launched(offer.to_dict()) as trainer:
            with_seats(trainer, 1)
            found = by_size(lambda n: with_seats(trainer, n), sizes, ("seats", "seats_mb"))
    times, said = growth("seats: time", "seats", "seconds until all have trained", "s", sizes, dict(seats=found["seats"]))
    more, also = growth("seats: memory", "seats", "MB of all seats and the trainer", "MB", sizes, dict(seats_mb=found["seats_mb"]))
    return Found(times | more, f"each seat a process with a connection of its own, two trainings of 12 images at a time; {said}; {also}")


# Picture

def powers(low, high): # log10 of the ends of an axis
    "Ticks at 1 and 3 times each power of ten on an axis of logarithms: places, and what stands there."
    found = [(e + math.log10(m), f"{float(f'{m}e{e}'):,.6g}") for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 3)]
    return zip(*[(at, said) for at, said in found if low <= at <= high])


def draw_panel(ax, title, x, y, lines): # As in `SERIES`
    "Value over size, both in logarithms; each line's fitted part, and its exponent beside its name."
    import numpy as np
    from ttl_nb.analysis.drawing import dress, label_ends, line_styles
    ends, styles = [], line_styles(lines)
    for name, (sizes, values) in lines.items():
        at, n, v = last_decade(sizes), np.log10(sizes), np.log10(values)
        slope = exponent(sizes[at:], values[at:])[0]
        style = styles[name]
        ax.plot(n, v, style["marker"], color=style["color"], markersize=5, markeredgecolor="white", markeredgewidth=.6)
        ax.plot(n[at:], v[at:].mean() + slope*(n[at:] - n[at:].mean()), color=style["color"], linestyle=style["linestyle"], linewidth=1.4)
        ends.append((n[-1], v[-1], f"{name.removesuffix('_mb')} {slope:.2f}", style["color"]))
    low, high = (f(f(np.log10(v)) for _, v in lines.values()) for f in (min, max))
    ax.set_ylim(low := min(low - .15, high - .6), high := high + .15)
    label_ends(ax, ends)
    dress(ax, title, x, y)
    shown = [n for i, n in enumerate(sizes) if i == 0 or n == sizes[-1] or n >= 3*sizes[i - 1]]
    ax.set_xticks(np.log10(shown), [f"{n:,}" for n in shown])
    ax.set_yticks(*powers(low, high))
    ax.set_ylim(low, high)


def draw(series, file): # What was measured, as `SERIES`; where the picture goes
    "All panels in one picture."
    from ttl_nb.analysis.drawing import PANEL, new_panels
    axes = new_panels(len(series), 2, size=(PANEL[0] + .2, PANEL[1]))
    for ax, (title, (x, y, lines)) in zip(axes, series.items()): draw_panel(ax, title, x, y, lines)
    axes[0].figure.savefig(file, dpi=130)


def exponents(*names, **more): return {f"{name}_exponent": ("", MOST) for name in names} | more

LINES = [
    Figures("images", "growth with 50 to 20,000 training images", exponents("decode", "probe", "epoch", "predict", "images_mb"), of_images),
    Figures("runs", "growth of all but the training with 10 to 1,000 runs of a study",
            exponents("store", "gates", "tables", "report", "explorer", "runs_mb", run_overhead_ms=("ms", None)), of_runs),
    Figures("seats", "growth with 1 to 30 seats of one trainer", exponents("seats", "seats_mb"), of_seats),
]

if __name__ == "__main__":
    status = main(LINES, options=OPTIONS, says=SAYS)
    if SAYS.picture and SERIES: draw(SERIES, SAYS.picture)
    sys.exit(status)
