"""Axes that are drawn quickly: a page may hold thousands of panels, and their ticks are most of the work.

matplotlib makes of each tick five artists, placed and drawn one by one. A panel draws the same look with a path for all
its grid lines, one for each side's ticks and one for its spines. What it doesn't know (own looks, scales other than
linear and logarithmic) it leaves to matplotlib.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick, XAxis, YAxis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import IdentityTransform

# What `tick_params` may have changed for the quick way to know it; the values of the rest are the theme's.
KNOWN = {"left", "right", "labelleft", "labelright", "bottom", "top", "labelbottom", "labeltop", "gridOn", "length"}
BELOW = 0.5  # where matplotlib draws an axis that is below the data


LOOK = ("axes.", "font.", "grid.", "lines.", "text.", "xtick.", "ytick.")
_looks: WeakKeyDictionary[Figure, dict[str, Any]] = WeakKeyDictionary()  # settings when a figure's first panel was made


class _Sparing:
    """An axis that makes no tick before somebody asks for one: `Axes` would make four of each panel to set them up."""

    @contextlib.contextmanager
    def _unmade(self) -> Iterator[None]:
        """Let ticks that are not there yet count as none."""
        absent = [name for name in ("majorTicks", "minorTicks") if name not in vars(self)]
        vars(self).update({name: [] for name in absent})
        try:
            yield
        finally:
            for name in absent:
                del vars(self)[name]

    def set_clip_path(self, *given: Any, **options: Any) -> None:
        with self._unmade():
            super().set_clip_path(*given, **options)

    def set_tick_params(self, *given: Any, **options: Any) -> None:
        with self._unmade():
            super().set_tick_params(*given, **options)

    def _get_tick(self, *given: Any, **options: Any) -> Tick:
        with mpl.rc_context(_looks[self.axes.figure]):
            tick = super()._get_tick(*given, **options)
        tick.set_clip_path(self.axes.patch)
        return tick


class _XAxis(_Sparing, XAxis):
    pass


class _YAxis(_Sparing, YAxis):
    pass


class Panel(Axes):
    """Axes that draw their ticks, labels, grid and spines at once, where these have the theme's look."""

    on_page = False  # whether there is nothing below but the page, as white as its patch

    def _init_axis(self) -> None:
        figure = self.figure
        if figure not in _looks:
            _looks[figure] = {name: mpl.rcParams[name] for name in mpl.rcParams if name.startswith(LOOK)}
        self.xaxis, self.yaxis = _XAxis(self, clear=False), _YAxis(self, clear=False)
        self.spines.bottom.register_axis(self.xaxis)
        self.spines.top.register_axis(self.xaxis)
        self.spines.left.register_axis(self.yaxis)
        self.spines.right.register_axis(self.yaxis)

    def draw(self, renderer: RendererBase) -> None:
        """Draw what `Axes` would, in the same order."""
        if not self.get_visible():
            return
        quick = [axis for axis in (self.xaxis, self.yaxis) if self._knows(axis)]
        titled = any(title.get_text() for title in (self.title, self._left_title, self._right_title))
        children = self.get_children()
        bare = not (self.axison and self.get_frame_on())
        # What is drawn as an image in a PDF, matplotlib's own drawing begins and ends.
        raster = any(child.get_rasterized() for child in children)
        if not quick or titled or bare or raster or self.get_aspect() != "auto":
            super().draw(renderer)
            return
        self._unstale_viewLim()
        self.apply_aspect()
        skipped = {self.patch, *self.spines.values(), *quick}
        drawers: list[tuple[float, Callable[[RendererBase], None]]] = [
            (artist.zorder, artist.draw) for artist in children if artist not in skipped
        ]
        drawers += [(BELOW, lambda renderer: [self._draw_axis(renderer, axis) for axis in quick])]
        drawers += [(2.5, self._draw_spines)]
        renderer.open_group("axes", gid=self.get_gid())
        if not self.on_page:
            self.patch.draw(renderer)
        for _, draw in sorted(drawers, key=lambda drawer: drawer[0]):
            draw(renderer)
        renderer.close_group("axes")
        self.stale = False

    def _knows(self, axis: Axis) -> bool:
        """Whether an axis has nothing that only matplotlib can draw."""
        return (
            axis.get_visible()
            and axis.get_scale() in ("linear", "log")
            and axis.get_label_position() in ("bottom", "left")
            and set(axis.get_tick_params()) | set(axis.get_tick_params(which="minor")) <= KNOWN
            and axis.zorder == BELOW
        )

    def _draw_axis(self, renderer: RendererBase, axis: Axis) -> None:
        """Grid, ticks and their labels."""
        formatter = axis.get_major_formatter()
        formatter.set_locs(axis.get_majorticklocs())
        if formatter.get_offset():
            axis.draw(renderer)
            return
        outermost = self._draw_ticks(renderer, axis, "major")
        if not isinstance(axis.get_minor_locator(), NullLocator):
            outermost = min(outermost, self._draw_ticks(renderer, axis, "minor"))
        if axis.label.get_text():
            place = list(axis.label.get_position())
            side = 0 if axis is self.xaxis else 1
            place[1 - side] = outermost - axis.labelpad * self.figure.dpi / 72
            axis.label.set_position(place)
            axis.label.draw(renderer)

    def _draw_ticks(self, renderer: RendererBase, axis: Axis, which: str) -> float:
        """The major or minor ticks of an axis; returns how far out (left or down) they go, in pixels."""
        side, box, rc = (0 if axis is self.xaxis else 1), self.bbox, _looks[self.figure]
        start, end = (box.x0, box.x1) if side == 0 else (box.y0, box.y1)
        edge = box.y0 if side == 0 else box.x0
        major = which == "major"
        locations = np.asarray(axis.get_majorticklocs() if major else axis.get_minorticklocs(), dtype=float)
        if not len(locations):
            return edge
        texts = (axis.get_major_formatter() if major else axis.get_minor_formatter()).format_ticks(locations)
        points = np.tile(np.array([self.get_xlim()[0], self.get_ylim()[0]]), (len(locations), 1))
        points[:, side] = locations
        at = self.transData.transform(points)[:, side]
        shown = (at >= start - 0.5) & (at <= end + 0.5)
        at, texts = at[shown], [text for text, here in zip(texts, shown, strict=True) if here]
        name, low = ("x", "bottom") if side == 0 else ("y", "left")
        params, pixels = axis.get_tick_params(which=which), renderer.points_to_pixels(1.0)
        if params.get("gridOn", rc["axes.grid"] and rc["axes.grid.which"] in (which, "both")):
            ends = (box.y0, box.y1) if side == 0 else (box.x0, box.x1)
            _segments(renderer, at, ends, side, rc["grid.color"], rc["grid.linewidth"], self.bbox)
        length = params.get("length", rc[f"{name}tick.{which}.size"]) * pixels
        if length and params.get(low, True):
            width = rc[f"{name}tick.{which}.width"]
            _segments(renderer, at, (edge, edge - length), side, rc[f"{name}tick.color"], width)
        outermost = edge - length
        if params.get(f"label{low}", True):
            pad = length + rc[f"{name}tick.{which}.pad"] * pixels
            outermost = min(outermost, _labels(self.figure, renderer, texts, at, edge - pad, side))
        return outermost

    def _draw_spines(self, renderer: RendererBase) -> None:
        """The spines that are to be seen, each a line."""
        box = self.bbox
        ends = {
            "left": ((box.x0, box.y0), (box.x0, box.y1)),
            "right": ((box.x1, box.y0), (box.x1, box.y1)),
            "bottom": ((box.x0, box.y0), (box.x1, box.y0)),
            "top": ((box.x0, box.y1), (box.x1, box.y1)),
        }
        shown = [ends[name] for name, spine in self.spines.items() if spine.get_visible()]
        if shown:
            rc = _looks[self.figure]
            width = rc["axes.linewidth"]
            _stroke(renderer, np.concatenate(shown), rc["axes.edgecolor"], width, "projecting")


def set_ticks(axis: Axis, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Ticks at these places, labelled with their numbers unless told; `Axis.set_ticks` makes artists of each."""
    axis.set_major_locator(FixedLocator(list(places)))
    if labels is not None:
        axis.set_major_formatter(FixedFormatter(list(labels)))


def _segments(
    renderer: RendererBase,
    at: np.ndarray,
    ends: tuple[float, float],
    side: int,
    color: Any,
    width: float,
    clip: Any = None,
) -> None:
    """Parallel lines: at each of `at` (pixels along the axis) from one end to the other across it."""
    if not len(at):
        return
    vertices = np.empty((2 * len(at), 2))
    vertices[:, side] = np.repeat(at, 2)
    vertices[0::2, 1 - side], vertices[1::2, 1 - side] = ends
    _stroke(renderer, vertices, color, width, "butt", clip)


def _stroke(renderer: RendererBase, vertices: np.ndarray, color: Any, width: float, cap: str, clip: Any = None) -> None:
    """Lines (n) between pairs of vertices (2n, 2) in pixels."""
    context = renderer.new_gc()
    context.set_foreground(color)
    context.set_linewidth(width)
    context.set_capstyle(cap)
    if clip is not None:
        context.set_clip_rectangle(clip)
    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], dtype=Path.code_type), len(vertices) // 2)
    renderer.draw_path(context, Path(vertices, codes), IdentityTransform())
    context.restore()


def _labels(
    figure: Figure, renderer: RendererBase, texts: Sequence[str], at: np.ndarray, edge: float, side: int
) -> float:
    """Labels of ticks at `at`: below `edge` and centred for the horizontal axis (side 0), else left of it.

    Returns
    -------
    float
        How far out they go, in pixels.
    """
    name, rc = "xy"[side], _looks[figure]
    color = rc[f"{name}tick.labelcolor"]
    context = renderer.new_gc()
    context.set_foreground(rc[f"{name}tick.color"] if color == "inherit" else color)
    page, outermost = renderer.get_canvas_width_height()[1], edge
    for text, place in zip(texts, at, strict=True):
        if not text:
            continue
        lines, out = _laid_out(figure, renderer, text, side)
        x, y = (place, edge) if side == 0 else (edge, place)
        for (right, down), rest, options in lines:
            renderer.draw_text(context, x + right, (page - y if renderer.flipy() else y) + down, *rest, **options)
        outermost = min(outermost, edge + out)
    context.restore()
    return outermost


_laid: dict[tuple[Any, ...], tuple[list[Any], float]] = {}


def _laid_out(figure: Figure, renderer: RendererBase, text: str, side: int) -> tuple[list[Any], float]:
    """How matplotlib draws a tick's label whose anchor is at (0, 0), a call a line, and how far out it goes.

    Thousands of panels share a few labels.
    """
    size = _looks[figure][f"{'xy'[side]}tick.labelsize"]
    key = (type(renderer), renderer.points_to_pixels(1.0), figure.dpi, text, size, side)
    if key not in _laid:
        align = {"va": "top", "ha": "center"} if side == 0 else {"va": "center_baseline", "ha": "right"}
        label = Text(0, 0, text, size=size, **align)
        label.set_figure(figure)
        watched = _Watched(renderer)
        label.draw(watched)
        box = label.get_window_extent(renderer)
        _laid[key] = watched.calls, box.y0 if side == 0 else box.x0
    return _laid[key]


class _Watched:
    """A renderer that notes what text it is asked for, from the page's lower left corner, and draws none."""

    def __init__(self, renderer: RendererBase) -> None:
        self._renderer = renderer
        self.calls: list[tuple[tuple[float, float], tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    def draw_text(self, context: Any, x: float, y: float, *rest: Any, **options: Any) -> None:
        foot = self._renderer.get_canvas_width_height()[1] if self._renderer.flipy() else 0
        self.calls.append(((x, y - foot), rest, options))
