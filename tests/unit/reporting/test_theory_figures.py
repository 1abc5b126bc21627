"""The figures of the theory bench draw the numbers that they were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from halobench.calibration.overlap_theory import nearest_neighbour_kl, uniform_kl
from halobench.reporting import styles
from halobench.reporting.figures import log_k
from halobench.reporting.plotting import class_families
from synthetic import beside_theory, drawn, made, made_theory, texts, words

pytestmark = pytest.mark.theory
RED = styles.loss_styles(["cross_entropy"])["cross_entropy"].color


def test_scores_leave_out_images_and_count_references_as_interpolating():
    given = beside_theory(made(("digits", "mlp", "cross_entropy"), seeds=(0,)))
    found = class_families.scores(given["metrics"], given["runs"], {"kl": ("kl", "none")})
    assert set(found["family"]) == {"overlap", "overlap-m4", "overlap-image"}
    assert found.loc[found["loss"] == "reference", "interpolates"].all()
    assert not found.loc[(found["loss"] == "mixup3") & (found["classes"] == 64), "interpolates"].any()


def test_log_k_draws_means_closed_forms_and_who_interpolates():
    given = made_theory()
    figure = drawn("log_k", given)
    ax = figure.axes[1]  # the MLP's, then attention's
    lines = {tuple(np.round(line.get_ydata(), 9)) for line in ax.lines}
    ks = (4, 8, 16, 32, 64)
    assert tuple(round(nearest_neighbour_kl(k, 0.5, 2), 9) for k in ks) in lines
    assert tuple(round(uniform_kl(k, 0.5, 2), 9) for k in ks) in lines
    assert f"↑ uniform guess, up to {uniform_kl(64, 0.5, 2):.2f}" in texts(figure)
    rows = given["metrics"]
    rows = rows[
        (rows["metric"] == "kl") & (rows["calibrator"] == "exact") & rows["dataset"].str.startswith("overlap-k")
    ]
    rows = rows[(rows["model"] == "attention") & (rows["loss"] == "cross_entropy")]
    means = rows.groupby("dataset")["value"].mean().loc[[f"overlap-k{k}" for k in ks]]
    assert tuple(np.round(means, 9)) in lines
    marks = [line for line in ax.lines if line.get_marker() != "None"]
    hollow = [line for line in marks if to_hex(line.get_markerfacecolor()) == "#ffffff"]
    assert [x for line in hollow for x in line.get_xdata()] == [64]
    (full,) = {line.get_markersize() for line in marks if line.get_marker() == "P" and line not in hollow}
    edge = hollow[0].get_markeredgewidth()
    assert hollow[0].get_markersize() / 3 - edge > 1, "points of white in the arms of a plus"
    assert hollow[0].get_markersize() > full


@pytest.mark.parametrize("ks", [(4, 32), (4, 8, 32)])
def test_two_values_of_k_are_joined_by_no_line(ks):
    """Two points are always on a line, so neither a line nor the note suggests growth."""
    tables = made_theory(*ks)
    own = {name: table[~table["dataset"].str.contains("m4|image")] for name, table in tables.items()}
    figure = drawn("log_k", own)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1 and line.get_linestyle() != "None"]
    assert bool(lines) == (len(ks) > 2)
    assert ("growth like log k" in words(figure)) == (len(ks) > 2)


@pytest.mark.parametrize(
    ("slopes", "seeds", "title"),
    [
        ({"mlp": 0.2, "attention": 0.3}, 3, log_k.GROWS),
        ({"mlp": 0.02, "attention": 0.3}, 3, log_k.GROWS_FOR.format("kernel classifier", "MLP")),
        ({"mlp": 0.02, "attention": 0.02}, 3, log_k.TITLE),
        ({"mlp": 0.2, "attention": 0.3}, 1, log_k.TITLE),
        ({"mlp": 0.02, "attention": 0.3, "cnn": 0.3}, 3, log_k.TITLE),
        ({"mlp": 0.06, "attention": 0.3}, 3, log_k.TITLE),  # the interval of 0.06 contains the least growth
    ],
)
def test_the_title_says_for_which_models_the_kl_of_the_base_loss_grows(slopes, seeds, title):
    rows = [
        (model, loss, seed, k, 0.1 + ((slope + 0.01 * seed) * np.log(k) if loss == "cross_entropy" else 0.0))
        for model, slope in slopes.items()
        for loss in ("cross_entropy", "mixup2")
        for seed in range(seeds)
        for k in (4, 8, 16)
    ]
    table = pd.DataFrame(rows, columns=["model", "loss", "seed", "classes", "kl"]).assign(dataset="d", family="d")
    assert log_k.growth_in_words(table) == title
    assert len(title.split()) <= 15


def test_gaussians_draws_kl_by_separation():
    figure = drawn("gaussians", made_theory())
    ax = figure.axes[0]
    line = next(line for line in ax.lines if to_hex(line.get_color()) == to_hex(RED))
    np.testing.assert_allclose(line.get_xdata(), np.array([0.01, 0.05, 0.1]) * np.sqrt(300))
    np.testing.assert_allclose(line.get_ydata(), (2 - 8 * np.array([0.01, 0.05, 0.1])) * 1.1)
    assert len(figure.axes) == 3
