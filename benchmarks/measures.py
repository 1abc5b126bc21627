"""Measure how short the ways in the code are: ``make measures``, a minute on an idle core.

The table "How short the ways are" in AGENTS.md has these numbers. ``--check`` compares it with those that need no run:
a number that got worse fails, and one that got better fails until the table says so. tests/project checks the others.

*Files to read* are AGENTS.md and those that its table "Where each change is made" names as such. The *spine* is what
takes a configuration to tables of results: all modules of the wings in `SPINE`, the stages' files among them, with
docstrings, comments and blank lines, but without the rules in ``workflow``. What has moved from there into wings of its
own (`MOVED`) is counted beside it, since a move makes nothing shorter. *All Python files* are those of `src`, with
the plug-ins for Snakemake (the packages ``snakemake_*``), and of `tests`. To spare a change of the table for each line,
lines are rounded up to a hundred, and private functions to ten.

For the walks, a figure of one cell is drawn, with a loss that has an unusual option, and with a metric that returns an
unusual value. A *stay* is a function of the package that gets this number as an argument or returns it, however deep in
lists, texts and tables, but without the rest of the configuration: a function that gets all of it, or all jobs, is no
stay.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/halobench"
SPINE = ("cli", "core", "experiment", "pipeline", "results", "runner", "storage")  # from configuration to tables
MOVED = ("analysis", "desk")
PAGE, HEADING = ROOT / "AGENTS.md", "How short the ways are"
OPTION, VALUE = 0.1234567, 0.7654321
PLUGINS = f"""
import torch
class Own(torch.nn.CrossEntropyLoss):
    def __init__(self, smoothing=0.1): super().__init__(label_smoothing=smoothing)
def constant(labels): return {VALUE - 0.5} + 0.5
def draw(metrics):
    from matplotlib.figure import Figure
    return Figure()
"""
CONFIG: dict[str, Any] = {
    "run": ["one"],
    "sources": {"digits": {"loader": "digits"}},
    "datasets": {"clean": {"source": "digits", "train": 60, "val": 40, "test": 50}},
    "train": {"epochs": 1, "lr": 0.003},
    "models": {"linear": {"name": "linear"}},
    "losses": {"own": {"name": "own_plugins:Own", "smoothing": OPTION}},
    "calibrators": ["none", "exact"],
    "metrics": {"draws": 10, "floor_draws": 2, "also": ["own_plugins:constant"]},
    "experiments": {
        "one": {
            "grid": [{"datasets": ["clean"], "models": ["linear"], "losses": ["own"], "seeds": [0], "probe": False}],
            "figures": ["own_plugins:draw"],
        }
    },
}
# Python runs a module called sitecustomize in every process.
TRACER = """
import os, sys, threading
ROOT, OUT, NEEDLES = os.environ["MEASURED"], os.environ["MEASURES"], {needles}
ELSEWHERE = {elsewhere!r}
seen = set()
def write(*words):
    with open(OUT, "a") as file: file.write("\\t".join(map(str, (os.getpid(), *words))) + "\\n")
def held(value, depth=4):
    if isinstance(value, float): return {{n for n in NEEDLES if repr(value) == n}}
    if isinstance(value, bytes): value = value.decode("latin-1")
    if isinstance(value, str): return {{n for n in [*NEEDLES, ELSEWHERE] if n in value}}
    if type(value).__name__ == "DataFrame" and hasattr(value, "_mgr"): return held(value.head(999).to_csv(), 0)
    if not depth: return set()
    if isinstance(value, dict): value = list(value.values())
    elif type(value).__module__.startswith("halobench"): value = list(getattr(value, "__dict__", {{}}).values())
    return set().union(*(held(v, depth - 1) for v in value[:300])) if isinstance(value, (list, tuple)) else set()
def profile(frame, event, result):
    code = frame.f_code
    if event not in ("call", "return") or not code.co_filename.startswith(ROOT) or "<" in code.co_name: return
    if event == "call" and code.co_name == "load_config": write("load", "", "")
    names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    found = held([frame.f_locals.get(n) for n in names if n != "self"] if event == "call" else result, 5)
    for needle in set() if ELSEWHERE in found else found:
        if (code, needle) not in seen:
            seen.add((code, needle)); write("stay", needle, code.co_filename[len(ROOT) + 1:] + ":" + code.co_qualname)
def audit(event, arguments):
    path = str(arguments[0] or "") if event == "os.scandir" and "calibrate" in sys.argv else ""
    if path.startswith(ROOT) and not path.endswith("__pycache__"):
        write("scan", "", path)
sys.setprofile(profile); threading.setprofile(profile); sys.addaudithook(audit)
"""


def walks(folder: Path) -> dict[str, str]:
    """Run the cell in an empty folder and return the measures of its walks."""
    needles = {repr(OPTION), repr(VALUE)}
    (folder / "tracer").mkdir()
    (folder / "tracer/sitecustomize.py").write_text(
        TRACER.format(needles=needles, elsewhere=CONFIG["experiments"]["one"]["figures"][0])
    )
    (folder / "own_plugins.py").write_text(PLUGINS)
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    for part in ("Snakefile", "workflow", "profiles"):
        (folder / part).symlink_to(ROOT / part)
    found = folder / "found"
    paths = [str(folder / "tracer"), str(folder), str(PACKAGE.parent), *filter(None, sys.path)]
    variables = {"MEASURED": str(PACKAGE), "MEASURES": str(found), "XDG_CACHE_HOME": str(folder)}
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)}
    figure = f"results/figures/one/{CONFIG['experiments']['one']['figures'][0].replace(':', '.')}.png"
    command = [sys.executable, "-m", "halobench.cli.main", "run", "--cores", "1", figure]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    rows = [line.split("\t") for line in found.read_text().splitlines()]
    files = [
        path
        for path in (folder / "results").rglob("*.*")
        if path.is_file() and repr(VALUE).encode() in path.read_bytes()
    ]
    built = max(i for i, row in enumerate(rows) if row[-1] == "losses/base.py:build")  # by the training
    stays = {row[3] for row in rows[:built] if row[1:3] == ["stay", repr(OPTION)]}
    processes = {row[0] for row in rows[:built] if row[1:3] == ["stay", repr(OPTION)]}
    scored = {row[3] for row in rows if row[1:3] == ["stay", repr(VALUE)]}
    return {
        "a loss's option, to the built loss: functions that hold it, processes": f"{len(stays)}, {len(processes)}",
        "full loads of the configuration in a run": str(sum(row[1] == "load" for row in rows)),
        "a metric's value, to the figure: functions that hold it, text files": f"{len(scored)}, {len(files)}",
        "listings of package folders in one `calibrate`": str(sum(row[1] == "scan" for row in rows)),
    }


def static() -> dict[str, str]:
    """Return the measures of the source text."""
    sources = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in sources.items()}
    wing = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in sources}
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    floor = {name: -i for i, layer in enumerate(layers) for name in layer.split(" | ")}
    climbing, private = [], []
    for path, tree in trees.items():
        higher = [name for name in floor if floor[name] > floor.get(wing[path], 1)]
        pattern = re.compile(rf"(?:halobench[./])?(?:{'|'.join(higher)})[./][a-z_/.]+") if higher else None
        documented = {
            ast.get_docstring(n, clean=False)
            for n in ast.walk(tree)
            if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        texts = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        modules = (text for text in texts if pattern and text not in documented and pattern.fullmatch(text))
        # A text that begins with "torch." is of PyTorch, not of halobench.torch.
        climbing += [text for text in modules if not text.endswith((".json", ".html")) and text[:6] != "torch."]
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and re.match("_[a-z]", n.name)]
        private += [n for n in functions if len(re.findall(rf"\b{n.name}\b", sources[path])) == 2]
    declared = {path.parent for path, text in sources.items() if path.stem == "__init__" and "\nKIND = " in text}
    folders = Counter(path.parent for path in sources if path.stem != "__init__" and path.parent not in declared)
    lines = sum(n.end_lineno - n.lineno + 1 for n in private if n.end_lineno)
    spine, moved = (
        sum(len(text.splitlines()) for path, text in sources.items() if wing[path] in wings) for wings in (SPINE, MOVED)
    )
    fullest = max(folders, key=folders.__getitem__)
    return {
        **files_to_read(PAGE.read_text()),
        f"lines: spine, {' and '.join(MOVED)}": f"{_up(spine, 100):,}, {_up(moved, 100):,} ({spine:,}, {moved:,})",
        "all Python files, lines: src, of these plug-ins for Snakemake, tests": ", ".join(
            f"{_up(_lines(folder, pattern), 100):,}"
            for folder, pattern in (("src", "*.py"), ("src", "snakemake_*/*.py"), ("tests", "*.py"))
        ),
        "strings in lower wings that name modules of higher ones": str(len(climbing)),
        "private functions used once": f"{_up(len(private), 10)} (that is {len(private)}, of {lines:,} lines)",
        "modules in one folder other than plug-ins, most": f"{folders[fullest]} ({fullest.relative_to(PACKAGE)})",
    }


def _lines(folder: str, pattern: str) -> int:
    return sum(len(path.read_text().splitlines()) for path in (ROOT / folder).rglob(pattern))


def files_to_read(page: str) -> dict[str, str]:
    """Return, for groups of changes, how many files one reads before the change."""
    named = {change: 1 + len(read.split(", ")) for change, read, *_ in rows_of(page, "Where each change is made")}
    groups = (("a loss", "a metric", "a calibrator"), ("a figure or table", "a key of the configuration", "a stage"))
    alike, others = ([named[change] for change in group] for group in groups)
    return {
        "files to read for a loss, metric or calibrator": str(max(alike)),
        "files to read for a figure, a key of the configuration, a stage": ", ".join(map(str, others)),
    }


def rows_of(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the first table under a heading."""
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return lines[1:]


def complaints(page: str, today: Mapping[str, str]) -> list[str]:
    """Return a line for each measure that isn't what the table on the page says."""
    table = {row[0].split(" (")[0]: row[1] for row in rows_of(page, HEADING)}
    found: list[str] = []
    for measure, text in today.items():
        now, then = _numbers(text), _numbers(table.get(measure, ""))
        said = f"{measure}: {text}, in AGENTS.md {table.get(measure, 'missing')}"
        if len(now) != len(then):
            found.append(f"{said}. Enter it into the table '{HEADING}'.")
        elif any(a > b for a, b in zip(now, then, strict=True)):
            found.append(f"{said}. It is worse: improve it, or change the table in the same commit, with a reason.")
        elif now != then:
            found.append(f"{said}. It is better: change the table, so that it stays so.")
    return found


def _numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})*", text.split(" (")[0])]


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit("\n".join(complaints(PAGE.read_text(), static())) or None)
    with tempfile.TemporaryDirectory() as name:
        for measure, value in (static() | walks(Path(name))).items():
            print(f"{measure:70} {value}")
