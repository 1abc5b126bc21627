"""Draw grids of panels below a head with title, note and legend; saving enlarges the page to include the head."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from halobench.reporting.plotting.style import GREY, INK

LETTER = 0.53  # average ratio of a letter's width to its font size
LEAST = 6.4  # width of the head, in inches
TALLER = 1.5  # times as high, at most, as panels of few columns that are widened to the head's width
SPARSE = 0.8  # if a smaller share of a grid's places has panels, they are laid out one after another, like words
WIDEST = 14.0  # width of a page's panels, in inches; beyond it, 7-point text is under 8 px on a page of 1,280 px
TALL = 1.7  # a page's height over its width; on taller pages, rows continue to the right

Key = Any  # a panel's key, usually its row and column
Page = tuple[Figure, dict[Key, Axes]]


@dataclass(frozen=True)
class PageText:
    """The text around panels. `xlabel` appears once, and `ylabel` once per line; if `shared`, tick labels do too."""

    title: str
    note: str
    legend: Sequence[Line2D] = ()
    xlabel: str = ""
    ylabel: str = ""
    shared: bool = False


def draw_grid(
    text: PageText,
    rows: Mapping[Any, str],
    columns: Mapping[Any, str],
    present: Iterable[Key],
    size: tuple[float, float] = (1.85, 1.7),
) -> Page:
    """Return a page of empty panels by (row, column), with a heading above each row and each column.

    If less than `SPARSE` of the places have panels, or the columns are wider than `WIDEST`, each panel gets its own
    heading, as in `draw_panels`.
    """
    filled = set(present)
    keys = [key for key in itertools.product(rows, columns) if key in filled]
    down = list(dict.fromkeys(row for row, _ in keys))
    used = {column for _, column in keys}
    across = [column for column in columns if column in used]
    room = int(WIDEST / size[0])  # panels side by side
    if len(keys) < SPARSE * len(down) * len(across) or len(across) > room:
        return draw_panels(text, {key: f"{rows[key[0]]}\n{columns[key[1]]}" for key in keys}, size)
    most = min(len(down), room // max(len(across), 1))
    height = {bands: math.ceil(len(down) / bands) for bands in range(1, most + 1)}
    shape = TALL * len(across) * size[0] / size[1]
    deep = next((high for bands, high in height.items() if high <= shape * bands), height.get(most, 1))
    padded = [*down, *[None] * (-len(down) % deep)]
    lines = [[(row, column) for row in padded[i::deep] for column in across] for i in range(deep if down else 0)]
    figure, axes = _page(text, [[key if key in filled else None for key in line] for line in lines], size)
    blank = "\n" if any(rows.values()) else ""  # the line for row headings
    for line in lines:
        for row in {key[0]: None for key in line if key in filled}:
            first = next(key for key in line if key[0] == row and key in filled)
            axes[first].set_title(rows[row], loc="left", weight="bold")
    for start, column in itertools.product(range(0, len(down), deep), across):
        top = next(((row, column) for row in down[start : start + deep] if (row, column) in filled), None)
        if top:
            axes[top].set_title(columns[column] + blank)
    return figure, axes


def draw_panels(text: PageText, headings: Mapping[Any, str], size: tuple[float, float]) -> Page:
    """Return a page of empty panels by key, laid out line by line, each under its heading."""
    keys: list[Key | None] = list(headings)
    wide = max(math.ceil(math.sqrt(len(keys) * size[1] / size[0] / 1.2)), 1)
    # Use one more column if this leaves fewer places empty.
    across = min(min(wide, wide + 1, key=lambda count: -len(keys) % count), max(int(WIDEST / size[0]), 1))
    keys += [None] * (-len(keys) % across)
    figure, axes = _page(text, [keys[i : i + across] for i in range(0, len(keys), across)], size)
    for key, heading in headings.items():
        axes[key].set_title(wrapped(heading, 0.95 * size[0]), loc="left")
    return figure, axes


def _page(text: PageText, lines: Sequence[Sequence[Key | None]], size: tuple[float, float]) -> Page:
    """Return a page with panels in lines of equal length; None leaves a place empty."""
    keys = [key for line in lines for key in line if key]
    width, height = max(map(len, lines), default=3) * size[0], max(len(lines), 0.1) * size[1]
    figure = blank_figure(max(width, LEAST), height * min(max(LEAST / width, 1), TALLER))
    number = {key: i for i, key in enumerate(keys)}
    places: list[Any] = [[number.get(key, -1) if key else -1 for key in line] for line in lines]
    subplots = figure.subplot_mosaic(places, empty_sentinel=-1) if keys else {}
    axes = {key: subplots[i] for key, i in number.items()}
    if text.xlabel and keys:
        figure.supxlabel(text.xlabel, size=8)
    add_head(figure, text.title, text.note, text.legend)
    for line in lines:
        first, *others = [axes[key] for key in line if key]
        first.set_ylabel(text.ylabel)
        for ax in others if text.shared else ():
            ax.tick_params(axis="y", which="both", labelleft=False)
    return figure, axes


def empty_page(title: str, why: str) -> Figure:
    """Return a page that says why there is nothing to draw."""
    return draw_grid(PageText(title, why), {}, {}, ())[0]


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, without pyplot's global state or windows."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.05))
    FigureCanvasAgg(figure)
    return figure


def add_head(figure: Figure, title: str, note: str = "", legend: Sequence[Line2D] = (), least: float = LEAST) -> None:
    """Stack legend, note and title above a figure's area, at least `least` inches wide."""
    wide, high = figure.get_size_inches()
    width, gap = max(wide, least), 0.06 / high
    top = 1 + 2 * gap
    look: dict[str, Any] = {"va": "bottom", "parse_math": False}
    if legend:
        box = add_legend(figure, legend, width, loc="lower left", bbox_to_anchor=(0, top)).get_window_extent()
        top += gap + box.height / figure.bbox.height
    if note:
        text = figure.text(0, top, wrapped(note, width), color=GREY, **look)
        top += gap + text.get_window_extent().height / figure.bbox.height
    figure.text(0, top, wrapped(title, width, 13.5), size=11.5, weight="bold", color=INK, **look)


def add_legend(figure: Figure | SubFigure, handles: Sequence[Line2D], width: float, **place: Any) -> Legend:
    """Draw a legend in as few lines as `width` inches allow; `place` is passed to matplotlib."""
    look: dict[str, Any] = {"borderpad": 0, "borderaxespad": 0, "handletextpad": 0.5, "columnspacing": 1.4}
    for columns in range(max(len(handles), 1), 0, -1):
        legend = figure.legend(handles=list(handles), ncols=columns, handlelength=2.2, **look, **place)
        if columns == 1 or legend.get_window_extent().width <= width * figure.dpi:
            break
        legend.remove()
    return legend


def wrapped(text: str, width: float, size: float = 8) -> str:
    """Wrap `text`, printed at `size` points, to lines of at most about `width` inches."""
    letters = max(8, int(width * 72 / (LETTER * size)))
    return "\n".join("\n".join(textwrap.wrap(line, letters)) for line in text.split("\n"))
