"""Compare calibrators by people's votes on the items of saved predictions: `python -m studies.votes.compare`.

Items with votes are split into halves, of which each is fitted to and scored, ten times; scores are averaged over
splits and intervals are from a bootstrap over items. A "group" is the mean of networks that differ in their seed alone
(MNLI, RoBERTa; SNLI, BERT; SNLI, RoBERTa), or one network (CIFAR-10H). Strata are by the entropy of half of each item's
votes, scored on the other half, and averaged over ten draws of halves: an item counts as often as it falls into one.
Nulls permute votes among items, for the fit and the score alike.

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

The nulls "to fit only", whose permuted votes are only fitted to, were added after a look at three networks, so nothing
was predicted of them. They are what the ranges seen before were of: permuted within prediction and majority, they cost
partner .003 to .016 of the .024 to .066 that permuting within the prediction costs.
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

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np
import pandas as pd

from halobench import fit_auto, fit_partner, fit_temperature
from halobench.calibration.calibrator import fit_checked
from halobench.calibration.calibrators.auto import OWN
from halobench.calibration.saved import Savable
from halobench.calibration.scores.sample_scores import cross_entropy, mass_of, softmax
from halobench.core.seeding import generator
from halobench.storage.files import replacing
from studies.votes.predictions import Network, end_with, networks

OUT = Path(__file__).parent
SEED, RESAMPLES, DRAWS = 0, 1000, 10  # draws of halves of votes, for strata
SCORES = ("nll", "kl", "excess_brier")
UNCALIBRATED, OTHERS, UNIFORM = "uncalibrated", "TS, labels of other items", "uniform guess"
CLASS_SHARES, TABLE = "shares of classes", "shares by predicted class"
STRATA = ("least split", "middle", "most split")
ITEMS = "items"  # how often each counts, as if that were a score
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
Scores = Mapping[str, np.ndarray]  # by row: each item's, (n, 3)


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


def null_world(votes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> Sequence[np.ndarray]:
    """Return votes to fit to, permuted within groups, and two that score the fit: the same, and the true ones."""
    moved = permuted(votes, groups, rng)
    return moved, moved, votes


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


def item_scores(logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Score logits by votes (n, k); return the `SCORES` of each item, (n, 3), NaN if they need more than one vote.

    NLL is the mean over votes. KL is NLL minus the votes' entropy with Miller and Madow's correction. Excess Brier is
    the squared distance from the posterior, without bias: the square of the posterior is estimated from pairs of votes.
    """
    m, q, p = votes.sum(axis=1), shares(votes), softmax(logits)
    nll = cross_entropy(logits, q)
    entropy = plug_in_entropy(votes) + ((votes > 0).sum(axis=1) - 1) / (2 * m)
    square = (votes * (votes - 1)).sum(axis=1) / np.maximum(m * (m - 1), 1)
    several = np.stack([nll - entropy, (p * p - 2 * p * q).sum(axis=1) + square], axis=1)
    return np.column_stack([nll, np.where(m[:, None] > 1, several, np.nan)])


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
) -> dict[str, np.ndarray]:
    """Return the logits of the items `test` by row, from what is fitted to the items `fit`."""
    z, some, top = network.logits, votes[fit], network.logits.argmax(axis=1)
    mean = np.log(shares(some).mean(axis=0))
    found = {UNCALIBRATED: z[test], UNIFORM: np.zeros_like(z[test]), CLASS_SHARES: np.tile(mean, (len(test), 1))}
    found[TABLE] = np.log(shares_by_prediction(top[fit], some))[top[test]]
    if network.others is not None:
        found[OTHERS] = fit_temperature(*network.others).logits(z[test])
    targets = {"labels": network.labels[fit], "majority": majority(some, rng), "one vote": one_vote(some, rng)}
    targets["votes"] = some
    for row in rows:
        method, kind = row.split(", ")
        found[row] = fitted(method, z[fit], targets[kind]).logits(z[test])
    return found


def averaged(
    network: Network,
    splits: int,
    rows: Sequence[str],
    world: Callable[[np.random.Generator], Sequence[np.ndarray]],
) -> list[Scores]:
    """Score each row on each item, averaged over `splits` into halves, each of which is fitted to and scored.

    For each split, `world` returns votes to fit to, and then the votes to score by, for each of the results.
    """
    sums: list[Scores] = []
    for split in range(splits):
        rng = generator(SEED, "votes", network.items, split)
        votes, *judges = world(rng)
        halves = np.array_split(rng.permutation(len(votes)), 2)
        sums = sums or [defaultdict(lambda: np.zeros((len(network.logits), len(SCORES)))) for _ in judges]
        for fit, test in (halves, halves[::-1]):
            for row, logits in predicted(network, votes, rows, fit, test, rng).items():
                for scores, judge in zip(sums, judges, strict=True):
                    scores[row][test] += item_scores(logits, judge[test]) / splits
    return sums


def measure(network: Network, splits: int) -> dict[tuple[str, str], Scores]:
    """Return the scores of a network's items by table and population."""
    votes = network.votes
    if votes is None:
        labels = mass_of(network.labels, network.logits.shape[1])
        return {("networks", "all"): averaged(network, splits, ROWS_OF_LABELS, lambda rng: (labels, labels))[0]}
    rng = generator(SEED, "votes", network.items, "halves")
    firsts = [half_of(votes, rng) for _ in range(DRAWS)]
    whole, *held = averaged(network, splits, ROWS, lambda rng: (votes, votes, *(votes - first for first in firsts)))
    found: dict[tuple[str, str], Scores] = {("networks", "all"): whole}
    drawn = np.array([strata(first) for first in firsts])  # of each draw, each item
    for number, name in enumerate(STRATA):
        inside = drawn == number
        weights = inside[:, :, None] / inside.mean()
        counted = {
            row: np.mean([weight * scores[row] for weight, scores in zip(weights, held, strict=True)], axis=0)
            for row in whole
        }
        found["strata", name] = counted | {ITEMS: weights.mean(axis=0)}
    k, top = votes.shape[1], network.logits.argmax(axis=1)
    nulls = {f"{row}; {TRUE}": whole[row] for row in ROWS_OF_NULLS}
    tied = generator(SEED, "votes", network.items, "ties")
    for name, groups in zip(NULLS, (top, top * k + majority(votes, tied)), strict=True):
        world = partial(null_world, votes, groups)
        for ending, scores in zip(("", FIT_ONLY), averaged(network, splits, ROWS_OF_NULLS, world), strict=True):
            nulls |= {f"{row}; {name}{ending}": scores[row] for row in ROWS_OF_NULLS}
    return found | {("nulls", "all"): nulls}


def summary(scores: Scores, rng: np.random.Generator) -> pd.DataFrame:
    """Return means over items of scores and of their `DIFFERENCES`, with 95% intervals from a bootstrap over items.

    If the items count more or less often (`ITEMS`), each mean is a ratio, in each resample.
    """
    rows = [row for row in scores if row != ITEMS]
    pairs = [(row, "") for row in rows] + [pair for pair in DIFFERENCES if set(pair) <= set(rows)]
    values = np.stack([scores[row] - (scores[minus] if minus else 0.0) for row, minus in pairs], axis=1)
    n, values = len(values), values.reshape(len(values), -1)
    times = scores.get(ITEMS, np.ones((n, 1)))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    low, high = np.quantile(weights @ values / (weights @ times), (0.025, 0.975), axis=0)
    table = pd.DataFrame([(*pair, score) for pair in pairs for score in SCORES], columns=["row", "minus", "score"])
    table = table.assign(value=values.mean(axis=0) / times.mean(), low=low, high=high, n=n).dropna(subset="value")
    return table[(table["minus"] == "") | (table["score"] != "kl")]  # a difference of KL is that of NLL


def tables(found: Iterable[Network], splits: int) -> dict[str, pd.DataFrame]:
    """Return the tables by name. Networks of a group that follow each other are also averaged, as "GROUP, mean"."""
    parts = defaultdict(list)
    for group, members in itertools.groupby(found, key=lambda network: (network.items, network.group)):
        measured = {}
        for network in members:
            started = time.monotonic()
            measured[network.name] = measure(network, splits)
            print(f"{network.name}: {time.monotonic() - started:.0f} s", flush=True)
        every = list(measured.values())
        if len(every) > 1:
            measured[f"{group[1]}, mean"] = {
                place: {row: np.mean([each[place][row] for each in every], axis=0) for row in every[0][place]}
                for place in every[0]
            }
        for name, populations in measured.items():
            for (table, population), scores in populations.items():
                where = {"network": name, "items": group[0], "population": population}
                frame = summary(scores, generator(SEED, "votes", group[0], "bootstrap"))
                parts[table].append(pd.DataFrame(where, index=frame.index).join(frame))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables."""
    parser = argparse.ArgumentParser(description="Compare calibrators by people's votes.")
    parser.add_argument("--splits", type=int, default=10, help="into halves, each of which is fitted to and scored")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder to write to")
    options = parser.parse_args(arguments)
    if options.splits < 1:
        parser.error(f"--splits is {options.splits}; 1 or more would be right")
    for name, table in tables(networks(), options.splits).items():
        with replacing(options.out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5f")
    return 0


if __name__ == "__main__":
    end_with(main)
