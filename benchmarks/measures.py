"""Measure how short the ways in the code are: ``make measures``.

The table "How short the ways are" in AGENTS.md has these numbers. ``--check``, part of ``make lint``, compares it with
them: a number that got worse fails, and one that got better fails until the table says so.

*Files to read* are AGENTS.md and those that its table "Where each change is made" names as such. The *spine* is what
takes a configuration to tables of results: all modules of the wings in `SPINE`, the stages' files among them, with
docstrings, comments and blank lines, but without the rules in ``workflow``. What has moved from there into wings of its
own (`MOVED`) is counted beside it, since a move makes nothing shorter. *All Python files* are those of `src`, with
the plug-ins for Snakemake (the packages ``snakemake_*``), and of `tests`. To spare a change of the table for each line,
lines are rounded up to a hundred, and private functions to ten.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/halobench"
SPINE = ("cli", "core", "experiment", "pipeline", "results", "runner", "storage")  # from configuration to tables
MOVED = ("analysis", "desk")
PAGE, HEADING = ROOT / "AGENTS.md", "How short the ways are"


def measured() -> dict[str, str]:
    """Return the measures by the names of their rows."""
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
        sys.exit("\n".join(complaints(PAGE.read_text(), measured())) or None)
    for measure, value in measured().items():
        print(f"{measure:70} {value}")
