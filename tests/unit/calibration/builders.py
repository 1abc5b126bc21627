"""Logits with known properties, and a fixture, shared by the tests of this wing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from halobench.calibration.diagnosis import diagnose


@pytest.fixture
def without_ladder(monkeypatch):
    """Leave the repair ladder out of diagnoses, since it takes most of their time."""
    monkeypatch.setattr(diagnose, "quick_ladder", lambda *_: (None, "it takes seconds"))


def plain_shrunk(z: np.ndarray, labels: np.ndarray, weight: float | None = None) -> float:
    """The shrunk inverse temperature by plain code: a test by the score at T = 1, and a search for mixed targets."""
    p, rows = softmax(z, axis=1), np.arange(len(z))
    mean = (p * z).sum(axis=1)
    scores = mean - z[rows, labels]
    if scores.sum() < 0:
        scores = mean - len(z) / (len(z) + 1) * z[rows, labels] - z.mean(axis=1) / (len(z) + 1)
        scores = scores * (scores.sum() < 0)
    variance = max((scores**2).sum(), ((p * z**2).sum(axis=1) - mean**2).sum())
    t = abs(scores.sum()) / np.sqrt(variance)
    shown = np.eye(z.shape[1])[labels]
    if scores.sum() < 0:
        shown = len(z) / (len(z) + 1) * shown + 1 / (len(z) + 1) / z.shape[1]
    w = np.clip(1.645 * (4 - t) / (t * (4 - 1.645)), 0, 1) if weight is None else weight
    mixed = w * p + (1 - w) * shown
    nll = lambda log_beta: -(mixed * log_softmax(np.exp(log_beta) * z, axis=1)).sum()  # noqa: E731
    return float(np.exp(minimize_scalar(nll, bounds=(-6, 4), method="bounded", options={"xatol": 1e-10}).x))


def drawn(n: int = 300, k: int = 4, seed: int = 0, flips: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large, and their labels, some turned into the next class."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, k))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return 3 * z, np.where(rng.random(n) < flips, (labels + 1) % k, labels)


def distorted(n: int = 600, k: int = 5, strength: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at 1 / strength the labels are drawn from, then distorted slightly per class."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.standard_normal((n, k))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return strength * z * rng.uniform(0.8, 1.2, k) + rng.normal(0, 0.3, k), labels


def posterior_sample(n: int = 700, k: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over-confident logits, labels, and posterior rows."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, k))
    posterior = softmax(z / 2, axis=1)
    labels = (posterior.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return z, labels, posterior


def nearest(n: int, k: int, m: int, beta: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One-hot nearest-neighbour logits on the overlap distribution, drawn labels, and the posterior."""
    rng = np.random.default_rng(seed)
    first = m * rng.integers(k // m, size=n)
    shared = rng.random(n) < beta
    own, top, label = (first + rng.integers(m, size=n) for _ in range(3))
    group = (np.arange(k) // m == first[:, None] // m) / m
    posterior = np.where(shared[:, None], group, np.eye(k)[own])
    return np.eye(k)[np.where(shared, top, own)], np.where(shared, label, own), posterior


def hard(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels from which little can be learnt."""
    return {
        "separable": (9 * np.eye(3)[np.arange(60) % 3], np.arange(60) % 3),
        "one class": (np.random.default_rng(0).normal(size=(60, 4)), np.zeros(60, int)),
        "no logit stands out": (np.zeros((60, 3)), np.arange(60) % 3),
    }[case]


def torch_lbfgs(logits: np.ndarray, targets: np.ndarray, start: float = 1.0, steps: int = 20) -> float:
    """The temperature of torch's LBFGS in float64; by default, as in the paper's code."""
    torch = pytest.importorskip("torch")
    z, t = torch.from_numpy(logits.astype(np.float64)), torch.from_numpy(targets)
    T = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([T], lr=0.01, max_iter=steps)

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(z / T, t)
        loss.backward()
        return loss

    optimiser.step(closure)
    return T.item()
