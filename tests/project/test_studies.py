"""Studies: each says how to repeat it, in a few lines, and their scripts run on small input."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT
from halobench.core import plugins
from studies.ladder import blind, blind_maps
from studies.rivals import compare
from synthetic import STUDIES

FOLDERS = sorted(path for path in (ROOT / "studies").iterdir() if path.is_dir() and path.name != "__pycache__")


def ran(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The finished process of a study's module, which has succeeded."""
    command = [sys.executable, "-m", f"studies.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_study_says_in_six_lines_how_to_repeat_it(folder):
    """Its commands name modules, files and pictures that exist, and the list of studies has its name."""
    text = (folder / "README.md").read_text()
    heading, *lines = filter(None, text.splitlines())
    assert heading.startswith("# ")
    assert 3 <= len(lines) <= 6
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    named = re.findall(r"--configfile ([^\s`]+)|\]\(\.\./\.\./([\w./-]+)|docs/pictures\.py published ([\w -]+)`", text)
    assert named or "python -m" in text
    for file, link, pictures in named:
        for path in [file or link] if file or link else [f"docs/{name}.png" for name in pictures.split()]:
            assert (ROOT / path).exists(), path
    assert f"]({folder.name}/README.md)" in (ROOT / "studies/README.md").read_text()


def test_the_figures_of_studies_are_those_that_their_configurations_name():
    configurations = [path.read_text() for path in (ROOT / "studies").glob("*/*.yaml")]
    named = {name for text in configurations for name in re.findall(r'"(studies\.[^"]+:draw)"', text)}
    assert sorted(named) == sorted(STUDIES)
    assert all(plugins.load("figures", name) for name in STUDIES)


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("probmetrics") is None, reason="needs the extra posthoc")
def test_the_study_of_rivals_runs_and_leaves_its_results_alone():
    before = compare.MEASURED.read_bytes()
    done = ran("rivals.compare", "--quick", "iris, LDA", "TS is the truth, k = 10, n = 300")
    assert "| `partner` |" in done.stdout
    assert compare.MEASURED.read_bytes() == before


def test_intervals_of_rivals_are_students_with_a_corrected_variance():
    values = [0.0, 1.0, 2.0]  # variance 1; t of 2 degrees of freedom: 4.3027
    low, high = compare.interval(values, 0.0)
    assert (low, high) == pytest.approx((1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), abs=1e-3)
    low, high = compare.interval(values, 0.5)
    assert (low, high) == pytest.approx((1 - 4.3027 * (1 / 3 + 0.5) ** 0.5, 1 + 4.3027 * (5 / 6) ** 0.5), abs=1e-3)


def test_costs_of_rivals_compare_accuracy_with_that_of_ts(monkeypatch):
    """Three labels in five are the prediction's partner, which TS can't predict and partner scaling can."""
    monkeypatch.setattr(compare, "METHODS", ("partner",))
    top = np.repeat(np.arange(4), 100)
    logits = 3.0 * np.eye(4)[top] + np.random.default_rng(0).normal(scale=0.1, size=(400, 4))
    labels = np.where(np.arange(400) % 5 < 3, top ^ 1, top)
    split = compare.Split(logits, labels, logits, labels)
    row = compare.costs({"not a kind": compare.Kind("planted", lambda seed: split)}).splitlines()[2]
    assert row.startswith("| `partner` | +20.0, +20.0, +20.0 |")


def test_truths_of_blind_maps_are_those_of_their_posteriors():
    """Also, posteriors depend on differences of logits only, except where rounding moves a row across a step."""
    truth = json.loads(blind.TRUTH.read_text())
    assert list(truth) == list(blind_maps.FAMILIES)
    rng, n = np.random.default_rng(0), 10_000
    for name, family in blind_maps.FAMILIES.items():
        logits, posterior = family.draw(n, rng)
        assert logits.shape == posterior.shape == (n, family.classes)
        assert posterior.min() >= 0
        moved = blind_maps.below_top(logits + rng.integers(-8, 9, (n, 1)))
        differs = np.abs(blind_maps.normalised(family.posterior(moved)) - posterior).max(axis=1) > 1e-6
        assert differs.mean() < 1e-3, name
        entropies = blind_maps.entropy(posterior)
        best, ts = truth[name]
        assert best == pytest.approx(entropies.mean(), abs=5 * entropies.std() / n**0.5 + blind.TOLERANCE), name
        assert best <= ts


def test_true_nlls_of_logits_that_are_noise():
    """The best map's is the prior's entropy, and TS is best at an infinite temperature, where it is uniform."""
    best, ts = blind_maps.true_nlls(blind_maps.FAMILIES["useless_10"], np.random.default_rng(0))
    assert best == pytest.approx(-(blind_maps.PRIOR @ np.log(blind_maps.PRIOR)))
    assert ts == pytest.approx(np.log(10))


def test_labels_follow_the_posterior():
    posterior = np.repeat([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]], 20_000, axis=0)
    labels = blind_maps.draw_labels(posterior, np.random.default_rng(0)).reshape(2, -1)
    assert np.bincount(labels[0]) / 20_000 == pytest.approx([0.2, 0.5, 0.3], abs=0.02)
    assert (labels[1] == 2).all()


def test_the_blind_test_of_the_ladder_prints_what_is_covered():
    done = ran("ladder.blind", "100", "--only", "calibrated_*")
    assert "| calibrated_dirichlet_3 | 3 | 0.7145 | 0.0000 |" in done.stdout
    low, high = (json.loads(done.stderr)[end] for end in ("low", "high"))
    assert f"Covered: {low - 0.002 <= 0.7145 <= high + 0.002:d} of 1." in done.stdout
