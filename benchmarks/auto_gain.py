"""Compare the gain that `halobench.fit_auto` states with the true one: `python benchmarks/auto_gain.py [SETTING ...]`.

The kinds of logits below are *weak*: a richer map gains nothing over temperature scaling (TS), or a few hundredths of a
nat. A draw has 300 validation samples, and 20,000 fresh test samples give the true gain of the chosen calibrator. In
`plain`, validation samples are independent. The other settings break what `fit_auto` assumes:

- `copies`: 50 samples and five near-copies of each, with the same label, whose logits differ by noise of 2% of their
  standard deviation;
- `patients`: 30 patients of 10 samples, with one shift of the label's log-odds per patient;
- `copies, groups` and `patients, groups`: the same samples, and `groups` says which belong together;
- `missing class`: the validation samples of one class have been removed.

Each line counts the draws in which a richer map is chosen, and reports, for these, the means of the stated and of the
true gain, how often the map is worse than TS, and how often the stated 95% interval holds the true gain. It takes a few
minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import harness

harness.one_thread()

import numpy as np  # noqa: E402

from halobench import fit_auto  # noqa: E402
from halobench.calibration.repair.auto import TS  # noqa: E402
from halobench.calibration.scores.sample_scores import cross_entropy  # noqa: E402
from halobench.calibration.temperature.temperature_scaling import finite_beta  # noqa: E402

CANDIDATES = ("top_rest", "partner")  # `matrix` would take most of the time
SAMPLES, TEST, COPIES, PATIENTS, NOISE = 300, 20_000, 5, 30, 0.02
Draw = Callable[[np.random.Generator, int, Any], tuple[np.ndarray, np.ndarray]]
"""Draws logits (n, k) and labels (n,); the last argument, 0 or an (n, k) array, is added to the labels' log-odds."""


def labelled(rng: np.random.Generator, log_odds: np.ndarray) -> np.ndarray:
    """Draw labels (n,) from softmax(log_odds)."""
    return (log_odds + rng.gumbel(size=log_odds.shape)).argmax(axis=1)


def gaussian(k: int) -> Callable[[np.random.Generator], Draw]:
    """Return problems in which TS is the truth."""
    return lambda _: lambda rng, n, shift: _three(rng, z := 2 * rng.normal(size=(n, k)), z + shift)


def biases(problem: np.random.Generator) -> Draw:
    """Draw a class's frequency differently from what the logits say."""
    bias = 0.3 * problem.normal(size=5)
    return lambda rng, n, shift: _three(rng, z := 2 * rng.normal(size=(n, 5)), z + bias + shift)


def mixed(problem: np.random.Generator) -> Draw:
    """Mix the logits of classes a little."""
    weights = np.eye(5) + 0.08 * problem.normal(size=(5, 5))
    return lambda rng, n, shift: _three(rng, z := 2 * rng.normal(size=(n, 5)), z @ weights + shift)


def flips(_: np.random.Generator) -> Draw:
    """Turn 3% of labels into the next class."""

    def draw(rng: np.random.Generator, n: int, shift: Any) -> tuple[np.ndarray, np.ndarray]:
        logits, labels = gaussian(5)(rng)(rng, n, shift)
        return logits, np.where(rng.random(n) < 0.03, (labels + 1) % 5, labels)

    return draw


def temperatures(_: np.random.Generator) -> Draw:
    """Give each sample a temperature of its own."""

    def draw(rng: np.random.Generator, n: int, shift: Any) -> tuple[np.ndarray, np.ndarray]:
        z = 2 * rng.normal(size=(n, 5))
        return _three(rng, z * rng.lognormal(sigma=0.3, size=(n, 1)), z + shift)

    return draw


def heavy_tails(_: np.random.Generator) -> Draw:
    """Draw logits from a t distribution with three degrees of freedom; large ones count less than they should."""

    def draw(rng: np.random.Generator, n: int, shift: Any) -> tuple[np.ndarray, np.ndarray]:
        z = 2 * rng.standard_t(3, size=(n, 5))
        return _three(rng, z, 2 * np.sign(z) * np.log1p(np.abs(z)) + shift)

    return draw


def discriminant(problem: np.random.Generator) -> Draw:
    """Classify Gaussian classes of different frequencies as if all were equally frequent."""
    centres, prior = 1.5 * problem.normal(size=(5, 5)), 1 / np.arange(2, 7)

    def draw(rng: np.random.Generator, n: int, shift: Any) -> tuple[np.ndarray, np.ndarray]:
        from_class = rng.choice(5, n, p=prior / prior.sum())
        x = centres[from_class] + rng.normal(size=(n, 5))
        z = x @ centres.T - (centres**2).sum(axis=1) / 2
        return _three(rng, z, z + np.log(prior) + shift)

    return draw


def _three(rng: np.random.Generator, z: np.ndarray, log_odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are three times too large, and labels."""
    return 3 * z, labelled(rng, log_odds)


KINDS: dict[str, Callable[[np.random.Generator], Draw]] = {
    "TS is the truth, k = 4": gaussian(4),
    "TS is the truth, k = 10": gaussian(10),
    "class biases": biases,
    "mixed classes": mixed,
    "3% pair flips": flips,
    "temperatures vary": temperatures,
    "heavy tails": heavy_tails,
    "wrong prior": discriminant,
}
SETTINGS = {
    "plain": 130,
    **dict.fromkeys(("copies", "copies, groups", "patients", "patients, groups", "missing class"), 15),
}
"""Draws of each kind."""


class Validation(NamedTuple):
    """Validation samples, and any groups."""

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None


def validation(setting: str, draw: Draw, rng: np.random.Generator) -> Validation:
    """Draw the validation samples of a setting."""
    base, _, grouped = setting.partition(", ")
    if base == "copies":
        groups = np.repeat(np.arange(SAMPLES // (COPIES + 1)), COPIES + 1)
        logits, labels = (each[groups] for each in draw(rng, groups[-1] + 1, 0.0))
        logits = logits + NOISE * logits.std() * rng.normal(size=logits.shape)
    elif base == "patients":
        groups = np.repeat(np.arange(PATIENTS), SAMPLES // PATIENTS)
        k = draw(rng, 1, 0.0)[0].shape[1]
        logits, labels = draw(rng, SAMPLES, rng.normal(size=(PATIENTS, k))[groups])
    else:
        groups = None
        logits, labels = draw(rng, SAMPLES, 0.0)
        if base == "missing class":
            logits, labels = logits[labels > 0], labels[labels > 0]
    return Validation(logits, labels, groups if grouped else None)


def test(setting: str, draw: Draw, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the test samples of a setting; each is of a patient of its own if there are patients."""
    shift = rng.normal(size=(TEST, draw(rng, 1, 0.0)[0].shape[1])) if setting.startswith("patients") else 0.0
    return draw(rng, TEST, shift)


class Outcome(NamedTuple):
    """A draw's choice, its stated gain with the interval, and its true gain."""

    chosen: str
    stated: float
    low: float
    high: float
    true: float


def outcome(setting: str, kind: str, seed: int, candidates: Sequence[str] = CANDIDATES) -> Outcome:
    """Choose on the validation samples of a draw, and measure the gain on its test samples."""
    problem, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    draw = KINDS[kind](problem)
    logits, labels, groups = validation(setting, draw, rng)
    options = {} if groups is None else {"groups": groups}
    fit = fit_auto(logits, labels, candidates=candidates, **options)
    gain = 0.0
    if fit.chosen != TS:
        z, y = test(setting, draw, rng)
        ts = finite_beta(logits, labels) * z
        gain = float((cross_entropy(ts, y) - cross_entropy(fit.calibrator.logits(z), y)).mean())
    return Outcome(fit.chosen, fit.gain.value, fit.gain.low, fit.gain.high, gain)


def line(setting: str, draws: list[Outcome]) -> str:
    """Return a setting's line of the table."""
    chosen = [each for each in draws if each.chosen != TS]
    lead = f"| {setting} | {len(chosen)} of {len(draws)} |"
    if not chosen:
        return lead + " | | | |"
    stated, true = (statistics.mean(getattr(each, name) for each in chosen) for name in ("stated", "true"))
    covered = sum(each.low <= each.true <= each.high for each in chosen)
    worse = sum(each.true < 0 for each in chosen)
    return f"{lead} {stated:.3f} | {true:.3f} | {worse} | {covered} of {len(chosen)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"{'; '.join(SETTINGS)} (all)")
    parser.add_argument("--draws", type=int, help="draws per kind (plain: 130; others: 15)")
    parser.add_argument(
        "--candidates", nargs="+", default=CANDIDATES, metavar="NAME", help=f"({', '.join(CANDIDATES)})"
    )
    given = parser.parse_args()
    unknown = sorted(set(given.settings) - set(SETTINGS))
    if unknown:
        parser.error(f"no such setting: {'; '.join(unknown)}")
    print("| setting | richer map chosen | gain stated | true | worse than TS | interval holds the true gain |")
    print("|---|---|---|---|---|---|")
    for setting in given.settings or SETTINGS:
        seeds = range(given.draws or SETTINGS[setting])
        draws = [outcome(setting, kind, seed, given.candidates) for kind in KINDS for seed in seeds]
        print(line(setting, draws), flush=True)


if __name__ == "__main__":
    main()
