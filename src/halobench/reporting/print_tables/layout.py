"""Write tables for print as CSV, LaTeX (booktabs, graphicx) and HTML.

All three have the same rows in the same order, and the same table always gives the same bytes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from halobench.core.formatting import number
from halobench.reporting import rendering
from halobench.storage import files, tables_io

MOST_ROWS = 46  # rows of a printed part, block headings included, that fit on a page at its font size


@dataclass(frozen=True)
class Value:
    """A mean over seeds, as one cell of a table shows it.

    Parameters
    ----------
    mean, sd : float
        Mean and standard deviation (n - 1), or half of an interval. NaN if there is none.
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
        """The mean and the deviation as printed, and e.g. ``2/3`` if some seeds have no value; empty if absent."""
        deviation = number(self.sd) if math.isfinite(self.sd) else ""
        return number(self.mean, missing="--"), deviation, f"{self.n}/{self.seeds}" if 0 < self.n < self.seeds else ""


ABSENT = Value(math.nan, n=0, seeds=0)


@dataclass(frozen=True)
class Part:
    """What stands under one caption.

    Parameters
    ----------
    key : str
        The part's name, for references to it.
    caption : str
    cells : DataFrame of Value or None
        The rows' index has a block's heading and a row's label, and the columns' index a group's heading and a column's
        heading. A block or group may have no heading (an empty string), and None leaves a cell empty.
    """

    key: str
    caption: str
    cells: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """A table for print: its title, all its numbers in long form, and the parts that show some of them."""

    title: str
    numbers: pd.DataFrame
    parts: tuple[Part, ...]


def grid(
    values: Mapping[Any, Value | None], rows: Mapping[Any, tuple[str, str]], columns: Mapping[Any, tuple[str, str]]
) -> pd.DataFrame:
    """Return the cells of a part from values by row and column, whose headings are given in order."""
    cells = [[values.get((row, column), ABSENT) for column in columns] for row in rows]
    index, heads = (pd.MultiIndex.from_tuples([*headings.values()], names=[None] * 2) for headings in (rows, columns))
    return pd.DataFrame(cells, index, heads, dtype=object)


def pages(cells: pd.DataFrame, most: int = MOST_ROWS) -> list[pd.DataFrame]:
    """Split a part's rows between blocks into pieces of at most `most` lines; longer blocks stay whole."""
    blocks: list[Any] = [list(rows) for _, rows in itertools.groupby(range(len(cells)), lambda i: cells.index[i][0])]
    pieces: list[list[int]] = [[]]
    height = 0
    for rows in blocks:
        lines = len(rows) + bool(cells.index[rows[0]][0])
        if pieces[-1] and height + lines > most:
            pieces.append([])
            height = 0
        pieces[-1] += rows
        height += lines
    return [cells.iloc[rows] for rows in pieces]


# LaTeX ----------------------------------------------------------------------------------------------------------------

ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
ESCAPES |= {">": r"\textgreater{}", "±": r"$\pm$", "−": "$-$", "∞": r"$\infty$", "·": r"\textperiodcentered{}"}
ESCAPES |= {"†": r"$^{\dagger}$", "≥": r"$\ge$", "≤": r"$\le$", "|": r"\textbar{}", '"': "''", "μ": r"$\mu$"}
ESCAPES |= {sign: f"\\{sign}" for sign in "&%$#_{}"}

FLOAT = r"""
\begin{table}[htbp]
\centering
\caption{%s}
\label{tab:%s:%s}
\par\smallskip
\footnotesize
\setlength{\tabcolsep}{3pt}
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
    """Return the parts as consecutive LaTeX tables labelled ``tab:name:part``, for use with ``\\input``.

    Each caption starts with `note`.
    """
    text = f"% {escaped(table.title)}\n% Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}.\n"
    text += "% Some 19 cm wide, so best on a page in landscape: scaled down where the text is narrower.\n"
    if not table.parts:
        text += "% There is nothing to show.\n"
    warning = rf"\textbf{{{escaped(note)}.}} " if note else ""
    for part in table.parts:
        for i, cells in enumerate(pages(part.cells)):
            key = f"{part.key}-{i + 1}" if i else part.key
            caption = f"{part.caption.partition(':')[0]}, continued." if i else part.caption
            text += FLOAT % (warning + escaped(caption), name, key, tabular(cells))
    return text


def tabular(cells: pd.DataFrame) -> str:
    """Return a part's lines and columns as a tabular; the rules below groups' headings start the row that follows."""
    groups = [(name, [*heads]) for name, heads in itertools.groupby(cells.columns.get_level_values(0))]
    ends = [*itertools.accumulate((len(heads) for _, heads in groups), initial=1)]
    rules = "".join(rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in itertools.pairwise(ends))
    heads = [(escaped(head[0]), stacked(head[1])) for head in cells.columns]
    lines = list(_latex_lines(cells))
    frame = pd.DataFrame(
        [texts for _, texts in lines],
        index=[label for label, _ in lines],
        columns=pd.MultiIndex.from_tuples(heads, names=["", rules]),
    )
    layout = rf"@{{}}l{'r' * len(heads)}@{{}}"
    return frame.style.to_latex(hrules=True, column_format=layout, multicol_align="c").rstrip()


def _latex_lines(cells: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Yield the label and cells of each line; a block's heading extends over the empty cells next to it."""
    before = None
    names: list[tuple[str, str]] = list(cells.index)
    for (block, label), values in zip(names, cells.to_numpy(), strict=True):
        space = r"\addlinespace " if before not in (None, block) else ""
        if block and block != before:
            yield rf"{space}\rlap{{\textit{{{escaped(block)}}}}}", [""] * len(values)
            space = ""
        yield (r"\quad " if block else space) + escaped(label), [_latex_value(value) for value in values]
        before = block


def _latex_value(value: Value | None) -> str:
    if value is None:
        return ""
    mean, deviation, share = value.texts
    text = rf"\textbf{{{escaped(mean)}}}" if value.best else escaped(mean)
    text += rf"{{\scriptsize$\pm${deviation}}}" if deviation else ""
    return text + (rf"\textsuperscript{{{share}}}" if share else "")


# HTML and saving ------------------------------------------------------------------------------------------------------


def _html_value(value: Any) -> str:
    if value is None:
        return ""
    mean, deviation, share = value.texts
    text = f"<b>{mean}</b>" if value.best else mean
    text += f' <span class="sd">± {deviation}</span>' if deviation else ""
    return text + (f"<sup>{share}</sup>" if share else "")


def _html(cells: pd.DataFrame) -> Markup:
    """Return a part's table; a block without a heading continues to its rows' labels."""
    style = cells.style.format(_html_value).format_index(escape, axis="index").format_index(escape, axis="columns")
    return Markup(style.to_html(exclude_styles=True))


def shared_sentences(captions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the sentences that all of several captions share, and the captions without them."""
    each = [re.split(r"(?<=\.) (?=[^a-z])", caption) for caption in captions]
    shared = [text for text in each[0] if all(text in texts for texts in each)] if len(each) > 1 else []
    return shared, [" ".join(text for text in texts if text not in shared) for texts in each]


def table_page(table: Table, name: str, note: str = "", experiment: str = "") -> str:
    """Return the table as a self-contained HTML page with its LaTeX folded."""
    shared, captions = shared_sentences([part.caption for part in table.parts])
    return rendering.render(
        "print_table.html",
        title=table.title,
        note=note,
        experiment=experiment,
        files=[f"{name}.{suffix}" for suffix in ("csv", "tex")],
        shared=" ".join(shared),
        parts=[(caption, _html(part.cells)) for part, caption in zip(table.parts, captions, strict=True)],
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
