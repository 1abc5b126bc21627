"""Write print tables as CSV, LaTeX (booktabs, graphicx) and HTML, with the same bytes for the same table."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from halobench.core.formatting import number
from halobench.reporting import rendering
from halobench.storage import files, tables_io

MOST_ROWS = 46  # rows of a printed part, including block headings, that fit on a page at its font size


@dataclass(frozen=True)
class Value:
    """A mean over seeds, as shown in a cell of a table.

    Parameters
    ----------
    mean, sd : float
        Mean and standard deviation (n - 1), or half the width of an interval; NaN if there is none.
    n, seeds : int
        The number of seeds with a value, and the number of all seeds.
    best : bool
        Whether the value is printed in bold.
    """

    mean: float
    sd: float = math.nan
    n: int = 1
    seeds: int = 1
    best: bool = False


ABSENT = Value(math.nan, n=0, seeds=0)


@dataclass(frozen=True)
class Part:
    """The part of a table under one caption.

    Parameters
    ----------
    key : str
        The part's name in LaTeX references.
    caption : str
    cells : DataFrame of Value or None
        The index of the rows has the headings of blocks and the labels of rows; the index of the columns has the
        headings of groups and of columns. A block's or group's heading may be empty, and None leaves a cell empty.
    """

    key: str
    caption: str
    cells: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """A print table: its title, all its numbers in long form, and the parts that show some of them."""

    title: str
    numbers: pd.DataFrame
    parts: tuple[Part, ...]


def grid(
    values: Mapping[Any, Value | None], rows: Mapping[Any, tuple[str, str]], columns: Mapping[Any, tuple[str, str]]
) -> pd.DataFrame:
    """Return the cells of a part in the order of `rows` and `columns`; missing values are printed as ``--``."""
    cells = [[values.get((row, column), ABSENT) for column in columns] for row in rows]
    index, heads = (pd.MultiIndex.from_tuples([*headings.values()], names=[None] * 2) for headings in (rows, columns))
    return pd.DataFrame(cells, index, heads, dtype=object)


def pages(cells: pd.DataFrame, most: int = MOST_ROWS) -> list[pd.DataFrame]:
    """Return a part's rows in pieces of at most `most` lines, split between blocks; longer blocks stay whole."""
    pieces: list[list[pd.DataFrame]] = []
    height = most
    for block, rows in cells.groupby(level=0, sort=False):
        lines = len(rows) + bool(block)
        if height + lines > most:
            pieces.append([])
            height = 0
        pieces[-1].append(rows)
        height += lines
    return [pd.concat(piece) for piece in pieces]


def printed(value: Value | None, bold: str, deviation: str, raised: str, escape: Callable[[str], str] = str) -> str:
    """Return a value as text, formatted by the templates for bold, deviation and raised parts; the mean is escaped."""
    if value is None:
        return ""
    mean = escape(number(value.mean, missing="--"))
    text = bold.format(mean) if value.best else mean
    text += deviation.format(number(value.sd)) if math.isfinite(value.sd) else ""
    return text + (raised.format(f"{value.n}/{value.seeds}") if 0 < value.n < value.seeds else "")


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
%% At its own width, or that of the text if narrower.
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%%
%s}
\end{table}
"""


def escaped(text: str) -> str:
    """Return `text` escaped for LaTeX; unsupported characters become their code points, e.g. ``[U+00E9]``."""
    return "".join(ESCAPES.get(c, c if c.isascii() else f"[U+{ord(c):04X}]") for c in text)


def stacked(head: str) -> str:
    """Return a heading in LaTeX, on two lines if part of it is in brackets."""
    first, bracket, rest = escaped(head).partition(" (")
    return rf"\shortstack{{{first}\\({rest}}}" if bracket else first


def latex(table: Table, name: str, note: str = "") -> str:
    """Return the parts as consecutive LaTeX tables labelled ``tab:name:part``, for use with ``\\input``.

    Any `note` is at the start of each table's caption.
    """
    text = f"% {escaped(table.title)}\n% Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}.\n"
    text += "% About 19 cm wide, so best in landscape; scaled down if the text is narrower.\n"
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
    """Return a part's cells as a LaTeX tabular; headings of blocks extend over the empty cells next to them."""
    groups = [len([*heads]) for _, heads in itertools.groupby(cells.columns.get_level_values(0))]
    ends = itertools.accumulate(groups, initial=1)
    # The rules below groups' headings are at the start of the next row.
    rules = "".join(rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in itertools.pairwise(ends))
    names: Iterable[Any] = cells.columns
    heads = [(escaped(group), stacked(head)) for group, head in names]
    signs = r"\textbf{{{}}}", r"{{\scriptsize$\pm${}}}", r"\textsuperscript{{{}}}"
    lines: list[tuple[str, list[str]]] = []
    for block, rows in cells.groupby(level=0, sort=False):
        space = r"\addlinespace " if lines else ""
        if block:
            lines.append((rf"{space}\rlap{{\textit{{{escaped(str(block))}}}}}", [""] * len(heads)))
        for (_, label), values in zip(rows.index, rows.to_numpy(), strict=True):
            indent, space = (r"\quad " if block else space), ""
            lines.append((indent + escaped(label), [printed(value, *signs, escaped) for value in values]))
    frame = pd.DataFrame(
        [texts for _, texts in lines],
        index=[label for label, _ in lines],
        columns=pd.MultiIndex.from_tuples(heads, names=["", rules]),
    )
    layout = rf"@{{}}l{'r' * len(heads)}@{{}}"
    return frame.style.to_latex(hrules=True, column_format=layout, multicol_align="c").rstrip()


# HTML and saving ------------------------------------------------------------------------------------------------------


def _html(cells: pd.DataFrame) -> Markup:
    """Return a part's cells as an HTML table."""
    shown = functools.partial(
        printed, bold="<b>{}</b>", deviation=' <span class="sd">± {}</span>', raised="<sup>{}</sup>"
    )
    style = cells.style.format(shown)
    style = style.format_index(escape, axis="index").format_index(escape, axis="columns")
    return Markup(style.to_html(exclude_styles=True))


def shared_sentences(captions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the sentences that all of several captions share, and the captions without these sentences."""
    sentences = [re.split(r"(?<=\.) (?=[^a-z])", caption) for caption in captions]
    shared = [text for text in sentences[0] if all(text in others for others in sentences)] if len(captions) > 1 else []
    return shared, [" ".join(text for text in texts if text not in shared) for texts in sentences]


def save(table: Table, stem: Path | str, note: str = "", experiment: str = "") -> list[Path]:
    """Write `stem`.csv (all numbers in long form), `stem`.tex and `stem`.html, each completely or not at all.

    The HTML page is self-contained, contains the LaTeX in a folded section, and shows `experiment` in its header.

    Returns
    -------
    list of Path
        The files written.
    """
    paths = [Path(f"{stem}.{suffix}") for suffix in ("csv", "tex", "html")]
    name = re.sub(r"[^A-Za-z0-9_.+-]", "-", paths[0].stem)
    shared, captions = shared_sentences([part.caption for part in table.parts])
    tex = latex(table, name, note)
    page = rendering.render(
        "print_table.html",
        title=table.title,
        note=note,
        experiment=experiment,
        files=[f"{name}.{suffix}" for suffix in ("csv", "tex")],
        shared=" ".join(shared),
        parts=[(caption, _html(part.cells)) for part, caption in zip(table.parts, captions, strict=True)],
        latex=tex,
    )
    tables_io.write_csv(paths[0], table.numbers)
    with files.replacing(paths[1]) as temporary:
        temporary.write_text(tex, encoding="utf-8")
    rendering.write(paths[2], page)
    return paths
