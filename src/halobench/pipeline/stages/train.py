"""Train a cell, or resume training from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.calibration.arrays import look_like_probabilities
from halobench.core.errors import refuse
from halobench.core.specs.codec import canonical
from halobench.core.specs.data import DatasetSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data import written_sources
from halobench.pipeline.stage import Code, check_folder, parse_parts, resumable, stage
from halobench.storage import arrays_io, files, tables_io

STAGE = {
    "of": "cell",
    "reads": {"source": ["meta.json"], "weights": ["model.safetensors"]},
    "writes": ["model.safetensors", "logits.safetensors", "history.csv"],
    "code": ["training.train_cell"],
    "target": "trainings",
    "device": True,
    "memory": 4000,
    "minutes": 240,
}

PARTS = {"dataset": DatasetSpec, "model": ModelSpec, "loss": LossSpec, "train": TrainSpec}
PACKAGES = ("torch", "torchvision", "timm", "safetensors")
HISTORY = ("epoch", "step", "lr", "train_loss", "gradient_norm")


def run(
    *,
    spec: Mapping[str, Any],
    source: Path,
    seed: int,
    out: Path,
    weights: Path | None = None,
    code: Code | None = None,
    every: float = 60.0,
    slots: int = 1,
) -> None:
    """Train a cell on a data set's `source`; write model.safetensors, logits.safetensors and history.csv to `out`.

    `weights` is the file of a model's given weights, by default the file in the model's spec. A checkpoint is saved
    every `every` seconds, and at most `slots` processes share a GPU.
    """
    specs = parse_parts(spec, PARTS)
    check_folder("source", source)
    weights = weights_file(specs["model"], weights)
    used = [("models", specs["model"].name), ("losses", specs["loss"].name), *written_sources.sampler(source)]
    options: Any = {"seed": seed, "code": code, "plugins": used, "packages": PACKAGES}
    read = {"source": source} | ({"weights": weights} if weights else {})
    with (
        stage("train", out, canonical(specs), reads=read, **options) as job,
        resumable(job, specs["train"].device, every, slots) as checkpoint_of,
    ):
        from halobench.training.device import keep_freed_memory, resolve_device
        from halobench.training.train_cell import cell_from_source

        keep_freed_memory()
        checkpoint = checkpoint_of(str(resolve_device(specs["train"].device)))
        parts = specs["dataset"], specs["model"], specs["loss"], specs["train"]
        cell, targets = cell_from_source(source, *parts, seed, checkpoint=checkpoint, weights=weights)
        job.claim_folder()
        _write_outputs(cell, targets, job.outputs)
        digest = {"weights": job.inputs["weights"]} if weights else {}
        if look_like_probabilities(cell.logits["val.logits"]):
            what = "between 0 and 1 and sum to 1; expected logits (values before the softmax)"
            print(f"warning: the outputs of {specs['model'].name} are {what}")
        job.facts = cell.facts | {"made_on": checkpoint.made_on} | digest
        job.device, job.seconds = job.facts.pop("device"), job.facts.pop("earlier_seconds")
        verdict = "interpolates" if job.facts["interpolates"] else "does not interpolate"
        print(f"train accuracy {job.facts['train_accuracy']:.4f} on the labels used in training: the model {verdict}")
    checkpoint.remove()


def _write_outputs(cell: Any, targets: Mapping[str, Any], outputs: list[Path]) -> None:
    """Write a trained cell's weights, its logits and their targets, and its history."""
    from safetensors.torch import save_model

    model, logits, history = outputs
    with files.replacing(model) as temporary:
        save_model(cell.model.to("cpu"), str(temporary))
    arrays_io.write_arrays(logits, cell.logits | targets)
    tables_io.write_csv(history, pd.DataFrame(cell.history, columns=list(HISTORY)))


def weights_file(model: ModelSpec, weights: Path | None) -> Path | None:
    """Return the file of a model's given weights, which must exist, or None if the model has none."""
    if weights is None and model.weights is not None:
        weights = Path(model.weights)
    what = "this model is trained from the start; leave this option out, or set `finetune` and `weights` in its spec"
    refuse(not model.has_weights and weights, "--weights", what)
    if model.has_weights:
        what = f"no such file: {weights}" if weights else "missing; pass a file"
        found = weights is not None and weights.is_file()
        refuse(not found, "--weights", f"{what} (the stage `weights` downloads that of a pretrained model)")
    return weights
