"""Forest plot of the claims: each estimate with its interval against the claim's margin, and the verdict in words."""

from __future__ import annotations

import re
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
TEXT, AXIS, VERDICT, SIZE = 4.1, 3.2, 2.05, 7.5


@styled
def draw(claims: pd.DataFrame) -> Figure:
    """Draw a row a claim, claims of the same statistic over one axis; those not tested are listed at the end.

    Parameters
    ----------
    claims : DataFrame
        As judged: a row of scope ``all`` and one a data set and model, for each claim.

    Returns
    -------
    Figure
    """
    entries = [_entry(rows) for _, rows in claims.groupby(["claim", "fit"], sort=False, dropna=False)]
    tested = [e for e in entries if e["verdict"] != "not_tested" or (e["cells"]["verdict"] != "not_tested").any()]
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in tested:
        groups.setdefault(entry["group"], []).append(entry)
    untested = [e for e in entries if all(e is not t for t in tested)]
    width = 0.1 + TEXT + 0.25 + AXIS + 0.2 + VERDICT
    note = page_layout.wrapped(NOTE, width - 0.2)
    start = 0.42 + page_layout.lines_high(note) + 0.28
    height = start + sum(0.3 + sum(e["height"] for e in rows) + 0.32 for rows in groups.values()) + 0.1
    listed = page_layout.wrapped("; ".join(untested_names(untested)), width - 0.2, SIZE)
    height += (0.3 + page_layout.lines_high(listed, SIZE) + 0.1) if untested else 0
    figure = page_layout.page(width, height)
    page_layout.write(figure, 0.1, 0.12, TITLE, size=11.5, weight="bold")
    page_layout.write(figure, 0.1, 0.4, note, color=GREY)
    _verdict_key(figure, 0.1, start - 0.2)
    top = start
    for heading, rows in groups.items():
        page_layout.write(figure, 0.1, top + 0.24, heading, weight="bold", size=8.5, va="bottom")
        top += 0.3
        tall = sum(e["height"] for e in rows)
        ax = page_layout.place(figure, 0.1 + TEXT + 0.25, top, AXIS, tall)
        _forest(ax, rows, tall, zero=not heading.startswith("Level"))
        for entry in rows:
            _words(figure, entry, top)
            top += entry["height"]
        top += 0.32
    if untested:
        heading = "Not tested by this grid (claims.html tells what each would need)"
        page_layout.write(figure, 0.1, top + 0.24, heading, weight="bold", size=8.5, va="bottom")
        top += 0.3
        page_layout.write(figure, 0.1, top, listed, size=SIZE, color=GREY)
    return figure


def untested_names(entries: list[dict[str, Any]]) -> list[str]:
    """Short names of claims, those that differ by the fit alone once, e.g. ``More points help (no TS, exact)``."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        claim, fit = entry["name"]
        fits = found.setdefault(labels.claim_label(claim, fit), [])
        if f"_{fit}" in claim:
            fits.append("no TS" if fit == "none" else fit)
    return [name + (f" ({', '.join(fits)})" if fits else "") for name, fits in found.items()]


def _entry(rows: pd.DataFrame) -> dict[str, Any]:
    """What a claim's row shows: its statement, overall row (or None), rows of single cells, and size."""
    overall = rows[rows["scope"] == "all"]
    cells = rows[rows["scope"] != "all"]
    first = rows.iloc[0]
    main = overall.iloc[0] if len(overall) else None
    verdict = str(first["verdict"]) if main is not None or len(cells) == 1 else "cells"
    if main is None and (cells["verdict"] == "not_tested").all():
        verdict = "not_tested"
    text = page_layout.wrapped(labels.in_words(str(first["statement"])), TEXT, SIZE)
    return {
        "name": (str(first["claim"]), str(first["fit"])),
        "text": text,
        "main": main,
        "cells": cells,
        "margin": float(first["margin"]),
        "above": str(first["direction"]) == "above",
        "verdict": verdict,
        "group": group_of(str(first["statistic"])),
        "height": max(page_layout.lines_high(text, SIZE) + 0.13, 0.36),
    }


def group_of(statistic: str) -> str:
    """The axis that a claim's statistic belongs on, in words, e.g. ``Difference in NLL (nats)``."""
    kind = re.match(r"\w+", statistic)
    value = re.search(r"\bmetric (\w+)", statistic) or re.search(r" of \w+\.(\w+)", statistic)
    if kind is None or kind[0] not in KINDS or value is None:
        return statistic
    return KINDS[kind[0]].format(UNITS.get(value[1], value[1]))


def _forest(ax: Axes, rows: list[dict[str, Any]], tall: float, zero: bool) -> None:
    """Estimates, intervals and margins of claims that share an axis; `tall` inches high, y in inches downwards."""
    low, high = _limits(rows, zero)
    top = 0.0
    for i, entry in enumerate(rows):
        end = top + entry["height"]
        y = top + min(0.15, entry["height"] / 2)
        side = (entry["margin"], high) if entry["above"] else (low, entry["margin"])
        ax.fill_between(np.clip(side, low, high), top + 0.02, end - 0.02, color="#eaf1ec", lw=0, zorder=0)
        ax.plot([entry["margin"]] * 2, [top + 0.02, end - 0.02], color=INK, lw=1, zorder=2)
        if i:
            ax.axhline(top, color="#dddddd", lw=0.5, zorder=0)
        for cell in entry["cells"].itertuples():
            if np.isfinite(cell.estimate):
                style = styles.VERDICT_STYLES.get(cell.verdict, styles.VERDICT_STYLES["not_tested"])
                _symbol(ax, cell.estimate, y + 0.13, cell.verdict, style.color, 3.2)
        main = entry["main"]
        if main is not None and np.isfinite(main["estimate"]):
            style = styles.VERDICT_STYLES.get(entry["verdict"], styles.VERDICT_STYLES["not_tested"])
            if np.isfinite(main["low"]):
                ax.plot([main["low"], main["high"]], [y, y], color=style.color, lw=1.6, zorder=3)
                _beyond(ax, main, y, low, high, style.color)
            _symbol(ax, main["estimate"], y, entry["verdict"], style.color, 5.5)
        top = end
    ax.set(xlim=(low, high), ylim=(tall, 0), yticks=())
    ax.spines["left"].set_visible(False)


MARKS = {"holds": "o", "does_not": "X", "undecided": "D", "not_tested": "|"}


def _symbol(ax: Axes, x: float, y: float, verdict: str, color: str, size: float) -> None:
    """A mark whose shape tells the verdict as its colour does; undecided is hollow."""
    face = "white" if verdict == "undecided" else color
    ax.plot([x], [y], marker=MARKS.get(verdict, "|"), ms=size, mfc=face, mec=color, mew=0.9, ls="", zorder=4)


def _limits(rows: list[dict[str, Any]], zero: bool) -> tuple[float, float]:
    """Limits that hold all estimates and margins (0 too, if `zero`), and intervals as far as they don't dwarf those."""
    points: list[float] = [0.0] if zero else []
    ends: list[float] = []
    for entry in rows:
        points += [entry["margin"], *entry["cells"]["estimate"]]
        if entry["main"] is not None:
            points.append(entry["main"]["estimate"])
            ends += [entry["main"]["low"], entry["main"]["high"]]
    held, reached = (np.array(x, dtype=float) for x in (points, ends))
    held, reached = held[np.isfinite(held)], reached[np.isfinite(reached)]
    low, high = held.min(), held.max()
    span = max(high - low, 1e-9)
    low, high = (min([low, *np.maximum(reached, low - span)]), max([high, *np.minimum(reached, high + span)]))
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _beyond(ax: Axes, row: pd.Series, y: float, low: float, high: float, color: str) -> None:
    """Arrow heads where an interval runs out of the axis."""
    for end, edge, mark in ((row["low"], low, "<"), (row["high"], high, ">")):
        if (end < edge) if mark == "<" else (end > edge):
            ax.plot([edge], [y], marker=mark, ms=4, color=color, ls="", clip_on=False, zorder=4)


def _words(figure: Figure, entry: dict[str, Any], top: float) -> None:
    """A claim's statement on the left, its verdict on the right."""
    page_layout.write(figure, 0.1, top + 0.05, entry["text"], size=SIZE)
    left = 0.1 + TEXT + 0.25 + AXIS + 0.2
    if entry["verdict"] in labels.VERDICTS:
        style = styles.VERDICT_STYLES[entry["verdict"]]
        text = f"{style.marker}  {labels.VERDICTS[entry['verdict']]}"
        page_layout.write(figure, left, top + 0.15, text, color=style.color, weight="bold", va="center")
    if len(entry["cells"]) > 1:
        page_layout.write(figure, left, top + 0.28, tally(entry), size=7, color=GREY, va="center")


def tally(entry: dict[str, Any]) -> str:
    """How single cells came out, and how many were left out, e.g. ``of 6: 4 ✓  1 ✗  1 ?; 3 left out``."""
    verdicts = entry["cells"]["verdict"]
    counts = verdicts[verdicts != "not_tested"].value_counts()
    parts = [f"{counts[name]} {style.marker}" for name, style in styles.VERDICT_STYLES.items() if name in counts]
    excluded = int(entry["main"]["excluded"]) if entry["main"] is not None else int(entry["cells"]["excluded"].sum())
    return f"of {counts.sum()}: {'  '.join(parts)}" + (f"; {excluded} left out" if excluded else "")


def _verdict_key(figure: Figure, left: float, top: float) -> None:
    """The legend: shape, colour and word of each verdict."""
    handles = []
    for name in ("holds", "does_not", "undecided"):
        color = styles.VERDICT_STYLES[name].color
        face = "white" if name == "undecided" else color
        label = f"{labels.VERDICTS[name]} ({styles.VERDICT_STYLES[name].marker})"
        handles.append(artists.key(label, color, marker=MARKS[name], mfc=face, ls="", ms=5))
    page_layout.draw_legend(figure, [handles], left, top)
