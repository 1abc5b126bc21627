"""Figures draw the numbers they were given, on grids of every shape, and give the same bytes twice."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections import Counter

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle
from scipy import stats

import synthetic
from halobench.core import plugins
from halobench.core.specs import CALIBRATORS
from halobench.experiment import displays
from halobench.experiment.config_loader import load_config
from halobench.reporting import labels as names
from halobench.reporting import seed_statistics, table_views
from halobench.reporting.figures import (
    calibration,
    claims,
    confidence_radius,
    logit_gaps,
    neighbourhood,
    radii,
    reliability,
    reliability_posthoc,
    training,
)
from halobench.reporting.plotting import panel_grid, saving
from halobench.reporting.plotting.panel_grid import PageText, Sizes
from halobench.reporting.plotting.reliability_grid import short_count
from halobench.reporting.plotting.style import INK, RC
from halobench.reporting.styles import CALIBRATOR_STYLES, KNOWN_LOSSES, VERDICT_STYLES, calibrator_style, loss_styles
from halobench.reporting.summary_page.selection import focus_model
from halobench.reporting.summary_page.verdict_list import verdict_matrix
from halobench.results.t_intervals import t_interval

FIGURES = ("calibration", "claims", "confidence_radius", "logit_gaps", "neighbourhood", "radii", "reliability")
FIGURES += ("reliability_posthoc", "summary", "training")
THEORY = ("gaussians", "log_k", "overlap", "phase", "predicted")
RAGGED = [
    ("digits-noise50", "mlp", "cross_entropy"),
    ("digits-noise50", "mlp", "mixup2"),
    ("mnist5k-noise50", "cnn", "focal"),
    ("a-dataset-with-quite-a-long-name-noise25", "an_own_model", "own_loss"),
]


@pytest.fixture(scope="module")
def tables():
    return made(*RAGGED, seeds=(0, 1, 2))


@functools.cache
def made_theory(small=False):
    """Tables of the theory bench, made once; of one cell, or of many."""
    if small:
        return synthetic.theory_tables((4,), ("mlp",), ("cross_entropy",), (0,))
    return synthetic.theory_tables()


@functools.cache
def made(*cells, seeds):
    """Tables of these cells, made once; nothing may change them."""
    return synthetic.tables(cells, seeds)


def beside_posthoc(reliability):
    """Bins, and beside them those of two calibrators beyond a temperature."""
    exact = reliability[reliability["calibrator"] == "exact"]
    others = [exact.assign(calibrator=c, accuracy=x * exact["accuracy"]) for c, x in (("vector", 0.9), ("zz_own", 0.8))]
    return pd.concat([reliability, *others], ignore_index=True)


def beside_theory(given):
    """Tables of cells on images, and beside them those of the theory bench."""
    theory = made_theory()
    joined = {name: pd.concat([given[name], theory[name]], ignore_index=True) for name in theory}
    return given | joined


def drawn(name, given):
    if name == "reliability_posthoc" and len(given["reliability"]):
        given = given | {"reliability": beside_posthoc(given["reliability"])}
    return plugins.load("figures", name)(*(given[table] for table in plugins.parameters("figures", name)))


def texts(figure):
    """Everything written on a figure, ticks and legends aside."""
    own = [text.get_text() for text in figure.texts]
    return own + [
        text.get_text() for ax in figure.axes for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)
    ]


def lines_of(ax, color, ls="-"):
    return [line for line in ax.lines if to_hex(line.get_color()) == color.lower() and line.get_linestyle() == ls]


def bands_of(ax, color):
    """The outlines of the bands in a colour."""
    found = [pair for c in ax.collections for pair in zip(c.get_paths(), c.get_facecolor(), strict=True)]
    return [path for path, face in found if to_hex(face) == color.lower()]


def panel(figure, row, column):
    """The axes in a place of the page, counted from the upper left among the places taken (insets aside)."""
    boxes = [ax for ax in figure.axes if ax.get_window_extent().width > 0]
    tops = sorted({round(ax.get_position().y1, 4) for ax in boxes}, reverse=True)
    lefts = sorted({round(ax.get_position().x0, 4) for ax in boxes})
    found = [
        ax
        for ax in boxes
        if round(ax.get_position().y1, 4) == tops[row] and round(ax.get_position().x0, 4) == lefts[column]
    ]
    return found[0] if found else None


# Statistics and styles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 10])
def test_t_interval_is_scipys(n):
    values = np.random.default_rng(n).normal(2, 3, n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(t_interval(values), (values.mean(), low, high), rtol=1e-12)


def test_t_interval_of_one_value_has_no_ends():
    assert t_interval([0.25])[0] == 0.25
    assert np.isnan(t_interval([0.25])[1:]).all()
    assert t_interval([1.0, np.nan])[0] == 1.0
    assert np.isnan(t_interval([])).all()


def test_seed_is_the_unit():
    table = pd.DataFrame({"group": "a", "seed": [0, 0, 0, 1], "value": [1.0, 2.0, 3.0, 6.0]})
    row = seed_statistics.over_seeds(table, ["group"], "value").iloc[0]
    assert (row["mean"], row["n"]) == (4.0, 2)


def test_known_losses_keep_their_style_and_unknown_ones_differ():
    few, many = loss_styles(["mixup2"]), loss_styles(["new", "mixup2", "newer", "cross_entropy"])
    assert few["mixup2"] == many["mixup2"]
    known = [*KNOWN_LOSSES, *(f"own{i}" for i in range(6))]
    known.remove("mixup")  # another name for mixup2
    styles = loss_styles(known).values()
    assert len({style.color for style in styles}) == len({style.marker for style in styles}) == len(known)
    assert not {style.color for style in styles} & {style.color for style in CALIBRATOR_STYLES.values()} - {"#E69F00"}


def test_every_marker_has_a_face():
    """Marks are drawn without edges, so that one without a face, as "x", can't be seen."""
    styles = loss_styles([*KNOWN_LOSSES, *(f"own{i}" for i in range(7))]).values()
    assert all(MarkerStyle(style.marker).is_filled() for style in (*styles, *CALIBRATOR_STYLES.values()))


def test_names():
    assert names.cell_label("digits-noise50", "mlp") == "Digits, 50% label noise · MLP"
    assert names.cell_label("mine", "own_net") == "mine · own_net"
    assert [names.loss_label(x) for x in ("cross_entropy", "mixup5", "own")] == [
        "Cross-entropy",
        "5-point Mixup",
        "own",
    ]
    assert names.ordered(["b10", "b9", "mlp"], ["mlp"]) == ["mlp", "b9", "b10"]
    assert names.ordered(["zoo", "svhn", "digits-noise50", "digits"], names.DATASETS) == [
        *("digits", "digits-noise50", "svhn", "zoo")
    ]
    # Names that differ in leading zeros alone still have one order, whichever comes first.
    for zeros in itertools.permutations(("mu0.1", "mu0.01")):
        assert names.ordered(zeros) == ["mu0.01", "mu0.1"]


def test_pooled_bins_weigh_by_count_and_drop_empty_ones():
    table = pd.DataFrame(
        {
            "loss": "a",
            "seed": [0, 1, 0],
            "bin": [3, 3, 4],
            "lower": [0.2, 0.2, 0.3],
            "upper": [0.3, 0.3, 0.4],
            "count": [1, 3, 0],
            "confidence": [0.21, 0.25, np.nan],
            "accuracy": [1.0, 0.0, np.nan],
        }
    )
    pooled = table_views.pooled_bins(table, ["loss"])
    assert pooled["bin"].tolist() == [3]
    assert pooled[["count", "confidence", "accuracy"]].iloc[0].tolist() == pytest.approx([4, 0.24, 0.25])


# What is drawn is what was given --------------------------------------------------------------------------------------


def test_neighbourhood_draws_means_and_t_bands(tables):
    table = tables["neighbourhood"]
    figure = neighbourhood.draw(table)
    datasets = names.ordered(table["dataset"], names.DATASETS)
    row = datasets.index("digits-noise50")
    rows = table[(table["dataset"] == "digits-noise50") & (table["loss"] == "mixup2") & (table["probe"] == "sphere")]
    ax, color = panel(figure, row, 0), loss_styles(["mixup2"])["mixup2"].color
    solid, dashed = lines_of(ax, color), lines_of(ax, color, "--")
    assert len(solid) == len(dashed) == 1
    for line, points in ((solid[0], "train"), (dashed[0], "heldout")):
        own = rows[rows["points"] == points]
        relative = own.dropna(subset=["relative_radius"]).groupby("relative_radius")["confidence"].mean()
        # The absolute grid has the point itself, which is at distance 0 on either scale.
        at_point = own.loc[own["radius"] == 0, "confidence"].mean()
        np.testing.assert_array_equal(line.get_xdata(), [0, *relative.index])
        np.testing.assert_allclose(line.get_ydata(), [at_point, *relative], rtol=1e-12)
    at = rows[(rows["points"] == "train") & (rows["relative_radius"] == 0.5)]["confidence"]
    low, high = stats.t.interval(0.95, 2, at.mean(), stats.sem(at))
    vertices = bands_of(ax, color)[0].vertices
    ends = vertices[np.isclose(vertices[:, 0], 0.5), 1]
    assert (ends.min(), ends.max()) == pytest.approx((low, high))


def test_confidence_radius_draws_means_around_training_and_held_out_points(tables):
    table = tables["neighbourhood"]
    figure = confidence_radius.draw(table)
    cells = {(d, m) for d, m, _ in RAGGED}
    assert len(figure.axes) == len(cells)
    for label in (names.dataset_label(d) for d, _ in cells):
        assert texts(figure).count(label) == 1
    rows = table[(table["dataset"] == "digits-noise50") & (table["loss"] == "cross_entropy")]
    rows = rows[rows["probe"] == "sphere"].dropna(subset=["radius"])
    color = loss_styles(["cross_entropy"])["cross_entropy"].color
    (ax,) = (ax for ax in figure.axes if lines_of(ax, color))
    for points, dash in (("train", "-"), ("heldout", "--")):
        (line,) = lines_of(ax, color, dash)
        means = rows[rows["points"] == points].groupby("radius")["confidence"].mean()
        np.testing.assert_array_equal(line.get_xdata(), means.index)
        np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-12)


def gaps_of(table, dataset, model, loss):
    """Mean logit gaps by radius around training points, worked out here."""
    rows = table[(table["dataset"] == dataset) & (table["model"] == model) & (table["loss"] == loss)]
    rows = rows[(rows["probe"] == "sphere") & (rows["points"] == "train")].dropna(subset=["radius"])
    return rows.groupby("radius")["logit_gap"].mean()


@pytest.mark.parametrize("losses", [("cross_entropy", "mixup2"), ("cross_entropy", "mixup2", "mixup5", "focal")])
def test_logit_gaps_have_a_panel_a_data_set_or_a_column_a_model_where_lines_are_many(losses):
    datasets, models = ("digits", "digits-noise50", "svhn", "svhn-noise25", "cifar10"), ("mlp", "cnn")
    table = made(*itertools.product(datasets, models, losses), seeds=(0, 1))["neighbourhood"]
    figure = logit_gaps.draw(table)
    together = len(losses) * len(models) <= logit_gaps.MOST_LINES
    assert len(figure.axes) == len(datasets) * (1 if together else len(models))
    lines = {tuple(np.round(line.get_ydata(), 9)): line for ax in figure.axes for line in ax.lines}
    styles = loss_styles(losses)
    for dataset, model, loss in itertools.product(datasets, models, losses):
        line = lines[tuple(np.round(gaps_of(table, dataset, model, loss), 9))]
        assert to_hex(line.get_color()) == styles[loss].color.lower()
        assert (line.get_linestyle() == "-") == (model == "mlp" or not together)
    held_out = table[(table["points"] == "heldout") & (table["probe"] == "sphere") & (table["loss"] == losses[0])]
    means = held_out.dropna(subset=["radius"]).groupby(["dataset", "model", "radius"])["logit_gap"].mean()
    assert tuple(np.round(means.loc["digits", "mlp"], 9)) not in lines
    for label in map(names.dataset_label, datasets):
        assert texts(figure).count(label) == 1
    legend = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert ("CNN" in legend) == together
    assert len(set(legend)) == len(legend)


def test_the_bands_of_logit_gaps_are_t_intervals(tables):
    figure = logit_gaps.draw(tables["neighbourhood"])
    rows = tables["neighbourhood"].query("dataset == 'digits-noise50' and loss == 'mixup2' and points == 'train'")
    at = rows[(rows["probe"] == "sphere") & (rows["radius"] == rows["radius"].max())]["logit_gap"]
    low, high = stats.t.interval(0.95, 2, at.mean(), stats.sem(at))
    color = loss_styles(["mixup2"])["mixup2"].color
    ends = next(band for ax in figure.axes for band in bands_of(ax, color)).vertices
    ends = ends[np.isclose(ends[:, 0], rows["radius"].max()), 1]
    assert (ends.min(), ends.max()) == pytest.approx((low, high))


def test_radii_draws_means_and_marks_censored_medians(tables):
    table = tables["radii"].copy()
    table["censored"] = 0.0
    chosen = (table["loss"] == "focal") & (table["probe"] == "sphere") & (table["quantity"] == "decision")
    table.loc[chosen & (table["seed"] == 1), "censored"] = 0.6
    figure = radii.draw(table)
    means = radii.summarise(table)
    assert means["open"].sum() == 2  # around training and held-out points
    assert means.loc[means["open"], "loss"].unique().tolist() == ["focal"]
    hollow = [line for ax in figure.axes for line in ax.lines if line.get_markerfacecolor() == "white"]
    expected = table[chosen & (table["points"] == "train")]["relative_median"].mean()
    assert [line.get_xdata()[0] for line in hollow] == [pytest.approx(expected)]
    assert sum(text == "›" for text in texts(figure)) == 1
    dots = sorted(
        float(x)
        for ax in figure.axes
        for line in ax.lines
        if line.get_marker() not in ("None", "|")
        for x in line.get_xdata()
    )
    training_points = means[means["points"] == "train"]
    np.testing.assert_allclose(dots, np.sort(training_points["mean"]), rtol=1e-12)


def test_calibration_draws_means_references_and_floor(tables):
    table = tables["metrics"]
    figure = calibration.draw(table)
    row = names.ordered(table["dataset"], names.DATASETS).index("digits-noise50")
    own = table[(table["dataset"] == "digits-noise50") & (table["split"] == "test") & (table["labels"] == "noisy")]
    color = loss_styles(["cross_entropy"])["cross_entropy"].color
    for column, metric in enumerate(("nll", "ece")):
        ax = panel(figure, row, column)
        rows = own[(own["loss"] == "cross_entropy") & (own["metric"] == metric)]
        means = rows.groupby("calibrator")["value"].mean()[["none", "released", "exact", "oracle"]]
        line = next(x for x in lines_of(ax, color) if len(x.get_xdata()) == 4 and x.get_marker() == "o")
        np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-12)
    ax = panel(figure, row, 0)
    level = {name: own[(own["model"] == name) & (own["metric"] == "nll")] for name in ("bayes", "nearest")}
    horizontal = [
        x.get_ydata()[0] for x in ax.lines if to_hex(x.get_color()) == INK and x.get_ydata()[0] == x.get_ydata()[-1]
    ]
    assert level["bayes"]["value"].mean() in [pytest.approx(y) for y in horizontal]
    nearest = level["nearest"]
    assert nearest[nearest["calibrator"] == "exact"]["value"].mean() in [pytest.approx(y) for y in horizontal]
    floor = own[(own["metric"] == "ece_floor") & (own["loss"] == "cross_entropy")].groupby("calibrator")["value"].mean()
    ticks = [x for x in panel(figure, row, 1).lines if x.get_marker() == "_" and to_hex(x.get_color()) == color.lower()]
    np.testing.assert_allclose(np.sort(ticks[0].get_ydata()), np.sort(floor), rtol=1e-12)


def test_calibration_tells_a_reference_beyond_the_axis_in_words(tables):
    table = tables["metrics"].copy()
    table.loc[(table["model"] == "uniform") & (table["metric"] == "nll"), "value"] = 50.0
    figure = calibration.draw(table)
    assert sum("uniform guess 50.00" in text for text in texts(figure)) == 3
    assert max(ax.get_ylim()[1] for ax in figure.axes) < 25


def test_reliability_draws_pooled_bins_and_no_empty_ones():
    counts = [0, 40, 0, 60]
    rows = [
        {
            **{"dataset": "d", "model": "m", "loss": "cross_entropy", "seed": seed, "split": "test", "labels": "noisy"},
            **{"calibrator": "none", "bin": b, "lower": b / 4, "upper": (b + 1) / 4, "count": count},
            "confidence": (b + 0.5) / 4 if count else np.nan,
            "accuracy": (0.2, 0.4)[seed] if count else np.nan,
        }
        for seed in (0, 1)
        for b, count in enumerate(counts)
    ]
    figure = reliability.draw(pd.DataFrame(rows))
    (ax,) = (ax for ax in figure.axes)
    (bars,) = ax.child_axes
    line = next(x for x in ax.lines if x.get_linestyle() == "-" and len(x.get_xdata()) == 2 and x.get_xdata()[0] > 0)
    np.testing.assert_allclose(line.get_xydata(), [[0.375, 0.3], [0.875, 0.3]])
    (drawn_bars,) = bars.patches
    assert drawn_bars.get_path().vertices.reshape(-1, 5, 2).max(axis=1)[:, 1].tolist() == [80, 120]
    assert not any(np.isclose(x, 0.125) for drawn_line in ax.lines for x in drawn_line.get_xdata())


def test_reliability_draws_bins_of_few_points_faint():
    base = {"dataset": "d", "model": "m", "loss": "focal", "seed": 0, "split": "test", "labels": "noisy"}
    base |= {"calibrator": "exact", "lower": 0.0, "upper": 1.0}
    rows = [base | {"bin": b, "count": n, "confidence": c, "accuracy": c} for b, n, c in ((1, 9, 0.2), (2, 10, 0.7))]
    (ax,) = reliability.draw(pd.DataFrame(rows)).axes
    alpha = {float(x): line.get_alpha() for line in ax.lines if line.get_marker() == "D" for x in line.get_xdata()}
    assert alpha[0.2] < 0.5
    assert alpha[0.7] is None


def test_reliability_keeps_to_three_calibrators_and_the_others_have_a_figure():
    given = beside_posthoc(made(*RAGGED[:2], seeds=(0, 1))["reliability"])
    plain = reliability.draw(given)
    legend = [text.get_text() for legend in plain.legends for text in legend.get_texts()]
    assert legend == [names.calibrator_label(c) for c in ("none", "released", "exact")]
    figure = reliability_posthoc.draw(given)
    heads = [names.calibrator_label("exact"), names.calibrator_label("vector"), "zz_own"]
    assert all(texts(figure).count(head) == 1 for head in heads)
    assert len(figure.axes) == 3
    own = given[(given["labels"] == "noisy") & (given["calibrator"] == "zz_own") & (given["loss"] == "mixup2")]
    pooled = table_views.pooled_bins(own, ["loss"])
    pooled = pooled[pooled["count"] >= names.FEW]
    color = loss_styles(["mixup2"])["mixup2"].color
    marks = [
        line for line in figure.axes[2].lines if to_hex(line.get_color()) == color.lower() and line.get_marker() == "s"
    ]
    np.testing.assert_allclose(marks[0].get_xydata(), pooled[["confidence", "accuracy"]])


def test_the_figure_of_other_calibrators_is_drawn_where_there_are_any(tiny):
    assert "reliability_posthoc" not in load_config(tiny).figures("tiny")
    assert "reliability" in load_config(tiny).figures("tiny")
    assert displays.has_content("figures", "reliability_posthoc", ["digits"], ["none", "vector"])


def test_a_calibrator_or_probe_without_words_goes_by_its_name():
    assert names.calibrator_label("zz_own") == names.probe_label("zz_own") == "zz_own"
    assert calibrator_style("zz_own").color
    assert names.probe_label("nearest_other") == "To the nearest point of another label"
    assert names.around("zz_own") == "around zz_own"


def test_calibration_leaves_room_for_the_names_of_many_calibrators(tables):
    table = tables["metrics"]
    exact = table[table["calibrator"] == "exact"]
    many = [exact.assign(calibrator=f"calibrator{i}") for i in range(6)]
    figure = calibration.draw(pd.concat([table, *many], ignore_index=True))
    with mpl.rc_context(RC):
        figure.canvas.draw()
    for ax in figure.axes:
        boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_training_marks_who_interpolates(tables):
    runs = tables["runs"].copy()
    runs["interpolates"] = (runs["loss"] == "cross_entropy") | ((runs["loss"] == "focal") & (runs["seed"] == 0))
    figure = training.draw(tables["history"], runs)
    marks = [line for ax in figure.axes for line in ax.lines if line.get_marker() != "None"]
    styles = loss_styles(runs["loss"])
    found = {
        loss: (line.get_fillstyle(), line.get_markerfacecolor() == "white", line.get_ydata()[0])
        for loss, line in itertools.product(styles, marks)
        if to_hex(line.get_color()) == styles[loss].color.lower()
    }
    final = tables["history"].groupby(["loss", "epoch"])["train_loss"].mean().groupby("loss").last()
    assert {loss: look[:2] for loss, look in found.items()} == {
        "cross_entropy": ("full", False),
        "mixup2": ("full", True),
        "focal": ("left", False),
        "own_loss": ("full", True),
    }
    for loss, look in found.items():
        assert look[2] == pytest.approx(final[loss])


def test_claims_draws_estimates_intervals_and_words(tables):
    table = tables["claims"]
    figure = claims.draw(table)
    overall = table[(table["scope"] == "all") & (table["verdict"] != "not_tested")]
    points = [line.get_xdata() for ax in figure.axes for line in ax.lines]
    for row in overall.itertuples():
        assert any(len(x) == 1 and x[0] == pytest.approx(row.estimate) for x in points)
        assert any(len(x) == 2 and tuple(x) == pytest.approx((row.low, row.high)) for x in points)
        assert any(len(x) == 2 and tuple(x) == pytest.approx((row.margin, row.margin)) for x in points)
    written = texts(figure)
    for verdict, words in names.VERDICTS.items():
        symbol = VERDICT_STYLES[verdict].marker
        shown = sum(text.startswith(f"{symbol}  {words}") for text in written)
        if verdict != "not_tested":
            assert shown == (overall["verdict"] == verdict).sum()
    whole = " ".join(" ".join(written).split())
    for claim, rows in table.groupby("claim"):
        tested = (rows["verdict"] != "not_tested").any()
        assert (names.in_words(rows["statement"].iloc[0]) in whole) == tested
        assert tested or names.claim_label(claim, rows["fit"].iloc[0]) in whole


def test_claims_share_an_axis_by_what_they_measure():
    assert claims.group_of("difference of metrics.value: (a) - (b) where metric ece") == "Difference in ECE"
    assert claims.group_of("level of neighbourhood.confidence: loss a") == "Level of confidence"
    assert claims.group_of("something else") == "something else"


def test_a_claims_place_is_not_printed():
    assert names.in_words("mixup2 wins [Section 4]") == "2-point Mixup wins"


def test_summary_lists_verdicts_by_fit_and_leaves_out_untested_claims(tables):
    table = tables["claims"]
    matrix = verdict_matrix(table)
    overall = table[table["scope"] == "all"].set_index("claim")["verdict"]
    assert matrix["More points help"] == {f: overall[f"more_points_help_{f}"] for f in ("none", "released", "exact")}
    assert not any("log" in name for name in matrix)
    figure = drawn("summary", tables)
    symbols = [text.get_text() for text in figure.texts if text.get_fontsize() == 9]
    assert sorted(symbols) == sorted(
        VERDICT_STYLES[verdict].marker for row in matrix.values() for verdict in row.values()
    )


def test_summary_draws_nll_before_and_after(tables):
    figure = drawn("summary", tables)
    ax = next(ax for ax in figure.axes if ax.get_xlabel() == "NLL (nats)")
    metrics = tables["metrics"]
    rows = metrics[(metrics["metric"] == "nll") & (metrics["labels"] == "noisy") & (metrics["loss"] != "reference")]
    for loss, hollow, calibrator in itertools.product(("cross_entropy", "mixup2"), (True, False), ("none", "exact")):
        if hollow != (calibrator == "none"):
            continue
        expected = rows[(rows["loss"] == loss) & (rows["calibrator"] == calibrator)]["value"].mean()
        style = loss_styles([loss])[loss]
        dots = [
            x for x in ax.lines if x.get_marker() == style.marker and (x.get_markerfacecolor() == "white") == hollow
        ]
        assert expected in [pytest.approx(x.get_xdata()[0]) for x in dots]


# Grids of every shape -------------------------------------------------------------------------------------------------


def test_every_figure_is_a_plug_in():
    assert set(plugins.names("figures")) == {*FIGURES, *THEORY}


@pytest.mark.parametrize("name", FIGURES + THEORY)
def test_ragged_grid_has_no_blank_panel(name, tables):
    figure = drawn(name, made_theory() if name in THEORY else tables)
    assert figure.axes
    assert all(ax.has_data() for ax in figure.axes)


@pytest.mark.parametrize("name", FIGURES + THEORY)
def test_one_cell_and_one_seed(name):
    given = made_theory(small=True) if name in THEORY else made(("digits", "mlp", "cross_entropy"), seeds=(0,))
    figure = drawn(name, given)
    assert figure.axes
    assert not any("interval over" in text for text in texts(figure) if name != "claims")


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "claims"])
def test_larger_grid_grows_the_page_and_keeps_the_panels(name):
    kept = [c for c in synthetic.LARGE if c[2] in ("cross_entropy", "own_loss")]
    few, many = ([c for c in kept if c[0] in some] for some in (("cifar10",), ("cifar10", "cifar100", "svhn")))
    small, large = (drawn(name, made(*cells, seeds=(0, 1))) for cells in (few, many))
    if name == "summary":  # one page: of many cells it shows some
        assert large.get_size_inches()[0] == small.get_size_inches()[0]
        assert any("of 18 pairs" in text for text in texts(large))
        return
    assert len(large.axes) == 3 * len(small.axes)
    sizes = {tuple(np.round(ax.get_position().size * f.get_size_inches(), 6)) for f in (small, large) for ax in f.axes}
    assert len(sizes) == 1


@pytest.mark.parametrize("name", FIGURES + THEORY)
def test_words_stay_on_the_page_and_off_each_other(name):
    cells = [c for c in synthetic.LARGE if c[0] in ("cifar10-noise50", "a-source-with-a-long-name-noise25")][::5]
    both = (made(*cells, seeds=(0, 1)), made(RAGGED[0], seeds=(0,)))
    if name == "summary":
        both = (*both, beside_theory(both[0]))
    for given in (made_theory(), made_theory(small=True)) if name in THEORY else both:
        figure = drawn(name, given)
        with mpl.rc_context(RC):
            figure.canvas.draw()
        page = figure.bbox
        boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        boxes += [ax.get_tightbbox() for ax in figure.axes]
        for box in boxes:
            assert box.x0 >= page.x0 - 1, name
            assert box.x1 <= page.x1 + 1, name
            assert box.y0 >= page.y0 - 1, name
            assert box.y1 <= page.y1 + 1, name
        words = boxes[: len(boxes) - len(figure.axes)]
        for a, b in itertools.combinations(words, 2):
            overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(overlap) <= 2, (name, a, b)  # pixels


@pytest.mark.parametrize("name", FIGURES + THEORY)
def test_print_is_at_least_seven_points(name, tables):
    figure = drawn(name, made_theory() if name in THEORY else beside_theory(tables))
    with mpl.rc_context(RC):
        figure.canvas.draw()
    sizes = [text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text().strip()]
    assert min(sizes) >= 7


EMPTY = ("neighbourhood", "radii", "calibration", "reliability", "reliability_posthoc", "training")
EMPTY += ("confidence_radius", "logit_gaps")


@pytest.mark.parametrize("name", [*EMPTY, "gaussians", "log_k", "phase", "predicted"])
def test_empty_tables_say_so(name, tables):
    figure = drawn(name, {table: rows.iloc[:0] for table, rows in tables.items()})
    assert not figure.axes
    assert any(text.startswith("No ") for text in texts(figure))


# Saving ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES + THEORY)
def test_same_tables_give_the_same_bytes(name, tables, tmp_path):
    tables = made_theory() if name in THEORY else tables
    written = [saving.save(drawn(name, tables), tmp_path / folder / name) for folder in ("one", "two")]
    for one, two in zip(*written, strict=True):
        assert one.read_bytes() == two.read_bytes()
    pdf, png = (path.read_bytes() for path in written[0])
    assert pdf.startswith(b"%PDF")
    assert png.startswith(b"\x89PNG")
    assert b"CreationDate" not in pdf
    assert b"matplotlib" not in pdf.lower()
    assert b"Software" not in png
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [f"{name}.pdf", f"{name}.png"]


def test_settings_and_tables_are_left_as_they_were(tables):
    before = dict(mpl.rcParams)
    copies = {table: rows.copy() for table, rows in tables.items()}
    for name in FIGURES:
        drawn(name, tables)
    assert dict(mpl.rcParams) == before
    for table, rows in tables.items():
        pd.testing.assert_frame_equal(rows, copies[table])


def spots(grid: panel_grid.Grid) -> dict:
    """Of each panel its left edge, and how far its top lies below that of the highest, in inches."""
    width, height = grid.figure.get_size_inches()
    boxes = {key: ax.get_position() for key, ax in grid.axes.items()}
    top = max(box.y1 for box in boxes.values())
    return {key: (round(box.x0 * width, 3), round((top - box.y1) * height, 3)) for key, box in boxes.items()}


def test_a_high_page_goes_on_beside_in_order_with_no_panel_lost():
    rows = {i: f"row {i}" for i in range(31)}
    columns = {"a": "first", "b": "second"}
    present = set(itertools.product(rows, columns)) - {(7, "a")}
    grid = panel_grid.draw_grid(
        PageText("title", "note", xlabel="x"), rows, columns, present, Sizes(left=0.6, right=0.2)
    )
    width, height = grid.figure.get_size_inches()
    assert height < 1.6 * width
    found = spots(grid)
    assert set(found) == present
    wide = 0.6 + 2 * 1.6 + 0.25 + 0.2
    band = {row: int(found[row, "b"][0] // wide) for row in rows}
    assert list(band.values()) == sorted(band.values())
    assert set(band.values()) == set(range(max(band.values()) + 1))
    assert max(Counter(band.values()).values()) - min(Counter(band.values()).values()) <= 1
    for (row, column), (left, _) in found.items():
        assert left == pytest.approx(wide * band[row] + 0.6 + (1.85 if column == "b" else 0), abs=2e-3)
    assert [text for text in texts(grid.figure) if text in ("first", "x")] == ["first", "x"] * (max(band.values()) + 1)
    assert grid.left(7, "b")
    assert not grid.left(8, "b")


def test_panels_of_a_sparse_grid_move_together_under_headings_of_their_own():
    columns = {c: f"column {c}" for c in range(9)}
    own = {"x": [0, 4], "y": [1, 8], "z": range(9), "w": [3, 5]}
    present = {(row, column) for row, found in own.items() for column in found}
    grid = panel_grid.draw_grid(PageText("title", "note"), {row: f"row {row}" for row in own}, columns, present)
    found = spots(grid)
    assert set(found) == present
    for row, some in own.items():
        lines = Counter(found[row, column][1] for column in some)  # by how far down
        assert list(lines.values()) == ([2, 2, 2, 2, 1] if row == "z" else [2])
        assert [column for column in some if grid.left(row, column)] == list(some)[::2]
    # Each panel is under the name of its column, and each line of a row under the row's.
    assert Counter(text for text in texts(grid.figure) if text.startswith("column")) == Counter(
        columns[column] for _, column in present
    )
    assert [text for text in texts(grid.figure) if text.startswith("row")] == [
        *("row x", "row y", "row z", *["row z (continued)"] * 4, "row w")
    ]


def test_figures_import_neither_torch_nor_pyplot():
    code = "import sys; " + "".join(f"import halobench.reporting.figures.{name}; " for name in FIGURES + THEORY)
    code += "print([m for m in ('torch', 'seaborn', 'matplotlib.pyplot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_without_a_finite_temperature_are_counted_in_words():
    from halobench.reporting.figures.calibration import missing_fits

    rows = pd.DataFrame({"calibrator": ["none", "exact", "exact"], "value": [1.0, np.nan, 0.5]})
    assert missing_fits(rows) == ["exact TS: no finite T for 1 of 2 models"]
    rows = pd.DataFrame({"calibrator": ["isotonic", "vector", "isotonic"], "value": [np.inf, np.nan, 0.5]})
    expected = ["isotonic: infinite for 1 of 2 models", "vector scaling: no finite optimum for 1 of 1 models"]
    assert missing_fits(rows) == expected


def test_calibration_draws_all_calibrators_and_survives_an_infinite_nll(tables):
    """Beside TS the others, in the order of their names; an infinite mean is told in words and bounds no axis."""
    table = tables["metrics"]
    exact = table[(table["calibrator"] == "exact") & (table["loss"] != "reference")]
    more = [exact.assign(calibrator=name) for name in plugins.names("calibrators")]
    table = pd.concat([table, *more], ignore_index=True)
    gone = (table["calibrator"] == "isotonic") & (table["metric"] == "nll") & (table["seed"] == 0)
    table.loc[gone, ["value", "high"]] = np.inf
    figure = calibration.draw(table)
    for ax in figure.axes:
        labels = [tick.get_text() for tick in ax.get_xticklabels()]
        assert labels == list(names.CALIBRATORS.values())
        assert np.isfinite(ax.get_ylim()).all()
    assert sum("isotonic: infinite for" in text for text in texts(figure)) == len(figure.axes) / 2
    assert sum(
        "vector scaling, matrix scaling, isotonic, histogram. Lower" in " ".join(t.split()) for t in texts(figure)
    )
    plain = calibration.draw(tables["metrics"])
    assert not any("isotonic" in text for text in texts(plain))


def test_other_figures_leave_other_calibrators_aside(tables):
    table = tables["reliability"]
    more = pd.concat([table, table[table["calibrator"] == "exact"].assign(calibrator="vector")], ignore_index=True)
    shown = [[line.get_xydata() for ax in reliability.draw(given).axes for line in ax.lines] for given in (table, more)]
    assert len(shown[0]) == len(shown[1])
    for one, other in zip(*shown, strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_calibrator_has_a_name_and_a_style_of_its_own():
    assert {*CALIBRATORS, *plugins.names("calibrators")} == set(names.CALIBRATORS) == set(CALIBRATOR_STYLES)
    styles = CALIBRATOR_STYLES.values()
    assert len({style.color for style in styles}) == len({style.marker for style in styles}) == len(styles)


@pytest.mark.paper
@pytest.mark.parametrize("name", ["neighbourhood", "confidence_radius", "logit_gaps", "radii", "summary"])
def test_figures_say_evaluation_points_where_no_model_was_fitted_to_them(tables, name):
    """The same lines, in other words; and both kinds where both are there."""
    given = {key: table.copy() for key, table in tables.items()}
    for key in ("neighbourhood", "radii"):
        given[key]["points"] = given[key]["points"].replace("train", "evaluation")
    mixed = {key: table.copy() for key, table in tables.items()}
    for key in ("neighbourhood", "radii"):
        some = (mixed[key]["points"] == "train") & (mixed[key]["model"] == mixed[key]["model"].iloc[0])
        mixed[key]["points"] = mixed[key]["points"].mask(some, "evaluation")
    wanted = plugins.parameters("figures", name)
    draw = plugins.load("figures", name)
    plain, other, both = (draw(*(found[key] for key in wanted)) for found in (tables, given, mixed))
    texts = [" ".join(" ".join(text.get_text().split()) for text in figure.texts) for figure in (plain, other, both)]
    assert "around training points" in texts[0]
    assert "evaluation" not in texts[0]
    assert "around evaluation points" in texts[1]
    assert "around training points" in texts[2]
    assert name == "summary" or "models that weren't fitted to them: evaluation points" in texts[2]
    for one, two in zip(plain.axes, other.axes, strict=True):
        for before, after in zip(one.lines, two.lines, strict=True):
            np.testing.assert_array_equal(before.get_xydata(), after.get_xydata())


def given_weights(tables, model):
    """`tables` with the weights of one model given: not trained here, and not fitted to the data."""
    runs = tables["runs"].assign(fitted_here=tables["runs"]["model"] != model)
    return tables | {"runs": runs.assign(steps=runs["steps"].where(runs["fitted_here"], 0))}


def test_summary_without_probed_cells_says_so_and_keeps_the_rest(tables):
    full = drawn("summary", tables)
    empty = {name: tables[name].iloc[:0] for name in ("neighbourhood", "radii")}
    metrics = tables["metrics"]
    given = tables | empty | {"metrics": metrics[metrics["calibrator"].isin(["none", "exact"])]}
    figure = drawn("summary", given)
    assert texts(figure).count("No cell was probed.") == 2
    assert "No cell was probed." not in texts(full)
    whole = " ".join(texts(figure))
    assert "None" not in whole
    assert "falls below" not in whole
    assert all(ax.has_data() for ax in figure.axes)
    assert "distance" not in whole
    ax = next(ax for ax in figure.axes if ax.get_xlabel() == "NLL (nats)")
    assert any("MLP" in label.get_text() for label in ax.get_yticklabels())
    legends = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert ["no TS", "exact", "Bayes", "uniform guess"] in legends
    assert ["no TS", "released", "exact", "Bayes", "uniform guess"] in [
        [text.get_text() for text in legend.get_texts()] for legend in full.legends
    ]


def test_summary_says_how_many_are_shown_and_which_labels_count():
    few = made(*itertools.product(("digits", "digits-noise50"), ("mlp",), ("cross_entropy", "mixup2")), seeds=(0,))
    losses = ("cross_entropy", "mixup2", "mixup5", "focal", "own_loss")
    datasets = ("digits", "digits-noise50", "svhn", "cifar10")
    many = made(*itertools.product(datasets, ("mlp",), losses), seeds=(0,))
    told = [" ".join(" ".join(text.split()) for text in texts(drawn("summary", given))) for given in (few, many)]
    assert "MLP; 3 of 4 data sets" in told[1]
    assert "MLP; 4 of 5 losses test labels with the noise trained on" in told[1]
    assert " of 2 data sets" not in told[0]
    assert " of 2 losses" not in told[0]


def test_summary_counts_what_was_trained_here_and_shows_it(tables):
    first = focus_model(table_views.cells_in(tables["runs"]))
    figure = drawn("summary", given_weights(tables, first))
    whole = " ".join(texts(figure))
    runs = tables["runs"]
    assert f"{len(runs)} models, {(runs['model'] != first).sum()} trained here: " in whole
    assert f"label trained on; {names.model_label(first)}" not in whole
    plain = " ".join(texts(drawn("summary", tables)))
    assert f"{len(runs)} trained models: " in plain
    assert f"label trained on; {names.model_label(first)}" in plain


@pytest.mark.parametrize("name", ["reliability", "reliability_posthoc"])
def test_reliability_says_which_labels_count(name, tables):
    noisy = " ".join(" ".join(texts(drawn(name, tables))).split())
    assert "on test labels with the noise trained on (in expectation), pooled" in noisy
    assert "No answer is more accurate than 0.75 under 25% label noise, 0.5 under 50% label noise." in noisy
    clean = made(("digits", "mlp", "cross_entropy"), seeds=(0,))
    assert "No answer is more accurate" not in " ".join(texts(drawn(name, clean)))


def test_counts_of_points_keep_off_the_panel_to_their_left(tables):
    table = tables["reliability"].copy()
    table["count"] *= 9999 // table["count"].max()
    figure = reliability.draw(table)
    with mpl.rc_context(RC):
        figure.canvas.draw()
    for ax, other in itertools.permutations(figure.axes, 2):
        box, left = ax.get_window_extent(), other.get_window_extent()
        if box.y0 == left.y0 and left.x1 < box.x0:
            labels = ax.child_axes[0].get_yticklabels()
            assert min(label.get_window_extent().x0 for label in labels) > left.x1 + 0.1 * figure.dpi
    assert [short_count(count) for count in (0, 9999, 12345, 1234567)] == ["0", "9999", "12k", "1.2M"]


def test_nothing_is_drawn_behind_the_words_of_calibration(tables):
    """Wide intervals end below the words, in an arrow; the title tells of more than temperatures."""
    table = tables["metrics"].copy()
    wide = (table["metric"] == "nll") & (table["loss"] != "reference") & (table["seed"] == 0)
    table.loc[wide, "value"] *= 3
    table.loc[(table["model"] == "uniform") & (table["metric"] == "nll"), "value"] = 50.0
    figure = calibration.draw(table)
    with mpl.rc_context(RC):
        figure.canvas.draw()
    arrows = 0
    for ax in (ax for ax in figure.axes if ax.texts):
        bottom = ax.transData.inverted().transform(ax.texts[0].get_window_extent())[0][1]
        arrows += sum(line.get_marker() == "^" and len(line.get_xdata()) == 1 for line in ax.lines)
        for line in ax.lines:
            y = np.asarray(line.get_ydata(), dtype=float)
            assert np.nanmax(y) < bottom
        assert max(ax.get_yticks()) < bottom
    assert arrows
    assert calibration.TITLE in texts(figure)
    more = table[table["calibrator"] == "exact"].assign(calibrator="vector")
    assert calibration.OTHER_TITLE in texts(calibration.draw(pd.concat([table, more])))


def test_claims_that_no_cell_tests_get_a_short_name_and_no_axis(tables):
    """Even where single cells have an estimate; those that differ by the fit alone share a name."""
    table = tables["claims"]
    last = table[table["claim"] == "more_points_help_exact"]
    copies = [
        last.assign(claim=f"one_more_{fit}", fit=fit, verdict="not_tested", statement="A long sentence.", estimate=0.5)
        for fit in ("none", "exact")
    ]
    before, after = claims.draw(table), claims.draw(pd.concat([table, *copies], ignore_index=True))
    whole = " ".join(" ".join(texts(after)).split())
    assert "One more (no TS, exact)" in whole
    assert "A long sentence." not in whole
    assert [len(ax.lines) for ax in after.axes] == [len(ax.lines) for ax in before.axes]


def test_training_draws_means_over_windows_of_many_epochs():
    rows = pd.DataFrame({"dataset": "d", "model": "m", "loss": "cross_entropy", "seed": 0, "epoch": range(1, 902)})
    rows["train_loss"] = np.random.default_rng(0).uniform(1, 2, len(rows))
    runs = rows.iloc[:1].assign(interpolates=True)
    figure = training.draw(rows, runs)
    thick = next(line for line in figure.axes[0].lines if line.get_linewidth() == 1.3)
    assert len(thick.get_xdata()) == 181
    assert thick.get_xdata()[-1] == 901
    np.testing.assert_allclose(thick.get_ydata()[-1], rows["train_loss"].iloc[-5:].mean())
    note = "means over equal windows"
    assert any(note in " ".join(text.split()) for text in texts(figure))
    short = rows[rows["epoch"] <= 200]
    pd.testing.assert_frame_equal(training.windowed(short), short)
    assert not any(note in " ".join(text.split()) for text in texts(training.draw(short, runs)))
