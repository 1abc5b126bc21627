"""What all figures share: the look, grids of panels, drawing in them, and saving.

Sizes are in inches and points, as printed. Panels have fixed sizes and the page grows with their number, so that a grid
of one cell and one of forty are both readable. Figures are built without pyplot: no global state, no open windows.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedFormatter, FixedLocator
from matplotlib.transforms import IdentityTransform

from halobench.reporting.labels import FEW, PROBES, Style, loss_label, ordered
from halobench.storage import files

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "svg.hashsalt": "halobench",
}
WARNING = "#b3261e"  # of notes that a reader must not miss
DPI = 150
PIXELS = 48e6  # most of a picture: browsers show it, and it takes 200 MB of memory
PNG = {"compress_level": 3}  # two thirds of the default's time, for a sixth more bytes
INK, GREY, FAINT = "#222222", "#777777", "#bbbbbb"
BAND = 0.18
SPARSE = 0.6  # share of a grid's places that hold a panel, below which rows are packed
TALL = 1.5  # height of what is under a page's head over its width, above which rows go on beside the first ones
BOLD = 9  # points that bold type of 8 is as wide as
CONTINUED = " (continued)"


# Pages and panels -----------------------------------------------------------------------------------------------------


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run `draw` under the theme's settings, leaving matplotlib's own as they were."""

    @functools.wraps(draw)
    def inner(*tables: Any, **options: Any) -> Figure:
        with mpl.rc_context(RC):
            return draw(*tables, **options)

    return inner


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Let Python not look for garbage: a page's thousands of artists, which refer to each other, all stay to its end.

    Each look would go through all that there are, a seventh of a large page's time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


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


def key(label: str, color: str = INK, **options: Any) -> Line2D:
    """A legend entry: a line, a marker, or both."""
    return Line2D([], [], color=color, label=label, **options)


def loss_keys(losses: Iterable[str], styles: Mapping[str, Style], **options: Any) -> list[Line2D]:
    """Legend entries of losses: their colour, marker and (unless given) a solid line."""
    return [key(loss_label(x), styles[x].color, marker=styles[x].marker, **options) for x in losses]


def dodge(count: int, spread: float) -> np.ndarray:
    """Offsets of `count` items side by side, `spread` wide in all, centred on 0."""
    return (np.arange(count) - (count - 1) / 2) * (spread / max(count, 1))


def nothing(title: str, why: str) -> Figure:
    """A page that says that there is nothing to draw, and why."""
    return grid(title, why, {}, {}, ()).figure


# Drawing that several figures share -----------------------------------------------------------------------------------


class _Line(Line2D):
    """A line that is clipped to its axes' box itself, where matplotlib makes another box of the same size for each."""

    def set_clip_path(self, path: Any, transform: Any = None) -> None:
        if self.axes is not None and path is self.axes.patch:
            self.set_clip_box(self.axes.bbox)
        else:
            super().set_clip_path(path, transform)


def add_line(ax: Axes, x: Any, y: Any, **look: Any) -> Line2D:
    """A line through points, as `Axes.plot` draws it, but that limits of axes are left as they are."""
    line = _Line(np.asarray(x, dtype=float), np.asarray(y, dtype=float), **look)
    ax.add_artist(line)
    return line


def upright(ax: Axes, x: float, **look: Any) -> None:
    """A line all the way up at `x`, as `Axes.axvline` draws it."""
    ax.add_artist(Line2D([x, x], [0, 1], transform=ax.get_xaxis_transform(), **look))


def add_bands(ax: Axes, bands: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], colors: Sequence[Any]) -> None:
    """Fill between two lines (x, low, high), wherever both are finite: all of a panel's bands as one artist."""
    corners, faces = [], []
    for (x, low, high), color in zip(bands, colors, strict=True):
        known = np.isfinite(low) & np.isfinite(high)
        edges = np.flatnonzero(np.diff(np.r_[False, known, False])).reshape(-1, 2)
        corners += [np.r_[np.c_[x[i:j], low[i:j]], np.c_[x[i:j], high[i:j]][::-1]] for i, j in edges]
        faces += [color] * len(edges)
    if corners:
        ax.add_artist(PolyCollection(corners, facecolors=faces, alpha=BAND, lw=0, zorder=2))
        ax.update_datalim(np.concatenate(corners))


def add_marks(
    ax: Axes, x: np.ndarray, y: np.ndarray, marker: str, size: float, colors: Sequence[Any], **look: Any
) -> None:
    """Marks of one shape without a face, each in its colour, `size` points high, as one artist."""
    if len(x):
        shape = MarkerStyle(marker)
        outline = shape.get_path().transformed(shape.get_transform())
        offsets = {"offsets": np.column_stack([x, y]), "offset_transform": ax.transData}
        marks = PathCollection([outline], [size**2], facecolors="none", edgecolors=colors, **offsets, **look)
        marks.set_transform(IdentityTransform())
        ax.add_artist(marks)


def add_segments(ax: Axes, segments: Any, colors: Sequence[Any], **look: Any) -> None:
    """Lines, each from one point to another and in its colour, as one artist."""
    if len(segments):
        ax.add_artist(LineCollection(segments, colors=colors, capstyle="projecting", **look))


def groups_of(table: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The rows of each combination of some columns, in their order."""
    return {key: rows for key, rows in table.groupby(list(keys), sort=False)}


def draw_lines(
    ax: Axes,
    means: pd.DataFrame,
    x: str,
    losses: Sequence[str],
    styles: Mapping[str, Style],
    size: float = 2.6,
    dash: Any = "-",
) -> None:
    """One line a loss from the rows of `over_seeds`: training points by `dash` with a band, held-out dashed."""
    means = means.sort_values(x, kind="stable")
    columns = {name: means[name].to_numpy() for name in (x, "mean", "low", "high")}
    of = {name: means[name].to_numpy(dtype=object) for name in ("loss", "points")}
    found = {}
    for loss, points in itertools.product(losses, ("heldout", "train")):
        rows = np.flatnonzero((of["loss"] == loss) & (of["points"] == points))
        if len(rows):
            found[loss, points] = [values[rows] for values in columns.values()]
    bands = {loss: (at, low, high) for (loss, points), (at, _, low, high) in found.items() if points == "train"}
    add_bands(ax, list(bands.values()), [styles[loss].color for loss in bands])
    for (loss, points), (at, mean, *_) in found.items():
        color, marker = styles[loss].color, styles[loss].marker
        if points == "heldout":
            add_line(ax, at, mean, color=color, lw=0.9, ls=(0, (3, 2)), zorder=2)
        else:
            add_line(ax, at, mean, color=color, ls=dash, marker=marker, ms=size, mew=0, zorder=3)
    if found:
        ax.update_datalim(np.concatenate([np.column_stack(columns[:2]) for columns in found.values()]))
    ax.autoscale_view()


def relative_rows(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """The rows of the relative grid, with those at the point itself (distance 0 on either scale) as its start."""
    at_point = neighbourhood["radius"] == 0
    relative = neighbourhood["relative_radius"].mask(at_point & neighbourhood["relative_radius"].isna(), 0.0)
    return neighbourhood.assign(relative_radius=relative).dropna(subset=["relative_radius", "confidence"])


def absolute_rows(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """The rows at distances in normalised pixels of one probe: in random directions, or the first there is."""
    table = neighbourhood.dropna(subset=["radius", "confidence"])
    return table[table["probe"] == ordered(table["probe"], PROBES)[0]] if len(table) else table


def preferred_labels(table: pd.DataFrame, order: Sequence[str] = ("noisy", "drawn", "clean")) -> pd.DataFrame:
    """The test rows against one kind of labels for each data set: the first of `order` that it has."""
    table = table[table["split"] == "test"]
    kept = []
    for _, rows in table.groupby("dataset", sort=False):
        kinds = set(rows["labels"].unique())
        kept.append(rows[rows["labels"] == next((k for k in order if k in kinds), None)])
    return pd.concat(kept) if kept else table


def pooled_bins(reliability: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Bins pooled over the rows that share `by`: counts add up, means are weighted by count, empty bins are dropped."""
    table = reliability[reliability["count"] > 0]
    sums = table.assign(confidence=table["confidence"] * table["count"], accuracy=table["accuracy"] * table["count"])
    groups = sums.groupby([*by, "bin"], sort=True)
    pooled = groups[["count", "confidence", "accuracy"]].sum()
    pooled[["lower", "upper"]] = groups[["lower", "upper"]].first()
    for column in ("confidence", "accuracy"):
        pooled[column] /= pooled["count"]
    return pooled.reset_index()


def noise_caps(reliability: pd.DataFrame) -> str:
    """A sentence on how accurate any answer can be under label noise, where bins are scored in expectation of it."""
    against = reliability.loc[reliability["labels"] == "noisy", "dataset"].drop_duplicates()
    found = against.str.extract(r"-noise(\d+)$")[0].dropna().astype(int).sort_values().unique()
    # Beyond one half the label that replaces the true one may be the likelier.
    caps = [f"{1 - p / 100:.2g} under {p}% label noise" for p in found if 0 < p <= 50]
    return f"No answer is more accurate than {', '.join(caps)}. " if caps else ""


def draw_reliability(
    ax: Axes,
    bars: Axes | None,
    pooled: pd.DataFrame,
    styles: Mapping[str, Style],
    size: float = 3,
    by: str = "calibrator",
) -> None:
    """Accuracy against confidence over the diagonal, a line for each of `styles`; in `bars` the points a bin.

    Parameters
    ----------
    by : str
        The column that tells lines apart.
    """
    add_line(ax, [0, 1], [0, 1], color=FAINT, lw=0.8, zorder=1)
    columns = {name: pooled[name].to_numpy() for name in ("confidence", "accuracy", "count", "lower", "upper")}
    of = pooled[by].to_numpy(dtype=object)
    found = {name: {column: values[of == name] for column, values in columns.items()} for name in styles}
    for name, style in styles.items():
        line = found[name]
        confidence, accuracy, few = line["confidence"], line["accuracy"], line["count"] < FEW
        if not len(few):
            continue
        look = {"color": style.color, "marker": style.marker, "mew": 0, "ls": "", "zorder": 3}
        # Where TS changes little, the line without it lies beneath: its larger marks still show.
        size_here = size + (name == "none")
        # Few points say little: their bins are drawn faint, and no line leads the eye there.
        known = np.where(few, np.nan, accuracy)
        add_line(ax, confidence, known, color=style.color, ls=style.dash, lw=1, zorder=2)
        add_line(ax, confidence[~few], accuracy[~few], ms=size_here, **look)
        if few.any():
            add_line(ax, confidence[few], accuracy[few], ms=size_here - 0.6, alpha=0.3, **look)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
    for axis in (ax.xaxis, ax.yaxis):
        set_ticks(axis, (0, 0.5, 1))
    if bars is None:
        return
    for i, (name, style) in enumerate(styles.items()):
        line = found[name]
        width = (line["upper"] - line["lower"]) / (len(styles) + 0.5)
        middle = (line["upper"] + line["lower"]) / 2 + (i - (len(styles) - 1) / 2) * width
        if len(middle):
            bars.add_artist(bars_of(middle, width, line["count"], color=style.color, lw=0))
    bars.set_xlim(-0.02, 1.02)
    set_ticks(bars.xaxis, (0, 0.5, 1))


def bars_of(middle: np.ndarray, width: np.ndarray, height: np.ndarray, **look: Any) -> PathPatch:
    """Bars (n,) from 0 up, as one artist: five vertices each."""
    left, right, foot = middle - width / 2, middle + width / 2, np.zeros(len(middle))
    corners = np.stack([left, foot, right, foot, right, height, left, height, left, foot], axis=1).reshape(-1, 2)
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY] * len(middle)
    return PathPatch(Outline(corners, codes), **look)


# Saving ---------------------------------------------------------------------------------------------------------------


def add_note(figure: Figure, text: str) -> None:
    """Print a note in a figure's upper right corner, in the colour of a warning."""
    figure.text(0.996, 0.996, text, ha="right", va="top", color=WARNING, fontsize=9, fontweight="bold")


def resolution(figure: Figure) -> float:
    """Dots per inch of a figure's picture."""
    width, height = figure.get_size_inches()
    return min(DPI, (PIXELS / (width * height)) ** 0.5)


def save(figure: Figure, stem: Path | str) -> tuple[Path, Path]:
    """Write `stem`.pdf and `stem`.png, each whole or not at all; the same figure gives the same bytes.

    The picture has 150 dpi, a very large one as many as `PIXELS` allow; the PDF can be enlarged at will.

    Returns
    -------
    pdf, png : Path
        Where they were written.
    """
    pdf, png = (Path(f"{stem}.{suffix}") for suffix in ("pdf", "png"))
    # Dates and versions would change the bytes without changing the picture.
    blank = {"Creator": None, "Producer": None, "CreationDate": None, "ModDate": None}
    with mpl.rc_context(RC):
        with files.replacing(pdf) as temporary:
            figure.savefig(temporary, format="pdf", metadata=blank)
        with files.replacing(png) as temporary:
            figure.savefig(temporary, format="png", dpi=resolution(figure), metadata={"Software": None}, pil_kwargs=PNG)
    return pdf, png
