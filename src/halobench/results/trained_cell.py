"""Reopen a trained cell in a notebook or a script: its model, data, logits and spec."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halobench.core.errors import RefusedError
from halobench.core.extras import explained
from halobench.core.specs.codec import parse
from halobench.core.specs.data import DatasetSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.storage import arrays_io
from halobench.storage.records import read_record

if TYPE_CHECKING:
    from torch import nn

    from halobench.data.splits import Data


FURTHER = 2  # number of further draws, as a multiple of the number of test samples


@dataclass(frozen=True)
class TrainedCell:
    """A trained cell, whose parts are read on first use; logits need neither the source nor plug-ins.

    Attributes
    ----------
    folder, source : Path
        The folders of the cell and of its source.
    spec : mapping
        The requested specs of dataset, model, loss and train, without default values.
    seed : int
    model : nn.Module
        The model in eval mode, on the CPU. The model maps a tensor of normalised inputs, such as
        ``torch.from_numpy(data.inputs("test"))``, to logits (n, k).
    data : Data
        The cell's splits; ``data.splits["train"].labels`` are the labels that the model was trained on.
    logits : mapping of name to array
        The contents of logits.safetensors: ``{split}.logits`` (n, k), ``{split}.labels``, ``{split}.clean`` and the
        arrays that determine the posterior. `halobench.calibrate` accepts these arrays unchanged.
    recipe : TrainSpec
        How the model was trained and how it is evaluated.
    """

    folder: Path
    source: Path
    spec: Mapping[str, Any]
    seed: int

    @functools.cached_property
    def logits(self) -> Mapping[str, np.ndarray]:
        with explained("TrainedCell.logits"):
            return arrays_io.read_arrays(self.folder / "logits.safetensors")

    @functools.cached_property
    def data(self) -> Data:
        with explained("TrainedCell.data"):
            from halobench.data.splits import load_data

        return load_data(self.source, parse(DatasetSpec, self.spec["dataset"]), self.seed)

    @functools.cached_property
    def model(self) -> nn.Module:
        with explained("TrainedCell.model"):
            from halobench.training.saved_model import load_model

        return load_model(parse(ModelSpec, self.spec["model"]), self.data, self.folder / "model.safetensors").eval()

    @functools.cached_property
    def recipe(self) -> TrainSpec:
        return parse(TrainSpec, self.spec.get("train", {}))


def further_draws(cell: TrainedCell) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the model's logits (n, k) and the posterior (n, k) for new samples; None if there is no distribution.

    Neither the cell's training nor its calibration has seen these samples of the cell's distribution.
    """
    from halobench.data.distribution import sample_generator
    from halobench.data.mapped_rows import normalise
    from halobench.losses.base import build
    from halobench.training.train_cell import predict

    data, distribution = cell.data, cell.data.distribution
    if distribution is None:
        return None
    count = FURTHER * len(cell.logits["test.logits"])
    drawn = distribution.sample(count, sample_generator(distribution, cell.seed, "sample", "repair"))
    loss = build(parse(LossSpec, cell.spec["loss"]), data.transition)
    logits = predict(cell.model, normalise(drawn.inputs, data.mean, data.std), cell.recipe, loss)
    if distribution.regions is not None and drawn.region is not None:
        posterior = distribution.regions.posterior[drawn.region]
    else:
        posterior = distribution.posterior(drawn.inputs)
    return logits, posterior @ data.transition


def open_cell(folder: Path | str, source: Path | str | None = None) -> TrainedCell:
    """Return the trained cell in a folder.

    Parameters
    ----------
    folder : path
        The cell's folder, ``results/runs/DATASET/MODEL/LOSS/seedN``.
    source : path, optional
        The folder of the cell's source; by default, the source in the same results folder.

    Raises
    ------
    SpecError
        If there is no trained cell or, on first use of a part, if a file of the cell or of its source is missing or
        differs from its record.
    MissingExtraError
        If the extra `train` isn't installed, on first use of a part that needs it.

    Examples
    --------
    ::

        cell = open_cell("results/runs/digits-noise50/mlp/mixup2/seed0")
        logits = cell.model(torch.from_numpy(cell.data.inputs("test")))
    """
    folder = Path(folder)
    path = folder / "train.json"
    if not path.is_file():
        what = "no train.json in it" if folder.is_dir() else "no such folder"
        wanted = "pass the folder of a trained cell, results/runs/DATASET/MODEL/LOSS/seedN"
        raise RefusedError(str(folder), f"{what}; {wanted}")
    record = read_record(path, ["spec", "seed"])
    if source is None:
        source = folder.absolute().parents[4] / "sources" / record["spec"]["dataset"]["source"]
    return TrainedCell(folder, Path(source), record["spec"], record["seed"])
