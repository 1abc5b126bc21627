"""Logits whose best map is known by construction, to judge estimates of it.

Each function draws n samples and returns their logits, their posterior P(y | x), and the best map E[P(y | x) | logits],
(n, k) each. `CASES` has them by name. A map of the logits here means a map of their softmax probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, softmax

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]
Case = Callable[[np.random.Generator, int], Drawn]


def tempered(k: int, spread: float, temperature: float, rng: np.random.Generator, n: int) -> Drawn:
    """TS is the best map."""
    z = spread * rng.normal(size=(n, k))
    p = softmax(z / temperature, axis=1)
    return z, p, p


def partner_pairs(rng: np.random.Generator, n: int) -> Drawn:
    """A quarter of the mass belongs to the top class's partner, whose logit doesn't show it."""
    k, i, top = 10, np.arange(n), rng.integers(10, size=n)
    z, p = rng.normal(size=(n, k)), np.zeros((n, k))
    z[i, top] += 9
    p[i, top], p[i, top ^ 1] = 0.75, 0.25
    p = 0.98 * p + 0.02 / k
    return z, p, p


def partner_by_gap(rng: np.random.Generator, n: int) -> Drawn:
    """The partner's logit is the second, and the posterior depends on the gap."""
    k, i, top, gap = 64, np.arange(n), rng.integers(64, size=n), 0.2 + rng.exponential(3, size=n)
    z, p = 0.3 * rng.normal(size=(n, k)), np.zeros((n, k))
    z[i, top], z[i, top ^ 1] = 12, 12 - gap
    p[i, top], p[i, top ^ 1] = expit(0.4 * gap), expit(-0.4 * gap)
    p = 0.97 * p + 0.03 / k
    return z, p, p


def one_hot(rng: np.random.Generator, n: int) -> Drawn:
    """One-hot logits, as of 1-NN where pairs of 32 classes share half the mass: only 32 rows differ."""
    k, i, shared, top = 32, np.arange(n), rng.random(n) < 0.5, rng.integers(32, size=n)
    p, best = np.zeros((n, k)), np.zeros((n, k))
    p[i, top] = np.where(shared, 0.5, 1.0)
    p[i[shared], top[shared] ^ 1] = 0.5
    best[i, top], best[i, top ^ 1] = 0.75, 0.25
    return 10.0 * np.eye(k)[top], p, best


def clusters(k: int, count: int, noise: float, alpha: float, rng: np.random.Generator, n: int) -> Drawn:
    """Clusters in logit space, each with its own posterior; the best map takes into account which cluster is likely."""
    fixed = np.random.default_rng(7)
    centres, posterior = 4 * fixed.normal(size=(count, k)), fixed.dirichlet(np.full(k, alpha), size=count)
    cluster = rng.integers(count, size=n)
    z = centres[cluster] + noise * rng.normal(size=(n, k))
    squared = (z**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * z @ centres.T
    return z, posterior[cluster], softmax(-squared / (2 * noise**2), axis=1) @ posterior


def regions(rng: np.random.Generator, n: int) -> Drawn:
    """The top class and small logits show in which of 48 regions a sample lies: 32 of one class, 16 of two."""
    k, i, shared = 32, np.arange(n), rng.random(n) < 0.5
    marks = np.random.default_rng(8).normal(size=(k + k // 2, k))
    top = rng.integers(k, size=n)
    z = 14.0 * np.eye(k)[top] + marks[np.where(shared, k + top // 2, top)] + 0.4 * rng.normal(size=(n, k))
    p = np.zeros((n, k))
    p[i, top] = np.where(shared, 0.5, 1.0)
    p[i[shared], top[shared] ^ 1] = 0.5
    return z, p, p


def rotated(rng: np.random.Generator, n: int) -> Drawn:
    """The posterior's logarithms, rotated within the space of rows that add up to 0: a matrix is the best map."""
    p = softmax(2 * rng.normal(size=(n, 8)), axis=1)
    basis = np.linalg.svd(np.eye(8) - 1 / 8)[0][:, :7]
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(7, 7)))[0]
    return 3 * np.log(p) @ basis @ turn @ basis.T, p, p


def permuted(rng: np.random.Generator, n: int) -> Drawn:
    """TS is the best map up to a permutation of the classes."""
    z = 2 * rng.normal(size=(n, 12))
    p = softmax(z / 1.5, axis=1)[:, np.random.default_rng(5).permutation(12)]
    return z, p, p


def rings(rng: np.random.Generator, n: int) -> Drawn:
    """The posterior depends on a distance between logits."""
    angle, radius = rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 4, n)
    none = np.zeros(n)
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle), none], axis=1)
    p = softmax(np.stack([2 * np.sin(3 * radius), 2 * np.cos(3 * radius), none], axis=1), axis=1)
    return z, p, p


def low_logit(rng: np.random.Generator, n: int) -> Drawn:
    """The lowest of eight logits decides which of two classes is likely."""
    z, i = rng.normal(size=(n, 8)), np.arange(n)
    z[:, 0] -= 8
    z[:, 1:3] += 6
    low = z[:, 0] - z.mean(axis=1)
    p = np.full((n, 8), 0.01)
    p[i, np.where(low > -9.0, 1, 2)] = 0.93  # the mean of `low` is -8.5
    return z, p, p


def not_monotone(rng: np.random.Generator, n: int) -> Drawn:
    """With two classes, the posterior switches back and forth as the gap grows."""
    gap = 3 * rng.normal(size=n)
    p = 0.5 + 0.47 * np.sign(np.sin(2 * gap))
    p = np.stack([p, 1 - p], axis=1)
    return np.stack([gap / 2, -gap / 2], axis=1), p, p


def unseen(rng: np.random.Generator, n: int) -> Drawn:
    """Half of the posterior's log-odds come from a feature that the logits don't contain."""
    seen, other = rng.integers(2, size=(2, n))
    right = np.where(seen == other, 0.95, 0.65)[:, None]
    top = np.arange(2) == seen[:, None]
    return 3.0 * np.eye(2)[seen], np.where(top, right, 1 - right), np.where(top, 0.8, 0.2)


def uninformative(rng: np.random.Generator, n: int) -> Drawn:
    """The logits are noise."""
    return 3 * rng.normal(size=(n, 20)), rng.dirichlet(np.full(20, 0.2), size=n), np.full((n, 20), 0.05)


def waves(rng: np.random.Generator, n: int) -> Drawn:
    """The posterior goes up and down many times along each of five directions."""
    z = rng.normal(size=(n, 5))
    p = softmax(2.5 * np.sin(1.5 * z @ np.random.default_rng(6).normal(size=(5, 5))), axis=1)
    return 3 * z, p, p


def quadratic(rng: np.random.Generator, n: int) -> Drawn:
    """Every class's score is a quadratic form of all 20 logits: smooth, but with many interactions."""
    k = 20
    forms = np.random.default_rng(3).normal(size=(k, k, k)) / k * 1.5
    z = rng.normal(size=(n, k))
    z -= z.mean(axis=1, keepdims=True)
    p = softmax(1.5 * np.einsum("ni,cij,nj->nc", z, forms, z), axis=1)
    return 2 * z, p, p


def by_rank(rng: np.random.Generator, n: int) -> Drawn:
    """The label is at the second rank in 55% of the samples, whichever class that is."""
    z, p = 2 * rng.normal(size=(n, 20)), np.empty((n, 20))
    np.put_along_axis(p, np.argsort(-z, axis=1), np.r_[0.337, 0.55, np.full(18, 0.113 / 18)][None], axis=1)
    return z, p, p


def by_rank_and_gap(rng: np.random.Generator, n: int) -> Drawn:
    """The second rank is likelier than the first where the gap is small."""
    z, p = 2 * rng.normal(size=(n, 15)), np.full((n, 15), 0.05 / 13)
    order, i = np.argsort(-z, axis=1), np.arange(n)
    gap = z[i, order[:, 0]] - z[i, order[:, 1]]
    p[i, order[:, 0]], p[i, order[:, 1]] = 0.95 * expit(2 * gap - 1.5), 0.95 * expit(1.5 - 2 * gap)
    return z, p, p


def offset(rng: np.random.Generator, n: int) -> Drawn:
    """The sign of a constant added to a row shows whether its prediction is right; probabilities don't."""
    z, right = 3 * rng.normal(size=(n, 4)), rng.integers(2, size=n)
    top = np.eye(4)[z.argmax(axis=1)]
    p = np.where(right[:, None] == 1, 0.91 * top + 0.03 * (1 - top), 0.25)
    return z + 5.0 * (2 * right[:, None] - 1), p, (0.91 * top + 0.03 * (1 - top) + 0.25) / 2


def cells(rng: np.random.Generator, n: int) -> Drawn:
    """Each cell of a grid in three directions has its own posterior."""
    z = 1.5 * rng.normal(size=(n, 4))
    z -= z.mean(axis=1, keepdims=True)
    i, j, m = np.floor(z[:, :3]).astype(int).T + 10
    p = np.random.default_rng(17).dirichlet(np.full(4, 0.3), size=(21, 21, 21))[i, j, m]
    return 2 * z, p, p


def stripes(rng: np.random.Generator, n: int) -> Drawn:
    """The likely class changes along one direction, oblique to the logits."""
    z, p = 1.5 * rng.normal(size=(n, 4)), np.full((n, 4), 0.04)
    z -= z.mean(axis=1, keepdims=True)
    direction = np.random.default_rng(1031).normal(size=4)
    p[np.arange(n), np.floor(2.5 * z @ direction).astype(int) % 4] = 0.88
    return 2 * z, p, p


def fine_checkerboard(rng: np.random.Generator, n: int) -> Drawn:
    """The likely class changes 40 times along each of two directions, which 1,000 samples don't resolve."""
    at = rng.uniform(-3, 3, size=(n, 2))
    p = np.full((n, 3), 0.1)
    p[np.arange(n), np.floor(at / 0.15).sum(axis=1).astype(int) % 3] = 0.8
    return at @ np.linalg.svd(np.eye(3) - 1 / 3)[0][:, :2].T, p, p


def _with(function: Callable[..., Drawn], *options: float) -> Case:
    return lambda rng, n: function(*options, rng, n)


CASES: dict[str, Case] = {
    "TS is the truth, k = 10": _with(tempered, 10, 2.0, 1.7),
    "TS is the truth, k = 100": _with(tempered, 100, 3.0, 2.5),
    "partners that no logit shows, k = 10": partner_pairs,
    "partners by the gap, k = 64": partner_by_gap,
    "one-hot logits, k = 32": one_hot,
    "12 clusters, k = 4": _with(clusters, 4, 12, 0.1, 0.3),
    "40 clusters, k = 10": _with(clusters, 10, 40, 0.3, 0.3),
    "100 clusters, k = 50": _with(clusters, 50, 100, 0.5, 0.05),
    "20 clusters that overlap, k = 6": _with(clusters, 6, 20, 2.0, 0.3),
    "48 regions, k = 32": regions,
    "rotated logits, k = 8": rotated,
    "permuted classes, k = 12": permuted,
    "rings, k = 3": rings,
    "a low logit carries it, k = 8": low_logit,
    "not monotone in the gap, k = 2": not_monotone,
    "a feature missing from the logits, k = 2": unseen,
    "logits are noise, k = 20": uninformative,
    "waves in five dimensions, k = 5": waves,
    "quadratic forms of all logits, k = 20": quadratic,
    "labels at the second rank, k = 20": by_rank,
    "second rank by the gap, k = 15": by_rank_and_gap,
    "the row's offset carries it, k = 4": offset,
    "cells of a grid, k = 4": cells,
    "oblique stripes, k = 4": stripes,
    "a checkerboard that is too fine, k = 3": fine_checkerboard,
}


def draw(name: str, n: int, seed: int, posterior: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw n samples of a case.

    Returns
    -------
    logits : (n, k) array
    targets : (n, k) array if `posterior`, or else (n,) integers
    truth : float
        The best map's NLL on these samples, in nats.
    """
    rng = np.random.default_rng([seed, 1])
    logits, p, best = CASES[name](rng, n)
    labels = (p.cumsum(axis=1) < rng.random((n, 1)) * p.sum(axis=1, keepdims=True)).sum(axis=1)
    labels = np.minimum(labels, p.shape[1] - 1)
    log = np.log(np.maximum(best, 1e-300))
    truth = (p * log).sum(axis=1) if posterior else log[np.arange(n), labels]
    return logits, p if posterior else labels, -float(truth.mean())
