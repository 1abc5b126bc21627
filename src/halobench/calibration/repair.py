"""The repair ladder: a model's NLL split into noise, training, a richer map of the logits and a temperature.

    NLL = noise + training + richer_map + temperature

- noise, H(Y | X), is the lowest NLL that any classifier can reach; it is known only if the posterior is.
- training is the difference from there to the NLL of the best map of the logits, E[P(y | x) | logits]. No calibration
  can repair it, since the logits don't contain the information (this is the grouping loss of Perez-Lebel et al.).
- richer_map is the difference from there to the NLL at the best temperature.
- temperature is the difference from there to the NLL of the logits as they are.

The best map is unknown, so its NLL is estimated from above and from below. For the upper estimate, maps are fitted to
some folds of the samples and scored on the others, since the expected NLL of any such map is at least that of the best
one. On average, `training` is therefore too large and `richer_map` too small, both by the amount that these maps still
miss. (The best of four families is chosen by these same scores, but the bias is negligible.) For the lower estimate,
all families are fitted to and scored on the same samples, and the lowest NLL is used. This optimistic estimate is too
low by the amount that the maps overfit, and it is not a bound if none of the families contains the best map. More
samples, which a distribution can supply without limit, bring the two estimates together.

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
from halobench.calibration.arrays import check_logits, check_targets, check_unscaled, check_whole
from halobench.calibration.partner_scaling import fit_checked
from halobench.calibration.rescaling import rescale
from halobench.calibration.temperature_scaling import fit_exactly, fit_smoothed
from halobench.core.errors import require
from halobench.core.seeding import generator

RIDGES = (0.1, 0.01)
"""Strengths of the regression's ridge to try, to be multiplied by the square root of the number of samples."""

ITERATIONS = 150

Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rung:
    """A part of the NLL in nats, with its 95% bootstrap interval over samples (the maps aren't refitted)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RepairLadder:
    """The parts of a model's NLL; `noise`, `training`, `richer_map` and `temperature` add up to `nll`.

    Attributes
    ----------
    nll : Rung
        NLL of the logits as they are.
    noise : Rung or None
        H(Y | X); None if targets are labels, because the posterior is then unknown.
    training : Rung
        The part that only training can repair, estimated from above. If the noise is unknown, it is included here, and
        this is the refinement error.
    richer_map : Rung
        The part that a richer map of the logits can repair, estimated from below.
    temperature : Rung
        The part that a temperature can repair.
    best_map_bounds : (float, float)
        Estimated bounds on the NLL of the best map. The lower one is the lowest NLL of the families fitted to and
        scored on all samples, or the noise if that is higher; the upper one is the cross-fitted NLL, which the best
        map's NLL doesn't exceed on average.
    map : str
        The best family by cross-fitting: ``temperature``, ``partner``, or ``regression`` with its ridge.
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
    """Split a model's expected NLL into the parts due to noise, training, a richer map and a temperature.

    All maps are fitted to these samples, so the model must not have been trained on any of them. Each fold is scored
    with maps, and with a temperature, fitted to the other folds.

    Parameters
    ----------
    logits : (n, k) array
        Finite.
    targets : (n,) integers or (n, k) array
        Labels, or the known posterior P(y | x) as rows of probabilities, in which case the parts are expectations under
        it and the noise is a separate part. The regression is then fitted to the posterior itself, and the other maps
        to labels drawn from it.
    folds, draws : int
        Number of cross-fitting folds, at least 2, and of bootstrap resamples, at least 1.
    seed : int
        Used to draw folds, resamples and, if there is a posterior, labels.

    Raises
    ------
    SpecError
        If probabilities are passed as logits, logits aren't finite, targets have the wrong shape, or there are fewer
        samples than folds.

    Examples
    --------
    Uninformative logits leave everything to training, except what the class frequencies explain:

    >>> ladder = repair_ladder(np.zeros((400, 2)), np.tile([[0.9, 0.1], [0.1, 0.9]], (200, 1)))
    >>> round(ladder.noise.value, 3), round(ladder.training.value, 2), round(ladder.nll.value, 3)
    (0.325, 0.37, 0.693)
    """
    check_unscaled(check_logits(logits))
    return ladder(logits, targets, folds, draws, seed)


def ladder(logits: np.ndarray, targets: np.ndarray, folds: int = 5, draws: int = 1000, seed: int = 0) -> RepairLadder:
    """Compute `repair_ladder` for arrays that may look like probabilities, as the logits of one-hot models do."""
    logits = check_logits(logits).astype(np.float64)
    targets = check_targets(targets, logits.shape)
    require(len(logits) >= 2, "logits", "1 row", "at least two rows: some to fit the maps to, the others to score them")
    whole = isinstance(folds, int | np.integer) and 2 <= folds <= len(logits)
    require(whole, "folds", folds, f"a whole number from 2 to {len(logits)}, the number of samples")
    check_whole("draws", draws, 1)
    check_whole("seed", seed, 0)
    has_posterior = targets.ndim == 2
    targets = targets.astype(np.float64) if has_posterior else targets
    fold = generator(seed, "repair", "folds").permutation(len(logits)) % folds
    labels = _drawn(targets, seed) if has_posterior else targets
    plain = sample_scores.cross_entropy(logits, targets)
    scored = _cross_fitted(logits, targets, labels, fold)
    best = min(scored, key=lambda name: float(scored[name].mean()))
    zeros = np.zeros(len(plain))
    noise = sample_scores.cross_entropy(np.log(np.maximum(targets, 1e-300)), targets) if has_posterior else zeros
    columns = [plain, noise, scored[best] - noise, scored["temperature"] - scored[best], plain - scored["temperature"]]
    values = np.stack(columns, axis=1)
    low, high = resampling.bootstrap_intervals(values, draws, generator(seed, "repair", "bootstrap"))
    parts = [Rung(*map(float, part)) for part in zip(values.mean(axis=0), low, high, strict=True)]
    families = _families(logits, targets, labels).values()
    fitted = min(float(sample_scores.cross_entropy(each(logits), targets).mean()) for each in families)
    upper = float(scored[best].mean())
    bounds = (min(upper, max(float(noise.mean()), fitted)), upper)
    return RepairLadder(parts[0], parts[1] if has_posterior else None, parts[2], parts[3], parts[4], bounds, best)


def _drawn(posterior: np.ndarray, seed: int) -> np.ndarray:
    """Draw one label per row from that row's distribution."""
    below = generator(seed, "repair", "labels").random((len(posterior), 1))
    drawn = (posterior.cumsum(axis=1) < below * posterior.sum(axis=1, keepdims=True)).sum(axis=1)
    return np.minimum(drawn, posterior.shape[1] - 1)


def _cross_fitted(
    logits: np.ndarray, targets: np.ndarray, labels: np.ndarray, fold: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the NLL of each sample, (n,), under each family's maps fitted to the other folds."""
    scored: dict[str, np.ndarray] = {}
    for number in range(fold.max() + 1):
        out = fold == number
        for name, transform in _families(logits[~out], targets[~out], labels[~out]).items():
            values = scored.setdefault(name, np.empty(len(logits)))
            values[out] = sample_scores.cross_entropy(transform(logits[out]), targets[out])
    return scored


def _families(logits: np.ndarray, targets: np.ndarray, labels: np.ndarray) -> dict[str, Map]:
    """Fit the maps from logits to calibrated logits, and return them by name."""
    ts = fit_exactly(logits, targets)
    beta = fit_smoothed(logits, labels) if ts.separable else ts.beta
    families: dict[str, Map] = {"temperature": lambda z: rescale(z, beta)}
    families["partner"] = partner = fit_checked(logits, labels).log_probabilities
    for ridge in RIDGES:
        families[f"regression, ridge {ridge:g}"] = _regression(logits, targets, partner, ridge)
    return families


def _regression(logits: np.ndarray, targets: np.ndarray, partner: Map, ridge: float) -> Map:
    """Fit a multinomial regression on the logits, the top class, and the top class times the gap, with a ridge.

    The regression corrects partner scaling; it covers matrix scaling and confusions that change with the gap. The
    problem is convex.
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
