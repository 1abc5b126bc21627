"""Draw part E of the summary page: the claims with a verdict for each fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels
from halobench.reporting.plotting import page_layout
from halobench.reporting.plotting.style import GREY
from halobench.reporting.styles import VERDICT_STYLES
from halobench.reporting.summary_page.page import SPLIT, WIDTH

MOST_CLAIMS = 26
FITS = ("none", "released", "exact", "oracle")
STEP, SIZE, LEFT = 0.46, 7.2, SPLIT + 0.17  # between the columns, in inches; of the type, in points; of the text


def verdict_matrix(claims: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return verdicts over all cells, by claim (its name in words, without the fit) and fit.

    A claim without a row of scope ``all`` has its cells' verdict if they agree, and else is undecided. Claims that no
    cell tests are left out.
    """
    matrix: dict[str, dict[str, str]] = {}
    for (claim, fit), rows in claims.groupby(["claim", "fit"], sort=False):
        overall = rows.loc[rows["scope"] == "all", "verdict"]
        verdicts = set(overall if len(overall) else rows.loc[rows["verdict"] != "not_tested", "verdict"])
        verdict = "not_tested" if not verdicts else verdicts.pop() if len(verdicts) == 1 else "undecided"
        matrix.setdefault(labels.claim_label(str(claim), str(fit)), {})[str(fit)] = verdict
    return {name: row for name, row in matrix.items() if set(row.values()) != {"not_tested"}}


@dataclass(frozen=True)
class _Line:
    """A claim's name in lines, its verdicts by fit, and how far its middle lies below the top of the part."""

    text: str
    verdicts: Mapping[str, str]
    middle: float


@dataclass(frozen=True)
class VerdictList:
    """The claims in lines; distances are in inches from the top of the part.

    Attributes
    ----------
    fits : list of str
        The columns.
    lines : list of _Line
    more : int
        Claims beyond the first `MOST_CLAIMS`, which are not shown.
    foot : float
        Where the line on those is, or else the legend.
    """

    fits: Sequence[str]
    lines: Sequence[_Line]
    more: int
    foot: float

    @property
    def legend(self) -> float:
        """How far down the legend of verdicts is."""
        return self.foot + 0.16 * bool(self.more) + 0.06

    @property
    def height(self) -> float:
        """The height of the part."""
        return self.legend + 0.1

    def draw(self, figure: Figure, top: float) -> None:
        """Draw a row per claim, a column per fit and a symbol per verdict, with a legend below."""
        look = {"va": "center", "size": SIZE}
        if not self.lines:
            text = "The claims given were not tested by this grid."
            page_layout.write(figure, LEFT, top + 0.2, text, color=GREY, **look)
        for j, fit in enumerate(self.fits):
            name = "no TS" if fit == "none" else fit
            page_layout.write(figure, _start(self.fits) + j * STEP, top, name, size=7, ha="center")
        symbol = {"va": "center", "ha": "center", "weight": "bold", "size": 9}
        for line in self.lines:
            page_layout.write(figure, LEFT, top + line.middle, line.text, **look)
            for j, fit in enumerate(self.fits):
                if fit in line.verdicts:
                    style = VERDICT_STYLES.get(line.verdicts[fit], VERDICT_STYLES["not_tested"])
                    left = _start(self.fits) + j * STEP
                    page_layout.write(figure, left, top + line.middle, str(style.marker), color=style.color, **symbol)
        if self.more:
            text = f"… and {self.more} more, in the figure of claims"
            page_layout.write(figure, LEFT, top + self.foot, text, color=GREY, **look)
        left = LEFT
        for verdict, style in VERDICT_STYLES.items():
            text = f"{style.marker} {labels.VERDICTS[verdict]}"
            page_layout.write(figure, left, top + self.legend, text, color=style.color, **look)
            left += 0.2 + len(text) * 0.055 * SIZE / 7


def _start(fits: Sequence[str]) -> float:
    """Return where the first column of verdicts is, in inches."""
    return WIDTH - 0.35 - STEP * (len(fits) - 1)


def verdict_list(claims: pd.DataFrame) -> VerdictList:
    """Arrange the verdicts of a table of claims in lines."""
    matrix = verdict_matrix(claims)
    judged = {fit for row in matrix.values() for fit in row}
    fits = [fit for fit in FITS if fit in judged]
    fits += labels.ordered(judged - set(fits))
    lines, bottom = [], 0.2
    for name, row in list(matrix.items())[:MOST_CLAIMS]:
        text = page_layout.wrapped(name, _start(fits) - LEFT - 0.15, SIZE)
        half = (page_layout.lines_high(text, SIZE) + 0.05) / 2
        lines.append(_Line(text, row, bottom + half))
        bottom = bottom + half + half
    return VerdictList(fits, lines, max(len(matrix) - MOST_CLAIMS, 0), bottom + 0.08)
