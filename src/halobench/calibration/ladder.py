"""Compute the repair ladder: a model's NLL split into noise, training, a richer map of the logits and a temperature.

    NLL = noise + training + richer_map + temperature

- noise, H(Y | X), is the posterior's own NLL, the lowest of any classifier; the noise is known only if the posterior
  is. If the posterior depends on more than X, such as the label before it was flipped, it may be that no classifier
  reaches the noise, and the part `training` includes the difference.
- training is the difference between the noise and the NLL of the best map, E[P(y | x) | softmax(logits)]. No
  calibration can repair this part, since the model's probabilities don't contain the information. Perez-Lebel et al.
  call it the grouping loss.
- richer_map is the difference between the NLLs of the best map and of the best temperature.
- temperature is the difference between the NLLs at the best temperature and of the logits as they are.

The best map is a map of the model's probabilities. Adding a constant to all logits of a row doesn't change its
probabilities, so anything that this constant says about the label belongs to the part `training`.

The best map is unknown. The *upper estimate* of its NLL is the lowest NLL of the families in
`halobench.calibration.repair.families`, and of their mixture, on samples that the maps weren't fitted to. No map has a
lower expected NLL than the best one. Apart from sampling error, the estimate is therefore too high, by the amount that
these maps still miss. The part `training` is then too large, and the part `richer_map` too small.

Samples alone give no lower bound on the best map's NLL: if no two samples share logits, a map could in principle
identify each sample, and hence its label. The *lower estimate* therefore assumes that the best map varies on scales
that the samples resolve, in the D directions in which logits vary (k - 1, or 0 if there are only a few different rows).
The best map may have jumps. With n samples, the amount that maps still miss is then assumed to shrink at least as fast
as n^(-1 / (1 + D)). This is the best rate for such functions: C. Stone's n^(-2s / (2s + D)) with the smoothness s = 1/2
of a jump. If r times as many samples lower the NLL by d, at most d / (r^(1 / (1 + D)) - 1) is left to gain. The lower
estimate is the lowest that up to three learning curves give: those of the best family, of nearest neighbours and of
trees. Nearest neighbours and trees can follow maps of any shape. With fewer than CELLS^D samples, a curve may be flat
only because all structure is finer than the distances between samples. The lower estimate is then the trivial bound:
the noise, or 0 if the noise is unknown. Both ends of `training_range` and `best_map_range` include 1.96 standard
errors, except a lower end of 0.

References
----------
A. Perez-Lebel, M. Le Morvan, G. Varoquaux, "Beyond Calibration: Estimating the Grouping Loss of Modern Neural
Networks", ICLR 2023: the same term, bounded from below by partitioning the inputs. E. Berta et al., "Rethinking Early
Stopping: Refine, Then Calibrate", arXiv 2501.19195: refinement error by cross-fitted recalibration. C. Stone, "Optimal
Global Rates of Convergence for Nonparametric Regression", Annals of Statistics 10, 1982.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import check_labels_or_votes, check_logits, check_targets, check_unscaled, check_whole
from halobench.calibration.calibrators.partner import fit_checked as fit_partner
from halobench.calibration.repair import mixture
from halobench.calibration.repair.families import FAMILIES, TINY, fit_families
from halobench.calibration.scores import resampling
from halobench.calibration.scores.sample_scores import cross_entropy, softmax
from halobench.calibration.temperature.search import solve
from halobench.core.errors import Found, refuse, require
from halobench.core.seeding import generator
from halobench.core.specs.data import LADDER_SAMPLES

NORMAL = 1.96  # standard errors from the centre of a 95% interval to its ends

CELLS = 8.0  # the smallest number of samples along each direction from which a learning curve shows what is left
REPEATS = 5  # the average number of samples per distinct row from which logits count as a few different rows
CONSISTENT = ("neighbours", "trees")

FOLDS, HALVES = 5, 2  # numbers of folds for the upper estimate, and for maps fitted to fewer samples
MIXTURE = "mixture"


@dataclass(frozen=True)
class Rung:
    """A part of the NLL in nats, or a test score, with its 95% bootstrap interval for the maps as fitted."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RepairLadder:
    """The parts of a model's NLL: `noise` (if known), `training`, `richer_map` and `temperature` add up to `nll`.

    Attributes
    ----------
    nll : Rung
        NLL of the logits as they are.
    noise : Rung or None
        H(Y | X); None if targets are labels or votes, because the posterior is then unknown.
    training : Rung
        The part that only training can repair, by the upper estimate of the best map's NLL. If the noise is unknown,
        this part includes it and is the refinement error.
    richer_map : Rung
        The part that a richer map of the logits can repair, by the upper estimate.
    temperature : Rung
        The part that a temperature can repair.
    training_range : (float, float)
        The range of the part that only training can repair, at least 0: from the lower to the upper estimate, each with
        its sampling error. The module's docstring explains what the lower end assumes. If the lower end is 0, a richer
        map may repair the whole part.
    best_map_range : (float, float)
        The range of the best map's expected NLL on new samples, between the same two estimates.
    map : str
        The family with the lowest NLL on samples that it wasn't fitted to: ``temperature``, ``partner``, ``ranks``,
        ``regression``, ``network``, ``neighbours``, ``trees``, or their ``mixture``.
    families : dict of str to float
        The NLL of each family, and of the mixture, on samples that its map wasn't fitted to.
    """

    nll: Rung
    noise: Rung | None
    training: Rung
    richer_map: Rung
    temperature: Rung
    training_range: tuple[float, float]
    best_map_range: tuple[float, float]
    map: str
    families: dict[str, float]


def repair_ladder(
    logits: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    votes: np.ndarray | None = None,
    more: tuple[np.ndarray, np.ndarray] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> RepairLadder:
    """Split a model's expected NLL into the parts due to noise, training, a richer map and a temperature.

    Maps are fitted to the samples passed, so the model must not have been trained on any of them. Each of five folds is
    scored with maps and a temperature that are fitted to the other folds, or to `more` samples if there are any.

    Parameters
    ----------
    logits : (n, k) array
        Finite, n >= 50.
    targets : (n,) integers or (n, k) array
        Labels, or the known posterior P(y | x) as rows of probabilities. With a posterior, the parts are expectations
        under it, and the noise is a separate part. Partner scaling and the splits of trees are then fitted to labels
        drawn from the posterior, everything else to the posterior itself. Samples must be independent draws.
    votes : (n, k) array, optional
        In place of targets, without `more`: how many labels of each class a sample has, for example from several
        annotators. The noise is then unknown, as with labels.
    more : (array, array), optional
        Logits and targets of at least 50 further samples, for example from a distribution that can be sampled without
        limit. The maps are then fitted to these further samples alone, and only the mixture's weights to the samples in
        `logits`. Without further samples, each map is fitted to four fifths of the samples in `logits`.
    draws : int
        Number of bootstrap resamples, at least 1.
    seed : int
        Determines folds, resamples, the maps' random numbers and, if there is a posterior, the labels drawn from it.

    Raises
    ------
    SpecError
        If probabilities are passed as logits; logits aren't finite; targets have the wrong shape or only one label;
        there are fewer than 50 samples; the largest logit is always the label's, so that no temperature is optimal; or
        votes are passed next to targets or `more`, or neither targets nor votes are passed.

    Examples
    --------
    Equal logits say nothing about the label, so only training can repair what isn't noise:

    >>> ladder = repair_ladder(np.zeros((400, 2)), np.tile([[0.9, 0.1], [0.1, 0.9]], (200, 1)))
    >>> round(ladder.noise.value, 3), round(ladder.training.value, 2), round(ladder.nll.value, 3)
    (0.325, 0.37, 0.693)
    """
    refuse(votes is not None and more is not None, "more", "passed next to votes; pass one of the two")
    if votes is not None or targets is None:
        logits = check_logits(logits)
        targets, counts = check_labels_or_votes(targets, votes, logits.shape, "targets")
        votes = None if counts is None else votes
    logits, targets = _checked(logits, targets)
    check_unscaled(logits)
    seen = np.unique(targets) if targets.ndim == 1 else targets
    require(
        targets.ndim == 2 or len(seen) > 1,
        "targets",
        Found(f"only the label {seen[0]}"),
        "at least two different labels",
    )
    if len(logits) >= LADDER_SAMPLES:
        separable = solve(logits, targets).separable
        what = "every sample's label has the largest logit, so no temperature is optimal; add misclassified samples"
        refuse(separable, "logits", what)
    check_whole("draws", draws, 1)
    check_whole("seed", seed, 0)
    return ladder(logits, targets, more, draws, seed, votes=votes is not None)


def ladder(
    logits: np.ndarray,
    targets: np.ndarray,
    more: tuple[np.ndarray, np.ndarray] | None = None,
    draws: int = 1000,
    seed: int = 0,
    families: Sequence[str] = FAMILIES,
    votes: bool = False,
) -> RepairLadder:
    """Compute `repair_ladder` for arrays that may look like probabilities or be separable, as a cell's arrays may.

    If `votes` is true, targets are shares of votes, and the noise is unknown.
    """
    logits, targets = _checked(logits, targets)
    n = len(logits)
    expected = f"at least {LADDER_SAMPLES} rows, since maps are fitted to some of them"
    require(n >= LADDER_SAMPLES, "logits", Found(f"{n} rows"), expected)
    if more is not None:
        more = _checked(*more)
        expected = f"at least {LADDER_SAMPLES} further rows, to which the maps are fitted"
        require(len(more[0]) >= LADDER_SAMPLES, "more", Found(f"{len(more[0])} rows"), expected)
        shape, others = (rows.shape[1:] + of.shape[1:] for rows, of in (more, (logits, targets)))
        require(shape == others, "more", Found(f"rows of shape {shape}"), f"{others}, as in the other arrays")
    nlls = _held_out(logits, targets, more, FOLDS, 1.0, seed, families, votes)
    best = _best(nlls)
    upper, tempered = nlls[best], nlls["temperature"]
    plain = cross_entropy(logits, targets)
    has_posterior = targets.ndim == 2 and not votes
    noise = cross_entropy(_logarithm(targets), targets) if has_posterior else np.zeros(n)
    values = np.stack([plain, noise, upper - noise, tempered - upper, plain - tempered], axis=1)
    low, high = resampling.bootstrap_intervals(values, draws, generator(seed, "repair", "bootstrap"))
    nll, entropy, *parts = (Rung(*map(float, ends)) for ends in zip(values.mean(axis=0), low, high, strict=True))
    training, richer_map, temperature = parts
    ratio = 2.0 if more else (1 - 1 / FOLDS) / (1 - 1 / HALVES)
    growth, curves = ratio ** _rate(logits if more is None else more[0]), []
    if growth != 1:  # otherwise, learning curves say nothing about the best map
        fewer = _held_out(logits, targets, more, HALVES, 0.5, seed, families, votes)
        curves = [(upper - noise, fewer[_best(fewer)] - noise)]
        curves += [(nlls[name] - noise, fewer[name] - noise) for name in CONSISTENT if name in nlls]
    span = _range(upper - noise, curves, growth)
    centre, error = float(noise.mean()), _error(noise)
    on_new = centre - error + span[0], centre + error + span[1]
    families_nll = {name: float(nll.mean()) for name, nll in nlls.items()}
    known = entropy if has_posterior else None
    return RepairLadder(nll, known, training, richer_map, temperature, span, on_new, best, families_nll)


def _checked(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = check_logits(logits).astype(np.float64)
    targets = check_targets(targets, logits.shape)
    return logits, targets.astype(np.float64) if targets.ndim == 2 else targets


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, TINY))


def _rate(logits: np.ndarray) -> float:
    """Return c, where the gain in NLL that maps still miss shrinks like n^-c with n samples; 0 if n is too small."""
    n, k = logits.shape
    centred = logits - logits.mean(axis=1, keepdims=True)
    rows = np.unique(np.round(centred / (np.abs(centred).max() or 1.0), 9), axis=0)
    directions = 0 if REPEATS * len(rows) <= n else k - 1
    return 0.0 if math.log(n) < directions * math.log(CELLS) else 1 / (1 + directions)


def _best(nlls: dict[str, np.ndarray]) -> str:
    return min(nlls, key=lambda name: nlls[name].mean())


def _range(best: np.ndarray, curves: Sequence[tuple[np.ndarray, np.ndarray]], growth: float) -> tuple[float, float]:
    """Return the lower and the upper estimate of the best map's NLL above the noise.

    `best` holds the best family's NLLs (n,) above the noise. Each of the `curves` holds such NLLs of maps fitted to
    more samples, and to fewer. Maps fitted to fewer are assumed to miss at least `growth` times as much of the possible
    gain. If `growth` is 1, the lower estimate is 0.
    """
    high = float(best.mean()) + _error(best)
    if growth == 1:
        return 0.0, max(high, 0.0)
    low = np.inf
    for upper, fewer in curves:
        gain = fewer - upper
        left = (max(float(gain.mean()), 0.0) + _error(gain)) / (growth - 1)
        low = min(low, float(upper.mean()) - _error(upper) - left)
    return max(low, 0.0), max(high, 0.0)


def _error(values: np.ndarray) -> float:
    """Return half the width of the 95% interval of the mean of values (n,)."""
    return NORMAL * float(values.std(ddof=1)) / float(np.sqrt(len(values)))


def _held_out(
    logits: np.ndarray,
    targets: np.ndarray,
    more: tuple[np.ndarray, np.ndarray] | None,
    folds: int,
    share: float,
    seed: int,
    families: Sequence[str],
    votes: bool,
) -> dict[str, np.ndarray]:
    """Return NLLs (n,) by family, scoring each fold with maps fitted to the other folds, or to a share of `more`."""
    fold = generator(seed, "repair", "folds").permutation(len(logits)) % folds
    if more is None:
        labels = _drawn(targets, seed)
        probabilities = mixture.predict_held_out(
            lambda rows: fit_families(logits[rows], targets[rows], labels[rows], seed, fit_partner, families, votes),
            logits,
            fold,
        )
    else:
        rows = slice(0, int(share * len(more[0])))
        maps = fit_families(
            more[0][rows], more[1][rows], _drawn(more[1], seed)[rows], seed, fit_partner, families, votes
        )
        probabilities = {name: softmax(transform(logits)) for name, transform in maps.items()}
    nlls = {name: cross_entropy(_logarithm(p), targets) for name, p in probabilities.items()}
    return nlls | {MIXTURE: mixture.cross_fitted_nll(np.stack(list(probabilities.values())), targets, fold)}


def _drawn(targets: np.ndarray, seed: int) -> np.ndarray:
    """Return labels (n,) as they are, or draw one label from each row of probabilities."""
    if targets.ndim == 1:
        return targets
    below = generator(seed, "repair", "labels").random((len(targets), 1))
    drawn = (targets.cumsum(axis=1) < below * targets.sum(axis=1, keepdims=True)).sum(axis=1)
    return np.minimum(drawn, targets.shape[1] - 1)
