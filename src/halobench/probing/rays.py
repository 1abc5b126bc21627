"""Compute the probe's geometry: rays from samples, and distances to the nearest training sample with another label."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from halobench.calibration.arrays import as_array
from halobench.core import plugins
from halobench.core.errors import Found, RefusedError, SpecError, require
from halobench.core.specs.probe import ProbeSpec
from halobench.models.distances import squared_distances
from halobench.training.batches import Batches

MANIFOLD_SAMPLES = 5000  # largest number of training samples used to compute principal components
BLOCK_BYTES = 2**28  # bytes of training samples to which distances are computed at once
SAMPLES_AT_ONCE = 256  # samples whose distances are computed at once


@dataclass(frozen=True)
class Rays:
    """Unit directions (m, R, D) from m samples, and distances (m, R) to the rays' targets (NaN without a target).

    The direction is 0 if a target equals its sample.
    """

    directions: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True)
class _Neighbours:
    """Samples (n, D), their labels, and the rows and distances (n,) of the nearest training samples of other labels."""

    samples: torch.Tensor
    labels: np.ndarray
    rows: np.ndarray
    distances: np.ndarray

    def place_of(self, samples: torch.Tensor, labels: np.ndarray) -> slice | None:
        """Return the slice in which `samples` occur contiguously, with the same labels, or None."""
        if self.samples.shape[1:] != samples.shape[1:]:
            return None
        for start in (self.samples == samples[0]).all(dim=1).nonzero()[:, 0].tolist():
            run = slice(start, start + len(samples))
            if np.array_equal(self.labels[run], labels) and torch.equal(self.samples[run], samples):
                return run
        return None


class TrainingPoints:
    """The labelled training samples, with results computed from them that several probes can share.

    Parameters
    ----------
    inputs : float tensor (N, ...), or Batches
        Normalised training samples; a `Batches` may read them on demand.
    labels : int array or tensor (N,)

    Raises
    ------
    SpecError
        If `inputs` is neither a tensor nor a `Batches`.
    """

    def __init__(self, inputs: torch.Tensor | Batches, labels: np.ndarray | torch.Tensor):
        is_known, value = isinstance(inputs, torch.Tensor | Batches), Found(type(inputs).__name__)
        require(is_known, "inputs", value, "a float tensor, e.g. torch.from_numpy(array).float()")
        self.inputs, self.labels = inputs, as_array(labels)
        self._neighbours: _Neighbours | None = None
        self._bases: dict[int, torch.Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Return the device of the training samples."""
        return self.inputs.device

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the training samples, (N, ...)."""
        return tuple(self.inputs.images.shape if isinstance(self.inputs, Batches) else self.inputs.shape)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Return the training samples in these rows (m,), flattened to (m, D)."""
        if isinstance(self.inputs, Batches):
            return self.inputs.take(rows).flatten(1)
        return self.inputs[torch.from_numpy(rows).to(self.inputs.device)].flatten(1)

    def nearest(self, samples: torch.Tensor, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `nearest_of_another_label` of samples (n, D); the last result is reused for parts of its samples."""
        run = self._neighbours.place_of(samples, labels) if self._neighbours else None
        if self._neighbours is None or run is None:
            self._neighbours = _Neighbours(samples, labels, *nearest_of_another_label(samples, labels, self))
            run = slice(None)
        return self._neighbours.rows[run], self._neighbours.distances[run]

    def basis(self, count: int) -> torch.Tensor:
        """Return the `principal_components` of the first `MANIFOLD_SAMPLES` training samples, cached by `count`."""
        if count not in self._bases:
            first = np.arange(min(len(self.labels), MANIFOLD_SAMPLES))
            self._bases[count] = principal_components(self.take(first), count)
        return self._bases[count]


class Geometry:
    """A probe's rays, and each sample's distance to the nearest training sample with another label."""

    def __init__(
        self,
        spec: ProbeSpec,
        inputs: torch.Tensor,
        labels: np.ndarray,
        training_points: TrainingPoints,
        rng: np.random.Generator,
    ):
        self.spec, self.training_points, self.rng = spec, training_points, rng
        self.samples, self.labels = inputs.flatten(1), labels
        _, self.other_distance = training_points.nearest(self.samples, labels)
        self._directions: Any = plugins.load("probes", spec.kind)
        options = plugins.find("probes", spec.kind).options or {}
        self._options = {"components": spec.components} if "components" in options else {}
        # Seeds the global generators, from which plug-ins shouldn't draw. A copy draws it, so that `rng` doesn't
        # advance.
        self._seed = int(copy.deepcopy(rng).integers(2**31))

    def rays(self, part: slice) -> Rays:
        """Return the rays from the samples in `part`; request parts in order, since all draw from one generator."""
        samples, labels, count = self.samples[part], np.array(self.labels[part]), self.spec.directions
        key = f"probes.{self.spec.kind}"
        with plugins.calling(key, self._seed + part.start):
            rays = self._directions(
                samples.clone(), labels, self.training_points, count=count, rng=self.rng, **self._options
            )
        _check_rays(key, rays, (len(samples), count, samples.shape[1]))
        return rays if isinstance(rays, Rays) else along(rays.to(samples))


def _check_rays(key: str, rays: Any, shape: tuple[int, int, int]) -> None:
    """Raise SpecError unless a plug-in returned finite non-zero directions, or finite rays, of this shape."""
    directions = rays.directions if isinstance(rays, Rays) else rays
    is_tensor = isinstance(directions, torch.Tensor)
    if not is_tensor or tuple(directions.shape) != shape:
        value = Found(f"shape {tuple(directions.shape)}") if is_tensor else directions
        raise SpecError(
            key, value, f"a tensor of directions with shape {shape}, or a halobench.probing.rays.Rays of that shape"
        )
    lengths = directions.norm(dim=2)
    if not (torch.isfinite(lengths).all() and (isinstance(rays, Rays) or (lengths > 0).all())):
        raise RefusedError(key, "returned a zero or non-finite direction; every direction must be finite and non-zero")


def nearest_of_another_label(
    samples: torch.Tensor, labels: np.ndarray, training_points: TrainingPoints, chunk: int = SAMPLES_AT_ONCE
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest training sample with a different label for each of `samples` (n, D), `chunk` of them at a time.

    Exact copies of a sample with a different label are skipped, since they don't define a direction. Returns the
    training samples' rows (n,), and their distances (n,) in float64.
    """
    device, count = samples.device, len(training_points.labels)
    targets = torch.from_numpy(labels).to(device)
    least = torch.full((len(samples),), float("inf"), device=device, dtype=samples.dtype)
    nearest = torch.zeros(len(samples), dtype=torch.int64, device=device)
    parts = [slice(start, start + chunk) for start in range(0, len(samples), chunk)]
    step = max(chunk, BLOCK_BYTES // (4 * samples.shape[1]))
    for first in range(0, count, step):
        rows = np.arange(first, min(first + step, count))
        block, block_labels = training_points.take(rows), torch.from_numpy(training_points.labels[rows]).to(device)
        for part in parts:
            square = squared_distances(samples[part], block, block_labels == targets[part, None])
            smallest, row = square.min(dim=1)
            nearer = smallest < least[part]
            least[part] = torch.where(nearer, smallest, least[part])
            nearest[part] = torch.where(nearer, row + first, nearest[part])
    if torch.isinf(least).any():
        raise RefusedError(
            "labels", f"all training samples have the label {training_points.labels[0]}; at least two labels are needed"
        )
    chosen = nearest.cpu().numpy()
    # Computed from differences in float64, since the squares above are too imprecise to report.
    distances = [(samples[part].double() - training_points.take(chosen[part]).double()).norm(dim=1) for part in parts]
    return chosen, torch.cat(distances).cpu().numpy()


def principal_components(training: torch.Tensor, count: int) -> torch.Tensor:
    """Return at most `count` orthonormal principal directions (c, D) of the first `MANIFOLD_SAMPLES` samples (N, D)."""
    samples = training[:MANIFOLD_SAMPLES].double()
    _, scales, basis = torch.linalg.svd(samples - samples.mean(dim=0), full_matrices=False)
    rank = int((scales > 1e-9 * scales[0]).sum())
    return basis[: min(count, rank)].to(training.dtype)


def along(directions: torch.Tensor) -> Rays:
    """Return rays in directions (m, R, D) of any positive length, which aren't aimed at any sample."""
    return Rays(directions / directions.norm(dim=2, keepdim=True), torch.full(directions.shape[:2], float("nan")))


def towards(points: torch.Tensor, targets: torch.Tensor) -> Rays:
    """Return rays from points (m, D) to targets (m, R, D); a target equal to its point gives a zero direction."""
    offset = targets - points[:, None]
    lengths = offset.norm(dim=2)
    return Rays(offset.div_(lengths.clamp_min(1e-12)[..., None]), lengths)
