"""The verdict rule, on synthetic tables."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from halobench.analysis.claims import Claim, check_computed, claims_digest, evaluate, load_claims, verdict
from halobench.analysis.t_intervals import t_interval
from halobench.core.errors import SpecError
from halobench.core.specs.codec import parse
from halobench.reporting import finding
from halobench.storage.columns import CLAIM_COLUMNS

CLAIMS = Path(__file__).parents[3] / "workflow/claims.yaml"

FIXED = {"metric": "nll", "split": "test", "labels": "noisy", "calibrator": "none"}
RADII = {"points": "train", "probe": "sphere", "quantity": "certainty", "calibrator": "none"}
DIFFERENCE = {
    "name": "mixup_wins",
    "label": "Mixup wins",
    "statement": "Mixup has the lower NLL",
    "place": "Experiments",
    "theme": "mixup",
    "registered": "before any run (abc1234, 2026-01-01)",
    "statistic": "difference",
    "table": "metrics",
    "value": "value",
    "where": FIXED,
    "a": {"loss": "mixup2"},
    "b": {"loss": "cross_entropy"},
    "direction": "below",
    "margin": -0.05,
}
LEVEL = {key: value for key, value in DIFFERENCE.items() if key != "b"} | {
    "statistic": "level",
    "a": {"loss": "cross_entropy"},
    "direction": "above",
    "margin": 0.5,
}
BEST = {key: value for key, value in DIFFERENCE.items() if key != "b"} | {
    "statistic": "against_best",
    "baselines": {"loss_family": ""},
}
SLOPE = LEVEL | {"statistic": "slope", "margin": 0.1}


def grid(
    values: dict, *, noise=0.5, steps=1000, interpolates=True, classes=10, correction=0.0
) -> dict[str, pd.DataFrame]:
    """Tables of cells {(dataset, model, loss, seed): value}; other facts may be functions of a cell's key."""
    told = {"noise": noise, "steps": steps, "interpolates": interpolates, "classes": classes}
    told["seed_correction"] = correction
    told["loss_family"] = lambda dataset, model, loss, seed: "mixup" if loss.startswith("mixup") else ""
    runs = []
    for key in values:
        facts = {name: fact(*key) if callable(fact) else fact for name, fact in told.items()}
        runs.append(dict(zip(("dataset", "model", "loss", "seed"), key, strict=True)) | facts)
    metrics = pd.DataFrame([{k: run[k] for k in ("dataset", "model", "loss", "seed")} for run in runs])
    metrics = metrics.assign(split="test", labels="noisy", calibrator="none", metric="nll", value=list(values.values()))
    return {"runs": pd.DataFrame(runs), "metrics": metrics}


def two_losses(a: list[float], b: list[float], dataset="d", model="m") -> dict:
    """Cells of Mixup (a) and cross entropy (b), one per seed."""
    cells = {(dataset, model, "mixup2", seed): value for seed, value in enumerate(a)}
    return cells | {(dataset, model, "cross_entropy", seed): value for seed, value in enumerate(b)}


def scopes(entry: dict, tables: dict) -> pd.DataFrame:
    """The rows of a claim by scope."""
    found = evaluate([parse(Claim, entry)], tables)
    assert list(found.columns) == list(CLAIM_COLUMNS)
    return found.set_index("scope")


def judged(entry: dict, tables: dict, scope: str = "all") -> pd.Series:
    """The row of a scope."""
    return scopes(entry, tables).loc[scope]


# --- Verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "margin"), [("above", 0.3), ("below", -0.2), ("above", 0.0)])
def test_verdicts_mirror_at_the_margin(direction, margin):
    other = {"above": "below", "below": "above"}[direction]
    for low, high in [(0.1, 0.2), (-0.1, 0.2), (-0.5, -0.3), (0.0, 1.0)]:
        one = verdict(margin + low, margin + high, margin, direction)
        mirrored = verdict(margin - high, margin - low, margin, direction)
        assert (one, mirrored) in {("holds", "does_not"), ("does_not", "holds"), ("undecided", "undecided")}
        assert verdict(margin + low, margin + high, margin, other) == mirrored
    assert verdict(margin + 0.1, margin + 0.2, margin, "above") == "holds"
    assert verdict(margin, margin + 0.2, margin, "above") == "undecided"


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([-0.30, -0.31, -0.29], "holds"),
        ([0.30, 0.31, 0.29], "does_not"),
        ([-0.011, -0.010, -0.012], "does_not"),  # present, but smaller than the margin
        ([-0.5, 0.4, 0.0], "undecided"),
        ([-0.3], "not_tested"),
    ],
)
def test_each_verdict_comes_out_where_it_should(differences, expected):
    rows = scopes(DIFFERENCE, grid(two_losses([1 + d for d in differences], [1.0] * len(differences))))
    for _, row in rows.iterrows():
        assert row["verdict"] == expected
        assert row["estimate"] == pytest.approx(np.mean(differences))
        assert row["n"] == len(differences)
    assert ("1 seed" in row["note"]) == (expected == "not_tested")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": {"loss": "cutmix"}}, "the grid has no loss named cutmix, only cross_entropy, mixup2 (a claim refers"),
        ({"b": {"loss": "focal"}}, "no loss named focal, only"),
        ({"b": {"loss": "reference"}}, "loss reference"),
        ({"where": FIXED | {"metric": "kl"}}, "metric kl"),
        ({"where": FIXED | {"noise": ">0.9"}}, "noise >0.9"),
        ({"table": "radii", "value": "relative_median", "where": RADII}, "table radii is missing"),
    ],
)
def test_what_the_grid_lacks_is_not_tested_and_named(change, words):
    found = evaluate([parse(Claim, DIFFERENCE | change)], grid(two_losses([1, 1.1, 1.2], [2, 2.1, 2.3])))
    assert list(found["scope"]) == ["all"]
    assert found["verdict"][0] == "not_tested"
    assert words in found["note"][0]
    assert np.isnan(found["estimate"][0])
    assert found["n"][0] == found["excluded"][0] == 0


# --- Many tests, correlated seeds and heterogeneous pairs ------------------------------------------------------------


def test_the_correction_is_that_of_nadeau_and_bengio_in_the_interval_and_in_p():
    values = np.random.default_rng(0).normal(0.3, size=5)
    error = np.sqrt(values.var(ddof=1) * (1 / 5 + 450 / 1000))  # their equation for s^2 (1 / n + n2 / n1)
    half = stats.t(4).ppf(0.975) * error
    expected = (values.mean() - half, values.mean() + half)
    p = 2 * stats.t(4).sf(abs(values.mean() - 0.5) / error)
    cells = {("d", "m", "cross_entropy", seed): value for seed, value in enumerate(values)}
    cells |= {("fresh", "m", "cross_entropy", seed): value for seed, value in enumerate(values)}
    tables = grid(cells, correction=lambda dataset, *rest: 0.45 if dataset == "d" else 0.0)
    rows = scopes(LEVEL, tables)
    for scope in ("d/m", "all"):  # over all: the largest of its data sets
        row = rows.loc[scope]
        assert (row["low"], row["high"], row["p"]) == pytest.approx((*expected, p), rel=1e-9)
        assert "interval widened for seeds that share samples (test / training: 0.45)" in row["note"]
    row = rows.loc["fresh/m"]
    plain = stats.ttest_1samp(values, 0.5)
    interval = plain.confidence_interval(0.95)
    assert (row["low"], row["high"], row["p"]) == pytest.approx((interval.low, interval.high, plain.pvalue), rel=1e-9)
    assert "widened" not in row["note"]


def test_holm_adjusts_over_a_run_and_within_themes():
    """Each adjusted p-value is the least level at which Holm's step-down rejects, here found by trying levels."""
    rng = np.random.default_rng(4)
    cells = {
        ("d", "m", f"loss{i}", seed): value for i in range(6) for seed, value in enumerate(rng.normal(i / 3, 1, 6))
    }
    themes = ["halos", "halos", "mixup", "mixup", "mixup", "growth"]
    claims = [
        parse(Claim, LEVEL | {"name": f"c{i}", "a": {"loss": f"loss{i}"}, "theme": theme, "margin": 0.0})
        for i, theme in enumerate(themes)
    ] + [parse(Claim, LEVEL | {"name": "untested", "a": {"loss": "other"}})]
    found = evaluate(claims, grid(cells))
    whole = found[found["scope"] == "all"].set_index("claim")

    def rejected(p: pd.Series, level: float) -> set[str]:
        names: set[str] = set()
        for step, (name, value) in enumerate(p.sort_values().items()):
            if value > level / (len(p) - step):
                break
            names.add(str(name))
        return names

    tests = whole[whole["verdict"] != "not_tested"]
    for level in (0.001, 0.01, 0.05, 0.2, 0.5):
        assert set(tests.index[tests["holm"] <= level]) == rejected(tests["p"], level)
    assert np.isnan(whole.loc["untested", "holm"])
    assert whole.loc["untested", "adjusted"] == "not_tested"
    for row in tests.itertuples():
        assert row.adjusted == (row.verdict if row.holm < 0.05 else "undecided")
    assert set(found.loc[found["scope"] != "all", "adjusted"]) == {""}


def test_a_verdict_over_pairs_that_are_decided_both_ways_is_mixed_whatever_the_mean():
    ones, cells = [1.0, 1.0, 1.0], {}
    for dataset, mean in (("d1", 0.1), ("d2", 0.2), ("d3", 1.2)):
        cells |= two_losses([mean, mean + 0.01, mean - 0.01], ones, dataset)
    cells |= two_losses([0.3], [1.0], "d4")  # one seed: not tested
    row = judged(DIFFERENCE, grid(cells))
    assert (row["verdict"], row["adjusted"], row["pairs"], row["hold"], row["fail"]) == ("mixed", "mixed", 3, 2, 1)
    assert (row["least"], row["most"], row["left_out"]) == (pytest.approx(-0.9), pytest.approx(0.2), 1)
    assert finding.in_words(row) == "mixed; of 3 pairs: for 2, not for 1"
    near = two_losses([0.97, 0.975, 0.98], ones, "d1") | two_losses([1.2, 1.21, 1.22], ones, "d2")
    row = judged(DIFFERENCE, grid(near))  # the one gains less than the margin, the other loses
    assert [row["verdict"], row["hold"], row["fail"]] == ["does_not", 0, 2], "no pair gains as much as claimed"
    near |= two_losses([0.95, 0.94, 0.96], ones, "d3")
    row = judged(DIFFERENCE, grid(near))
    assert [row["verdict"], row["hold"], row["fail"]] == ["no_pair", 0, 2], "one pair gains, about as much as claimed"
    assert finding.in_words(row) == "supported by no pair; of 3 pairs: not for 2, undecided for 1"
    close = grid(two_losses([1.09, 1.15, 1.21], ones, "d1") | two_losses([1.09, 1.15, 1.21], ones, "d2"))
    alone, among = (
        evaluate([parse(Claim, DIFFERENCE | {"name": f"c{i}"}) for i in range(n)], close).iloc[0] for n in (1, 3)
    )
    assert (alone["adjusted"], among["adjusted"], among["verdict"]) == ("does_not", "no_pair", "does_not")
    alike = {key: value for key, value in cells.items() if key[0] in ("d1", "d2")}
    row = judged(DIFFERENCE, grid(alike | two_losses([0.5, 1.9, 0.1], ones, "d3")))
    assert (row["verdict"], row["hold"], row["fail"]) == ("undecided", 2, 0)
    assert finding.in_words(row) == "undecided; of 3 pairs: for 2, undecided for 1"
    assert finding.in_words(judged(DIFFERENCE, grid(alike))) == "holds"


def test_the_pairs_that_are_not_in_the_mean_are_named_with_the_reason():
    ones = [1.0, 1.0, 1.0]
    cells = two_losses([0.1, 0.11, 0.12], ones, "d1") | two_losses([0.2, 0.21, 0.22], ones, "d2")
    cells |= two_losses([0.3, 0.31], ones[:2], "few") | two_losses([0.3, 0.31, 0.32], ones, "unfit")
    row = judged(DIFFERENCE, grid(cells, interpolates=lambda dataset, *rest: dataset != "unfit"))
    assert (row["estimate"], row["pairs"], row["left_out"]) == (pytest.approx(-0.84), 3, 2)
    assert "few/m (other seeds)" in row["note"]
    assert "unfit/m (mixup2 does not interpolate)" in row["note"]


@pytest.mark.parametrize(
    ("change", "a", "b", "expected"),
    [
        ({"direction": "above", "margin": 0.1}, 0.05, 0.02, "not_testable"),  # a - b is at most a
        ({"direction": "above", "margin": 0.1}, 0.5, 0.02, "holds"),
        ({"direction": "above", "margin": 0.1}, 0.5, 0.45, "does_not"),
        ({"direction": "below", "margin": -0.1}, 0.01, 0.05, "not_testable"),  # a - b is at least -b
        ({"direction": "below", "margin": 0.01}, 0.05, 0.01, "does_not"),  # every b allows it
        ({"direction": "above", "margin": 0.1, "metric": "ece"}, 0.99, 0.95, "not_testable"),  # at most 1 - b
        ({"direction": "above", "margin": 0.1, "metric": "own"}, 0.05, 0.02, "does_not"),  # bounds aren't known
        ({"direction": "above", "margin": 0.1, "metric": "own_ranges:score"}, 0.05, 0.02, "not_testable"),  # stated
        ({"direction": "above", "margin": 0.1}, 0.05, 0.5, "does_not"),  # out of reach, but the opposite effect
        ({"direction": "below", "margin": -0.1}, 0.9, 0.09, "does_not"),
        ({"direction": "below", "margin": -0.1}, 0.0, 0.5, "holds"),  # 0 is the best value of a score
    ],
)
def test_a_margin_out_of_reach_is_not_testable(change, a, b, expected, tmp_path, monkeypatch):
    (tmp_path / "own_ranges.py").write_text("RANGE = (0, None)\n\n\ndef score(correct): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    metric = change.get("metric", "nll")
    where = FIXED | {"metric": metric}
    entry = DIFFERENCE | {key: value for key, value in change.items() if key != "metric"} | {"where": where}
    spread = np.array([0.999, 1.0, 1.001])
    tables = grid(two_losses([*(a * spread)], [*(b * spread)]))
    tables["metrics"]["metric"] = metric
    rows = scopes(entry, tables)
    row = rows.loc["d/m"]
    assert row["verdict"] == rows.loc["all", "verdict"] == expected
    assert row["estimate"] == pytest.approx(a - b), "the number is shown all the same"
    assert "out of reach" in row["note"] or expected != "not_testable"


def test_a_side_that_is_0_in_every_seed_only_repeats_the_other():
    """A certainty radius is 0 if the confidence at the sample itself is below the threshold."""
    entry, cells = DIFFERENCE | {"direction": "above"}, two_losses([0.9, 0.8, 0.85], [0.0, 0.0, 0.0])
    rows = scopes(entry | {"margin": 0.1}, grid(cells))
    assert (rows.loc["all", "verdict"], rows.loc["all", "pairs"]) == ("not_testable", 0)
    pair = rows.loc["d/m"]
    assert (pair["verdict"], "b is 0 in every seed" in pair["note"]) == ("not_testable", True)
    one = judged(entry | {"margin": 0.1}, grid(cells | two_losses([0.9], [0.3], "one")))
    assert one["verdict"] == "not_tested", "the other pair could be tested with more seeds"
    other = two_losses([0.9, 0.8, 0.85], [0.3, 0.31, 0.29], "fine")
    row = judged(entry | {"margin": 0.1}, grid(cells | other))
    assert (row["verdict"], row["pairs"], row["left_out"]) == ("holds", 1, 1)
    assert "not testable: d/m" in row["note"]


def test_where_b_has_no_value_its_stand_in_counts():
    """Without an optimal temperature, the calibrated value is NaN, and the uncalibrated one takes its place."""
    tables = grid({("d", "m", "cross_entropy", seed): 2.0 for seed in range(4)})
    b = tables["metrics"].assign(calibrator="exact", value=[1.5, 1.5, np.nan, np.nan])
    a = tables["metrics"].assign(calibrator="partner", value=[1.40, 1.41, 1.9, 1.9])
    tables["metrics"] = pd.concat([tables["metrics"], a, b], ignore_index=True)
    where = {key: FIXED[key] for key in ("metric", "split", "labels")} | {"loss": "cross_entropy"}
    claim = DIFFERENCE | {"where": where, "a": {"calibrator": "partner"}, "b": {"calibrator": "exact"}}
    assert tuple(judged(claim, tables)[["n", "excluded"]]) == (0, 4)
    row = judged(claim | {"otherwise": {"calibrator": "none"}}, tables, "d/m")
    assert (row["n"], row["excluded"]) == (4, 0)
    assert row["estimate"] == pytest.approx(np.mean([-0.1, -0.09, -0.1, -0.1]))
    assert "b without a value, so calibrator none: 2 of 4 seeds" in row["note"]
    assert "or calibrator none if b has no value" in row["formula"]


# --- Pairing and means -----------------------------------------------------------------------------------------------


def test_seeds_are_paired_and_all_is_t_over_seeds_of_means_over_pairs():
    """Whatever both sides of a seed share cancels, and the order of rows doesn't matter."""
    rng = np.random.default_rng(1)
    a, b, shared = rng.normal(size=(2, 4)), 2 + rng.normal(size=(2, 4)), 100 + 10 * rng.normal(size=(2, 4))
    cells = {}
    for number, dataset in enumerate(("d1", "d2")):
        cells |= two_losses(list((a + shared)[number]), list((b + shared)[number]), dataset)
    cells |= {("d3", "mlp", "mixup2", 0): 1.0, ("d3", "cnn", "cross_entropy", 0): 1.0}  # different models: no pair
    tables = {name: table.sample(frac=1, random_state=3) for name, table in grid(cells).items()}
    rows = scopes(DIFFERENCE, tables)
    assert list(rows.index) == ["all", "d1/m", "d2/m"]
    for values, (_, row) in zip(((a - b).mean(axis=0), *(a - b)), rows.iterrows(), strict=True):
        assert (row["estimate"], row["low"], row["high"], row["n"]) == pytest.approx((*t_interval(values), 4))
    assert "2 of 2" in rows.loc["all", "note"]


def test_a_pair_that_lacks_a_seed_is_left_out_of_all_and_counted():
    cells = two_losses([1, 1.01, 1.02], [2, 2, 2], "d1") | two_losses([5, 5.1, 5.2], [2, 2, 2], "d2")
    del cells["d2", "m", "cross_entropy", 1]
    rows = scopes(DIFFERENCE, grid(cells))
    row = rows.loc["all"]
    assert row["estimate"] == pytest.approx(-0.99)  # only d1
    assert (row["n"], row["excluded"]) == (3, 3)
    assert "1 of 2" in row["note"]
    row = rows.loc["d2/m"]
    assert (row["n"], row["excluded"]) == (2, 1)
    assert row["estimate"] == pytest.approx(3.1)
    more = two_losses([1, 1.1, 1.2, 9, 9], [2, 2, 2, 2, 2], "d1")  # seeds that only some pairs plan count only there
    more |= two_losses([1, 1.1, 1.2], [2, 2, 2], "d2") | two_losses([1, 1.1, 1.2], [2, 2, 2], "d3")
    rows = scopes(DIFFERENCE, grid(more))
    assert tuple(rows.loc["all", ["n", "excluded", "estimate"]]) == (3, 2, pytest.approx(-0.9))
    assert rows.loc["d1/m", "n"] == 5


# --- What is left out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "facts", "why"),
    [
        (9, {"interpolates": lambda d, m, loss, seed: (loss, seed) != ("mixup2", 0)}, "mixup2 does not interpolate"),
        (9, {"steps": lambda d, m, *cell: 500 if cell == ("mixup2", 0) else 1000}, "unequal optimiser steps"),
        (np.nan, {}, "no finite value"),
        (np.inf, {}, "no finite value"),
    ],
)
def test_what_cannot_be_compared_is_left_out_and_counted(first, facts, why):
    row = judged(DIFFERENCE, grid(two_losses([first, 1.1, 1.2, 1.3], [2, 2, 2, 2]), **facts), "d/m")
    assert (row["n"], row["excluded"], row["verdict"]) == (3, 1, "holds")
    assert row["estimate"] == pytest.approx(-0.8)
    assert why in row["note"]


@pytest.mark.parametrize(("losses", "excluded"), [(None, 3), (["cross_entropy"], 0), ([], 0)], ids=str)
def test_the_yaml_says_which_losses_must_interpolate(losses, excluded):
    tables = grid(two_losses([1, 1.1, 1.2], [2, 2, 2]), interpolates=lambda d, m, loss, seed: loss != "mixup2")
    row = judged(DIFFERENCE | ({} if losses is None else {"interpolating": losses}), tables)
    assert (row["excluded"], row["verdict"]) == (excluded, "not_tested" if excluded else "holds")


def test_conditions_narrow_by_the_tables_columns_and_by_those_of_runs():
    cells = two_losses([1, 1.1, 1.2], [2, 2, 2], "clean") | two_losses([5, 5.1, 5.2], [2, 2, 2], "noisy")
    tables = grid(cells, noise=lambda dataset, *rest: 0.5 if dataset == "noisy" else 0.0)
    where = DIFFERENCE["where"]
    for condition, scopes in [
        ({"noise": ">0"}, ["noisy/m"]),
        ({"noise": 0}, ["clean/m"]),
        ({"noise": "<=0.5"}, ["clean/m", "noisy/m"]),
        ({"noise": "!=0"}, ["noisy/m"]),
        ({"dataset": "cl*"}, ["clean/m"]),
        ({"dataset": ["clean", "other"]}, ["clean/m"]),
    ]:
        found = evaluate([parse(Claim, DIFFERENCE | {"where": where | condition})], tables)
        assert list(found["scope"]) == ["all", *scopes]


def test_one_loss_compared_with_itself_needs_a_calibrator_on_each_side():
    tables = grid({("d", "m", "cross_entropy", seed): 2.0 + seed for seed in range(3)})
    tables["metrics"] = pd.concat([tables["metrics"], tables["metrics"].assign(calibrator="exact")], ignore_index=True)
    where = {key: FIXED[key] for key in ("metric", "split", "labels")} | {"loss": "cross_entropy"}
    claim = DIFFERENCE | {"where": where, "b": {"calibrator": "none"}}
    with pytest.raises(SpecError, match=r"a.calibrator: missing; set calibrator here or in `where`"):
        parse(Claim, claim | {"a": {}})
    row = judged(claim | {"a": {"calibrator": ["exact", "none"]}}, tables)
    assert (row["verdict"], "more than one row per cell" in row["note"]) == ("not_tested", True)
    assert row["note"].endswith("which differ in calibrator"), "the other claims are judged all the same"


def test_references_count_only_where_named():
    tables = grid(two_losses([1, 1.1, 1.2], [2, 2, 2]))
    extra = tables["metrics"].iloc[:3].assign(loss="reference", seed=range(3))
    rows = [extra.assign(model="bayes", value=0.7), extra.assign(model="uniform", value=2.3)]
    tables["metrics"] = pd.concat([tables["metrics"], *rows], ignore_index=True)
    assert list(evaluate([parse(Claim, DIFFERENCE)], tables)["scope"]) == ["all", "d/m"]
    row = judged(DIFFERENCE | {"b": {"loss": "reference", "model": "bayes"}}, tables, "d/m")
    assert row["estimate"] == pytest.approx(0.4)
    assert (row["n"], row["excluded"]) == (3, 0)


# --- Radii -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("radii", "censored", "expected"),
    [
        ((0.9, 0.2), (0.0, 0.0), "holds"),
        ((0.9, 0.2), (0.6, 0.0), "holds"),  # cross entropy reaches even farther
        ((0.9, 0.2), (0.0, 0.6), "not_testable"),  # Mixup may reach farther
        ((0.2, 0.9), (0.6, 0.0), "not_testable"),
        ((0.2, 0.9), (0.0, 0.6), "does_not"),
        ((0.9, 0.2), (0.6, 0.6), "not_tested"),
        ((0.9, 0.2), (0.4, 0.4), "holds"),  # censored radii beyond the median don't matter
    ],
)
def test_a_verdict_that_censored_radii_could_overturn_is_withheld(radii, censored, expected):
    losses = ("cross_entropy", "mixup2")
    cells = {
        ("d", "m", loss, seed): r + 0.01 * seed * r for loss, r in zip(losses, radii, strict=True) for seed in (0, 1, 2)
    }
    tables = grid(cells)
    shares = tables["runs"]["loss"].map(dict(zip(losses, censored, strict=True)))
    radii_table = tables.pop("metrics").rename(columns={"value": "relative_median"})
    tables["radii"] = radii_table.assign(censored=shares, **RADII)
    claim = DIFFERENCE | {"table": "radii", "value": "relative_median", "where": RADII}
    claim |= {"direction": "above", "margin": 0.1}
    row = judged(claim | {"a": {"loss": "cross_entropy"}, "b": {"loss": "mixup2"}}, tables)
    assert row["verdict"] == expected


# --- Against the best baseline ---------------------------------------------------------------------------------------


def four_losses(dataset: str, focal: list[float] | None) -> dict:
    cells = two_losses([1.0, 1.05, 1.1], [2.0, 2.1, 2.2], dataset)
    return cells | {(dataset, "m", "focal", seed): value for seed, value in enumerate(focal or [])}


def test_the_best_baseline_is_focal_where_it_wins():
    cells = four_losses("d1", [0.5, 0.6, 0.7]) | four_losses("d2", [3.0, 3.1, 3.2]) | four_losses("d3", None)
    tables = grid(cells)
    whole, beaten, won, without = (row for _, row in scopes(BEST, tables).iterrows())
    assert beaten["verdict"] == "does_not"
    assert "loss focal" in beaten["note"]
    assert beaten["estimate"] == pytest.approx(1.05 - 0.6)
    assert won["verdict"] == without["verdict"] == "holds"
    assert "loss cross_entropy" in won["note"]
    assert won["estimate"] == pytest.approx(-1.05)
    other_steps = grid(cells, steps=lambda dataset, model, loss, seed: 9000 if loss == "focal" else 1000)
    assert "cross_entropy" in judged(BEST, other_steps, "d1/m")["note"]
    assert judged(BEST, grid(four_losses("d4", [0.1])))["verdict"] == "holds", "one seed of focal is no test"
    assert whole["estimate"] == pytest.approx((0.45 - 1.05 - 1.05) / 3)
    assert "loss focal: 1 of 3" in whole["note"]
    assert "loss cross_entropy: 2 of 3" in whole["note"]


def test_the_best_baseline_is_chosen_by_its_mean_not_in_each_seed():
    cells = two_losses([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    cells |= {("d", "m", "focal", seed): value for seed, value in enumerate([0.0, 3.5, 3.4])}
    row = judged(BEST, grid(cells))
    assert row["estimate"] == pytest.approx(-1.0)  # cross entropy in every seed, though focal wins seed 0
    assert judged(BEST | {"best": "highest"}, grid(cells))["estimate"] == pytest.approx(1.0 - 2.3)


# --- Slopes ----------------------------------------------------------------------------------------------------------


def series(slope: float, ks: tuple[int, ...], seeds: int = 3, model: str = "m") -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(5)
    cells = {
        (f"overlap-k{k}", model, "cross_entropy", seed): 0.3 + slope * np.log(k) + 0.01 * rng.normal()
        for k in ks
        for seed in range(seeds)
    }
    return grid(cells, classes=lambda dataset, *rest: int(dataset.removeprefix("overlap-k")))


@pytest.mark.parametrize(("slope", "expected"), [(0.25, "holds"), (0.0, "does_not"), (0.1, "undecided")])
def test_slopes_are_on_the_natural_logarithm_of_the_number_of_classes(slope, expected):
    tables = series(slope, (2, 4, 8, 16, 32))
    rows = scopes(SLOPE, tables)
    row = rows.loc["all"]
    assert row["verdict"] == expected
    metrics = tables["metrics"].merge(tables["runs"])
    slopes = [stats.linregress(np.log(rows["classes"]), rows["value"]).slope for _, rows in metrics.groupby("seed")]
    expected_row = t_interval(slopes)
    assert (row["estimate"], row["low"], row["high"]) == pytest.approx(expected_row)
    assert rows.loc["log k/m", "estimate"] == pytest.approx(row["estimate"])


RATIO = {key: value for key, value in LEVEL.items() if key not in ("a", "where")} | {
    "statistic": "ratio",
    "where": FIXED | {"loss": "cross_entropy"},
    "a": {"dataset": "big"},
    "b": {"dataset": "small"},
    "margin": 1.2,
}


def two_data_sets(big: dict[str, list[float]], small: dict[str, list[float]]) -> dict:
    """Cells of models on two data sets, one value per seed."""
    return {
        (dataset, model, "cross_entropy", seed): value
        for dataset, models in (("big", big), ("small", small))
        for model, values in models.items()
        for seed, value in enumerate(values)
    }


def test_ratios_are_paired_by_model_and_seed_across_data_sets_and_judged_by_their_logarithms():
    """The number of steps doesn't matter; there is one row per model, and their geometric mean over all."""
    cells = two_data_sets(
        {"one": [1.5, 3.0, 4.6], "two": [1.0, 2.1, 3.0], "alone": [9.0]},
        {"one": [1.0, 2.0, 3.0], "two": [1.0, 2.0, 3.0]},
    )
    tables = grid(cells, steps=lambda dataset, *rest: {"big": 1504}.get(dataset, 1500))
    one, two = (np.log(values) for values in ([1.5, 1.5, 4.6 / 3], [1.0, 1.05, 1.0]))
    rows = scopes(RATIO, tables)
    for scope, logs in (("big : small/one", one), ("big : small/two", two), ("all", (one + two) / 2)):
        row = rows.loc[scope]
        assert (row["estimate"], row["low"], row["high"]) == pytest.approx(tuple(np.exp(t_interval(logs))))
        assert row["p"] == pytest.approx(stats.ttest_1samp(logs, np.log(RATIO["margin"])).pvalue)
        assert row["margin"] == RATIO["margin"]
    assert list(rows.loc[["big : small/one", "big : small/two"], "verdict"]) == ["holds", "does_not"]
    assert "metrics.value: (dataset big) / (dataset small)" in rows.loc["all", "formula"]


def test_a_ratio_is_as_well_judged_upside_down():
    """b over a is below 1 / margin if and only if a over b is above the margin."""
    sides = {"a": {"loss": "mixup2"}, "b": {"loss": "cross_entropy"}, "margin": 1.5, "direction": "above"}
    up = RATIO | {"where": DIFFERENCE["where"]} | sides
    down = up | {"a": sides["b"], "b": sides["a"], "margin": 1 / 1.5, "direction": "below"}
    rng = np.random.default_rng(2)
    for _ in range(4):
        tables = grid(two_losses(list(rng.lognormal(0.8, 0.5, 4)), list(rng.lognormal(0.0, 0.5, 4))))
        one, other = judged(up, tables), judged(down, tables)
        assert (one["verdict"], one["p"]) == (other["verdict"], pytest.approx(other["p"]))
        assert (one["estimate"], one["low"]) == pytest.approx((1 / other["estimate"], 1 / other["high"]))


@pytest.mark.parametrize(("a", "b", "side"), [(0.0, 1.0, "a"), (-1.0, 0.0, "a and b")])
def test_a_ratio_with_a_side_of_0_is_not_testable_and_names_the_cell(a, b, side):
    """Leaving out just that seed or pair would select by the outcome."""
    sides = {"a": {"loss": "mixup2"}, "b": {"loss": "cross_entropy"}}
    within = RATIO | {"where": DIFFERENCE["where"], "margin": 0.9} | sides
    cells = two_losses([3.0, 4.4, 1.5, a], [1.5, 2.0, 1.0, b]) | two_losses([3, 4.4, 1.5, 2], [1, 2, 1, 1], "fine")
    rows = scopes(within, grid(cells))
    for scope, verdict_there in (("all", "holds"), ("d/m", "not_testable"), ("fine/m", "holds")):
        row = rows.loc[scope]
        assert row["verdict"] == verdict_there
        assert (f"d/m seed 3 ({side})" in row["note"]) == (scope != "fine/m")
    whole, fine = rows.loc["all"], rows.loc["fine/m"]
    assert (whole["pairs"], whole["left_out"], whole["estimate"]) == (1, 1, fine["estimate"])


def test_ratios_across_data_sets_leave_out_both_cells_of_a_seed():
    cells = two_data_sets({"m": [2.0, 3.0, 4.0, 5.0]}, {"m": [1.0, 1.0, np.inf, 1.0]})
    tables = grid(cells, interpolates=lambda dataset, model, loss, seed: (dataset, seed) != ("small", 1))
    assert tuple(judged(RATIO, tables, "big : small/m")[["n", "excluded"]]) == (2, 4)


def test_a_slope_uses_data_sets_that_are_complete_in_every_seed():
    tables = series(0.25, (2, 4, 8, 16, 32, 64))
    unfit = (tables["runs"]["dataset"] == "overlap-k64") & (tables["runs"]["seed"] == 1)
    tables["runs"]["interpolates"] = ~unfit
    tables["metrics"].loc[tables["metrics"]["dataset"] == "overlap-k64", "value"] = 99.0
    row = judged(SLOPE, tables)
    assert row["estimate"] == pytest.approx(0.25, abs=0.02)
    assert (row["verdict"], row["excluded"]) == ("holds", 3)
    assert "does not interpolate" in row["note"]
    tables["runs"]["interpolates"] = ~tables["runs"]["dataset"].isin(["overlap-k64", "overlap-k2"])
    row = judged(SLOPE, tables)
    assert (row["verdict"], row["excluded"]) == ("not_tested", 18)
    assert "the grid has 4 (2, 4, 8, 16)" in judged(SLOPE, series(0.25, (2, 4, 8, 16)))["note"], "five are needed"


# --- The rules' file -------------------------------------------------------------------------------------------------


def written(folder: Path, content: object) -> Path:
    path = folder / "claims.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"marign": 0.1}, "marign"),
        ({"margin": None}, "margin"),
        ({"theme": "repairs"}, "theme"),
        ({"registered": "long ago"}, "registered"),
        ({"kind": "a check"}, "kind"),
        ({"otherwise": {"lost": "mixup2"}}, "otherwise.lost"),
        ({"margin": "small"}, "margin"),
        ({"direction": "up"}, "direction"),
        ({"statistic": "median"}, "statistic"),
        ({"table": "metric"}, "table"),
        ({"value": "nll"}, "value"),
        ({"where": {"metric": "nll", "split": "test", "calibrator": "none"}}, "a.labels"),
        ({"a": {"lost": "mixup2"}}, "a.lost"),
        ({"a": {"classes": 10}}, "a.loss"),
        ({"a": {"loss": "mixup*"}}, "a.loss"),
        ({"a": {"loss": "reference"}}, "a.loss"),
        ({"a": {"loss": "mixup2", "metric": "kl"}}, "a.metric"),
        ({"b": {"loss": "cross_entropy", "dataset": "other"}}, "b.dataset"),
        ({"b": {"loss": "cross_entropy", "noise": ">half"}}, "b.noise"),
        ({"b": "cross_entropy"}, "b"),
        ({"where": {"seed": 0}}, "where.seed"),
        ({"interpolating": ["focal"]}, "interpolating"),
        ({"statistic": "level"}, "b"),
        ({"statistic": "against_best", "b": None}, "baselines"),
        ({"name": "no good"}, "name"),
        (RATIO | {"a": {"dataset": "b*"}}, "a.dataset"),
        (RATIO | {"a": {"noise": 0}}, "a.dataset"),
        (RATIO | {"a": {"noise": 0}, "b": {"model": "m"}}, "b.model"),
        (RATIO | {"b": None}, "b"),
        (RATIO | {"margin": 0}, "margin"),
        (RATIO | {"otherwise": {"noise": 0}}, "otherwise"),
        (RATIO | {"b": {"dataset": "small", "model": "m"}}, "b.model"),
        ({"a": {"loss": "cross_entropy"}}, "b"),  # the same as b
        (BEST | {"b": None, "where": FIXED | {"metric": "rho"}}, "best"),
        (LEVEL | {"b": None, "margin": -0.1}, "margin"),  # an NLL is never below it
        (LEVEL | {"b": None, "direction": "below", "margin": 0.0}, "margin"),
        (LEVEL | {"b": None, "where": FIXED | {"metric": "ece"}, "margin": 1.0}, "margin"),
    ],
)
def test_bad_rules_are_refused_with_their_key(tmp_path, change, key):
    entry = {k: v for k, v in (DIFFERENCE | change).items() if v is not None or k not in change}
    with pytest.raises(SpecError) as told:
        load_claims(written(tmp_path, {"claims": [entry]}))
    assert told.value.key == f"{tmp_path / 'claims.yaml'}: claims.{entry['name']}.{key}"
    assert "\n" not in str(told.value)


def test_names_that_nothing_computes_are_refused_and_patterns_are_not(tmp_path):
    claims = load_claims(CLAIMS)
    computed = ("ece", "kl", "nll", "error"), ("none", "paper", "exact", "oracle", "partner", "top_rest")
    check_computed(claims, *computed)
    for column, value, near in [("metric", "ecee", "ece"), ("calibrator", "exactt", "exact")]:
        where = DIFFERENCE["where"] | {column: value}
        (claim,) = load_claims(written(tmp_path, {"claims": [DIFFERENCE | {"where": where}]}))
        with pytest.raises(SpecError, match=rf"claims.\w+.{column} = '{value}': .*did you mean '{near}'"):
            check_computed([claim], *computed)
        where[column] = ["kl*" if column == "metric" else "!=0"]
        check_computed(load_claims(written(tmp_path, {"claims": [DIFFERENCE | {"where": where}]})), *computed)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"claims": []} | {"claim": []},
        {"claims": {"a": 1}},
        {"claims": ["mixup_wins"]},
        {"claims": [DIFFERENCE, DIFFERENCE]},
        {"claims": [DIFFERENCE | {"each": {"loss": ["mixup2"]}}]},
        {"claims": [DIFFERENCE | {"each": ["mixup2"]}]},
        "claims: [",
    ],
)
def test_bad_files_are_refused(tmp_path, content):
    with pytest.raises(SpecError):
        load_claims(written(tmp_path, content))


def test_a_key_given_twice_is_refused_rather_than_the_last_one_taken(tmp_path):
    text = yaml.safe_dump({"claims": [DIFFERENCE | {"margin": 0.5}]}, sort_keys=False)
    path = tmp_path / "claims.yaml"
    path.write_text(text.replace("margin: 0.5", "margin: 0.5\n  margin: 123"))
    line = text[: text.index("margin:")].count("\n") + 1
    with pytest.raises(SpecError, match=rf"line {line + 1}: .*the key 'margin' is already defined on line {line}"):
        load_claims(path)


def test_the_digest_of_claims_changes_with_what_they_say_and_with_nothing_else(tmp_path):
    text = yaml.safe_dump({"claims": [DIFFERENCE]}, sort_keys=False)
    commented = "# why\n" + yaml.safe_dump({"claims": [dict(reversed(DIFFERENCE.items()))]}, sort_keys=False)
    edited = text.replace("-0.05", "-0.06")
    one, other, third = (claims_digest(load_claims(written(tmp_path, each))) for each in (text, commented, edited))
    assert one == other != third


def test_each_makes_a_claim_per_combination(tmp_path):
    entry = DIFFERENCE | {
        "name": "{loss}_wins_{calibrator}",
        "label": "{loss} wins with {calibrator}",
        "each": {"loss": ["mixup2", "mixup5"], "calibrator": ["none", "exact"]},
        "fit": "{calibrator}",
        "where": DIFFERENCE["where"] | {"calibrator": "{calibrator}"},
        "a": {"loss": "{loss}"},
    }
    claims = load_claims(written(tmp_path, {"claims": [entry]}))
    names = ["mixup2_wins_none", "mixup2_wins_exact", "mixup5_wins_none", "mixup5_wins_exact"]
    assert [claim.name for claim in claims] == names
    assert claims[3].label == "5-point Mixup wins with TS (optimal)", "texts name things as pages do"
    where = DIFFERENCE["where"] | {"calibrator": "exact"}
    assert claims[3].sides == [where | {"loss": "mixup5"}, where | {"loss": "cross_entropy"}]


# --- The claims of the paper -----------------------------------------------------------------------------------------


def demo_tables() -> dict[str, pd.DataFrame]:
    """Tables with the demo's columns and kinds of rows (noise, losses, seeds) and meaningless values."""
    rng = np.random.default_rng(11)
    datasets = {"digits": 0.0, "digits-noise50": 0.5}
    cells = pd.MultiIndex.from_product(
        [datasets, ["mlp"], ["cross_entropy", "mixup2", "mixup5", "focal"], range(3)],
        names=["dataset", "model", "loss", "seed"],
    ).to_frame(index=False)
    runs = cells.assign(
        noise=cells["dataset"].map(datasets), classes=10, steps=2000, interpolates=True, distribution=""
    ).assign(seed_correction=0.45)
    runs["loss_family"] = np.where(runs["loss"].str.startswith("mixup"), "mixup", "")

    def crossed(columns: dict, *values: str) -> pd.DataFrame:
        rows = pd.MultiIndex.from_product(columns.values(), names=columns).to_frame(index=False)
        table = cells.merge(rows, how="cross")
        return table.assign(**{value: rng.uniform(size=len(table)) for value in values})

    fits = ["none", "paper", "exact", "oracle", "partner"]
    metrics = {"split": ["test"], "labels": ["noisy", "clean"], "calibrator": fits, "metric": ["nll", "kl", "ece"]}
    places = {"points": ["train", "heldout"], "probe": ["sphere", "nearest_other", "manifold"]}
    searches = {"points": ["train", "heldout"], "probe": ["adversarial", "certified"]}
    nulls = searches | {"probe": ["adversarial"], "quantity": ["half_space", "half_spaces"], "calibrator": ["none"]}
    radii = {"quantity": ["certainty", "decision"], "calibrator": ["none", "exact"]}
    ends = [crossed(where, "relative_median", "survival_2") for where in (places | radii, searches | radii, nulls)]
    return {
        "runs": runs,
        "metrics": crossed(metrics, "value"),
        "neighbourhood": crossed(places | {"relative_radius": [0.4, 0.5]}, "confidence"),
        "radii": pd.concat(ends, ignore_index=True).assign(threshold=0.9, censored=0.0),
    }


def test_the_papers_claims_are_tested_by_the_demos_images_except_for_those_on_distributions():
    claims = load_claims(CLAIMS)
    found = evaluate(claims, demo_tables())
    whole = found[found["scope"] == "all"].set_index("claim")
    assert list(whole.index) == [claim.name for claim in claims]
    for claim in claims:
        row = whole.loc[claim.name]
        elsewhere = any(str(side.get("dataset", "")).startswith("overlap") for side in claim.sides)
        assert (row["verdict"] == "not_tested") == elsewhere, row["note"]
        assert row["n"] == (0 if elsewhere else 3)


def test_there_are_at_most_twenty_tests_with_one_per_question_and_calibration_and_no_names_of_code():
    claims = load_claims(CLAIMS)
    assert len(claims) <= 20
    assert len({(claim.label, claim.fit) for claim in claims}) == len(claims)
    spoken = " ".join(claim.label + claim.statement for claim in claims)
    assert not re.search(r"\b\w+_\w+|\bmixup\d|\b(paper|exact) fit|calibration:", spoken)
