"""From a user's logits and probes to figures: the library's frames are drawn unchanged."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text

import halobench
from halobench import ProbeSpec, SpecError, TrainingPoints, calibrate_file, figures, probe
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import parse


def drawn_words(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture(scope="module")
def logits(tmp_path_factory):
    """A file of logits so underconfident that the paper's fit ends below 0."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(800, 10))
    path = tmp_path_factory.mktemp("own") / "mine.npz"
    np.savez(path, logits=0.552 * z, labels=(z + rng.gumbel(size=z.shape)).argmax(1))
    return path


@pytest.fixture(scope="module")
def probed():
    """The probe of a linear model on two blobs."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(np.r_[rng.normal(0, 1, (30, 4)), rng.normal(3, 1, (30, 4))]).float()
    labels = np.repeat([0, 1], 30)
    model = torch.nn.Linear(4, 2)
    with torch.no_grad():
        model.weight[:] = torch.tensor([[-1.0] * 4, [1.0] * 4])
        model.bias[:] = torch.tensor([6.0, -6.0])
    spec = ProbeSpec(kind="sphere", radii=(0.0, 1.0, 4.0), relative_radii=(0.0, 0.5, 1.0))
    training_points = TrainingPoints(inputs, labels)
    return probe(model.eval(), inputs, labels, spec, training_points, rng=np.random.default_rng(1))


@pytest.mark.parametrize("scale", ["radius", "relative_radius"])
def test_curves_of_a_probe_are_drawn_as_they_come(probed, scale):
    """Without absolute distances, against relative ones."""
    curves = probed.curves[probed.curves[scale].notna()]
    before = curves.copy()
    axes = figures.neighbourhood(curves).axes
    rows = curves.sort_values(scale)
    for ax, quantity in zip(axes, ("confidence", "logit_gap"), strict=True):
        line = max(ax.lines, key=lambda line: len(line.get_xdata()))
        at = np.searchsorted(line.get_xdata(), rows[scale])
        np.testing.assert_allclose(np.asarray(line.get_ydata())[at], rows[quantity], rtol=1e-12)
    pd.testing.assert_frame_equal(curves, before)


def test_curves_of_two_models_are_told_apart_by_a_column(probed):
    both = pd.concat([probed.curves.assign(loss="cross_entropy"), probed.curves.assign(loss="mine")])
    figure = figures.neighbourhood(both, probe="sphere", dataset="blobs", model="mlp")
    titles = [(ax.get_title("left"), ax.get_title("center").strip()) for ax in figure.axes]
    assert titles == [("blobs · MLP", "Confidence"), ("", "Logit gap")]
    assert "Direction: random direction." in drawn_words(figure).replace("\n", " ")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Cross-entropy", "mine"]
    assert "held-out" not in drawn_words(figure), "there is no control to speak of"


def test_radii_of_a_probe_are_summarised(probed):
    figure = figures.radii(probed.radii)
    rows = probed.radii[probed.radii["quantity"] == "decision"]
    assert rows["censored"].mean() > 0.5, "else the median is no bound"
    median = (rows["radius"] / rows["other_distance"])[rows["censored"]].min()
    ax = next(ax for ax in figure.axes if ax.get_title().startswith("Decision"))
    assert median in [pytest.approx(float(line.get_xdata()[0])) for line in ax.lines if len(line.get_xdata()) == 1]


def test_radii_of_0_alone_have_an_axis(probed):
    figure = figures.radii(probed.radii.assign(radius=0.0, censored=False))
    assert all(ax.get_xlim()[1] > 0.5 for ax in figure.axes)


def test_calibrators_under_names_of_ones_own_are_all_drawn():
    """Each has the points of its bins and its name."""
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(3), size=500), rng.integers(3, size=500)
    bins = {
        name: halobench.reliability(probabilities**power / (probabilities**power).sum(1, keepdims=True), labels)
        for name, power in (("raw", 1), ("mine", 0.5), ("exact", 0.1))
    }
    figure = figures.reliability(bins)
    ax = figure.axes[0]
    dots = [line.get_xydata() for line in ax.lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    for diagram in bins.values():
        full = np.asarray(diagram.count) > 0
        expected = {*zip(diagram.confidence[full].round(9), diagram.accuracy[full].round(9), strict=True)}
        assert expected <= {tuple(point) for line in dots for point in line.round(9).tolist()}
    words = drawn_words(figure)
    assert all(name in words for name in ("raw", "mine", "TS (optimal)"))


def test_results_of_a_file_of_logits_are_drawn(logits):
    results = calibrate_file(logits)
    drawn = figures.calibrated(results, dataset="mine")
    assert list(drawn) == ["calibration", "reliability"]
    nll, ece = drawn["calibration"].axes
    shown = results.metrics.query("split == 'test' and labels == 'clean'").set_index(["metric", "calibrator"])["value"]
    order = ["none", "paper", "exact", "oracle"]
    for ax, metric in ((nll, "nll"), (ece, "ece")):
        heights = next(line for line in ax.lines if len(line.get_xdata()) == 4 and line.get_marker() != "_")
        np.testing.assert_allclose(heights.get_ydata(), shown[metric][order], rtol=1e-12)
    assert "TS (paper's code): fit below 0 for 1 of 1 model" in nll.get_xlabel().replace("\n", " ")
    assert "no finite T" not in nll.get_xlabel()


def test_the_posterior_of_a_file_has_its_line_and_no_floor(tmp_path, capsys):
    """This applies only if scores are expectations under it; the given labels have a floor and no line."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 3))
    p = halobench.softmax(z)
    labels = (z + rng.gumbel(size=z.shape)).argmax(1)
    plain, known = tmp_path / "plain.npz", tmp_path / "known.npz"
    np.savez(plain, logits=3 * z, labels=labels)
    np.savez(known, logits=3 * z, labels=labels, posterior=p)
    without, results = calibrate_file(plain), calibrate_file(known)
    fits = [[fit for fit in each.fits if fit["split"] == "val"] for each in (without, results)]
    assert fits[0] == fits[1], "calibrators are fitted to the labels all the same"
    assert "ECE floor" in drawn_words(figures.calibration(without.metrics))
    figure = figures.calibration(results.metrics)
    nll, ece = figure.axes
    test = results.metrics.query("split == 'test' and labels == 'noisy' and calibrator == 'none'").set_index("metric")
    entropy = test["value"]["nll"] - test["value"]["kl"]
    for ax, value in ((nll, entropy), (ece, 0.0)):
        assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "-"] == [pytest.approx(value)]
    assert entropy == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=0.1)  # over all samples; half are scored
    words = drawn_words(figure)
    assert "Bayes posterior" in words
    assert "on test labels, in expectation if their posterior is known" in words
    assert "floor" not in words


def test_captions_speak_of_what_is_shown(logits):
    results = calibrate_file(logits, parse(CalibrateSpec, {"calibrators": ["none", "exact", "top_rest"]}))
    drawn = figures.calibrated(results)
    assert list(drawn) == ["calibration", "reliability"]
    for name, figure in drawn.items():
        words = drawn_words(figure).replace("\n", " ")
        assert not re.search(r"\bseed|oracle|paper's", words), name
    runs = results.metrics.assign(dataset="digits", model="mlp", loss="mixup2", seed=3)
    assert "one seed, so no interval" in drawn_words(figures.calibration(runs)).replace("\n", " ")


def test_a_missing_column_is_named(probed):
    with pytest.raises(SpecError, match="neighbourhood: found no column confidence"):
        figures.neighbourhood(probed.curves.drop(columns="confidence"))
    with pytest.raises(SpecError, match="radii: found no column censored"):
        figures.radii(probed.radii.drop(columns="censored"))
