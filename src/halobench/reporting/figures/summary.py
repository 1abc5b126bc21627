"""One page that joins the essentials: how far certainty reaches, what temperature scaling repairs, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.figures import log_k
from halobench.reporting.figures.calibration import label_note
from halobench.reporting.plotting import artists, class_families, page_layout
from halobench.reporting.plotting.style import FAINT, GREY, INK, styled
from halobench.reporting.styles import VERDICT_STYLES, Style, calibrator_style, loss_styles

TITLE = "How far certainty reaches around training points, and what temperature scaling (TS) repairs"
WIDTH, LEFT, SPLIT = 11.0, 6.75, 7.15
MOST_CELLS, MOST_DATASETS, MOST_LOSSES, MOST_CLAIMS = 12, 3, 4, 26
UNPROBED = "No cell was probed."
FITS = ("none", "released", "exact", "oracle")
PROBES = {"sphere": "random direction", "nearest_other": "to nearest other", "manifold": "principal directions"}
PROBES |= {"mixup_line": "to random other"}


@styled
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
    neighbourhood, own = table_views.own_points(neighbourhood)
    radii, around = table_views.own_points(radii)[0], own.split(",")[0].split(" (")[0]
    watched = "label trained on" if own == labels.around("train") else "its own label"
    styles = loss_styles(table_views.losses_in(runs))
    overlap = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    shown_runs = _pictured(runs)
    losses, cells = table_views.losses_in(shown_runs), table_views.cells_in(shown_runs)
    reliability = reliability[reliability["dataset"].isin(shown_runs["dataset"])]
    # Weights from elsewhere say less of what training does.
    model = focus_model(table_views.cells_in(shown_runs[table_views.trained_here(shown_runs)]) or cells)
    shown = cells if len(cells) <= MOST_CELLS else [cell for cell in cells if cell[1] == model][:MOST_CELLS]
    pair = focus_cell(shown_runs, model)
    there = [d for d, m in cells if m == model]
    datasets = focus_datasets(there, pair[0])
    matrix = verdict_matrix(claims)

    keys = page_layout.legend_lines(artists.loss_keys(losses, styles), LEFT)
    head = 0.82 + 0.18 * len(keys)
    curves_top, curve_high = head + 0.58, 1.15
    rows_high = max(0.34, 0.085 * len(losses) + 0.08) * len(shown)
    lower = curves_top + 2 * curve_high + 1.3
    list_high = _verdicts(None, matrix, 0)
    # Rows take the room that a long list of claims makes.
    rows_high = min(max(rows_high, list_high - 0.6), 1.6 * rows_high)
    bottom = lower + max(rows_high + 0.72, list_high) + 0.05
    growth = _growth_models(overlap)
    figure = page_layout.page(WIDTH, bottom + (2.75 if growth else 0))
    title = TITLE.replace(labels.around("train").split(",")[0], around)
    page_layout.write(figure, 0.15, 0.14, title, size=13, weight="bold")
    page_layout.write(
        figure, 0.15, 0.42, _facts(runs, len(table_views.cells_in(runs)), len(cells), len(shown)), color=GREY
    )
    page_layout.draw_legend(figure, keys, 0.15, 0.72)

    _heading(
        figure,
        0.15,
        head,
        "A",
        "How confident is a model in a point's label, this far from the point?",
        f"{watched}; {labels.model_label(model)}" + some_of(len(datasets), len(there), "data sets"),
    )
    _curves(figure, neighbourhood, datasets, model, losses, styles, curves_top, curve_high)
    reliability = table_views.preferred_labels(reliability)
    reliability = reliability[(reliability["dataset"] == pair[0]) & (reliability["model"] == pair[1])]
    there = [loss for loss in losses if loss in set(reliability["loss"])]
    what = labels.cell_label(*pair) + some_of(min(len(there), MOST_LOSSES), len(there), "losses")
    what += f"\n{label_note(reliability)}"
    _heading(figure, SPLIT, head, "D", "How often are confident answers right?", what)
    _reliability(figure, reliability, there[:MOST_LOSSES], curves_top, curve_high)

    radii, probe = _line_radii(radii)
    below = " or ".join(f"{t:g}" for t in sorted(radii["threshold"].dropna().unique()))
    if radii.empty:
        why = UNPROBED if neighbourhood.empty else "No certainty radius was measured."
        page_layout.write(figure, 0.32, lower, why, color=GREY)
    what = f"median distance where confidence falls below {below}, no TS" if len(radii) else ""
    _heading(figure, 0.15, lower - 0.5, "B", "How far does certainty reach?", what)
    _heading(figure, 3.95, lower - 0.5, "C", "What does TS repair?", "test NLL before and after, lower is better")
    _dots(figure, radii, probe, metrics, shown, losses, styles, lower, rows_high)
    _heading(
        figure, SPLIT, lower - 0.5, "E", "What comes of the claims?", "columns: the calibration meant; raw: without TS"
    )
    _verdicts(figure, matrix, lower)
    if growth:
        _growth(figure, overlap, growth, styles, bottom + 0.1)
    return figure


def _pictured(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs on images, where there are such: distributions have a part of their own."""
    images = runs[runs["distribution"] == ""]
    return images if len(images) else runs


def _growth_models(overlap: pd.DataFrame) -> list[str]:
    """The models to show growth of, at most four: those trained on the first family of overlap distributions.

    None where it has one number of classes alone.
    """
    trained = overlap[(overlap["loss"] != "reference") & (overlap["model"] != "nearest")]
    if trained.empty:
        return []
    first = trained[trained["family"] == class_families.families(trained)[0]]
    return labels.ordered(first["model"], labels.MODELS)[:4] if first["classes"].nunique() > 1 else []


def _growth(
    figure: Figure, overlap: pd.DataFrame, models: Sequence[str], styles: Mapping[str, Style], top: float
) -> None:
    """Part F: what TS leaves against the number of classes, a panel a model."""
    family = class_families.families(overlap[overlap["loss"] != "reference"])[0]
    rows = overlap[overlap["family"] == family]
    what = (
        f"KL to the exact posterior after exact TS, by number of classes; {class_families.family_label(family).lower()}"
    )
    _heading(figure, 0.15, top, "F", "Where classes overlap, does TS fail more as classes grow?", what)
    losses = table_views.losses_in(rows[rows["model"].isin(models)])
    keys = [
        *artists.loss_keys(losses, styles),
        artists.key("1-NN, closed form", **log_k.CLOSED),
        artists.key("1-NN, measured", INK, marker="x", ls="", ms=4),
        artists.key("uniform guess", **log_k.GUESS),
    ]
    page_layout.draw_legend(figure, page_layout.legend_lines(keys, WIDTH - 0.6), 0.32, top + 0.42)
    for j, model in enumerate(models):
        ax = page_layout.place(figure, 0.75 + 2.55 * j, top + 0.82, 2.1, 1.45)
        log_k.draw_panel(ax, rows[rows["model"].isin((model, "nearest"))], model, losses, styles)
        ax.set_title(labels.model_label(model), pad=3)
        ax.set_xlabel("classes k")
        if not j:
            ax.set_ylabel("KL (nats)")


def some_of(shown: int, there: int, what: str) -> str:
    """How many are shown, where not all are, e.g. ``; 4 of 9 losses``."""
    return f"; {shown} of {there} {what}" if shown < there else ""


def focus_model(cells: Sequence[tuple[str, str]]) -> str:
    """The model with the most data sets, the first of those in the order of panels."""
    models = labels.ordered((m for _, m in cells), labels.MODELS)
    return max(models, key=lambda m: sum(m == other for _, other in cells))


def focus_cell(runs: pd.DataFrame, model: str) -> tuple[str, str]:
    """The data set with the most label noise, then the most losses, that this model was trained on."""
    rows = runs[runs["model"] == model]
    order = labels.ordered(rows["dataset"], labels.DATASETS)
    by = rows.groupby("dataset")
    noise, losses = by["noise"].max(), by["loss"].nunique()
    return max(order, key=lambda d: (noise[d], losses[d])), model


def focus_datasets(datasets: Sequence[str], always: str) -> list[str]:
    """The first data sets, as many as the page has room for, `always` among them."""
    chosen = list(datasets[:MOST_DATASETS])
    return chosen if always in chosen else [*chosen[:-1], always]


def _facts(runs: pd.DataFrame, cells: int, pictured: int, shown: int) -> str:
    """What the page rests on, in a line."""
    trained = runs[table_views.trained_here(runs)]
    fits = int(trained["interpolates"].astype(bool).sum())
    models = f"model{'s' * (len(runs) != 1)}"
    all_here = len(trained) == len(runs)
    count = f"{len(runs)} trained {models}" if all_here else f"{len(runs)} {models}, {len(trained)} trained here"
    kinds = runs["loss"].nunique()
    text = (
        f"{count}: {cells} pair{'s' * (cells != 1)} of data set and model, "
        f"{kinds} loss{'es' * (kinds != 1)}; {fits} of {len(trained)} interpolate the training labels. "
        f"Shown: {seed_statistics.seeds_note(runs)}."
    )
    return text + (f" B and C: {shown} of {pictured} pairs." if shown < pictured else "")


def _heading(figure: Figure, left: float, top: float, letter: str, text: str, more: str = "") -> None:
    """A part's letter and title, with a grey second line."""
    page_layout.write(figure, left, top, letter, weight="bold", size=9.5)
    page_layout.write(figure, left + 0.17, top, text, weight="bold", size=9.5)
    if more:
        page_layout.write(figure, left + 0.17, top + 0.18, more, color=GREY)


def _curves(
    figure: Figure,
    table: pd.DataFrame,
    datasets: Sequence[str],
    model: str,
    losses: Sequence[str],
    styles: Mapping[str, Style],
    top: float,
    high: float,
) -> None:
    """Part A: a column a data set, a row a probe; or why there is none."""
    probed = len(table_views.relative_rows(table))
    table = table_views.relative_rows(table[(table["model"] == model) & table["dataset"].isin(datasets)])
    if table.empty:
        page_layout.write(figure, 0.32, top, "This model was not probed." if probed else UNPROBED, color=GREY)
        return
    there = set(table["probe"].unique())
    probes = [p for p in ("sphere", "nearest_other", "manifold", "mixup_line") if p in there][:2]
    means = seed_statistics.over_seeds(table, ["dataset", "probe", "loss", "points", "relative_radius"], "confidence")
    start, gap = 0.75, 0.2
    wide = (LEFT - start - gap * (MOST_DATASETS - 1)) / MOST_DATASETS
    wide = min(wide * MOST_DATASETS / max(len(datasets), 1), 2.6)
    for j, dataset in enumerate(datasets):
        left = start + j * (wide + gap)
        page_layout.write(
            figure,
            left + wide / 2,
            top - 0.06,
            page_layout.shortened(labels.dataset_label(dataset), wide),
            ha="center",
            va="bottom",
        )
        for i, probe in enumerate(probes):
            rows = means[(means["dataset"] == dataset) & (means["probe"] == probe)]
            if rows.empty:
                continue
            ax = page_layout.place(figure, left, top + i * (high + 0.12), wide, high)
            artists.draw_lines(ax, rows, "relative_radius", losses, styles, size=2.4)
            ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
            end = table["relative_radius"].max()
            ax.set(xlim=(0, end), xticks=np.arange(0, end + 1e-9, 0.5 if end <= 1.5 else 1.0))
            ax.set(ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
            if i < len(probes) - 1:
                ax.set_xticklabels([])
            if j:
                ax.set_yticklabels([])
            else:
                ax.set_ylabel(f"confidence,\n{PROBES.get(probe, probe)}")
    foot = top + len(probes) * (high + 0.12) + 0.17
    page_layout.write(figure, start, foot, labels.RELATIVE + "; dashed: held-out points")


def _reliability(figure: Figure, table: pd.DataFrame, losses: Sequence[str], top: float, high: float) -> None:
    """Part D: a panel a loss of one data set and model, a line a calibrator."""
    there = set(table["calibrator"].unique())
    styles = {c: calibrator_style(c) for c in ("none", "released", "exact") if c in there}
    pooled = table_views.pooled_bins(table[table["calibrator"].isin(styles)], ["loss", "calibrator"])
    chosen = [loss for loss in losses if loss in set(pooled["loss"])]
    start, gap = SPLIT + 0.5, 0.25
    columns = min(len(chosen), 2)
    wide = 1.4
    keys = [
        artists.key(labels.calibrator_label(c), style.color, ls=style.dash, marker=style.marker, lw=1)
        for c, style in styles.items()
    ]
    page_layout.draw_legend(figure, [keys], SPLIT, 0.72)
    for k, loss in enumerate(chosen):
        i, j = divmod(k, 2)
        ax = page_layout.place(figure, start + j * (wide + gap), top + i * (high + 0.12), wide, high)
        artists.draw_reliability(ax, None, pooled[pooled["loss"] == loss], styles, size=2.6)
        ax.text(0.04, 0.97, labels.loss_label(loss), transform=ax.transAxes, va="top", size=7.5)
        if k + 2 < len(chosen):
            ax.set_xticklabels([])
        if j:
            ax.set_yticklabels([])
        else:
            ax.set_ylabel("accuracy")
    rows = (len(chosen) + 1) // 2
    middle = start + (columns * (wide + gap) - gap) / 2
    page_layout.write(
        figure,
        middle,
        top + rows * (high + 0.12) + 0.17,
        f"confidence (below the line: too sure; faint: under {labels.FEW} points)",
        ha="center",
    )


def _dots(
    figure: Figure,
    radii: pd.DataFrame,
    probe: str,
    metrics: pd.DataFrame,
    cells: Sequence[tuple[str, str]],
    losses: Sequence[str],
    styles: Mapping[str, Style],
    top: float,
    high: float,
) -> None:
    """Parts B and C: a row a data set and model, a dot (B, of `_line_radii`) or a pair of dots (C) a loss."""
    by = ["dataset", "model", "loss"]
    certainty = seed_statistics.over_seeds(radii, by, "relative_median")
    certainty = certainty.merge(radii.groupby(by)["censored"].max().rename("censored").reset_index(), on=by)
    certainty = certainty.set_index(["dataset", "model"])
    nll = table_views.preferred_labels(metrics)
    nll = nll[nll["metric"] == "nll"]
    scores = seed_statistics.over_seeds(nll, ["dataset", "model", "loss", "calibrator"], "value")
    axes = [page_layout.place(figure, 3.95, top, LEFT - 3.95, high)]
    if len(certainty):
        axes.insert(0, page_layout.place(figure, 1.72, top, 1.95, high))
    left, right = axes[0], axes[-1]
    references: dict[str, list[tuple[int, float]]] = {"bayes": [], "uniform": []}
    for y, (dataset, model) in enumerate(cells):
        if y % 2 == 0:
            for ax in axes:
                ax.axhspan(y - 0.5, y + 0.5, color="#f4f4f4", lw=0, zorder=0)
        own = scores[(scores["dataset"] == dataset) & (scores["model"] == model)].set_index(["loss", "calibrator"])[
            "mean"
        ]
        there = [loss for loss in losses if loss in own.index.get_level_values(0)]
        for offset, loss in zip(artists.dodge(len(there), 0.78), there, strict=True):
            if (dataset, model) in certainty.index:
                _radius(left, certainty.loc[[(dataset, model)]], loss, y + offset, styles[loss])
            _change(right, own[loss], y + offset, styles[loss])
        for name, found in references.items():
            rows = scores[(scores["dataset"] == dataset) & (scores["model"] == name)]
            if len(rows):
                found.append((y, float(rows["mean"].iloc[0])))
    for name, found in references.items():
        for y, value in found:
            look: dict[str, Any] = {
                "ls": "-" if name == "bayes" else (0, (1, 1)),
                "color": INK,
                "lw": 1.1,
                "zorder": 2,
            }
            if np.isfinite(value):
                right.plot([value, value], [y - 0.44, y + 0.44], **look)
    for ax in axes:
        ax.set(ylim=(len(cells) - 0.5, -0.5), yticks=range(len(cells)))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
    titles = [labels.dataset_label(d).replace(" label noise", " noise") for d, _ in cells]
    left.set_yticklabels(
        [
            f"{page_layout.shortened(d, 1.5, 7)}\n{page_layout.shortened(labels.model_label(m), 1.5, 7)}"
            for d, (_, m) in zip(titles, cells, strict=True)
        ]
    )
    if left is not right:
        right.set_yticklabels([])
        left.set_xlim(left=min(-0.03, left.get_xlim()[0]))
        left.set_xlabel(f"radius ({PROBES.get(probe, probe)}, relative)")
    right.set_xlabel("NLL (nats)")
    keys = {
        "none": artists.key("no TS", GREY, marker="o", mfc="white", ls=""),
        "released": artists.key("released", GREY, marker="|", ms=6, ls=""),
        "exact": artists.key("exact", GREY, marker="o", ls=""),
        "bayes": artists.key("Bayes", INK, marker="|", ms=8, mew=1.2, ls=""),
        "uniform": artists.key("uniform guess", INK, lw=1.1, ls=(0, (1, 1))),
    }
    drawn = {name for name, found in references.items() if any(np.isfinite(value) for _, value in found)}
    drawn |= set(scores.loc[pd.MultiIndex.from_frame(scores[["dataset", "model"]]).isin(cells), "calibrator"])
    page_layout.draw_legend(figure, [[key for name, key in keys.items() if name in drawn]], 2.4, top + high + 0.45)


def _line_radii(radii: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Certainty radii around training points without TS, along the line to the nearest other label (or any probe)."""
    rows = radii[(radii["quantity"] == "certainty") & (radii["calibrator"] == "none") & (radii["points"] == "train")]
    there = set(rows["probe"].unique())
    probe = next((p for p in ("nearest_other", "mixup_line", "manifold", "sphere") if p in there), None)
    return rows[rows["probe"] == probe], str(probe)


def _radius(ax: Axes, rows: pd.DataFrame, loss: str, y: float, style: Style) -> None:
    """A dot with its interval."""
    row: Any
    for row in rows[rows["loss"] == loss].itertuples():
        if np.isfinite(row.low):
            ax.plot([row.low, row.high], [y, y], color=style.color, lw=1, zorder=2)
        # A median among censored rays is a lower bound: hollow, as in the figure of radii.
        face = "white" if row.censored > 0.5 else style.color
        ax.plot([row.mean], [y], color=style.color, marker=style.marker, ms=4, mfc=face, mew=0.8, ls="", zorder=3)


def _change(ax: Axes, values: pd.Series, y: float, style: Style) -> None:
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
        matrix.setdefault(labels.claim_label(str(claim), str(fit)), {})[str(fit)] = verdict
    return {name: row for name, row in matrix.items() if set(row.values()) != {"not_tested"}}


def _verdicts(figure: Figure | None, matrix: Mapping[str, Mapping[str, str]], top: float) -> float:
    """Part E: a row a claim, a column a fit, a symbol a verdict; returns its height in inches, drawn or (None) not."""
    fits = [f for f in FITS if any(f in row for row in matrix.values())]
    fits += labels.ordered({f for row in matrix.values() for f in row} - set(fits))
    step, size, left = 0.46, 7.2, SPLIT + 0.17
    start = WIDTH - 0.35 - step * (len(fits) - 1)
    y = top + 0.2

    def put(x: float, text: Any, **options: Any) -> None:
        if figure is not None:
            page_layout.write(figure, x, y, text, **({"va": "center", "size": size} | options))

    if not matrix:
        put(left, "The claims given were not tested by this grid.", color=GREY)
    for j, fit in enumerate(fits):
        if figure is not None:
            page_layout.write(figure, start + j * step, top, "no TS" if fit == "none" else fit, size=7, ha="center")
    for name, row in list(matrix.items())[:MOST_CLAIMS]:
        text = page_layout.wrapped(name, start - left - 0.15, size)
        high = page_layout.lines_high(text, size) + 0.05
        y += high / 2
        put(left, text)
        for j, fit in enumerate(fits):
            if fit in row:
                style = VERDICT_STYLES.get(row[fit], VERDICT_STYLES["not_tested"])
                put(start + j * step, style.marker, color=style.color, ha="center", weight="bold", size=9)
        y += high / 2
    y += 0.08
    if len(matrix) > MOST_CLAIMS:
        put(left, f"… and {len(matrix) - MOST_CLAIMS} more, in the figure of claims", color=GREY)
        y += 0.16
    y += 0.06
    for name, style in VERDICT_STYLES.items():
        text = f"{style.marker} {labels.VERDICTS[name]}"
        put(left, text, color=style.color)
        left += 0.2 + len(text) * 0.055 * size / 7
    return y + 0.1 - top
