"""Measure how often advice does harm: `python -m studies.harm.measure [--draws N] [--out FILE] [KIND ...]`.

Each draw of a kind of data (`kinds`, and the ones below) has validation samples, on which `halobench.fit_auto`
chooses among no calibration, a temperature and its own richer maps, and 20,000 fresh test samples. Harm is a test NLL
that exceeds that of the uncalibrated logits by more than .005 nats; less is what any fitted temperature costs on 50
samples of calibrated logits. `kinds` was written by someone who hadn't seen the code; the kinds below are those on
which earlier rules did harm, and were known when the present one was made.

Each line has the share of draws with harm, by the choice and by temperature scaling (TS), the share in which the choice
is more than .005 nats above TS, the mean gains of both over uncalibrated logits in nats, what was chosen, and how often
the stated 95% interval of a chosen map's gain over the temperature, or else of a temperature's over uncalibrated
logits, holds the true one. A star marks kinds whose harm exceeds 5% of draws by the 95% Clopper-Pearson bound; u marks
those that validation data can't show. 100 draws (30 above 500 samples, 10 above 50 classes) take two core hours.

With `--dependence`, each line is of a set in `dependence_kinds`: how often independent samples are taken for copies
(alarms), how often this costs more than .005 nats against the choice for independent samples, what it costs, and how
often the choice, and a richer map in particular, is more than .02 nats worse than TS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np
from scipy.stats import beta
from sklearn.datasets import make_classification
from sklearn.ensemble import ExtraTreesClassifier

from halobench import fit_auto
from halobench.calibration.arrays import shares_of
from halobench.calibration.calibrators.auto import OWN
from halobench.calibration.scores.sample_scores import cross_entropy, softmax
from halobench.calibration.temperature.search import finite_beta
from studies.harm import dependence_kinds
from studies.harm.kinds import KINDS, NTEST, Draw, Kind

HARM, CLEARLY, MOST = 0.005, 0.02, 0.05
MANY = {"samples": 500, "classes": 50}  # of kinds with more samples, .3 as many draws; with more classes, .1


def labelled(rng: np.random.Generator, log_odds: np.ndarray) -> np.ndarray:
    return (log_odds + rng.gumbel(size=log_odds.shape)).argmax(axis=1)


def flipped(share: float, k: int) -> np.ndarray:
    """The matrix that turns a share of labels into the next class."""
    return (1 - share) * np.eye(k) + share * np.roll(np.eye(k), 1, axis=1)


def known(n: int, k: int, scale: float = 2.0, times: float = 1.0, flips: float = 0.0, offset: Any = 0.0) -> Kind:
    """Logits of `scale`, `times` too large, whose labels are partly flipped."""

    def draw(rng: np.random.Generator) -> Draw:
        z, new = (scale * rng.normal(size=(m, k)) + offset for m in (n, NTEST))
        p, q = (softmax(each) @ flipped(flips, k) for each in (z, new))
        return Draw(times * z, labelled(rng, np.log(p)), times * new, q)

    return Kind(draw, False)


def voted(n: int, k: int, votes: int, times: float, flips: float) -> Kind:
    """The same, with several labels per sample."""
    base = known(n, k, 2.0, times, flips)

    def draw(rng: np.random.Generator) -> Draw:
        found = base.draw(rng)
        p = softmax(found.logits / times) @ flipped(flips, k)
        return found._replace(labels=rng.multinomial(votes, p))

    return Kind(draw, False)


def copies(originals: int, each: int, noise: float) -> Kind:
    """Near-copies of calibrated samples, shuffled, without groups; test samples are one copy each."""

    def draw(rng: np.random.Generator) -> Draw:
        z, new = (3 * rng.normal(size=(m, 10)) for m in (originals, NTEST))
        rows = rng.permutation(np.repeat(np.arange(originals), each))
        augmented, others = (each + noise * rng.normal(size=each.shape) for each in (z[rows], new))
        return Draw(augmented, labelled(rng, z)[rows], others, softmax(new))

    return Kind(draw, False)


def moved(places: Callable[[int], np.ndarray]) -> Kind:
    """Columns in another order than the labels, for validation and test."""
    base = known(300, 10, 4.0)

    def draw(rng: np.random.Generator) -> Draw:
        found = base.draw(rng)
        order = places(10)
        return found._replace(logits=found.logits[:, order], test_logits=found.test_logits[:, order])

    return Kind(draw, False)


def patients(
    shuffled: bool, count: int = 30, each: int = 10, k: int = 5, size: float = 1.0, times: float = 3.0
) -> Kind:
    """Patients with some rows each, and one shift of the label's log-odds per patient."""

    def draw(rng: np.random.Generator) -> Draw:
        n = count * each
        z, new = (2 * rng.normal(size=(m, k)) for m in (n, NTEST))
        shift, other = np.repeat(size * rng.normal(size=(count, k)), each, axis=0), size * rng.normal(size=(NTEST, k))
        order = rng.permutation(n) if shuffled else np.arange(n)
        return Draw(times * z[order], labelled(rng, z + shift)[order], times * new, softmax(new + other))

    return Kind(draw, shuffled)


def balanced(prior: tuple[float, ...]) -> Kind:
    """A model that takes all classes to be equally frequent."""

    def draw(rng: np.random.Generator) -> Draw:
        y, new_y = (rng.choice(len(prior), size=m, p=prior) for m in (500, NTEST))
        z, new = (2 * (rng.normal(size=(len(each), len(prior))) + 2 * np.eye(len(prior))[each]) for each in (y, new_y))
        return Draw(z, y, new, softmax(new + np.log(prior)))

    return Kind(draw, False)


def clipped_trees(rng: np.random.Generator) -> Draw:
    """Logarithms of a forest's shares of votes, which are clipped at 1e-12."""
    seed = int(rng.integers(1 << 30))
    x, y = make_classification(
        500 + 200 + NTEST, 10, n_informative=6, n_classes=3, flip_y=0.02, class_sep=2.0, random_state=seed
    )
    model = ExtraTreesClassifier(100, random_state=0).fit(x[:500], y[:500])
    z = np.log(np.maximum(model.predict_proba(x[500:]), 1e-12))
    return Draw(z[:200], y[500:700], z[200:], y[700:])


SETS = ((50, 6), (100, 3), (150, 2), (20, 15))  # numbers of originals, and of copies each
KNOWN: dict[str, Kind] = {
    **{f"known: near-copies {o} x {e}, sd {sd}": copies(o, e, sd) for o, e in SETS for sd in (0.2, 0.8)},
    **{f"known: {n} samples, calibrated": known(n, 10) for n in (20, 50, 4000)},
    **{f"known: {n} samples, 20% flips": known(n, 10, 3.0, flips=0.2) for n in (20, 50)},
    **{f"known: {n} samples, one class at 90%": known(n, 5, offset=np.r_[5.0, np.zeros(4)]) for n in (20, 50)},
    "known: columns off by one": moved(lambda k: np.roll(np.arange(k), 1)),
    "known: two pairs of columns swapped": moved(lambda k: np.r_[1, 0, 2:8, 9, 8]),
    **{f"known: {m} votes, pair flips": voted(300, 4, m, 3.0, 0.3) for m in (1, 3, 50)},
    **{f"known: {m} votes, calibrated": voted(300, 4, m, 1.0, 0.0) for m in (1, 3, 50)},
    "known: patients in order": patients(False),
    "known: patients shuffled": patients(True),
    "known: 4 patients x 250 in order": patients(False, 4, 250, 4, 0.5, 1.0),
    "known: 5 patients x 100 in order": patients(False, 5, 100, 3, 0.6, 1.0),
    "known: balanced model, 90:10": balanced((0.9, 0.1)),
    "known: balanced model, 80:15:5": balanced((0.8, 0.15, 0.05)),
    "known: forest, clipped at 1e-12": Kind(clipped_trees, False),
    "known: a rare class, 40% flips": known(300, 6, 3.0, 2.0, 0.4, np.r_[np.zeros(5), -9.0]),
    "known: pair flips, n = 300": known(300, 10, 4.0, 2.0, 0.4),
    "known: pair flips, n = 2000": known(2000, 10, 4.0, 2.0, 0.4),
    "known: 100 classes, pair flips, n = 3000": known(3000, 100, 3.0, 2.0, 0.3),
}  # fmt: skip


class Outcome(NamedTuple):
    """A draw's test NLLs without calibration, after TS, and of the choice; the true gain, and the stated interval."""

    kind: str
    draw: int
    none: float
    ts: float
    own: float
    chosen: str
    true: float
    low: float
    high: float


def outcome(name: str, kind: Kind, number: int) -> Outcome:
    """Choose on the validation samples of a draw, and score the choice on its test samples."""
    drawn = kind.draw(np.random.default_rng([zlib.crc32(name.encode()), number]))
    z, y, new = (np.asarray(each) for each in (drawn.logits, drawn.labels, drawn.test_logits))
    labels, votes = (y, None) if y.ndim == 1 else (None, y)
    fit = fit_auto(z, labels, votes=votes, candidates=OWN, groups=drawn.groups)
    targets = y if votes is None else shares_of(votes.astype(float))[0]

    def nll(logits: np.ndarray) -> float:
        return float(cross_entropy(logits, np.asarray(drawn.test_targets)).mean())

    none, base = nll(new), nll(fit.temperature.beta * new)
    own = nll(fit.calibrator.logits(new, probabilities=False))
    stated, true = (fit.temperature_gain, none - base) if fit.keeps_temperature else (fit.gain, base - own)
    return Outcome(
        name, number, none, nll(finite_beta(z, targets) * new), own, fit.chosen, true, stated.low, stated.high
    )


def dependence(draws: int) -> None:
    """Print the table of `dependence_kinds`."""
    print("| kinds | draws | alarms | costly | NLL forgone | at most | worse than TS | by a richer map |")
    print("|---|---|---|---|---|---|---|---|")
    for title in ("SHIFTS", "INDEPENDENT", "COPIES"):
        rows = []
        for place, (name, draw) in enumerate(getattr(dependence_kinds, title).items()):
            for number in range(draws):
                z, y, new, labels = draw(np.random.default_rng([number, place, len(name)]))
                own, other = (fit_auto(z, y, candidates=OWN, independent=known) for known in (False, True))
                a, b = (
                    float(cross_entropy(fit.calibrator.logits(new, probabilities=False), labels).mean())
                    for fit in (own, other)
                )
                worse = a > float(cross_entropy(finite_beta(z, y) * new, labels).mean()) + CLEARLY
                rows.append((own.groups.kind == "copies", a - b, worse, worse and not own.keeps_temperature))
        alarms, forgone, worse, richer = (np.array(column) for column in zip(*rows, strict=True))
        counts = f"{len(rows)} | {alarms.sum()} | {(forgone > HARM).sum()} | {forgone.mean():.3f} | {forgone.max():.2f}"
        print(f"| {title} | {counts} | {worse.sum()} | {richer.sum()} |", flush=True)


def line(name: str, unnoticeable: bool, draws: list[Outcome]) -> str:
    """Return a kind's line of the table."""
    bad = sum(each.own > each.none + HARM for each in draws)
    star = bad and beta.ppf(0.05, bad, len(draws) - bad + 1) > MOST
    by_ts = statistics.mean(each.ts > each.none + HARM for each in draws)
    worse = statistics.mean(each.own > each.ts + HARM for each in draws)
    gains = [statistics.mean(each.none - getattr(each, which) for each in draws) for which in ("own", "ts")]
    chosen = ", ".join(f"{name} {count}" for name, count in Counter(each.chosen for each in draws).most_common())
    stated = [each.low <= each.true <= each.high for each in draws if each.chosen != "none" and each.low == each.low]
    marks = f"{'*' if star else ''}{'u' if unnoticeable else ''}"
    held = f"{sum(stated)} of {len(stated)}"
    shares = f"{bad / len(draws):.2f} | {by_ts:.2f} | {worse:.2f} | {gains[0]:.3f} | {gains[1]:.3f}"
    return f"| {name} | {marks} | {shares} | {chosen} | {held} |"


def selected(words: list[str]) -> Iterator[tuple[str, Kind]]:
    for name, kind in (KNOWN | KINDS).items():
        if not words or any(word in name for word in words):
            yield name, kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="parts of names of kinds (all)")
    parser.add_argument("--draws", type=int, default=100, help="draws per kind (100)")
    parser.add_argument("--dependence", action="store_true", help="samples that are or seem to be copies, instead")
    parser.add_argument("--out", type=Path, help="a file for all outcomes, one JSON object per line")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.dependence:
        dependence(given.draws)
        return
    print("| kind | | harm | harm by TS | worse than TS | gain | gain by TS | chosen | interval holds the true gain |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows, harmed = [], 0
    for name, kind in selected(given.kinds):
        first = kind.draw(np.random.default_rng(0)).logits
        share = 0.1 if first.shape[1] > MANY["classes"] else 0.3 if len(first) > MANY["samples"] else 1.0
        draws = [outcome(name, kind, number) for number in range(max(1, round(share * given.draws)))]
        text = line(name, kind.unnoticeable, draws)
        harmed += "| *" in text and not kind.unnoticeable
        rows += draws
        print(text, flush=True)
    if given.out:
        given.out.write_text("".join(json.dumps(each._asdict()) + "\n" for each in rows))
    print(f"{harmed} kinds whose data could show it exceed {MOST:.0%}", file=sys.stderr)


if __name__ == "__main__":
    main()
