"""The geometry of the probe: rays from points, and distances to the nearest training point of another label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs import ProbeSpec
from halobench.training.batches import Feed

MANIFOLD_POINTS = 5000  # training points that the principal components are taken from, at most
ROOM = 2**28  # bytes of training points that distances are taken to at a time


@dataclass(frozen=True)
class Rays:
    """Unit directions (m, R, D) of m points, and the distance (m, R) of the point aimed at (NaN without one)."""

    directions: torch.Tensor
    lengths: torch.Tensor


class Surroundings:
    """Training points and labels (N,) around which probes look, and what several probes can share of them.

    The points are a tensor (N, ...), normalised, or a `Feed`, of which only some are held at a time.
    """

    def __init__(self, inputs: torch.Tensor | Feed, labels: np.ndarray):
        self.inputs, self.labels = inputs, np.asarray(labels)
        self._nearest: tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray] | None = None
        self._basis: dict[int, torch.Tensor] = {}

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Points of these rows (m,), flat: (m, D)."""
        if isinstance(self.inputs, Feed):
            return self.inputs.take(rows).flatten(1)
        return self.inputs[torch.from_numpy(rows).to(self.inputs.device)].flatten(1)

    def nearest(self, points: torch.Tensor, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`nearest_other` of points (n, D), found once for the same points as last time."""
        if self._nearest is None or not (
            self._nearest[0].shape == points.shape
            and torch.equal(self._nearest[0], points)
            and np.array_equal(self._nearest[1], labels)
        ):
            self._nearest = (points, np.asarray(labels), *nearest_other(points, labels, self))
        return self._nearest[2:]

    def basis(self, count: int) -> torch.Tensor:
        """`principal_components`, found once for each count."""
        if count not in self._basis:
            some = np.arange(min(len(self.labels), MANIFOLD_POINTS))
            self._basis[count] = principal_components(self.take(some), count)
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
        self.training, self.training_labels = surroundings, surroundings.labels
        self.nearest, self.other_distance = surroundings.nearest(self.points, labels)
        self.plugged: Any = plugins.load(*spec.plugged[0]) if spec.plugged else None
        if spec.kind == "manifold":
            self.basis = surroundings.basis(spec.components)

    def rays(self, part: slice) -> Rays:
        """Rays of the points in `part`; parts must be asked for in order, since each draws from the generator."""
        points, count = self.points[part], self.spec.directions
        if self.plugged is not None:
            return self._plugged_rays(part)
        if self.spec.kind == "nearest_other":
            return towards(points, self.training.take(self.nearest[part])[:, None])
        if self.spec.kind == "mixup_line":
            picks = self._random_others(part)
            return towards(points, self.training.take(picks.ravel()).view(*picks.shape, -1))
        width = self.basis.shape[0] if self.spec.kind == "manifold" else points.shape[1]
        normal = self.rng.standard_normal((len(points), count, width), dtype=np.float32)
        directions = torch.from_numpy(normal).to(points)
        if self.spec.kind == "manifold":
            directions = directions @ self.basis
        return along(directions)

    def _plugged_rays(self, part: slice) -> Rays:
        """Rays that a plug-in gives, checked."""
        points, count, kind = self.points[part], self.spec.directions, self.spec.kind
        labels, seed = np.array(self.labels[part]), int(self.rng.integers(2**31))
        with plugins.calling(f"probes.{kind}", seed):
            found = self.plugged(points.clone(), labels, self.training, count=count, rng=self.rng)
        rays, wanted = found if isinstance(found, Rays) else None, (len(points), count, points.shape[1])
        directions = found.directions if rays else found
        shaped = isinstance(directions, torch.Tensor) and tuple(directions.shape) == wanted
        told = f"shape {tuple(directions.shape)}" if isinstance(directions, torch.Tensor) else directions
        if not shaped:
            raise SpecError(
                f"probes.{kind}", told, f"directions as a tensor {wanted}, or halobench.probing.rays.Rays of them"
            )
        lengths = directions.norm(dim=2)
        if not (torch.isfinite(lengths).all() and (rays or (lengths > 0).all())):
            raise SpecError(f"probes.{kind}", "a direction", "finite ones, of a length above 0")
        return rays or along(directions.to(points))

    def _random_others(self, part: slice) -> np.ndarray:
        """Rows (m, R) of random training points whose label is another than the point's."""
        picks = []
        for label in self.labels[part]:
            others = np.flatnonzero(self.training_labels != label)
            picks.append(others[self.rng.integers(len(others), size=self.spec.directions)])
        return np.stack(picks)


def nearest_other(
    points: torch.Tensor, labels: np.ndarray, around: Surroundings, chunk: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Row of, and distance to, the nearest training point of another label, for points (n, D): (n,) each, float64.

    Exact copies of a point under another label are passed over: they give no direction. Of equally near the first wins.

    Raises
    ------
    SpecError
        If some point has no training point of another label.
    """
    own, norms = torch.from_numpy(np.asarray(labels)).to(points.device), (points**2).sum(dim=1, keepdim=True)
    least = torch.full((len(points),), float("inf"), device=points.device, dtype=points.dtype)
    nearest = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    step = max(chunk, ROOM // (4 * points.shape[1]))
    for first in range(0, len(around.labels), step):
        rows = np.arange(first, min(first + step, len(around.labels)))
        block, kept = around.take(rows), torch.from_numpy(around.labels[rows]).to(points.device)
        weights = (block**2).sum(dim=1)
        for start in range(0, len(points), chunk):
            part = slice(start, start + chunk)
            square = norms[part] - 2 * points[part] @ block.T + weights
            # The expanded square loses about 1e-6 of the norms to cancellation: what lies below is a copy.
            copies = square <= 1e-5 * (norms[part] + weights) / 2
            square[(kept == own[part, None]) | copies] = float("inf")
            found, row = square.min(dim=1)
            nearer = found < least[part]
            least[part] = torch.where(nearer, found, least[part])
            nearest[part] = torch.where(nearer, row + first, nearest[part])
    if torch.isinf(least).any():
        raise SpecError("labels", sorted(set(around.labels.tolist())), "training points of at least two labels")
    chosen = nearest.cpu().numpy()
    distances = [
        (points[start : start + chunk].double() - around.take(chosen[start : start + chunk]).double()).norm(dim=1)
        for start in range(0, len(points), chunk)
    ]
    return chosen, torch.cat(distances).cpu().numpy()


def principal_components(training: torch.Tensor, count: int) -> torch.Tensor:
    """The leading principal directions (c, D) of points (N, D), orthonormal; c is less than `count` where rank is."""
    points = training[:MANIFOLD_POINTS].double()
    _, scales, basis = torch.linalg.svd(points - points.mean(dim=0), full_matrices=False)
    rank = int((scales > 1e-9 * scales[0]).sum())
    return basis[: min(count, rank)].to(training.dtype)


def along(directions: torch.Tensor) -> Rays:
    """Rays in directions (m, R, D) of any lengths above 0, which lead to no point."""
    return Rays(directions / directions.norm(dim=2, keepdim=True), torch.full(directions.shape[:2], float("nan")))


def towards(points: torch.Tensor, targets: torch.Tensor) -> Rays:
    """Rays from points (m, D) to targets (m, R, D). A target on its point gives a direction of zeros."""
    offset = targets - points[:, None]
    lengths = offset.norm(dim=2)
    return Rays(offset.div_(lengths.clamp_min(1e-12)[..., None]), lengths)
