"""The train stage."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core.errors import require
from halobench.core.specs import DatasetSpec, LossSpec, ModelSpec, TrainSpec
from halobench.data import sources, splits
from halobench.experiment.code_version import code_in_force
from halobench.pipeline.stage import EVERY, _canonical_parts, gpu_slot, naming, parse_parts, unless_superseded
from halobench.storage import arrays_io, files, tables_io
from halobench.storage.provenance import here, record
from halobench.training.device import keep_freed_memory


def run_train(
    spec: Mapping[str, Any],
    source: Path,
    seed: int,
    out: Path,
    checkpoint: Path | None = None,
    every: float = EVERY,
    slots: int = 1,
    weights: Path | None = None,
) -> None:
    """Train a cell; write model.safetensors, logits.safetensors, history.csv and train.json to `out`.

    Parameters
    ----------
    checkpoint : Path, optional
        Its resume point; by default a hidden file in `out`.
    every : float
        Seconds between two savings of it.
    slots : int
        Processes that may share a GPU.
    weights : Path, optional
        The file of the weights of a model that comes with such; by default the one that its spec names.
    """
    began = time.perf_counter()
    specs = parse_parts(spec, {"dataset": DatasetSpec, "model": ModelSpec, "loss": LossSpec, "train": TrainSpec})
    weights = given_weights(specs["model"], weights)
    keep_freed_memory()
    from safetensors.torch import save_model

    from halobench.training.cell import evaluate_cell, train_cell
    from halobench.training.checkpoint import Checkpoint, Signals
    from halobench.training.device import resolve_device

    used = [("models", specs["model"].name), ("losses", specs["loss"].name), *sources.sampler(source)]
    code = code_in_force("train", used)
    asked = _canonical_parts(specs)
    files.sweep(out)
    with gpu_slot(specs["train"].device, slots), Signals() as signals, naming(out):
        loaded = splits.load_data(source, specs["dataset"], seed)
        key = ["train", asked, seed, code, files.checksum(source / "meta.json")]
        key += [files.checksum(weights)] if weights else []
        place = here(str(resolve_device(specs["train"].device)))
        resume = Checkpoint(checkpoint or out / ".train.safetensors", key, every, signals, here=place)
        if weights is None:
            cell = train_cell(loaded, specs["model"], specs["loss"], specs["train"], seed, checkpoint=resume)
        else:
            cell = evaluate_cell(loaded, specs["model"], weights, specs["train"], seed)
        facts = cell.facts | {"made_on": resume.made_on}
        facts |= {"weights": files.checksum(weights)} if weights else {}
        verdict = "interpolates" if facts["interpolates"] else "does not interpolate"
        print(f"train accuracy {facts['train_accuracy']:.4f} on the labels trained on: the model {verdict}")
        paths = [out / name for name in ("model.safetensors", "logits.safetensors", "history.csv")]
        with unless_superseded(out / "train.json", asked, seed, code):
            with files.replacing(paths[0]) as temporary:
                save_model(cell.model.to("cpu"), str(temporary))
            arrays_io.write_arrays(paths[1], cell.logits | loaded.targets())
            columns = ["epoch", "step", "lr", "train_loss", "gradient_norm"]
            tables_io.write_csv(paths[2], pd.DataFrame(cell.history, columns=columns))
            seconds = facts.pop("earlier_seconds") + time.perf_counter() - began
            packages = ["torch", "torchvision", "timm", "safetensors"]
            made = record("train", asked, seed, code, paths, seconds, packages, facts.pop("device"), facts)
            files.write_json(out / "train.json", made)
        resume.remove()


def given_weights(model: ModelSpec, weights: Path | None) -> Path | None:
    """The file of a model's given weights: `weights`, or else the one that its spec names; None where it is trained.

    Raises
    ------
    SpecError
        If it has none, or is to be trained and has one.
    """
    if weights is None and model.weights is not None:
        weights = Path(model.weights)
    require(model.comes_trained or weights is None, "--weights", str(weights), "no such file: the model is trained")
    if model.comes_trained:
        what = "a file of weights: those of a pretrained model come from `halobench weights`"
        require(weights is not None and weights.is_file(), "--weights", weights and str(weights), what)
    return weights
