"""Choose and draw the parts of the summary page.

Each part's function returns its height in inches and a function that draws it, or None if there is nothing to show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import SubFigure
from matplotlib.text import Annotation

from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, repair_bars, score_panels, survival
from halobench.reporting.plotting.panel_grid import add_legend, wrapped
from halobench.reporting.plotting.reliability_diagrams import draw_reliability
from halobench.reporting.plotting.style import GREY
from halobench.reporting.styles import VERDICT_STYLES, calibrator_style
from halobench.results.finding import by_theme, is_check
from halobench.results.leaders import preferred_labels
from halobench.results.names import THEMES, Style
from halobench.storage.columns import REFERENCE

TOP, SCORES, GROWTH = 3.9, 3.1, 2.9  # heights of A and C, of B, and of E
MOST_DATASETS, MOST_LOSSES, MOST_MODELS = 3, 4, 4
MOST_CURVES, MOST_LADDERS = 3, 8  # numbers of probes in part A, and of data sets in part F
PROBES = (*survival.WORST, "sphere", "nearest_other", "manifold", "mixup_line")  # in part A, preferred ones first
LOSSES = ("cross_entropy", "mixup2")  # the losses that part A prefers
CALIBRATIONS = ("none", "paper", "exact", "oracle")  # in the order of the columns of verdicts
NAMES, MOST_SIGNS = 7.6, 14  # widths of the names and of a row of signs, in signs

Part = tuple[float, Callable[[SubFigure], None]]


@dataclass(frozen=True)
class Selection:
    """The part of a large grid on a page: `model` on `datasets` (some of those `of_model`); for diagrams, `dataset`."""

    losses: list[str]
    model: str
    of_model: list[str]
    datasets: list[str]
    dataset: str

    @property
    def shown(self) -> str:
        """The model and, unless all are shown, the number of its data sets."""
        return labels.model_label(self.model) + part_of(len(self.datasets), len(self.of_model), "data sets")


def select(runs: pd.DataFrame) -> Selection:
    """Choose which runs to show: those on images if there are any, since distributions have their own part."""
    images = runs[runs["distribution"] == ""]
    pictured = images if len(images) else runs
    cells = table_views.cells_in(pictured)
    # Weights from elsewhere say less about the effects of training.
    trained = table_views.cells_in(pictured[table_views.trained_here(pictured)]) or cells
    models = labels.ordered((model for _, model in trained), labels.MODELS)
    model = max(models, key=lambda name: sum(name == other for _, other in trained))  # the one with the most data sets
    of_model = [dataset for dataset, other in cells if other == model]
    by = pictured[pictured["model"] == model].groupby("dataset")
    noise, losses = by["noise"].max(), by["loss"].nunique()
    dataset = max(of_model, key=lambda name: (noise[name], losses[name]))  # the most label noise, then the most losses
    datasets = of_model[:MOST_DATASETS]
    datasets = datasets if dataset in datasets else [*datasets[:-1], dataset]
    return Selection(table_views.losses_in(pictured), model, of_model, datasets, dataset)


def part_of(shown: int, total: int, what: str) -> str:
    """Say how many things are shown, unless all are, e.g. ``; 4 of 9 losses``."""
    return f"; {shown} of {total} {what}" if shown < total else ""


def _head(part: SubFigure, title: str, more: str) -> None:
    look = {"x": 0.01, "ha": "left", "size": 9.5, "weight": "bold", "parse_math": False}
    heading = part.suptitle(title + "\n" * (more.count("\n") + 1), **look)
    part.add_artist(Annotation(more, (0, 0), xycoords=heading, va="bottom", color=GREY, parse_math=False))


def reach(radii: pd.DataFrame, watched: str, selection: Selection) -> Part | None:
    """Return part A, the share of samples whose certainty reaches a distance, by data set (columns) and loss (rows)."""
    datasets = selection.datasets
    rows = radii[radii["quantity"].isin(survival.SHOWN) & (radii["calibrator"] == "none")]
    rows = rows[(rows["points"] == "train") & (rows["model"] == selection.model) & rows["dataset"].isin(datasets)]
    losses = labels.ordered(rows["loss"], LOSSES)[: len(LOSSES)]
    probes = labels.ordered(rows["probe"], PROBES)[:MOST_CURVES]
    rows = rows[rows["loss"].isin(losses) & rows["probe"].isin(probes)]
    if rows.empty:
        return None
    level = " or ".join(f"{threshold:g}" for threshold in sorted(rows["threshold"].unique()))
    shares, styles = survival.survival_shares(rows), survival.probe_styles(rows["probe"])
    groups = table_views.groups_of(shares, ["loss", "dataset"])

    def draw(part: SubFigure) -> None:
        more = f"share of points with confidence above {level} that far out ({watched}); {selection.shown}"
        if unequal := survival.unequal_note(shares):
            more += f"\n{unequal}"
        worst = ", in the worst direction too" if set(survival.WORST) & set(probes) else ""
        _head(part, f"A  How far does certainty reach{worst}?", more)
        axes = part.subplots(len(losses), len(datasets), squeeze=False)
        for ax, (loss, dataset) in zip(axes.flat, itertools.product(losses, datasets), strict=True):
            if (loss, dataset) not in groups:
                ax.remove()
                continue
            survival.draw_survival(ax, groups[loss, dataset], styles)
            if loss == losses[0]:
                ax.set_title(wrapped(labels.dataset_label(dataset), 2))
            if dataset == datasets[0]:
                ax.set_ylabel(f"share,\n{labels.loss_label(loss)}")
        below: Any = {"loc": "outside lower center", "title": labels.RELATIVE, "title_fontsize": 8}
        add_legend(part, survival.survival_keys(styles, shares), 6.7, **below)

    return TOP, draw


def scores(metrics: pd.DataFrame, selection: Selection, styles: Mapping[str, Style]) -> Part:
    """Return part B, NLL by calibration on each data set of part A, as in the figure of calibrations."""
    nll = metrics[(metrics["metric"] == "nll") & metrics["dataset"].isin(selection.datasets)]
    trained = (nll["model"] == selection.model) & (nll["loss"] != REFERENCE)
    calibrators = labels.ordered(nll.loc[trained, "calibrator"], labels.CALIBRATORS)
    shown = [name for name in calibrators if name in CALIBRATIONS] or calibrators
    means, references = (score_panels.means_of(rows) for rows in (nll[trained], nll[nll["loss"] == REFERENCE]))
    means = means[means["calibrator"].isin(shown)]

    def draw(part: SubFigure) -> None:
        _head(part, "B  What does temperature scaling repair?", f"test NLL in nats, lower is better; {selection.shown}")
        axes = part.subplots(1, len(selection.datasets), squeeze=False)[0]
        for ax, dataset in zip(axes, selection.datasets, strict=True):
            scored, others = (rows[rows["dataset"] == dataset] for rows in (means, references))
            remarks = score_panels.draw_panel(ax, scored, others, styles, shown)
            ax.set_title(wrapped(labels.dataset_label(dataset), 2))
            ax.set_xlabel(wrapped("; ".join(remarks), 2, 7), loc="right", size=7, color=GREY)
        add_legend(part, score_panels.reference_keys(set(references["model"])), 6.5, loc="outside lower center")

    return SCORES, draw


def diagrams(reliability: pd.DataFrame, selection: Selection) -> Part | None:
    """Return part C, reliability on the data set with the most label noise: a panel per loss, a line per calibrator."""
    rows = reliability[(reliability["dataset"] == selection.dataset) & (reliability["model"] == selection.model)]
    table = preferred_labels(rows)
    table = table[table["calibrator"].isin(CALIBRATIONS[:3]) & (table["count"] > 0)]
    if table.empty:
        return None
    styles = {name: calibrator_style(name) for name in CALIBRATIONS[:3] if name in set(table["calibrator"])}
    pooled = table_views.pooled_bins(table, ["loss", "calibrator"])
    losses = [loss for loss in selection.losses if loss in set(pooled["loss"])]
    shown = losses[:MOST_LOSSES]

    def draw(part: SubFigure) -> None:
        more = labels.cell_label(selection.dataset, selection.model) + part_of(len(shown), len(losses), "losses")
        more += f"\n{table_views.label_note(table)}; faint: under {labels.FEW} points"
        _head(part, "C  How often are confident answers right?", more)
        for ax, loss in itertools.zip_longest(part.subplots(-(-len(shown) // 2), 2, squeeze=False).flat, shown):
            if loss:
                draw_reliability(ax, pooled[pooled["loss"] == loss], styles)
                ax.set_title(labels.loss_label(loss))
            else:
                ax.remove()
        part.supylabel("accuracy", size=8)
        add_legend(part, artists.calibrator_keys(styles), 4, loc="outside lower center")

    return TOP, draw


def verdicts(claims: pd.DataFrame) -> Part | None:
    """Return part D: for each theme, a row per calibration with a coloured sign per test."""
    themes = by_theme(claims.to_dict("records"))
    ranks = list(VERDICT_STYLES)
    if not themes:
        return None

    def draw(part: SubFigure) -> None:
        signs = "  ".join(f"{style.marker} {labels.VERDICTS[verdict]}" for verdict, style in VERDICT_STYLES.items())
        _head(part, "D  Which tests of the claims hold?", f"a sign per test, after Holm's correction:\n{signs}")
        ax, y, most = part.subplots(), 0.0, MOST_SIGNS
        for theme, tests in themes.items():
            ax.text(0, y, f"{THEMES[theme].label}: {count(len(tests), 'test')}", weight="bold", va="center")
            ax.text(0, y + 0.8, THEMES[theme].sentence, color=GREY, va="center", size=7.5)
            y += 1.7
            for fit in labels.ordered({str(test["fit"]) for test in tests}, CALIBRATIONS):
                of_fit = [test for test in tests if test["fit"] == fit]
                of_fit.sort(key=lambda test: (is_check(test), ranks.index(test["adjusted"])))
                most = max(most, len(of_fit))
                ax.text(NAMES, y, labels.calibrator_label(fit), ha="right", va="center")
                for x, test in enumerate(of_fit, 1):
                    style, check = VERDICT_STYLES[test["adjusted"]], is_check(test)
                    face = {"mfc": "white", "mew": 1, "ms": 9.5} if check else {"mew": 0, "ms": 10.5}
                    ax.plot([NAMES + 0.4 + x], [y], marker="s", color=style.color, ls="", **face)
                    look: dict[str, Any] = {"ha": "center", "va": "center_baseline", "weight": "bold", "size": 7.5}
                    ax.text(NAMES + 0.4 + x, y, str(style.marker), color=style.color if check else "white", **look)
                y += 1
            y += 0.6
        if any(is_check(test) for tests in themes.values() for test in tests):
            ax.text(0, y, "outlined: a check, which isn't a claim of the paper", color=GREY, va="center", size=7.5)
            y += 0.6
        ax.set(xlim=(-0.1, NAMES + 1.2 + most), ylim=(y - 0.6, -0.8))
        ax.axis("off")

    return 0.9 + 0.21 * sum(2.3 + len({test["fit"] for test in tests}) for tests in themes.values()), draw


def growth(overlap: pd.DataFrame, styles: Mapping[str, Style]) -> Part | None:
    """Return part E, KL after TS against the number of classes for the first family, with a panel per model."""
    trained = overlap[(overlap["loss"] != REFERENCE) & (overlap["model"] != "nearest")]
    family = next(iter(class_families.families(trained)), None)
    trained = trained[trained["family"] == family]
    if not class_families.shows_growth(trained):
        return None
    rows = overlap[overlap["family"] == family]
    models = labels.ordered(trained["model"], labels.MODELS)[:MOST_MODELS]
    shown = {loss: styles[loss] for loss in table_views.losses_in(rows[rows["model"].isin(models)])}

    def draw(part: SubFigure) -> None:
        more = f"KL from the known posterior after {labels.CALIBRATORS['exact']}, by number of classes; "
        more += labels.dataset_label(str(family)).lower()
        _head(part, "E  Where classes overlap, does TS fail more as classes grow?", more)
        for ax, model in zip(part.subplots(1, len(models), squeeze=False)[0], models, strict=True):
            class_families.draw_panel(ax, rows, model, shown)
            ax.set(title=labels.model_label(model), xlabel="classes k")
        part.supylabel("KL (nats)", size=8)
        add_legend(part, class_families.legend_keys(shown), 6.7, loc="outside lower left")

    return GROWTH, draw


def ladders(metrics: pd.DataFrame) -> Part | None:
    """Return part F, what could repair the two models with the most data sets, with a bar per data set."""
    parts, loss = repair_bars.ladders(metrics)
    parts = parts[parts["loss"] == loss]
    if parts.empty:
        return None
    of_model = parts.groupby("model")["dataset"].nunique()
    models = sorted(labels.ordered(parts["model"], labels.MODELS), key=lambda name: -of_model[name])[:2]
    parts, models = parts[parts["model"].isin(models)], labels.ordered(models, labels.MODELS)
    datasets = labels.ordered(parts["dataset"], labels.DATASETS)
    shown = datasets[:MOST_LADDERS]
    parts = parts[parts["dataset"].isin(shown)]

    def draw(part: SubFigure) -> None:
        more = f"test NLL by what it would take; {labels.loss_label(loss)}"
        _head(part, "F  What could repair it?", more + part_of(len(shown), len(datasets), "data sets"))
        end = repair_bars.axis_end(parts)
        for ax, model in zip(part.subplots(1, len(models), sharey=True, squeeze=False)[0], models, strict=True):
            repair_bars.draw_bars(ax, parts[parts["model"] == model], shown, end)
            ax.set_title(labels.model_label(model))
        below: Any = {"loc": "outside lower center", "title": "test NLL (nats)", "title_fontsize": 8}
        add_legend(part, repair_bars.repair_keys(), 6.7, **below)

    return 1.7 + repair_bars.BAR * len(shown), draw
