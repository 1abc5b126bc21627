"""Save figures as PNG and PDF, the same figure as the same bytes."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from halobench.reporting.plotting.style import RC
from halobench.storage import files

DPI = 150
MOST_PIXELS = 48e6  # of a PNG: browsers show it, and it takes 200 MB of memory
PNG_OPTIONS = {"compress_level": 3}  # two thirds of the default's time, for a sixth more bytes
WARNING = "#b3261e"  # the colour of a note that a reader must not miss


@contextlib.contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Switch Python's garbage collection off: a page's thousands of artists all stay until it is saved.

    Each collection would go through all of them, which takes a seventh of a large page's time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def add_note(figure: Figure, text: str) -> None:
    """Print a note in a figure's upper right corner, in the colour of a warning."""
    figure.text(0.996, 0.996, text, ha="right", va="top", color=WARNING, fontsize=9, fontweight="bold")


def resolution(figure: Figure) -> float:
    """Return the resolution of a figure's PNG in dots per inch: `DPI`, or less if that exceeds `MOST_PIXELS`."""
    width, height = figure.get_size_inches()
    return min(DPI, (MOST_PIXELS / (width * height)) ** 0.5)


def save(figure: Figure, stem: Path | str) -> tuple[Path, Path]:
    """Write `stem`.pdf and `stem`.png, each completely or not at all.

    Returns
    -------
    pdf, png : Path
        The files written.
    """
    pdf, png = (Path(f"{stem}.{suffix}") for suffix in ("pdf", "png"))
    # Dates and versions would change the bytes without changing the picture.
    blank = {"Creator": None, "Producer": None, "CreationDate": None, "ModDate": None}
    png_options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": PNG_OPTIONS}
    with mpl.rc_context(RC):
        with files.replacing(pdf) as temporary:
            figure.savefig(temporary, format="pdf", metadata=blank)
        with files.replacing(png) as temporary:
            figure.savefig(temporary, format="png", dpi=resolution(figure), **png_options)
    return pdf, png
