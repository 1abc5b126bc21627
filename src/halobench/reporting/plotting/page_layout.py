"""What all figures share: the look, grids of panels, drawing in them, and saving.

Sizes are in inches and points, as printed. Panels have fixed sizes and the page grows with their number, so that a grid
of one cell and one of forty are both readable. Figures are built without pyplot: no global state, no open windows.
"""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from halobench.reporting.plotting.style import BOLD, GREY, INK, SPARSE, TALL

CONTINUED = " (continued)"


# Pages and panels -----------------------------------------------------------------------------------------------------


def page(width: float, height: float) -> Figure:
    """An empty page of this size in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Axes at `left` and `top` (inches from the page's upper left corner), `width` x `height` inches."""
    page_width, page_height = figure.get_size_inches()
    bottom = page_height - top - height
    box = (left / page_width, bottom / page_height, width / page_width, height / page_height)
    return figure.add_axes(box, **options)


def set_ticks(axis: Axis, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Ticks at these places, labelled with their numbers unless told; `Axis.set_ticks` makes artists of them."""
    axis.set_major_locator(FixedLocator(list(places)))
    if labels is not None:
        axis.set_major_formatter(FixedFormatter(list(labels)))


def write(figure: Figure, left: float, top: float, text: str, **options: Any) -> None:
    """Text whose upper left corner (unless aligned otherwise) is at `left`, `top` inches from the upper left corner."""
    width, height = figure.get_size_inches()
    look: dict[str, Any] = {"va": "top", "ha": "left", "color": INK, "parse_math": False}
    figure.text(left / width, 1 - top / height, text, **(look | options))


def wrapped(text: str, width: float, size: float = 8) -> str:
    """`text` broken into lines of at most about `width` inches at `size` points (a letter is about 0.53 em wide)."""
    letters = max(8, int(width * 72 / (0.53 * size)))
    return "\n".join("\n".join(textwrap.wrap(line, letters)) for line in text.split("\n"))


def shortened(text: str, width: float, size: float = 8) -> str:
    """`text`, cut with an ellipsis in its middle if it is longer than about `width` inches at `size` points."""
    letters = max(8, int(width * 72 / (0.53 * size)))
    if len(text) <= letters:
        return text
    tail = (letters - 1) // 2
    return f"{text[: letters - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def lines_high(text: str, size: float = 8) -> float:
    """Height of `text` in inches at `size` points."""
    return (text.count("\n") + 1) * size * 1.22 / 72


@dataclass
class Grid:
    """Panels of a figure: `axes` by (row, column), only where there is something to show."""

    figure: Figure
    axes: dict[tuple[Any, Any], Axes]
    leftmost: frozenset[tuple[Any, Any]]

    def left(self, row: Any, column: Any) -> bool:
        """Whether this panel is the first of its line."""
        return (row, column) in self.leftmost


@dataclass(frozen=True)
class Line:
    """Panels side by side: their row, its heading, each place's column (None: empty), and if it goes on from above."""

    row: Any
    heading: str
    columns: tuple[Any, ...]
    more: bool = False


@dataclass(frozen=True)
class Layout:
    """Lines of panels under a page's head, in inches. `own` is the room for a heading over each panel, 0 without."""

    lines: list[Line]
    panel: tuple[float, float]
    gap: tuple[float, float]
    own: float
    slit: float

    @property
    def inner(self) -> float:
        """From the left edge of a line's first panel to the right edge of its last."""
        places = max((len(line.columns) for line in self.lines), default=0)
        return places * self.panel[0] + max(places - 1, 0) * self.gap[0]

    def tops(self, band: Sequence[Line]) -> list[float]:
        """How far down in a band each line's panels begin, and where it ends.

        The first row needs room for its heading alone, a row without a heading (the lower half of a pair) just a slit.
        """
        down, found = 0.0, []
        for i, line in enumerate(band):
            above = (self.gap[1] if i else 0.27) if line.heading else self.slit
            found.append(down + above + self.own)
            down = found[-1] + self.panel[1]
        return [*found, down]

    def bands(self, wide: float) -> list[list[Line]]:
        """The lines in as few bands, each `wide`, as keep a page from being `TALL`; a row stays in one."""
        starts = [i for i, line in enumerate(self.lines) if (line.heading and not line.more) or not i]
        rows = [self.lines[i:j] for i, j in itertools.pairwise([*starts, len(self.lines)])]
        for count in range(1, len(rows) + 1):
            share = len(self.lines) / count
            bands: list[list[Line]] = [[] for _ in range(count)]
            for row, start in zip(rows, starts, strict=True):
                bands[int((start + len(row) / 2) / share)].extend(row)
            bands = [band for band in bands if band]
            if max(self.tops(band)[-1] for band in bands) <= TALL * wide * len(bands):
                break
        return bands if rows else []


def _layout(
    rows: Mapping[Any, str],
    columns: Mapping[Any, str],
    present: set[tuple[Any, Any]],
    panel: tuple[float, float],
    gap: tuple[float, float],
    headed: bool,
) -> tuple[Layout, list[Any]]:
    """The lines of `grid`, and the columns that head a whole band: none where each panel has a heading."""
    kept = {row: [c for c in columns if (row, c) in present] for row in rows}
    kept = {row: found for row, found in kept.items() if found}
    used = [c for c in columns if any(c in found for found in kept.values())]
    sparse = sum(map(len, kept.values())) < SPARSE * len(kept) * len(used)
    if headed or not (sparse and all(rows[row] for row in kept)):
        lines = [Line(row, rows[row], tuple(c if c in found else None for c in used)) for row, found in kept.items()]
        return Layout(lines, panel, gap, 0.0, gap[1] if headed else 0.14), used
    # What a row has more than there are places goes below, under its heading again. Least room wins; a line below
    # another counts twice.
    many = Counter(map(len, kept.values()))
    needed = {most: sum(many[count] * (2 * -(-count // most) - 1) for count in many) for most in many}
    places = min(many, key=lambda most: (needed[most] * most, most))
    lines = [
        Line(row, rows[row] + CONTINUED * (start > 0), tuple(found[start : start + places]), start > 0)
        for row, found in kept.items()
        for start in range(0, len(found), places)
    ]
    return Layout(lines, panel, gap, max(lines_high(columns[c]) for c in used) + 0.04, gap[1] - 0.17), []


def grid(
    title: str,
    note: str,
    rows: Mapping[Any, str],
    columns: Mapping[Any, str],
    present: Iterable[tuple[Any, Any]],
    *,
    panel: tuple[float, float] = (1.6, 1.2),
    legend: Sequence[Any] = (),
    left: float = 0.62,
    gap: tuple[float, float] = (0.25, 0.5),
    right: float = 0.2,
    bottom: float = 0.5,
    xlabel: str = "",
    least: float = 6.4,
    headings: Mapping[tuple[Any, Any], str] | None = None,
) -> Grid:
    """A page of panels: title and note, legend, column headings, and each row under its own heading.

    Where less than `SPARSE` of rows x columns is there, a row's panels move together, each under the heading of its
    column. A page higher than `TALL` times its width goes on in further bands of rows beside the first.

    Parameters
    ----------
    title, note : str
        The page's title and the sentences under it; both are wrapped.
    rows, columns : mapping
        Keys and headings, in order.
    present : iterable of (row, column)
        The panels to make. The others' places stay empty, and rows or columns without any take no room.
    panel : (float, float)
        Width and height of a panel in inches.
    legend : sequence of legend handles
        Shown in one or more lines between the note and the panels, outside the data.
    left, right, bottom : float
        Margins in inches, for the labels of axes.
    gap : (float, float)
        Room between panels in inches: between columns, and above each row (for its heading and the labels of ticks).
    xlabel : str
        One label for all horizontal axes of a band, at the foot of the page.
    least : float
        Least width of the page in inches.
    headings : mapping of (row, column) to str, optional
        A heading for each panel, where rows and columns have none.
    """
    layout, heads = _layout(rows, columns, set(present), panel, gap, headings is not None)
    longest = max((len(line.heading) for line in layout.lines), default=0) * 0.53 * BOLD / 72
    wide = max(left + layout.inner + right, min(0.2 + longest, least))
    bands = layout.bands(wide)
    width = max(wide * len(bands), least)
    usable = width - 0.2
    title, note = wrapped(title, usable, 13.5), wrapped(note, usable, 8)  # bold is wider
    top = 0.12
    title_top, top = top, top + lines_high(title, 11.5) + 0.05
    note_top, top = top, top + (lines_high(note, 8) + 0.1 if note else 0.0)
    legend_rows = legend_lines(legend, usable)
    legend_top, top = top, top + 0.18 * len(legend_rows) + 0.04
    heading_base = top + max((lines_high(columns[c], 8) for c in heads if columns[c]), default=0.0)
    top = heading_base + 0.02
    height = top + max((layout.tops(band)[-1] for band in bands), default=0.0) + bottom
    figure = page(width, height)
    write(figure, 0.1, title_top, title, size=11.5, weight="bold")
    write(figure, 0.1, note_top, note, color=GREY)
    draw_legend(figure, legend_rows, 0.1, legend_top)
    axes: dict[tuple[Any, Any], Axes] = {}
    for number, band in enumerate(bands):
        edge = number * wide
        for line, down in zip(band, layout.tops(band)[:-1], strict=True):
            heading = shortened(line.heading, max(wide, width / len(bands)) - 0.15, BOLD)
            write(figure, edge + 0.1, top + down - layout.own - 0.07, heading, weight="bold", va="bottom")
            for j, column in enumerate(line.columns):
                if column is None:
                    continue
                at = edge + left + j * (panel[0] + gap[0])
                axes[line.row, column] = place(figure, at, top + down, *panel)
                if headings:
                    own = shortened(headings[line.row, column], panel[0], BOLD)
                    write(figure, at, top + down - 0.07, own, weight="bold", va="bottom")
                elif layout.own:
                    own = shortened(columns[column], panel[0] + 0.5 * gap[0], 8)
                    write(figure, at + panel[0] / 2, top + down - 0.05, own, ha="center", va="bottom")
        for j, column in enumerate(heads):
            middle = edge + left + j * (panel[0] + gap[0]) + panel[0] / 2
            write(figure, middle, heading_base, columns[column], ha="center", va="bottom")
        if xlabel:
            write(figure, edge + left + layout.inner / 2, height - 0.08, xlabel, ha="center", va="bottom")
    leftmost = {(line.row, next(c for c in line.columns if c is not None)) for band in bands for line in band}
    return Grid(figure, axes, frozenset(leftmost))


def legend_lines(handles: Sequence[Any], width: float) -> list[list[Any]]:
    """Legend handles broken into lines that fit `width` inches."""
    lines: list[list[Any]] = []
    used = 0.0
    for handle in handles:
        need = 0.52 + len(handle.get_label()) * 8 * 0.58 / 72
        if not lines or used + need > width:
            lines.append([])
            used = 0.0
        lines[-1].append(handle)
        used += need
    return lines


def draw_legend(figure: Figure, lines: Sequence[Sequence[Any]], left: float, top: float) -> None:
    """Lines of a legend, from `left`, `top` inches downwards."""
    width, height = figure.get_size_inches()
    for i, handles in enumerate(lines):
        figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(left / width, 1 - (top + 0.18 * i) / height),
            bbox_transform=figure.transFigure,
            ncols=len(handles),
            borderpad=0,
            borderaxespad=0,
            handletextpad=0.5,
            columnspacing=1.4,
            handlelength=2.2,
        )


# Drawing that several figures share -----------------------------------------------------------------------------------


# Saving ---------------------------------------------------------------------------------------------------------------
