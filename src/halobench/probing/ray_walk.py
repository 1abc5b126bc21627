"""Walk a model along rays: confidences and logit gaps at many distances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from halobench.core.specs import ProbeSpec, TrainSpec
from halobench.models.batchnorm_folding import checked
from halobench.probing.rays import Rays
from halobench.training.device import autocast, memory_format
from halobench.training.loop import in_memory
from halobench.training.trainer_state import DivergedError

Predict = Callable[[torch.Tensor], torch.Tensor]
DIRECTIONS = 2**22  # numbers of directions held at a time
PLACES = 2**20  # numbers of inputs made at a time, unless a few batches are more
BATCHES = 4
FORWARDS = 2**14  # forward passes of a chunk, which a killed probe does again


def predictor(model: torch.nn.Module, recipe: TrainSpec, tick: Callable[[], None] = lambda: None) -> Predict:
    """What a probe asks: a model's logits, float32, in the recipe's layout and precision; calls `tick` before each.

    Of the model as it is now, which must not change: batch norms are folded where the first batch shows that nothing
    changes by that (`halobench.models.batchnorm_folding`), and bf16 casts of weights may be kept (`kept_casts`).
    """
    device = next(model.parameters()).device
    asked: list[torch.nn.Module] = []

    # Not inference_mode, in which autocast casts the weights anew for each batch.
    @torch.no_grad()
    def predict(batch: torch.Tensor) -> torch.Tensor:
        tick()
        batch = batch.contiguous(memory_format=memory_format(recipe))
        with in_memory("eval_batch", recipe.eval_batch, "a batch that fits"):
            if not asked:
                asked.append(checked(model, batch))
            with autocast(recipe, device):
                return asked[0](batch).float()

    return predict


def chunk_points(spec: ProbeSpec, size: int, calibrators: int) -> int:
    """Points of a chunk: as many as keep its directions, of `size` numbers each, and its forward passes in bounds."""
    quantities = 2 * calibrators + 1
    forwards = 1 + len(spec.radii) + len(spec.relative_radii) + quantities * spec.bisections
    return max(1, min(DIRECTIONS // (spec.directions * size), FORWARDS // (spec.directions * forwards)))


def _grid(spec: ProbeSpec, other_distance: np.ndarray) -> np.ndarray:
    """Distances (m, 1 + A + B) to visit: 0, the absolute grid, and the relative grid scaled to each point."""
    absolute = np.tile(np.asarray(spec.radii), (len(other_distance), 1))
    relative = np.asarray(spec.relative_radii) * other_distance[:, None]
    return np.concatenate([np.zeros((len(other_distance), 1)), absolute, relative], axis=1)


class _Walk:
    """Reads confidences and gaps of m points at distances along their rays.

    Points and directions lie flat in the order of the model's memory `layout`, so that the places along a ray are
    written once, as the model reads them.
    """

    def __init__(
        self,
        predict: Predict,
        inputs: torch.Tensor,
        labels: np.ndarray,
        rays: Rays,
        batch: int,
        layout: torch.memory_format = torch.contiguous_format,
    ):
        self.predict, self.rays, self.batch, self.shape = predict, rays, batch, inputs.shape[1:]
        self.layout = layout if inputs.dim() == 4 else torch.contiguous_format
        self.flat = self._laid(inputs.flatten(1))  # (m, D)
        self.directions = self._laid(rays.directions)  # (m, R, D)
        self.labels = torch.from_numpy(np.asarray(labels)).to(inputs.device)

    def at(
        self, point: np.ndarray, ray: np.ndarray, distance: np.ndarray, betas: Mapping[str, float]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Label confidence by calibrator, and logit gap, of b places: float64 arrays (b,)."""
        device, rows = self.flat.device, torch.from_numpy(point * self.directions.shape[1] + ray)
        points, rows = torch.from_numpy(point).to(device), rows.to(device)
        far = torch.from_numpy(distance.astype(np.float32)).to(device)
        every, read = self.directions.flatten(0, 1), []
        step = max(PLACES // self.flat.shape[1], BATCHES * self.batch)
        for start in range(0, len(point), step):
            some = slice(start, start + step)
            p, r = points[some], rows[some]
            ways = every.index_select(0, r)
            places = torch.addcmul(self.flat.index_select(0, p), far[some, None], ways, out=ways)
            read.append(self._read(places, self.labels[p], distance[some], betas))
        return _named(np.concatenate(read, axis=1) if read else np.zeros((1 + len(betas), 0)), betas)

    def along(self, distances: np.ndarray, betas: Mapping[str, float]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The same for every ray at the distances (m, S) of its point: arrays (m, R, S).

        A point itself, at distance 0 of all of its rays, is looked at once.
        """
        points, rays = self.directions.shape[:2]
        still = (distances == 0).all(axis=0)
        values = np.empty((1 + len(betas), points, rays, len(still)))
        if still.any():
            values[..., still] = self._own(betas)[:, :, None, None]
        if not still.all():
            values[..., ~still] = self._moving(distances[:, ~still], betas)
        return _named(values, betas)

    def _own(self, betas: Mapping[str, float]) -> np.ndarray:
        """What is read at the points themselves: (1 + betas, m)."""
        step = max(PLACES // self.flat.shape[1], BATCHES * self.batch)
        parts = [slice(start, start + step) for start in range(0, len(self.flat), step)]
        zeros = np.zeros(len(self.flat))
        return np.concatenate([self._read(self.flat[p], self.labels[p], zeros[p], betas) for p in parts], axis=1)

    def _moving(self, distances: np.ndarray, betas: Mapping[str, float]) -> np.ndarray:
        """What is read on every ray at the distances (m, S) of its point: (1 + betas, m, R, S)."""
        (points, count), size, rays = distances.shape, self.flat.shape[1], self.directions.shape[1]
        far = torch.from_numpy(distances.astype(np.float32)).to(self.flat.device)
        every, read = self.directions.flatten(0, 1), []
        step = max(1, PLACES // (count * size), BATCHES * self.batch // count)
        for start in range(0, len(every), step):
            ways = every[start : start + step]
            row = np.arange(start, start + len(ways)) // rays
            p = torch.from_numpy(row).to(self.flat.device)
            places = torch.addcmul(self.flat[p][:, None], far[p][:, :, None], ways[:, None]).view(-1, size)
            labels = self.labels[p].repeat_interleave(count)
            read.append(self._read(places, labels, distances[row].ravel(), betas))
        return np.concatenate(read, axis=1).reshape(-1, points, rays, count)

    def _read(
        self, places: torch.Tensor, labels: torch.Tensor, distance: np.ndarray, betas: Mapping[str, float]
    ) -> np.ndarray:
        """Logit gap, and label confidence for each of `betas`, at `places` (b, D): float64 (1 + betas, b).

        Passed through the model in as few parts of even size as `batch` allows, and read from its device in one go.
        """
        parts = places.tensor_split(-(-len(places) // self.batch))
        with torch.no_grad():  # where `predict` is a module of one's own, it would record gradients
            logits = torch.cat([self.predict(self._images(part)) for part in parts])
        *values, finite = score(logits, labels, betas.values()).cpu().numpy()
        if not finite.all():
            raise DivergedError(f"logits are not finite at distance {distance[finite == 0].min():.3g} from a point")
        return np.stack(values)

    def _laid(self, flat: torch.Tensor) -> torch.Tensor:
        """Numbers (..., D) of images in rows, in the order in which the layout has them in memory."""
        if self.layout != torch.channels_last or self.shape[0] == 1:
            return flat
        return flat.unflatten(-1, self.shape).movedim(-3, -1).flatten(-3)

    def _images(self, places: torch.Tensor) -> torch.Tensor:
        """Numbers (b, D) in that order as images, without copying them."""
        if self.layout != torch.channels_last:
            return places.view(len(places), *self.shape)
        channels, height, width = self.shape
        return places.view(len(places), height, width, channels).permute(0, 3, 1, 2)


def _named(values: np.ndarray, betas: Mapping[str, float]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Label confidences by calibrator, and logit gaps."""
    return dict(zip(betas, values[1:], strict=True)), values[0]


def score(logits: torch.Tensor, labels: torch.Tensor, betas: Iterable[float]) -> torch.Tensor:
    """Logit gap, label confidence for logits times each of `betas`, and whether all logits are finite (1 or 0).

    Logits (b, k) against labels (b,), in float64: (1 + betas + 1, b), on their device.
    """
    logits, own = logits.double(), labels[:, None]
    gap = logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(dim=1)
    confidences = [torch.softmax(beta * logits, dim=1).gather(1, own)[:, 0] for beta in betas]
    return torch.stack([gap, *confidences, torch.isfinite(logits).all(dim=1).double()])
