"""Write tables for print as CSV, as LaTeX (booktabs, graphicx) and as HTML.

All three hold the same rows in the same order; the same table gives the same bytes.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from halobench.reporting.pages import elements
from halobench.storage import files, tables_io

MOST_ROWS = 46  # of a part in print, headings of blocks included: what a page holds at its size of type


@dataclass(frozen=True)
class Value:
    """The contents of one cell.

    Parameters
    ----------
    mean, sd : float
        Over seeds, `sd` with n - 1. NaN where there is no value, and `sd` for fewer than two as well.
    n, seeds : int
        Seeds that have a value, and all of them.
    best : bool
        Whether it is set in bold.
    """

    mean: float
    sd: float = math.nan
    n: int = 1
    seeds: int = 1
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A line: its label, whether the label bears a dagger, and a cell for each column (None leaves it empty).

    `keys` are pairs of a kind (dataset, model, loss) and a name, by which the page filters its lines.
    """

    label: str
    values: tuple[Value | None, ...]
    dagger: bool = False
    keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Part:
    """The lines and columns under one caption.

    Parameters
    ----------
    key : str
        Its name among the parts, for references to it.
    caption : str
    columns : tuple of (str, tuple of str)
        Groups of columns: their heading, and the headings of the columns.
    blocks : tuple of (str, tuple of Row)
        Blocks of lines, each under a heading (empty for none).
    """

    key: str
    caption: str
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    blocks: tuple[tuple[str, tuple[Row, ...]], ...]


@dataclass(frozen=True)
class Table:
    """A table for print: its title, all numbers in long form, and what of them is shown."""

    title: str
    numbers: pd.DataFrame
    parts: tuple[Part, ...]


def pages(part: Part, most: int = MOST_ROWS) -> list[Part]:
    """Break a part between blocks into pieces of at most `most` lines; a block that is longer stays whole."""
    pieces: list[list[tuple[str, tuple[Row, ...]]]] = [[]]
    for block in part.blocks:
        if pieces[-1] and sum(_height(b) for b in (*pieces[-1], block)) > most:
            pieces.append([])
        pieces[-1].append(block)
    if len(pieces) == 1:
        return [part]
    return [
        Part(
            part.key if i == 0 else f"{part.key}-{i + 1}",
            part.caption if i == 0 else f"{part.caption.partition(':')[0]}, continued.",
            part.columns,
            tuple(blocks),
        )
        for i, blocks in enumerate(pieces)
    ]


def _height(block: tuple[str, tuple[Row, ...]]) -> int:
    """Return how many lines a block takes."""
    return len(block[1]) + bool(block[0])


# Numbers --------------------------------------------------------------------------------------------------------------


def number(value: float, infinity: str = "∞", minus: str = "−") -> str:
    """Return a number to three decimals, so that columns align; a power of ten from 10,000 on; ``--`` for NaN."""
    if math.isnan(value):
        return "--"
    if math.isinf(value):
        return infinity if value > 0 else minus + infinity
    text = f"{abs(value):.3f}" if abs(value) < 1e4 else f"{abs(value):.2e}"
    return minus + text if value < 0 and float(text) else text


def share(value: Value) -> str:
    """Return e.g. ``2/3`` if some seeds have no value and others do, else nothing."""
    return f"{value.n}/{value.seeds}" if 0 < value.n < value.seeds else ""


# LaTeX ----------------------------------------------------------------------------------------------------------------

ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
ESCAPES |= {">": r"\textgreater{}", "±": r"$\pm$", "−": "$-$", "∞": r"$\infty$", "·": r"\textperiodcentered{}"}
ESCAPES |= {"†": r"$^{\dagger}$", "≥": r"$\ge$", "≤": r"$\le$", "|": r"\textbar{}", '"': "''"}
ESCAPES |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def escaped(text: str) -> str:
    """Return `text` as LaTeX prints it literally; other characters by their number."""
    return "".join(ESCAPES.get(c, c if c.isascii() else f"[U+{ord(c):04X}]") for c in text)


def latex(table: Table, name: str, note: str = "") -> str:
    """Return the parts as LaTeX tables one after the other, to be read in by ``\\input``.

    Parameters
    ----------
    name : str
        Opens their labels: ``tab:name:part``.
    note : str
        Opens each caption, e.g. that cells are missing.
    """
    lines = [f"% {escaped(table.title)}", "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}."]
    lines.append("% Some 19 cm wide, so best on a page in landscape: scaled down where the text is narrower.")
    if not table.parts:
        lines.append("% There is nothing to show.")
    for part in table.parts:
        for piece in pages(part):
            lines += ["", *_latex_part(piece, name, note)]
    return "\n".join(lines) + "\n"


def _latex_part(part: Part, name: str, note: str) -> Iterator[str]:
    """Yield the lines of one table."""
    heads = [head for _, heads in part.columns for head in heads]
    warning = rf"\textbf{{{escaped(note)}.}} " if note else ""
    yield r"\begin{table}[htbp]"
    yield r"\centering"
    yield rf"\caption{{{warning}{escaped(part.caption)}}}"
    yield rf"\label{{tab:{name}:{part.key}}}"
    yield r"\par\smallskip"
    yield r"\footnotesize"
    yield r"\setlength{\tabcolsep}{2pt}"
    # As wide as it is, or as the text where that is narrower.
    yield r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    # A value has two columns, that means and standard deviations align each by itself.
    yield rf"\begin{{tabular}}{{@{{}}l*{{{len(heads)}}}{{r@{{}}l}}@{{}}}}"
    yield r"\toprule"
    groups, rules, first = [""], [], 2
    for group, heads_of_group in part.columns:
        groups.append(_spanning(2 * len(heads_of_group), "c", escaped(group)))
        rules.append(rf"\cmidrule(lr){{{first}-{first + 2 * len(heads_of_group) - 1}}}")
        first += 2 * len(heads_of_group)
    yield _line(groups)
    yield "".join(rules)
    yield _line(["", *(_spanning(2, "c", escaped(head)) for head in heads)])
    yield r"\midrule"
    for i, (heading, rows) in enumerate(part.blocks):
        if i:
            yield r"\addlinespace"
        if heading:
            yield _line([_spanning(2 * len(heads) + 1, "@{}l", rf"\textit{{{escaped(heading)}}}")])
        for row in rows:
            label = (r"\quad " if heading else "") + escaped(row.label + "†" * row.dagger)
            yield _line([label, *map(_latex_value, row.values)])
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    yield r"\end{table}"


def _line(cells: Iterable[str]) -> str:
    """Return a line of a tabular."""
    return rf"{' & '.join(cells)} \\"


def _spanning(columns: int, align: str, text: str) -> str:
    """Return a cell over several columns."""
    return rf"\multicolumn{{{columns}}}{{{align}}}{{{text}}}"


def _latex_value(value: Value | None) -> str:
    """Return both columns of a cell: the mean, and its standard deviation smaller."""
    if value is None:
        return " & "
    mean = number(value.mean, r"$\infty$", "$-$")
    mean = rf"\textbf{{{mean}}}" if value.best else mean
    sd = rf"{{\scriptsize$\pm${number(value.sd)}}}" if math.isfinite(value.sd) else ""
    raised = rf"\textsuperscript{{{share(value)}}}" if share(value) else ""
    return f"{mean} & {sd}{raised}"


# HTML -----------------------------------------------------------------------------------------------------------------


def table_page(table: Table, name: str, note: str = "") -> str:
    """Return the table as one HTML page that needs no network, with its LaTeX folded; headings sort within blocks."""
    keys = [row.keys for part in table.parts for _, rows in part.blocks for row in rows]
    selects = elements.filters(elements.choices(map(dict, keys)), "parts", "rows")
    parts = "\n".join(map(_html_part, table.parts)) or "<p>There is nothing to show.</p>"
    source = html.escape(latex(table, name, note))
    folded = f'<details><summary>The same as LaTeX</summary><pre tabindex="0">{source}</pre></details>'
    body = f'{elements.note(note)}\n{selects}\n<div id="parts">\n{parts}\n</div>\n{folded}'
    return elements.document(table.title, body)


def _html_part(part: Part) -> str:
    """Return one table with its caption, each block in a body of its own."""
    opening = '<td rowspan="2"></td>' if part.columns else ""
    groups = "".join(
        f'<th scope="colgroup" class="group-head" colspan="{len(heads)}">{html.escape(group)}</th>'
        for group, heads in part.columns
    )
    columns = [elements.Column(head, number=True) for _, heads in part.columns for head in heads]
    heads = "".join(elements.head(column, i + 1) for i, column in enumerate(columns))
    firsts = _firsts(part.columns)
    bodies = "\n".join(_html_block(heading, rows, firsts, len(columns)) for heading, rows in part.blocks)
    table = (
        f'<table class="wide">\n<caption><span>{html.escape(part.caption)}</span></caption>\n'
        f"<thead><tr>{opening}{groups}</tr>\n<tr>{heads}</tr></thead>\n{bodies}\n</table>"
    )
    return f'<section class="group">{elements.scrolling(table, part.caption)}</section>'


def _html_block(heading: str, rows: Iterable[Row], firsts: Iterable[int], columns: int) -> str:
    """Return the lines of a block below its heading."""
    lines = [_html_row(row, firsts) for row in rows]
    if heading:
        text = html.escape(heading)
        lines.insert(0, f'<tr><th class="block" scope="rowgroup" colspan="{1 + columns}">{text}</th></tr>')
    return '<tbody class="group">\n' + "\n".join(lines) + "\n</tbody>"


def _firsts(columns: Sequence[tuple[str, Sequence[str]]]) -> set[int]:
    """Return the columns that open a group."""
    starts = [0]
    for _, heads in columns:
        starts.append(starts[-1] + len(heads))
    return set(starts)


def _html_row(row: Row, firsts: Iterable[int]) -> str:
    """Return one line of a table."""
    label = html.escape(row.label) + ("<sup>†</sup>" if row.dagger else "")
    cells = []
    for i, value in enumerate(row.values):
        opens = " first" if i in firsts else ""
        key = None if value is None or math.isnan(value.mean) else value.mean
        cells.append(f'<td class="number{opens}"{elements.sort_key(key)}>{_html_value(value)}</td>')
    return f'<tr class="item counted"{elements.keyed(dict(row.keys))}><th scope="row">{label}</th>{"".join(cells)}</tr>'


def _html_value(value: Value | None) -> str:
    """Return the contents of a cell."""
    if value is None:
        return ""
    text = f"<b>{number(value.mean)}</b>" if value.best else number(value.mean)
    text += f' <span class="sd">± {number(value.sd)}</span>' if math.isfinite(value.sd) else ""
    return text + (f"<sup>{share(value)}</sup>" if share(value) else "")


# Saving ---------------------------------------------------------------------------------------------------------------


def save(table: Table, stem: Path | str, note: str = "") -> list[Path]:
    """Write `stem`.csv (all numbers, long), `stem`.tex and `stem`.html, each completely or not at all.

    Returns
    -------
    list of Path
        The files written.
    """
    paths = [Path(f"{stem}.{suffix}") for suffix in ("csv", "tex", "html")]
    name = re.sub(r"[^A-Za-z0-9_.+-]", "-", paths[0].stem)
    tables_io.write_csv(paths[0], table.numbers)
    with files.replacing(paths[1]) as temporary:
        temporary.write_text(latex(table, name, note), encoding="utf-8")
    elements.write(paths[2], table_page(table, name, note))
    return paths
