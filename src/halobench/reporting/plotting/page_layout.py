"""Place text, axes and legends on a page, in inches from its upper left corner.

Sizes are in inches and points, as printed. Figures are built without pyplot: no global state, no open windows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from halobench.reporting.plotting.style import INK

LETTER = 0.53  # width of a letter over the size of its type, on average
LEGEND_LINE = 0.18  # height of a line of a legend, inches


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty page of this size in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Add axes of `width` x `height` inches at `left`, `top` inches; `options` go to matplotlib."""
    page_width, page_height = figure.get_size_inches()
    bottom = page_height - top - height
    box = (left / page_width, bottom / page_height, width / page_width, height / page_height)
    return figure.add_axes(box, **options)


def set_ticks(axis: Axis, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Put ticks at these places, labelled with their numbers by default.

    Unlike `Axis.set_ticks` it makes no artists before they are drawn.
    """
    axis.set_major_locator(FixedLocator(list(places)))
    if labels is not None:
        axis.set_major_formatter(FixedFormatter(list(labels)))


# Text -----------------------------------------------------------------------------------------------------------------


def write(figure: Figure, left: float, top: float, text: str, **options: Any) -> None:
    """Write text whose upper left corner, unless `options` align it otherwise, is at `left`, `top` inches."""
    width, height = figure.get_size_inches()
    look: dict[str, Any] = {"va": "top", "ha": "left", "color": INK, "parse_math": False}
    figure.text(left / width, 1 - top / height, text, **(look | options))


def wrapped(text: str, width: float, size: float = 8) -> str:
    """Return `text` broken into lines of at most about `width` inches at `size` points."""
    letters = _letters(width, size)
    return "\n".join("\n".join(textwrap.wrap(line, letters)) for line in text.split("\n"))


def shortened(text: str, width: float, size: float = 8) -> str:
    """Return `text`, cut with an ellipsis in its middle if it is longer than about `width` inches at `size` points."""
    letters = _letters(width, size)
    if len(text) <= letters:
        return text
    tail = (letters - 1) // 2
    return f"{text[: letters - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def _letters(width: float, size: float) -> int:
    """Return how many letters of `size` points fit `width` inches, at least 8."""
    return max(8, int(width * 72 / (LETTER * size)))


def lines_high(text: str, size: float = 8) -> float:
    """Return the height of `text` in inches at `size` points."""
    return (text.count("\n") + 1) * size * 1.22 / 72


# Legends --------------------------------------------------------------------------------------------------------------


def legend_lines(handles: Sequence[Line2D], width: float) -> list[list[Line2D]]:
    """Break legend handles into lines that fit `width` inches."""
    lines: list[list[Line2D]] = []
    used = 0.0
    for handle in handles:
        need = 0.52 + len(str(handle.get_label())) * 8 * 0.58 / 72
        if not lines or used + need > width:
            lines.append([])
            used = 0.0
        lines[-1].append(handle)
        used += need
    return lines


def draw_legend(figure: Figure, lines: Sequence[Sequence[Line2D]], left: float, top: float) -> None:
    """Draw lines of a legend, from `left`, `top` inches downwards."""
    width, height = figure.get_size_inches()
    for i, handles in enumerate(lines):
        figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(left / width, 1 - (top + LEGEND_LINE * i) / height),
            bbox_transform=figure.transFigure,
            ncols=len(handles),
            borderpad=0,
            borderaxespad=0,
            handletextpad=0.5,
            columnspacing=1.4,
            handlelength=2.2,
        )
