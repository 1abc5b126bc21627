"""The probe: how a model's confidence in a point's label falls with distance from that point.

Around each point it walks along rays, in normalised input space, and reads the softmax confidence in the point's label
and the logit gap (the label's logit less the largest other). Four kinds of ray: ``sphere``, uniform directions;
``nearest_other``, to the nearest training point of another label; ``mixup_line``, to a random training point of another
label; ``manifold``, random directions in the span of the training set's leading principal components, which Mixup,
unlike on the lines between points, never trained on.

Directions come from the generator alone, so that models probed with the same seed see the same rays (common random
numbers), and are drawn anew for each point: one set shared by all points is as unbiased, but has a larger variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from halobench.calibration.temperature_scaling import fit_temperature
from halobench.core.seeding import generator
from halobench.core.specs import ProbeSpec, TrainSpec
from halobench.data import Data, normalise
from halobench.models.batchnorm_folding import checked
from halobench.probing.progress import Chunks, Progress
from halobench.probing.rays import Geometry, Rays, Surroundings
from halobench.training.checkpoint import Checkpoint
from halobench.training.loop import autocast, feed, in_memory, kept_casts, memory_format
from halobench.training.trainer_state import DivergedError

Predict = Callable[[torch.Tensor], torch.Tensor]
DIRECTIONS = 2**22  # numbers of directions held at a time
PLACES = 2**20  # numbers of inputs made at a time, unless a few batches are more
BATCHES = 4
FORWARDS = 2**14  # forward passes of a chunk, which a killed probe does again


@dataclass(frozen=True)
class Neighbourhood:
    """What a probe found.

    Attributes
    ----------
    curves : DataFrame
        radius (normalised pixels; NaN on rows of the relative grid), relative_radius (NaN on rows of the absolute one),
        confidence and logit_gap (means over points and rays), confidence_se and logit_gap_se (standard errors clustered
        by point: the deviation of points' means over the root of their number. That takes the points for draws from an
        endless population, so for the mean over the training set, from which they are drawn without replacement, it is
        on average no smaller than the standard error; `halobench.probing.sample_size` has that one).
    radii : DataFrame
        A row per point, ray, quantity and calibrator: point, ray, quantity (``certainty``: first distance with
        confidence below the threshold; ``half_level``: with half the confidence at distance 0; ``decision``: where
        another class overtakes the label), calibrator, threshold, radius, censored (the walk ended first; radius is
        then its length), other_distance (to the nearest training point of another label), line_length (to the ray's
        target, NaN without).
    """

    curves: pd.DataFrame
    radii: pd.DataFrame


def probe_cell(
    model: torch.nn.Module,
    data: Data,
    probes: Mapping[str, ProbeSpec],
    recipe: TrainSpec,
    seed: int,
    beta: float | None,
    log: Callable[[str], None] = print,
    checkpoint: Checkpoint | None = None,
    fitted: bool = True,
) -> Neighbourhood:
    """Probe a trained model around training and held-out points.

    Parameters
    ----------
    model : nn.Module
        In eval mode, on its device.
    probes : mapping of name to ProbeSpec
    recipe : TrainSpec
        How the model is evaluated: layout, precision, batch.
    seed : int
        The cell's: draws points and rays, the same for every model and loss.
    beta : float or None
        Inverse of the exact temperature; None where there is none (separable validation data).
    log : callable
        Gets a line a probe.
    checkpoint : Checkpoint, optional
        Saved to between chunks of points whenever it is due.
    fitted : bool
        Whether the model was fitted to the data set's training points.

    Returns
    -------
    Neighbourhood
        With leading columns points (``train``, or ``evaluation`` where the model wasn't fitted to the training points;
        and ``heldout``) and probe. Held-out points are test points, and their
        label is drawn with the data set's noise, as a training label would have been.

    Raises
    ------
    DivergedError
        If a logit is not finite.
    Interrupted
        If a signal has come; the checkpoint holds the chunks that were done.
    """
    device = next(model.parameters()).device
    betas = {"none": 1.0} if beta is None else {"none": 1.0, "exact": beta}
    progress = Progress(checkpoint, log)

    predict = predictor(model, recipe, progress.save_if_asked)
    surroundings = Surroundings(feed(data.splits["train"].images, recipe, device, data), data.splits["train"].labels)
    curves, radii = [], []
    # Points outermost: the probes of the same points share their distances to other labels.
    for points, split in (("train", data.splits["train"]), ("heldout", data.splits["test"])):
        told = points if fitted or points != "train" else "evaluation"
        for name, spec in probes.items():
            count = spec.points if points == "train" else spec.control
            chosen = choose_points(len(split.labels), count, generator(seed, "probe-points", points))
            if not len(chosen):
                continue
            with kept_casts(device):
                found = probe(
                    predict,
                    torch.from_numpy(normalise(split.images[chosen], data.mean, data.std)).to(device),
                    split.labels[chosen],
                    spec,
                    surroundings,
                    rng=generator(seed, "probe", name, points),
                    betas=betas,
                    batch=recipe.eval_batch,
                    layout=memory_format(recipe),
                    chunks=progress.of(f"{points}.{name}"),
                )
            names = {"points": told, "probe": name}
            radii.append(found.radii.assign(point=split.index[chosen][found.radii["point"]], **names))
            curves.append(found.curves.assign(**names))
            log(f"probe {name} around {len(chosen)} {told} points: done")
    lead = ["points", "probe"]
    return Neighbourhood(*(_leading(pd.concat(tables, ignore_index=True), lead) for tables in (curves, radii)))


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


def exact_beta(arrays: Mapping[str, np.ndarray]) -> float | None:
    """The inverse of the exact temperature on validation logits and labels; None where they are separable."""
    fit = fit_temperature(arrays["val.logits"], arrays["val.labels"])
    return None if fit.separable else fit.beta


def choose_points(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of `count` points of `size` without replacement, all of them where there are no more."""
    return np.sort(rng.permutation(size)[:count])


def _leading(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """A table with these columns first."""
    return table[columns + [column for column in table.columns if column not in columns]]


def probe(
    predict: Predict,
    inputs: torch.Tensor,
    labels: np.ndarray,
    spec: ProbeSpec,
    surroundings: Surroundings,
    *,
    rng: np.random.Generator,
    betas: Mapping[str, float] | None = None,
    batch: int = 250,
    layout: torch.memory_format = torch.contiguous_format,
    chunks: Chunks | None = None,
) -> Neighbourhood:
    """Probe the neighbourhood of points.

    Parameters
    ----------
    predict : callable
        Normalised inputs (b, ...) to logits (b, k), in eval mode.
    inputs : float tensor (n, ...)
        Points, normalised, on the model's device.
    labels : int array (n,)
        The labels whose confidence is read.
    spec : ProbeSpec
        `points` and `control` are not read here: all of `inputs` is probed.
    surroundings : Surroundings
        The training points: targets of rays, and what distances are relative to. Probes can share one.
    rng : numpy Generator
        Draws directions and targets.
    betas : mapping of calibrator to inverse temperature, optional
        Certainty and half-level radii are found for logits times each; by default ``{"none": 1.0}``.
    batch : int
        Inputs of one forward pass, at most.
    layout : torch.memory_format
        In which `predict` gets images (b, C, H, W).
    chunks : Chunks, optional
        What is already done, and where more is noted.

    Returns
    -------
    Neighbourhood

    Raises
    ------
    SpecError
        If no training point has another label than some point.
    DivergedError
        If a logit is not finite.
    """
    betas = dict(betas or {"none": 1.0})
    geometry = Geometry(spec, inputs, labels, surroundings, rng)
    chunks = chunks or Progress().of(spec.kind)
    step, start = chunk_points(spec, inputs[0].numel(), len(betas)), chunks.resume(rng)
    while start < len(labels):
        part = slice(start, min(start + step, len(labels)))
        walk = _Walk(predict, inputs[part], labels[part], geometry.rays(part), batch, layout)
        distances = _grid(spec, geometry.other_distance[part])
        confidences, gaps = walk.along(distances, betas)
        radius, censored = _radii(walk, spec, distances, confidences, gaps, betas)
        found = {"confidence": confidences["none"].mean(axis=1), "logit_gap": gaps.mean(axis=1)}
        lengths = walk.rays.lengths.cpu().numpy().astype(np.float64)
        chunks.add({**found, "radius": radius, "censored": censored, "length": lengths}, rng)
        start = part.stop
    found = chunks.found
    return Neighbourhood(
        _curves(spec, found["confidence"], found["logit_gap"]),
        _radii_table(spec, found, geometry.other_distance, betas),
    )


def confidences(
    predict: Predict,
    inputs: torch.Tensor,
    labels: np.ndarray,
    spec: ProbeSpec,
    surroundings: Surroundings,
    *,
    rng: np.random.Generator,
    batch: int = 250,
    layout: torch.memory_format = torch.contiguous_format,
) -> np.ndarray:
    """Label confidence on each ray: float64 (n, R, A + B), at `radii` and then at `relative_radii`.

    A pilot for `halobench.probing.sample_size`, which looks for no radius. The arguments are `probe`'s, and so are the
    rays that a generator gives.
    """
    geometry, found = Geometry(spec, inputs, labels, surroundings, rng), []
    step = chunk_points(spec, inputs[0].numel(), 0)
    for start in range(0, len(labels), step):
        part = slice(start, min(start + step, len(labels)))
        walk = _Walk(predict, inputs[part], labels[part], geometry.rays(part), batch, layout)
        found.append(walk.along(_grid(spec, geometry.other_distance[part]), {"none": 1.0})[0]["none"][:, :, 1:])
    return np.concatenate(found)


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


def _curves(spec: ProbeSpec, confidence: np.ndarray, gap: np.ndarray) -> pd.DataFrame:
    """Means over points (n, 1 + A + B) with standard errors clustered by point, a row per grid value."""
    absolute, relative = len(spec.radii), len(spec.relative_radii)
    rows = {
        "radius": np.concatenate([spec.radii, np.full(relative, np.nan)]),
        "relative_radius": np.concatenate([np.full(absolute, np.nan), spec.relative_radii]),
    }
    for name, values in (("confidence", confidence[:, 1:]), ("logit_gap", gap[:, 1:])):
        rows[name] = values.mean(axis=0)
        count = len(values)
        rows[f"{name}_se"] = (
            values.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[1], np.nan)
        )
    return pd.DataFrame(rows)


def _quantities(spec: ProbeSpec, betas: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Quantity, calibrator and threshold of each kind of radius, in their order."""
    found = []
    for name in betas:
        found += [("certainty", name, spec.threshold), ("half_level", name, float("nan"))]
    return [*found, ("decision", "none", float("nan"))]


def _radii(
    walk: _Walk,
    spec: ProbeSpec,
    distances: np.ndarray,
    confidences: Mapping[str, np.ndarray],
    gaps: np.ndarray,
    betas: Mapping[str, float],
) -> tuple[np.ndarray, np.ndarray]:
    """First crossing of each quantity on each ray, bracketed on the grid, then bisected; and whether there was none.

    Both (m, Q, R), in the order of `_quantities`.
    """
    ends: list[tuple[str | None, Any]] = []
    for quantity, name, _ in _quantities(spec, betas):
        if quantity == "decision":
            ends.append((None, 0.0))
            continue
        start = confidences[name][:, :, 0]
        ends.append((name, np.full_like(start, spec.threshold) if quantity == "certainty" else start / 2))
    brackets = [
        _Bracket(distances, gaps < 0 if name is None else confidences[name] < level[..., None], name, level)
        for name, level in ends
    ]
    for _ in range(spec.bisections):
        _halve(walk, [bracket for bracket in brackets if len(bracket.point)], betas)
    return np.stack([b.radius() for b in brackets], axis=1), np.stack([b.censored for b in brackets], axis=1)


class _Bracket:
    """Between which distances each ray (m, R) first ends, by one quantity: where a value falls below a level.

    `ended` (m, R, S) tells so on the grid `distances` (m, S), in any order; `level` (m, R) is of the confidence of the
    calibrator `name`, or 0 of the logit gap where that is None. A crossing back between two neighbouring grid distances
    goes unseen: the grid decides what counts as first. Where none has ended (censored), the radius is the longest
    distance.
    """

    def __init__(self, distances: np.ndarray, ended: np.ndarray, name: str | None, level: np.ndarray | float):
        self.name = name
        order = np.argsort(distances, axis=1, kind="stable")
        grid = np.take_along_axis(distances, order, axis=1)
        ended = np.take_along_axis(ended, np.broadcast_to(order[:, None], ended.shape), axis=2)
        self.censored, first = ~ended.any(axis=2), ended.argmax(axis=2)
        rows = np.arange(len(distances))[:, None]
        self.high = np.where(self.censored, grid[:, -1:], grid[rows, first])
        low = np.where(self.censored, self.high, grid[rows, np.maximum(first - 1, 0)])
        self.point, self.ray = np.nonzero(~self.censored & (first > 0) & (self.high > low))
        self.lower, self.upper = low[self.point, self.ray], self.high[self.point, self.ray]
        self.level = np.broadcast_to(level, self.high.shape)[self.point, self.ray]

    @property
    def middle(self) -> np.ndarray:
        """Where the brackets (b,) are halved."""
        return (self.lower + self.upper) / 2

    def narrow(self, values: np.ndarray) -> None:
        """Keep the half in which the values (b,), read in the middle, say that the rays end."""
        middle, over = self.middle, values < self.level
        self.upper, self.lower = np.where(over, middle, self.upper), np.where(over, self.lower, middle)

    def radius(self) -> np.ndarray:
        """The distances (m, R) at which rays end."""
        found = self.high.copy()
        found[self.point, self.ray] = self.middle
        return found


def _halve(walk: _Walk, brackets: list[_Bracket], betas: Mapping[str, float]) -> None:
    """Halve the brackets of all quantities together: a place that several of them ask for is looked at once."""
    if not brackets:
        return
    rays = walk.directions.shape[1]
    asked = [np.stack([bracket.point * rays + bracket.ray, bracket.middle]) for bracket in brackets]
    places, at = np.unique(np.concatenate(asked, axis=1), axis=1, return_inverse=True)
    row, at = places[0].astype(np.int64), at.ravel()
    confidences, gaps = walk.at(row // rays, row % rays, places[1], betas)
    ends = np.cumsum([len(bracket.point) for bracket in brackets])
    for bracket, some in zip(brackets, np.split(at, ends[:-1]), strict=True):
        bracket.narrow((gaps if bracket.name is None else confidences[bracket.name])[some])


def _radii_table(
    spec: ProbeSpec, found: Mapping[str, np.ndarray], other_distance: np.ndarray, betas: Mapping[str, float]
) -> pd.DataFrame:
    """The radii of all points as a long table."""
    count, rays = found["length"].shape
    point, ray = np.repeat(np.arange(count), rays), np.tile(np.arange(rays), count)
    shared = {
        "point": point,
        "ray": ray,
        "other_distance": other_distance[point],
        "line_length": found["length"].ravel(),
    }
    tables = []
    for row, (quantity, calibrator, threshold) in enumerate(_quantities(spec, betas)):
        of = {"quantity": quantity, "calibrator": calibrator}
        values = {"radius": found["radius"][:, row].ravel(), "censored": found["censored"][:, row].ravel()}
        tables.append(pd.DataFrame({**shared, **of, **values, "threshold": threshold}))
    return pd.concat(tables, ignore_index=True)
