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

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from halobench.checkpoint import Checkpoint
from halobench.data import Data, normalise
from halobench.progress import Chunks, Progress
from halobench.rays import Geometry, Rays, Surroundings
from halobench.run import DivergedError
from halobench.seeding import generator
from halobench.specs import ProbeSpec, TrainSpec
from halobench.temperature import fit_temperature
from halobench.training import autocast, feed, in_memory, memory_format

Predict = Callable[[torch.Tensor], torch.Tensor]
DIRECTIONS = 2**22  # numbers of directions held at a time
FORWARDS = 2**14  # forward passes of a chunk, which a killed probe does again


@dataclass(frozen=True)
class Neighbourhood:
    """What a probe found.

    Attributes
    ----------
    curves : DataFrame
        radius (normalised pixels; NaN on rows of the relative grid), relative_radius (NaN on rows of the absolute one),
        confidence and logit_gap (means over points and rays), confidence_se and logit_gap_se (standard errors clustered
        by point).
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

    @torch.inference_mode()
    def predict(batch: torch.Tensor) -> torch.Tensor:
        progress.save_if_asked()
        with in_memory("eval_batch", recipe.eval_batch, "a batch that fits"), autocast(recipe, device):
            return model(batch.contiguous(memory_format=memory_format(recipe))).float()

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
            found = probe(
                predict,
                torch.from_numpy(normalise(split.images[chosen], data.mean, data.std)).to(device),
                split.labels[chosen],
                spec,
                surroundings,
                rng=generator(seed, "probe", name, points),
                betas=betas,
                batch=recipe.eval_batch,
                chunks=progress.of(f"{points}.{name}"),
            )
            names = {"points": told, "probe": name}
            radii.append(found.radii.assign(point=split.index[chosen][found.radii["point"]], **names))
            curves.append(found.curves.assign(**names))
            log(f"probe {name} around {len(chosen)} {told} points: done")
    lead = ["points", "probe"]
    return Neighbourhood(*(_leading(pd.concat(tables, ignore_index=True), lead) for tables in (curves, radii)))


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
        Inputs of one forward pass.
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
        walk = _Walk(predict, inputs[part], labels[part], geometry.rays(part), batch)
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
    """Reads confidences and gaps of m points at distances along their rays."""

    def __init__(self, predict: Predict, inputs: torch.Tensor, labels: np.ndarray, rays: Rays, batch: int):
        self.predict, self.rays, self.batch = predict, rays, batch
        self.inputs, self.flat = inputs, inputs.flatten(1)
        self.labels = torch.from_numpy(np.asarray(labels)).to(inputs.device)

    def at(self, point: np.ndarray, ray: np.ndarray, distance: np.ndarray, betas: Mapping[str, float]):
        """Label confidence by calibrator, and logit gap, of b places: float64 arrays (b,)."""
        confidences: dict[str, list[np.ndarray]] = {name: [] for name in betas}
        gaps = []
        for start in range(0, len(point), self.batch):
            some = slice(start, start + self.batch)
            p, r = (torch.from_numpy(a[some]).to(self.flat.device) for a in (point, ray))
            s = torch.from_numpy(distance[some].astype(np.float32)).to(self.flat.device)
            places = torch.addcmul(self.flat[p], s[:, None], self.rays.directions[p, r])
            logits = self.predict(places.view(len(p), *self.inputs.shape[1:])).double()
            if not torch.isfinite(logits).all():
                worst = distance[some][~torch.isfinite(logits).all(dim=1).cpu().numpy()].min()
                raise DivergedError(f"logits are not finite at distance {worst:.3g} from a point")
            own = logits.gather(1, self.labels[p, None])
            gaps.append((own[:, 0] - logits.scatter(1, self.labels[p, None], -torch.inf).amax(dim=1)).cpu().numpy())
            for name, beta in betas.items():
                scaled = (beta * (own - logits)).neg()
                confidences[name].append(torch.exp(-torch.logsumexp(scaled, dim=1)).cpu().numpy())
        return {name: np.concatenate(blocks) for name, blocks in confidences.items()}, np.concatenate(gaps)

    def along(self, distances: np.ndarray, betas: Mapping[str, float]):
        """The same for every ray at the distances (m, S) of its point: arrays (m, R, S)."""
        shape = (len(distances), self.rays.directions.shape[1], distances.shape[1])
        point, ray, at = (a.ravel() for a in np.indices(shape))
        confidences, gaps = self.at(point, ray, distances[point, at], betas)
        return {name: values.reshape(shape) for name, values in confidences.items()}, gaps.reshape(shape)


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
    found = []
    for quantity, name, _ in _quantities(spec, betas):
        if quantity == "decision":
            found.append(_bisect(walk, spec.bisections, distances, gaps < 0, lambda c, g, p, r: g < 0, {}))
            continue
        start = confidences[name][:, :, 0]
        level = np.full_like(start, spec.threshold) if quantity == "certainty" else start / 2

        def below(c, g, p, r, name=name, level=level):
            return c[name] < level[p, r]

        ended = confidences[name] < level[..., None]
        found.append(_bisect(walk, spec.bisections, distances, ended, below, {name: betas[name]}))
    radii, censored = zip(*found, strict=True)
    return np.stack(radii, axis=1), np.stack(censored, axis=1)


def _bisect(
    walk: _Walk,
    bisections: int,
    distances: np.ndarray,
    ended: np.ndarray,
    test: Callable[..., np.ndarray],
    betas: Mapping[str, float],
) -> tuple[np.ndarray, np.ndarray]:
    """The first distance (m, R) at which `test` holds, and whether none on the grid did (censored).

    `ended` (m, R, S) is the test on the grid `distances` (m, S), in any order. A crossing back between two neighbouring
    grid distances goes unseen: the grid decides what counts as first.
    """
    order = np.argsort(distances, axis=1, kind="stable")
    sorted_distances = np.take_along_axis(distances, order, axis=1)
    ended = np.take_along_axis(ended, np.broadcast_to(order[:, None], ended.shape), axis=2)
    censored = ~ended.any(axis=2)
    first = ended.argmax(axis=2)
    rows = np.arange(len(distances))[:, None]
    high = np.where(censored, sorted_distances[:, -1:], sorted_distances[rows, first])
    low = np.where(censored, high, sorted_distances[rows, np.maximum(first - 1, 0)])
    point, ray = np.nonzero(~censored & (first > 0) & (high > low))
    lower, upper = low[point, ray], high[point, ray]
    for _ in range(bisections if len(point) else 0):
        middle = (lower + upper) / 2
        confidences, gaps = walk.at(point, ray, middle, betas)
        over = test(confidences, gaps, point, ray)
        upper, lower = np.where(over, middle, upper), np.where(over, lower, middle)
    high[point, ray] = (lower + upper) / 2
    return high, censored


def _radii_table(
    spec: ProbeSpec, found: Mapping[str, np.ndarray], other_distance: np.ndarray, betas: Mapping[str, float]
) -> pd.DataFrame:
    """The radii of all points as a long table."""
    count, rays = found["length"].shape
    point, ray = (a.ravel() for a in np.indices((count, rays)))
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
