"""Draw a grid of panels under a title, a note and a legend.

Panels have fixed sizes and the page grows with their number, so that a grid of one cell and one of forty are both
readable. If few of the grid's places hold a panel, the panels of each row move together; if the page would be too high,
its rows continue in a further band to the right.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from halobench.reporting.plotting.page_layout import (
    LEGEND_LINE,
    LETTER,
    blank_figure,
    draw_legend,
    legend_lines,
    lines_high,
    place,
    shortened,
    wrapped,
    write,
)
from halobench.reporting.plotting.style import GREY

CONTINUED = " (continued)"
SPARSE = 0.6  # share of a grid's places that hold a panel, below which the panels of a row move together
TALL = 1.5  # height of the panels over the page's width, above which rows continue in a further band
BOLD = 9  # points of plain type that is as wide as bold type of 8

Key = tuple[Any, Any]  # of a panel: its row and its column


@dataclass(frozen=True)
class PageText:
    """The text around the panels of a page.

    Attributes
    ----------
    title, note : str
        The page's title and the sentences under it; both are wrapped.
    legend : sequence of Line2D
        Legend handles, shown in one or more lines between the note and the panels.
    xlabel : str
        One label for all horizontal axes of a band, at the foot of the page.
    """

    title: str
    note: str
    legend: Sequence[Line2D] = ()
    xlabel: str = ""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a grid in inches.

    Attributes
    ----------
    panel : (float, float)
        Width and height of a panel.
    gap : (float, float)
        Room between columns, and above each row (for its heading and the labels of ticks).
    left, right, bottom : float
        Margins, for the labels of axes.
    least : float
        Least width of the page.
    """

    panel: tuple[float, float] = (1.6, 1.2)
    gap: tuple[float, float] = (0.25, 0.5)
    left: float = 0.62
    right: float = 0.2
    bottom: float = 0.5
    least: float = 6.4


@dataclass
class Grid:
    """The panels of a figure: `axes` by (row, column), of those that have something to show."""

    figure: Figure
    axes: dict[Key, Axes]
    leftmost: frozenset[Key]

    def left(self, row: Any, column: Any) -> bool:
        """Return whether this panel is the first of its line."""
        return (row, column) in self.leftmost


def draw_grid(
    text: PageText,
    rows: Mapping[Any, str],
    columns: Mapping[Any, str],
    present: Iterable[Key],
    sizes: Sizes | None = None,
    headings: Mapping[Key, str] | None = None,
) -> Grid:
    """Draw a page of empty panels: title and note, legend, column headings, and each row under its own heading.

    If less than `SPARSE` of rows x columns is present, a row's panels move together, each under the heading of its
    column. A page higher than `TALL` times its width continues in further bands of rows to the right of the first.

    Parameters
    ----------
    text : PageText
    rows, columns : mapping
        Keys and headings, in order.
    present : iterable of (row, column)
        The panels to make. Other places stay empty, and rows or columns without a panel take no room.
    sizes : Sizes, optional
    headings : mapping of (row, column) to str, optional
        A heading for each panel, if rows and columns have none.
    """
    sizes = sizes or Sizes()
    arrangement = _arrange(rows, columns, set(present), sizes, headings is not None)
    band_width = arrangement.band_width()
    bands = arrangement.bands(band_width)
    width = max(band_width * len(bands), sizes.least)
    head = _Head.of(text, width - 0.2, [columns[column] for column in arrangement.heads])
    height = head.bottom + max((arrangement.tops(band)[-1] for band in bands), default=0.0) + sizes.bottom
    figure = blank_figure(width, height)
    head.draw(figure)
    heading_width = max(band_width, width / len(bands)) - 0.15 if bands else 0.0
    painter = _Painter(figure, arrangement, columns, headings, head, heading_width)
    axes: dict[Key, Axes] = {}
    for number, band in enumerate(bands):
        axes |= painter.draw_band(band, number * band_width, text.xlabel)
    leftmost = {(line.row, next(c for c in line.columns if c is not None)) for band in bands for line in band}
    return Grid(figure, axes, frozenset(leftmost))


def empty_page(title: str, why: str) -> Figure:
    """Return a page that says that there is nothing to draw, and why."""
    return draw_grid(PageText(title, why), {}, {}, ()).figure


# Where panels go ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """Panels side by side: their row and its heading, and each place's column, or None for an empty place."""

    row: Any
    heading: str
    columns: tuple[Any, ...]
    continued: bool = False  # whether the row began in the line above


@dataclass(frozen=True)
class _Arrangement:
    """Lines of panels in inches.

    Attributes
    ----------
    lines : list of _Line
    heads : list
        The columns that head a whole band; empty if each panel has a heading.
    panel_heading : float
        Height of the heading over each panel, 0 if there is none.
    slit : float
        Room above a line without a heading.
    """

    lines: list[_Line]
    heads: list[Any]
    sizes: Sizes
    panel_heading: float
    slit: float

    @property
    def inner_width(self) -> float:
        """The distance from the left edge of a line's first panel to the right edge of its last."""
        places = max((len(line.columns) for line in self.lines), default=0)
        return places * self.sizes.panel[0] + max(places - 1, 0) * self.sizes.gap[0]

    def band_width(self) -> float:
        """Return the width of a band: of its panels, or of the longest heading if that is wider."""
        longest = max((len(line.heading) for line in self.lines), default=0) * LETTER * BOLD / 72
        return max(self.sizes.left + self.inner_width + self.sizes.right, min(0.2 + longest, self.sizes.least))

    def tops(self, band: Sequence[_Line]) -> list[float]:
        """Return how far down in a band each line's panels begin, and where the band ends.

        The first row needs room for its heading alone, a row without a heading (the lower half of a pair) just a slit.
        """
        down, tops = 0.0, []
        for i, line in enumerate(band):
            above = (self.sizes.gap[1] if i else 0.27) if line.heading else self.slit
            tops.append(down + above + self.panel_heading)
            down = tops[-1] + self.sizes.panel[1]
        return [*tops, down]

    def bands(self, width: float) -> list[list[_Line]]:
        """Return the lines in the fewest bands, each `width` wide, that keep a page from being `TALL`.

        A row stays in one band.
        """
        starts = [i for i, line in enumerate(self.lines) if (line.heading and not line.continued) or not i]
        rows = [self.lines[i:j] for i, j in itertools.pairwise([*starts, len(self.lines)])]
        for count in range(1, len(rows) + 1):
            share = len(self.lines) / count
            bands: list[list[_Line]] = [[] for _ in range(count)]
            for row, start in zip(rows, starts, strict=True):
                bands[int((start + len(row) / 2) / share)].extend(row)
            bands = [band for band in bands if band]
            if max(self.tops(band)[-1] for band in bands) <= TALL * width * len(bands):
                break
        return bands if rows else []


def _arrange(
    rows: Mapping[Any, str], columns: Mapping[Any, str], present: set[Key], sizes: Sizes, headed: bool
) -> _Arrangement:
    """Arrange panels in lines; `headed` says that each panel has a heading of its own already."""
    kept = {row: [column for column in columns if (row, column) in present] for row in rows}
    kept = {row: filled for row, filled in kept.items() if filled}
    used = [column for column in columns if any(column in filled for filled in kept.values())]
    sparse = sum(map(len, kept.values())) < SPARSE * len(kept) * len(used)
    if sparse and not headed and all(rows[row] for row in kept):
        panel_heading = max(lines_high(columns[column]) for column in used) + 0.04
        return _Arrangement(list(_packed(kept, rows)), [], sizes, panel_heading, sizes.gap[1] - 0.17)
    lines = [_Line(row, rows[row], tuple(c if c in filled else None for c in used)) for row, filled in kept.items()]
    return _Arrangement(lines, used, sizes, 0.0, sizes.gap[1] if headed else 0.14)


def _packed(kept: Mapping[Any, Sequence[Any]], headings: Mapping[Any, str]) -> Iterator[_Line]:
    """Yield lines in which the panels of a row move together.

    Panels that exceed a line's places go below, under the row's heading again. The number of places is that which
    takes the least room; a line below another counts twice.
    """
    many = Counter(map(len, kept.values()))
    needed = {most: sum(many[count] * (2 * -(-count // most) - 1) for count in many) for most in many}
    places = min(many, key=lambda most: (needed[most] * most, most))
    for row, columns in kept.items():
        for start in range(0, len(columns), places):
            heading = headings[row] + CONTINUED * (start > 0)
            yield _Line(row, heading, tuple(columns[start : start + places]), start > 0)


# Drawing --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    """The head of a page, with the place of each part in inches from the page's top."""

    title: str
    title_top: float
    note: str
    note_top: float
    legend: list[list[Line2D]]
    legend_top: float
    headings_base: float  # the lower edge of the headings of columns
    bottom: float

    @classmethod
    def of(cls, text: PageText, width: float, headings: Iterable[str]) -> _Head:
        """Wrap a page's text to `width` inches and stack its parts, with room for the headings of columns."""
        title, note = wrapped(text.title, width, 13.5), wrapped(text.note, width, 8)  # bold is wider
        title_top = 0.12
        note_top = title_top + lines_high(title, 11.5) + 0.05
        legend_top = note_top + (lines_high(note, 8) + 0.1 if note else 0.0)
        legend = legend_lines(text.legend, width)
        legend_bottom = legend_top + LEGEND_LINE * len(legend) + 0.04
        headings_base = legend_bottom + max((lines_high(heading, 8) for heading in headings if heading), default=0.0)
        return cls(title, title_top, note, note_top, legend, legend_top, headings_base, headings_base + 0.02)

    def draw(self, figure: Figure) -> None:
        write(figure, 0.1, self.title_top, self.title, size=11.5, weight="bold")
        write(figure, 0.1, self.note_top, self.note, color=GREY)
        draw_legend(figure, self.legend, 0.1, self.legend_top)


@dataclass(frozen=True)
class _Painter:
    """Draws bands of panels and their headings below the head of a page."""

    figure: Figure
    arrangement: _Arrangement
    columns: Mapping[Any, str]
    headings: Mapping[Key, str] | None
    head: _Head
    heading_width: float  # room for the heading of a row

    def draw_band(self, band: Sequence[_Line], edge: float, xlabel: str) -> dict[Key, Axes]:
        """Draw a band whose left edge is `edge` inches from the page's; return its panels."""
        arrangement, sizes, axes = self.arrangement, self.arrangement.sizes, {}
        for line, down in zip(band, arrangement.tops(band)[:-1], strict=True):
            top = self.head.bottom + down
            heading = shortened(line.heading, self.heading_width, BOLD)
            heading_top = top - arrangement.panel_heading - 0.07
            write(self.figure, edge + 0.1, heading_top, heading, weight="bold", va="bottom")
            for j, column in enumerate(line.columns):
                if column is not None:
                    left = self._left(edge, j)
                    axes[line.row, column] = place(self.figure, left, top, *sizes.panel)
                    self._write_panel_heading((line.row, column), left, top)
        for j, column in enumerate(arrangement.heads):
            middle = self._left(edge, j) + sizes.panel[0] / 2
            write(self.figure, middle, self.head.headings_base, self.columns[column], ha="center", va="bottom")
        if xlabel:
            middle = edge + sizes.left + arrangement.inner_width / 2
            foot = self.figure.get_size_inches()[1] - 0.08
            write(self.figure, middle, foot, xlabel, ha="center", va="bottom")
        return axes

    def _left(self, edge: float, number: int) -> float:
        """Return the left edge of a band's column, in inches."""
        sizes = self.arrangement.sizes
        return edge + sizes.left + number * (sizes.panel[0] + sizes.gap[0])

    def _write_panel_heading(self, key: Key, left: float, top: float) -> None:
        """Write the heading of a panel, if it has one of its own."""
        sizes = self.arrangement.sizes
        if self.headings:
            heading = shortened(self.headings[key], sizes.panel[0], BOLD)
            write(self.figure, left, top - 0.07, heading, weight="bold", va="bottom")
        elif self.arrangement.panel_heading:
            heading = shortened(self.columns[key[1]], sizes.panel[0] + 0.5 * sizes.gap[0], 8)
            write(self.figure, left + sizes.panel[0] / 2, top - 0.05, heading, ha="center", va="bottom")
