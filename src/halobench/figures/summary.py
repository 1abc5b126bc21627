"""One page that joins the essentials: how far certainty reaches, what temperature scaling repairs, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.figures import theme

TITLE = "How far certainty reaches around training points, and what temperature scaling (TS) repairs"
WIDTH, LEFT, SPLIT = 11.0, 6.75, 7.15
MOST_CELLS, MOST_DATASETS, MOST_LOSSES, MOST_CLAIMS = 12, 3, 4, 26
FITS = ("none", "released", "exact", "oracle")
PROBES = {"sphere": "random direction", "nearest_other": "to nearest other", "manifold": "principal directions"}
PROBES |= {"mixup_line": "to random other"}


@theme.styled
def draw(
    neighbourhood: pd.DataFrame,
    radii: pd.DataFrame,
    metrics: pd.DataFrame,
    reliability: pd.DataFrame,
    runs: pd.DataFrame,
    claims: pd.DataFrame,
) -> Figure:
    """Draw the summary page.

    Parameters
    ----------
    neighbourhood, radii, metrics, reliability, runs, claims : DataFrame
        As aggregated and judged. Of large grids the curves show one model on up to three data sets and the dots up to
        twelve cells, and the page says so.

    Returns
    -------
    Figure
    """
    losses, cells = theme.losses_in(runs), theme.cells_in(runs)
    styles = theme.loss_styles(losses)
    model = focus_model(cells)
    shown = cells if len(cells) <= MOST_CELLS else [cell for cell in cells if cell[1] == model][:MOST_CELLS]
    datasets = [d for d, m in cells if m == model][:MOST_DATASETS]
    matrix = verdict_matrix(claims)

    rows_high = max(0.3, 0.085 * len(losses) + 0.08) * len(shown)
    list_high = 0.16 * min(len(matrix), MOST_CLAIMS) + 0.16 * (len(matrix) > MOST_CLAIMS) + 0.36
    curves_top, curve_high = 1.5, 1.15
    lower = curves_top + 2 * curve_high + 1.3
    height = lower + max(rows_high, list_high) + 0.62
    figure = theme.page(WIDTH, height)
    theme.write(figure, 0.15, 0.14, TITLE, size=13, weight="bold")
    theme.write(figure, 0.15, 0.42, _facts(runs, len(cells), len(shown)), color=theme.GREY)
    theme.draw_legend(figure, [theme.loss_keys(losses, styles)], 0.15, 0.72)

    _heading(
        figure,
        0.15,
        1.0,
        "A",
        "How confident is a model in a point's label, this far from the point?",
        f"label trained on; {theme.model_label(model)}",
    )
    _curves(figure, neighbourhood, datasets, model, losses, styles, curves_top, curve_high)
    pair = focus_cell(runs, model)
    _heading(figure, SPLIT, 1.0, "D", "How often are confident answers right?", theme.cell_label(*pair))
    _reliability(figure, reliability, pair, losses, curves_top, curve_high)

    below = " or ".join(f"{t:g}" for t in sorted(radii["threshold"].dropna().unique()))
    _heading(
        figure, 0.15, lower - 0.5, "B", "How far does certainty reach?", f"until confidence falls below {below}; no TS"
    )
    _heading(figure, 3.95, lower - 0.5, "C", "What does TS repair?", "test NLL before and after, lower is better")
    _dots(figure, radii, metrics, shown, losses, styles, lower, rows_high)
    _heading(figure, SPLIT, lower - 0.5, "E", "What comes of the claims?", "by the calibration they speak of")
    _verdicts(figure, matrix, lower)
    return figure


def focus_model(cells: Sequence[tuple[str, str]]) -> str:
    """The model with the most data sets, the first of those in the order of panels."""
    models = theme.ordered((m for _, m in cells), theme.MODELS)
    return max(models, key=lambda m: sum(m == other for _, other in cells))


def focus_cell(runs: pd.DataFrame, model: str) -> tuple[str, str]:
    """The data set with the most label noise, then the most losses, that this model was trained on."""
    rows = runs[runs["model"] == model]
    order = theme.ordered(rows["dataset"], theme.DATASETS)
    by = rows.groupby("dataset")
    noise, losses = by["noise"].max(), by["loss"].nunique()
    return max(order, key=lambda d: (noise[d], losses[d])), model


def _facts(runs: pd.DataFrame, cells: int, shown: int) -> str:
    """What the page rests on, in a line."""
    fits = runs["interpolates"].astype(bool)
    text = (
        f"{len(runs)} trained models: {cells} pairs of data set and model, {runs['loss'].nunique()} "
        f"loss{'es' * (runs['loss'].nunique() > 1)}; {fits.sum()} of them interpolate their training labels. "
        f"Shown: {theme.seeds_note(runs)}."
    )
    return text + (f" B and C: {shown} of {cells} pairs." if shown < cells else "")


def _heading(figure: Figure, left: float, top: float, letter: str, text: str, more: str = "") -> None:
    """A part's letter and title, with a grey second line."""
    theme.write(figure, left, top, letter, weight="bold", size=9.5)
    theme.write(figure, left + 0.17, top, text, weight="bold", size=9.5)
    if more:
        theme.write(figure, left + 0.17, top + 0.18, more, color=theme.GREY)


def _curves(
    figure: Figure,
    table: pd.DataFrame,
    datasets: Sequence[str],
    model: str,
    losses: Sequence[str],
    styles: Mapping[str, theme.Style],
    top: float,
    high: float,
) -> None:
    """Part A: a column a data set, a row a probe."""
    table = table[(table["model"] == model) & table["dataset"].isin(datasets)].dropna(subset=["relative_radius"])
    there = set(table["probe"])
    probes = [p for p in ("sphere", "nearest_other", "manifold", "mixup_line") if p in there][:2]
    means = theme.over_seeds(table, ["dataset", "probe", "loss", "points", "relative_radius"], "confidence")
    start, gap = 0.75, 0.2
    wide = (LEFT - start - gap * (MOST_DATASETS - 1)) / MOST_DATASETS
    wide = min(wide * MOST_DATASETS / max(len(datasets), 1), 2.6)
    for j, dataset in enumerate(datasets):
        left = start + j * (wide + gap)
        theme.write(figure, left + wide / 2, top - 0.06, theme.dataset_label(dataset), ha="center", va="bottom")
        for i, probe in enumerate(probes):
            rows = means[(means["dataset"] == dataset) & (means["probe"] == probe)]
            if rows.empty:
                continue
            ax = theme.place(figure, left, top + i * (high + 0.12), wide, high)
            theme.draw_lines(ax, rows, "relative_radius", losses, styles, size=2.4)
            ax.axvline(1, color=theme.FAINT, lw=0.8, zorder=1)
            end = table["relative_radius"].max()
            ax.set(xlim=(0, end), xticks=np.arange(0, end + 1e-9, 0.5 if end <= 1.5 else 1.0))
            ax.set(ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
            if i < len(probes) - 1:
                ax.set_xticklabels([])
            if j:
                ax.set_yticklabels([])
            else:
                ax.set_ylabel(f"confidence,\n{PROBES.get(probe, probe)}")
    inner = len(datasets) * (wide + gap) - gap
    foot = top + len(probes) * (high + 0.12) + 0.17
    theme.write(figure, start + inner / 2, foot, theme.RELATIVE + "; dashed: held-out points", ha="center")


def _reliability(
    figure: Figure, table: pd.DataFrame, pair: tuple[str, str], losses: Sequence[str], top: float, high: float
) -> None:
    """Part D: a panel a loss of one data set and model, a line a calibrator, bars that count points."""
    table = theme.preferred_labels(table)
    table = table[(table["dataset"] == pair[0]) & (table["model"] == pair[1])]
    calibrators = [c for c in ("none", "released", "exact") if c in set(table["calibrator"])]
    pooled = theme.pooled_bins(table[table["calibrator"].isin(calibrators)], ["loss", "calibrator"])
    chosen = [loss for loss in losses if loss in set(pooled["loss"])][:MOST_LOSSES]
    start, gap = SPLIT + 0.5, 0.25
    columns = min(len(chosen), 2)
    wide = 1.4
    keys = [
        theme.key(theme.CALIBRATORS[c], style.color, ls=style.dash, marker=style.marker, lw=1)
        for c, style in ((c, theme.CALIBRATOR_STYLES[c]) for c in calibrators)
    ]
    theme.draw_legend(figure, [keys], SPLIT, 0.72)
    for k, loss in enumerate(chosen):
        i, j = divmod(k, 2)
        ax = theme.place(figure, start + j * (wide + gap), top + i * (high + 0.12), wide, high)
        theme.draw_reliability(ax, None, pooled[pooled["loss"] == loss], calibrators, size=2.6)
        ax.text(0.04, 0.97, theme.loss_label(loss), transform=ax.transAxes, va="top", size=7.5)
        if k + 2 < len(chosen):
            ax.set_xticklabels([])
        if j:
            ax.set_yticklabels([])
        else:
            ax.set_ylabel("accuracy")
    rows = (len(chosen) + 1) // 2
    middle = start + (columns * (wide + gap) - gap) / 2
    theme.write(figure, middle, top + rows * (high + 0.12) + 0.17, "confidence (below the line: too sure)", ha="center")


def _dots(
    figure: Figure,
    radii: pd.DataFrame,
    metrics: pd.DataFrame,
    cells: Sequence[tuple[str, str]],
    losses: Sequence[str],
    styles: Mapping[str, theme.Style],
    top: float,
    high: float,
) -> None:
    """Parts B and C: a row a data set and model, a dot (B) or a pair of dots (C) a loss."""
    radii, probe = _line_radii(radii)
    certainty = theme.over_seeds(radii, ["dataset", "model", "loss"], "relative_median").set_index(["dataset", "model"])
    nll = theme.preferred_labels(metrics)
    nll = nll[nll["metric"] == "nll"]
    scores = theme.over_seeds(nll, ["dataset", "model", "loss", "calibrator"], "value")
    left = theme.place(figure, 1.72, top, 1.95, high)
    right = theme.place(figure, 3.95, top, LEFT - 3.95, high)
    references: dict[str, list[tuple[int, float]]] = {"bayes": [], "uniform": []}
    for y, (dataset, model) in enumerate(cells):
        if y % 2 == 0:
            for ax in (left, right):
                ax.axhspan(y - 0.5, y + 0.5, color="#f4f4f4", lw=0, zorder=0)
        own = scores[(scores["dataset"] == dataset) & (scores["model"] == model)].set_index(["loss", "calibrator"])[
            "mean"
        ]
        there = [loss for loss in losses if loss in own.index.get_level_values(0)]
        for offset, loss in zip(theme.dodge(len(there), 0.78), there, strict=True):
            if (dataset, model) in certainty.index:
                _radius(left, certainty.loc[[(dataset, model)]], loss, y + offset, styles[loss])
            _change(right, own[loss], y + offset, styles[loss])
        for name, found in references.items():
            rows = scores[(scores["dataset"] == dataset) & (scores["model"] == name)]
            if len(rows):
                found.append((y, float(rows["mean"].iloc[0])))
    for name, found in references.items():
        for y, value in found:
            look = {"ls": "-" if name == "bayes" else (0, (1, 1)), "color": theme.INK, "lw": 1.1, "zorder": 2}
            if np.isfinite(value):
                right.plot([value, value], [y - 0.44, y + 0.44], **look)
    for ax in (left, right):
        ax.set(ylim=(len(cells) - 0.5, -0.5), yticks=range(len(cells)))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
    left.set_yticklabels(
        [theme.dataset_label(d).replace(" label noise", " noise") + f"\n{theme.model_label(m)}" for d, m in cells]
    )
    right.set_yticklabels([])
    left.set_xlim(left=min(-0.03, left.get_xlim()[0]))
    left.set_xlabel(f"median radius {PROBES.get(probe, probe)} / its distance")
    right.set_xlabel("NLL (nats)")
    keys = [
        theme.key("no TS", theme.GREY, marker="o", mfc="white", ls=""),
        theme.key("released", theme.GREY, marker="|", ms=6, ls=""),
        theme.key("exact", theme.GREY, marker="o", ls=""),
        theme.key("Bayes", theme.INK, marker="|", ms=8, mew=1.2, ls=""),
        theme.key("uniform guess", theme.INK, lw=1.1, ls=(0, (1, 1))),
    ]
    theme.draw_legend(figure, theme.legend_lines(keys, 3.4), 3.55, top + high + 0.42)


def _line_radii(radii: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Certainty radii around training points without TS, along the line to the nearest other label (or any probe)."""
    rows = radii[(radii["quantity"] == "certainty") & (radii["calibrator"] == "none") & (radii["points"] == "train")]
    there = set(rows["probe"])
    probe = next((p for p in ("nearest_other", "mixup_line", "manifold", "sphere") if p in there), None)
    return rows[rows["probe"] == probe], str(probe)


def _radius(ax: Axes, rows: pd.DataFrame, loss: str, y: float, style: theme.Style) -> None:
    """A dot with its interval."""
    for row in rows[rows["loss"] == loss].itertuples():
        if np.isfinite(row.low):
            ax.plot([row.low, row.high], [y, y], color=style.color, lw=1, zorder=2)
        ax.plot([row.mean], [y], color=style.color, marker=style.marker, ms=4, mew=0, ls="", zorder=3)


def _change(ax: Axes, values: pd.Series, y: float, style: theme.Style) -> None:
    """From no TS (hollow) over the released fit (tick) to the exact fit (full)."""
    ends = [values[c] for c in ("none", "released", "exact") if c in values.index and np.isfinite(values[c])]
    if ends:
        ax.plot([min(ends), max(ends)], [y, y], color=style.color, lw=0.8, zorder=2)
    looks: dict[str, dict[str, Any]] = {
        "none": {"marker": style.marker, "ms": 4, "mfc": "white", "mew": 0.9},
        "released": {"marker": "|", "ms": 5, "mew": 1.1},
        "exact": {"marker": style.marker, "ms": 4, "mew": 0},
    }
    for calibrator, look in looks.items():
        if calibrator in values.index:
            ax.plot([values[calibrator]], [y], color=style.color, ls="", zorder=3, **look)


def verdict_matrix(claims: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Verdicts over all cells, by claim (its name in words, less the fit) and fit; claims never tested are left out.

    A claim without a row of scope ``all`` has its cells' verdict where they agree, and else is undecided.
    """
    matrix: dict[str, dict[str, str]] = {}
    for (claim, fit), rows in claims.groupby(["claim", "fit"], sort=False):
        overall = rows.loc[rows["scope"] == "all", "verdict"]
        found = set(overall if len(overall) else rows.loc[rows["verdict"] != "not_tested", "verdict"])
        verdict = "not_tested" if not found else found.pop() if len(found) == 1 else "undecided"
        matrix.setdefault(_short(str(claim), str(fit)), {})[str(fit)] = verdict
    return {name: row for name, row in matrix.items() if set(row.values()) != {"not_tested"}}


def _short(claim: str, fit: str) -> str:
    """A claim's name as words, without the fit that makes it a variant."""
    text = theme.in_words(claim.replace(f"_{fit}", "").replace("_", " "))
    text = " ".join(word.upper() if word in ("ts", "nll", "ece", "kl") else word for word in text.split())
    return text[0].upper() + text[1:]


def _verdicts(figure: Figure, matrix: Mapping[str, Mapping[str, str]], top: float) -> None:
    """Part E: a row a claim, a column a fit, a symbol a verdict."""
    fits = [f for f in FITS if any(f in row for row in matrix.values())]
    fits += theme.ordered({f for row in matrix.values() for f in row} - set(fits))
    step = 0.48
    start = WIDTH - 0.35 - step * (len(fits) - 1)
    for j, fit in enumerate(fits):
        theme.write(
            figure, start + j * step, top + 0.02, "no TS" if fit == "none" else fit, size=7, ha="center", rotation=0
        )
    at = top + 0.22
    for i, (name, row) in enumerate(list(matrix.items())[:MOST_CLAIMS]):
        y = at + 0.16 * i
        theme.write(figure, SPLIT + 0.17, y, name, size=7.2, va="center")
        for j, fit in enumerate(fits):
            if fit in row:
                style = theme.VERDICT_STYLES.get(row[fit], theme.VERDICT_STYLES["not_tested"])
                theme.write(
                    figure,
                    start + j * step,
                    y,
                    style.marker,
                    color=style.color,
                    ha="center",
                    va="center",
                    weight="bold",
                    size=9,
                )
    y = at + 0.16 * min(len(matrix), MOST_CLAIMS)
    if len(matrix) > MOST_CLAIMS:
        theme.write(
            figure,
            SPLIT + 0.17,
            y,
            f"… and {len(matrix) - MOST_CLAIMS} more, in the figure of claims",
            size=7.2,
            color=theme.GREY,
            va="center",
        )
        y += 0.16
    left = SPLIT + 0.17
    for name, style in theme.VERDICT_STYLES.items():
        text = f"{style.marker} {theme.VERDICTS[name]}"
        theme.write(figure, left, y + 0.06, text, color=style.color, size=7.2, va="center")
        left += 0.3 + 0.062 * len(text)
