"""The repair ladder: what noise, training, a richer map of the logits and a temperature answer for in a model's NLL.

    NLL = noise + training + richer_map + temperature

- noise, H(Y | X): what no classifier gets below, if the posterior is known.
- training: from there to the best map of the logits, E[P(y | x) | logits]. No calibration repairs it, since the logits
  don't show it (the grouping loss of Perez-Lebel et al.).
- richer_map: from there to the best temperature.
- temperature: from there to the logits as they are.

The best map is unknown. It is estimated from above by maps that are fitted to some folds of the samples and scored on
the others: the expected NLL of any such map is at least that of the best one. So `training` is too large on average and
`richer_map` too small, both by what the maps still miss. (The best of four families is chosen by these very scores,
which favours it by next to nothing.) From below all families are fitted and scored on the same samples, and the lowest
counts: an optimistic estimate, which is too low by what the maps fit of chance, and no bound if the best map is in none
of the families. More samples, of which a distribution has as many as one likes, bring the two together.

References
----------
A. Perez-Lebel, M. Le Morvan, G. Varoquaux, "Beyond Calibration: Estimating the Grouping Loss of Modern Neural
Networks", ICLR 2023. E. Berta et al., "Rethinking Early Stopping: Refine, Then Calibrate", arXiv 2501.19195: refinement
error by cross-fitted recalibration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from halobench.calibration import resampling, sample_scores
from halobench.calibration.arrays import check_logits, check_targets, check_unscaled
from halobench.calibration.partner_scaling import fit_checked
from halobench.calibration.rescaling import rescale
from halobench.calibration.temperature_scaling import fit_exactly, fit_smoothed
from halobench.core.errors import require
from halobench.core.seeding import generator

RIDGES = (0.1, 0.01)
"""Ridges of the regression that are tried, times the root of the number of samples."""

ITERATIONS = 150

Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rung:
    """A part of the NLL in nats, with its 95% bootstrap interval over samples (the maps stay as fitted)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RepairLadder:
    """The parts of a model's NLL; `noise`, `training`, `richer_map` and `temperature` add up to `nll`.

    Attributes
    ----------
    nll : Rung
        Of the logits as they are.
    noise : Rung or None
        H(Y | X); None if targets are labels, as the posterior isn't known then.
    training : Rung
        What only training repairs, from above; with the noise if that isn't known (the refinement error).
    richer_map : Rung
        What a richer map of the logits repairs, from below.
    temperature : Rung
        What a temperature repairs.
    best_map_bounds : (float, float)
        Between which the NLL of the best map is estimated to be: the lowest of the families fitted and scored on all
        samples, or the noise if that is more; and the one cross-fitted, which it isn't above on average.
    map : str
        The family that was best by cross-fitting: ``temperature``, ``partner``, or ``regression`` with its ridge.
    """

    nll: Rung
    noise: Rung | None
    training: Rung
    richer_map: Rung
    temperature: Rung
    best_map_bounds: tuple[float, float]
    map: str


def repair_ladder(
    logits: np.ndarray, targets: np.ndarray, *, folds: int = 5, draws: int = 1000, seed: int = 0
) -> RepairLadder:
    """Split a model's expected NLL into what noise, training, a richer map and a temperature answer for.

    All maps are fitted to these samples, none of which the model may have been trained on: each fold of them is scored
    by maps that were fitted to the others. The temperature is that of the fold's others too.

    Parameters
    ----------
    logits : (n, k) array
        Finite.
    targets : (n,) integers or (n, k) array
        Labels; or the known posterior P(y | x), rows of probabilities: then parts are expectations under it, and the
        noise is a part of its own. Maps see labels drawn from it, but the regression the posterior itself.
    folds, draws : int
        Folds of cross-fitting, at least 2; resamples of the bootstrap, at least 1.
    seed : int
        Of folds, resamples, and labels drawn from a posterior.

    Raises
    ------
    SpecError
        Probabilities in place of logits, logits that aren't finite, targets of another shape, fewer samples than folds.

    Examples
    --------
    Logits that show nothing leave everything to training, but for what the classes' frequencies say:

    >>> ladder = repair_ladder(np.zeros((400, 2)), np.tile([[0.9, 0.1], [0.1, 0.9]], (200, 1)))
    >>> round(ladder.noise.value, 3), round(ladder.training.value, 2), round(ladder.nll.value, 3)
    (0.325, 0.37, 0.693)
    """
    check_unscaled(check_logits(logits))
    return ladder(logits, targets, folds, draws, seed)


def ladder(logits: np.ndarray, targets: np.ndarray, folds: int = 5, draws: int = 1000, seed: int = 0) -> RepairLadder:
    """Return `repair_ladder` of arrays that may look like probabilities, as the logits of one-hot models do."""
    logits = check_logits(logits).astype(np.float64)
    targets = check_targets(targets, logits.shape)
    whole = isinstance(folds, int | np.integer) and 2 <= folds <= len(logits)
    require(whole, "folds", folds, f"a whole number from 2 to {len(logits)}, the samples")
    require(isinstance(draws, int | np.integer) and draws >= 1, "draws", draws, "a whole number of at least 1")
    known = targets.ndim == 2
    targets = targets.astype(np.float64) if known else targets
    fold = generator(seed, "repair", "folds").permutation(len(logits)) % folds
    labels = _drawn(targets, seed) if known else targets
    plain = sample_scores.cross_entropy(logits, targets)
    scored = _cross_fitted(logits, targets, labels, fold)
    best = min(scored, key=lambda name: float(scored[name].mean()))
    zeros = np.zeros(len(plain))
    noise = sample_scores.cross_entropy(np.log(np.maximum(targets, 1e-300)), targets) if known else zeros
    columns = [plain, noise, scored[best] - noise, scored["temperature"] - scored[best], plain - scored["temperature"]]
    values = np.stack(columns, axis=1)
    low, high = resampling.bootstrap_intervals(values, draws, generator(seed, "repair", "bootstrap"))
    parts = [Rung(*map(float, part)) for part in zip(values.mean(axis=0), low, high, strict=True)]
    families = _families(logits, targets, labels).values()
    fitted = min(float(sample_scores.cross_entropy(each(logits), targets).mean()) for each in families)
    upper = float(scored[best].mean())
    bounds = (min(upper, max(float(noise.mean()), fitted)), upper)
    return RepairLadder(parts[0], parts[1] if known else None, parts[2], parts[3], parts[4], bounds, best)


def _drawn(posterior: np.ndarray, seed: int) -> np.ndarray:
    """Return a label of each row, drawn from it."""
    below = generator(seed, "repair", "labels").random((len(posterior), 1))
    drawn = (posterior.cumsum(axis=1) < below * posterior.sum(axis=1, keepdims=True)).sum(axis=1)
    return np.minimum(drawn, posterior.shape[1] - 1)


def _cross_fitted(
    logits: np.ndarray, targets: np.ndarray, labels: np.ndarray, fold: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the NLL of each sample, (n,), by maps of each family that were fitted to the other folds."""
    scored: dict[str, np.ndarray] = {}
    for number in range(fold.max() + 1):
        out = fold == number
        for name, transform in _families(logits[~out], targets[~out], labels[~out]).items():
            values = scored.setdefault(name, np.empty(len(logits)))
            values[out] = sample_scores.cross_entropy(transform(logits[out]), targets[out])
    return scored


def _families(logits: np.ndarray, targets: np.ndarray, labels: np.ndarray) -> dict[str, Map]:
    """Return fitted maps from logits to calibrated ones, by name."""
    ts = fit_exactly(logits, targets)
    beta = fit_smoothed(logits, labels) if ts.separable else ts.beta
    families: dict[str, Map] = {"temperature": lambda z: rescale(z, beta)}
    families["partner"] = partner = fit_checked(logits, labels).log_probabilities
    for ridge in RIDGES:
        families[f"regression, ridge {ridge:g}"] = _regression(logits, targets, partner, ridge)
    return families


def _regression(logits: np.ndarray, targets: np.ndarray, partner: Map, ridge: float) -> Map:
    """Fit a multinomial regression on the logits, the top class, and the top class times the gap, with a ridge.

    It corrects partner scaling, and holds matrix scaling and confusions that change with the gap. It is convex.
    """
    from scipy.optimize import minimize

    n, k = logits.shape
    spread = float(np.abs(rescale(logits, 1.0)).mean()) or 1.0

    def features(z: np.ndarray) -> np.ndarray:
        shifted = rescale(z, 1.0)
        hot = np.eye(k)[z.argmax(axis=1)]
        gap = -np.partition(shifted, -2, axis=1)[:, [-2]] / spread
        return np.hstack([shifted / spread, hot, hot * gap / (1 + gap)])

    x, rows = features(logits), targets if targets.ndim == 2 else np.eye(k)[targets]
    start, strength = partner(logits), ridge * np.sqrt(n)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, k)
        scores = start + x @ weights
        value = float(sample_scores.cross_entropy(scores, rows).sum())
        slopes = x.T @ (sample_scores.softmax(scores, out=scores) - rows)
        return (value + strength / 2 * float(flat @ flat)) / n, (slopes + strength * weights).ravel() / n

    flat = np.zeros(x.shape[1] * k)
    fitted = minimize(objective, flat, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}).x.reshape(-1, k)
    return lambda z: partner(z) + features(z) @ fitted
