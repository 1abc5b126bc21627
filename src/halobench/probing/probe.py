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

from halobench.core.seeding import generator
from halobench.core.specs import ProbeSpec, TrainSpec
from halobench.data.mapped_rows import normalise
from halobench.data.splits import Data
from halobench.probing.progress import Chunks, Progress
from halobench.probing.radii import _radii, _radii_table
from halobench.probing.ray_walk import Predict, _grid, _Walk, chunk_points, predictor
from halobench.probing.rays import Geometry, Surroundings
from halobench.training.checkpoint import Checkpoint
from halobench.training.device import kept_casts, memory_format
from halobench.training.loop import feed


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
