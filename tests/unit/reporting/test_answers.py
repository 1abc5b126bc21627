"""The four answers, against means, intervals, counts and shares computed here from the same small tables."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.markers import MarkerStyle
from scipy import stats

import synthetic
from halobench.core.formatting import number
from halobench.core.plugins.facts import facts
from halobench.reporting import labels as names
from halobench.reporting.answers import maps, mixup, reach, temperature
from halobench.reporting.answers.answer import NO_FIT, NO_SCORE, Answer, Series
from halobench.reporting.answers.answers import answers, write_answers
from halobench.reporting.plotting.answer_panels import MOST_ROWS, answer_page, answers_page
from halobench.reporting.plotting.style import styled
from halobench.storage.columns import KEYS, SURVIVAL, SURVIVAL_COLUMNS
from halobench.storage.files import read_json
from synthetic import beside_maps, beside_searches, made, texts, words

PAIR, GROUP = ["dataset", "model"], ["dataset", "model", "loss"]
CE = "cross_entropy"
CORRECTION = 0.45  # test samples by training samples
MIXUP = ("mixup2", "mixup5")
FAMILY = facts("losses", "mixup").family
FITS = ("none", "paper", "exact")


def scored(
    values: Mapping[tuple[str, ...], Sequence[float]], metric: str = "nll", labels: str = "noisy"
) -> pd.DataFrame:
    """Test scores from values by data set, model, loss and calibrator, with a value per seed."""
    rows = [(*key, seed, value) for key, each in values.items() for seed, value in enumerate(each)]
    table = pd.DataFrame(rows, columns=[*GROUP, "calibrator", "seed", "value"])
    return table.assign(split="test", labels=labels, metric=metric)


def runs_of(metrics: pd.DataFrame, correction: float = CORRECTION) -> pd.DataFrame:
    runs = metrics[[*GROUP, "seed"]].drop_duplicates().assign(seed_correction=correction, noise=0.0, distribution="")
    runs = runs.assign(interpolates=True)
    return runs.assign(loss_family=runs["loss"].map(lambda loss: FAMILY if loss in MIXUP else ""))


def grid(
    pairs: Iterable[tuple[str, str]], losses: Iterable[str], fits: Iterable[str] = FITS, seeds: int = 4
) -> pd.DataFrame:
    """Scores that are lower for later fits and losses, with a spread over seeds that pairs share."""
    rng, values = np.random.default_rng(0), {}
    pairs, losses, fits = map(list, (pairs, losses, fits))
    for pair in pairs:
        level, shared = rng.uniform(1, 2), rng.normal(0, 0.1, seeds)
        for i, loss in enumerate(losses):
            for j, fit in enumerate(fits):
                values[(*pair, loss, fit)] = level * 0.9**i * 0.8**j + shared + rng.normal(0, 0.02, seeds)
    return scored(values)


PAIRS = [("digits", "mlp"), ("digits", "cnn"), ("mnist5k", "mlp")]


def by_hand(values: np.ndarray, correction: float = CORRECTION) -> tuple[float, float, float]:
    """The mean and its t interval, whose variance is widened as by Nadeau and Bengio."""
    n, mean = len(values), float(np.mean(values))
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) * np.sqrt(1 / n + correction)
    return mean, mean - half, mean + half


def seeds_of(metrics: pd.DataFrame, pair: tuple[str, str], loss: str, fit: str) -> np.ndarray:
    rows = metrics[(metrics["dataset"] == pair[0]) & (metrics["model"] == pair[1])]
    return rows[(rows["loss"] == loss) & (rows["calibrator"] == fit)].sort_values("seed")["value"].to_numpy()


def numbers(series) -> dict[tuple[str, ...], tuple[float, ...]]:
    """A series' mean and interval by pair, and by loss unless it pools them."""
    rows = series.values[[*GROUP, "mean", "low", "high"]].itertuples(index=False, name=None)
    return {tuple(filter(None, row[:3])): row[3:] for row in rows}


def span(values: Iterable[float], form: str) -> str:
    """The smallest and the largest value, as an answer writes them, and the median of three shares or more."""
    values = list(values)
    ends = [number(f(values), form) for f in (min, max)]
    middle = f" (median {number(np.median(values), form)}, {len(values)} pairs)" if form == ".0%" else ""
    return ends[0] if ends[0] == ends[1] else " to ".join(ends) + middle * (len(values) > 2)


@styled
def page(answer: Answer):
    """An answer's page; nothing may be warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = answer_page(answer)
        figure.draw_without_rendering()
    return figure


def dots(ax) -> np.ndarray:
    """The values of all dots on axes, sorted; ticks and lines aren't dots."""
    marks = [line for line in ax.lines if line.get_linestyle() == "None" and MarkerStyle(line.get_marker()).is_filled()]
    return np.sort(np.concatenate([np.asarray(line.get_xdata(), float) for line in marks]))


def in_order(ends: pd.DataFrame) -> np.ndarray:
    return ends.sort_values([*ends]).to_numpy(float)


def lines(ax, width: float) -> np.ndarray:
    """The ends of all horizontal lines of a width."""
    found = [c for c in ax.collections if isinstance(c, LineCollection) and c.get_linewidths()[0] == width]
    segments = [segment[:, 0] for each in found for segment in each.get_segments()]
    return in_order(pd.DataFrame(segments, columns=["low", "high"]))


def whole(answer: Answer) -> list[Series]:
    """The series of an answer but nulls, those of MLPs joined with those of other networks, which come first."""
    found: list[Series] = []
    nulls = [label for label, _ in reach.NULL_SERIES]
    for each in (each for each in answer.series if each.label not in nulls):
        if each.label in ("", "the same for MLPs"):
            found[-1] = replace(found[-1], values=pd.concat([found[-1].values, each.values]))
        else:
            found.append(each)
    return found


def drawn_numbers(answer: Answer) -> np.ndarray:
    return np.sort(np.concatenate([each.values["mean"].to_numpy(float) for each in answer.series]))


def full(cells=synthetic.DEMO, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, pd.DataFrame]:
    """Tables that answer all four questions."""
    given = made(*cells, seeds=seeds)
    return given | {"radii": beside_searches(given["radii"]), "metrics": beside_maps(given["metrics"])}


# What a temperature repairs -------------------------------------------------------------------------------------------


def test_the_share_that_a_temperature_removes_and_what_it_leaves_span_the_pairs():
    metrics = grid(PAIRS, [CE, "mixup2", "focal"])
    answer = temperature.temperature(metrics, runs_of(metrics))
    means = {(pair, fit): seeds_of(metrics, pair, CE, fit).mean() for pair in PAIRS for fit in FITS}
    removed = {fit: [1 - means[pair, fit] / means[pair, "none"] for pair in PAIRS] for fit in FITS}
    assert answer.short == (
        f"The temperature that is optimal on validation samples removes {span(removed['exact'], '.0%')} of the NLL"
        f" and leaves {span([means[pair, 'exact'] for pair in PAIRS], '.2f')} nats."
    )
    assert answer.detail == f"The paper's fit, which often stops early, removes {span(removed['paper'], '.0%')}."
    assert answer.limit.startswith("With cross-entropy. ")
    assert [each.label for each in answer.series] == [names.calibrator_label(fit) for fit in FITS]
    for fit, each in zip(FITS, answer.series, strict=True):
        found = numbers(each)
        assert set(found) == {(*pair, loss) for pair in PAIRS for loss in (CE, "mixup2")}, "of focal, nothing is shown"
        for (dataset, model, loss), values in found.items():
            assert values == pytest.approx(by_hand(seeds_of(metrics, (dataset, model), loss, fit)))
    without = temperature.temperature(metrics[metrics["calibrator"] != "paper"], runs_of(metrics))
    assert (without.short, without.detail, len(without.series)) == (answer.short, "", 2)


def test_the_kl_counts_where_the_posterior_is_known_and_else_the_nll():
    """Of the test split, and of the labels that `preferred_labels` chooses."""
    low = {("digits", "mlp", CE, "none"): [1.0, 1.0], ("digits", "mlp", CE, "exact"): [0.25, 0.25]}
    high = {key: [value + 5 for value in each] for key, each in low.items()}
    other = {("svhn", "cnn", *key[2:]): [4 * value for value in each] for key, each in low.items()}
    rows = [scored(low, "kl"), scored(high), scored(other, labels="drawn"), scored(other, labels="clean")]
    rows[-1] = rows[-1].assign(value=9.0)
    rows += [scored(high, "ece"), scored(low, "kl").assign(split="val", value=7.0)]
    metrics = pd.concat(rows, ignore_index=True)
    runs = runs_of(metrics, 0.0)
    said = "{}, the temperature that is optimal on validation samples removes 75% of the KL from the known posterior"
    said += " and leaves 0.25 nats. {}, it removes 75% of the NLL and leaves 1.00 nats."
    for digits, reason, others in (
        ({}, "With uncertain labels", "Without uncertain labels"),
        ({"noise": 0.5}, "With label noise", "Without label noise"),
        ({"distribution": "collage"}, "With planted overlap", "Without planted overlap"),
    ):
        named = runs.assign(
            **{name: runs[name].mask(runs["dataset"] == "digits", value) for name, value in digits.items()}
        )
        answer = temperature.temperature(metrics, named)
        assert answer.short == said.format(reason, others), "shares of a KL and of an NLL differ in meaning"
        assert ("official label" in answer.limit) == (digits == {"noise": 0.5})
        for shown, of_what in (
            (["digits"], " above that of the known posterior"),
            (["svhn"], ""),
            (["digits", "svhn"], ", above the posterior's if it is known"),
        ):
            axis = temperature.temperature(metrics[metrics["dataset"].isin(shown)], named).axis
            assert axis == f"test NLL{of_what}\n(nats; left is better)"
        assert [[*each.values["mean"]] for each in answer.series] == [[1.0, 4.0], [0.25, 1.0]]
    both = runs.assign(distribution=runs["dataset"].map({"digits": "overlap", "svhn": ""}))
    found = temperature.temperature(metrics, both).short
    assert found.startswith(f"On real data, {temperature.OPTIMAL_TEMPERATURE} removes 75% of the NLL")
    assert "On synthetic classes, it removes 75% of the KL" in found


@pytest.mark.parametrize(
    ("losses", "base", "said"),
    [
        (["mixup2", CE, "untrained", "reference"], CE, "cross-entropy"),
        (["mixup5", "mixup2", "zz_own", "untrained"], "mixup2", "2-point Mixup"),
        (["zz_own", "aa_own"], "aa_own", "aa_own"),
        (["untrained", "reference"], "untrained", "models trained elsewhere"),
    ],
)
def test_the_base_is_cross_entropy_or_else_the_first_loss_or_models_from_elsewhere(losses, base, said):
    tables = {"metrics": grid(PAIRS[:1], losses, [*FITS, "top_rest"])}
    tables |= {"runs": runs_of(tables["metrics"]), "radii": radii_of(PAIRS[:1], losses)}
    left = seeds_of(tables["metrics"], PAIRS[0], base, "exact").mean()
    far, warm, *others = answers(tables)
    assert warm.short.endswith(f" and leaves {left:.2f} nats.")
    assert [[*each.values["loss"].unique()] for each in far.series] == [[base]] * 5
    for answer in (far, warm, *(each for each in others if each.series)):
        assert f"ith {said}" in answer.limit or f"Only {said} is" in answer.limit or f"For {said}." in answer.limit
    compared = [loss for loss in losses if loss not in (base, "reference", "untrained")]
    assert {each.label for each in others[0].series} - {""} == {names.loss_label(loss) for loss in compared}


def test_an_answer_says_how_long_its_models_were_trained():
    """Beside the question wherever it is shown, since what a temperature removes depends on it."""
    metrics = grid(PAIRS, [CE, "mixup2"])
    runs = runs_of(metrics)
    answer = temperature.temperature(metrics, runs)
    assert "About networks trained until they fit all labels." in answer.note
    short = runs["interpolates"] & ~((runs["model"] == "cnn") & (runs["seed"] == 1))
    found = temperature.temperature(metrics, runs.assign(interpolates=short)).length
    assert found == "networks trained to the end (all epochs); 2 of 3 pairs fit all labels"
    elsewhere = grid(PAIRS, ["untrained"])
    assert temperature.temperature(elsewhere, runs_of(elsewhere)).length == "models trained elsewhere"


def test_models_and_pairs_that_an_answer_leaves_out_are_counted():
    """One pair has a seed without an optimal temperature, and another one seed only."""
    metrics = grid(PAIRS[:3], [CE, "mixup2"], ["none", "exact", "partner"])
    first, second = ((metrics["dataset"] == data) & (metrics["model"] == model) for data, model in PAIRS[:2])
    seeds = sorted(metrics["seed"].unique())
    exact = (metrics["calibrator"] == "exact") & (metrics["loss"] == CE)
    metrics.loc[first & exact & (metrics["seed"] == seeds[0]), "value"] = np.nan
    metrics = metrics[~second | (metrics["seed"] == seeds[0])]
    for answer in answers({"metrics": metrics, "runs": runs_of(metrics), "radii": radii_of(PAIRS[:1], [CE])})[1:]:
        assert " Left out: 1 model without an optimal temperature and 1 pair with one seed." in answer.limit
    whole = grid(PAIRS[:3], [CE, "mixup2"])
    assert "Left out" not in temperature.temperature(whole, runs_of(whole)).limit


def test_pairs_with_other_losses_have_bases_of_their_own():
    metrics = pd.concat([grid(PAIRS[:1], [CE, "mixup2"]), grid(PAIRS[1:], ["mixup5", "focal"])])
    answer = temperature.temperature(metrics, runs_of(metrics))
    assert answer.limit.startswith("With each pair's first loss. ")
    left = [seeds_of(metrics, PAIRS[0], CE, "exact").mean()]
    left += [seeds_of(metrics, pair, "focal", "exact").mean() for pair in PAIRS[1:]]
    assert f"leaves {span(left, '.2f')} nats" in answer.short
    assert "Against each pair's first loss" in mixup.mixup(metrics, runs_of(metrics)).short


# Whether Mixup avoids it ----------------------------------------------------------------------------------------------


def differences(gaps: Sequence[float], loss: str = "mixup2", spread: float = 0.1) -> pd.DataFrame:
    """Scores of a loss that differ from those of cross-entropy after TS by `gaps`, with this spread over 4 seeds."""
    values, noise = {}, spread * np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(5 / 3)  # a standard deviation of 1
    for i, gap in enumerate(gaps):
        fitted = np.array([1.0, 1.4, 0.8, 1.1])
        for fit in FITS:
            values[f"d{i}", "mlp", CE, fit] = fitted + {"none": 2.0, "paper": 5.0, "exact": 0.0}[fit]
            values[f"d{i}", "mlp", loss, fit] = fitted + gap + noise + (7 if fit != "none" else 0)
    return scored(values)


def test_a_pair_counts_if_its_widened_interval_excludes_zero():
    """The 4 seeds of a pair share samples, so an interval that would exclude 0 if they didn't may not."""
    half = stats.t.ppf(0.975, 3) * 0.1 * np.sqrt(1 / 4 + CORRECTION)
    assert stats.t.ppf(0.975, 3) * 0.1 / 2 < 0.99 * half
    metrics = differences([-1.01 * half, -0.99 * half, 0.99 * half, 1.01 * half, 2 * half])
    answer = mixup.mixup(metrics, runs_of(metrics))
    assert answer.question == "Does Mixup do better?"
    # Against the paper's temperature, which is worse by 5 nats, all are below 0.
    start = "Against cross-entropy with the optimal temperature, uncalibrated 2-point Mixup wins on {} of 5 pairs and"
    start += " loses on {}."
    paper = "Against the paper's temperature, 2-point Mixup wins on 5 of 5 pairs."
    assert (answer.short, answer.detail) == (start.format(1, 2), paper)
    (exact,) = map(numbers, answer.series)
    for i in range(5):
        pair = (f"d{i}", "mlp")
        raw, of_fit = seeds_of(metrics, pair, "mixup2", "none"), seeds_of(metrics, pair, CE, "exact")
        assert exact[pair] == pytest.approx(by_hand(raw - of_fit)), "the difference is paired by seed"
    assert [each.hollow for each in answer.series] == [False], "all are MLPs"
    models = {f"d{i}": "cnn" for i in range(3)}
    mixed = metrics.assign(model=metrics["dataset"].map(models).fillna("mlp"))
    answer = mixup.mixup(mixed, runs_of(mixed))
    assert [(each.hollow, [*each.values["model"].unique()]) for each in answer.series] == [
        (False, ["cnn"]),
        (True, ["mlp"]),
    ]
    assert answer.hollow == "hollow: MLPs"
    apart = mixup.mixup(metrics, runs_of(metrics, 0.0))
    assert apart.short == start.format(2, 3), "of independent seeds"
    alone = mixup.mixup(metrics[metrics["calibrator"] != "paper"], runs_of(metrics))
    assert (alone.short, alone.detail, alone.hollow, len(alone.series)) == (start.format(1, 2), "", "", 1)


def test_the_take_away_is_about_the_loss_that_wins_most_where_the_first_population_is():
    """Another form of Mixup that wins elsewhere doesn't count."""
    noisy = pd.concat([differences([-1.0, -1.0, 1.0, 1.0]), differences([1.0] * 4, "mixup5")])
    synthetic_ = differences([-1.0] * 4, "mixup3").replace({"dataset": {f"d{i}": f"s{i}" for i in range(4)}})
    metrics = pd.concat([noisy, synthetic_]).drop_duplicates([*GROUP, "calibrator", "seed"])
    runs = runs_of(metrics, 0.0)
    made_up = runs["dataset"].str.startswith("s")
    runs = runs.assign(noise=0.5 * ~made_up, distribution=np.where(made_up, "overlap", ""))
    runs["loss_family"] = runs["loss_family"].mask(runs["loss"] == "mixup3", FAMILY)
    said = "With label noise, uncalibrated 2-point Mixup beats calibrated cross-entropy on some pairs, loses on others."
    assert mixup.mixup(metrics, runs).takeaway == said


def test_pairs_with_uncertain_labels_are_counted_apart_and_pairs_of_one_seed_not_at_all():
    metrics = differences([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
    noisy = metrics[metrics["dataset"].isin(("d0", "d1", "d3"))]
    known = noisy.assign(metric="kl", value=noisy["value"] - 0.5)  # so the posterior's entropy is 0.5 nats
    metrics = pd.concat([metrics, known], ignore_index=True)
    metrics = metrics[(metrics["dataset"] != "d2") | (metrics["seed"] == 0)]
    answer = mixup.mixup(metrics, runs_of(metrics))
    assert answer.short == (
        "Against cross-entropy with the optimal temperature, with uncertain labels, uncalibrated 2-point Mixup wins on"
        " 2 of 3 pairs and loses on 1. Without uncertain labels, 2-point Mixup wins on 0 of 2 and loses on 2."
    )
    assert len(answer.series[0].values) == 6, "the figure has a dot for each pair"
    mapped = metrics.replace({"calibrator": {"paper": "partner"}})  # 5 nats worse than after the optimal temperature
    left = {
        metric: metrics[(metrics["calibrator"] == "exact") & (metrics["metric"] == metric)] for metric in ("nll", "kl")
    }
    shares = {
        name: 5 / rows[rows["loss"] == CE].groupby("dataset")["value"].mean().max() for name, rows in left.items()
    }
    assert maps.maps(mapped, runs_of(mapped)).short.startswith(
        f"Partner scaling adds {shares['kl']:.0%} of what the optimal temperature leaves with uncertain labels; it"
        " lowers the NLL on 0 of 3 pairs and raises it on 3. Without uncertain labels, it adds"
        f" {shares['nll']:.0%}; it lowers the NLL on 0 of 2 pairs and raises it on 2."
    )
    alike = metrics[metrics["dataset"].isin(("d0", "d1", "d3"))]
    assert ", with" not in mixup.mixup(alike, runs_of(alike)).short


def test_one_seed_has_no_interval_and_nothing_counts():
    metrics = differences([-0.3, 0.001, 0.3], spread=0)
    metrics = metrics[metrics["seed"] == 0]
    answer = mixup.mixup(metrics, runs_of(metrics))
    changes = "changes the NLL by −0.300 to 0.300 nats on 3 pairs with one seed."
    assert answer.short.endswith(f" uncalibrated 2-point Mixup {changes}")
    assert answer.limit.endswith(
        " One seed: pairs are shown, but not counted; the table metrics has intervals over test samples."
    )
    mapped = metrics.replace({"loss": {"mixup2": CE}, "calibrator": {"none": "partner"}})
    mapped = pd.concat([metrics[(metrics["loss"] == CE)], mapped[metrics["loss"] == "mixup2"]])
    mapped = mapped.drop_duplicates([*GROUP, "calibrator", "seed"], keep="last")
    assert "with one seed" in maps.maps(mapped, runs_of(mapped)).short
    assert all(each.values[["low", "high"]].isna().all(axis=None) for each in answer.series)
    np.testing.assert_allclose(dots(page(answer).axes[0]), drawn_numbers(answer))


def subjects(text: str) -> list[str]:
    """The losses that win or not, in lower case, in the last comparison with them."""
    compared = re.split(r"(?<=\.) (?=Against)", text)[-1].partition(" temperature, ")[2]
    named = [re.split(" wins on | loses on all ", part)[0] for part in re.split(r"; |\. ", compared)]
    return [name.rpartition(", ")[2].removeprefix("uncalibrated ").lower() for name in named]


def test_mixup_is_answered_first_then_other_losses_and_of_many_the_rest_are_counted():
    losses = [CE, "focal", "label_smoothing", "mixup5", "zz_own", "mixup2", "brier"]
    metrics = grid(PAIRS, losses)
    answer = mixup.mixup(metrics, runs_of(metrics))
    shown = [each.label for each in answer.series if each.label]
    assert shown[:2] == ["2-point Mixup", "5-point Mixup"]
    assert len(shown) == mixup.MOST_LOSSES_IN_AN_ANSWER
    assert subjects(answer.short) == 2 * [name.lower() for name in shown[:2]], "MLPs, then other networks"
    assert re.findall("On MLPs|on MLPs|On other networks", answer.short) == ["on MLPs", "On other networks"]
    unknown = mixup.mixup(
        metrics.replace({"model": {"cnn": "own"}}), runs_of(metrics.replace({"model": {"cnn": "own"}}))
    )
    assert subjects(unknown.short) == [name.lower() for name in shown[:2]], "unsplit if a kind isn't known"
    assert subjects(answer.detail) == [name.lower() for name in shown[2:]]
    assert answer.words["detail"] == f"{answer.detail} 2 more losses are in the leaderboard."
    metrics = metrics.replace({"loss": dict.fromkeys(MIXUP, "mixup_own")})  # which has no family
    other = mixup.mixup(metrics.drop_duplicates([*GROUP, "calibrator", "seed"]), runs_of(metrics))
    assert other.question == "Does another loss do better?"
    assert (len(subjects(other.short)), len(subjects(other.detail))) == (2, 3)


# What repairs the rest ------------------------------------------------------------------------------------------------


def test_maps_are_compared_with_the_optimal_temperature_and_ones_own_come_first():
    fits = [*FITS, "oracle", "partner", "auto", "top_rest", "matrix", "local", "zz_own", "probmetrics/other"]
    metrics = grid(PAIRS, [CE, "mixup2"], fits)
    answer = maps.maps(metrics, runs_of(metrics))
    shown = [each.label for each in answer.series]
    means = {fit: np.mean([seeds_of(metrics, pair, CE, fit).mean() for pair in PAIRS]) for fit in fits[4:]}
    best = min(means, key=lambda fit: means[fit])
    assert shown[:4] == list(map(names.calibrator_label, (best, "zz_own", "partner", "auto"))), "the best one leads"
    assert len(shown) == maps.MOST_MAPS_IN_AN_ANSWER
    gaps = {
        (fit, pair): seeds_of(metrics, pair, CE, fit) - seeds_of(metrics, pair, CE, "exact")
        for fit in (best, "zz_own", "partner")
        for pair in PAIRS
    }
    left = {pair: seeds_of(metrics, pair, CE, "exact").mean() for pair in PAIRS}
    ends = {key: by_hand(values) for key, values in gaps.items()}
    own, partner = (re.search(rf"{name} .*", answer.detail)[0] for name in ("Zz_own", "Partner scaling"))
    for fit, said in ((best, answer.short), ("zz_own", own), ("partner", partner)):
        share = span([-ends[fit, pair][0] / left[pair] for pair in PAIRS], ".0%")
        won, lost = (sum(f(ends[fit, pair]) for pair in PAIRS) for f in (lambda e: e[2] < 0, lambda e: e[1] > 0))
        start = f"{names.calibrator_label(fit)} removes {share} of what the optimal temperature leaves;"
        start = f"{start[0].upper()}{start[1:]}"
        assert said.startswith(f"{start} it lowers the NLL on {won} of 3 pairs and raises it on {lost}.")
    for fit, each in zip((best, "zz_own", "partner"), answer.series, strict=False):
        found = numbers(each)
        assert found == {pair: pytest.approx(ends[fit, pair]) for pair in PAIRS}
    left_out = {names.calibrator_label(fit) for fit in fits[4:]} - {*shown}
    assert {*answer.more.removeprefix("Not shown: ").removesuffix(".").split(", ")} == left_out
    assert answer.words["detail"] == f"{answer.detail} {answer.more}"
    ticks = answer.spans.set_index(PAIR)
    assert (ticks["low"] == ticks["high"]).all()
    assert ticks["low"].to_dict() == pytest.approx({pair: -value for pair, value in left.items()}), "all of it"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((0.05, 0.1, 0.2), "adds 10% to 40% of"),
        ((0.05, 0.1, np.inf), "adds 10% or more of"),
        ((np.inf, np.inf, np.inf), "adds infinitely much of"),
        ((-0.1, 0.1, 0.2), "removes 20% (and adds 20% to 40% on 2 of 3 pairs) of"),
        ((-0.1, 0.1, np.inf), "removes 20% (and adds 20% or more on 2 of 3 pairs) of"),
        ((-0.1, -0.05, np.inf), "removes 10% to 20% (and adds infinitely much on 1 of 3 pairs) of"),
        ((0.0, 0.0, 0.0), "removes 0% of"),
    ],
)
def test_a_map_that_raises_the_nll_adds_to_what_is_left(changes, said):
    values = {(*pair, CE, "exact"): [0.5] * 3 for pair in PAIRS}
    values |= {(*pair, CE, "top_rest"): [0.5 + change] * 3 for pair, change in zip(PAIRS, changes, strict=True)}
    metrics = scored(values)
    assert said in maps.maps(metrics, runs_of(metrics)).short


def test_a_map_on_data_that_its_form_was_chosen_on_removes_a_share_with_a_caveat_and_never_most():
    """Beside the take-away wherever it is shown; other people's data and logits have none."""

    def answered(data: Sequence[str], left: float, loss: str = CE) -> Answer:
        fits = {"exact": 1.0, "partner": left}
        values = {(name, "mlp", loss, fit): [x, x, x] for name in data for fit, x in fits.items()}
        metrics = scored({key: np.add(each, [-0.01, 0, 0.01]) for key, each in values.items()})
        metrics.loc[metrics["calibrator"] == "partner", "value"] += 1e-3 * metrics["seed"]
        return maps.maps(metrics, runs_of(metrics, 0.0))

    chosen, others = ["digits", "digits-noise50", "mnist5k-noise50", "overlap-k4"], ["a", "my-digits", "digits2", "d"]
    half = answered(chosen, 0.499)
    assert half.caveat == "on data used to choose its form"
    title = "Partner scaling removes about half (median 50%) of what a temperature leaves"
    title += ", on data used to choose its form."
    assert half.lead == half.title == half.words["lead"] == title
    assert " ".join(title.split()) in words(page(half))
    assert "removes most (median 70%) of what a temperature leaves." in answered(others, 0.299).lead
    assert "removes a median 70% of what a temperature leaves, on data used" in answered(chosen, 0.299).lead
    some = answered([*chosen[:3], *others], 0.899)
    assert some.lead.endswith("a temperature leaves, partly on data used to choose its form (3 of 7 pairs).")
    assert answered(others, 0.499).caveat == answered(chosen, 0.499, "untrained").caveat == ""


# How far certainty reaches --------------------------------------------------------------------------------------------

QUANTITIES = (
    ("sphere", "certainty", "none", 0.8),
    ("adversarial", "certainty", "none", 0.1),
    ("adversarial", "certainty", "exact", 0.05),
    ("nearest_other", "decision", "none", 0.5),
    ("adversarial", "half_spaces", "none", 0.6),
)


def reach_of(radii: pd.DataFrame, runs: pd.DataFrame) -> Answer:
    """The answer from radii alone, without scores from which a posterior would be known."""
    return reach.reach(radii, runs, pd.DataFrame(columns=[*KEYS, "split", "labels", "calibrator", "metric", "value"]))


def radii_of(
    pairs: Iterable[tuple[str, str]],
    losses: Iterable[str] = (CE,),
    seeds: int = 3,
    points: Sequence[str] = ("train", "heldout"),
) -> pd.DataFrame:
    """Median relative radii by probe and quantity; around held-out samples, others."""
    rng, rows = np.random.default_rng(1), []
    for (dataset, model), loss in [(pair, loss) for pair in pairs for loss in losses]:
        for probe, quantity, fit, middle in QUANTITIES:
            for seed, kind in [(seed, kind) for seed in range(seeds) for kind in points]:
                low = 0 if fit == "exact" else 0.8  # so that an interval would end below 0
                radius = middle * rng.uniform(low, 2 - low) * (3 if kind == "heldout" else 1)
                row = {"dataset": dataset, "model": model, "loss": loss, "seed": seed, "points": kind, "probe": probe}
                row |= {"kind": probe, "quantity": quantity, "calibrator": fit, "relative_median": radius}
                row |= dict(zip(SURVIVAL_COLUMNS, (np.array(SURVIVAL) < radius).astype(float), strict=True))
                rows.append(row | {"censored": 0.0, "threshold": 0.9 if quantity == "certainty" else np.nan})
    return pd.DataFrame(rows)


def medians(radii: pd.DataFrame, which: Sequence[str], loss: str = CE) -> dict[tuple[str, str], np.ndarray]:
    probe, quantity, fit = which
    rows = radii[(radii["points"] != "heldout") & (radii["loss"] == loss) & (radii["probe"] == probe)]
    rows = rows[(rows["quantity"] == quantity) & (rows["calibrator"] == fit)]
    return {pair: part.sort_values("seed")["relative_median"].to_numpy() for pair, part in rows.groupby(PAIR)}


def test_the_reach_is_a_range_of_medians_by_direction():
    radii = radii_of(PAIRS, [CE, "mixup2"])
    runs = runs_of(radii)
    answer = reach_of(radii, runs)
    found = [medians(radii, which[:3]) for which in QUANTITIES]
    random, worst, after, changes = (span([values.mean() for values in each.values()], ".0%") for each in found[:-1])
    ratios = [values.mean() / found[-1][pair].mean() for pair, values in found[0].items()]
    assert answer.short == (
        f"In the worst direction found, certainty ends after {worst} of the distance to the nearest sample with another"
        f" label; in random directions, after {random}."
    )
    assert answer.detail == (
        f"In random directions, compared with boundaries that are flat at the worst distance, it reaches"
        f" {span(ratios, '.1f')} times as far (at most twice as far on {sum(x <= 2 for x in ratios)} of 3 pairs). After"
        f" the optimal temperature, certainty ends in the worst direction found after {after}. The decision, which no"
        f" temperature alters, changes towards the nearest other class after {changes}."
    )
    assert (
        "confidence above 0.9, uncalibrated unless stated, with cross-entropy; medians around training" in answer.limit
    )
    assert "evaluation" not in answer.limit
    assert len(answer.series) == 6, "random directions of MLPs have a colour of their own"
    for each, values in zip(whole(answer), found, strict=False):
        shown = numbers(each)
        assert set(shown) == {(*pair, CE) for pair in PAIRS}
        for pair in PAIRS:
            mean, low, high = by_hand(values[pair])
            assert shown[*pair, CE] == pytest.approx((mean, max(low, 0.0), high))
    assert (whole(answer)[2].values["low"] == 0).any()
    assert [each.hollow for each in whole(answer)] == [False, False, True, False]
    of_both = reach_of(radii, runs.assign(noise=runs["dataset"].eq("digits") * 0.5))
    of_noise = [ratio for ratio, pair in zip(ratios, found[0], strict=True) if pair[0] == "digits"]
    counted = f"{sum(x <= 2 for x in of_noise)} of {len(of_noise)} pair{'s' * (len(of_noise) > 1)}"
    assert f" {span(of_noise, '.1f')} times as far (at most twice as far on {counted}) with" in of_both.detail
    noisy = of_both.short
    parts = [
        [values[pair].mean() for pair in PAIRS if (pair[0] == "digits") == on] for values in found[:2] for on in (1, 0)
    ]
    assert noisy.startswith(
        f"With label noise, in the worst direction found, certainty ends after {span(parts[2], '.0%')} of"
    )
    assert noisy.endswith(
        f"; in random directions, after {span(parts[0], '.0%')}. Without label noise, it ends after"
        f" {span(parts[3], '.0%')}; in random directions, after {span(parts[1], '.0%')}."
    )
    ends = answer.spans.set_index(PAIR)
    assert ends["low"].to_dict() == pytest.approx({pair: values.mean() for pair, values in found[4].items()})
    assert np.isinf(ends["high"]).all()


def test_certainty_is_compared_with_linear_models_and_held_out_samples_and_noise_is_not_its_cause():
    """Of held-out samples, those of whose label a network is certain, since it may not predict a flipped label."""
    pairs = [*PAIRS, ("digits-noise", "mlp"), ("digits", "linear")]
    radii = radii_of(pairs)
    runs = runs_of(radii)
    runs = runs.assign(noise=(runs["dataset"] == "digits-noise") * 0.5)
    worst = (radii["probe"] == "adversarial") & (radii["quantity"] == "certainty") & (radii["calibrator"] == "none")
    away = worst & (radii["points"] == "heldout")
    radii.loc[worst, [*SURVIVAL_COLUMNS]] = np.interp(SURVIVAL, [0, 0.2], [1, 0])  # certain up to 10% on the median
    radii.loc[worst & (radii["model"] == "linear"), [*SURVIVAL_COLUMNS]] = np.interp(SURVIVAL, [0, 0.1], [0.9, 0])
    noisy = away & (radii["dataset"] == "digits-noise")  # the median of all held-out samples is 0
    radii.loc[noisy, [*SURVIVAL_COLUMNS]] = np.interp(SURVIVAL, [0, 0.14], [0.3, 0])
    radii.loc[noisy, "relative_median"] = 0.0
    answer = reach_of(radii, runs)
    assert answer.null == (
        "For comparison, medians over samples that models are certain of: 5% in linear models (1 pair); with label"
        " noise, 7% around held-out and 10% around training samples (1 pair); without label noise, 10% and 10%"
        " (3 pairs)."
    )
    assert answer.takeaway == "Certainty ends soon in the worst direction, much later in random ones."
    drawn = {each.label: each.values for each in answer.series}
    assert drawn["worst direction, linear models"]["mean"].tolist() == pytest.approx([0.05])
    assert len(drawn["worst direction, certain held-out samples"]) == 4
    assert "linear" not in {*drawn["certain, worst direction"]["model"]}, "a null is no pair"
    (ax,) = page(answer).axes
    assert ax.get_xscale() == "symlog"
    assert len(reach_of(radii[radii["model"] == "linear"], runs).series) > 2, "linear models alone are models"


def test_a_censored_median_is_a_lower_bound_in_words_and_an_open_mark():
    """It is one if, for some seed, more than half of the rays never got there."""
    radii = radii_of(PAIRS)
    at = (radii["dataset"] == "mnist5k") & (radii["seed"] == 1) & (radii["probe"] == "sphere")
    for censored, said in ((0.5, False), (0.51, True)):
        answer = reach_of(radii.assign(censored=radii["censored"].mask(at, censored)), runs_of(radii))
        assert answer.short.endswith(" or more.") == said
        ratio = whole(answer)[0].values.set_index(PAIR)["mean"] / answer.spans.set_index(PAIR)["low"]
        known = [pair for pair in ratio.index if not (said and pair[0] == "mnist5k")]
        assert f"at most twice as far on {(ratio[known] <= 2).sum()} of 3 pairs" in answer.detail
        assert [each.values["open"].sum() for each in whole(answer)] == [int(said), 0, 0, 0]
        (ax,), mean = page(answer).axes, whole(answer)[0].values.set_index("dataset").loc["mnist5k", "mean"]
        hollow = [float(x) for line in ax.lines if line.get_marker() == ">" for x in line.get_xdata()]
        assert hollow == ([pytest.approx(mean)] if said else [])
        assert ("larger than shown" in words(page(answer))) == said


def test_the_null_is_one_of_random_directions_from_the_attack():
    radii = radii_of(PAIRS)
    answer = reach_of(radii, runs_of(radii))
    assert "random direction, if boundaries were flat" in words(page(answer))
    at_once = radii.assign(relative_median=radii["relative_median"].mask(radii["quantity"] == "half_spaces", 0.0))
    assert "boundaries that are flat" in answer.detail
    assert "boundaries that are flat" not in reach_of(at_once, runs_of(radii)).detail
    for fewer in (radii[radii["probe"] != "sphere"], radii[radii["quantity"] != "half_spaces"]):
        without = reach_of(fewer, runs_of(radii))
        assert without.spans.empty
        assert "flat boundaries" not in without.detail + without.limit
        assert "null" not in words(page(without))
        np.testing.assert_allclose(dots(page(without).axes[0]), drawn_numbers(without))


def test_other_directions_stand_in_for_random_and_worst_ones():
    radii = radii_of(PAIRS).replace({"sphere": "manifold", "adversarial": "nearest_other"})
    found = {
        which: medians(radii, which)
        for which in (("manifold", *QUANTITIES[0][1:3]), ("nearest_other", *QUANTITIES[1][1:3]))
    }
    random, worst = (span([values.mean() for values in each.values()], ".0%") for each in found.values())
    assert reach_of(radii, runs_of(radii)).short == (
        f"Towards the nearest other class, certainty ends after {worst} of the distance to it; along principal"
        f" components, after {random}."
    )
    alone = reach_of(radii[radii["probe"] == "manifold"], runs_of(radii))
    assert alone.short == (
        f"Along principal components, certainty ends after {random} of the distance to the nearest sample with another"
        " label."
    )
    assert alone.detail == ""


def test_models_from_elsewhere_are_probed_around_evaluation_samples():
    """The limits name these samples if any model of the answer was, not if such models are left out of it."""
    elsewhere = radii_of(PAIRS[:1], ["untrained"], points=("evaluation",))
    given = reach_of(elsewhere, runs_of(elsewhere))
    assert "with models trained elsewhere; medians around evaluation points" in given.limit
    both = pd.concat([elsewhere, radii_of(PAIRS[1:])])
    answer = reach_of(both, runs_of(both))
    assert "evaluation" not in answer.limit
    assert {*answer.series[0].values["loss"]} == {CE}


# What is missing, and what can't be computed --------------------------------------------------------------------------


def test_an_answer_that_is_missing_says_what_to_add():
    metrics, radii = grid(PAIRS, [CE, "mixup2"], [*FITS, "top_rest"]), radii_of(PAIRS)
    tables = {"metrics": metrics, "radii": radii, "runs": runs_of(metrics)}
    assert all(answer.series and answer.limit for answer in answers(tables))

    def unanswered(**changes: pd.DataFrame) -> dict[str, str]:
        found = answers(tables | changes)
        assert [answer.key for answer in found] == ["reach", "temperature", "mixup", "maps"]
        assert all(bool(answer.series) != bool(not answer.limit) for answer in found)
        for answer in (answer for answer in found if not answer.series):
            said = words(page(answer))
            assert not page(answer).axes
            assert answer.short in said
            assert answer.question in said
        return {answer.key: answer.short for answer in found if not answer.series}

    def only(column: str, *kept: str) -> pd.DataFrame:
        return metrics[metrics[column].isin(kept)]

    assert unanswered(radii=radii.iloc[:0]) == {"reach": reach.MISSING}
    assert unanswered(radii=radii[radii["quantity"] == "decision"]) == {"reach": reach.MISSING}
    assert unanswered(radii=radii[radii["points"] == "heldout"]) == {"reach": reach.MISSING}
    assert unanswered(metrics=only("loss", CE)) == {"mixup": mixup.MISSING}
    assert unanswered(metrics=only("calibrator", *FITS, "oracle")) == {"maps": maps.MISSING}
    no_exact = f"{NO_FIT['exact']} Add `exact` to `calibrators`."
    expected = {"temperature": no_exact, "mixup": no_exact, "maps": no_exact}
    assert unanswered(metrics=only("calibrator", "none", "paper", "top_rest")) == expected
    no_raw = f"{NO_FIT['none']} Add `none` to `calibrators`."
    assert unanswered(metrics=only("calibrator", "exact", "top_rest")) == {"temperature": no_raw, "mixup": no_raw}
    failed = metrics.assign(value=metrics["value"].mask(metrics["calibrator"] == "exact"))
    assert unanswered(metrics=failed) == dict.fromkeys(expected, NO_SCORE["exact"])
    nothing = words(answers_page(answers(tables | {"radii": radii.iloc[:0], "metrics": only("calibrator", "paper")})))
    assert "None of the four questions is answered" in nothing
    assert all(
        " ".join(text.split()) in nothing for text in (reach.MISSING, no_raw, mixup.MISSING) if text != mixup.MISSING
    )


def test_a_fit_that_failed_on_a_pair_is_left_out_of_its_share_only():
    """Shares are of the scores of the same pair, whichever pairs a fit lacks."""
    metrics = grid(PAIRS, [CE, "mixup2"], [*FITS, "top_rest", "matrix"])

    def without(fit: str, *pairs: tuple[str, str]) -> pd.DataFrame:
        at = pd.MultiIndex.from_frame(metrics[PAIR]).isin(pairs) & (metrics["calibrator"] == fit)
        return metrics.assign(value=metrics["value"].mask(at))

    order = [
        tuple(row) for row in temperature.temperature(metrics, runs_of(metrics)).series[0].values[PAIR].values[::2]
    ]
    rest = order[1:]
    answer = temperature.temperature(without("exact", order[0]), runs_of(metrics))
    means = {(pair, fit): seeds_of(metrics, pair, CE, fit).mean() for pair in PAIRS for fit in FITS}
    removed = [1 - means[pair, "exact"] / means[pair, "none"] for pair in rest]
    assert f" removes {span(removed, '.0%')} of the NLL" in answer.short
    assert f" leaves {span([means[pair, 'exact'] for pair in rest], '.2f')} nats" in answer.short
    np.testing.assert_allclose(dots(page(answer).axes[0]), drawn_numbers(answer))
    counted = re.findall(r" wins on \d of (\d)", mixup.mixup(without("exact", order[0]), runs_of(metrics)).short)
    assert sum(map(int, counted)) == 2
    for table, shown in ((without("exact", order[0]), 2), (without("top_rest", *order[:2]), 3)):
        answer = maps.maps(table, runs_of(metrics))
        assert len(answer.spans) == shown
        np.testing.assert_allclose(dots(page(answer).axes[0]), drawn_numbers(answer))
    only_gap = without("top_rest", order[0])
    only_gap = only_gap[only_gap["calibrator"] != "matrix"]
    answer = maps.maps(only_gap, runs_of(metrics))
    assert {tuple(pair) for pair in answer.spans[PAIR].values} == {*rest}, "no tick where there is no dot"
    np.testing.assert_allclose(dots(page(answer).axes[0]), drawn_numbers(answer))
    nowhere = maps.maps(without("top_rest", *order), runs_of(metrics))
    assert [each.label for each in nowhere.series] == [names.calibrator_label("matrix")]


def test_an_infinite_nll_loses_and_is_beyond_every_axis():
    """With an interval of its own it would be none; other dots keep their places."""
    metrics = grid(PAIRS, [CE, "mixup2"], [*FITS, "top_rest"])
    first = (metrics["dataset"] == "mnist5k") & (metrics["seed"] == 0)
    raw = metrics.assign(value=metrics["value"].mask(first & (metrics["calibrator"] == "none"), np.inf))
    answer = mixup.mixup(raw, runs_of(metrics))
    before = mixup.mixup(metrics, runs_of(metrics))
    lost = [sum(map(int, re.findall(r"loses on (\d)", each.short))) for each in (before, answer)]
    exact = whole(before)[0].values.set_index(PAIR).loc[PAIRS[2]]
    assert lost[1] == lost[0] + (not exact["low"] > 0)
    warm = temperature.temperature(raw, runs_of(metrics))
    assert " to 100% (median " in warm.short, "all of an infinite excess"
    mapped = metrics.assign(value=metrics["value"].mask(first & (metrics["calibrator"] == "top_rest"), np.inf))
    gap = maps.maps(mapped, runs_of(metrics))
    assert "∞" not in gap.short, "a pair that loses without end counts, but has no share"
    assert "raises it on 1." in gap.short
    assert "top-versus-rest scaling (infinite on 1 pair)" in words(page(gap))
    for each in (answer, warm, gap):
        (ax,) = page(each).axes
        assert np.isfinite(ax.get_xlim()).all()
        np.testing.assert_allclose(dots(ax), drawn_numbers(each))


def test_one_cell_is_enough():
    metrics = grid(PAIRS[:1], [CE, "mixup2"], [*FITS, "top_rest"], seeds=1)
    radii = radii_of(PAIRS[:1], seeds=1)
    for answer in answers({"metrics": metrics, "radii": radii, "runs": runs_of(metrics)}):
        assert answer.series
        assert " to " not in answer.short.replace("distance to the nearest", "")
        np.testing.assert_allclose(dots(page(answer).axes[0]), drawn_numbers(answer))
    same = metrics.assign(value=1.0)
    for answer in answers({"metrics": same, "radii": radii.assign(relative_median=1.0), "runs": runs_of(metrics)}):
        low, high = page(answer).axes[0].get_xlim()
        assert low < high, "also if all dots are in one place"


# Figures and words ----------------------------------------------------------------------------------------------------


def test_pairs_share_a_row_if_there_are_too_many():
    """All dots of a data set are then in its row, without intervals; else each pair has its row, in order."""
    for models, pooled in ((8, False), (9, True)):
        pairs = [(dataset, f"m{i}") for dataset in ("digits", "mnist5k", "svhn") for i in range(models)]
        assert (len(pairs) > MOST_ROWS) == pooled
        metrics = grid(pairs, [CE, "mixup2", "mixup5"], [*FITS, "top_rest"], seeds=2)
        tables = {"metrics": metrics, "radii": radii_of(pairs), "runs": runs_of(metrics)}
        for answer in answers(tables):
            (ax,) = page(answer).axes
            ticks = [" ".join(tick.get_text().split()) for tick in ax.get_yticklabels()]
            many = pooled and answer.key != "temperature"  # which then shows the base loss alone, in joined dots
            assert len(ticks) == (3 if many else len(pairs)), answer.key
            np.testing.assert_allclose(dots(ax), drawn_numbers(answer))
            if many:
                assert ticks == [names.dataset_label(name) for name in ("digits", "mnist5k", "svhn")]
                heights = [y for line in ax.lines if line.get_linestyle() == "None" for y in line.get_ydata()]
                assert {*np.round(heights)} == {0, 1, 2}
            else:
                assert ticks == [f"{names.dataset_label(d)} {m}" for d, m in pairs] or all(
                    m in tick for (_, m), tick in zip(pairs, ticks, strict=True)
                )


@pytest.mark.parametrize("models", [2, 9])
def test_rows_of_each_population_stand_below_its_name(models):
    pairs = [(dataset, f"m{i}") for dataset in ("digits", "mnist5k", "svhn") for i in range(models)]
    metrics = grid(pairs, [CE, "mixup2"], FITS, seeds=2)
    runs = runs_of(metrics)
    answer = mixup.mixup(metrics, runs.assign(noise=np.where(runs["dataset"] == "mnist5k", 0.5, 0.0)))
    (ax,) = page(answer).axes
    ticks = [" ".join(tick.get_text().split()) for tick in ax.get_yticklabels()]
    rows = len(ticks) - 2
    assert ticks[0] == "With label noise"
    assert ticks[1 + rows // 3] == "Without label noise"
    heights = {round(y) for line in ax.lines if line.get_linestyle() == "None" for y in line.get_ydata()}
    assert heights == {*range(len(ticks))} - {0, 1 + rows // 3}, "a heading has no dots"
    assert all("MNIST" in tick for tick in ticks[1 : 1 + rows // 3])
    np.testing.assert_allclose(dots(ax), drawn_numbers(answer))


def test_every_figure_draws_the_values_of_its_answer():
    tables = full(seeds=(0, 1))
    found = answers(tables)
    assert all(answer.series for answer in found)
    for answer in found:
        figure = page(answer)
        (ax,) = figure.axes
        np.testing.assert_allclose(dots(ax), drawn_numbers(answer))
        text = words(figure)
        assert " ".join(answer.title.split()) in text
        assert " ".join(answer.note.split()) in text
        assert {each.label for each in answer.series} - {""} <= {*texts(figure)}
        ends = [each.values[["low", "high"]] for each in answer.series]
        if answer.joined:
            means = pd.concat([each.values for each in answer.series]).groupby(GROUP)["mean"]
            ends = [pd.DataFrame({"low": means.min(), "high": means.max()})]
        np.testing.assert_allclose(lines(ax, 2.5 if answer.joined else 1.0), in_order(pd.concat(ends)))
        if answer.key == "reach":
            bars = answer.spans[["low", "high"]].clip(upper=ax.get_xlim()[1])
            np.testing.assert_allclose(lines(ax, 6.0), in_order(bars))
        np.testing.assert_allclose(dots(synthetic.plain(answer.key, tables).axes[0]), drawn_numbers(answer))
    summary = synthetic.plain("summary", tables)
    panels = [dots(ax) for ax in summary.axes]
    for answer in found:
        assert any(len(x) == len(y) and np.allclose(x, y) for x in panels for y in [drawn_numbers(answer)]), answer.key
        assert " ".join(answer.title.split()) in words(summary)
        assert " ".join(answer.note.split()) in words(summary)


@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_rows_changes_nothing(seed):
    tables = full()
    shuffled = {name: tables[name].sample(frac=1, random_state=seed) for name in ("metrics", "radii", "runs")}
    for one, two in zip(answers(tables), answers(shuffled), strict=True):
        assert one.words == two.words
        assert [each.label for each in one.series] == [each.label for each in two.series]
        for first, second in zip(one.series, two.series, strict=True):
            pd.testing.assert_frame_equal(first.values, second.values, rtol=1e-12)
        pd.testing.assert_frame_equal(one.spans, two.spans, rtol=1e-12)


@pytest.mark.parametrize(
    "cells", [synthetic.DEMO, synthetic.LARGE[::2], synthetic.DEMO[:2]], ids=["demo", "large", "one"]
)
def test_a_sentence_has_the_numbers_that_its_dots_span(cells):
    """As ranges of the dots of cross-entropy, or counts of dots on each side of 0."""
    far, warm, mix, maps_ = answers(full(tuple(cells)))

    def ends(series, form: str) -> list[str]:
        values = series.values[series.values["loss"].isin((CE, ""))]["mean"]
        return [number(values.min(), form), number(values.max(), form)]

    random, worst, after, changes = whole(far)
    assert all(end in far.short for series in (random, worst) for end in ends(series, ".0%"))
    assert all(end in far.detail for series in (after, changes) for end in ends(series, ".0%"))
    assert all(f"{end}" in warm.short for end in ends(warm.series[-1], ".2f"))
    for series in (each for each in whole(mix) if each.label.endswith("Mixup")):
        said = re.findall(rf"{series.label} wins on (\d+) of (\d+)(?: pairs?)?(?: and loses on (\d+))?", mix.short)
        values = series.values
        won, lost = int((values["high"] < 0).sum()), int((values["low"] > 0).sum())
        assert [sum(int(each[i] or 0) for each in said) for i in range(3)] == [won, len(values), lost]
    values = maps_.series[0].values
    said = re.findall(r"lowers the NLL on (\d+) of (\d+) pairs? and raises it on (\d+)", maps_.short)
    won, lost = int((values["high"] < 0).sum()), int((values["low"] > 0).sum())
    assert [sum(int(each[i]) for each in said) for i in range(3)] == [won, len(values), lost]


def test_answers_are_written_in_words(tmp_path):
    given = answers(full())
    write_answers(tmp_path / "answers.json", given)
    written = read_json(tmp_path / "answers.json", ["answers"])["answers"]
    assert [each["key"] for each in written] == ["reach", "temperature", "mixup", "maps"]
    for each, answer in zip(written, given, strict=True):
        data = {"length", "null", "caveat", "lead"}
        assert set(each) == {"key", "question", "takeaway", "short", "detail", "limit", *data}
        assert each["length"].removeprefix("cross-entropy ") == "networks trained until they fit all labels"
        assert re.search(r"\d.*\.$", each["null"]), each["key"]
        assert all(each[name] == getattr(answer, name) for name in each)
        assert each["question"].endswith("?")
        for text in (each["short"], each["detail"], each["limit"]):
            assert not text or (not text[0].islower() and text.endswith("."))
            assert "nan" not in text.lower().split()
            assert "  " not in text
