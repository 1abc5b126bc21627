"""Fit maps from logits (n, k) to calibrated logits (n, k), one map for each of several families.

- Smooth maps change slowly with the logits while the predicted class stays the same. They are a temperature, partner
  scaling, a multinomial regression and a network with one hidden layer.
- Local maps predict a sample's label from the labels of samples with similar logits: nearest neighbours, with or
  without a kernel, and trees. Both are shrunk towards partner scaling.
- The map by ranks ignores which class is which. This map predicts how often the label is the class with the largest
  logit, with the second largest logit, and so on.

Adding a constant to all logits of a row changes neither the probabilities nor the result of any map.

References
----------
C. Stone, "Consistent Nonparametric Regression", Annals of Statistics 5, 1977: for any distribution, nearest neighbours
approach the best map if their number grows with, but more slowly than, that of the samples. E. Nadaraya, "On Estimating
Regression", 1964: the kernel. P. Geurts, D. Ernst, L. Wehenkel, "Extremely randomized trees", Machine Learning 63,
2006.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from halobench.calibration.arrays import blocks
from halobench.calibration.scores import sample_scores
from halobench.calibration.temperature.rescaling import rescale, spread
from halobench.calibration.temperature.search import finite_beta, solve
from halobench.core.seeding import generator

Map = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray], Map]  # takes logits and targets

# Strengths of the ridges by kind of target, to be multiplied by the square root of the number of samples.
RIDGES = {"labels": 0.1, "posterior": 0.001}

ITERATIONS = 200

HIDDEN = 64  # number of hidden units of the network
NEIGHBOURS = (5, 20, 80, 320)  # numbers of neighbours to try
SHRINKAGE = (0.3, 3.0, 30.0)  # weights of partner scaling's prediction to try, in units of one neighbour
# The largest number of samples used to choose the number of neighbours, each being left out of its own average.
QUERIES = 1000

BINS = (4, 16)  # numbers of bins, each with its own frequencies by rank, to try instead of one

TREES = 100
LEAF = {"labels": 5, "posterior": 2}  # the smallest number of samples in a leaf
FEATURES = 24  # the smallest number of features to try at each split of a tree, if there are that many
FLOOR = 0.02  # partner scaling's share of the trees' prediction, which keeps all probabilities above 0
LARGEST_LOGIT = 1e15  # the largest logit, in units of the spread, that the network and the local maps can distinguish
TINY = 1e-300  # the smallest probability that a local map predicts
WORK = 1 << 22  # elements of a block of distances between samples
FAMILIES = ("temperature", "partner", "ranks", "regression", "network", "neighbours", "trees")


def fit_families(
    logits: np.ndarray,
    targets: np.ndarray,
    labels: np.ndarray,
    seed: int,
    fit_partner: Fit,
    names: Sequence[str] = FAMILIES,
    votes: bool = False,
) -> dict[str, Map]:
    """Return a map by family in `names`, each fitted to checked float64 logits (n, k).

    Targets are labels (n,), or rows (n, k): the known posterior or, with `votes`, shares of votes. `labels` (n,) are
    the targets, or drawn from them. `fit_partner` fits partner scaling.
    """
    rows = targets if targets.ndim == 2 else np.eye(logits.shape[1])[targets]
    kind = "posterior" if targets.ndim == 2 and not votes else "labels"
    ts = solve(logits, targets)
    beta = finite_beta(logits, labels) if ts.separable else ts.beta
    partner = fit_partner(logits, targets if votes else labels)
    fits: dict[str, Callable[[], Map]] = {
        "temperature": lambda: lambda z: rescale(z, beta),
        "partner": lambda: partner,
        "ranks": lambda: _ranks(logits, rows, beta),
        "regression": lambda: _regression(logits, rows, partner, RIDGES[kind]),
        "network": lambda: _network(logits, rows, partner, RIDGES[kind], seed),
        "neighbours": lambda: _neighbours(logits, rows, partner, beta, seed),
        "trees": lambda: _trees(logits, rows, labels, partner, beta, LEAF[kind], seed),
    }
    return {name: fits[name]() for name in names}


# --- Smooth families -------------------------------------------------------------------------------------------------


def _regression(logits: np.ndarray, rows: np.ndarray, start: Map, ridge: float) -> Map:
    """Correct the map `start` by a multinomial regression on the logits, the top class, and its lead over the next."""
    n, k = logits.shape
    unit = float(np.abs(rescale(logits, 1.0)).mean()) or 1.0

    def features(z: np.ndarray) -> np.ndarray:
        shifted = rescale(z, 1.0)
        hot = np.eye(k)[z.argmax(axis=1)]
        gap = -np.partition(shifted, -2, axis=1)[:, [-2]] / unit
        return np.hstack([shifted / unit, hot, hot * gap / (1 + gap)])

    x, offset, strength = features(logits), start(logits), ridge * np.sqrt(n)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, k)
        scores = offset + x @ weights
        value = float(sample_scores.cross_entropy(scores, rows).sum())
        slopes = x.T @ (sample_scores.softmax(scores, out=scores) - rows)
        return (value + strength / 2 * float(flat @ flat)) / n, (slopes + strength * weights).ravel() / n

    fitted = _lowest(objective, np.zeros(x.shape[1] * k)).reshape(-1, k)
    return lambda z: start(z) + features(z) @ fitted


def _network(logits: np.ndarray, rows: np.ndarray, start: Map, ridge: float, seed: int) -> Map:
    """Correct the map `start` by a network with one hidden layer."""
    n, k = logits.shape
    scale, strength = spread(logits), ridge * np.sqrt(n)
    centre = _centred(logits, scale)
    mean, unit = centre.mean(axis=0), centre.std(axis=0)
    unit = np.where(unit > 0, unit, 1.0)

    def features(z: np.ndarray) -> np.ndarray:
        return np.hstack([np.clip((_centred(z, scale) - mean) / unit, -10, 10), np.ones((len(z), 1))])

    x, offset = features(logits), start(logits)
    first = generator(seed, "repair", "network").normal(size=(k + 1, HIDDEN))
    first[:k] /= np.sqrt(k)
    size = first.size

    def forward(x: np.ndarray, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inner, outer = flat[:size].reshape(first.shape), flat[size:].reshape(HIDDEN + k + 1, k)
        hidden = np.tanh(x @ inner)
        return hidden, outer, hidden @ outer[:HIDDEN] + x @ outer[HIDDEN:]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        hidden, outer, scores = forward(x, flat)
        scores += offset
        value = float(sample_scores.cross_entropy(scores, rows).sum())
        error = sample_scores.softmax(scores, out=scores) - rows
        back = x.T @ ((error @ outer[:HIDDEN].T) * (1 - hidden**2))
        gradient = np.r_[back.ravel(), (hidden.T @ error).ravel(), (x.T @ error).ravel()]
        return (value + strength / 2 * float(flat @ flat)) / n, (gradient + strength * flat) / n

    fitted = _lowest(objective, np.r_[first.ravel(), np.zeros((HIDDEN + k + 1) * k)])
    return lambda z: start(z) + forward(features(z), fitted)[2]


def _lowest(objective: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    return minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}).x


def _ranks(logits: np.ndarray, rows: np.ndarray, beta: float) -> Map:
    """Predict how often the label has each rank; the class with the largest logit has rank 0.

    The frequencies may differ between bins of the confidence, of the gap between the two largest logits, or of the
    largest logit. A bin's frequencies shrink towards those of all samples, which in turn shrink towards equal
    frequencies. The feature, the number of bins and the shrinkage are those with the lowest leave-one-out NLL.
    """
    n, k = logits.shape
    scale = spread(logits)

    def largest(z: np.ndarray) -> np.ndarray:
        return _centred(z, scale).max(axis=1)

    def gap(z: np.ndarray) -> np.ndarray:
        return -np.partition(rescale(z / scale, 1.0), -2, axis=1)[:, -2]

    def confidence(z: np.ndarray) -> np.ndarray:
        return sample_scores.softmax(rescale(z, beta)).max(axis=1)

    mass = np.take_along_axis(rows, _order(logits), axis=1)
    total = mass.sum(axis=0)
    others, whole = (total - mass + 1 / k) / n, (total + 1 / k) / (n + 1)
    best, setting = -float((mass * np.log(others)).sum()), (confidence, np.empty(0), whole[None])
    for feature in (confidence, gap, largest):
        values = feature(logits)
        for bins in BINS:
            edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
            index = np.searchsorted(edges, values, side="right")
            counts = np.zeros((len(edges) + 1, k))
            np.add.at(counts, index, mass)
            sizes = np.bincount(index, minlength=len(counts))[:, None]
            inside, many = counts[index] - mass, sizes[index] - 1
            for weight in SHRINKAGE:
                nll = -float((mass * np.log((inside + weight * others) / (many + weight))).sum())
                if nll < best:
                    best, setting = nll, (feature, edges, (counts + weight * whole) / (sizes + weight))
    feature, edges, table = setting

    def transform(z: np.ndarray) -> np.ndarray:
        out = np.empty(z.shape)
        by_rank = np.log(table[np.searchsorted(edges, feature(z), side="right")])
        np.put_along_axis(out, _order(z), by_rank, axis=1)
        return out

    return transform


def _order(logits: np.ndarray) -> np.ndarray:
    """Return the classes (n, k) of each row from the largest to the smallest logit, in the order of classes if tied."""
    return np.argsort(-logits, axis=1, kind="stable")


# --- Local families --------------------------------------------------------------------------------------------------


def _centred(logits: np.ndarray, scale: float) -> np.ndarray:
    """Return logits (n, k), divided by `scale`, centred row by row, and clipped to a range that float32 can square."""
    scaled = logits / scale
    return np.clip(scaled - scaled.mean(axis=1, keepdims=True), -LARGEST_LOGIT, LARGEST_LOGIT)


def _neighbours(logits: np.ndarray, rows: np.ndarray, start: Map, beta: float, seed: int) -> Map:
    """Average the targets of samples with similar logits, and shrink the average towards the map `start`.

    Similarity is measured by the distance between logits, or between square roots of tempered probabilities (the
    Hellinger distance). Either the nearest m neighbours are weighted equally, or all samples by a kernel whose width
    depends on m. The distance, the weighting, m and the shrinkage are those with the lowest leave-one-out NLL on up to
    `QUERIES` samples.
    """
    scale = spread(logits)
    spaces: list[Map] = [lambda z: _centred(z, scale), lambda z: np.sqrt(sample_scores.softmax(rescale(z, beta)))]
    n = len(logits)
    sizes = [m for m in NEIGHBOURS if m <= n // 2] or [1]
    chosen = np.sort(generator(seed, "repair", "queries").permutation(n)[:QUERIES])
    prior, mass = np.exp(start(logits[chosen])), rows[chosen]
    best, setting = np.inf, (spaces[0], sizes[0], False, SHRINKAGE[-1])
    for space in spaces:
        x = space(logits)
        distance = _squared_distances(x[chosen], x)
        distance[np.arange(len(chosen)), chosen] = np.inf
        radii = np.partition(distance, [m - 1 for m in sizes], axis=1)[:, [m - 1 for m in sizes]]
        for m, radius in zip(sizes, radii.T, strict=True):
            for closer in (False, True):
                total, count = _averaged(distance, radius, rows, closer)
                for weight in SHRINKAGE:
                    p = (total + weight * prior) / (count + weight)
                    nll = -float((mass * np.log(np.maximum(p, TINY))).sum())
                    if nll < best:
                        best, setting = nll, (space, m, closer, weight)
    space, m, closer, weight = setting
    x = space(logits)

    def transform(z: np.ndarray) -> np.ndarray:
        out, queries, prior = np.empty((len(z), rows.shape[1])), space(z), np.exp(start(z))
        for block in blocks(len(z), n, WORK):
            distance = _squared_distances(queries[block], x)
            radius = np.partition(distance, m - 1, axis=1)[:, m - 1]
            total, count = _averaged(distance, radius, rows, closer)
            out[block] = (total + weight * prior[block]) / (count + weight)
        return np.log(np.maximum(out, TINY))

    return transform


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squared, 0, out=squared)


def _averaged(
    distance: np.ndarray, radius: np.ndarray, rows: np.ndarray, closer: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted sum of targets (q, k) and the sum of weights (q, 1) around each query.

    `distance` (q, n) is squared, and so is `radius` (q,), the distance of the m-th neighbour. Samples within `radius`
    have weight 1, and others 0; with `closer`, all samples have Gaussian weights instead.
    """
    radius = np.minimum(radius * (1 + 1e-9) + 1e-12, 1e300)  # infinite if the only sample is left out
    if closer:
        weights = np.exp(-np.minimum(2 * distance / radius[:, None], 50.0))
    else:
        weights = (distance <= radius[:, None]).astype(np.float64)
    return weights @ rows, weights.sum(axis=1, keepdims=True)


def _trees(
    logits: np.ndarray, rows: np.ndarray, labels: np.ndarray, start: Map, beta: float, leaf: int, seed: int
) -> Map:
    """Average the targets of samples in the same leaves of trees as a query, and mix the average with the map `start`.

    The trees are extremely randomised, and are grown from labels, logits, the logits' ranks and tempered probabilities.
    """
    from scipy.sparse import csr_array
    from sklearn.ensemble import ExtraTreesClassifier

    scale = spread(logits)

    def features(z: np.ndarray) -> np.ndarray:
        ranks = z.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        return np.hstack([_centred(z, scale), ranks, sample_scores.softmax(rescale(z, beta))]).astype(np.float32)

    x = features(logits)
    tried = min(x.shape[1], max(FEATURES, int(np.sqrt(x.shape[1]))))
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=leaf, max_features=tried, random_state=seed % 2**32, n_jobs=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # it suspects regression
        forest.fit(x, labels)
    nodes = np.array([tree.tree_.node_count for tree in forest.estimators_])
    first = nodes.cumsum() - nodes

    def leaves(x: np.ndarray) -> csr_array:
        """Return the leaves that contain each sample, over all trees, as rows (n, nodes) whose entries sum to 1."""
        places = (forest.apply(x) + first).ravel()
        ends = np.arange(0, len(places) + 1, TREES)
        return csr_array((np.full(len(places), 1 / TREES), places, ends), shape=(len(x), int(nodes.sum())))

    inside = leaves(x)
    count = np.asarray(inside.sum(axis=0))
    means = (inside.T @ rows) / np.where(count > 0, count, 1.0)[:, None]

    def transform(z: np.ndarray) -> np.ndarray:
        p = (1 - FLOOR) * (leaves(features(z)) @ means) + FLOOR * np.exp(start(z))
        return np.log(np.maximum(p, TINY))

    return transform
