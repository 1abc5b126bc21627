"""Show the claims as a forest plot: each estimate with its interval, the claim's margin and its verdict in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from halobench.core.formatting import within
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, panel_grid
from halobench.reporting.plotting.style import GREY, INK, styled
from halobench.reporting.styles import VERDICT_STYLES
from halobench.results import finding
from halobench.results.names import THEMES

SHORT = "Every test of the claims"
CATEGORY = "1 Claims"
CAPTION = """\
The estimate for every claim, compared with the claim's margin, the smallest effect that would matter. A claim *holds*
if the whole 95% interval lies on the shaded side, *does not hold* if all of it lies on the other side, and is
*undecided* otherwise. It is *mixed* if pairs of data set and model disagree (decided both ways, or with effects of
opposite sign); then, no mean is drawn. *Not after Holm* marks verdicts that become undecided after correction for the
number of tests. Differences are paired within each data set, model and seed, at equal numbers of optimiser steps, and
ratios are geometric means.
"""

TITLE = "The tests of the claims, by what they measure"
NOTE = (
    "Large mark and line: mean over data sets and models with its 95% t-interval over seeds. Small marks below: single "
    "pairs of data set and model, each with its own verdict. Black tick: the claim's margin; shaded: the side that the "
    "claim predicts. A claim holds, or doesn't, if the interval is entirely on one side; otherwise it is undecided. "
    "Mixed: pairs are decided both ways, or have opposite effects; no mean is drawn. Not after Holm: undecided after "
    "Holm's correction for the number of tests. Left out: runs that the claim isn't about, such as those that don't "
    "interpolate the training labels."
)
KINDS = {
    "level": "Level of {}",
    "difference": "Difference in {}",
    "against_best": "Difference in {} from the best baseline",
    "slope": "Slope of {} on log k",
    "ratio": "Ratio of {}",
}
MARKS = {"holds": "o", "does_not": "X", "mixed": "P", "undecided": "D", "not_testable": "o", "not_tested": "|"}
HOLLOW = ("undecided", "not_testable")
WIDTH, LABEL = 9.4, 4.2  # width of the figure and of the tests' labels, in inches
ROW, AXIS = 0.42, 0.56  # height of a claim, and of an axis's title and ticks, in inches
SIZE = 7.5  # font size in points


@styled
def draw(claims: pd.DataFrame) -> Figure:
    """Draw a row per claim, with claims about the same statistic on one axis, and count untested claims at the end."""
    groups: dict[str, list[pd.DataFrame]] = {}
    untested: Counter[str] = Counter()
    for _, rows in table_views.groups_of(claims.astype({"fit": str}), ["claim", "fit"]).items():
        if rows["verdict"].isin(finding.UNMADE).all():
            untested[THEMES[str(rows["theme"].iloc[0])].label] += 1
        else:
            groups.setdefault(group_of(*rows[["statistic", "measure"]].iloc[0]), []).append(rows)
    heights = [AXIS + ROW * len(rows) for rows in groups.values()]
    figure = panel_grid.blank_figure(WIDTH, sum(heights) or 0.2)
    if groups:
        axes = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
        for ax, (heading, of_axis) in zip(axes, groups.items(), strict=True):
            _draw_forest(ax, of_axis)
            ax.set_title(heading, loc="left", weight="bold", size=8.5)
    keys = [
        artists.key(f"{labels.VERDICTS[name]} ({VERDICT_STYLES[name].marker})", ls="", ms=5, **_mark(name))
        for name in ("holds", "does_not", "mixed", "undecided")
    ]
    panel_grid.add_head(figure, TITLE, NOTE, keys)
    if untested:
        counts = ", ".join(f"{label} {number}" for label, number in untested.items())
        text = (
            f"Not tested or testable on this grid, by theme: {counts}. The page claims.html says what each test needs."
        )
        figure.text(0, 0, text, size=SIZE, color=GREY, va="top", parse_math=False)
    return figure


def group_of(statistic: str, measure: str) -> str:
    """Return the heading of the axis for claims about a statistic, e.g. ``Difference in NLL (nats)``."""
    label = labels.metric_label(measure) if statistic == "ratio" else labels.metric_axis(measure)
    return KINDS[statistic].format(within(label))


def _mark(verdict: str) -> dict[str, Any]:
    """Return the style of a mark that shows the verdict by shape and colour; marks of open questions are hollow."""
    color = VERDICT_STYLES.get(verdict, VERDICT_STYLES["not_tested"]).color
    return {"color": color, "mfc": "white" if verdict in HOLLOW else color, "marker": MARKS.get(verdict, "|")}


def _draw_forest(ax: Axes, claims: Sequence[pd.DataFrame]) -> None:
    """Draw claims that share an axis, one per row, each with its label, estimates, interval, margin and verdict."""
    kind = claims[0]["statistic"].iloc[0]
    limits = _limits(pd.concat(claims), kind)
    if kind == "ratio":
        ax.set_xscale("log")
        ax.xaxis.set(major_locator=LogLocator(10, (1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    for y, rows in enumerate(claims):
        first = rows.iloc[0]
        side = (first["margin"], limits[1]) if first["direction"] == "above" else (limits[0], first["margin"])
        ax.fill_betweenx((y - 0.46, y + 0.46), *np.clip(side, *limits), color="#eaf1ec", lw=0, zorder=0)
        ax.plot([first["margin"]] * 2, [y - 0.46, y + 0.46], color=INK, lw=1, zorder=2)
        row: Any
        for row in rows.itertuples():
            if row.scope == "all" and row.verdict == "mixed":
                continue
            if row.scope == "all" and np.isfinite(row.low):
                ends, color = np.clip([row.low, row.high], *limits), _mark(row.verdict)["color"]
                ax.plot(ends, [y - 0.12] * 2, color=color, lw=1.6, zorder=3)
            place, size = (y - 0.12, 5.5) if row.scope == "all" else (y + 0.22, 3.2)
            if np.isfinite(row.estimate):
                ax.plot([row.estimate], [place], ls="", ms=size, mew=0.9, zorder=4, **_mark(row.verdict))
        _write_verdict(ax, rows, y)
    firsts: list[Any] = [rows.iloc[0].to_dict() for rows in claims]
    names = [f"{labels.test_label(first)}\n{labels.calibrator_label(first['fit'])}" for first in firsts]
    ax.set_yticks(range(len(claims)), [panel_grid.wrapped(name, LABEL, SIZE) for name in names], size=SIZE)
    ax.set(xlim=limits, ylim=(len(claims) - 0.5, -0.5))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)


def _limits(rows: pd.DataFrame, statistic: str) -> tuple[float, float]:
    """Return limits that include all estimates and margins, for differences also 0, and intervals within reason.

    The axis of ratios is logarithmic. Intervals are included only so far that they don't dwarf the estimates.
    """
    held = [*rows["margin"], *rows["estimate"].dropna()]
    if statistic == "ratio":
        held = [value for value in held if value > 0]
        return min(held) / 1.4, max(held) * 1.4
    held += [0.0] * (statistic != "level")
    low, high = min(held), max(held)
    span = max(high - low, 1e-9)
    whole = rows[rows["scope"] == "all"]
    low = np.nanmin([low, *whole["low"].clip(lower=low - span)])
    high = np.nanmax([high, *whole["high"].clip(upper=high + span)])
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _write_verdict(ax: Axes, rows: pd.DataFrame, y: float) -> None:
    """Write a claim's verdict to its right, with its cells counted by verdict: ``of 3: 2 ✓  1 ✗; 3 left out``."""
    look: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center"}
    whole, cells = rows[rows["scope"] == "all"], rows[rows["scope"] != "all"]
    if len(whole) or len(cells) == 1:
        style = VERDICT_STYLES[rows["verdict"].iloc[0]]
        after = " (not after Holm)" if finding.lost(rows.iloc[0].to_dict()) else ""
        text = f"{style.marker}  {labels.VERDICTS[rows['verdict'].iloc[0]]}{after}"
        ax.text(1.03, y - 0.12, text, color=style.color, weight="bold", **look)
    if len(cells) > 1:
        counts = cells["verdict"].value_counts()
        tested = [verdict for verdict in labels.VERDICTS if verdict != "not_tested" and verdict in counts]
        parts = [f"{counts[verdict]} {VERDICT_STYLES[verdict].marker}" for verdict in tested]
        left_out = int((whole if len(whole) else cells)["excluded"].sum())
        counted = f"of {(cells['verdict'] != 'not_tested').sum()}: {'  '.join(parts)}"
        ax.text(1.03, y + 0.22, counted + (f"; {left_out} left out" if left_out else ""), size=7, color=GREY, **look)
