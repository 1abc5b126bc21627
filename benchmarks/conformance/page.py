"""The page, the reports and the table of the documentation, from the matrix."""

from __future__ import annotations

import html as escaping
import json
from collections.abc import Callable, Iterable

from verdicts import CLOSE, FAILED, NEAR, RIGHT, UNSUPPORTED, WRONG

from halobench.testing.logit_sets import KINDS, SETS
from halobench.testing.optimum import EXACT

VERDICTS = (RIGHT, NEAR, WRONG, FAILED, UNSUPPORTED)
WORST = (WRONG, FAILED, NEAR, RIGHT)  # what colours a cell, in this order
COLOURS = {RIGHT: "#cfe8cf", NEAR: "#f5ecb8", FAILED: "#f3cda4", WRONG: "#eba6a0", UNSUPPORTED: "#f4f4f4"}
LEGEND = {
    RIGHT: f"the NLL is within {EXACT:g} nats and 1% of the gain of the lowest; or it says that there is no best T",
    NEAR: f"within {CLOSE:g} nats; or a number where no T is best; or it changes when rows are permuted or shifted",
    WRONG: f"a number that looks fine and isn't: more than {CLOSE:g} nats above the lowest, or T below 0",
    FAILED: "an error, NaN, out of time or memory, or it says itself that T is wrong",
    UNSUPPORTED: "outside its domain, or refused with an error there",
}

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


def html(known: dict, matrix: dict, best: dict, reproduce: Reproduce) -> str:
    """Return the page: the matrix, and per implementation what isn't right, with the lines that reproduce it."""
    rows = rows_of(known, matrix)
    parts = [HEAD, _matrix(known, rows), _legend()]
    for name, row in rows.items():
        parts.append(_section(known[name], row, best, reproduce))
    if matrix["not tried"]:
        items = "".join(f"<li>{_text(known[n].title)}: {_text(why)}" for n, why in matrix["not tried"].items())
        parts.append(f"<h2>Not tried</h2><ul>{items}</ul>")
    return "\n".join(parts) + "\n"


def _text(value: object) -> str:
    return escaping.escape(str(value))


def _matrix(known: dict, rows: dict[str, list[dict]]) -> str:
    heads = "".join(f'<th title="{_text(about)}"><span>{_text(kind)}</span></th>' for kind, about in KINDS.items())
    lines = [f"<table class=matrix><tr><th></th>{heads}<th><span>all sets</span></th></tr>"]
    for name, row in rows.items():
        cells = []
        for kind in (*KINDS, None):
            part = [cell for cell in row if kind in (None, kind_of(cell))]
            worst, right, tried = tally(part)
            faults = "\n".join(f"{cell['set']}: {cell['verdict']}" for cell in part if cell["verdict"] in WORST[:3])
            shown = f"{right}/{tried}" if tried else "–"
            cells.append(f'<td style="background:{COLOURS[worst]}" title="{_text(faults)}">{shown}</td>')
        label = f"<a href='#{name}'>{_text(known[name].title)}</a> <small>{_text(version_of(row))}</small>"
        lines.append(f"<tr><th scope=row>{label}</th>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


def _legend() -> str:
    items = (
        f'<dt style="background:{COLOURS[name]}">{name}</dt><dd>{_text(text)}</dd>' for name, text in LEGEND.items()
    )
    return f"<dl>{''.join(items)}</dl>"


def _section(implementation, row: list[dict], best: dict, reproduce: Reproduce) -> str:
    faults = [cell for cell in row if cell["verdict"] in WORST[:3]]
    head = f"<h2 id='{implementation.name}'>{_text(implementation.title)} <small>{_text(version_of(row))}</small></h2>"
    lines = [head, f"<p>{_text(implementation.about)}</p>"]
    if not faults:
        return "\n".join([*lines, "<p>All right.</p>"])
    lines += [f"<p>{_text(implementation.note)}</p>"] if implementation.note else []
    lines.append("<table><tr><th>set<th>verdict<th>T<th>best T<th>nats above the lowest NLL<th>what happened</tr>")
    for cell in faults:
        colour, above = COLOURS[cell["verdict"]], cell.get("excess", "")
        beta = best[cell["set"]]["beta"]
        right = "∞" if beta == 0 else "none" if beta == float("inf") else f"{1 / beta:.5g}"
        numbers = f"<td>{cell.get('T', '')}<td>{right}<td>{above if above == '' else f'{float(above):.2g}'}"
        what = f"<td style='background:{colour}'>{cell['verdict']}{numbers}<td>{_text(cell.get('reason', ''))}"
        lines.append(f"<tr><td>{_text(cell['set'])}{what}</tr>")
    lines.append("</table>")
    for kind in KINDS:
        if shown := gravest(cell for cell in row if kind_of(cell) == kind):
            code = _text(reproduce(implementation, shown["set"]))
            lines.append(f"<details><summary>Reproduce: {_text(shown['set'])}</summary><pre>{code}</pre></details>")
    return "\n".join(lines)


HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Who finds the best temperature?</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 1.5rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: .2rem .5rem; text-align: left }
tr { border-bottom: 1px solid #ddd }
.matrix td { text-align: center; border: 2px solid #fff; min-width: 2.6rem }
.matrix tr:first-child th { height: 7.6rem; vertical-align: bottom; padding: 0 }
.matrix span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; padding: .3rem .8rem }
.matrix th[scope=row] { white-space: nowrap; font-weight: 600 } small { color: #666; font-weight: 400 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem .6rem } dt { padding: 0 .5rem } dd { margin: 0 }
pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; font-size: 12px }
</style>
<h1>Who finds the best temperature?</h1>
<p>Temperature scaling fits one number, and the NLL is convex in its inverse, so there is one right answer. Each cell
says on how many sets of logits of a kind an implementation finds it, with its default settings; its colour is that of
the worst set. The referee is an optimum that is proved, by a change of sign of the slope in extended precision.</p>"""


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
        beta, above = best[cell["set"]]["beta"], cell.get("excess")
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
