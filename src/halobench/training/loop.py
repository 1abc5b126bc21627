"""Training: the loop, deterministic in its seed and resumable, and prediction in eval mode."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core.errors import SpecError
from halobench.core.seeding import seed_libraries, torch_seed
from halobench.core.specs import LossSpec, ModelSpec, TrainSpec
from halobench.data.splits import Data
from halobench.losses import base
from halobench.losses.base import Loss, send
from halobench.models import builder
from halobench.models.builder import start
from halobench.training import loop
from halobench.training.batches import Feed
from halobench.training.checkpoint import Checkpoint
from halobench.training.device import autocast, kept_casts, memory_format, place, resolve_device, set_kernels
from halobench.training.trainer_state import DivergedError, Run

INTERPOLATION = 0.99  # a model interpolates if its train accuracy, on the labels trained on, is at least this


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """The optimiser of a recipe, fused into one kernel where the device has it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=True
        )
    cls = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return cls(parameters, lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def feed(images: Any, spec: TrainSpec, device: torch.device, data: Data | None = None) -> Feed:
    """A feed of `images` (n, C, H, W) in the recipe's layout, normalised as `data` says, or normalised already."""
    mean, std = (None, None) if data is None else (data.mean, data.std)
    return Feed(images, mean, std, device, memory_format(spec))


@dataclass(frozen=True)
class Trained:
    """A trained cell: the model, its logits (``{split}.logits``), its history, and facts for the record."""

    model: nn.Module
    logits: dict[str, np.ndarray]
    history: list[dict[str, float]]
    facts: dict[str, Any]


def train_cell(
    data: Data,
    model: ModelSpec,
    loss: LossSpec,
    spec: TrainSpec,
    seed: int,
    log: Callable[[str], None] = print,
    checkpoint: Checkpoint | None = None,
    weights: Path | None = None,
    source: str = "",
) -> Trained:
    """Build, train and evaluate one cell; initialisation, order and mixing all come from `seed`.

    A model whose weights are given, in the file `weights`, is evaluated as it is. Where it wasn't fitted to `source`,
    the data set's, the facts tell so, and no train accuracy makes it one that interpolates.

    Raises
    ------
    DivergedError
        If a loss or a logit is not finite.
    Interrupted
        If a signal has come; the checkpoint holds what was reached.
    """
    set_kernels(spec)
    device = resolve_device(spec.device)
    seed_libraries(torch_seed(seed, "init"))
    split = data.splits["train"]
    built = builder.build(model, data.shape, data.classes, (data.mean, data.std), weights)
    loop.start_on(built, data)
    network = place(built, spec, device)
    points = feed(split.images, spec, device, data)
    run = fit(network, points, split.labels, base.build(loss), spec, seed, data.classes, log, checkpoint)
    logits = {}
    for name, part in data.splits.items():
        inputs = points if name == "train" else feed(part.images, spec, device, data)
        logits[f"{name}.logits"] = predict(network, inputs, spec, tick=run.save_if_asked)
        when = f"of the weights in {weights}" if model.comes_trained else f"after epoch {spec.epochs}"
        check_finite(logits[f"{name}.logits"], f"{name} logits {when}")
    accuracy = float((logits["train.logits"].argmax(axis=1) == split.labels).mean())
    fitted = model.fitted_on(source)
    facts = {
        "train_accuracy": accuracy,
        "interpolates": fitted and accuracy >= INTERPOLATION,
        "fitted_here": fitted,
        "steps": run.history[-1]["step"] if run.history else 0,
        "train_seconds": round(run.seconds, 3),
        "earlier_seconds": round(run.earlier_seconds, 3),
        "resumed_at": run.resumed_at,
        "parameters": sum(p.numel() for p in network.parameters()),
        "classes": data.classes,
        "device": str(device),
    } | data.facts()
    return Trained(network, logits, run.history, facts)


def check_finite(logits: np.ndarray, what: str) -> None:
    """Raise DivergedError if one of the logits (n, k) is not finite."""
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        raise DivergedError(
            f"{what} are not finite for {bad.sum()} of {len(bad)} points, first for point {bad.argmax()}"
        )


def augmented(images: torch.Tensor, spec: TrainSpec, rng: np.random.Generator) -> torch.Tensor:
    """Images (n, C, H, W), each shifted and mirrored as the recipe says, on their device; draws come from the host."""
    images = shifted(images, spec.random_crop, rng)
    if not spec.flip:
        return images
    mirrored = send(rng.random(len(images)) < 0.5, images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def shifted(images: torch.Tensor, most: int, rng: np.random.Generator) -> torch.Tensor:
    """Images (n, C, H, W), each moved down and right by whole pixels in [-most, most]; border pixels are repeated."""
    if not most:
        return images
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    down, right = send(rng.integers(2 * most + 1, size=(2, len(images))), images.device)
    return windows[torch.arange(len(images), device=images.device), :, down, right]


@contextlib.contextmanager
def in_memory(key: str, value: int, advice: str) -> Iterator[None]:
    """Turn running out of memory into an error that names the recipe's `key`, its value and what helps.

    Raises
    ------
    SpecError
    """
    try:
        yield
    except RuntimeError as error:  # of which a GPU's is a kind
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        found = " ".join(str(error).split())[:300]
        raise SpecError(f"train.{key}", value, f"{advice}: memory ran out ({found})") from error


def fit(
    model: nn.Module,
    inputs: np.ndarray | Feed,
    labels: np.ndarray,
    loss: Loss,
    spec: TrainSpec,
    seed: int,
    classes: int,
    log: Callable[[str], None] = print,
    checkpoint: Checkpoint | None = None,
) -> Run:
    """Train `model` in place, from its checkpoint where there is one.

    Parameters
    ----------
    model : nn.Module
        Already on its device, in the recipe's memory layout.
    inputs : float32 array (n, C, H, W), or Feed
        Normalised.
    labels : int64 array (n,)
    loss : Loss
        Mixes a batch, then scores logits against rows of probabilities.
    log : callable
        Gets a line an epoch, with the time left.
    checkpoint : Checkpoint, optional
        Saved to between steps whenever it is due.

    Returns
    -------
    Run
        Its ``history`` has a row per epoch: epoch (from 1), step, lr and gradient_norm (both of its last step),
        train_loss (mean); none if the model has nothing to train.

    Raises
    ------
    DivergedError
        If a loss is not finite: at the very step on the CPU, at the end of the epoch elsewhere.
    Interrupted
        If a signal has come; the checkpoint holds what was reached.
    SpecError
        If memory runs out.
    """
    device = next(model.parameters()).device
    points = inputs if isinstance(inputs, Feed) else feed(inputs, spec, device)
    known = send(labels, device)
    batch = min(spec.batch, len(labels))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        log("the model has nothing to train")
        return Run(model, None, spec, 0, device)
    run = Run(model, build_optimizer(model, spec), spec, len(labels) // batch, device, checkpoint, loss)
    run.resume(log)
    forward: Any = torch.compile(model) if spec.compile else model
    advice = "a batch that fits, or train.micro_batch, which trains it in parts"
    while run.epoch < spec.epochs:
        rng, order = run.start_epoch(seed, len(labels))
        model.train()
        with in_memory("micro_batch" if spec.micro_batch else "batch", spec.micro_batch or batch, advice):
            # A last batch that isn't full is dropped: batch norm and Mixup both depend on a batch's size.
            for rows, images in points.batches(order, batch, run.step):
                run.set_rate()
                targets = known.index_select(0, rows)
                targets = targets if base.takes_labels(loss) else one_hot(targets, classes)
                mixed, soft = loss.mix(augmented(images, spec, rng), targets, rng)
                run.forget_gradients()
                run.watch(backward(forward, loss, mixed, soft, spec))
                run.optimizer.step()
                run.step += 1
                if checkpoint is not None and checkpoint.due():
                    run.save(rng)
        log(run.end_epoch())
    return run


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Rows of probabilities, float32 (n, classes), that are sure of the labels (n,)."""
    return torch.zeros(len(labels), classes, device=labels.device).scatter_(1, labels[:, None], 1.0)


def backward(
    model: Callable[[torch.Tensor], torch.Tensor],
    loss: Loss,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    spec: TrainSpec,
) -> torch.Tensor:
    """Add the gradient of a batch's mean loss to the parameters', part by part; the loss, a number on the device."""
    count = len(inputs)
    parts: list[torch.Tensor] = []
    size = spec.micro_batch or count
    for rows, wanted in zip(inputs.split(size), targets.split(size), strict=True):
        with autocast(spec, inputs.device):
            logits = model(rows)
        value = loss(logits.float(), wanted)
        if len(rows) < count:  # a loss is a mean over rows
            value = value * (len(rows) / count)
        value.backward()
        parts.append(value.detach())
    return functools.reduce(torch.add, parts)


@torch.no_grad()  # not inference_mode, in which autocast casts the weights anew for each batch
def predict(
    model: nn.Module, inputs: np.ndarray | Feed, spec: TrainSpec, tick: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Logits in eval mode, float32 (n, classes), for normalised inputs (n, C, H, W); calls `tick` before each batch.

    Raises
    ------
    SpecError
        If memory runs out.
    """
    model.eval()
    device = next(model.parameters()).device
    points = inputs if isinstance(inputs, Feed) else feed(inputs, spec, device)
    blocks = []
    with in_memory("eval_batch", spec.eval_batch, "a batch that fits"), kept_casts(device):
        for start in range(0, len(points), spec.eval_batch):
            tick()
            rows = np.arange(start, min(start + spec.eval_batch, len(points)))
            with autocast(spec, device):
                logits = model(points.take(rows))
            blocks.append(logits.float().cpu().numpy())
    return np.concatenate(blocks)


def start_on(model: nn.Module, data: Data) -> None:
    """The same with the training points of a data set, which are read only for a model that asks for them."""
    if hasattr(model, "start"):
        start(model, data.inputs("train"), data.splits["train"].labels, data.classes)
