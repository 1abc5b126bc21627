"""Train and evaluate one cell: one model on one data set, with one loss and seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core.errors import DivergedError, refuse
from halobench.core.seeding import seed_libraries, torch_seed
from halobench.core.specs.data import DatasetSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import IMAGE_KEYS, LossSpec, TrainSpec
from halobench.data import splits
from halobench.data.splits import Data, check_neighbours
from halobench.losses import base
from halobench.models import builder
from halobench.training.batches import Batches, batches_of
from halobench.training.checkpoint import Checkpoint
from halobench.training.device import autocast, kept_casts, name_out_of_memory, place, resolve_device, set_kernels
from halobench.training.loop import TrainingRun, TrainingSet, fit
from halobench.training.saved_model import start_on

INTERPOLATION = 0.99  # the least accuracy on its training labels at which a model counts as interpolating


@dataclass(frozen=True)
class Trained:
    """A trained cell."""

    model: nn.Module
    logits: dict[str, np.ndarray]  # float32 (n, classes) of each split, under {split}.logits
    history: list[dict[str, float]]  # one row per epoch
    facts: dict[str, Any]  # for the cell's record


def cell_from_source(
    source: Path,
    dataset: DatasetSpec,
    model: ModelSpec,
    loss: LossSpec,
    spec: TrainSpec,
    seed: int,
    checkpoint: Checkpoint | None = None,
    weights: Path | None = None,
) -> tuple[Trained, dict[str, np.ndarray]]:
    """Load the data of a cell, and return the cell, with the targets of its samples, after training if it needs any."""
    data = splits.load_data(source, dataset, seed)
    if weights is None or not model.comes_trained:
        cell = train_cell(data, model, loss, spec, seed, checkpoint=checkpoint, weights=weights)
    else:
        cell = evaluate_cell(data, model, weights, spec, seed)
    return cell, data.targets()


def train_cell(
    data: Data,
    model: ModelSpec,
    loss: LossSpec,
    spec: TrainSpec,
    seed: int,
    log: Callable[[str], None] = print,
    checkpoint: Checkpoint | None = None,
    weights: Path | None = None,
) -> Trained:
    """Build, train and evaluate one cell; all random numbers follow from `seed`.

    A model to be fine-tuned starts from the file `weights`.
    """
    network, inputs = _start(data, model, spec, seed, weights)
    samples = TrainingSet(inputs, data.splits["train"].labels, data.classes)
    run = fit(network, samples, base.build(loss, data.transition), spec, seed, log, checkpoint)
    return _evaluate(run, data, inputs, f"after epoch {spec.epochs}")


def evaluate_cell(
    data: Data,
    model: ModelSpec,
    weights: Path,
    spec: TrainSpec,
    seed: int,
    log: Callable[[str], None] = print,
) -> Trained:
    """Evaluate a model that was trained elsewhere and whose weights are in the file `weights`.

    If the model wasn't fitted to the data set's source, the facts say so, and the model never counts as interpolating,
    whatever its training accuracy.
    """
    network, inputs = _start(data, model, spec, seed, weights)
    log("the model has nothing to train")
    run = TrainingRun(network, None, spec, 0, next(network.parameters()).device)
    return _evaluate(run, data, inputs, f"from the weights in {weights}", model.fitted_on(data.source))


def _start(
    data: Data, model: ModelSpec, spec: TrainSpec, seed: int, weights: Path | None = None
) -> tuple[nn.Module, Batches]:
    """Check the keys, seed the libraries, and return the model on its device and the batches of training samples."""
    for key in IMAGE_KEYS if len(data.shape) == 1 else ():
        refuse(getattr(spec, key), f"train.{key}", "the samples aren't images; leave this key out")
    check_neighbours(data)
    set_kernels(spec)
    device = resolve_device(spec.device)
    seed_libraries(torch_seed(seed, "init"))
    built = builder.build(model, data.shape, data.classes, (data.mean, data.std), weights, data.names)
    start_on(built, data)
    return place(built, spec, device), batches_of(data.splits["train"].images, spec, device, data)


def _evaluate(run: TrainingRun, data: Data, inputs: Batches, when: str, fitted: bool = True) -> Trained:
    """Return the cell with its logits on all splits and facts; `when` completes error messages about the logits."""
    logits = {}
    for name, split in data.splits.items():
        samples = inputs if name == "train" else batches_of(split.images, run.spec, run.device, data)
        logits[f"{name}.logits"] = predict(run.model, samples, run.spec, run.loss, tick=run.save_if_signalled)
        check_finite(logits[f"{name}.logits"], f"{name} logits {when}")
    accuracy = float((logits["train.logits"].argmax(axis=1) == data.splits["train"].labels).mean())
    facts = {
        "train_accuracy": accuracy,
        "interpolates": fitted and accuracy >= INTERPOLATION,
        "fitted_here": fitted,
        "steps": run.history[-1]["step"] if run.history else 0,
        "train_seconds": round(run.seconds, 3),
        "earlier_seconds": round(run.earlier_seconds, 3),
        "resumed_at": run.resumed_at,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "classes": data.classes,
        "device": str(run.device),
    } | data.facts()
    return Trained(run.model, logits, run.history, facts)


def check_finite(logits: np.ndarray, what: str) -> None:
    """Raise DivergedError if any of the logits (n, k) is not finite; `what` describes them in the message."""
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        raise DivergedError(
            f"{what} are not finite for {bad.sum()} of {len(bad)} samples (the first is sample {bad.argmax()})"
        )


@torch.no_grad()  # in inference_mode, autocast would recast the weights for each batch
def predict(
    model: nn.Module,
    inputs: np.ndarray | Batches,
    spec: TrainSpec,
    loss: base.Loss | None = None,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return a model's logits in eval mode, float32 (n, classes), for normalised inputs (n, ...).

    `loss` converts the model's outputs to logits of labels (see `Loss.label_logits`); each batch begins with `tick()`.
    """
    model.eval()
    device = next(model.parameters()).device
    samples = inputs if isinstance(inputs, Batches) else batches_of(inputs, spec, device)
    blocks = []
    with name_out_of_memory("eval_batch", spec.eval_batch, "a batch that fits in memory"), kept_casts(device):
        for start in range(0, len(samples), spec.eval_batch):
            tick()
            rows = np.arange(start, min(start + spec.eval_batch, len(samples)))
            with autocast(spec, device):
                logits = model(samples.take(rows))
            logits = loss.label_logits(logits.float()) if loss else logits.float()
            blocks.append(logits.cpu().numpy())
    return np.concatenate(blocks)
