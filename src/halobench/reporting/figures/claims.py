"""Show the claims as a forest plot: each estimate with its interval, the claim's margin, and the verdict in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.reporting import labels, styles
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.style import GREY, INK, styled

TITLE = "The claims and what this grid says of them"
NOTE = (
    "Large mark and line: mean over data sets and models with its 95% t-interval over seeds. Small marks below: single "
    "data set and model pairs, by their own verdict. Black tick: the claim's margin; shaded: the side that the claim "
    "predicts. A claim holds, or doesn't, where the interval lies wholly on one side; else it is undecided. "
    "Left out: runs that the claim doesn't speak of, such as those that don't interpolate the training labels."
)
UNITS = {
    "nll": "NLL (nats)",
    "kl": "KL from the posterior (nats)",
    "ece": "ECE",
    "confidence": "confidence",
    "relative_median": "median radius (relative distance)",
    "logit_gap": "logit gap",
}
KINDS = {
    "level": "Level of {}",
    "difference": "Difference in {}",
    "against_best": "Difference in {} from the best baseline",
    "slope": "Slope of {} on log k",
}
MARKS = {"holds": "o", "does_not": "X", "undecided": "D", "not_tested": "|"}
TEXT, AXIS, VERDICT = 4.1, 3.2, 2.05  # widths of the statements, the axes and the verdicts, inches
SIZE = 7.5  # of type, points
HEADING, FOOT = 0.3, 0.32  # room above and below the claims that share an axis, inches


@styled
def draw(claims: pd.DataFrame) -> Figure:
    """Draw a row per claim, claims of the same statistic over one axis; those not tested are listed at the end.

    Parameters
    ----------
    claims : DataFrame
        As judged: a row of scope ``all`` and one per data set and model, for each claim.
    """
    entries = [_entry(rows) for _, rows in claims.groupby(["claim", "fit"], sort=False, dropna=False)]
    groups: dict[str, list[_Entry]] = {}
    for entry in entries:
        if entry.tested:
            groups.setdefault(entry.group, []).append(entry)
    untested = [entry for entry in entries if not entry.tested]
    width = 0.1 + TEXT + 0.25 + AXIS + 0.2 + VERDICT
    note = page_layout.wrapped(NOTE, width - 0.2)
    top = 0.42 + page_layout.lines_high(note) + 0.28
    names = page_layout.wrapped("; ".join(untested_names(entry.name for entry in untested)), width - 0.2, SIZE)
    height = top + sum(HEADING + sum(entry.height for entry in rows) + FOOT for rows in groups.values()) + 0.1
    height += (HEADING + page_layout.lines_high(names, SIZE) + 0.1) if untested else 0
    figure = page_layout.blank_figure(width, height)
    page_layout.write(figure, 0.1, 0.12, TITLE, size=11.5, weight="bold")
    page_layout.write(figure, 0.1, 0.4, note, color=GREY)
    _draw_key(figure, 0.1, top - 0.2)
    for heading, rows in groups.items():
        top = _draw_group(figure, heading, rows, top)
    if untested:
        _write_heading(figure, "Not tested by this grid (claims.html tells what each would need)", top)
        page_layout.write(figure, 0.1, top + HEADING, names, size=SIZE, color=GREY)
    return figure


@dataclass(frozen=True)
class _Entry:
    """The row of a claim.

    Attributes
    ----------
    name : (str, str)
        Claim and fit.
    text : str
        The statement in lines.
    overall : Series or None
        The row of scope ``all``.
    cells : DataFrame
        The rows of single data set and model pairs.
    margin : float
    above : bool
        Whether the estimate is claimed to be above the margin.
    verdict : str
        ``cells`` if several pairs have verdicts of their own, and there is no overall one.
    group : str
        The heading of the axis.
    """

    name: tuple[str, str]
    text: str
    overall: pd.Series | None
    cells: pd.DataFrame
    margin: float
    above: bool
    verdict: str
    group: str

    @property
    def height(self) -> float:
        """The height of the row in inches."""
        return max(page_layout.lines_high(self.text, SIZE) + 0.13, 0.36)

    @property
    def tested(self) -> bool:
        """Whether the claim was tested, over all cells or on one of them."""
        return self.verdict != "not_tested" or bool((self.cells["verdict"] != "not_tested").any())

    @property
    def style(self) -> styles.Style:
        """The style of the verdict."""
        return styles.VERDICT_STYLES.get(self.verdict, styles.VERDICT_STYLES["not_tested"])


def _entry(rows: pd.DataFrame) -> _Entry:
    """Return the row of a claim, from its rows of the table."""
    whole, cells = rows[rows["scope"] == "all"], rows[rows["scope"] != "all"]
    first = rows.iloc[0]
    overall = whole.iloc[0] if len(whole) else None
    verdict = str(first["verdict"]) if overall is not None or len(cells) == 1 else "cells"
    if overall is None and (cells["verdict"] == "not_tested").all():
        verdict = "not_tested"
    return _Entry(
        name=(str(first["claim"]), str(first["fit"])),
        text=page_layout.wrapped(labels.in_words(str(first["statement"])), TEXT, SIZE),
        overall=overall,
        cells=cells,
        margin=float(first["margin"]),
        above=str(first["direction"]) == "above",
        verdict=verdict,
        group=group_of(str(first["statistic"])),
    )


def untested_names(names: Iterable[tuple[str, str]]) -> list[str]:
    """Return short names of (claim, fit) pairs; those that differ by the fit alone share one.

    Examples
    --------
    >>> untested_names([("more_points_help_none", "none"), ("more_points_help_exact", "exact")])
    ['More points help (no TS, exact)']
    """
    fits_of: dict[str, list[str]] = {}
    for claim, fit in names:
        fits = fits_of.setdefault(labels.claim_label(claim, fit), [])
        if f"_{fit}" in claim:
            fits.append("no TS" if fit == "none" else fit)
    return [name + (f" ({', '.join(fits)})" if fits else "") for name, fits in fits_of.items()]


def group_of(statistic: str) -> str:
    """Return the heading of the axis that a claim's statistic belongs on, e.g. ``Difference in NLL (nats)``."""
    kind = re.match(r"\w+", statistic)
    value = re.search(r"\bmetric (\w+)", statistic) or re.search(r" of \w+\.(\w+)", statistic)
    if kind is None or kind[0] not in KINDS or value is None:
        return statistic
    return KINDS[kind[0]].format(UNITS.get(value[1], value[1]))


# Drawing --------------------------------------------------------------------------------------------------------------


def _draw_group(figure: Figure, heading: str, entries: Sequence[_Entry], top: float) -> float:
    """Draw the claims that share an axis; return where the next group begins, in inches."""
    _write_heading(figure, heading, top)
    top += HEADING
    high = sum(entry.height for entry in entries)
    ax = page_layout.place(figure, 0.1 + TEXT + 0.25, top, AXIS, high)
    _draw_forest(ax, entries, high, zero=not heading.startswith("Level"))
    for entry in entries:
        _write_words(figure, entry, top)
        top += entry.height
    return top + FOOT


def _write_heading(figure: Figure, text: str, top: float) -> None:
    """Write the heading of a group that begins at `top`."""
    page_layout.write(figure, 0.1, top + 0.24, text, weight="bold", size=8.5, va="bottom")


def _draw_forest(ax: Axes, entries: Sequence[_Entry], high: float, zero: bool) -> None:
    """Draw estimates, intervals and margins of claims that share an axis; y is in inches downwards, up to `high`."""
    limits = _limits(entries, zero)
    top = 0.0
    for i, entry in enumerate(entries):
        end = top + entry.height
        side = (entry.margin, limits[1]) if entry.above else (limits[0], entry.margin)
        ax.fill_between(np.clip(side, *limits), top + 0.02, end - 0.02, color="#eaf1ec", lw=0, zorder=0)
        ax.plot([entry.margin] * 2, [top + 0.02, end - 0.02], color=INK, lw=1, zorder=2)
        if i:
            ax.axhline(top, color="#dddddd", lw=0.5, zorder=0)
        _draw_estimates(ax, entry, top + min(0.15, entry.height / 2), limits)
        top = end
    ax.set(xlim=limits, ylim=(high, 0), yticks=())
    ax.spines["left"].set_visible(False)


def _draw_estimates(ax: Axes, entry: _Entry, y: float, limits: tuple[float, float]) -> None:
    """Draw a claim's overall estimate with its interval at `y`, and those of single cells below it."""
    cell: Any
    for cell in entry.cells.itertuples():
        if np.isfinite(cell.estimate):
            style = styles.VERDICT_STYLES.get(cell.verdict, styles.VERDICT_STYLES["not_tested"])
            _draw_mark(ax, cell.estimate, y + 0.13, cell.verdict, style.color, 3.2)
    if entry.overall is not None and np.isfinite(entry.overall["estimate"]):
        color, (low, high) = entry.style.color, entry.overall[["low", "high"]]
        if np.isfinite(low):
            ax.plot([low, high], [y, y], color=color, lw=1.6, zorder=3)
            # Arrow heads where the interval leaves the axis.
            for edge, mark, leaves in ((limits[0], "<", low < limits[0]), (limits[1], ">", high > limits[1])):
                if leaves:
                    ax.plot([edge], [y], marker=mark, ms=4, color=color, ls="", clip_on=False, zorder=4)
        _draw_mark(ax, entry.overall["estimate"], y, entry.verdict, color, 5.5)


def _draw_mark(ax: Axes, x: float, y: float, verdict: str, color: str, size: float) -> None:
    """Draw a mark whose shape shows the verdict as its colour does; undecided is hollow."""
    face = "white" if verdict == "undecided" else color
    ax.plot([x], [y], marker=MARKS.get(verdict, "|"), ms=size, mfc=face, mec=color, mew=0.9, ls="", zorder=4)


def _limits(entries: Iterable[_Entry], zero: bool) -> tuple[float, float]:
    """Return limits that hold all estimates and margins (0 too, if `zero`).

    They hold intervals as far as these don't dwarf the estimates.
    """
    points: list[float] = [0.0] if zero else []
    ends: list[float] = []
    for entry in entries:
        points += [entry.margin, *entry.cells["estimate"]]
        if entry.overall is not None:
            points.append(entry.overall["estimate"])
            ends += [entry.overall["low"], entry.overall["high"]]
    held, reached = (np.array(values, dtype=float) for values in (points, ends))
    held, reached = held[np.isfinite(held)], reached[np.isfinite(reached)]
    low, high = held.min(), held.max()
    span = max(high - low, 1e-9)
    low, high = (min([low, *np.maximum(reached, low - span)]), max([high, *np.minimum(reached, high + span)]))
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _write_words(figure: Figure, entry: _Entry, top: float) -> None:
    """Write a claim's statement on the left, and its verdict on the right."""
    page_layout.write(figure, 0.1, top + 0.05, entry.text, size=SIZE)
    left = 0.1 + TEXT + 0.25 + AXIS + 0.2
    if entry.verdict in labels.VERDICTS:
        text = f"{entry.style.marker}  {labels.VERDICTS[entry.verdict]}"
        page_layout.write(figure, left, top + 0.15, text, color=entry.style.color, weight="bold", va="center")
    if len(entry.cells) > 1:
        page_layout.write(figure, left, top + 0.28, _tally(entry), size=7, color=GREY, va="center")


def _tally(entry: _Entry) -> str:
    """Return how many single cells have which verdict, and how many were left out: ``of 3: 2 ✓  1 ✗; 3 left out``."""
    verdicts = entry.cells["verdict"]
    counts = verdicts[verdicts != "not_tested"].value_counts()
    parts = [f"{counts[name]} {style.marker}" for name, style in styles.VERDICT_STYLES.items() if name in counts]
    excluded = int(entry.overall["excluded"] if entry.overall is not None else entry.cells["excluded"].sum())
    return f"of {counts.sum()}: {'  '.join(parts)}" + (f"; {excluded} left out" if excluded else "")


def _draw_key(figure: Figure, left: float, top: float) -> None:
    """Draw the legend: shape, colour and words of each verdict."""
    handles = []
    for name in ("holds", "does_not", "undecided"):
        color = styles.VERDICT_STYLES[name].color
        face = "white" if name == "undecided" else color
        label = f"{labels.VERDICTS[name]} ({styles.VERDICT_STYLES[name].marker})"
        handles.append(artists.key(label, color, marker=MARKS[name], mfc=face, ls="", ms=5))
    page_layout.draw_legend(figure, [handles], left, top)
