"""One table of what all benchmarks found: `python benchmarks/table.py FOLDER`

Reads NAME.json of each benchmark in FOLDER, and the machine from NAME.txt beside it; writes FOLDER/benchmarks.md."""
import json, sys
from importlib import import_module
from pathlib import Path

from runner import short

BENCHMARKS = ("speed", "similarity", "ui", "scaling", "gpu", "quality")


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


if __name__ == "__main__":
    if len(sys.argv) != 2: sys.exit(__doc__)
    (Path(sys.argv[1])/"benchmarks.md").write_text(markdown(read(sys.argv[1])), encoding="utf-8")
