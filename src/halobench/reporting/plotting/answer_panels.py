"""Draw answers as dot plots, with a row per pair of data set and model or, if there are many, per data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import PercentFormatter

from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import GROUP, MOST_JOINED, Answer, Series
from halobench.reporting.answers.takeaways import population_in_words
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import add_head, add_legend, blank_figure, empty_page, wrapped
from halobench.reporting.plotting.style import GREY, INK

MOST_ROWS = 24  # if there are more, or `MOST_JOINED`, the pairs of a data set share a row, without intervals
ROW, LANE, ENDS = 0.25, 0.05, 0.8  # inches: heights of a row, of each lane after its first, and of an axis
WIDTH, NAMES = 4.8, 1.6  # inches: of a page, which fits a phone, and of the names of rows
SPAN = "#d8c391"
BOLD = 13  # points that bold letters of 11 points are as wide as


@dataclass(frozen=True)
class _Rows:
    """The rows of a panel: each row's name with the look of its text, and the row of each data set, model and loss."""

    names: list[tuple[str, dict[str, str]]]
    places: dict[tuple[str, str, str], int]

    def of(self, table: pd.DataFrame) -> np.ndarray:
        return np.array([self.places[group] for group in table[GROUP].itertuples(index=False, name=None)], float)


def _groups(answer: Answer) -> pd.DataFrame:
    """Return the data set, model and loss of all dots, once each."""
    return pd.concat([series.values[GROUP] for series in answer.series]).drop_duplicates()


def _pooled(answer: Answer) -> bool:
    """Return whether the pairs of a data set share a row."""
    return bool(answer.series) and len(_groups(answer)) > (MOST_JOINED if answer.joined else MOST_ROWS)


def _rows(answer: Answer) -> _Rows:
    """Return a row per pair, with rows for its other losses below, or a row per data set if there would be too many.

    If there are several populations, a heading without dots stands above the rows of each population.
    """
    table = _groups(answer)
    losses = {pair: table_views.losses_in(rows) for pair, rows in table_views.groups_of(table, GROUP[:2]).items()}
    several = len(table) > len(losses)  # losses in some pair
    pooled, bold = _pooled(answer), {"weight": "bold"}
    rows = _Rows([], {})
    for where, part in answer.populations.parts(table).items() if answer.populations else [("", table)]:
        if where:
            heading = population_in_words(where)
            rows.names.append((heading[:1].upper() + heading[1:], bold | {"style": "italic"}))
        own: dict[str, int] = {}
        for dataset, model in table_views.cells_in(part):
            for i, loss in enumerate(losses[dataset, model]):
                if not pooled:
                    name = labels.loss_label(loss) if i else labels.cell_label(dataset, model)
                    rows.names.append((name, bold if several and not i else {}))
                elif dataset not in own:
                    rows.names.append((labels.dataset_label(dataset), {}))
                    own[dataset] = len(rows.names) - 1
                rows.places[dataset, model, loss] = own.get(dataset, len(rows.names) - 1)
    return rows


def _lanes(answer: Answer) -> list[Any]:
    """Return the distinct styles of series, each of which has a lane in a row; [None] if joined dots share one lane."""
    return list(dict.fromkeys(None if answer.joined else series.style for series in answer.series))


def height(answer: Answer) -> float:
    """Return the height of an answer's panel in inches."""
    lanes = 1 if _pooled(answer) else len(_lanes(answer))
    return ENDS + len(_rows(answer).names) * (ROW + LANE * (lanes - 1))


def answer_page(answer: Answer) -> Figure:
    """Return an answer's figure, titled by its take-away or question; if there is no answer, the figure says why."""
    figure = blank_figure(WIDTH, height(answer) if answer.series else 0.1)
    if answer.series:
        draw_answer(figure.subplots(), answer)
    add_head(figure, answer.title, _note(answer), legend(answer), WIDTH)
    return figure


def _note(answer: Answer) -> str:
    """Return the line below the title, which also says what a mark is if several share a row."""
    return f"{answer.note} Each mark is one model." if _pooled(answer) else answer.note


def legend(answer: Answer) -> list[Line2D]:
    """Return the legend of an answer's panel."""
    look: dict[str, Any] = {"ls": "", "ms": 5}
    keys = []
    for series in (series for series in answer.series if series.label):
        infinite = int(np.isinf(series.values["mean"].to_numpy(float)).sum())  # no axis has room for them
        label = f"{series.label} (infinite on {count(infinite, 'pair')})" if infinite else series.label
        marker = {"marker": series.style.marker} | look | _face(series, False)
        keys.append(artists.key(label, series.style.color, **marker))
    if answer.hollow:
        keys.append(artists.key(answer.hollow, GREY, marker="o", mfc="white", **look))
    if any(series.values["open"].any() for series in answer.series):
        keys.append(artists.key("larger than shown", GREY, marker=">", mfc="white", **look))
    if len(_spans(answer)):
        tick = {"marker": "|", "ls": "", "ms": 8, "mew": 1.5} if _ticks(answer) else {"lw": 6, "solid_capstyle": "butt"}
        keys.append(artists.key(answer.span, INK if _ticks(answer) else SPAN, **tick))
    return keys


def _ticks(answer: Answer) -> bool:
    return bool((answer.spans["low"] == answer.spans["high"]).all())


def _spans(answer: Answer) -> pd.DataFrame:
    """Return the spans to draw: none in rows of several pairs, where wide spans would hide each other."""
    return answer.spans if _ticks(answer) or not _pooled(answer) else answer.spans[:0]


def _face(series: Series, larger: bool) -> dict[str, Any]:
    return {"mfc": "white" if series.hollow or larger else series.style.color, "mew": 1}


def draw_answer(ax: Axes, answer: Answer) -> None:
    """Draw an answer's dots, intervals and spans, with the names of rows on the left."""
    rows, spans, pooled = _rows(answer), _spans(answer), _pooled(answer)
    low, high = _limits(answer, spans, pooled)
    ax.axvline(answer.line, color="#8a8a8a", lw=0.8, zorder=1)
    if len(spans):
        y = rows.of(spans)
        if _ticks(answer):
            ax.plot(spans["low"], y, "|", color=INK, ms=9, mew=1.5, zorder=2)
        else:
            ax.hlines(y, spans["low"], spans["high"].clip(upper=high), color=SPAN, lw=6, zorder=1)
    if answer.joined and not pooled:
        ends = pd.concat(dots.values for dots in answer.series).groupby(GROUP, sort=False)["mean"].agg(["min", "max"])
        y = rows.of(ends.reset_index())
        ax.hlines(y, ends["min"], ends["max"], color="#b5b5b5", lw=2.5, zorder=2)
    lanes = _lanes(answer)
    offsets = artists.dodge(len(lanes), 0.6 if pooled else 0.75)
    for series in answer.series:
        offset = offsets[lanes.index(None if answer.joined else series.style)]
        _draw_series(ax, series, rows.of(series.values) + offset, not (answer.joined or pooled))
    for artist in (*ax.lines, *ax.collections):  # within the limits, but their boxes confuse the layout of subfigures
        artist.set_in_layout(False)
    ax.set(xlim=(low, high), ylim=(len(rows.names) - 0.4, -0.6), yticks=range(len(rows.names)))
    names = [wrapped(name, NAMES, 7.5).replace(" ·\n", "\n").replace("\n· ", "\n") for name, _ in rows.names]
    ax.set_yticklabels(names, size=7.5)
    for tick, (_, look) in zip(ax.get_yticklabels(), rows.names, strict=True):
        tick.set(**look)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    if answer.log:
        ax.set_xscale("symlog", linthresh=0.01, linscale=0.3)
        ax.set_xlim(low, high)
        ax.set_xticks([0, 0.01, 0.1, 1])
    ax.set_xlabel(answer.axis)
    if answer.percent:
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))


def _limits(answer: Answer, spans: pd.DataFrame, pooled: bool) -> tuple[float, float]:
    drawn = ("mean",) if answer.joined or pooled else ("mean", "low", "high")
    columns = [each.values[name] for each in answer.series for name in drawn]
    columns += [spans[name] for name in ("low", "high")] + [pd.Series([answer.line])]
    values = np.concatenate([column.to_numpy(float) for column in columns])
    values = values[np.isfinite(values)]
    if answer.log:
        return -0.004, 1.2 * values.max()
    pad = 0.04 * (values.max() - values.min()) or 0.01
    return values.min() - pad, values.max() + pad


def _draw_series(ax: Axes, series: Series, y: np.ndarray, intervals: bool) -> None:
    values, color = series.values, series.style.color
    if intervals:
        ax.hlines(y, values["low"], values["high"], color=color, lw=1, zorder=3)
    for larger in (False, True):
        part = (values["open"] == larger).to_numpy()
        marker = ">" if larger else series.style.marker
        look: dict[str, Any] = {"color": color, "marker": marker, "ms": 5, "clip_on": False, "zorder": 4}
        ax.plot(values["mean"][part], y[part], ls="", **look, **_face(series, larger))


def answers_page(answers: Sequence[Answer]) -> Figure:
    """Return a page with a panel per answer, in two columns; each panel has its title and note above it."""
    shown = [answer for answer in answers if answer.series]
    if not shown:
        return empty_page("None of the four questions is answered", "\n".join(answer.short for answer in answers))
    columns = [column for column in (shown[::2], shown[1::2]) if column]
    tallest = max(sum(map(_part_height, column)) for column in columns)
    figure = blank_figure(WIDTH * len(columns), tallest)
    for place, column in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        heights = [*map(_part_height, column)]
        heights[-1] += tallest - sum(heights)
        parts = place.subfigures(len(column), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, answer in zip(parts, column, strict=True):
            _draw_part(part, answer)
    return figure


def _part_height(answer: Answer) -> float:
    """Return the height in inches of a panel with its title, note and legend."""
    keys = legend(answer)
    across = max(1, int(WIDTH / (0.5 + 0.065 * max(len(str(key.get_label())) for key in keys))))
    lines = (
        wrapped(_note(answer), WIDTH, 8).count("\n")
        + 1
        + wrapped(answer.title, WIDTH, BOLD).count("\n")
        + math.ceil(len(keys) / across)
    )
    return height(answer) + 0.55 + 0.16 * lines


def _draw_part(part: SubFigure, answer: Answer) -> None:
    """Draw a panel below its title and note, and above its legend."""
    text = wrapped(_note(answer), WIDTH, 8)
    look: dict[str, Any] = {"x": 0.02, "ha": "left", "size": 11, "weight": "bold", "parse_math": False}
    heading = part.suptitle(wrapped(answer.title, WIDTH, BOLD) + "\n" * (text.count("\n") + 1), **look)
    part.add_artist(Annotation(text, (0, 0), xycoords=heading, va="bottom", color=INK, parse_math=False))
    draw_answer(part.subplots(), answer)
    add_legend(part, legend(answer), WIDTH, loc="outside lower left")
