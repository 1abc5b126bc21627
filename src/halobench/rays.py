"""The geometry of the probe: rays from points, and distances to the nearest training point of another label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from halobench.specs import ProbeSpec, SpecError

MANIFOLD_POINTS = 5000  # training points that the principal components are taken from, at most


@dataclass(frozen=True)
class Rays:
    """Unit directions (m, R, D) of m points, and the distance (m, R) of the point aimed at (NaN without one)."""

    directions: torch.Tensor
    lengths: torch.Tensor


class Surroundings:
    """Training points (N, ...) and labels (N,) around which probes look, and what several probes can share of them."""

    def __init__(self, inputs: torch.Tensor, labels: np.ndarray):
        self.points, self.labels = inputs.flatten(1), np.asarray(labels)
        self._nearest: tuple[torch.Tensor, np.ndarray, torch.Tensor, np.ndarray] | None = None
        self._basis: dict[int, torch.Tensor] = {}

    def nearest(self, points: torch.Tensor, labels: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """`nearest_other` of points (n, D), found once for the same points as last time."""
        if self._nearest is None or not (
            self._nearest[0].shape == points.shape
            and torch.equal(self._nearest[0], points)
            and np.array_equal(self._nearest[1], labels)
        ):
            self._nearest = (points, np.asarray(labels), *nearest_other(points, labels, self.points, self.labels))
        return self._nearest[2:]

    def basis(self, count: int) -> torch.Tensor:
        """`principal_components`, found once for each count."""
        if count not in self._basis:
            self._basis[count] = principal_components(self.points, count)
        return self._basis[count]


class Geometry:
    """The rays of a probe, and each point's distance to the nearest training point of another label."""

    def __init__(
        self,
        spec: ProbeSpec,
        inputs: torch.Tensor,
        labels: np.ndarray,
        surroundings: Surroundings,
        rng: np.random.Generator,
    ):
        self.spec, self.rng = spec, rng
        self.points, self.labels = inputs.flatten(1), labels
        self.training, self.training_labels = surroundings.points, surroundings.labels
        self.nearest, self.other_distance = surroundings.nearest(self.points, labels)
        if spec.kind == "manifold":
            self.basis = surroundings.basis(spec.components)

    def rays(self, part: slice) -> Rays:
        """Rays of the points in `part`; parts must be asked for in order, since each draws from the generator."""
        points, count = self.points[part], self.spec.directions
        if self.spec.kind == "nearest_other":
            return _towards(points, self.training[self.nearest[part]][:, None])
        if self.spec.kind == "mixup_line":
            return _towards(points, self.training[self._random_others(part)])
        width = self.basis.shape[0] if self.spec.kind == "manifold" else points.shape[1]
        normal = self.rng.standard_normal((len(points), count, width), dtype=np.float32)
        directions = torch.from_numpy(normal).to(points)
        if self.spec.kind == "manifold":
            directions = directions @ self.basis
        directions = directions / directions.norm(dim=2, keepdim=True)
        return Rays(directions, torch.full(directions.shape[:2], float("nan")))

    def _random_others(self, part: slice) -> torch.Tensor:
        """Rows (m, R) of random training points whose label is another than the point's."""
        picks = []
        for label in self.labels[part]:
            others = np.flatnonzero(self.training_labels != label)
            picks.append(others[self.rng.integers(len(others), size=self.spec.directions)])
        return torch.from_numpy(np.stack(picks)).to(self.points.device)


def nearest_other(
    points: torch.Tensor, labels: np.ndarray, training: torch.Tensor, training_labels: np.ndarray, chunk: int = 256
) -> tuple[torch.Tensor, np.ndarray]:
    """Row of, and distance to, the nearest training point of another label, for points (n, D): (n,) each, float64.

    Exact copies of a point under another label are passed over: they give no direction.

    Raises
    ------
    SpecError
        If some point has no training point of another label.
    """
    kept = torch.from_numpy(np.asarray(training_labels)).to(points.device)
    own = torch.from_numpy(np.asarray(labels)).to(points.device)
    norms = (training**2).sum(dim=1)
    rows, distances = [], []
    for start in range(0, len(points), chunk):
        block = points[start : start + chunk]
        square = (block**2).sum(dim=1, keepdim=True) - 2 * block @ training.T + norms
        # The expanded square loses about 1e-6 of the norms to cancellation: what lies below is a copy.
        copies = square <= 1e-5 * ((block**2).sum(dim=1, keepdim=True) + norms) / 2
        square[(kept == own[start : start + chunk, None]) | copies] = float("inf")
        least, row = square.min(dim=1)
        if torch.isinf(least).any():
            raise SpecError("labels", sorted(set(training_labels.tolist())), "training points of at least two labels")
        rows.append(row)
        distances.append((block.double() - training[row].double()).norm(dim=1).cpu().numpy())
    return torch.cat(rows), np.concatenate(distances)


def principal_components(training: torch.Tensor, count: int) -> torch.Tensor:
    """The leading principal directions (c, D) of points (N, D), orthonormal; c is less than `count` where rank is."""
    points = training[:MANIFOLD_POINTS].double()
    _, scales, basis = torch.linalg.svd(points - points.mean(dim=0), full_matrices=False)
    rank = int((scales > 1e-9 * scales[0]).sum())
    return basis[: min(count, rank)].to(training.dtype)


def _towards(points: torch.Tensor, targets: torch.Tensor) -> Rays:
    """Rays from points (m, D) to targets (m, R, D). A target on its point gives a direction of zeros."""
    offset = targets - points[:, None]
    lengths = offset.norm(dim=2)
    return Rays(offset / lengths.clamp_min(1e-12)[..., None], lengths)
