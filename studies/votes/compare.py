"""Compare calibrators by people's votes on the items of saved predictions: `python -m studies.votes.compare`.

Items with votes are split into halves, of which each is fitted to and scored, ten times; scores are averaged over
splits. Intervals are from refits in resamples of the items; those of differences of second order, such as one vote's
from all votes', are too wide. A "group" is the mean of networks that differ in their seed alone (MNLI, RoBERTa; SNLI,
BERT; SNLI, RoBERTa), or one network (CIFAR-10H). Strata are by the entropy of half of each item's votes, scored on the
other half, and averaged over ten draws of halves: an item counts as often as it falls into one. Nulls permute votes
among items, for the fit and the score alike.

Seen before, on one split and so exploratory: the KL of TS fitted to other items' labels (.47 to .62 on ChaosNLI), to
labels of such items (.24 to .29) and to votes (.22 to .27), of partner on one vote with true votes (.19 to .22) and in
the nulls (.24 to .28; .20 to .23); on CIFAR-10H the KL of TS and of partner on labels, and of TS on votes; on CIFAR-100
partner minus TS. Predictions of everything else, written before the first run:

1. Strata of CIFAR-10H: TS on labels has a lower NLL than TS on votes on images without disagreement, and a higher one
   on the most split, for wideresnet and cleanlab. LeNet's differ by less than .01 in all strata.
2. Strata of CIFAR-10H: the excess Brier of TS on votes is at least three times as high on the most split images as on
   those without disagreement, for wideresnet and cleanlab.
3. Strata of ChaosNLI: in all three groups, TS on votes is better than a uniform guess on the least split third, and
   worse on the most split third (NLL, intervals apart from 0).
4. Strata of ChaosNLI: partner minus TS, on one vote, is below 0 in all thirds of all groups, and furthest on the most
   split.
5. Nulls of ChaosNLI: partner's NLL is higher with votes permuted within the prediction, and within prediction and
   majority, than with true votes, in all groups, with intervals above 0; the second rise is less than half of the
   first.
6. Nulls of CIFAR-10H, partner on one vote: the first rise is above .05 for all three networks, the second below .03.
7. Excess Brier ranks TS on other items' labels, TS on labels, TS on votes and partner on votes as NLL does, the worst
   first, in all groups of ChaosNLI. For cleanlab, partner on labels minus TS on labels is within .002.
8. Matrix on votes is within .02 (NLL) of partner on votes in all groups, and `auto` on votes within .01 of the better
   of the two.
9. TS on votes has a lower NLL than shares by predicted class: by 0 to .04 in all groups of ChaosNLI, and by more than
   .05 for all three networks on CIFAR-10H.
10. One vote per item does almost as well as all: TS by less than .005, partner by less than .015, in all groups.

Result: 7, 8 and 10 hold, 3 and 4 don't, and of the others a part does.

1. Holds for wideresnet and cleanlab (TS on labels minus on votes: -.004 and -.005 without disagreement, +.137 and +.115
   on the most split). LeNet's differ by .013 on the most split.
2. 2.7 times for wideresnet, which is too few, and 3.3 times for cleanlab.
3. Wrong: on the most split third, TS on votes is no worse than a uniform guess on MNLI (-.008, interval across 0), and
   better on SNLI (-.079 and -.089).
4. Wrong: partner gains most on the least split third of MNLI (-.064) and on the middle one of SNLI (-.049 and -.053),
   and nothing on the most split third of MNLI (+.001).
5. Both rises are there (.029 to .074; .018 to .052), but the second is 61% to 70% of the first. So logits say more of
   the votes than which class the majority is. Partner's gain over TS doesn't depend on that: within prediction and
   majority it is .030 to .037, as with true votes (.029 to .037).
6. The first rise is .123 to .262, but the second .013, .037 and .033: above .03 for two networks.
7. Holds. Cleanlab: -.001, although by NLL partner on labels is worse than TS on labels by .004.
8. Holds: matrix differs from partner by -.010 to .000, and `auto` is less than .004 above the better.
9. Wrong on MNLI, where the shares by predicted class are better than TS on votes, by .012; else right (.032 and .035 on
   SNLI, .108 to .256 on CIFAR-10H).
10. Holds: .001 for TS, and .000 to .005 for partner.

Changed after the first results: strata, which were of one draw of halves of votes, intervals, which held fits fixed,
and the ECE by votes, which was added. The nulls "to fit only", whose permuted votes are only fitted to, were added
after a look at three networks, so nothing was predicted of them. They are what the ranges seen before were of: permuted
within prediction and majority, they cost partner .003 to .016 of the .024 to .066 that permuting within the prediction
costs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np
import pandas as pd

from halobench import fit_auto, fit_partner, fit_temperature
from halobench.calibration.calibrator import fit_checked
from halobench.calibration.calibrators.auto import OWN
from halobench.calibration.metrics import ece
from halobench.calibration.saved import Savable
from halobench.calibration.scores.sample_scores import cross_entropy, mass_of, predictions, softmax
from halobench.core.seeding import generator
from halobench.storage.files import replacing
from studies.votes.predictions import Network, end_with, networks

OUT = Path(__file__).parent
SEED, DRAWS = 0, 10  # draws of halves of votes, for strata
SCORES = ("nll", "kl", "excess_brier")
UNCALIBRATED, OTHERS, UNIFORM = "uncalibrated", "TS, labels of other items", "uniform guess"
CLASS_SHARES, TABLE = "shares of classes", "shares by predicted class"
STRATA = ("least split", "middle", "most split")
TRUE, NULLS = "true votes", ("permuted within the prediction", "permuted within prediction and majority")
FIT_ONLY = " to fit only"
ALL_NULLS = (*NULLS, *(null + FIT_ONLY for null in NULLS))
ROWS = (  # "METHOD, what it is fitted to"
    *(f"TS, {kind}" for kind in ("labels", "majority", "one vote", "votes")),
    *(f"partner, {kind}" for kind in ("labels", "one vote", "votes")),
    *(f"{method}, {kind}" for method in ("matrix", "auto") for kind in ("one vote", "votes")),
)
ROWS_OF_LABELS, ROWS_OF_NULLS = ("TS, labels", "partner, labels"), ("TS, one vote", "partner, one vote")
DIFFERENCES = (
    (OTHERS, "TS, labels"),
    (OTHERS, "TS, votes"),
    (OTHERS, UNCALIBRATED),
    (OTHERS, UNIFORM),
    ("TS, labels", "TS, votes"),
    ("TS, majority", "TS, votes"),
    ("TS, one vote", "TS, votes"),
    ("TS, votes", UNIFORM),
    ("TS, votes", TABLE),
    ("partner, labels", "TS, labels"),
    ("partner, one vote", "TS, one vote"),
    ("partner, one vote", "partner, votes"),
    ("partner, votes", "TS, votes"),
    ("matrix, votes", "partner, votes"),
    ("auto, votes", "partner, votes"),
    *((f"{row}; {null}", f"{row}; {TRUE}") for row in ROWS_OF_NULLS for null in ALL_NULLS),
    *(tuple(f"{row}; {world}" for row in ROWS_OF_NULLS[::-1]) for world in (TRUE, *ALL_NULLS)),
)
ROWS_OF_ECE = tuple(row for row in ROWS if row.startswith("TS"))
NOT_REFITTED = tuple(row for row in ROWS if row.startswith(("matrix", "auto")))  # too slow
Means = Mapping[str, np.ndarray]  # by row, of the `SCORES`


class Times(NamedTuple):
    """How often each item, (n,), and each of the further items counts."""

    items: np.ndarray
    others: np.ndarray


def shares(votes: np.ndarray) -> np.ndarray:
    """Return votes (n, k) as shares of each item's."""
    return votes / votes.sum(axis=1, keepdims=True)


def fitted(method: str, logits: np.ndarray, targets: np.ndarray) -> Savable:
    """Fit a calibrator to labels (n,) or votes (n, k)."""
    if method == "matrix":
        return fit_checked(method, logits, targets if targets.ndim == 1 else shares(targets), {})
    auto = partial(fit_auto, candidates=OWN)
    fits: dict[str, Callable[..., Savable]] = {"TS": fit_temperature, "partner": fit_partner, "auto": auto}
    fit = fits[method]
    return fit(logits, targets) if targets.ndim == 1 else fit(logits, votes=targets)


def one_vote(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one of each item's votes (n, k); return labels (n,)."""
    return (rng.random((len(votes), 1)) * votes.sum(axis=1, keepdims=True) < votes.cumsum(axis=1)).argmax(axis=1)


def majority(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return each item's most frequent class (n,), drawn at random if several tie."""
    return (votes + rng.random(votes.shape) / 2).argmax(axis=1)


def permuted(votes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute rows of votes (n, k) among the items of each group; groups (n,) are numbers."""
    order = rng.permutation(len(votes))
    result = np.empty_like(votes)
    result[np.argsort(groups, kind="stable")] = votes[order[np.argsort(groups[order], kind="stable")]]
    return result


def null_world(votes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Sequence[Judge]]:
    """Return votes to fit to, permuted within groups, and two that judge the fit: the same, and the true ones."""
    moved = permuted(votes, groups, rng)
    return moved, [judge(moved), judge(votes)]


def half_of(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw half of each item's votes (n, k) without replacement; return their counts."""
    return np.array([rng.multivariate_hypergeometric(row, row.sum() // 2) for row in votes])


def strata(votes: np.ndarray) -> np.ndarray:
    """Return each item's stratum, 0 to 2, by the entropy of its votes (n, k): those of none, and halves of the rest.

    If less than a third are of none, the strata are thirds.
    """
    entropy = plug_in_entropy(votes)
    split = entropy > 0
    cuts = (0, np.median(entropy[split])) if split.mean() < 2 / 3 else np.quantile(entropy, (1 / 3, 2 / 3))
    return np.searchsorted(cuts, entropy)


def plug_in_entropy(votes: np.ndarray) -> np.ndarray:
    """Return the entropy of each item's shares of votes, (n,), which is too low on average."""
    q = shares(votes)
    return -(q * np.log(np.where(q > 0, q, 1))).sum(axis=1)


class Judge(NamedTuple):
    """What scores need of votes: each item's weight, and times that, its shares, entropy and posterior's square."""

    weight: np.ndarray
    shares: np.ndarray  # (n, k); the others are (n,)
    entropy: np.ndarray
    square: np.ndarray


def judge(votes: np.ndarray) -> Judge:
    """Return what scores need of votes (n, k), NaN for what needs more than one vote.

    The entropy has Miller and Madow's correction. The square of the posterior is estimated from pairs of votes.
    """
    m = votes.sum(axis=1)
    entropy = plug_in_entropy(votes) + ((votes > 0).sum(axis=1) - 1) / (2 * m)
    square = (votes * (votes - 1)).sum(axis=1) / np.maximum(m * (m - 1), 1)
    return Judge(np.ones(len(votes)), shares(votes), *np.where(m > 1, (entropy, square), np.nan))


def together(judges: Sequence[Judge], inside: np.ndarray) -> Judge:
    """Add up judges of the same items; `inside` (number of judges, n) says of each which items count."""
    return Judge(*(np.einsum("dn,dn...->n...", inside, np.stack(part)) for part in zip(*judges, strict=True)))


def item_scores(logits: np.ndarray, by: Judge) -> np.ndarray:
    """Return the `SCORES` of each item, (n, 3): the mean NLL over votes, its excess over the entropy, excess Brier.

    Excess Brier is the squared distance from the posterior, without bias. All are times the item's weight.
    """
    p = np.empty(logits.shape)
    nll = cross_entropy(logits, by.shares, p)
    brier = (p * (p * by.weight[:, None] - 2 * by.shares)).sum(axis=1) + by.square
    return np.stack([nll, nll - by.entropy, brier], axis=1)


def shares_by_prediction(top: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Return the mean shares of votes by predicted class, (k, k), each with one further item of mean shares."""
    q = shares(votes)
    chosen = np.eye(q.shape[1])[top]
    return (chosen.T @ q + q.mean(axis=0)) / (chosen.sum(axis=0)[:, None] + 1)


def predicted(
    network: Network,
    votes: np.ndarray,
    rows: Sequence[str],
    fit: np.ndarray,
    test: np.ndarray,
    rng: np.random.Generator,
    times: Times,
) -> dict[str, np.ndarray]:
    """Return the logits of the items `test` by row, from what is fitted to the items `fit`, each as often as it counts.

    All copies of an item have the same drawn vote.
    """
    z, some, top = network.logits, votes[fit], network.logits.argmax(axis=1)
    drawn = {"labels": network.labels[fit], "majority": majority(some, rng), "one vote": one_vote(some, rng)}
    copies = np.repeat(np.arange(len(fit)), times.items[fit])
    targets = {kind: each[copies] for kind, each in (drawn | {"votes": some}).items()}
    fit, some = fit[copies], some[copies]
    mean = np.log(shares(some).mean(axis=0))
    found = {UNCALIBRATED: z[test], UNIFORM: np.zeros_like(z[test]), CLASS_SHARES: np.tile(mean, (len(test), 1))}
    found[TABLE] = np.log(shares_by_prediction(top[fit], some))[top[test]]
    if network.others is not None:
        others = (np.repeat(each, times.others, axis=0) for each in network.others)
        found[OTHERS] = fit_temperature(*others).logits(z[test])
    for row in rows:
        method, kind = row.split(", ")
        found[row] = fitted(method, z[fit], targets[kind]).logits(z[test])
    return found


def scored(
    network: Network,
    split: int,
    rows: Sequence[str],
    world: Callable[[np.random.Generator], tuple[np.ndarray, Sequence[Judge]]],
    times: Times,
) -> Sequence[Means]:
    """Return each row's mean scores, by what is fitted to the half of the items that an item isn't in.

    `world` returns votes to fit to, and who judges each of the results.
    """
    rng = generator(SEED, "votes", network.items, split)
    votes, judges = world(rng)
    halves = np.array_split(rng.permutation(len(votes)), 2)
    found: list[dict[str, np.ndarray]] = [defaultdict(lambda: np.zeros(len(SCORES))) for _ in judges]
    for fit, test in (halves, halves[::-1]):
        for row, logits in predicted(network, votes, rows, fit, test, rng, times).items():
            for means, by in zip(found, judges, strict=True):
                inside = Judge(*(part[test] for part in by))
                means[row] += times.items[test] @ item_scores(logits, inside) / (times.items @ by.weight)
    return found


def measurer(network: Network) -> Callable[[int, Times, Sequence[str]], dict[tuple[str, str], Means]]:
    """Return what measures a network in a split: mean scores by table and population.

    The function's arguments are the split, how often each item counts, and the rows that aren't measured.
    """
    votes = network.votes
    if votes is None:
        labels = mass_of(network.labels, network.logits.shape[1])
        alone = labels, [judge(labels)]
        return lambda split, times, _: {
            ("networks", "all"): scored(network, split, ROWS_OF_LABELS, lambda rng: alone, times)[0]
        }
    rng = generator(SEED, "votes", network.items, "halves")
    firsts = [half_of(votes, rng) for _ in range(DRAWS)]
    rests = [judge(votes - first) for first in firsts]
    drawn = np.array([strata(first) for first in firsts])  # of each draw, each item
    places = [("networks", "all"), *(("strata", name) for name in STRATA)]
    true = votes, [judge(votes), *(together(rests, drawn == number) for number in range(len(STRATA)))]
    k, top = votes.shape[1], network.logits.argmax(axis=1)
    tied = generator(SEED, "votes", network.items, "ties")
    groups = dict(zip(NULLS, (top, top * k + majority(votes, tied)), strict=True))

    def measure(split: int, times: Times, without: Sequence[str]) -> dict[tuple[str, str], Means]:
        rows = [row for row in ROWS if row not in without]
        found = dict(zip(places, scored(network, split, rows, lambda rng: true, times), strict=True))
        nulls = {f"{row}; {TRUE}": found["networks", "all"][row] for row in ROWS_OF_NULLS}
        for name, group in groups.items():
            worlds = scored(network, split, ROWS_OF_NULLS, partial(null_world, votes, group), times)
            for ending, means in zip(("", FIT_ONLY), worlds, strict=True):
                nulls |= {f"{row}; {name}{ending}": means[row] for row in ROWS_OF_NULLS}
        return found | {("nulls", "all"): nulls}

    return measure


def true_label_ece(network: Network, votes: np.ndarray, splits: int) -> dict[str, float]:
    """Return each row's ECE by people's votes, averaged over splits: its accuracies are mean shares of votes."""
    q, found = shares(votes), defaultdict(list)
    for split in range(splits):
        rng = generator(SEED, "votes", network.items, split)
        halves = np.array_split(rng.permutation(len(q)), 2)
        confident: dict[str, np.ndarray] = defaultdict(
            lambda: np.empty((2, len(q)))
        )  # confidence and expected accuracy
        for fit, test in (halves, halves[::-1]):
            for row, logits in predicted(network, votes, ROWS_OF_ECE, fit, test, rng, once(network)).items():
                top, confidence = predictions(softmax(logits))
                confident[row][:, test] = confidence, q[test, top]
        for row, (confidence, correct) in confident.items():
            found[row].append(ece.score(confidence, correct))
    return {row: float(np.mean(values)) for row, values in found.items()}


def resampled(network: Network, resample: int) -> Times:
    """Return how often each item, and each of the further items, counts in a resample, the same for a set of items."""
    rng = generator(SEED, "votes", network.items, "bootstrap", resample)
    sizes = len(network.logits), 0 if network.others is None else len(network.others[1])
    return Times(*(np.bincount(rng.integers(size, size=size), minlength=size) for size in sizes))


def once(network: Network) -> Times:
    """Count each item once."""
    return Times(*(np.ones(size, int) for size in map(len, resampled(network, 0))))


def two_splits(resample: int, splits: int) -> tuple[int, int]:
    """Return the splits in which a resample is refitted: neighbours, in turn."""
    return resample % splits, (resample + 1) % splits


def summary(splits: Sequence[Means], refits: Sequence[tuple[Means, Means]]) -> pd.DataFrame:
    """Return scores, averaged over splits, and their `DIFFERENCES`, with 95% intervals by refits in resamples of items.

    Resample b is refitted in `two_splits`. How much each differs from its split has a variance and, between the two,
    a covariance; these give the variance of the mean over all splits. The interval is 1.96 standard deviations to
    each side, since quantiles would be moved: fits to resamples are worse on average. NaN: not refitted.
    """
    rows, unknown = list(splits[0]), np.full(len(SCORES), np.nan)
    pairs = [(row, "") for row in rows] + [pair for pair in DIFFERENCES if set(pair) <= set(rows)]

    def values(found: Means) -> np.ndarray:
        return np.array([found.get(row, unknown) - (found.get(minus, unknown) if minus else 0) for row, minus in pairs])

    own = np.array([values(each) for each in splits])
    at = np.array([two_splits(number, len(own)) for number in range(len(refits))])
    moved = np.array([[values(each) for each in two] for two in refits]) - own[at]
    moved -= moved.mean(axis=0)
    variance, covariance = (moved**2).mean(axis=(0, 1)), (moved[:, 0] * moved[:, 1]).mean(axis=0).clip(0)
    half = 1.96 * np.sqrt(covariance + (variance - covariance).clip(0) / len(own)).ravel()
    value = own.mean(axis=0).ravel()
    table = pd.DataFrame([(*pair, score) for pair in pairs for score in SCORES], columns=["row", "minus", "score"])
    table = table.assign(value=value, low=value - half, high=value + half).dropna(subset="value")
    return table[(table["minus"] == "") | (table["score"] != "kl")]  # a difference of KL is that of NLL


def tables(found: Iterable[Network], splits: int, resamples: int) -> dict[str, pd.DataFrame]:
    """Return the tables by name. Networks of a group that follow each other are also averaged, as "GROUP, mean"."""
    parts = defaultdict(list)
    for group, members in itertools.groupby(found, key=lambda network: (network.items, network.group)):
        measured = {}
        for network in members:
            started = time.monotonic()
            measure = measurer(network)
            measured[network.name] = [
                *(measure(split, once(network), ()) for split in range(splits)),
                *(
                    measure(split, resampled(network, b), NOT_REFITTED)
                    for b in range(resamples)
                    for split in two_splits(b, splits)
                ),
            ]
            print(f"{network.name}: {time.monotonic() - started:.0f} s", flush=True)
            if network.votes is not None:
                errors = pd.Series(true_label_ece(network, network.votes, splits)).rename_axis("row")
                parts["ece"].append(errors.reset_index(name="ece").assign(network=network.name, items=group[0]))
        every = list(measured.values())
        if len(every) > 1:
            measured[f"{group[1]}, mean"] = [
                {
                    place: {row: np.mean([each[place][row] for each in same], axis=0) for row in same[0][place]}
                    for place in same[0]
                }
                for same in zip(*every, strict=True)
            ]
        for name, results in measured.items():
            for table, population in results[0]:
                where = {"network": name, "items": group[0], "population": population}
                of_place = [result[table, population] for result in results]
                refits = of_place[splits:]
                frame = summary(of_place[:splits], list(zip(refits[::2], refits[1::2], strict=True)))
                parts[table].append(pd.DataFrame(where, index=frame.index).join(frame).assign(n=len(network.logits)))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables."""
    parser = argparse.ArgumentParser(description="Compare calibrators by people's votes.")
    parser.add_argument("--splits", type=int, default=10, help="into halves, each of which is fitted to and scored")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder to write to")
    parser.add_argument(
        "--resamples",
        type=int,
        default=200,
        help="of the items, to each of which all rows but matrix and auto are fitted",
    )
    options = parser.parse_args(arguments)
    for name, least in (("splits", 1), ("resamples", 2)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}; {least} or more would be right")
    for name, table in tables(networks(), options.splits, options.resamples).items():
        with replacing(options.out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5f")
    return 0


if __name__ == "__main__":
    end_with(main)
