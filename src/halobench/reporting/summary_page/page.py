"""Define what the parts of the summary page share: its columns, headings, and words for probes."""

from __future__ import annotations

from matplotlib.figure import Figure

from halobench.reporting.plotting import page_layout
from halobench.reporting.plotting.style import GREY

WIDTH, LEFT, SPLIT = 11.0, 6.75, 7.15  # of the page; where the left column ends and the right one begins; inches
UNPROBED = "No cell was probed."
PROBES = {"sphere": "random direction", "nearest_other": "to nearest other", "manifold": "principal directions"}
PROBES |= {"mixup_line": "to random other"}


def heading(figure: Figure, left: float, top: float, letter: str, text: str, more: str = "") -> None:
    """Write the letter and title of a part, with a grey second line."""
    page_layout.write(figure, left, top, letter, weight="bold", size=9.5)
    page_layout.write(figure, left + 0.17, top, text, weight="bold", size=9.5)
    if more:
        page_layout.write(figure, left + 0.17, top + 0.18, more, color=GREY)
