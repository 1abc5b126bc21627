"""73 families of logits whose best map is known, written without knowledge of the estimator that they test.

Each posterior is a function of the logits less the largest of their row, that is, of their softmax probabilities, so it
is the best map itself, and the best map's NLL is the posterior's mean entropy. `FAMILIES` has them by name. Constants
are drawn from generators with fixed seeds; where several share one generator, their order matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special
from scipy.optimize import brentq
from scipy.special import digamma, expit, xlogy

Generator = np.random.Generator
Sampler = Callable[[int, Generator], np.ndarray]
Posterior = Callable[[np.ndarray], np.ndarray]

CHUNK, LEAST, MOST = 50_000, 200_000, 2_000_000  # samples drawn to estimate a family's NLLs
ERROR = 8e-4  # its standard error at which drawing stops, in nats

softmax = partial(special.softmax, axis=1)
log_softmax = partial(special.log_softmax, axis=1)


@dataclass(frozen=True)
class Family:
    """A law of logits and labels.

    Attributes
    ----------
    classes : int
    why : str
        What it stands for.
    sample : function
        Draws n logits with a generator, (n, k).
    posterior : function
        Maps logits less the largest of their row, (n, k), to P(label | logits), (n, k), up to rounding.
    entropy : function or None
        Returns the best map's NLL, in nats, if it has a closed form or is an integral over one dimension.
    """

    classes: int
    why: str
    sample: Sampler
    posterior: Posterior
    entropy: Callable[[], float] | None = None

    def draw(self, n: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n samples: their logits and posteriors, (n, k) each."""
        logits = np.ascontiguousarray(self.sample(n, rng), dtype=np.float64)
        return logits, normalised(self.posterior(below_top(logits)))


def draw_labels(posterior: np.ndarray, rng: Generator) -> np.ndarray:
    """Draw a label per row, (n,)."""
    return (posterior.cumsum(axis=1) > rng.random((len(posterior), 1))).argmax(axis=1)


def true_nlls(family: Family, rng: Generator) -> tuple[float, float]:
    """Return the expected NLLs of the best map and of TS with the best temperature, in nats.

    TS's is the best map's plus the mean divergence of TS from the posterior, whose Monte Carlo error is far smaller
    than that of the NLL.
    """
    kept, drawn, total, squares = [], 0, 0.0, 0.0
    while drawn < LEAST or (drawn < MOST and _standard_error(total, squares, drawn) > ERROR):
        logits, posterior = family.draw(CHUNK, rng)
        entropies = entropy(posterior)
        total, squares = total + entropies.sum(), squares + (entropies**2).sum()
        if drawn < LEAST:
            kept.append((below_top(logits), posterior))
        drawn += CHUNK
    best = family.entropy() if family.entropy else total / drawn
    beta = _best_beta(kept)
    return float(best), float(best + np.mean([_divergence(beta, *chunk) for chunk in kept]))


def _standard_error(total: float, squares: float, n: int) -> float:
    return np.sqrt(max(squares / n - (total / n) ** 2, 0.0) / n)


def _best_beta(chunks: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the inverse temperature of the least NLL, which is convex in it; 0 if no positive one is better."""

    def slope(beta: float) -> float:
        return np.mean([((softmax(beta * u) - posterior) * u).sum() for u, posterior in chunks])

    if slope(0.0) >= 0:
        return 0.0
    high = 1.0
    while slope(high) < 0:
        high *= 2
    return brentq(slope, 0.0, high, xtol=1e-6)


def _divergence(beta: float, u: np.ndarray, posterior: np.ndarray) -> float:
    return (xlogy(posterior, posterior) - posterior * log_softmax(beta * u)).sum(axis=1).mean()


# Parts of rows, (n, k) or (n,) ----------------------------------------------------------------------------------------


def below_top(logits: np.ndarray) -> np.ndarray:
    """Logits less the largest of their row."""
    return logits - logits.max(axis=1, keepdims=True)


def centred(u: np.ndarray) -> np.ndarray:
    """Rows less their mean."""
    return u - u.mean(axis=1, keepdims=True)


def normalised(weights: np.ndarray) -> np.ndarray:
    """Rows that add up to 1."""
    return weights / weights.sum(axis=1, keepdims=True)


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy of each row, in nats."""
    return -xlogy(p, p).sum(axis=1)


def top(u: np.ndarray) -> np.ndarray:
    """Predicted classes."""
    return u.argmax(axis=1)


def one_hot(classes: np.ndarray, k: int) -> np.ndarray:
    """Rows with a single 1."""
    return np.eye(k)[classes]


def ranked(u: np.ndarray, m: int) -> np.ndarray:
    """Classes of the m largest logits, the largest first."""
    return np.argsort(-u, axis=1, kind="stable")[:, :m]


def gap(u: np.ndarray) -> np.ndarray:
    """Gap between the two largest logits."""
    return np.sort(-u, axis=1)[:, 1]


# Samplers and posteriors that several families share ------------------------------------------------------------------


def raised(
    k: int,
    margin: float,
    noise: float,
    *,
    prior: np.ndarray | None = None,
    shift: float = 0.0,
    shape: float | None = None,
) -> Sampler:
    """Normal logits, one of them raised by a margin: a fixed one, or one of a gamma distribution of this shape."""
    prior = None if prior is None else prior / prior.sum()

    def sample(n: int, rng: Generator) -> np.ndarray:
        classes = rng.integers(k, size=n) if prior is None else rng.choice(k, n, p=prior)
        logits = noise * rng.standard_normal((n, k))
        logits[np.arange(n), classes] += margin if shape is None else rng.gamma(shape, margin / shape, n)
        return logits + shift * rng.standard_normal((n, 1)) if shift else logits

    return sample


def linear_head(k: int, dimensions: int, scale: float, spread: float, seed: int, shift: float = 0.0) -> Sampler:
    """Logits of a linear head on features around centres of classes: similar classes have similar logits."""
    centres = np.random.default_rng(seed).standard_normal((k, dimensions))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def sample(n: int, rng: Generator) -> np.ndarray:
        features = centres[rng.integers(k, size=n)] + spread * rng.standard_normal((n, dimensions))
        logits = scale * features @ centres.T
        return logits + shift * rng.standard_normal((n, 1)) if shift else logits

    return sample


def heavy_tailed(k: int, degrees: float, scale: float) -> Sampler:
    """Logits of Student's t distribution."""
    return lambda n, rng: scale * rng.standard_t(degrees, (n, k))


def tempered(temperature: float) -> Posterior:
    """TS."""
    return lambda u: softmax(u / temperature)


def scaled(scale: float | np.ndarray, bias: float | np.ndarray) -> Posterior:
    """A slope and a bias per class."""
    return lambda u: softmax(scale * centred(u) + bias)


def confused(matrix: np.ndarray, temperature: float = 1.0) -> Posterior:
    """TS whose classes are then confused: row i of the matrix says which labels class i is given."""
    return lambda u: softmax(u / temperature) @ matrix


def blocks(k: int, size: int, stay: float) -> np.ndarray:
    """A confusion matrix within blocks of classes."""
    matrix = np.kron(np.eye(k // size), np.full((size, size), (1 - stay) / (size - 1)))
    np.fill_diagonal(matrix, stay)
    return matrix


FAMILIES: dict[str, Family] = {}

# Temperature scaling is the truth -------------------------------------------------------------------------------------


def calibrated(n: int, rng: Generator) -> np.ndarray:
    """Logarithms of probabilities that are calibrated."""
    return np.log(np.maximum(rng.dirichlet([0.6] * 3, n), 1e-30))


FAMILIES |= {
    "calibrated_dirichlet_3": Family(
        3, "probabilities that are calibrated", calibrated, softmax, lambda: digamma(3 * 0.6 + 1) - digamma(0.6 + 1)
    ),
    "ts_truth_10": Family(10, "an overconfident network", raised(10, 6, 1.5, shape=3, shift=2), tempered(1.9)),
    "ts_truth_100": Family(
        100, "an overconfident network of 100 classes", linear_head(100, 40, 14, 0.13, 1, shift=1), tempered(1.5)
    ),
    "ts_truth_under_30": Family(
        30, "label smoothing: an underconfident network", raised(30, 4, 0.6, shape=6), tempered(0.55)
    ),
}

# Two classes ----------------------------------------------------------------------------------------------------------

Difference = Callable[[int, Generator], np.ndarray]
Density = Callable[[np.ndarray], np.ndarray]


def log_odds(u: np.ndarray) -> np.ndarray:
    """Difference of the two logits."""
    return u[:, 1] - u[:, 0]


def two(p: np.ndarray) -> np.ndarray:
    """Posteriors from those of the second class."""
    return np.stack([1 - p, p], axis=1)


def normal_density(x: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """A normal density, up to a factor."""
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation


def two_classes(
    why: str,
    difference: Difference,
    density: Density,
    posterior: Posterior,
) -> Family:
    """A family of two classes, from the law of its log-odds and its density up to a factor."""

    def sample(n: int, rng: Generator) -> np.ndarray:
        half, middle = difference(n, rng) / 2, rng.standard_normal(n)
        return np.stack([middle - half, middle + half], axis=1)

    def integral() -> float:
        x = np.linspace(-40, 40, 400_001)
        weights = density(x)
        u = below_top(np.stack([0 * x, x], axis=1))
        return weights @ entropy(normalised(posterior(u))) / weights.sum()

    return Family(2, why, sample, posterior, integral)


def two_normals(share: float, first: tuple[float, float], second: tuple[float, float]) -> tuple[Difference, Density]:
    """Return the sampler and the density of a mixture of two normal laws, each a mean and a standard deviation."""

    def sample(n: int, rng: Generator) -> np.ndarray:
        from_first = rng.random(n) < share
        one, other = (mean + deviation * rng.standard_normal(n) for mean, deviation in (first, second))
        return np.where(from_first, one, other)

    return sample, lambda x: share * normal_density(x, *first) + (1 - share) * normal_density(x, *second)


def evidence_twice(n: int, rng: Generator) -> np.ndarray:
    """Log-odds of naive Bayes whose evidence is counted twice in part; the prior is .3."""
    positive = rng.random(n) < 0.3
    return np.sqrt(15) * rng.standard_normal(n) + np.where(positive, 4.5, -4.5)


def evidence_twice_density(x: np.ndarray) -> np.ndarray:
    """The density of `evidence_twice`."""
    return 0.3 * normal_density(x, 4.5, np.sqrt(15)) + 0.7 * normal_density(x, -4.5, np.sqrt(15))


def beta_calibrated(u: np.ndarray) -> np.ndarray:
    """Beta calibration: a logit that is linear in log p and log(1 - p)."""
    log = log_softmax(u)
    return two(expit(0.9 * log[:, 1] - 0.35 * log[:, 0] + 0.3))


def kinked(u: np.ndarray) -> np.ndarray:
    """Another slope on each side."""
    x = log_odds(u)
    return two(expit(np.where(x > 0, 0.25 * x, 1.2 * x)))


def binned(u: np.ndarray) -> np.ndarray:
    """A constant per bin of the log-odds."""
    bins = np.searchsorted([-6, -3.5, -1.5, 0.5, 2.5, 5], log_odds(u))
    return two(np.array([0.02, 0.12, 0.3, 0.35, 0.7, 0.8, 0.97])[bins])


def falls_back(u: np.ndarray) -> np.ndarray:
    """Log-odds that rise, then fall: scores at the edges belong to outliers."""
    return two(expit(2.6 * np.sin(np.clip(log_odds(u) / 4, -2.6, 2.6))))


USUAL = two_normals(0.5, (-4, 3), (3, 2))
RARE = two_normals(0.02, (2, 2), (-2, 2))
FAMILIES |= {
    "bin_platt": two_classes("Platt's slope and bias", *USUAL, lambda u: two(expit(0.5 * log_odds(u) + 0.7))),
    "bin_beta": two_classes("beta calibration", *USUAL, beta_calibrated),
    "bin_kink": two_classes("a reliability curve with a kink", *USUAL, kinked),
    "bin_steps": two_classes("a risk score in bins", *USUAL, binned),
    "bin_asym_noise": two_classes(
        "label noise of 5% and 25%", *USUAL, lambda u: two(0.05 + 0.7 * expit(1.3 * log_odds(u)))
    ),
    "bin_rare_2pct": two_classes(
        "2% positives, trained on balanced data", *RARE, lambda u: two(expit(log_odds(u) + np.log(0.02 / 0.98)))
    ),
    "bin_nonmonotone": two_classes("reliability falls back at the edges", *USUAL, falls_back),
    "bin_dup_features": two_classes(
        "naive Bayes that counts half of the evidence twice",
        evidence_twice,
        evidence_twice_density,
        lambda u: two(expit(9 * log_odds(u) / 15 + np.log(3 / 7))),
    ),
}

# A scale and a bias per class -----------------------------------------------------------------------------------------

_rng = np.random.default_rng(11)
OVER = np.exp(_rng.normal(-0.6, 0.35, 10)), _rng.normal(0, 0.9, 10)
UNDER = np.exp(_rng.normal(0.7, 0.25, 5)), _rng.normal(0, 0.7, 5)
BIAS_40 = _rng.normal(0, 1.0, 40)
TEMPERATURES_10 = np.exp(_rng.normal(0.4, 0.5, 10))


def tempered_by_prediction(temperatures: np.ndarray) -> Posterior:
    """A temperature per predicted class."""
    return lambda u: softmax(u / temperatures[top(u)][:, None])


FAMILIES |= {
    "over_classbias_10": Family(
        10, "overconfident, a slope and a bias per class", raised(10, 7, 1.8, shape=3, shift=3), scaled(*OVER)
    ),
    "under_classbias_5": Family(
        5, "underconfident, a slope and a bias per class", raised(5, 2, 0.7, shape=4), scaled(*UNDER)
    ),
    "bias_only_40": Family(40, "a shift of priors", linear_head(40, 20, 10, 0.2, 2), lambda u: softmax(u + BIAS_40)),
    "pred_class_T_10": Family(
        10,
        "a temperature per predicted class",
        raised(10, 6, 1.6, shape=4),
        tempered_by_prediction(TEMPERATURES_10),
    ),
    "pred_class_T_3": Family(
        3,
        "one of three predictions is unreliable",
        raised(3, 3, 1.3, shape=2),
        tempered_by_prediction(np.array([0.5, 1.0, 3.0])),
    ),
}

# Confusions and label noise -------------------------------------------------------------------------------------------


def two_bad_pairs() -> np.ndarray:
    """Only the first four of ten classes are confused."""
    matrix = np.eye(10)
    matrix[:4] = blocks(10, 2, 0.6)[:4]
    return matrix


def asymmetric_noise(rng: Generator) -> np.ndarray:
    """Each class goes to two others, with a probability of 0, .1 or .35."""
    matrix = np.eye(15)
    for row in matrix:
        others, share = rng.choice(15, 2, replace=False), rng.choice([0, 0.1, 0.35])
        row *= 1 - share
        row[others] += share / 2
    return matrix


def sparse_confusion(rng: Generator) -> np.ndarray:
    """A quarter of each class goes to three classes."""
    matrix = 0.75 * np.eye(100)
    for row in matrix:
        others = rng.choice(100, 3, replace=False)
        row[others] += 0.25 * rng.dirichlet([1, 1, 1])
    return matrix


def one_renamed() -> np.ndarray:
    """Most of class 7 is called class 1."""
    matrix = np.eye(10)
    matrix[7, 7], matrix[7, 1] = 0.15, 0.85
    return matrix


def neighbours() -> np.ndarray:
    """Grades are confused with their neighbours."""
    grades = np.arange(8)
    return np.stack([weights / weights.sum() for weights in np.exp(-np.abs(grades - grades[:, None]) / 0.6)])


def grades(n: int, rng: Generator) -> np.ndarray:
    """Logits that fall off on both sides of a score."""
    score, curvature = rng.uniform(-0.7, 7.7, (n, 1)), rng.uniform(0.8, 3, (n, 1))
    return -curvature * (np.arange(8) - score) ** 2 + 0.2 * rng.standard_normal((n, 8))


FAMILIES |= {
    "pairs_10": Family(10, "pairs of classes", raised(10, 8, 1.5, shape=4), confused(blocks(10, 2, 0.72), 1.4)),
    "triples_12": Family(12, "triples of classes", raised(12, 7, 1.3), confused(blocks(12, 3, 0.6), 1.2)),
    "two_bad_pairs_10": Family(
        10, "two pairs and six clean classes", raised(10, 8, 1.5, shape=4), confused(two_bad_pairs(), 1.3)
    ),
    "noise_uniform_20": Family(20, "20% uniform noise", raised(20, 8, 1.5), lambda u: 0.8 * softmax(u) + 0.2 / 20),
    "noise_pairflip_10": Family(
        10,
        "30% of each class get the next class's label",
        raised(10, 9, 1.7),
        confused(0.7 * np.eye(10) + 0.3 * np.roll(np.eye(10), 1, 1)),
    ),
    "noise_asym_15": Family(
        15, "sparse asymmetric noise", raised(15, 8, 1.6, shape=5), confused(asymmetric_noise(_rng))
    ),
    "sparse_confusion_100": Family(
        100, "three partners per class", raised(100, 12, 1.6, shape=8), confused(sparse_confusion(_rng), 1.2)
    ),
    "one_class_broken_10": Family(
        10, "a class renamed after training", raised(10, 8, 1.7, shape=5), confused(one_renamed(), 1.3)
    ),
    "ordinal_8": Family(8, "grades confused with their neighbours", grades, confused(neighbours())),
}

# Ranks and gaps -------------------------------------------------------------------------------------------------------


def second_half(u: np.ndarray) -> np.ndarray:
    """The first two ranks are equally likely."""
    posterior = np.full(u.shape, (1 - 0.47 - 0.47) / 8)
    np.put_along_axis(posterior, ranked(u, 2), 0.47, axis=1)
    return posterior


def second_half_entropy() -> float:
    """The entropy of `second_half`."""
    return -(2 * 0.47 * np.log(0.47) + 0.06 * np.log(0.06 / 8))


def second_if_close(u: np.ndarray) -> np.ndarray:
    """The second rank is likelier than the first where the gap is small."""
    i, (first, second) = np.arange(len(u)), ranked(u, 2).T
    weight = 0.5 * expit(2 * (2.5 - gap(u)))
    posterior = softmax(u / 1.2)
    a, b = posterior[i, first], posterior[i, second]
    posterior[i, first] = (1 - weight) * a + weight * 0.35 * (a + b)
    posterior[i, second] = (1 - weight) * b + weight * 0.65 * (a + b)
    return posterior


def gap_temperature(u: np.ndarray) -> np.ndarray:
    """A temperature that rises with the gap."""
    return softmax(u / (1 + 2.2 * expit(1.5 * (gap(u)[:, None] - 4))))


def gap_only(u: np.ndarray) -> np.ndarray:
    """The ranks' posterior depends only on the gap."""
    k, i, (first, second) = u.shape[1], np.arange(len(u)), ranked(u, 2).T
    right = 0.3 + 0.67 * (1 - np.exp(-gap(u) / 2.5))
    posterior = np.repeat(((1 - right) * 0.4 / (k - 2))[:, None], k, axis=1)
    posterior[i, first], posterior[i, second] = right, (1 - right) * 0.6
    return posterior


def third_if_close(u: np.ndarray) -> np.ndarray:
    """The third rank is likely where it is close."""
    third = ranked(u, 3)[:, 2]
    weight = 0.45 * expit(1.5 * (-np.sort(-u, axis=1)[:, 2] + 3.5))
    posterior = (1 - weight)[:, None] * softmax(u / 1.1)
    posterior[np.arange(len(u)), third] += weight
    return posterior


def entropy_temperature(u: np.ndarray) -> np.ndarray:
    """A temperature that rises with the entropy."""
    return softmax(u / (0.8 + 1.6 * entropy(softmax(u))[:, None]))


def uniform_if_unsure(u: np.ndarray) -> np.ndarray:
    """Labels are near uniform where the entropy is high."""
    weight = 0.8 * expit(6 * (entropy(softmax(u)) - 0.9))[:, None]
    return (1 - weight) * softmax(u) + weight / u.shape[1]


def five_if_unsure(u: np.ndarray) -> np.ndarray:
    """The first five ranks are equally likely where the entropy is high."""
    ranks, weight = ranked(u, 5), expit(3 * (entropy(softmax(u)) - 0.8))[:, None]
    posterior = (1 - weight) * softmax(u)
    np.put_along_axis(posterior, ranks, np.take_along_axis(posterior, ranks, axis=1) + weight / 5, axis=1)
    return posterior


FAMILIES |= {
    "second_rank_half_10": Family(
        10,
        "the label has the second rank half of the time",
        raised(10, 6, 1.5, shape=3),
        second_half,
        second_half_entropy,
    ),
    "second_rank_if_close_50": Family(
        50, "the second rank wins where the gap is small", linear_head(50, 25, 12, 0.18, 3, shift=1), second_if_close
    ),
    "gap_T_10": Family(10, "a temperature by the gap", raised(10, 6, 1.7, shape=3), gap_temperature),
    "gap_only_12": Family(12, "the gap decides alone", raised(12, 5, 1.4, shape=3, shift=2), gap_only),
    "third_logit_8": Family(
        8, "the third rank is likely where it is close", raised(8, 5, 1.5, shape=3), third_if_close
    ),
    "entropy_T_20": Family(20, "a temperature by the entropy", raised(20, 7, 1.6, shape=3), entropy_temperature),
    "entropy_uniform_50": Family(
        50, "inputs of high entropy are foreign", linear_head(50, 30, 16, 0.2, 4), uniform_if_unsure
    ),
    "uniform_top5_100": Family(
        100, "uniform over five classes where unsure", linear_head(100, 30, 20, 0.16, 5), five_if_unsure
    ),
}

# Accuracy by confidence -----------------------------------------------------------------------------------------------


def by_confidence(accuracy: Callable[[np.ndarray], np.ndarray]) -> Posterior:
    """The top class's posterior is a function of its probability; the others share the rest as they did."""

    def posterior(u: np.ndarray) -> np.ndarray:
        others, i, classes = softmax(u), np.arange(len(u)), top(u)
        right = accuracy(others[i, classes])
        others[i, classes] = 0
        found = (1 - right)[:, None] * normalised(others + 1e-12)
        found[i, classes] += right
        return found

    return posterior


def steps(confidence: np.ndarray) -> np.ndarray:
    """A constant accuracy per bin."""
    bins = np.searchsorted([0.35, 0.55, 0.75, 0.93, 0.995], confidence)
    return np.array([0.25, 0.45, 0.5, 0.8, 0.9, 0.985])[bins]


def kink(confidence: np.ndarray) -> np.ndarray:
    """Accuracy falls above a confidence of .8."""
    return np.where(confidence < 0.8, confidence, 0.8 - 0.5 * (confidence - 0.8))


FAMILIES |= {
    "conf_steps_10": Family(10, "accuracy in steps", raised(10, 6, 1.6, shape=2), by_confidence(steps)),
    "conf_kink_10": Family(10, "accuracy with a kink", raised(10, 6, 1.6, shape=2), by_confidence(kink)),
    "conf_plateau_25": Family(
        25, "accuracy is at most .85", raised(25, 9, 1.5, shape=3), by_confidence(lambda c: np.minimum(c, 0.85))
    ),
}

# Mixtures of populations ----------------------------------------------------------------------------------------------


def some_corrupted(n: int, rng: Generator) -> np.ndarray:
    """Two in five rows are scaled down."""
    logits = raised(20, 7, 1.2)(n, rng)
    corrupted = rng.random(n) < 0.4
    logits[corrupted] *= 0.35 + 0.1 * rng.random((corrupted.sum(), 1))
    return logits


def norm_temperature(u: np.ndarray) -> np.ndarray:
    """A temperature for small norms and one for large ones."""
    norms = np.linalg.norm(centred(u), axis=1)[:, None]
    return softmax(u * np.where(norms < 6, 0.45, 0.9))


def two_scales(n: int, rng: Generator) -> np.ndarray:
    """Normal logits of one of two scales."""
    return np.where(rng.random(n) < 0.5, 1.0, 4.0)[:, None] * rng.standard_normal((n, 6))


def two_scales_posterior(u: np.ndarray) -> np.ndarray:
    """TS at .5 for the small scale and at 2.5 for the large one, mixed by Bayes' rule."""
    squares = (centred(u) ** 2).sum(axis=1)
    small = expit(5 * np.log(4.0) - 0.5 * squares * (1 - 1 / 16))[:, None]
    return small * softmax(u / 0.5) + (1 - small) * softmax(u / 2.5)


def two_sources(n: int, rng: Generator) -> np.ndarray:
    """The first six classes come from one source, the others from another."""
    first, logits = rng.random(n) < 0.5, 1.4 * rng.standard_normal((n, 12))
    classes = np.where(first, rng.integers(0, 6, n), rng.integers(6, 12, n))
    logits[np.arange(n), classes] += rng.gamma(4, 1.6, n)
    return logits


def two_sources_posterior(u: np.ndarray) -> np.ndarray:
    """The second source is noisy."""
    first = softmax(u)[:, :6].sum(axis=1, keepdims=True)
    return first * softmax(u) + (1 - first) * (0.6 * softmax(u / 2.5) + 0.4 / 12)


FAMILIES |= {
    "two_pop_norm_20": Family(20, "corrupted inputs have small logits", some_corrupted, norm_temperature),
    "two_pop_scale_6": Family(6, "two populations of different scale", two_scales, two_scales_posterior),
    "two_pop_source_12": Family(12, "two sources, one noisy", two_sources, two_sources_posterior),
}

# Imbalance ------------------------------------------------------------------------------------------------------------

LONG_TAIL = 1 / np.arange(1, 31) ** 1.3
LONG_TAIL /= LONG_TAIL.sum()
DECAY = 0.96 ** np.arange(100.0)
DECAY /= DECAY.sum()
MAJORITY = np.array([0.9, 0.04, 0.03, 0.02, 0.01])


def unreliable_tail(u: np.ndarray) -> np.ndarray:
    """A temperature that rises towards rare classes, and half of the shift in priors."""
    temperatures = 1 + 1.2 * np.arange(100) / 100
    return softmax(u / temperatures[top(u)][:, None] + 0.5 * np.log(DECAY * 100))


FAMILIES |= {
    "longtail_30": Family(
        30,
        "a long tail, trained on balanced data",
        raised(30, 7, 1.7, prior=LONG_TAIL),
        lambda u: softmax(u + np.log(LONG_TAIL * 30)),
    ),
    "longtail_tail_unreliable_100": Family(
        100, "rare predictions are less reliable", raised(100, 11, 1.7, prior=DECAY, shape=8), unreliable_tail
    ),
    "majority_5": Family(
        5,
        "a majority of 90%",
        raised(5, 5, 1.6, prior=MAJORITY),
        lambda u: softmax(0.7 * u + 0.8 * np.log(MAJORITY)),
    ),
}

# Shapes of the logits' law --------------------------------------------------------------------------------------------

CONFUSION = np.random.default_rng(21).dirichlet([0.25] * 10, 10) * 0.35 + 0.65 * np.eye(10)
FREQUENCIES = np.random.default_rng(22).dirichlet([8] * 10)
PRIOR = np.random.default_rng(42).dirichlet([1.5] * 10)
SHARED = np.random.default_rng(299).standard_normal((6, 8))
MEMBERS = [np.random.default_rng(300 + i).standard_normal((6, 8)) for i in range(5)]
AXES_3, HEAD_3 = (np.random.default_rng(31 + i).standard_normal(shape) for i, shape in enumerate([(10, 3), (3, 10)]))
AXES_4, HEAD_4 = (np.random.default_rng(33 + i).standard_normal(shape) for i, shape in enumerate([(50, 4), (4, 50)]))
AXES_3 -= AXES_3.mean(axis=0)
AXES_4 -= AXES_4.mean(axis=0)
BACK_3, BACK_4 = np.linalg.pinv(AXES_3).T, np.linalg.pinv(AXES_4).T
WEAK = np.random.default_rng(41).standard_normal((6, 6)) * 0.35


def five_votes(n: int, rng: Generator) -> np.ndarray:
    """Logarithms of the shares of five votes, which are drawn from a Dirichlet law's probabilities."""
    p, votes = rng.dirichlet([0.35] * 4, n), np.zeros((n, 4))
    for _ in range(5):
        classes = (rng.random((n, 1)) > np.cumsum(p, axis=1)[:, :3]).sum(axis=1)
        votes[np.arange(n), classes] += 1
    return np.log(votes + 0.2)


def saturated(n: int, rng: Generator) -> np.ndarray:
    """One logit is higher by 30."""
    logits, classes = 1.5 * rng.standard_normal((n, 10)), rng.integers(10, size=n)
    logits[np.arange(n), classes] += 30 + 4 * rng.standard_normal(n)
    return logits


def wrong_by_the_rest(u: np.ndarray) -> np.ndarray:
    """A tenth of the labels follow the other logits."""
    return 0.9 * one_hot(top(u), 10) + 0.1 * softmax(0.8 * np.where(u == 0, -900, u))


def right_by_large_gaps(u: np.ndarray) -> np.ndarray:
    """Gaps of 20 to 35 still show how likely the top class is."""
    right = expit((gap(u)[:, None] - 24) / 3)
    return (1 - right) * softmax(0.5 * np.where(u == 0, -60, u)) + right * one_hot(top(u), 10)


def ensemble(n: int, rng: Generator) -> np.ndarray:
    """Logarithms of the mean probabilities of five linear members."""
    x = 1.3 * rng.standard_normal((n, 6))
    members = [softmax(2 * x @ (SHARED + 0.7 * member)) for member in MEMBERS]
    return np.log(np.mean(members, axis=0) + 1e-300)


FAMILIES |= {
    "heavy_t2_10": Family(
        10, "heavy tails", heavy_tailed(10, 2, 2.0), lambda u: softmax(1.5 * np.arcsinh(centred(u) / 1.5))
    ),
    "heavy_t3_ts_5": Family(
        5,
        "heavy tails; a temperature and a bias",
        heavy_tailed(5, 3, 2.0),
        lambda u: softmax(0.6 * u + np.array([0.5, 0, -0.5, 1, 0])),
    ),
    "onehot_1nn_10": Family(
        10,
        "one nearest neighbour",
        lambda n, rng: one_hot(rng.choice(10, n, p=FREQUENCIES), 10),
        lambda u: CONFUSION[top(u)],
        lambda: FREQUENCIES @ entropy(CONFUSION),
    ),
    "knn5_votes_4": Family(
        4,
        "five nearest neighbours",
        five_votes,
        lambda u: normalised(np.rint(softmax(u) * 5.8 - 0.2) + 0.35),  # the Dirichlet law given the votes
    ),
    "saturated_10": Family(10, "saturated; the other logits show errors", saturated, wrong_by_the_rest),
    "saturated_gap_10": Family(10, "saturated; the gap shows errors", saturated, right_by_large_gaps),
    "ensemble_8": Family(
        8,
        "an ensemble of five",
        ensemble,
        lambda u: softmax(1.6 * log_softmax(u) + 0.3 * np.cos(np.arange(8))),
    ),
    "quantised_10": Family(
        10,
        "rounded logits",
        lambda n, rng: np.round(raised(10, 6, 1.5, shape=4)(n, rng)),
        lambda u: softmax(0.6 * u + 0.25 * np.arange(10) % 1.0),
    ),
    "lowrank_10": Family(
        10,
        "rank 3, and another linear head",
        lambda n, rng: 1.5 * rng.standard_normal((n, 3)) @ AXES_3.T,
        lambda u: softmax(0.8 * u + 0.9 * (centred(u) @ BACK_3) @ HEAD_3),
    ),
    "lowrank_nonlin_50": Family(
        50,
        "rank 4, and a nonlinear head",
        lambda n, rng: 1.4 * rng.standard_normal((n, 4)) @ AXES_4.T,
        lambda u: softmax(0.7 * u + 0.8 * np.tanh(centred(u) @ BACK_4) @ HEAD_4),
    ),
    "near_det_20": Family(20, "labels are almost certain", raised(20, 3, 0.7), lambda u: softmax(9 * u)),
    "high_entropy_6": Family(
        6,
        "opinions of a crowd, near uniform",
        raised(6, 3, 1.2),
        lambda u: softmax(0.12 * centred(u) + centred(u) @ WEAK * 0.25),
    ),
    "useless_10": Family(
        10,
        "logits are noise",
        raised(10, 6, 1.5),
        lambda u: np.tile(PRIOR, (len(u), 1)),
        lambda: entropy(PRIOR[None])[0],
    ),
}

# Clusters -------------------------------------------------------------------------------------------------------------

_rng = np.random.default_rng(51)
CENTRES_12 = centred(3.0 * _rng.standard_normal((20, 12)))
POSTERIORS_12 = 0.75 * softmax(CENTRES_12) + 0.25 * _rng.dirichlet([0.3] * 12, 20)
POSTERIORS_8 = _rng.dirichlet([0.4] * 8, 8) * 0.5 + 0.5 * np.eye(8)
CENTRES_4 = centred(2.2 * _rng.standard_normal((9, 4)))
POSTERIORS_4 = 0.6 * softmax(CENTRES_4) + 0.4 * _rng.dirichlet([0.5] * 4, 9)


def around(centres: np.ndarray, noise: float) -> Sampler:
    """Normal logits around centres."""
    count, k = centres.shape
    return lambda n, rng: centres[rng.integers(count, size=n)] + noise * rng.standard_normal((n, k))


def of_nearest(u: np.ndarray) -> np.ndarray:
    """The posterior of the nearest centre."""
    distances = (CENTRES_12**2).sum(axis=1) - 2 * centred(u) @ CENTRES_12.T
    return POSTERIORS_12[distances.argmin(axis=1)]


def of_likely(u: np.ndarray) -> np.ndarray:
    """The clusters' posteriors, mixed by Bayes' rule."""
    squares = ((centred(u)[:, None, :] - CENTRES_4) ** 2).sum(axis=2)
    return softmax(-0.5 * squares / 0.8**2) @ POSTERIORS_4


FAMILIES |= {
    "clusters_12": Family(12, "20 tight clusters", around(CENTRES_12, 0.5), of_nearest),
    "vertex_clusters_8": Family(
        8,
        "a cluster per class",
        around(12 * np.eye(8), 0.8),
        lambda u: POSTERIORS_8[top(u)],
        lambda: entropy(POSTERIORS_8).mean(),  # another logit is the largest with a probability below 1e-24
    ),
    "gmm_bayes_4": Family(4, "nine clusters that overlap", around(CENTRES_4, 0.8), of_likely),
}

# Hierarchies of classes -----------------------------------------------------------------------------------------------


def grouped(groups: int, size: int, group_margin: float, margin: float, noise: float) -> Sampler:
    """Logits of groups plus logits of their classes."""

    def sample(n: int, rng: Generator) -> np.ndarray:
        i, group = np.arange(n), rng.integers(groups, size=n)
        logits = noise * rng.standard_normal((n, groups, size))
        logits += noise * rng.standard_normal((n, groups, 1))
        logits[i, group] += group_margin
        logits[i, group, rng.integers(size, size=n)] += margin
        return logits.reshape(n, groups * size)

    return sample


def grouped_posterior(groups: int, size: int, between: float, within: float) -> Posterior:
    """One temperature between groups and another within them."""

    def posterior(u: np.ndarray) -> np.ndarray:
        log = log_softmax(u).reshape(len(u), groups, size)
        most = log.max(axis=2, keepdims=True)
        group = most + np.log(np.exp(log - most).sum(axis=2, keepdims=True))
        fine = special.softmax((log - group) / within, axis=2)
        return (softmax(group[:, :, 0] / between)[:, :, None] * fine).reshape(u.shape)

    return posterior


FAMILIES |= {
    "hier_20": Family(20, "five groups of four", grouped(5, 4, 5, 3, 1.2), grouped_posterior(5, 4, 0.9, 3.0)),
    "hier_100": Family(100, "20 groups of five", grouped(20, 5, 6, 3, 1.2), grouped_posterior(20, 5, 1.0, 2.5)),
}

# Smooth maps of the logits --------------------------------------------------------------------------------------------

_rng = np.random.default_rng(61)
ROTATION, ROTATION_BIAS = np.linalg.qr(_rng.standard_normal((6, 6)))[0], _rng.normal(0, 0.5, 6)
AFFINE_20, AFFINE_20_BIAS = 0.6 * np.eye(20) + 0.12 * _rng.standard_normal((20, 20)), _rng.normal(0, 0.4, 20)
AFFINE_100 = 0.7 * np.eye(100) + 0.03 * _rng.standard_normal((100, 100))
SLOPES, BIASES = np.exp(_rng.normal(0.1, 0.3, 6)), _rng.normal(-0.5, 0.5, 6)


def curved(u: np.ndarray) -> np.ndarray:
    """A nonlinear function of two of three logits."""
    a, b = centred(u)[:, :2].T / 2
    return softmax(0.5 * centred(u) + np.stack([np.tanh(a * b), -np.tanh(a**2 - 1), np.sin(a - b)], axis=1) * 1.3)


def interacting(u: np.ndarray) -> np.ndarray:
    """Products of neighbouring logits."""
    c = centred(u) / 2.5
    return softmax(0.4 * centred(u) + np.tanh(c * np.roll(c, -1, axis=1)))


def waves(frequency: float) -> Posterior:
    """A wave along one direction."""
    direction, signs = np.array([1, -1, 0.5, -0.5]) / np.sqrt(2.5), np.array([1, -1, -1, 1.0])
    return lambda u: softmax(0.6 * u + 0.8 * np.sin(frequency * (u @ direction))[:, None] * signs)


def focal(u: np.ndarray) -> np.ndarray:
    """The inverse link of the focal loss with gamma = 2."""
    log = log_softmax(u)
    p, rest = np.exp(log), np.maximum(-np.expm1(log), 1e-12)
    return p / (rest**2 - 2 * rest * p * log)


def steep(u: np.ndarray) -> np.ndarray:
    """Reliability rises steeply with the gap."""
    right = expit(3 * (gap(u)[:, None] - 3.6))
    return right * one_hot(top(u), 30) + (1 - right) * softmax(0.8 * u)


FAMILIES |= {
    "smooth_two_logits_3": Family(3, "a function of two logits", raised(3, 3, 1.5, shape=3), curved),
    "interaction_5": Family(5, "products of logits", raised(5, 5, 1.6, shape=4), interacting),
    "periodic_slow_4": Family(4, "a slow wave", raised(4, 4, 1.8), waves(0.9)),
    "periodic_fast_4": Family(4, "a fast wave", raised(4, 4, 1.8), waves(6.0)),
    "rotation_6": Family(
        6,
        "a rotation of the logits",
        raised(6, 4, 1.2, shape=4),
        lambda u: softmax(0.7 * centred(u) @ ROTATION + ROTATION_BIAS),
    ),
    "affine_20": Family(
        20,
        "matrix scaling",
        raised(20, 6, 1.5, shape=4),
        lambda u: softmax(centred(u) @ AFFINE_20 + AFFINE_20_BIAS),
    ),
    "affine_100": Family(
        100, "matrix scaling, weak and dense", raised(100, 10, 1.5, shape=8), lambda u: softmax(centred(u) @ AFFINE_100)
    ),
    "ovr_sigmoids_6": Family(
        6,
        "one against the rest, by sigmoids",
        raised(6, 3, 1.0, shape=4),
        lambda u: expit(SLOPES * centred(u) + BIASES) + 1e-6,
    ),
    "focal_10": Family(10, "trained by the focal loss", raised(10, 3.5, 1.0, shape=4), focal),
    "label_smoothed_30": Family(30, "trained by label smoothing", raised(30, 5.2, 0.45, shape=40), steep),
}

# Normal laws per class, read by Bayes' rule ---------------------------------------------------------------------------

_rng = np.random.default_rng(71)


def basis(k: int) -> np.ndarray:
    """An orthonormal basis of the rows that add up to 0, (k, k - 1)."""
    return np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]


def random_root(rng: Generator) -> np.ndarray:
    """A root of a covariance matrix, (3, 3)."""
    return np.diag(np.exp(rng.normal(0, 0.35, 3))) @ np.linalg.qr(rng.standard_normal((3, 3)))[0]


MEANS_4, ROOTS_4 = 2.6 * basis(4) + 0.5 * _rng.standard_normal((4, 3)), [random_root(_rng) for _ in range(4)]
PRIOR_4 = np.array([0.4, 0.3, 0.2, 0.1])
SPREADS_10 = np.exp(_rng.normal(0, 0.35, 10))
MEANS_10 = centred(4 * np.eye(10) + 1.2 * blocks(10, 2, 0.0)) @ basis(10)


def unequal_covariances(n: int, rng: Generator) -> np.ndarray:
    """Features of classes with different covariances, read by a linear head."""
    labels, noise = rng.choice(4, n, p=PRIOR_4), rng.standard_normal((n, 3))
    x = np.empty((n, 3))
    for label, (mean, root) in enumerate(zip(MEANS_4, ROOTS_4, strict=True)):
        x[labels == label] = mean + noise[labels == label] @ root.T
    return 2 * x @ basis(4).T + 0.8 * rng.standard_normal((n, 1))


def quadratic_posterior(u: np.ndarray) -> np.ndarray:
    """Bayes' rule for `unequal_covariances`."""
    x, scores = centred(u) @ basis(4) / 2, np.empty(u.shape)
    for label, (mean, root) in enumerate(zip(MEANS_4, ROOTS_4, strict=True)):
        covariance = root @ root.T
        squares = np.einsum("ij,jk,ik->i", x - mean, np.linalg.inv(covariance), x - mean)
        scores[:, label] = np.log(PRIOR_4[label]) - 0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * squares
    return softmax(scores)


def unequal_spreads(n: int, rng: Generator) -> np.ndarray:
    """Logits around the means of classes, some noisier than others."""
    labels = rng.integers(10, size=n)
    x = MEANS_10[labels] + 1.5 * SPREADS_10[labels][:, None] * rng.standard_normal((n, 9))
    return x @ basis(10).T + rng.standard_normal((n, 1))


def unequal_spreads_posterior(u: np.ndarray) -> np.ndarray:
    """Bayes' rule for `unequal_spreads`."""
    x, variances = centred(u) @ basis(10), (1.5 * SPREADS_10) ** 2
    squares = (x**2).sum(axis=1)[:, None] - 2 * x @ MEANS_10.T + (MEANS_10**2).sum(axis=1)
    return softmax(-0.5 * squares / variances - 4.5 * np.log(variances))


FAMILIES |= {
    "qda_4": Family(4, "different covariances, linear head", unequal_covariances, quadratic_posterior),
    "noisy_head_10": Family(10, "different spreads per class", unequal_spreads, unequal_spreads_posterior),
}
