"""Show test NLL and ECE by calibrator and loss, next to the Bayes posterior and other untrained predictors."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from halobench.core.calibrator_spec import CALIBRATORS
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page, wrapped
from halobench.reporting.plotting.style import GREY, INK, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles
from halobench.results.names import Style
from halobench.storage.columns import REFERENCE

SHORT = "Calibration"
CATEGORY = "3 Calibration"
CAPTION = """\
Test NLL (in nats) and expected calibration error (ECE), by calibrator and training loss; lower is better. *TS
(paper's code)* is temperature scaling as the paper's code fits it, with a fixed number of small steps. *TS (optimal)*
uses the certified optimum on the validation data. *TS (test-set oracle)* uses the optimum on the test data itself,
which makes it a bound rather than a usable method. If labels are uncertain, because of label noise or because the
data came with a posterior, scores are expectations under the known posterior. The horizontal lines show predictors
that need no training: the posterior itself (bayes), which no model can beat in NLL; a uniform guess; and the label of
the nearest training point. All other calibrators in the grid are fitted to validation data, as *TS (optimal)* is.
Some of them generalise temperature scaling; isotonic and histogram map the probability of each class separately, and
may set a probability to 0, which can make the NLL infinite; the panel says for how many models this happens. When ECE
is measured against certain labels, it has a floor: on a finite test set, even perfect probabilities have a positive
ECE. The table of metrics lists this floor as ``ece_floor``. ECEs near this floor are too small to rank. In
expectation under a posterior, perfect probabilities have an ECE of 0, so no floor is drawn. A temperature is fitted
to minimise NLL, so it can worsen ECE even if it improves NLL. Bars are 95% t intervals over seeds; they stop at 0
because neither score can be negative. If a model classifies every validation point correctly, its NLL keeps falling
as T approaches 0, so no temperature is optimal. Such models are left out of the mean at *TS (optimal)*, and the panel
says how many there are. The fit of the paper's code may end at a negative temperature, mostly when the optimum is
between 0.54 and 0.69. Such a fit is scored as it is, and the panel says for how many models this happens. If there
are more than six pairs of data set and model, only those with the most label noise are shown; the explorer has the
others.
"""

TITLE = "What temperature scaling changes on test data"
OTHER_TITLE = "What calibration changes on test data"  # if some calibrators aren't temperatures
METRICS = {name: labels.metric_axis(name) for name in ("nll", "ece")}
FAR = 3
MOST_CELLS = 6
LONGEST_WORD = 12  # characters per line of a plug-in's name below its column
REFERENCE_DASHES = {"bayes": "-", "nearest": (0, (4, 2)), "uniform": (0, (1, 1.5))}


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw NLL and ECE by calibrator: means over seeds with t intervals, a marker per loss, references as lines.

    Test scores are shown, in expectation under the posterior if it is known. `runs` has the temperatures.
    """
    table = table_views.without_void_floors(table_views.preferred_labels(metrics))
    table = table[table["metric"].isin((*METRICS, "ece_floor"))]
    table, chosen = table_views.noisiest_cells(table, [], "the explorer", MOST_CELLS)
    trained = table[(table["metric"] != "ece_floor") & (table["loss"] != REFERENCE)]
    if trained.empty:
        return empty_page(TITLE, "No NLL or ECE was computed on a test set.")
    calibrators = labels.ordered(trained["calibrator"], labels.CALIBRATORS)
    styles = loss_styles(table_views.losses_in(trained))
    others = _others(calibrators)
    note = (
        f"Points: {seeds_note(trained)}, on {table_views.label_note(trained)}; wide intervals may leave their panel. "
        f"{_temperatures(calibrators)}{others}Lower is better. {chosen}"
    )
    values = table_views.groups_of(trained, ["dataset", "model", "metric"])
    ticks = ["\n".join(_short_lines(labels.calibrator_label(name))) for name in calibrators]
    wide = max(2.6, 0.6 * len(calibrators) + 0.5)
    with_references = table[table["dataset"].isin(trained["dataset"])]  # includes the references of the data sets shown
    figure, axes = draw_grid(
        PageText(OTHER_TITLE if others else TITLE, note, _legend_keys(with_references, styles)),
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(trained)},
        METRICS,
        {(key[:2], key[2]) for key in values},
        (wide, 1.95),
    )
    means = over_seeds(table, ["dataset", "model", "loss", "calibrator", "metric"], "value", (0, np.inf))
    means = means.assign(x=means["calibrator"].map({name: i for i, name in enumerate(calibrators)}))
    of_panel = table_views.groups_of(means, ["dataset", "model", "metric"])
    fits = table_views.groups_of(runs, ["dataset", "model"])
    none = means.iloc[:0]
    for (cell, metric), ax in axes.items():
        shown = of_panel.get((*cell, metric), none)
        floor = of_panel.get((*cell, "ece_floor"), none) if metric == "ece" else none
        far = far_off(shown)
        shown = shown.drop(far.index).sort_values("x")
        _draw_losses(ax, shown, floor, styles)
        references = means[(means["dataset"] == cell[0]) & (means["metric"] == metric) & (means["loss"] == REFERENCE)]
        remarks = _limit(ax, pd.concat([shown, floor]), reference_values(references)) + above(far)
        if metric == "nll":
            remarks += fits_below_0(fits.get(cell, runs.iloc[:0])) + missing_fits(values[*cell, metric])
        ax.set_xlabel(wrapped("; ".join(remarks), wide - 0.6, 7), loc="right", size=7, color=GREY)
        ax.set_xlim(-0.5, len(calibrators) - 0.5)
        ax.set_xticks(range(len(calibrators)), ticks)
        ax.grid(axis="x", visible=False)
        ax.tick_params(axis="x", length=0)
    return figure


def _legend_keys(table: pd.DataFrame, styles: Mapping[str, Style]) -> list[Line2D]:
    """Return the legend's entries: the losses, plus the references and the ECE floor if `table` has them."""
    named = set(table["model"].unique())
    keys = artists.loss_keys(styles, styles, ls="")
    keys += [artists.key(labels.REFERENCES[n], ls=d, lw=1) for n, d in REFERENCE_DASHES.items() if n in named]
    if (table["metric"] == "ece_floor").any():
        floor = "ECE floor: perfectly calibrated, same sample size"
        keys.append(artists.key(floor, GREY, marker="_", ms=8, mew=1.5, ls=""))
    return keys


def _short_lines(label: str) -> Iterable[str]:
    """Yield a label's words; a plug-in's name is split at underscores, to keep clear of its neighbours."""
    for word in label.split(" "):
        lines = textwrap.wrap(word.replace("_", "_ "), LONGEST_WORD) if "_" in word else [word]
        yield from (line.replace("_ ", "_") for line in lines)


def _temperatures(calibrators: Collection[str]) -> str:
    """Return sentences on what the displayed temperatures are fitted to, or an empty string if there are none."""
    how = [
        words
        for name, words in (("released", "by the paper's code"), ("exact", "at the optimum"))
        if name in calibrators
    ]
    fitted = f"Temperature scaling (TS) is fitted on validation data, {' or '.join(how)}" if how else ""
    oracle = "the test-set oracle is fitted on the test data" if "oracle" in calibrators else ""
    sentence = "; ".join(filter(None, (fitted, oracle)))
    return f"{sentence[0].upper()}{sentence[1:]}. " if sentence else ""


def _others(calibrators: Iterable[str]) -> str:
    """Return a sentence that lists the calibrators other than TS, or an empty string if there are none."""
    names = [labels.calibrator_label(name) for name in calibrators if name not in CALIBRATORS]
    return f"Also fitted on validation data: {', '.join(names)}. " if names else ""


def reference_values(rows: pd.DataFrame) -> dict[str, float]:
    """Return the means of the untrained predictors, from one data set's reference rows.

    ``nearest`` is scored after the optimal TS, if that was fitted, and the others before TS.
    """
    values = {}
    for name in labels.REFERENCES:
        means = rows[rows["model"] == name].set_index("calibrator")["mean"]
        order = ("exact", "none") if name == "nearest" else ("none", "exact")
        fits = [fit for fit in (*order, *means.index) if fit in means.index]
        if fits:
            values[name] = float(means[fits[0]])
    return values


def models(count: int) -> str:
    """Return a number of models in words."""
    return f"{count} model{'s' * (count != 1)}"


def fits_below_0(runs: pd.DataFrame) -> list[str]:
    """Return a remark on how often the paper's fit ended below 0, or none if it never did."""
    fits = runs["temperature_released"].dropna()
    below = int((fits < 0).sum())
    return [f"{labels.calibrator_label('released')}: fit below 0 for {below} of {models(len(fits))}"] if below else []


def missing_fits(rows: pd.DataFrame) -> list[str]:
    """Return remarks on how often calibrators have no optimum or no finite NLL, merging identical remarks."""
    remarks: dict[str, list[str]] = {}
    for calibrator, group in rows.groupby("calibrator", sort=True):
        what = "T" if calibrator in CALIBRATORS else "optimum"
        absent, infinite = int(group["value"].isna().sum()), int(np.isposinf(group["value"]).sum())
        for count, problem in ((absent, f"no finite {what}"), (infinite, "infinite")):
            if count:
                remark = f"{problem} for {count} of {models(len(group))}"
                remarks.setdefault(remark, []).append(labels.calibrator_label(str(calibrator)))
    return [f"{', '.join(names)}: {remark}" for remark, names in remarks.items()]


def far_off(means: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the paper's fit that exceed `FAR` times all others, as happens when it ends below 0."""
    released = means["calibrator"] == "released"
    finite = means[np.isfinite(means["mean"]) & ~released]
    return means[released & (means["mean"] > FAR * finite["mean"].max())]


def above(far: pd.DataFrame) -> list[str]:
    """Return a remark on the means of the paper's fit that are too large to draw, or none if all fit."""
    ends = [f"{value:.2f}" for value in sorted({far["mean"].min(), far["mean"].max()})] if len(far) else []
    return [_beyond(labels.calibrator_label("released"), " to ".join(ends))] if ends else []


def _beyond(name: str, value: str) -> str:
    """Return a remark on what lies above a panel, with no-break spaces."""
    return f"↑ {name} {value}".replace(" ", "\N{NO-BREAK SPACE}")


def _draw_losses(ax: Axes, shown: pd.DataFrame, floor: pd.DataFrame, styles: Mapping[str, Style]) -> None:
    """Draw the means and intervals of all losses side by side for each calibrator.

    Ticks mark the ECE that a perfectly calibrated model would show with this number of samples.
    """
    losses = [loss for loss in styles if loss in set(shown["loss"])]
    for offset, loss in zip(artists.dodge(len(losses), 0.62), losses, strict=True):
        rows, ticks, color = shown[shown["loss"] == loss], floor[floor["loss"] == loss], styles[loss].color
        x = rows["x"] + offset
        ax.plot(x, rows["mean"], color=color, marker=styles[loss].marker, ms=4, mew=0, ls="", zorder=3)
        finite = np.isfinite(rows["low"])
        ax.vlines(x[finite], rows["low"][finite], rows["high"][finite], color=color, lw=1, zorder=2)
        look: dict[str, Any] = {"ms": 6, "mew": 1.4, "ls": "", "alpha": 0.7, "zorder": 2}
        if len(ticks):
            ax.plot(ticks["x"] + offset, ticks["mean"], marker="_", color=color, **look)


def _limit(ax: Axes, shown: pd.DataFrame, references: Mapping[str, float]) -> list[str]:
    """Set the vertical limits and draw the references within them; return the others as text.

    The limits include the means and the Bayes posterior. Intervals, which may be wide with few seeds, extend them by at
    most 30% of their span on each side, and other references by at most 25%.
    """
    means = [*shown["mean"][np.isfinite(shown["mean"])], *(v for name, v in references.items() if name == "bayes")]
    if not means:  # all are infinite, as the remarks say
        return []
    low, high = min(means), max(means)
    span = max(high - low, 1e-3 * max(abs(high), 1e-6), 1e-9)
    low = min(low, max(shown["low"].min(), low - 0.3 * span, min(low, 0)))
    high = max(high, min(shown["high"].replace(np.inf, np.nan).max(), high + 0.3 * span))
    beyond = []
    for name, value in references.items():
        if value <= high + 0.25 * span:
            ax.axhline(value, color=INK, ls=REFERENCE_DASHES[name], lw=0.9, zorder=1)
            high = max(high, value)
        else:
            beyond.append(_beyond(labels.REFERENCES[name], f"{value:.2f}" if np.isfinite(value) else "∞"))
    pad = 0.06 * (high - low) or 0.01
    ax.set_ylim(low - pad, high + pad)
    return beyond
