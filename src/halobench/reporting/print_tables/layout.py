"""Write tables for print as CSV, LaTeX (booktabs, graphicx) and HTML.

All three have the same rows in the same order, and the same table always gives the same bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from halobench.reporting import rendering
from halobench.storage import files, tables_io

MOST_ROWS = 46  # rows of a printed part, block headings included, that fit on a page at its font size


@dataclass(frozen=True)
class Value:
    """The contents of one cell.

    Parameters
    ----------
    mean, sd : float
        Mean and standard deviation (n - 1) over seeds. NaN if there is no value; `sd` is also NaN if there is only one.
    n, seeds : int
        The number of seeds that have a value, and the number of all seeds.
    best : bool
        Whether the value is set in bold.
    """

    mean: float
    sd: float = math.nan
    n: int = 1
    seeds: int = 1
    best: bool = False

    @property
    def texts(self) -> tuple[str, str, str]:
        """The mean and standard deviation as printed, and e.g. ``2/3`` if some seeds have no value; empty if absent."""
        deviation = number(self.sd) if math.isfinite(self.sd) else ""
        return number(self.mean), deviation, f"{self.n}/{self.seeds}" if 0 < self.n < self.seeds else ""


def number(value: float) -> str:
    """Format a number to three decimals so columns align, with a power of ten from 10,000 up, and ``--`` for NaN."""
    if math.isnan(value):
        return "--"
    text = "∞" if math.isinf(value) else f"{abs(value):.3f}" if abs(value) < 1e4 else f"{abs(value):.2e}"
    return f"−{text}" if value < 0 and text != "0.000" else text


@dataclass(frozen=True)
class Row:
    """A line: its label, whether the label has a dagger, and a cell for each column (None leaves it empty).

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
        The part's name, for references to it.
    caption : str
    columns : tuple of (str, tuple of str)
        Groups of columns, each with its heading and the headings of its columns.
    blocks : tuple of (str, tuple of Row)
        Blocks of lines, each under a heading (an empty string for none).
    """

    key: str
    caption: str
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    blocks: tuple[tuple[str, tuple[Row, ...]], ...]

    @property
    def heads(self) -> list[tuple[str, str]]:
        """The columns, each given by its group's heading and its own."""
        return [(group, head) for group, names in self.columns for head in names]

    @property
    def firsts(self) -> list[int]:
        """The columns that start a group."""
        return [i for i, (group, _) in enumerate(self.heads) if i == 0 or group != self.heads[i - 1][0]]


@dataclass(frozen=True)
class Table:
    """A table for print: its title, all its numbers in long form, and the parts that show some of them."""

    title: str
    numbers: pd.DataFrame
    parts: tuple[Part, ...]


def pages(part: Part, most: int = MOST_ROWS) -> list[Part]:
    """Split a part between blocks into pieces of at most `most` lines; longer blocks stay whole."""
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
    """Return how many lines a block takes up."""
    return len(block[1]) + bool(block[0])


# LaTeX ----------------------------------------------------------------------------------------------------------------

ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
ESCAPES |= {">": r"\textgreater{}", "±": r"$\pm$", "−": "$-$", "∞": r"$\infty$", "·": r"\textperiodcentered{}"}
ESCAPES |= {"†": r"$^{\dagger}$", "≥": r"$\ge$", "≤": r"$\le$", "|": r"\textbar{}", '"': "''"}
ESCAPES |= {sign: f"\\{sign}" for sign in "&%$#_{}"}

FLOAT = r"""
\begin{table}[htbp]
\centering
\caption{%s}
\label{tab:%s:%s}
\par\smallskip
\footnotesize
\setlength{\tabcolsep}{2pt}
%% As wide as it is, or as the text where that is narrower.
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%%
%s}
\end{table}
"""


def escaped(text: str) -> str:
    """Return `text` escaped so LaTeX prints it literally, with unsupported characters given by their number."""
    return "".join(ESCAPES.get(c, c if c.isascii() else f"[U+{ord(c):04X}]") for c in text)


def stacked(head: str) -> str:
    """Return a heading in LaTeX, on two lines if part of it is in brackets."""
    first, bracket, rest = escaped(head).partition(" (")
    return rf"\shortstack{{{first}\\({rest}}}" if bracket else first


def latex(table: Table, name: str, note: str = "") -> str:
    """Return the parts as consecutive LaTeX tables, for use with ``\\input``.

    Parameters
    ----------
    name : str
        The start of the tables' labels: ``tab:name:part``.
    note : str
        The start of each caption, e.g. a note that cells are missing.
    """
    text = f"% {escaped(table.title)}\n% Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}.\n"
    text += "% Some 19 cm wide, so best on a page in landscape: scaled down where the text is narrower.\n"
    if not table.parts:
        text += "% There is nothing to show.\n"
    warning = rf"\textbf{{{escaped(note)}.}} " if note else ""
    for piece in (piece for part in table.parts for piece in pages(part)):
        text += FLOAT % (warning + escaped(piece.caption), name, piece.key, tabular(piece))
    return text


def tabular(part: Part) -> str:
    """Return a part's lines and columns as a tabular.

    A value takes two columns, so means and standard deviations align separately. Rules between headings and space
    between blocks start a row, the rules as the name of a level of headings and the space as part of a label.
    """
    starts = [2 * first + 2 for first in part.firsts]
    ends = [*(start - 1 for start in starts[1:]), 2 * len(part.heads) + 1]
    rules = "".join(rf"\cmidrule(lr){{{start}-{end}}}" for start, end in zip(starts, ends, strict=True))
    halves = [(escaped(group), stacked(head), half) for group, head in part.heads for half in (0, 1)]
    columns = pd.MultiIndex.from_tuples(halves, names=["", rules, ""])
    lines = list(_latex_lines(part))
    frame = pd.DataFrame([cells for _, cells in lines], index=[label for label, _ in lines], columns=columns)
    layout = rf"@{{}}l*{{{len(part.heads)}}}{{r@{{}}l}}@{{}}"
    style = frame.style.hide(axis="columns", level=2)
    return style.to_latex(hrules=True, column_format=layout, multicol_align="c").rstrip()


def _latex_lines(part: Part) -> Iterator[tuple[str, list[str]]]:
    """Yield the label and cells of each line; a heading extends over the empty cells next to it."""
    for i, (heading, rows) in enumerate(part.blocks):
        space = r"\addlinespace " if i else ""
        if heading:
            yield rf"{space}\rlap{{\textit{{{escaped(heading)}}}}}", [""] * 2 * len(part.heads)
        for j, row in enumerate(rows):
            lead = r"\quad " if heading else space if j == 0 else ""
            yield lead + escaped(row.label + "†" * row.dagger), [text for v in row.values for text in _latex_value(v)]


def _latex_value(value: Value | None) -> tuple[str, str]:
    """Return both columns of a cell: the mean, and its standard deviation in smaller type."""
    if value is None:
        return "", ""
    mean, deviation, share = value.texts
    deviation = rf"{{\scriptsize$\pm${deviation}}}" if deviation else ""
    mean = rf"\textbf{{{escaped(mean)}}}" if value.best else escaped(mean)
    return mean, deviation + (rf"\textsuperscript{{{share}}}" if share else "")


# HTML and saving ------------------------------------------------------------------------------------------------------


def shared_sentences(captions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the sentences that all of several captions share, and the captions without them."""
    each = [re.split(r"(?<=\.) (?=[^a-z])", caption) for caption in captions]
    shared = [text for text in each[0] if all(text in texts for texts in each)] if len(each) > 1 else []
    return shared, [" ".join(text for text in texts if text not in shared) for texts in each]


def table_page(table: Table, name: str, note: str = "", experiment: str = "") -> str:
    """Return the table as a self-contained HTML page with its LaTeX folded; its headings sort lines within blocks."""
    keys = [dict(row.keys) for part in table.parts for _, rows in part.blocks for row in rows]
    shared, captions = shared_sentences([part.caption for part in table.parts])
    return rendering.render(
        "print_table.html",
        title=table.title,
        note=note,
        experiment=experiment,
        files=[f"{name}.{suffix}" for suffix in ("csv", "tex")],
        selects=rendering.choices(keys),
        shared=" ".join(shared),
        parts=[replace(part, caption=caption) for part, caption in zip(table.parts, captions, strict=True)],
        latex=latex(table, name, note),
    )


def save(table: Table, stem: Path | str, note: str = "", experiment: str = "") -> list[Path]:
    """Write `stem`.csv (all numbers, long), `stem`.tex and `stem`.html, each completely or not at all.

    The page shows `experiment` in its header.

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
    rendering.write(paths[2], table_page(table, name, note, experiment))
    return paths
