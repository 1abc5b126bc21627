"""Draw the parts of the summary page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.text import Annotation

from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, repair_bars, score_panels, survival
from halobench.reporting.plotting.panel_grid import add_legend, wrapped
from halobench.reporting.plotting.reliability_diagrams import draw_reliability
from halobench.reporting.plotting.style import FAINT, GREY
from halobench.reporting.seed_statistics import over_seeds
from halobench.reporting.styles import VERDICT_STYLES, calibrator_style
from halobench.reporting.summary_page.selection import MOST_LOSSES, MOST_MODELS, Selection, part_of
from halobench.results.finding import by_theme, is_check
from halobench.results.names import THEMES, Style
from halobench.storage.columns import REFERENCE

FIRST = ("sphere", "nearest_other", "manifold", "mixup_line")  # preferred probes, of which two are shown
BOTH = ("cross_entropy", "mixup2")  # preferred losses for how far certainty reaches, of which two are shown
MOST_CURVES = 3
MOST_LADDERS = 8  # data sets
CALIBRATIONS = ("none", "paper", "exact", "oracle")  # in the order of the columns of verdicts
NAMES, MOST_SIGNS = 7.6, 14  # widths of the names and of a row of signs, in signs


def _head(part: SubFigure, title: str, more: str) -> None:
    look = {"x": 0.01, "ha": "left", "size": 9.5, "weight": "bold", "parse_math": False}
    heading = part.suptitle(title + "\n" * (more.count("\n") + 1), **look)
    part.add_artist(Annotation(more, (0, 0), xycoords=heading, va="bottom", color=GREY, parse_math=False))


def curves_of(neighbourhood: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the rows of part A if it shows confidence."""
    relative = table_views.relative_rows(neighbourhood)
    return relative[(relative["model"] == selection.model) & relative["dataset"].isin(selection.datasets)]


def survival_of(radii: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the rows of part A if it shows how far certainty reaches; empty if no cell was probed for it."""
    rows = radii[radii["quantity"].isin(survival.SHOWN) & (radii["calibrator"] == "none")]
    rows = rows[
        (rows["points"] == "train") & (rows["model"] == selection.model) & rows["dataset"].isin(selection.datasets)
    ]
    if not set(survival.WORST) & set(rows["probe"]):
        return rows.iloc[:0]
    losses = labels.ordered(rows["loss"], BOTH)[: len(BOTH)]
    probes = labels.ordered(rows["probe"], (*survival.WORST, *FIRST))[:MOST_CURVES]
    return rows[rows["loss"].isin(losses) & rows["probe"].isin(probes)]


def _panels(
    part: SubFigure, groups: Mapping[Any, pd.DataFrame], rows: Mapping[str, str], datasets: Sequence[str]
) -> Iterator[tuple[Axes, pd.DataFrame]]:
    """Yield part A's panels and their rows of `groups`, by (row, data set), labelling panels at the edges."""
    axes = part.subplots(len(rows), len(datasets), squeeze=False)
    for ax, (row, dataset) in zip(axes.flat, itertools.product(rows, datasets), strict=True):
        if (row, dataset) not in groups:
            ax.remove()
            continue
        yield ax, groups[row, dataset]
        if row == next(iter(rows)):
            ax.set_title(wrapped(labels.dataset_label(dataset), 2))
        if dataset == datasets[0]:
            ax.set_ylabel(rows[row])


def draw_curves(
    part: SubFigure, table: pd.DataFrame, watched: str, selection: Selection, styles: Mapping[str, Style]
) -> None:
    """Draw part A, confidence against distance, by data set (columns) and probe (rows)."""
    more = f"{watched}; {labels.model_label(selection.model)}"
    more += part_of(len(selection.datasets), len(selection.of_model), "data sets")
    _head(part, "A  How confident is a model in a point's label, this far from the point?", more)
    probes = [probe for probe in FIRST if probe in set(table["probe"])][:2]
    means = over_seeds(table, ["dataset", "probe", "loss", "points", "relative_radius"], "confidence", (0, 1))
    rows = {probe: f"confidence,\n{labels.probe_label(probe).lower()}" for probe in probes}
    groups = table_views.groups_of(means, ["probe", "dataset"])
    for ax, panel in _panels(part, groups, rows, selection.datasets):
        ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
        artists.draw_lines(ax, panel, "relative_radius", styles)
        ax.set(xlim=(0, table["relative_radius"].max()), ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
    part.supxlabel(labels.RELATIVE + "; dashed: held-out points", size=8)


def draw_survival(part: SubFigure, table: pd.DataFrame, watched: str, selection: Selection) -> None:
    """Draw part A, the share of points whose certainty reaches a distance, by data set (columns) and loss (rows)."""
    level = " or ".join(f"{threshold:g}" for threshold in sorted(table["threshold"].unique()))
    more = (
        f"share of points with confidence above {level} that far out ({watched}); {labels.model_label(selection.model)}"
    )
    more += part_of(len(selection.datasets), len(selection.of_model), "data sets")
    shares = survival.survival_shares(table)
    groups = table_views.groups_of(shares, ["loss", "dataset"])
    if unequal := survival.unequal_note(shares):
        more += f"\n{unequal}"
    _head(part, "A  How far out are points still certain, in the worst direction too?", more)
    rows = {loss: f"share,\n{labels.loss_label(loss)}" for loss in labels.ordered(table["loss"], BOTH)}
    styles = survival.probe_styles(table["probe"])
    for ax, panel in _panels(part, groups, rows, selection.datasets):
        survival.draw_survival(ax, panel, styles)
    below: Any = {"loc": "outside lower center", "title": labels.RELATIVE, "title_fontsize": 8}
    add_legend(part, survival.survival_keys(styles, shares), 6.7, **below)


def diagrams_of(reliability: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the rows of part C."""
    rows = reliability[(reliability["dataset"] == selection.dataset) & (reliability["model"] == selection.model)]
    table = table_views.preferred_labels(rows)
    return table[table["calibrator"].isin(CALIBRATIONS[:3]) & (table["count"] > 0)]


def draw_diagrams(part: SubFigure, table: pd.DataFrame, selection: Selection) -> None:
    """Draw part C, reliability on the data set with the most label noise: a panel per loss, a line per calibrator."""
    styles = {name: calibrator_style(name) for name in CALIBRATIONS[:3] if name in set(table["calibrator"])}
    pooled = table_views.pooled_bins(table, ["loss", "calibrator"])
    losses = [loss for loss in selection.losses if loss in set(pooled["loss"])]
    more = labels.cell_label(selection.dataset, selection.model) + part_of(
        min(len(losses), MOST_LOSSES), len(losses), "losses"
    )
    more += f"\n{table_views.label_note(table)}; faint: under {labels.FEW} points"
    _head(part, "C  How often are confident answers right?", more)
    axes = part.subplots(-(-len(losses[:MOST_LOSSES]) // 2), 2, squeeze=False)
    for ax, loss in itertools.zip_longest(axes.flat, losses[:MOST_LOSSES]):
        if loss:
            draw_reliability(ax, pooled[pooled["loss"] == loss], styles)
            ax.set_title(labels.loss_label(loss))
        else:
            ax.remove()
    part.supylabel("accuracy", size=8)
    add_legend(part, artists.calibrator_keys(styles), 4, loc="outside lower center")


def growth_models(overlap: pd.DataFrame) -> list[str]:
    """Return the models trained on the first family of overlap distributions, at most `MOST_MODELS`.

    None are returned if the family has too few numbers of classes, since two points always lie on a line.
    """
    trained = overlap[(overlap["loss"] != REFERENCE) & (overlap["model"] != "nearest")]
    if trained.empty:
        return []
    first = trained[trained["family"] == class_families.families(trained)[0]]
    return labels.ordered(first["model"], labels.MODELS)[:MOST_MODELS] if class_families.shows_growth(first) else []


def draw_growth(part: SubFigure, overlap: pd.DataFrame, models: Sequence[str], styles: Mapping[str, Style]) -> None:
    """Draw part E, KL after TS against the number of classes for the first family, with a panel per model."""
    family = class_families.families(overlap[overlap["loss"] != REFERENCE])[0]
    more = f"KL from the known posterior after {labels.CALIBRATORS['exact']}, by number of classes; "
    more += class_families.family_label(family).lower()
    _head(part, "E  Where classes overlap, does TS fail more as classes grow?", more)
    rows = overlap[overlap["family"] == family]
    losses = table_views.losses_in(rows[rows["model"].isin(models)])
    for ax, model in zip(part.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        class_families.draw_panel(ax, rows, model, {loss: styles[loss] for loss in losses})
        ax.set(title=labels.model_label(model), xlabel="classes k")
    part.supylabel("KL (nats)", size=8)
    add_legend(part, class_families.legend_keys(losses, styles), 6.7, loc="outside lower left")


def ladders_of(metrics: pd.DataFrame) -> tuple[pd.DataFrame, str, int]:
    """Return the rows and the loss of part F (repair ladders), and the number of data sets that have ladders.

    The rows are those of the two models with the most data sets, on the first `MOST_LADDERS` data sets.
    """
    parts, loss = repair_bars.ladders(metrics)
    parts = parts[parts["loss"] == loss]
    datasets = parts.groupby("model")["dataset"].nunique()
    models = sorted(labels.ordered(parts["model"], labels.MODELS), key=lambda name: -datasets[name])[:2]
    parts = parts[parts["model"].isin(models)]
    names = labels.ordered(parts["dataset"], labels.DATASETS)
    return parts[parts["dataset"].isin(names[:MOST_LADDERS])], loss, len(names)


def ladders_height(parts: pd.DataFrame) -> float:
    """Return the height of part F in inches."""
    return 1.7 + repair_bars.BAR * parts["dataset"].nunique()


def draw_ladders(part: SubFigure, parts: pd.DataFrame, loss: str, total: int) -> None:
    """Draw part F, what could repair each model, with a panel per model and a stacked bar per data set."""
    datasets = labels.ordered(parts["dataset"], labels.DATASETS)
    more = f"test NLL by what it would take; {labels.loss_label(loss)}{part_of(len(datasets), total, 'data sets')}"
    _head(part, "F  What could repair it?", more)
    models = labels.ordered(parts["model"], labels.MODELS)
    end = repair_bars.axis_end(parts)
    for ax, model in zip(part.subplots(1, len(models), sharey=True, squeeze=False)[0], models, strict=True):
        repair_bars.draw_bars(ax, parts[parts["model"] == model], datasets, end)
        ax.set_title(labels.model_label(model))
    below: Any = {"loc": "outside lower center", "title": "test NLL (nats)", "title_fontsize": 8}
    add_legend(part, repair_bars.repair_keys(), 6.7, **below)


def draw_scores(part: SubFigure, scores: pd.DataFrame, selection: Selection, styles: Mapping[str, Style]) -> None:
    """Draw part B, NLL by calibration on each of the data sets of part A, as in the figure of calibrations."""
    nll = scores[(scores["metric"] == "nll") & scores["dataset"].isin(selection.datasets)]
    trained = (nll["model"] == selection.model) & (nll["loss"] != REFERENCE)
    calibrators = labels.ordered(nll.loc[trained, "calibrator"], labels.CALIBRATORS)
    shown = [name for name in calibrators if name in CALIBRATIONS] or calibrators
    means, references = (score_panels.means_of(rows) for rows in (nll[trained], nll[nll["loss"] == REFERENCE]))
    more = f"test NLL in nats, lower is better; {labels.model_label(selection.model)}"
    more += part_of(len(selection.datasets), len(selection.of_model), "data sets")
    _head(part, "B  What does temperature scaling repair?", more)
    for ax, dataset in zip(
        part.subplots(1, len(selection.datasets), squeeze=False)[0], selection.datasets, strict=True
    ):
        own = means[(means["dataset"] == dataset) & means["calibrator"].isin(shown)]
        others = references[references["dataset"] == dataset]
        remarks = score_panels.draw_panel(ax, own, others, styles, shown)
        ax.set_title(wrapped(labels.dataset_label(dataset), 2))
        ax.set_xlabel(wrapped("; ".join(remarks), 2, 7), loc="right", size=7, color=GREY)
    add_legend(part, score_panels.reference_keys(set(references["model"])), 6.5, loc="outside lower center")


def verdicts_height(claims: pd.DataFrame) -> float:
    """Return the height of part D in inches."""
    themes = by_theme(claims.to_dict("records")).values()
    return 0.9 + 0.21 * sum(2.3 + len({test["fit"] for test in tests}) for tests in themes)


def draw_verdicts(part: SubFigure, claims: pd.DataFrame) -> None:
    """Draw part D: for each theme, a row per calibration with a coloured sign per test."""
    themes = by_theme(claims.to_dict("records"))
    signs = "  ".join(f"{style.marker} {labels.VERDICTS[verdict]}" for verdict, style in VERDICT_STYLES.items())
    _head(part, "D  Which tests of the claims hold?", f"a sign per test: {signs}")
    ax, y, most = part.subplots(), 0.0, 1
    for theme, tests in themes.items():
        ax.text(0, y, f"{THEMES[theme].label}: {count(len(tests), 'test')}", weight="bold", va="center")
        ax.text(0, y + 0.8, THEMES[theme].sentence, color=GREY, va="center", size=7.5)
        y += 1.7
        for fit in labels.ordered({str(test["fit"]) for test in tests}, CALIBRATIONS):
            of_fit = [(list(VERDICT_STYLES).index(t["verdict"]), is_check(t)) for t in tests if t["fit"] == fit]
            verdicts = sorted(of_fit, key=lambda each: each[::-1])  # checks come last
            most = max(most, len(verdicts))
            ax.text(NAMES, y, labels.calibrator_label(fit), ha="right", va="center")
            for x, (rank, check) in enumerate(verdicts, 1):
                style = list(VERDICT_STYLES.values())[rank]
                face = {"mfc": "white", "mew": 1, "ms": 9.5} if check else {"mew": 0, "ms": 10.5}
                ax.plot([NAMES + 0.4 + x], [y], marker="s", color=style.color, ls="", **face)
                look: dict[str, Any] = {"ha": "center", "va": "center_baseline", "weight": "bold", "size": 7.5}
                ax.text(NAMES + 0.4 + x, y, str(style.marker), color=style.color if check else "white", **look)
            y += 1
        y += 0.6
    if any(is_check(test) for tests in themes.values() for test in tests):
        ax.text(0, y, "outlined: a check, which isn't a claim of the paper", color=GREY, va="center", size=7.5)
        y += 0.6
    ax.set(xlim=(-0.1, NAMES + 1.2 + max(most, MOST_SIGNS)), ylim=(y - 0.6, -0.8))
    ax.axis("off")
