"""The reports and the tables of the documentation, from the matrix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from verdicts import CLOSE, FAILED, NEAR, RIGHT, UNSUPPORTED, WRONG

from halobench.testing.logit_sets import KINDS, SETS
from halobench.testing.optimum import EXACT

VERDICTS = (RIGHT, NEAR, WRONG, FAILED, UNSUPPORTED)
WORST = (WRONG, FAILED, NEAR, RIGHT)

Reproduce = Callable[[object, str], str]


def as_json(matrix: dict) -> str:
    """Return the matrix as JSON with a cell per line."""
    cells = ",\n".join(json.dumps(cell, ensure_ascii=False, separators=(",", ":")) for cell in matrix["cells"])
    return f'{{"not tried": {json.dumps(matrix["not tried"], indent=1)},\n"cells": [\n{cells}\n]}}\n'


def kind_of(cell: dict) -> str:
    return SETS[cell["set"]].kind


def tally(cells: Iterable[dict]) -> tuple[str, int, int]:
    """Return the worst verdict of some cells, how many are right, and how many were tried."""
    found = [cell["verdict"] for cell in cells if cell["verdict"] != UNSUPPORTED]
    return next((each for each in WORST if each in found), UNSUPPORTED), found.count(RIGHT), len(found)


def rows_of(known: dict, matrix: dict) -> dict[str, list[dict]]:
    """Return the cells of each implementation that was tried."""
    rows = {name: [cell for cell in matrix["cells"] if cell["implementation"] == name] for name in known}
    return {name: row for name, row in rows.items() if row}


def version_of(row: list[dict]) -> str:
    return next((cell["version"] for cell in row if "version" in cell), "")


def gravest(cells: Iterable[dict]) -> dict | None:
    """Return the wrong or failed cell to show: a wrong one if there is any, with the shortest lines."""
    bad = [cell for cell in cells if cell["verdict"] in (WRONG, FAILED)]
    return min(bad, key=lambda cell: (cell["verdict"] != WRONG, len(SETS[cell["set"]].code)), default=None)


def table(known: dict, matrix: dict) -> str:
    """Return the matrix as a Markdown table; a kind with a wrong set is bold."""
    kinds = list(KINDS)
    lines = [f"| | {' | '.join(kinds)} | all |", f"|---|{'---:|' * (len(kinds) + 1)}"]
    for name, row in rows_of(known, matrix).items():
        cells = []
        for kind in (*kinds, None):
            worst, right, tried = tally(cell for cell in row if kind in (None, kind_of(cell)))
            shown = f"{right}/{tried}" if tried else "–"
            cells.append(f"**{shown}**" if worst == WRONG else shown)
        own = known[name].requires or name == "halobench"  # a loop of this repository has no version
        lines.append(f"| {known[name].title}{f' {version_of(row)}' if own else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def kinds() -> str:
    """Return a Markdown table of the kinds of sets."""
    counts = {kind: sum(each.kind == kind for each in SETS.values()) for kind in KINDS}
    return "\n".join(
        [
            "| kind | | sets |",
            "|---|---|---:|",
            *(f"| {kind} | {about} | {counts[kind]} |" for kind, about in KINDS.items()),
        ]
    )


def filled(text: str, parts: dict[str, str]) -> str:
    """Return a page with each part between the comments <!-- NAME --> and <!-- /NAME -->."""
    for name, part in parts.items():
        head, rest = text.split(f"<!-- {name} -->")
        text = f"{head}<!-- {name} -->\n{part}\n<!-- /{name} -->{rest.split(f'<!-- /{name} -->')[1]}"
    return text


def reports(known: dict, matrix: dict, best: dict, reproduce: Reproduce) -> dict[str, str]:
    """Return, for each implementation that others maintain and that isn't always right, a text for its maintainers."""
    texts = {}
    for name, row in rows_of(known, matrix).items():
        worst = next((cell for cell in row if cell["set"] == known[name].show), gravest(row))
        if known[name].upstream and worst:
            texts[name] = _report(known[name], row, worst, best, reproduce)
    return texts


def _report(implementation, row: list[dict], worst: dict, best: dict, reproduce: Reproduce) -> str:
    _, right, tried = tally(row)
    bad = [cell for cell in row if cell["verdict"] in (WRONG, FAILED)]
    shown = [each for kind in KINDS if (each := gravest(cell for cell in bad if kind_of(cell) == kind))]
    lines = [
        f"# {implementation.title} {version_of(row)}: sets of logits where temperature scaling misses the optimum",
        f"For {implementation.upstream}.",
        f"With default settings ({implementation.about.rstrip('.')}), we fitted temperatures to {tried} sets of logits "
        f"of our choice whose optimum is known: {right} fits were within {EXACT:g} nats of it, "
        f"and {len(bad)} ended more than {CLOSE:g} nats above it, or with an error; one of each kind is shown. "
        "The NLL is convex in 1/T, so the optimum is unique; each below is proved by a change of sign of the slope.",
        "| set | T | best T | nats above the lowest NLL | |\n|---|---:|---:|---:|---|",
    ]
    for cell in shown:
        beta, above = best[cell["set"]].beta, cell.get("excess")
        right_T = "infinite" if beta == 0 else "none" if beta == float("inf") else f"{1 / beta:.4g}"
        above = "" if above is None else f"{float(above):.2g}"
        lines[-1] += f"\n| {cell['set']} | {cell.get('T', '')} | {right_T} | {above} | {cell.get('reason', '')} |"
    lines += [implementation.note] if implementation.note else []
    lines += [
        f"The set *{worst['set']}*, in a new environment:",
        f"```text\n{reproduce(implementation, worst['set'])}```",
    ]
    if implementation.advice:
        lines.append(f"What helps users meanwhile: {implementation.advice}")
    return "\n\n".join(lines) + "\n"
