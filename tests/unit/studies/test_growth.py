"""The figure of growth: slopes with overlap, without it, and their difference by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import synthetic
from studies.controls import growth

SLOPES = {"balls": (0.18, 0.01), "collages": (0.46, 0.49)}  # with and without overlap
KS = (4, 8, 16)
SEEDS = 3


def _tables(unfitted: str = "") -> dict[str, pd.DataFrame]:
    """Cells whose KL after TS grows with log k by known slopes, which each seed changes by the same amount."""
    made = synthetic.tables()
    metrics, runs = made["metrics"], made["runs"]
    like, cells, scores = runs.iloc[0], [], []
    for family, slopes in SLOPES.items():
        for ending, slope in zip(("", growth.CONTROL), slopes, strict=True):
            for k in KS:
                for seed in range(SEEDS):
                    key = {"dataset": f"{family}{ending}-k{k}", "model": "mlp", "loss": "cross_entropy", "seed": seed}
                    facts = {"beta": 0.5, "group": np.nan if ending else 2.0, "classes": k, "loss_family": ""}
                    cells.append({**like, **key, **facts, "interpolates": f"{family}{ending}" != unfitted})
                    row = {"split": "test", "labels": "noisy", "metric": "kl", "calibrator": "exact"}
                    value = 0.1 + (slope + 0.02 * seed * (1 if ending else 2)) * np.log(k)
                    scores.append({**dict.fromkeys(metrics.columns, np.nan), **key, **row, "value": value})
    return {"metrics": pd.DataFrame(scores), "runs": pd.DataFrame(cells)}


def test_slopes_and_their_paired_difference():
    found = growth.slopes(**_tables()).groupby(["dataset", "part"])["slope"].agg(["mean", "std"])
    for family, (slope, without) in SLOPES.items():
        assert found.loc[(family, growth.WITH), "mean"] == pytest.approx(slope + 0.04)
        assert found.loc[(family, growth.WITHOUT), "mean"] == pytest.approx(without + 0.02)
        # Seeds shift both slopes, so the difference by seed varies less than if seeds were independent.
        assert found.loc[(family, growth.EFFECT)].tolist() == pytest.approx([slope - without + 0.02, 0.02])


def test_marks_are_at_the_means_with_their_intervals_and_hollow_without_interpolation():
    (axes,) = (ax for ax in growth.draw(**_tables("collages-control")).axes if ax.lines)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["balls", "collages"]
    marks = {
        (round(float(y), 3), line.get_markerfacecolor() == "white"): float(x)
        for line in axes.lines
        for x, y in zip(*line.get_data(), strict=True)
        if line.get_marker() in "osD"
    }
    hollow = sorted(x for (_, is_hollow), x in marks.items() if is_hollow)
    assert hollow == pytest.approx([0.46 - 0.49 + 0.02, 0.49 + 0.02])
    assert len(marks) == 6
    half = stats.t.ppf(0.975, SEEDS - 1) * 0.02 / np.sqrt(SEEDS)
    ends = [segment[:, 0] for line in axes.collections for segment in line.get_segments()]
    assert any(end == pytest.approx([0.49 + 0.02 - half, 0.49 + 0.02 + half]) for end in ends)


def test_without_errors_there_is_no_optimal_temperature_and_the_kl_is_that_of_its_limit():
    tables = _tables()
    metrics = tables["metrics"]
    control = metrics["dataset"].str.startswith(f"balls{growth.CONTROL}")
    metrics["value"] = metrics["value"].mask(control)
    assert set(growth.slopes(**tables)["dataset"]) == {"collages"}, "a fit that failed for another reason is left out"
    right = metrics[control].assign(calibrator="none", metric="error", value=0.0)
    found = growth.slopes(pd.concat([metrics, right], ignore_index=True), tables["runs"])
    balls = found[found["dataset"] == "balls"].groupby("part")["slope"].mean()
    assert balls[growth.WITHOUT] == 0
    assert balls[growth.EFFECT] == balls[growth.WITH] == pytest.approx(SLOPES["balls"][0] + 0.04)


def test_a_family_without_a_control_or_with_other_numbers_of_classes_has_no_row():
    tables = _tables()
    fewer = {name: rows[rows["dataset"] != "balls-control-k16"] for name, rows in tables.items()}
    assert set(growth.slopes(**fewer)["dataset"]) == {"collages"}
    none = {name: rows[~rows["dataset"].str.contains(growth.CONTROL)] for name, rows in tables.items()}
    assert "has a control" in synthetic.words(growth.draw(**none))


def test_experts_are_shown_for_their_families_at_the_numbers_of_classes_of_the_models(tmp_path, monkeypatch):
    ks = np.array([2, *KS])
    kl = np.where(ks == 2, 9, 0.3 + 0.2 * np.log(ks))
    path = tmp_path / "experts.csv"
    pd.DataFrame({"family": "collages", "classes": ks, "kl": kl}).to_csv(path, index=False)
    monkeypatch.setattr(growth, "BY_EXPERTS", path)
    found = growth.slopes(**_tables()).query("part == 'experts'")
    assert set(found["dataset"]) == {"collages"}
    assert found["slope"].tolist() == pytest.approx([0.2] * SEEDS)
    figure = growth.draw(**_tables())
    (axes,) = (ax for ax in figure.axes if ax.lines)
    shown = [line.get_xdata() for line in axes.lines if line.get_marker() == "^"]
    assert np.concatenate(shown) == pytest.approx([0.2])
    assert growth.LOOKS[growth.EXPERTS]["label"] in synthetic.words(figure)
