"""Save figures as PNG and PDF."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from halobench.reporting.plotting.style import RC, WARNING
from halobench.storage import files

DPI = 150
PIXELS = 48e6  # most of a picture: browsers show it, and it takes 200 MB of memory
PNG = {"compress_level": 3}  # two thirds of the default's time, for a sixth more bytes


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
