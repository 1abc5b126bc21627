"""Walk along rays and record a model's label confidences and logit gaps at many distances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from halobench.core.errors import DivergedError, require
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.models.batchnorm_folding import folded
from halobench.probing.progress import Chunks
from halobench.probing.rays import Rays
from halobench.training.device import autocast, memory_format, name_out_of_memory

Predict = Callable[[torch.Tensor], torch.Tensor]
DIRECTIONS = 2**22  # maximum number of elements in the directions held at once
PLACES = 2**20  # maximum number of elements in the inputs built at once, unless BATCHES batches need more
BATCHES = 4
FORWARDS = 2**14  # forward passes per chunk; a killed probe repeats its last chunk


@dataclass(frozen=True)
class ProbeOptions:
    """Options for how a probe evaluates its model.

    Attributes
    ----------
    betas : mapping of calibrator to inverse temperature
        Confidences are computed from logits multiplied by each inverse temperature.
    batch : int
        Largest number of inputs per forward pass.
    layout : torch.memory_format
        Layout of the images (b, C, H, W) passed to the model.
    chunks : Chunks, optional
        Completed results of an interrupted probe, to which new ones are added.
    """

    betas: Mapping[str, float] = field(default_factory=lambda: {"none": 1.0})
    batch: int = 250
    layout: torch.memory_format = torch.contiguous_format
    chunks: Chunks | None = None


@dataclass(frozen=True)
class Readings:
    """Label confidences by calibrator, in [0, 1], and logit gaps, all float64 arrays of the same shape."""

    confidences: dict[str, np.ndarray]
    gaps: np.ndarray


def predictor(model: torch.nn.Module, recipe: TrainSpec, tick: Callable[[], None] = lambda: None) -> Predict:
    """Return a function from inputs (b, ...) to float32 logits (b, k), using the recipe's layout and precision.

    The function calls `tick` before each batch. The model must not change afterwards, since batch norms are folded, and
    bf16 casts of its weights may be kept (`halobench.training.device.kept_casts`).
    """
    device, network = next(model.parameters()).device, folded(model)

    # In inference_mode, autocast would recast the weights for each batch.
    @torch.no_grad()
    def predict(batch: torch.Tensor) -> torch.Tensor:
        tick()
        batch = batch.contiguous(memory_format=memory_format(recipe))
        advice = "a batch that fits in memory"
        with name_out_of_memory("eval_batch", recipe.eval_batch, advice), autocast(recipe, device):
            return network(batch).float()

    return predict


def chunk_samples(spec: ProbeSpec, size: int, calibrators: int) -> int:
    """Return how many samples fit into a chunk, given limits on forward passes and on directions of `size` numbers."""
    quantities = 2 * calibrators + 1
    forwards = 1 + len(spec.radii) + len(spec.relative_radii) + quantities * spec.bisections
    return max(1, min(DIRECTIONS // (spec.directions * size), FORWARDS // (spec.directions * forwards)))


def grid_distances(spec: ProbeSpec, other_distance: np.ndarray) -> np.ndarray:
    """Return the distances (m, 1 + A + B) to visit for each sample: 0, A absolute and B relative distances."""
    absolute = np.tile(np.asarray(spec.radii), (len(other_distance), 1))
    relative = np.asarray(spec.relative_radii) * other_distance[:, None]
    return np.concatenate([np.zeros((len(other_distance), 1)), absolute, relative], axis=1)


class RayWalk:
    """Evaluates a model at given distances along the rays from m samples.

    Samples and directions are stored as flat rows in the order of the model's memory layout, so the points along a ray
    are written only once, in the form that the model reads. A logit that isn't finite raises DivergedError.
    """

    def __init__(self, predict: Predict, inputs: torch.Tensor, labels: np.ndarray, rays: Rays, options: ProbeOptions):
        self.predict, self.rays, self.options, self.shape = predict, rays, options, inputs.shape[1:]
        self.layout = options.layout if inputs.dim() == 4 else torch.contiguous_format
        self.flat = self._in_layout(inputs.flatten(1))  # (m, D)
        self.directions = self._in_layout(rays.directions)  # (m, R, D)
        self.labels, self.highest = torch.from_numpy(labels).to(inputs.device), int(labels.max())

    def at(self, sample: np.ndarray, ray: np.ndarray, distance: np.ndarray) -> Readings:
        """Evaluate the model at b points, each given by a sample, one of its rays and a distance along it, all (b,)."""
        device, rows = self.flat.device, torch.from_numpy(sample * self.directions.shape[1] + ray)
        samples, rows = torch.from_numpy(sample).to(device), rows.to(device)
        far = torch.from_numpy(distance.astype(np.float32)).to(device)
        every, values = self.directions.flatten(0, 1), [np.zeros((1 + len(self.options.betas), 0))]
        for start in range(0, len(sample), self._block):
            part = slice(start, start + self._block)
            ways = every.index_select(0, rows[part])
            places = torch.addcmul(self.flat.index_select(0, samples[part]), far[part, None], ways, out=ways)
            values.append(self._read(places, self.labels[samples[part]], distance[part]))
        return self._readings(np.concatenate(values, axis=1))

    def along(self, distances: np.ndarray) -> Readings:
        """Evaluate every ray at its sample's distances (m, S); return arrays (m, R, S)."""
        samples, rays = self.directions.shape[:2]
        still = (distances == 0).all(axis=0)  # a sample is on all of its rays, but evaluated only once
        values = np.empty((1 + len(self.options.betas), samples, rays, len(still)))
        if still.any():
            values[..., still] = self._at_samples()[:, :, None, None]
        if not still.all():
            values[..., ~still] = self._along_rays(distances[:, ~still])
        return self._readings(values)

    @property
    def _block(self) -> int:
        """Return the number of points along rays to build at once."""
        return max(PLACES // self.flat.shape[1], BATCHES * self.options.batch)

    def _at_samples(self) -> np.ndarray:
        """Evaluate the samples themselves; return (1 + betas, m)."""
        parts = [slice(start, start + self._block) for start in range(0, len(self.flat), self._block)]
        zeros = np.zeros(len(self.flat))
        return np.concatenate([self._read(self.flat[p].clone(), self.labels[p], zeros[p]) for p in parts], axis=1)

    def _along_rays(self, distances: np.ndarray) -> np.ndarray:
        """Evaluate every ray at its sample's distances (m, S); return (1 + betas, m, R, S)."""
        (samples, count), size, rays = distances.shape, self.flat.shape[1], self.directions.shape[1]
        far = torch.from_numpy(distances.astype(np.float32)).to(self.flat.device)
        every, values = self.directions.flatten(0, 1), []
        step = max(1, PLACES // (count * size), BATCHES * self.options.batch // count)
        for start in range(0, len(every), step):
            ways = every[start : start + step]
            row = np.arange(start, start + len(ways)) // rays
            sample = torch.from_numpy(row).to(self.flat.device)
            places = torch.addcmul(self.flat[sample][:, None], far[sample][:, :, None], ways[:, None]).view(-1, size)
            labels = self.labels[sample].repeat_interleave(count)
            values.append(self._read(places, labels, distances[row].ravel()))
        return np.concatenate(values, axis=1).reshape(-1, samples, rays, count)

    def _read(self, places: torch.Tensor, labels: torch.Tensor, distance: np.ndarray) -> np.ndarray:
        """Return the logit gap and the label confidence for each of the betas, (1 + betas, b), at `places` (b, D)."""
        parts = places.tensor_split(-(-len(places) // self.options.batch))
        with torch.no_grad():  # otherwise, a plain module as `predict` would record gradients
            logits = torch.cat([self.predict(self._images(part)) for part in parts])
        expected = f"labels from 0 to {logits.shape[1] - 1}, one for each column of the logits"
        require(self.highest < logits.shape[1], "labels", self.highest, expected)
        *values, finite = score(logits, labels, self.options.betas.values()).cpu().numpy()
        if not finite.all():
            raise DivergedError(
                f"logits are not finite at a distance of {distance[finite == 0].min():.3g} from a point"
            )
        return np.stack(values)

    def _in_layout(self, flat: torch.Tensor) -> torch.Tensor:
        """Reorder rows (..., D) of flat images into the layout's memory order."""
        if self.layout != torch.channels_last or self.shape[0] == 1:
            return flat
        return flat.unflatten(-1, self.shape).movedim(-3, -1).flatten(-3)

    def _images(self, places: torch.Tensor) -> torch.Tensor:
        """View rows (b, D) in the layout's memory order as images (b, ...), without copying them."""
        if self.layout != torch.channels_last:
            return places.view(len(places), *self.shape)
        channels, height, width = self.shape
        return places.view(len(places), height, width, channels).permute(0, 3, 1, 2)

    def _readings(self, values: np.ndarray) -> Readings:
        """Wrap the values returned by `_read` in a `Readings`, under the calibrators' names."""
        return Readings(dict(zip(self.options.betas, values[1:], strict=True)), values[0])


def score(logits: torch.Tensor, labels: torch.Tensor, betas: Iterable[float]) -> torch.Tensor:
    """Return the logit gap, the label confidence at each of `betas`, and whether all logits are finite (1 or 0).

    Takes logits (b, k) and labels (b,) and returns a float64 tensor (1 + betas + 1, b) on the same device.
    """
    logits, column = logits.double(), labels[:, None]
    gap = logits.gather(1, column)[:, 0] - logits.scatter(1, column, -torch.inf).amax(dim=1)
    confidences = [torch.softmax(beta * logits, dim=1).gather(1, column)[:, 0] for beta in betas]
    return torch.stack([gap, *confidences, torch.isfinite(logits).all(dim=1).double()])
