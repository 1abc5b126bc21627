"""Training: the loop, deterministic in its seed and resumable, and prediction in eval mode."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench import losses, models
from halobench.checkpoint import Checkpoint
from halobench.data import Data
from halobench.losses import Loss
from halobench.run import DivergedError, Run
from halobench.seeding import seed_libraries, torch_seed
from halobench.specs import LossSpec, ModelSpec, TrainSpec, require

INTERPOLATION = 0.99  # a model interpolates if its train accuracy, on the labels trained on, is at least this


def resolve_device(name: str) -> torch.device:
    """``auto`` as CUDA where there is one, else the CPU; SpecError for a CUDA device that isn't there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        there = torch.cuda.device_count()
        found = int(name.partition(":")[2] or 0) < there
        require(found, "train.device", name, f"a device that torch sees here (it sees {there} CUDA devices)")
    return torch.device(name)


def make_deterministic(threads: int) -> None:
    """Fix the number of CPU threads and choose deterministic kernels; operations that have none only warn."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # As torch.use_deterministic_algorithms(True, warn_only=True), which also imports the compiler: 2 s a job.
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = False


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """The optimiser of a recipe, fused into one kernel where the device has it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=True
        )
    cls = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return cls(parameters, lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def on_device(inputs: np.ndarray, spec: TrainSpec, device: torch.device) -> torch.Tensor:
    """Inputs (n, C, H, W) as a float32 tensor on `device`, in the recipe's memory layout."""
    tensor = torch.from_numpy(inputs).to(device)
    return tensor.contiguous(memory_format=memory_format(spec))


def memory_format(spec: TrainSpec) -> torch.memory_format:
    """The layout of images and convolution weights."""
    return torch.channels_last if spec.channels_last else torch.contiguous_format


def autocast(spec: TrainSpec, device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 autocast, or nothing, as the recipe says."""
    if spec.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


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
) -> Trained:
    """Build, train and evaluate one cell; initialisation, order and mixing all come from `seed`.

    Raises
    ------
    DivergedError
        If a loss or a logit is not finite.
    Interrupted
        If a signal has come; the checkpoint holds what was reached.
    """
    make_deterministic(spec.threads)
    device = resolve_device(spec.device)
    seed_libraries(torch_seed(seed, "init"))
    split = data.splits["train"]
    built = models.build(model, data.shape, data.classes)
    models.start(built, data.inputs("train"), split.labels, data.classes)
    network = place(built, spec, device)
    run = fit(
        network, data.inputs("train"), split.labels, losses.build(loss), spec, seed, data.classes, log, checkpoint
    )
    logits = {}
    for name in data.splits:
        logits[f"{name}.logits"] = predict(network, data.inputs(name), spec, tick=run.save_if_asked)
        check_finite(logits[f"{name}.logits"], f"{name} logits after epoch {spec.epochs}")
    accuracy = float((logits["train.logits"].argmax(axis=1) == split.labels).mean())
    facts = {
        "train_accuracy": accuracy,
        "interpolates": accuracy >= INTERPOLATION,
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


def shifted(images: torch.Tensor, most: int, rng: np.random.Generator) -> torch.Tensor:
    """Images (n, C, H, W), each moved down and right by whole pixels in [-most, most]; border pixels are repeated."""
    if not most:
        return images
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    down, right = torch.from_numpy(rng.integers(2 * most + 1, size=(2, len(images)))).to(images.device)
    return windows[torch.arange(len(images), device=images.device), :, down, right]


def place(model: nn.Module, spec: TrainSpec, device: torch.device) -> nn.Module:
    """A model on its device, in the recipe's memory layout."""
    return model.to(device=device, memory_format=memory_format(spec))


def fit(
    model: nn.Module,
    inputs: np.ndarray,
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
    inputs : float32 array (n, C, H, W)
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
    """
    device = next(model.parameters()).device
    points = on_device(inputs, spec, device)
    targets = nn.functional.one_hot(torch.from_numpy(labels), classes).float().to(device)
    batch = min(spec.batch, len(labels))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        log("the model has nothing to train")
        return Run(model, None, spec, 0, device)
    run = Run(model, build_optimizer(model, spec), spec, len(labels) // batch, device, checkpoint, loss)
    run.resume(log)
    while run.epoch < spec.epochs:
        rng, order = run.start_epoch(seed, len(labels))
        model.train()
        # A last batch that isn't full is dropped: batch norm and Mixup both depend on a batch's size.
        while run.step < run.steps_per_epoch:
            run.set_rate()
            index = order[run.step * batch : (run.step + 1) * batch]
            mixed, soft = loss.mix(shifted(points[index], spec.shift, rng), targets[index], rng)
            with autocast(spec, device):
                logits = model(mixed)
            value = loss(logits.float(), soft)
            run.optimizer.zero_grad(set_to_none=True)
            value.backward()
            run.watch(value)
            run.optimizer.step()
            run.step += 1
            if checkpoint is not None and checkpoint.due():
                run.save(rng)
        log(run.end_epoch())
    return run


@torch.inference_mode()
def predict(
    model: nn.Module, inputs: np.ndarray, spec: TrainSpec, tick: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Logits in eval mode, float32 (n, classes), for normalised inputs (n, C, H, W); calls `tick` before each batch."""
    model.eval()
    device = next(model.parameters()).device
    blocks = []
    for start in range(0, len(inputs), spec.eval_batch):
        tick()
        with autocast(spec, device):
            logits = model(on_device(inputs[start : start + spec.eval_batch], spec, device))
        blocks.append(logits.float().cpu().numpy())
    return np.concatenate(blocks)
