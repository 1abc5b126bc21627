"""Save figures as PNG, PDF and SVG, with the same bytes for the same figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.transforms import Bbox

from halobench.reporting.plotting.style import RC
from halobench.storage import files

DPI = 150
MOST_PIXELS, LONGEST = 48e6, 32_000  # pixels of a PNG and of its side, which browsers can show in 200 MB
MARGIN = 0.12  # inches
DECIMALS = 7  # of positions, as shares of a page
WARNING = "#b3261e"  # colour of notes that readers must not miss


def add_note(figure: Figure, text: str) -> None:
    """Print a note in the warning colour above a figure's upper right corner."""
    with mpl.rc_context(RC):
        figure.draw_without_rendering()
        x, y = figure.get_tightbbox().max / figure.get_size_inches()
        look: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 9, "fontweight": "bold"}
        figure.text(x, y, text, color=WARNING, **look)


def resolution(page: Bbox) -> float:
    """Return the dots per inch of a PNG: `DPI`, or less if the page (inches) would be too large for browsers."""
    return min(DPI, (MOST_PIXELS / (page.width * page.height)) ** 0.5, LONGEST / max(page.width, page.height))


def save(figure: Figure, stem: Path | str, formats: Sequence[str] = ("pdf", "svg", "png")) -> tuple[Path, ...]:
    """Write a figure to `stem` in each of `formats`, each file completely or not at all, without cutting anything off.

    Returns
    -------
    tuple of Path
        The files written, in the order of `formats`.
    """
    # Dates and versions would change the bytes, but not the image.
    options: dict[str, dict[str, Any]] = {
        "pdf": {"metadata": {"Creator": None, "Producer": None, "CreationDate": None, "ModDate": None}},
        "svg": {"metadata": {"Creator": None, "Date": None}},
        "png": {"metadata": {"Software": None}},
    }
    with mpl.rc_context({**RC, "svg.hashsalt": "halobench"}):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # one layout is enough for all files
        settle(figure)
        page = figure.get_tightbbox().padded(MARGIN)
        options["png"]["dpi"] = resolution(page)
        for suffix in formats:
            with files.replacing(Path(f"{stem}.{suffix}")) as temporary:
                figure.savefig(temporary, format=suffix, bbox_inches=page, **options[suffix])
                if suffix == "svg":
                    number_clips(temporary)
    return tuple(Path(f"{stem}.{suffix}") for suffix in formats)


def settle(figure: Figure) -> None:
    """Round the positions that a layout engine chose, since their last bits depend on addresses in memory."""
    for part in (figure, *figure.findobj(SubFigure)):
        if isinstance(part, SubFigure):
            part.bbox_relative.p0, part.bbox_relative.p1 = part.bbox_relative.get_points().round(DECIMALS)
        for text in part.texts:
            x, y = text.get_position()
            text.set_position((round(x, DECIMALS), round(y, DECIMALS)))
    for ax in figure.axes:
        ax.set_position(np.round(ax.get_position().bounds, DECIMALS).tolist())


def number_clips(path: Path) -> None:
    """Replace names of clip paths in an SVG, which depend on the last bits of coordinates, with numbers."""
    numbers: dict[str, str] = {}
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"\bp[0-9a-f]{10}\b", lambda match: numbers.setdefault(match[0], f"clip{len(numbers)}"), text)
    path.write_text(text, encoding="utf-8")
