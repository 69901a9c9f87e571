"""One table of what all benchmarks found: `python benchmarks/table.py FOLDER [DOCS]`

Reads NAME.json of each benchmark in FOLDER, and the machine from NAME.txt beside it; writes FOLDER/benchmarks.md, or the page
DOCS/index.md with that table, what was checked beside each figure, and the pictures."""
import json, shutil, sys
from importlib import import_module
from pathlib import Path

from runner import short

BENCHMARKS = ("speed", "similarity", "ui", "scaling", "gpu", "quality", "classroom")


def meanings(name): # One of `BENCHMARKS`
    "Figure -> what it is; figures beside a ratio are told with it."
    return {row["name"]: line.what for line in import_module(name).LINES for row in line.failed()[:1]}


def cells(row, what): # A row of the JSON file, and what each figure is
    "One line of the table as texts."
    unit, sign = f" {row['unit']}".rstrip(), "≥" if row["unit"] == "×" else "≤"
    found = "failed" if row["value"] is None else f"{short(row['value'])}{unit}"
    target = "" if row["target"] is None else f"{sign} {row['target']:g}{unit}"
    return row["name"], what.get(row["name"], ""), found, target, ("yes" if row["ok"] else "no") if target or not row["ok"] else ""


def markdown(
    found, # Name of a benchmark -> (rows of its JSON file, machine as text)
    what=meanings, # What its figures are
): # Text
    "All figures in one table, and below it where each was found."
    lines = [("", "figure", "what", "found", "target", "reached"), ("---",)*6]
    for name, (rows, _) in found.items():
        told = what(name)
        lines += [(name if i == 0 else "", *cells(row, told)) for i, row in enumerate(rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n" + "\n".join(f"- {name}: {machine}" for name, (_, machine) in found.items()) + "\n"


def read(folder): # Where the JSON files lie
    "Rows and machine of each benchmark that was run."
    files = {name: Path(folder)/f"{name}.json" for name in BENCHMARKS}
    def machine(file): return file.read_text(encoding="utf-8").splitlines()[0] if file.is_file() else "machine not told"
    return {name: (json.loads(f.read_text(encoding="utf-8")), machine(f.with_suffix(".txt"))) for name, f in files.items() if f.is_file()}


PICTURES = dict(scaling="Time and memory over the number of images, of runs and of seats, in logarithms, each with its exponent",
                quality="AUC over seconds: this package's default recipe, fastai's fine_tune and a plain PyTorch loop, 50, 200 and 800 images")

INTRODUCTION = """# Beside others

What people would use instead, timed on the same files, networks, weights, batches and threads, in turns on one machine, so that
a machine that slows down slows both: a figure with × is the ratio of the two medians. The peer has the number of threads and
workers at which it is quickest. Each line also checks that both sides computed the same thing; where that fails, its figure
does not count. `make bench` measures this again; every script in `benchmarks/` runs alone, too.
"""


def checked(file): # NAME.txt of a benchmark
    "What was compared in each line, and how far it agreed."
    lines = file.read_text(encoding="utf-8").splitlines()[1:] if file.is_file() else []
    lines = lines[:next((i for i, l in enumerate(lines) if l.startswith("   figure")), None)] # Below stands the table
    told = [l for l in lines if " measured in " in l or l.startswith("   ")]
    return "\n".join(f"- {l}" if " measured in " in l else f"  {l.strip()}" for l in told)


def page(folder): # Where the JSON files lie
    "The page of the docs: table, pictures, what was checked."
    found = read(folder)
    pictures = [f"![{alt}]({name}.png)" for name, alt in PICTURES.items() if (Path(folder)/f"{name}.png").is_file()]
    said = [f"## What was checked: {name}\n\n{text}" for name in found if (text := checked(Path(folder)/f"{name}.txt"))]
    return "\n\n".join([INTRODUCTION.strip(), markdown(found).strip(), *pictures, *said]) + "\n"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3): sys.exit(__doc__)
    folder, *docs = map(Path, sys.argv[1:])
    if docs:
        docs[0].mkdir(parents=True, exist_ok=True)
        (docs[0]/"index.md").write_text(page(folder), encoding="utf-8")
        for picture in folder.glob("*.png"):
            if picture.stem in PICTURES: shutil.copy(picture, docs[0])
    else: (folder/"benchmarks.md").write_text(markdown(read(folder)), encoding="utf-8")
