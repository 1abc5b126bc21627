"""Probe how a model's confidence in a sample's label falls with distance from that sample.

Around each sample, the probe walks along rays in normalised input space and records the softmax confidence in the
sample's label and the logit gap (the label's logit minus the largest other logit). Each of the package's kinds of ray
has a file in ``probing/directions``.

Directions don't depend on the model, so models probed on the same data with the same seed are probed along the same
rays (common random numbers). Random directions are drawn separately for each sample, since sharing one set of
directions would make means over samples vary more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from halobench.calibration.calibrators.exact import fit_temperature
from halobench.core.errors import refuse
from halobench.core.seeding import generator
from halobench.core.specs.data import DatasetSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.data import splits
from halobench.data.mapped_rows import normalise
from halobench.data.splits import Data
from halobench.probing.checks import check_arguments, check_rng
from halobench.probing.progress import Chunks, Progress
from halobench.probing.radii import find_radii, quantities, radii_table
from halobench.probing.ray_walk import Predict, ProbeOptions, RayWalk, chunk_samples, grid_distances, predictor
from halobench.probing.rays import Geometry, TrainingPoints
from halobench.probing.run_search import search_radii
from halobench.storage import arrays_io
from halobench.training.batches import batches_of
from halobench.training.device import kept_casts, memory_format, place, resolve_device, set_kernels
from halobench.training.saved_model import load_model

CURVES = ("radius", "relative_radius", "confidence", "confidence_se", "logit_gap", "logit_gap_se")
DEFAULTS = ProbeOptions()


@dataclass(frozen=True)
class Neighbourhood:
    """The tables produced by a probe.

    Attributes
    ----------
    curves : DataFrame
        Columns are radius (in normalised inputs; NaN on rows of the relative grid), relative_radius (NaN on rows of the
        absolute grid), confidence and logit_gap (means over samples and rays), and confidence_se and logit_gap_se
        (standard errors clustered by sample). Each standard error is the standard deviation of the samples' means over
        rays, divided by the square root of the number of samples. This formula treats the samples as independent draws,
        although they are drawn without replacement, so the standard errors are, if anything, too large.
    radii : DataFrame
        One row per sample, ray, quantity and calibrator. For a walk along rays, the radius is the first distance at
        which the confidence is below the threshold (for the quantity ``certainty``) or half its value at distance 0
        (``half_level``), or at which another class overtakes the label (``decision``). Columns are point (the sample),
        ray, quantity, calibrator, threshold, radius, censored (whether the walk ended before such a distance; the
        radius is then the walk's length), other_distance (the distance to the nearest training sample with a different
        label) and line_length (the distance to the ray's target; NaN if there is none).
    """

    curves: pd.DataFrame
    radii: pd.DataFrame


@dataclass(frozen=True)
class ProbedModel:
    """A trained model in eval mode, with the facts that a probe needs."""

    model: torch.nn.Module
    recipe: TrainSpec  # how the model is evaluated (layout, precision, batch)
    beta: float | None = None  # inverse of the exact temperature; None if validation data are separable
    fitted: bool = True  # whether the model was fitted to the data set's training samples

    @property
    def device(self) -> torch.device:
        """Return the model's device."""
        return next(self.model.parameters()).device

    def options(self, chunks: Chunks) -> ProbeOptions:
        """Return the options for probing this model."""
        betas = {"none": 1.0} if self.beta is None else {"none": 1.0, "exact": self.beta}
        return ProbeOptions(betas, self.recipe.eval_batch, memory_format(self.recipe), chunks)


def probe_trained_cell(
    source: Path,
    folder: Path,
    dataset: DatasetSpec,
    model: ModelSpec,
    recipe: TrainSpec,
    probes: Mapping[str, ProbeSpec],
    seed: int,
    progress: Progress | None = None,
) -> tuple[Neighbourhood, int]:
    """Return the tables of all `probes` of the trained cell in `folder`, and the dimension of its inputs."""
    data = splits.load_data(source, dataset, seed)
    set_kernels(recipe)
    network = load_model(model, data, folder / "model.safetensors")
    network = place(network, recipe, resolve_device(recipe.device)).eval()
    arrays = arrays_io.read_arrays(folder / "logits.safetensors")
    exact = fit_temperature(arrays["val.logits"], arrays["val.labels"])
    beta = None if exact.separable else exact.beta
    probed = ProbedModel(network, recipe, beta, model.fitted_on(dataset.source))
    return probe_cell(probed, data, probes, seed, progress), math.prod(data.shape)


def probe_cell(
    probed: ProbedModel, data: Data, probes: Mapping[str, ProbeSpec], seed: int, progress: Progress | None = None
) -> Neighbourhood:
    """Return the tables of all `probes` of a trained model, around training and held-out samples.

    Held-out samples are test samples whose labels are drawn with the data set's noise, like the training labels. The
    seed determines the samples and rays of the probes, which are the same for every model and loss. The first two
    columns of both tables are points and probe. Points are ``heldout`` or ``train``, with ``evaluation`` in place of
    ``train`` if the model wasn't fitted to the training samples. If `progress` has a checkpoint and a signal arrives,
    the completed chunks are saved and Interrupted is raised.
    """
    progress, parts = progress or Progress(), []
    predict = predictor(probed.model, probed.recipe, progress.save_if_signalled)
    train = data.splits["train"]
    training_points = TrainingPoints(batches_of(train.images, probed.recipe, probed.device, data), train.labels)
    # The outer loop is over sets of samples, since probes of the same samples share distances to other labels.
    for points, split in (("train", train), ("heldout", data.splits["test"])):
        for name, spec in probes.items():
            count = spec.points if points == "train" else spec.control
            rows = choose_samples(len(split.labels), count, generator(seed, "probe-points", points))
            if not len(rows):
                continue
            inputs = torch.from_numpy(normalise(split.images[rows], data.mean, data.std)).to(probed.device)
            rng, options = generator(seed, "probe", name, points), probed.options(progress.chunks(f"{points}.{name}"))
            arguments = (inputs, split.labels[rows], spec, training_points)
            if spec.searches:
                radii = search_radii(probed.model, *arguments, rng=rng, options=options)
                tables = Neighbourhood(pd.DataFrame({name: np.empty(0) for name in CURVES}), radii)
            else:
                with kept_casts(probed.device):
                    tables = probe(predict, *arguments, rng=rng, options=options)
            kind = points if probed.fitted or points != "train" else "evaluation"
            parts.append(_named(tables, split.index[rows], points=kind, probe=name))
            progress.log(f"probe {name} around {len(rows)} {kind} points: done")
    return Neighbourhood(*(pd.concat(each, ignore_index=True) for each in zip(*parts, strict=True)))


def choose_samples(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` of `size` rows without replacement (all rows if there are too few), and return them sorted."""
    return np.sort(rng.permutation(size)[:count])


def _named(tables: Neighbourhood, index: np.ndarray, **names: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with `names` as leading columns, and with samples identified by their rows in the source."""
    radii = tables.radii.assign(point=index[tables.radii["point"]])
    curves, radii = (table.assign(**names)[[*names, *table.columns]] for table in (tables.curves, radii))
    return curves, radii


def probe(
    predict: Predict,
    inputs: torch.Tensor,
    labels: np.ndarray,
    spec: ProbeSpec,
    training_points: TrainingPoints,
    *,
    rng: np.random.Generator,
    options: ProbeOptions = DEFAULTS,
) -> Neighbourhood:
    """Walk along rays from samples, and return how a model's confidence falls with distance.

    Parameters
    ----------
    predict : callable
        Maps normalised inputs (b, ...) to logits (b, k), in eval mode.
    inputs : float tensor (n, ...)
        Normalised samples on the model's device. All samples passed are probed, whatever the spec's `points` and
        `control`.
    labels : int array or tensor (n,)
        The labels whose confidences are recorded, in [0, k).
    spec : ProbeSpec
    training_points : TrainingPoints
        The training samples, which several probes can share.
    rng : numpy Generator
        Determines the directions.
    options : ProbeOptions, optional

    Raises
    ------
    SpecError
        If a module is in train mode, an argument doesn't match its description, the inputs differ in shape from the
        training samples, the spec's kind is a search, or all training samples have the same label as some sample.
    DivergedError
        If a logit is not finite.
    """
    labels = check_arguments(predict, inputs, labels, training_points)
    check_rng(rng)
    what = f"{spec.kind} doesn't walk along rays; use halobench.attacked_radius or certified_radius"
    refuse(spec.searches, "kind", what)
    geometry = Geometry(spec, inputs, labels, training_points, rng)
    chunks = options.chunks or Progress().chunks(spec.kind)
    step, start = chunk_samples(spec, inputs[0].numel(), len(options.betas)), chunks.resume(rng)
    while start < len(labels):
        part = slice(start, min(start + step, len(labels)))
        walk = RayWalk(predict, inputs[part], labels[part], geometry.rays(part), options)
        distances = grid_distances(spec, geometry.other_distance[part])
        readings = walk.along(distances)
        radius, censored = find_radii(walk, spec, distances, readings)
        arrays = {"confidence": readings.confidences["none"].mean(axis=1), "logit_gap": readings.gaps.mean(axis=1)}
        arrays |= {"radius": radius, "censored": censored}
        arrays["length"] = walk.rays.lengths.cpu().numpy().astype(np.float64)
        chunks.add(arrays, rng)
        start = part.stop
    radii = radii_table(quantities(spec, options.betas), chunks.arrays, geometry.other_distance)
    return Neighbourhood(_curves(spec, chunks.arrays["confidence"], chunks.arrays["logit_gap"]), radii)


def _curves(spec: ProbeSpec, confidence: np.ndarray, gap: np.ndarray) -> pd.DataFrame:
    """Return means over samples of arrays (n, 1 + A + B), with standard errors, at each distance but the first."""
    absolute, relative = len(spec.radii), len(spec.relative_radii)
    columns = {
        "radius": np.concatenate([spec.radii, np.full(relative, np.nan)]),
        "relative_radius": np.concatenate([np.full(absolute, np.nan), spec.relative_radii]),
    }
    for name, values in (("confidence", confidence[:, 1:]), ("logit_gap", gap[:, 1:])):
        count = len(values)
        spread = values.std(axis=0, ddof=1) if count > 1 else np.full(values.shape[1], np.nan)
        columns |= {name: values.mean(axis=0), f"{name}_se": spread / np.sqrt(count)}
    return pd.DataFrame(columns)
