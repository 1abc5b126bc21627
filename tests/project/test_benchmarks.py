"""Benchmarks run with small sizes; whether a test passes doesn't depend on times."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import bench  # noqa: E402
import blind_ladder  # noqa: E402
import blind_maps  # noqa: E402
import harness  # noqa: E402
import measures  # noqa: E402
import rivals  # noqa: E402


def test_no_text_in_a_lower_wing_names_a_module_of_a_higher_one():
    """Import-linter sees imports only."""
    assert measures.static()["strings in lower wings that name modules of higher ones"] == "0"


# `make soak` and `make bench-quick` run all of them.
@pytest.mark.parametrize(
    "topic", ["metrics", *(pytest.param(topic, marks=pytest.mark.soak) for topic in bench.TOPICS if topic != "metrics")]
)
def test_benchmark_runs(topic, tmp_path):
    rows, growth = tmp_path / "rows.json", tmp_path / "growth.json"
    command = [sys.executable, ROOT / f"benchmarks/{topic}.py", "--quick", "--rows", rows, "--growth", growth]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [harness.Row(**row) for row in json.loads(rows.read_text())]
    assert found
    for row in found:
        assert row.ratios
        assert all(map(math.isfinite, row.ratios))
        # So few points add less to a peak than the difference between two processes.
        assert topic == "memory" or min(row.ratios) >= 0
    for _, size, seconds, peak in json.loads(growth.read_text()):
        assert size > 0
        assert seconds > 0
        assert peak >= 0


def test_verdict_goes_by_the_median():
    assert harness.Row("a", "b", [1.0, 1.1, 9.0], most=1.1).verdict == "reached"
    assert harness.Row("a", "b", [1.0, 1.2, 1.3], most=1.1).verdict == "MISSED"
    assert harness.Row("a", "b", [1.9, 2.0, 3.0], least=2.0).verdict == "reached"
    assert harness.Row("a", "b", [1.9, 1.9, 3.0], least=2.0).verdict == "MISSED"
    assert harness.Row("a", "b", [1.0]).verdict == "-"


def test_turns_go_back_and_forth():
    said = []
    times = harness.turns(lambda: said.append("a"), lambda: said.append("b"), count=2, warm=1)
    assert "".join(said) == "baabba"
    assert [len(each) for each in times] == [2, 2]


def test_table_and_picture(tmp_path):
    where = dict.fromkeys(("date", "machine", "python", *bench.PACKAGES), "1")
    row = {"what": "fit", "against": "peer", "ratios": [0.5, 0.25, 0.3], "most": 0.5, "least": None, "note": "n"}
    growth = [["fit", 10, 0.1, 2**20], ["fit", 100, 1.0, 2**23]]
    measured = {"temperature": {"circumstances": where, "rows": [row], "growth": growth}}
    text = bench.readme(measured)
    assert "| fit | peer | <= 0.5 | 0.3 | 0.25 | 0.5 | 3 | reached | n |" in text
    assert text.count("\n## ") == 2
    bench.draw(measured, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("probmetrics") is None, reason="needs the extra posthoc")
def test_the_study_of_rivals_runs_and_leaves_its_results_alone():
    before = rivals.MEASURED.read_bytes()
    studies = ("iris, LDA", "TS is the truth, k = 10, n = 300")
    command = [sys.executable, ROOT / "benchmarks/rivals.py", "--quick", *studies]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| `partner` |" in done.stdout
    assert rivals.MEASURED.read_bytes() == before


def test_intervals_of_rivals_are_students_with_a_corrected_variance():
    values = [0.0, 1.0, 2.0]  # variance 1; t of 2 degrees of freedom: 4.3027
    low, high = rivals.interval(values, 0.0)
    assert (low, high) == pytest.approx((1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), abs=1e-3)
    low, high = rivals.interval(values, 0.5)
    assert (low, high) == pytest.approx((1 - 4.3027 * (1 / 3 + 0.5) ** 0.5, 1 + 4.3027 * (5 / 6) ** 0.5), abs=1e-3)


def test_costs_of_rivals_compare_accuracy_with_that_of_ts(monkeypatch):
    """Three labels in five are the prediction's partner, which TS can't predict and partner scaling can."""
    monkeypatch.setattr(rivals, "METHODS", ("partner",))
    top = np.repeat(np.arange(4), 100)
    logits = 3.0 * np.eye(4)[top] + np.random.default_rng(0).normal(scale=0.1, size=(400, 4))
    labels = np.where(np.arange(400) % 5 < 3, top ^ 1, top)
    split = rivals.Split(logits, labels, logits, labels)
    row = rivals.costs({"not a kind": rivals.Kind("planted", lambda seed: split)}).splitlines()[2]
    assert row.startswith("| `partner` | +20.0, +20.0, +20.0 |")


def test_truths_of_blind_maps_are_those_of_their_posteriors():
    """Also, posteriors depend on differences of logits only, except where rounding moves a row across a step."""
    truth = json.loads(blind_ladder.TRUTH.read_text())
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
        assert best == pytest.approx(entropies.mean(), abs=5 * entropies.std() / n**0.5 + blind_ladder.TOLERANCE), name
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
    command = [sys.executable, ROOT / "benchmarks/blind_ladder.py", "100", "--only", "calibrated_*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| calibrated_dirichlet_3 | 3 | 0.7145 | 0.0000 |" in done.stdout
    low, high = (json.loads(done.stderr)[end] for end in ("low", "high"))
    assert f"Covered: {low - 0.002 <= 0.7145 <= high + 0.002:d} of 1." in done.stdout


GPU_ALONE = """
import sys

missing = "snakemake", "pyarrow", "matplotlib", "seaborn", "plotly", "jsonschema"
sys.modules |= dict.fromkeys(missing)  # None there: importing it fails
sys.path.insert(0, sys.argv.pop(1))
import gpu
sys.exit(gpu.main())
"""


@pytest.mark.soak
def test_the_gpu_benchmark_runs_on_a_cpu_with_few_packages(tmp_path):
    out = tmp_path / "findings.json"
    command = [sys.executable, "-c", GPU_ALONE, ROOT / "benchmarks", "--device", "cpu", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {one["what"]: one for one in json.loads(out.read_text())["findings"]}
    for name in ("logits", "loss", "confidence"):  # the same device twice gives the same numbers
        assert findings[f"MLP, {name}"]["found"].startswith("0.0e+00 ")
        assert findings[f"MLP, {name}"]["right"] is True
    for what in ("training MLP", "probing MLP"):
        assert "images/s beside" in findings[what]["found"]
