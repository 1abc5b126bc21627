"""Training: the loop, deterministic in its seed, and prediction in eval mode.

Every random stream is drawn anew for each epoch from (seed, epoch), on the host, so that an epoch's numbers depend on
nothing but the weights before it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench import losses, models
from halobench.data import Data
from halobench.losses import Loss
from halobench.seeding import generator, torch_seed
from halobench.specs import LossSpec, ModelSpec, TrainSpec, require

INTERPOLATION = 0.99  # a model interpolates if its train accuracy, on the labels trained on, is at least this


class DivergedError(RuntimeError):
    """A loss that is not finite; the message says where."""


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
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def learning_rate(step: int, steps_per_epoch: int, spec: TrainSpec) -> float:
    """The rate of step `step` (from 0): a linear warm-up, then constant or half a cosine that ends at 0."""
    warmup, total = spec.warmup * steps_per_epoch, spec.epochs * steps_per_epoch
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.lr
    return spec.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


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
    data: Data, model: ModelSpec, loss: LossSpec, spec: TrainSpec, seed: int, log: Callable[[str], None] = print
) -> Trained:
    """Build, train and evaluate one cell; initialisation, order and mixing all come from `seed`."""
    make_deterministic(spec.threads)
    device = resolve_device(spec.device)
    torch.manual_seed(torch_seed(seed, "init"))
    network = place(models.build(model, data.shape, data.classes), spec, device)
    split = data.splits["train"]
    began = time.perf_counter()
    history = fit(network, data.inputs("train"), split.labels, losses.build(loss), spec, seed, data.classes, log)
    seconds = time.perf_counter() - began
    logits = {f"{name}.logits": predict(network, data.inputs(name), spec) for name in data.splits}
    accuracy = float((logits["train.logits"].argmax(axis=1) == split.labels).mean())
    facts = {
        "train_accuracy": accuracy,
        "interpolates": accuracy >= INTERPOLATION,
        "steps": history[-1]["step"],
        "train_seconds": round(seconds, 3),
        "parameters": sum(p.numel() for p in network.parameters()),
        "classes": data.classes,
        "device": str(device),
    }
    return Trained(network, logits, history, facts)


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
) -> list[dict[str, float]]:
    """Train `model` in place; return a row per epoch: epoch (from 1), step, lr (of its last step), train_loss (mean).

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

    Raises
    ------
    DivergedError
        If an epoch's loss is not finite.
    """
    device = next(model.parameters()).device
    points = on_device(inputs, spec, device)
    targets = nn.functional.one_hot(torch.from_numpy(labels), classes).float().to(device)
    optimizer = build_optimizer(model, spec)
    batch = min(spec.batch, len(labels))
    steps_per_epoch = len(labels) // batch
    history, began = [], time.perf_counter()
    for epoch in range(spec.epochs):
        rng = generator(seed, "epoch", epoch)
        torch.manual_seed(torch_seed(seed, "epoch-torch", epoch))
        order = torch.from_numpy(rng.permutation(len(labels))).to(device)
        total = torch.zeros((), device=device)
        model.train()
        # A last batch that isn't full is dropped: batch norm and Mixup both depend on a batch's size.
        for i in range(steps_per_epoch):
            rate = learning_rate(epoch * steps_per_epoch + i, steps_per_epoch, spec)
            for group in optimizer.param_groups:
                group["lr"] = rate
            index = order[i * batch : (i + 1) * batch]
            mixed, soft = loss.mix(points[index], targets[index], rng)
            with autocast(spec, device):
                logits = model(mixed)
            value = loss(logits.float(), soft)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            total += value.detach()
        mean = total.item() / steps_per_epoch
        if not math.isfinite(mean):
            raise DivergedError(f"loss is {mean} in epoch {epoch + 1} of {spec.epochs} at learning rate {rate:.3g}")
        history.append({"epoch": epoch + 1, "step": (epoch + 1) * steps_per_epoch, "lr": rate, "train_loss": mean})
        left = (time.perf_counter() - began) / (epoch + 1) * (spec.epochs - epoch - 1)
        log(f"epoch {epoch + 1}/{spec.epochs}  loss {mean:.4f}  lr {rate:.2e}  {left:.0f} s left")
    return history


@torch.inference_mode()
def predict(model: nn.Module, inputs: np.ndarray, spec: TrainSpec) -> np.ndarray:
    """Logits in eval mode, float32 (n, classes), for normalised inputs (n, C, H, W)."""
    model.eval()
    device = next(model.parameters()).device
    blocks = []
    for start in range(0, len(inputs), spec.eval_batch):
        with autocast(spec, device):
            logits = model(on_device(inputs[start : start + spec.eval_batch], spec, device))
        blocks.append(logits.float().cpu().numpy())
    return np.concatenate(blocks)
