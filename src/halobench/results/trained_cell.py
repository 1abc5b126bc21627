"""Reopen a trained cell in a notebook or a script: its model, data, logits and spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halobench.core.errors import SpecError
from halobench.core.extras import explained
from halobench.core.spec_codec import parse
from halobench.core.specs import DatasetSpec, ModelSpec, TrainSpec
from halobench.storage import arrays_io
from halobench.storage.records import read_record

if TYPE_CHECKING:
    from torch import nn

    from halobench.data.splits import Data


@dataclass(frozen=True)
class TrainedCell:
    """A trained cell.

    Attributes
    ----------
    model : nn.Module
        The model in eval mode, on the CPU. It maps normalised images (n, C, H, W), such as ``data.inputs("test")``, to
        logits (n, k).
    data : Data
        The cell's splits; ``data.splits["train"].labels`` are the labels that the model was trained on.
    logits : mapping of name to array
        The contents of logits.safetensors: ``{split}.logits`` (n, k), ``{split}.labels``, ``{split}.clean`` and the
        arrays that determine the posterior. `halobench.calibrate` accepts them as they are.
    spec : mapping
        The requested specs of dataset, model, loss and train, without values that are at their defaults.
    seed : int
    recipe : TrainSpec
        How the model was trained and is evaluated.
    """

    model: nn.Module
    data: Data
    logits: Mapping[str, np.ndarray]
    spec: Mapping[str, Any]
    seed: int
    recipe: TrainSpec


def open_cell(folder: Path | str, source: Path | str | None = None) -> TrainedCell:
    """Open a trained cell.

    Parameters
    ----------
    folder : path
        The cell's folder, ``results/runs/DATASET/MODEL/LOSS/seedN``.
    source : path, optional
        The folder of the cell's source; by default, the one in the same results folder.

    Raises
    ------
    SpecError
        If there is no trained cell, or a file of the cell or of its source is missing or differs from what was written.
    MissingExtraError
        If the extra `train` isn't installed.

    Examples
    --------
    ::

        cell = open_cell("results/runs/digits-noise50/mlp/mixup2/seed0")
        logits = cell.model(torch.from_numpy(cell.data.inputs("test")))
    """
    with explained("halobench.open_cell"):
        from halobench.data.splits import load_data
        from halobench.training.cell import load_model

    folder = Path(folder)
    path = folder / "train.json"
    if not path.is_file():
        what = "the folder of a trained cell, results/runs/DATASET/MODEL/LOSS/seedN"
        raise SpecError(str(folder), "no train.json in it" if folder.is_dir() else "no such folder", what)
    record = read_record(path, ["spec", "seed"])
    spec = record["spec"]
    dataset = parse(DatasetSpec, spec["dataset"])
    source = folder.absolute().parents[4] / "sources" / dataset.source if source is None else Path(source)
    data = load_data(source, dataset, record["seed"])
    model = load_model(parse(ModelSpec, spec["model"]), data, folder / "model.safetensors").eval()
    logits = arrays_io.read_arrays(folder / "logits.safetensors")
    return TrainedCell(model, data, logits, spec, record["seed"], parse(TrainSpec, spec.get("train", {})))
