"""Comparisons of cells, losses and folders: who wins, by which interval, and what is said if nobody can."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console, Group
from scipy import stats

from halobench.analysis.claims import Claim, evaluate
from halobench.analysis.shared_samples import sampling, with_seed_correction
from halobench.core.errors import SpecError
from halobench.core.specs.codec import parse
from halobench.reporting import compare
from halobench.results.cell_results import CellResults

RESAMPLED, DISJOINT, DRAWN = {}, {"test_block": True}, {"distribution": "overlap"}
CLAIM = {
    **{"name": "own", "label": "own", "statement": "own", "place": "own", "theme": "mixup"},
    **{"registered": "before any run", "kind": "own", "statistic": "difference", "table": "metrics", "value": "value"},
    **{"direction": "above", "margin": 0.0, "interpolating": []},
    "where": {"split": "test", "labels": "clean", "calibrator": "exact", "metric": "nll"},
    **{"a": {"loss": "b"}, "b": {"loss": "a"}},
}


def cell(name: str, value: float, low=np.nan, high=np.nan, *, metric="nll", facts=RESAMPLED, also=()) -> CellResults:
    """A cell with one score, trained on 1000 samples and tested on 450."""
    seed = int(name.rpartition("seed")[2])
    facts = {key: seed if key == "test_block" else fact for key, fact in facts.items()}
    train = {"seed": seed, "spec": {"dataset": {"train": 1000, "test": 450}}} | facts
    score = {"split": "test", "labels": "clean", "calibrator": "exact", "metric": metric}
    metrics = pd.DataFrame([score | {"value": value, "low": low, "high": high}])
    records = {"train": train, "calibrate": {"spec": {"also": list(also)}}}
    return CellResults(name, Path(), records, [], metrics, pd.DataFrame())


def losses(values: np.ndarray, group="d/m", **told) -> list[compare.Pair]:
    """Pairs of cells of the losses a and b with these scores, (seeds, 2)."""
    return [
        (cell(f"{group}/a/seed{seed}", a, **told), cell(f"{group}/b/seed{seed}", b, **told))
        for seed, (a, b) in enumerate(values)
    ]


def tables(pairs: list[compare.Pair]) -> dict[str, pd.DataFrame]:
    """The tables that aggregation would make of these cells, as far as claims need them."""
    cells = list(itertools.chain(*pairs))
    names = [dict(zip(("dataset", "model", "loss", "seed"), each.name.split("/"), strict=True)) for each in cells]
    runs = [
        name | sampling(each.train) | {"steps": 1, "interpolates": True}
        for name, each in zip(names, cells, strict=True)
    ]
    metrics = [each.metrics.assign(**name) for name, each in zip(names, cells, strict=True)]
    return {"runs": with_seed_correction(pd.DataFrame(runs)), "metrics": pd.concat(metrics)}


@pytest.mark.parametrize(("facts", "correction"), [(RESAMPLED, 0.45), (DISJOINT, 0), (DRAWN, 0)])
def test_the_interval_is_that_of_a_claim_about_the_same_difference(facts, correction):
    """For seeds that resample one set, both add test / training samples to 1 / n, as Nadeau and Bengio do."""
    pairs = losses(np.random.default_rng(0).normal(size=(6, 2)), facts=facts)
    (row,) = compare.changes(pairs).itertuples()
    judged = evaluate([parse(Claim, CLAIM)], tables(pairs)).iloc[0]
    assert (row.change, row.low, row.high) == pytest.approx((judged["estimate"], judged["low"], judged["high"]))
    differences = [b.metrics["value"][0] - a.metrics["value"][0] for a, b in pairs]
    half = stats.t.ppf(0.975, 5) * np.std(differences, ddof=1) * np.sqrt(1 / 6 + correction)
    assert row.high - row.change == pytest.approx(half)
    decided = compare.changes(losses(np.array([[0.0, 1.3], [0.0, 2.0], [0.0, 2.7]]), facts=facts))["better"].item()
    assert decided == ("" if correction else "A"), "what only the uncorrected interval decides has no winner"


def test_over_several_data_sets_seeds_are_the_replicates():
    """A second data set that repeats the changes of the first adds no certainty, and only seeds of both count."""
    values = np.random.default_rng(1).normal(size=(5, 2))
    one, both = losses(values), losses(values, "e/m") + losses(values)
    alone, pooled = (compare.changes(pairs).drop(columns="lower").iloc[0] for pairs in (one, both))
    pd.testing.assert_series_equal(alone, pooled)
    fewer = compare.changes(losses(values[:3], "e/m") + one).iloc[0]
    assert fewer["seeds"] == 3
    assert fewer["change"] == pytest.approx(np.diff(values[:3]).mean())
    assert fewer["b"] - fewer["a"] == pytest.approx(fewer["change"])
    single = compare.changes(losses(values[:1], "e/m") + one).iloc[0]
    assert (single["seeds"], single["left_out"]) == (5, 1), "a group of one seed would leave nothing to compare"
    assert single["change"] == pytest.approx(np.diff(values).mean())


ONE, TWO, WIDE, NONE = (1, 0.9, 1.1), (2, 1.2, 2.5), (2, 1.1, 2.5), (1, np.nan, np.nan)


@pytest.mark.parametrize(
    ("a", "b", "metric", "better"),
    [
        (ONE, TWO, "nll", "A"),
        (TWO, ONE, "nll", "B"),
        (TWO, ONE, "kl_own", "B"),
        (ONE, WIDE, "nll", ""),
        (NONE, WIDE, "nll", ""),
        (ONE, TWO, "ece_floor", ""),
        (ONE, TWO, "gap_own", ""),
        ((np.inf, 1, np.inf), (np.inf, 1, np.inf), "nll", ""),
    ],
)
def test_of_two_cells_one_is_better_if_their_intervals_do_not_overlap(a, b, metric, better):
    pair = (cell("d/m/a/seed0", *a, metric=metric), cell("d/m/b/seed0", *b, metric=metric))
    (row,) = compare.changes([pair], cells=True).itertuples()
    assert row.better == better
    assert row.change == (0 if np.isinf(a[0]) else b[0] - a[0])


def text(parts) -> str:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as captured:
        console.print(Group(*parts))
    return captured.get()


OWN = {
    "higher": ("LOWER_IS_BETTER = False\n", {True: "B", False: "A"}),
    "lower": ("LOWER_IS_BETTER = True\n", {True: "A", False: "B"}),
    "unsaid": ("", {True: "", False: ""}),
}


@pytest.mark.parametrize(("grows", "named"), [(True, True), (False, False)])
def test_an_own_metric_says_which_side_wins(tmp_path, monkeypatch, grows, named):
    """By its constant, also under another name; without one, nobody wins, and that is said once."""
    monkeypatch.syspath_prepend(tmp_path)
    values = np.array([[0.0, 1.0], [0.0, 1.1], [0.0, 0.9], [0.0, 1.0]]) * (1 if grows else -1)
    moved = []
    for kind, (constant, winner) in OWN.items():
        (tmp_path / f"own_{kind}.py").write_text(f"{constant}\n\ndef score(correct):\n    return correct\n")
        plug_in = f"own_{kind}:score"
        name = f"mine_{kind}" if named else plug_in
        also = [{name: {"name": plug_in}}] if named else [plug_in]
        moved.append(compare.changes(losses(values, metric=name, also=also)))
        assert moved[-1]["better"].item() == winner[grows], kind
    shown = text(compare.tables(pd.concat(moved)))
    assert shown.count("isn't known") == 1
    assert re.search(r"(mine_unsaid|score): which side is better isn't known", shown)
    assert "isn't known" not in text(compare.tables(pd.concat(moved[:2])))


def test_one_seed_decides_nothing_and_says_so():
    moved = compare.changes(losses(np.array([[0.0, 1.0]])))
    gone = compare.changes(losses(np.array([[0.0, 1.0], [0.0, 1.1]]), metric="no_such:score", also=["no_such:score"]))
    assert moved["better"].item() == gone["better"].item() == "", "nor does a metric whose file is gone"
    shown = text(compare.tables(moved))
    assert shown.count("One seed has no interval over seeds, so neither side is called better.") == 1
    assert "[" not in shown
    assert "One seed" not in text(compare.tables(compare.changes(losses(np.eye(2)))))


@pytest.mark.parametrize("form", ["json", "csv", "latex"])
def test_two_losses_are_compared_on_each_pair_and_never_on_average(tmp_path, monkeypatch, capsys, form):
    """B is better on one pair and worse on the other, by the same numbers as a comparison on that pair alone."""
    values = np.array([[0.0, 1.0], [0.0, 1.1], [0.0, 0.9], [0.0, 1.0]])
    named = losses(values, "d/m", facts=DISJOINT) + losses(values[:, ::-1], "e/m", facts=DISJOINT)
    cells = {each.name: each for pair in named for each in pair}
    monkeypatch.setattr(compare, "cell_names", lambda results: sorted(cells))
    monkeypatch.setattr(compare, "read_cell", lambda results, name: cells[name])
    first, second = sorted({name.split("/")[2] for name in cells})
    compare.compare(first, second, tmp_path, everything=True, form=form)
    said = capsys.readouterr().out
    read = {"json": pd.read_json, "csv": pd.read_csv}
    if form in read:
        rows = read[form](io.StringIO(said)).set_index("pair")
        assert dict(rows["better"]) == {"d/m": "A", "e/m": "B"}
        alone = compare.changes(named[:4]).iloc[0]
        assert rows.loc["d/m", "low"] == pytest.approx(alone["low"])
    else:
        assert said.count("\\\\\n") == 3
        assert r"left\_out" in said
    assert compare._of_losses(first, "d/m/b", tmp_path) == {}
    for other, said in (("c", "'c': expected a loss: one of a, b"), (first, "A and B are both a; name two losses")):
        with pytest.raises(SpecError, match=said):
            compare._of_losses(first, other, tmp_path)


def test_losses_without_a_common_seed_are_refused():
    with pytest.raises(SpecError, match=r"no seed in common .seed0, seed1; seed2"):
        compare._with_equal_seeds(["d/m/a/seed0", "d/m/a/seed1"], ["d/m/b/seed2"])


def test_the_name_that_does_not_exist_is_blamed(tmp_path):
    for seed in range(2):
        folder = tmp_path / f"runs/d/m/a/seed{seed}"
        folder.mkdir(parents=True)
        (folder / "train.json").touch()
    known, nowhere = "d/m/a", str(tmp_path / "nope")
    for first, second in ((known, "no/pe"), ("no/pe", known), (known, "nope"), ("nope", known)):
        with pytest.raises(SpecError, match=r"no cell '(no/pe|nope)' among the 2 trained cells"):
            compare.compare(first, second, tmp_path)
    for first, second in ((str(tmp_path), nowhere), (nowhere, str(tmp_path))):
        with pytest.raises(SpecError, match=f"^{re.escape(nowhere)}: no such folder; compare two cells or two results"):
            compare.compare(first, second, tmp_path)
    with pytest.raises(SpecError, match=r"runs: has no `runs` folder, but .* is a results folder"):
        compare.compare(str(tmp_path), str(tmp_path / "runs"), tmp_path)
