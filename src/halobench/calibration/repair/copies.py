"""Find copies among samples by their logits and labels: the same sample several times, or slightly changed versions.

Samples are linked if their logits are equal or much closer to each other than independent samples are likely to be. The
distance at which independent samples are rarely linked follows from the distances of the 20th and 40th neighbours,
whose ratio gives the local dimension, so it depends neither on the scale of the logits nor on the number of classes.

Independent samples can have equal logits, too, e.g. if the model is a nearest-neighbour rule or a tree, or if logits
are rounded. Copies, however, also have equal labels, even if these are unusual. Linked samples therefore only count as
copies if they share labels that are in the minority among the samples with the same prediction. Independently drawn
labels rarely agree on a minority label: if one in five labels is in the minority, two labels agree in at most one in
nine of the cases in which either is in the minority.

References
----------
E. Facco, M. d'Errico, A. Rodriguez, A. Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
information", Scientific Reports 7, 2017: the local dimension from ratios of distances.
"""

from __future__ import annotations

import math

import numpy as np

from halobench.core.seeding import generator

NEIGHBOURS = 20  # more copies per sample than this are only found if they are exact
CHANCE = 0.02  # the share of independent samples that a link connects by chance
SHARE = 0.1  # the smallest share of linked samples; fewer copies do little harm
AGREEING, PAIRS = 0.9, 3  # the share of pairs that must agree on labels in the minority, and the fewest such pairs
DIMENSIONS = 10  # logits of more classes are projected at random, which hardly changes ratios of distances
PROBES = 2000  # neighbours of more samples are only searched for if these have any


def find_copies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Return groups (n,) of copies, numbered from 0, or None if there are too few copies to matter.

    `logits` (n, k) must be finite.
    """
    groups = _linked(logits)
    sizes = np.bincount(groups)
    if (sizes[groups] > 1).mean() < SHARE:
        return None
    unusual = labels != _usual(logits.argmax(axis=1), labels)
    order = np.argsort(groups, kind="stable")
    first, second = order[:-1], order[1:]
    pairs = (groups[first] == groups[second]) & (unusual[first] | unusual[second])
    agreeing = pairs & (labels[first] == labels[second])
    return groups if pairs.sum() >= PAIRS and agreeing.sum() >= AGREEING * pairs.sum() else None


def _usual(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return, for each sample, the most frequent label among the samples with the same prediction."""
    k = int(max(predicted.max(), labels.max())) + 1
    counts = np.zeros((k, k))
    np.add.at(counts, (predicted, labels), 1)
    return counts.argmax(axis=1)[predicted]


def _linked(logits: np.ndarray) -> np.ndarray:
    """Return groups (n,) of samples that are connected by links."""
    from scipy import sparse

    points = logits - logits.mean(axis=1, keepdims=True)  # a constant per row doesn't change probabilities
    if points.shape[1] > DIMENSIONS:
        axes = generator(0, "copies", "projection").normal(size=(points.shape[1], DIMENSIONS))
        points = np.einsum("ij,jd->id", points, axes)  # unlike BLAS, this gives the same result for equal rows
    points, number = np.unique(points, axis=0, return_inverse=True)
    first, second = _near(points)
    links = sparse.coo_array((np.ones(len(first)), (first, second)), shape=(len(points),) * 2)
    return sparse.csgraph.connected_components(links, directed=False)[1][number.ravel()]


def _near(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of different points that are unusually close to each other."""
    from scipy.spatial import KDTree

    none = np.empty(0, dtype=int), np.empty(0, dtype=int)
    if len(points) <= 2 * NEIGHBOURS:
        return none
    tree, radius = KDTree(points), 0.0
    some = generator(0, "copies", "probes").permutation(len(points))[:PROBES]
    for rows in (some, np.arange(len(points))):
        distances, places = tree.query(points[rows], 2 * NEIGHBOURS + 1)
        reference = distances[:, NEIGHBOURS, None]
        if not radius:
            ratio = np.log(distances[:, -1] / distances[:, NEIGHBOURS]).mean()
            radius = (CHANCE / NEIGHBOURS) ** float(ratio / math.log(2))  # ratio = log(2) / dimension
        close = distances[:, 1 : NEIGHBOURS + 1] <= radius * reference
        if close.any(axis=1).mean() < SHARE / 2:
            return none
    near, which = np.nonzero(close)
    return near, places[near, 1 + which]
