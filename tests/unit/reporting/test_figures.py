"""Figures draw the numbers they were given, on grids of every shape, and give the same bytes twice."""

from __future__ import annotations

import functools
import itertools
from collections import Counter

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle
from scipy import stats

import synthetic
from halobench.analysis.names import PROBES, REPAIRS
from halobench.core import plugins
from halobench.core.specs.calibrator import CALIBRATORS
from halobench.reporting import labels as names
from halobench.reporting import table_views
from halobench.reporting.figures import calibration, neighbourhood, radii, reliability, training
from halobench.reporting.plotting import panel_grid, survival
from halobench.reporting.plotting.panel_grid import PageText
from halobench.reporting.plotting.style import FAINT, INK
from halobench.reporting.seed_statistics import over_seeds
from halobench.reporting.styles import CALIBRATOR_STYLES, KNOWN_LOSSES, calibrator_style, loss_styles
from halobench.storage.columns import SURVIVAL, SURVIVAL_COLUMNS
from synthetic import beside_posthoc, drawn, made, plain, texts, words

RAGGED = [("digits-noise50", "mlp", "cross_entropy"), ("digits-noise50", "mlp", "mixup2")]
RAGGED += [("mnist5k-noise50", "cnn", "focal")]
RAGGED += [("a-dataset-with-quite-a-long-name-noise25", "an_own_model", "own_loss")]


@pytest.fixture
def tables():
    return made(*RAGGED)


@pytest.fixture
def few():
    """One model on one data set, with two losses."""
    return made(*RAGGED[:2], seeds=(0, 1))


@functools.cache
def of_few(name):
    """A figure of these tables, drawn once and never to be modified."""
    return drawn(name, made(*RAGGED[:2], seeds=(0, 1)))


def legend(figure):
    return [text.get_text() for legend in figure.findobj(mpl.legend.Legend) for text in legend.get_texts()]


def under(figure, heading):
    """The axes with a heading in their title."""
    return [ax for ax in figure.axes if heading in ax.get_title("left") + ax.get_title("center")]


def lines_of(ax, color, ls="-"):
    return [line for line in ax.lines if to_hex(line.get_color()) == color.lower() and line.get_linestyle() == ls]


def bands_of(ax, color):
    """The outlines of the bands in a colour."""
    found = [pair for c in ax.collections for pair in zip(c.get_paths(), c.get_facecolor(), strict=True)]
    return [path for path, face in found if to_hex(face) == color.lower()]


def assert_same_lines(one, two):
    for before, after in zip(one.axes, two.axes, strict=True):
        for first, second in zip(before.lines, after.lines, strict=True):
            np.testing.assert_array_equal(first.get_xydata(), second.get_xydata())


# Styles and names ------------------------------------------------------------------------------------------------


def test_losses_and_calibrators_keep_their_styles_and_differ():
    """Marks are drawn without edges, so one without a face, such as "x", would be invisible."""
    few, many = loss_styles(["mixup2"]), loss_styles(["new", "mixup2", "newer", "cross_entropy"])
    assert few["mixup2"] == many["mixup2"]
    known = [*KNOWN_LOSSES, *(f"own{i}" for i in range(6))]
    known.remove("mixup")  # another name for mixup2
    losses, calibrators = loss_styles(known), CALIBRATOR_STYLES
    for styles in (losses, calibrators):
        for look in ("color", "marker"):
            alike = Counter(getattr(style, look) for style in styles.values())
            twice = [name for name, style in styles.items() if alike[getattr(style, look)] > 1]
            assert not twice, f"these have the same {look}"
        assert all(MarkerStyle(style.marker).is_filled() for style in styles.values())
    taken = {style.color for style in calibrators.values()} - {"#E69F00"}
    assert not [name for name, style in losses.items() if style.color in taken], "a calibrator has this colour"
    retired = {name for kind, name in plugins.RETIRED if kind == "calibrators"}  # published tables still hold them
    listed = {*CALIBRATORS, *plugins.names("calibrators"), *retired}
    assert listed == set(names.CALIBRATORS) >= set(CALIBRATOR_STYLES)
    assert calibrator_style("zz_own").color


def test_names_are_ordered_by_rank_then_by_their_numbers():
    """Names that differ only in leading zeros still have a fixed order, whichever comes first."""
    shuffled = ["zoo", "b10", "svhn", "digits-noise50", "b9", "digits"]
    assert names.ordered(shuffled, names.DATASETS) == ["digits", "digits-noise50", "svhn", "b9", "b10", "zoo"]
    for zeros in itertools.permutations(("mu0.1", "mu0.01")):
        assert names.ordered(zeros) == ["mu0.01", "mu0.1"]
    assert names.cell_label("digits-noise50", "own_net") == "Digits, 50% label noise · own_net"


# What is drawn is what was given --------------------------------------------------------------------------------------


def test_neighbourhood_draws_means_and_t_bands(tables):
    table = tables["neighbourhood"]
    table = table[(table["dataset"] == "digits-noise50") & (table["probe"] == "sphere")]
    axes = dict(zip(("confidence", "logit_gap"), neighbourhood.draw(table).axes, strict=True))
    rows, color = table[table["loss"] == "mixup2"], loss_styles(["mixup2"])["mixup2"].color
    for quantity, points, dash in (
        ("confidence", "train", "-"),
        ("confidence", "heldout", "--"),
        ("logit_gap", "train", "-"),
    ):
        (line,) = lines_of(axes[quantity], color, dash)
        means = rows[rows["points"] == points].groupby("radius")[quantity].mean()
        np.testing.assert_array_equal(line.get_xdata(), means.index)
        np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-12)
        at = rows[(rows["points"] == "train") & (rows["radius"] == 5.0)][quantity]
        error = at.std() * np.sqrt(1 / 3 + 0.45)  # seeds share samples
        low, high = stats.t.interval(0.95, 2, at.mean(), error)
        vertices = bands_of(axes[quantity], color)[0].vertices
        ends = vertices[np.isclose(vertices[:, 0], 5.0), 1]
        assert (ends.min(), ends.max()) == pytest.approx((low, high))
    assert not lines_of(axes["logit_gap"], color, "--"), "the gap has no control"
    assert 0.0 in [line.get_ydata()[0] for line in axes["logit_gap"].lines if len(line.get_ydata()) == 2]


def test_neighbourhood_has_a_row_per_model_and_needs_no_absolute_distances():
    """Relative ones are then drawn, with the point itself at 0; of several probes, random directions come first."""
    cells = [*itertools.product(("digits", "svhn"), ("mlp", "cnn"), ("cross_entropy", "mixup2"))]
    table = made(*cells, seeds=(0, 1))["neighbourhood"]
    relative = table[table["relative_radius"].notna() | (table["radius"] == 0)]
    for given, scale in ((table, "radius"), (relative, "relative_radius")):
        figure = neighbourhood.draw(given)
        assert len(figure.axes) == 2 * 4
        drawn_lines = {tuple(np.round(line.get_ydata(), 9)) for ax in figure.axes[1::2] for line in ax.lines}
        rows = given[(given["probe"] == "sphere") & (given["points"] == "train")]
        rows = rows.assign(at=rows[scale].fillna(rows["radius"].where(rows["radius"] == 0))).dropna(subset=["at"])
        means = rows.groupby(["dataset", "model", "loss", "at"])["logit_gap"].mean().round(9)
        assert drawn_lines == {(0, 0), *(tuple(means.loc[cell]) for cell in cells)}
        other = words(neighbourhood.draw(given[given["probe"] != "sphere"]))
        assert "random direction" in words(figure)
        assert "random direction" not in other


def test_radii_draws_means_and_marks_censored_medians(tables):
    table = tables["radii"].copy()
    table["censored"] = 0.0
    chosen = (table["loss"] == "focal") & (table["probe"] == "sphere") & (table["quantity"] == "decision")
    table.loc[chosen & (table["seed"] == 1), "censored"] = 0.6
    figure = radii.draw(table)
    marks = [line for ax in figure.axes for line in ax.lines if line.get_marker() not in ("None", "|")]
    hollow = [line.get_xdata()[0] for line in marks if line.get_markerfacecolor() == "white"]
    table = table[table["points"] == "train"]
    assert hollow == [pytest.approx(table.loc[chosen, "relative_median"].mean())]
    table = table[table["quantity"].isin(["certainty", "decision"]) & (table["calibrator"] == "none")]
    assert "After TS (optimal), all are 0." in words(figure), "and have no column"
    by = ["dataset", "model", "quantity", "calibrator", "probe", "loss"]
    dots = np.concatenate([np.asarray(line.get_xdata(), float) for line in marks])
    means = table.groupby(by)["relative_median"].mean()
    assert means.min() == 0 > figure.axes[0].get_xlim()[0], "a radius of 0 is within the axis"
    np.testing.assert_allclose(np.sort(dots), np.sort(means), rtol=1e-12)


def test_calibration_draws_means_references_and_a_floor_where_labels_are_certain(tables):
    """Expectations under a posterior have no floor, because perfect probabilities have an ECE of 0 there."""
    table = tables["metrics"]
    own = table[(table["dataset"] == "digits-noise50") & (table["split"] == "test") & (table["labels"] == "noisy")]
    color = loss_styles(["cross_entropy"])["cross_entropy"].color
    axes = dict(zip(("nll", "ece"), calibration.draw(own, tables["runs"]).axes, strict=True))
    for metric, ax in axes.items():
        rows = own[(own["loss"] == "cross_entropy") & (own["metric"] == metric)]
        means = rows.groupby("calibrator")["value"].mean()[["none", "paper", "exact", "oracle"]]
        line = next(x for x in lines_of(ax, color, "None") if len(x.get_xdata()) == 4 and x.get_marker() == "o")
        np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-12)
    levels = [line.get_ydata()[0] for line in axes["nll"].lines if to_hex(line.get_color()) == INK]
    for name, calibrator in (("bayes", "none"), ("nearest", "exact")):
        rows = own[(own["model"] == name) & (own["metric"] == "nll") & (own["calibrator"] == calibrator)]
        assert rows["value"].mean() in [pytest.approx(y) for y in levels]
    assert not [line for line in lines_of(axes["ece"], color, "None") if line.get_marker() == "_"]
    certain = made(("digits", "mlp", "cross_entropy"), seeds=(0, 1, 2))
    (_, ax) = calibration.draw(certain["metrics"], certain["runs"]).axes
    (ticks,) = (line for line in lines_of(ax, color, "None") if line.get_marker() == "_")
    floor = certain["metrics"].query("metric == 'ece_floor' and labels == 'noisy'")
    floor = floor.groupby("calibrator")["value"].mean()
    np.testing.assert_allclose(np.sort(ticks.get_ydata()), np.sort(floor), rtol=1e-12)


def test_calibration_tells_in_words_what_is_beyond_its_axes():
    """Far-off references and infinite means, which don't extend the axes, are described; so are fits below 0."""
    tables = made(*RAGGED[1:3])
    table, negative = tables["metrics"].copy(), tables["runs"].copy()
    negative.loc[(negative["dataset"] == "mnist5k-noise50") & (negative["seed"] == 1), "temperature_paper"] = -2.5
    scored = (table["dataset"] == "mnist5k-noise50") & (table["calibrator"] == "paper") & (table["metric"] == "nll")
    figure = calibration.draw(table.assign(value=table["value"].mask(scored, 400.0)), negative)
    assert words(figure).count("TS (paper's code): fit below 0 for 1 of 3 models") == 1
    assert words(figure).count("beyond this panel: TS (paper's code) 400.00") == 1
    assert max(ax.get_ylim()[1] for ax in figure.axes) < 25
    table.loc[(table["model"] == "uniform") & (table["metric"] == "nll"), "value"] = 50.0
    exact = table[(table["calibrator"] == "exact") & (table["loss"] != "reference")]
    more = pd.concat([table, *(exact.assign(calibrator=name) for name in {*names.CALIBRATORS} - {"none", "oracle"})])
    nll = (more["metric"] == "nll") & (more["seed"] == 0)
    more.loc[nll & (more["calibrator"] == "matrix"), ["value", "high"]] = np.inf
    more.loc[nll & more["calibrator"].isin(["exact", "partner"]) & (more["loss"] != "reference"), "value"] = np.nan
    runs = tables["runs"].copy()
    few, full = calibration.draw(table, runs), calibration.draw(more, runs)
    for figure in (few, full):
        assert words(figure).count("uniform guess 50.00") == len(figure.axes) / 2
        assert max(ax.get_ylim()[1] for ax in figure.axes) < 25
    for ax in full.axes:
        ticks = [" ".join(tick.get_text().split()) for tick in ax.get_xticklabels()]
        assert ticks == [names.calibrator_label(name) for name in names.CALIBRATORS]
    unfitted = "TS (optimal): no finite T for", "partner scaling: no finite optimum for"
    for told in ("matrix scaling: infinite for", *unfitted):
        assert (words(full).count(told), words(few).count(told)) == (len(full.axes) / 2, 0)


def test_calibration_tells_of_a_reference_below_its_axis():
    tables = made(*RAGGED[1:3])
    nearest = (tables["metrics"]["model"] == "nearest") & (tables["metrics"]["metric"] == "nll")
    trained = tables["metrics"]["loss"] != "reference"
    table = tables["metrics"].assign(value=lambda rows: rows["value"].mask(nearest, 0.01) + 5 * trained)
    figure = calibration.draw(table[table["model"] != "bayes"], tables["runs"])
    assert min(ax.get_ylim()[0] for ax in figure.axes) > 1
    assert words(figure).count("beyond this panel: 1-nearest neighbour + TS 0.01") == len(figure.axes) / 2


def test_reliability_draws_pooled_bins_no_empty_ones_and_those_of_few_points_faint():
    cell = {"dataset": "d", "model": "m", "loss": "focal", "split": "test", "labels": "noisy", "calibrator": "none"}
    cell |= {"noise": 0.5}
    counts = {0: (0, 40, 4, 60), 1: (0, 120, 5, 60)}
    bins = [(seed, b) for seed in counts for b in range(4)]
    rows = pd.DataFrame(bins, columns=["seed", "bin"]).assign(**cell, count=[counts[seed][b] for seed, b in bins])
    rows = rows.assign(lower=rows["bin"] / 4, upper=(rows["bin"] + 1) / 4, confidence=(rows["bin"] + 0.5) / 4)
    rows["accuracy"] = rows["seed"].map({0: 0.2, 1: 0.4})
    rows.loc[rows["count"] == 0, ["confidence", "accuracy"]] = np.nan
    (ax,) = reliability.draw(rows).axes
    found = [line for line in lines_of(ax, calibrator_style("none").color, "None") if len(line.get_xdata())]
    marks = {line.get_alpha(): line.get_xydata() for line in found}
    np.testing.assert_allclose(marks[None], [[0.375, 0.35], [0.875, 0.3]])
    np.testing.assert_allclose(marks[0.3], [[0.625, 2.8 / 9]])
    bars = [(bar.get_x(), bar.get_width(), bar.get_height() / 0.14) for bar in ax.patches]
    np.testing.assert_allclose(bars, [(0.25, 0.25, 1), (0.5, 0.25, 9 / 160), (0.75, 0.25, 120 / 160)])
    # Each seed's own ECE, by hand, then their mean: pooled bins would give less if seeds err on different sides.
    own = (40 * 0.175 + 4 * 0.425 + 60 * 0.675) / 104, (120 * 0.025 + 5 * 0.225 + 60 * 0.475) / 185
    assert [text.get_text() for text in ax.texts] == ["ECE", f"{np.mean(own):.3f}"]
    assert to_hex(ax.texts[1].get_color()) == calibrator_style("none").color


def test_reliability_keeps_to_three_calibrators():
    given = made(*RAGGED[:2], seeds=(0, 1))["reliability"]
    figures = [reliability.draw(table) for table in (given, beside_posthoc(given))]
    assert legend(figures[1]) == [names.calibrator_label(c) for c in ("none", "paper", "exact")]
    assert_same_lines(*figures)


@pytest.mark.parametrize(("most", "count"), [(1, 1), (3, 1), (6, 3), (99, 8)])
def test_of_too_many_pairs_the_noisiest_are_shown(most, count):
    """First models come before second ones, in whole rows; noise is what was recorded, not what a name says."""
    noise = {"named-noise90": 0.0, "digits-noise50": 0.5, "mnist5k-noise50": 0.5, "digits-noise25": 0.25, "svhn": 0.25}
    cells = [*itertools.product([*noise][:3], ["mlp", "cnn"]), ("digits-noise25", "mlp"), ("svhn", "mlp")]
    table = pd.DataFrame([(*cell, loss) for cell in cells for loss in "ab"], columns=["dataset", "model", "loss"])
    table["noise"] = table["dataset"].map(noise)
    kept, note = table_views.noisiest_cells(table, ["loss"], "a file", most)
    order = [("digits-noise50", "mlp"), ("mnist5k-noise50", "mlp"), ("digits-noise50", "cnn")]
    assert set(zip(kept["dataset"], kept["model"], strict=True)) == {*(order[:count] if count < 8 else cells)}
    assert note.startswith(f"Shown: {count} of 8 pairs" if count < 8 else "")
    assert bool(note) == (count < 8)


def test_intervals_end_where_their_quantity_does():
    """If the seeds' mean is near an end, the t interval reaches beyond it."""
    tables = made(RAGGED[0])
    ends = {"calibration": ("metrics", "value"), "radii": ("radii", "relative_median")}
    ends |= {"neighbourhood": ("neighbourhood", "confidence")}
    for name, (table, column) in ends.items():
        spread = tables[table].assign(**{column: tables[table]["seed"].map({0: 0.0, 1: 0.1, 2: 1.0})})
        figure = drawn(name, tables | {table: spread})
        side = 1 if name != "radii" else 0
        axes = figure.axes[:: 2 if name == "neighbourhood" else 1]  # every other panel is of logit gaps
        paths = [path for ax in axes for drawn in ax.collections for path in drawn.get_paths()]
        values = np.concatenate([path.vertices[:, side] for path in paths])
        high = 1.0 if "confidence" in column else 2.46
        assert (values.min(), values.max()) == (pytest.approx(0), pytest.approx(high, abs=0.01))


def test_training_draws_seeds_and_means_over_windows_of_many_epochs():
    rows = pd.DataFrame(itertools.product((0, 1), range(1, 902)), columns=["seed", "epoch"])
    rows = rows.assign(dataset="d", model="m", loss="cross_entropy")
    rows["train_loss"] = np.random.default_rng(0).uniform(1, 2, len(rows))
    figure = training.draw(rows, rows.iloc[:1].assign(interpolates=True))
    (thick,) = (line for line in figure.axes[0].lines if line.get_linewidth() == 1.3 and line.get_marker() == "None")
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.5]
    assert [len(line.get_xdata()) for line in (thick, *thin)] == [181] * 3
    assert thick.get_xdata()[-1] == 901
    last = rows[rows["epoch"] > 896].groupby("seed")["train_loss"].mean()
    np.testing.assert_allclose([line.get_ydata()[-1] for line in thin], last)
    np.testing.assert_allclose(thick.get_ydata()[-1], last.mean())
    assert "means over equal windows" in words(figure)
    short = training.draw(rows[rows["epoch"] <= 200], rows.iloc[:1].assign(interpolates=True))
    assert {len(line.get_xdata()) for line in short.axes[0].lines} == {1, 200}


def test_training_marks_who_interpolates(tables):
    runs = tables["runs"].copy()
    runs["interpolates"] = (runs["loss"] == "cross_entropy") | ((runs["loss"] == "focal") & (runs["seed"] == 0))
    figure = training.draw(tables["history"], runs)
    final = tables["history"].groupby(["loss", "epoch"])["train_loss"].mean().groupby("loss").last()
    for loss, hollow in {"cross_entropy": False, "mixup2": True, "focal": True}.items():
        color = loss_styles([loss])[loss].color.lower()
        marks = [line for ax in figure.axes for line in ax.lines if line.get_marker() != "None"]
        (mark,) = (line for line in marks if to_hex(line.get_color()) == color)
        assert (mark.get_markerfacecolor() == "white") == hollow
        assert mark.get_ydata()[0] == pytest.approx(final[loss])


# Grids of every shape -------------------------------------------------------------------------------------------------


def test_a_grid_keeps_its_panels_in_order_whatever_its_shape():
    """Rows are stacked, or side by side if there are too many; a sparse grid's panels follow one another."""
    rows, columns = {i: f"row {i}" for i in range(23)}, {"a": "first", "b": "second"}
    for present in (set(itertools.product(rows, columns)) - {(7, "a")}, set(itertools.product(range(9), "ab"))):
        figure, axes = panel_grid.draw_grid(PageText("title", "note", xlabel="x"), rows, columns, present)
        assert set(axes) == present
        assert figure.get_size_inches()[1] < 1.8 * figure.get_size_inches()[0]
        assert set(rows.values()) & set(texts(figure)) == {rows[row] for row, _ in present}
        places = {key: ax.get_subplotspec() for key, ax in axes.items()}
        order = sorted(present, key=lambda key: (places[key].colspan.start // 2, places[key].rowspan.start))
        assert [row for row, _ in order] == sorted(row for row, _ in present)
        assert all(place.colspan.start % 2 == (key[1] == "b") for key, place in places.items())
    sparse = [(0, "c0"), (0, "c4"), (1, "c1"), (2, "c8"), (3, "c3")]
    figure, axes = panel_grid.draw_grid(
        PageText("title", "note"), rows, {f"c{c}": f"column {c}" for c in range(9)}, sparse
    )
    assert [ax.get_title("left") for ax in axes.values()] == [f"row {row}\ncolumn {c[1]}" for row, c in sparse]


EMPTY = ("neighbourhood", "radii", "calibration", "reliability", "training", "repair")


@pytest.mark.parametrize("name", [*EMPTY, "gaussians", "log_k"])
def test_empty_tables_say_so(name, tables):
    figure = drawn(name, {table: rows.iloc[:0] for table, rows in tables.items()})
    assert not figure.axes
    assert any(text.startswith("No ") for text in texts(figure))


def test_a_bar_of_the_repair_figure_is_the_mean_of_a_part_and_stands_on_the_others(tables):
    figure = drawn("repair", tables)
    rows = synthetic.with_ladders(tables["metrics"])
    (ax,) = under(figure, "MLP")
    means = rows[(rows["model"] == "mlp") & (rows["loss"] == "cross_entropy")].groupby("metric")["value"].mean()
    left = 0.0
    for part, bars in zip(("noise", "training", "richer_map", "temperature"), ax.containers, strict=True):
        bar = bars.patches[[label.get_text() for label in ax.get_yticklabels()].index("Digits, 50% label noise")]
        assert bar.get_x() == pytest.approx(left)
        assert bar.get_width() == pytest.approx(means[f"repair_{part}"])
        left += bar.get_width()
    assert left == pytest.approx(means["repair_nll"])
    assert legend(figure)[:-1] == [f"repaired by {name.label}" for name in REPAIRS.values()]
    assert f"→ {left:.1f}" in texts(figure), "it goes on beyond the edge"


def test_halo_draws_the_shares_that_the_table_has_and_shades_between_its_bounds(tables):
    radii = synthetic.beside_searches(tables["radii"])
    figure = plain("halo", {"radii": radii})
    (ax,) = [ax for ax in under(figure, "MLP") if ax.lines][:1]
    rows = radii.query("dataset == 'digits-noise50' and loss == 'cross_entropy' and points == 'train'")
    rows = rows[rows["calibrator"] == "none"]
    nulls = [rows.loc[rows["quantity"] == name, list(SURVIVAL_COLUMNS[1:])].mean() for name in survival.NULLS]
    lines = [line for line in ax.lines if to_hex(line.get_color()) == survival.AMBER.lower()]
    for line, null in zip(lines, nulls, strict=True):
        np.testing.assert_allclose(line.get_ydata(), null.to_numpy(), rtol=1e-12)
    assert len(bands_of(ax, survival.AMBER)) == 1
    rows = rows[rows["quantity"] == "certainty"]
    for probe in ("certified", "adversarial"):
        (line,) = [line for line in lines_of(ax, PROBES[probe].style.color) if len(line.get_xdata()) > 2]
        means = rows.loc[rows["probe"] == probe, list(SURVIVAL_COLUMNS[1:])].mean()
        np.testing.assert_allclose(line.get_ydata(), means.to_numpy(), rtol=1e-12)
        np.testing.assert_allclose(line.get_xdata(), SURVIVAL[1:])
    attacked = radii.query("points == 'train' and probe == 'adversarial' and quantity == 'certainty'")
    attacked = attacked[attacked["calibrator"] == "none"]
    attacked = attacked.groupby(["dataset", "model", "loss"])[list(SURVIVAL_COLUMNS)].mean()
    ends = [100 * np.interp(-curve[0] / 2, -curve, SURVIVAL) for curve in attacked.to_numpy()]
    assert f"half the certain points lose certainty within {np.ceil(max(ends)):.0f}% of the distance" in words(figure)
    shares, at = survival.survival_shares(rows[rows["quantity"] == "certainty"]), SURVIVAL_COLUMNS[7]
    widened = over_seeds(rows[rows["quantity"] == "certainty"], ["probe"], at, (0, 1))
    shares = shares[shares["distance"] == SURVIVAL[7]].sort_values("probe")
    np.testing.assert_allclose(shares[["low", "high"]], widened[["low", "high"]])
    assert len(bands_of(ax, FAINT)) == 1
    assert "worst direction: between the two" in legend(figure)
    assert sum("boundaries were flat" in entry for entry in legend(figure)) == 1
    old = plain("halo", {"radii": radii[radii["quantity"] == "certainty"]})  # from tables without nulls
    assert not any("flat boundaries" in entry for entry in legend(old))
    assert "No probe looked" in words(plain("halo", tables))
    fewer = radii.assign(n=radii["n"].mask(radii["probe"] == "certified", radii["n"] // 2))
    apart = plain("halo", {"radii": fewer})  # nothing is shaded between bounds of different samples
    assert "worst direction: between the two" not in legend(apart)
    assert "differ in number" in words(apart)
    assert not any(bands_of(ax, FAINT) for ax in apart.axes)
    assert "differ in number" not in words(figure)


def test_probes_are_known_by_their_kind_whatever_their_names(few):
    radii = synthetic.beside_searches(few["radii"])
    renamed = radii.assign(probe="my " + radii["probe"])
    curves = few["neighbourhood"].assign(probe="my " + few["neighbourhood"]["probe"])
    for name in ("halo", "radii", "neighbourhood", "reach", "summary"):
        one = plain(name, few | {"radii": radii})
        two = plain(name, few | {"radii": renamed, "neighbourhood": curves})
        assert words(one) == words(two)
        assert_same_lines(one, two)
    several = table_views.by_kind(pd.DataFrame({"probe": ["b", "a", "sphere"], "kind": ["certified"] * 2 + ["sphere"]}))
    assert list(several["probe"]) == ["b", "certified", "sphere"], "only one of several goes by the kind"


@pytest.mark.paper
@pytest.mark.parametrize("name", ["neighbourhood", "radii", "halo"])
def test_figures_say_evaluation_points_where_no_model_was_fitted_to_them(few, name):
    """The lines are the same with other words."""
    points = {key: few[key]["points"].replace("train", "evaluation") for key in ("neighbourhood", "radii")}
    given = few | {key: few[key].assign(points=values) for key, values in points.items()}
    trained, other = of_few(name), drawn(name, given)
    assert "evaluation" not in words(trained)
    assert "evaluation points" in words(other)
    assert_same_lines(trained, other)


@pytest.mark.paper
def test_both_kinds_of_points_are_mentioned_if_both_are_present():
    table = made(*RAGGED[:3], seeds=(0, 1))["neighbourhood"]
    points = table["points"].mask((table["points"] == "train") & (table["model"] == "cnn"), "evaluation")
    both = words(neighbourhood.draw(table.assign(points=points)))
    assert "around training points" in both
    assert "evaluation points, if a model wasn't trained on these" in both
