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
from halobench.checkpoint import (
    Checkpoint,
    capture,
    random_states,
    restore,
    restore_random_states,
    seed_libraries,
)
from halobench.data import Data
from halobench.losses import Loss
from halobench.seeding import generator, torch_seed
from halobench.specs import LossSpec, ModelSpec, TrainSpec, require

INTERPOLATION = 0.99  # a model interpolates if its train accuracy, on the labels trained on, is at least this


class DivergedError(RuntimeError):
    """A loss or logit that is not finite; the message says where."""


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
    network = place(models.build(model, data.shape, data.classes), spec, device)
    split = data.splits["train"]
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
        "steps": run.history[-1]["step"],
        "train_seconds": round(run.seconds, 3),
        "earlier_seconds": round(run.earlier_seconds, 3),
        "resumed_at": run.resumed_at,
        "parameters": sum(p.numel() for p in network.parameters()),
        "classes": data.classes,
        "device": str(device),
    }
    return Trained(network, logits, run.history, facts)


def check_finite(logits: np.ndarray, what: str) -> None:
    """Raise DivergedError if one of the logits (n, k) is not finite."""
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        raise DivergedError(
            f"{what} are not finite for {bad.sum()} of {len(bad)} points, first for point {bad.argmax()}"
        )


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
        train_loss (mean).

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
    run = Run(model, build_optimizer(model, spec), spec, len(labels) // batch, device, checkpoint)
    run.resume(log)
    while run.epoch < spec.epochs:
        rng, order = run.start_epoch(seed, len(labels))
        model.train()
        # A last batch that isn't full is dropped: batch norm and Mixup both depend on a batch's size.
        while run.step < run.steps_per_epoch:
            run.set_rate()
            index = order[run.step * batch : (run.step + 1) * batch]
            mixed, soft = loss.mix(points[index], targets[index], rng)
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


class Run:
    """A training under way: how far it is, what it has seen, and how it is saved and resumed.

    Attributes
    ----------
    epoch, step : int
        Finished epochs, and finished steps of the epoch under way.
    history : list of dict
        A row per finished epoch.
    losses, norms : float tensor (steps_per_epoch,)
        Loss of each step of the epoch under way; norm of its gradient, NaN where it wasn't measured.
    resumed_at : list of [epoch, step]
        Where earlier processes had come to.
    earlier_seconds, seconds : float
        Time spent by them, and in all.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        spec: TrainSpec,
        steps_per_epoch: int,
        device: torch.device,
        checkpoint: Checkpoint | None = None,
    ):
        self.model, self.optimizer, self.spec, self.device = model, optimizer, spec, device
        self.steps_per_epoch, self.checkpoint = steps_per_epoch, checkpoint
        self.epoch = self.step = 0
        self.history: list[dict[str, float]] = []
        self.losses = torch.zeros(steps_per_epoch, device=device)
        self.norms = torch.full((steps_per_epoch,), math.nan, device=device)
        self.resumed_at: list[list[int]] = []
        self.earlier_seconds, self._began = 0.0, time.perf_counter()
        self._saved_random: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.perf_counter() - self._began

    @property
    def place(self) -> str:
        """Where it is, in words."""
        if self.epoch == self.spec.epochs:
            return f"the end of epoch {self.epoch} of {self.epoch}"
        return f"epoch {self.epoch + 1} of {self.spec.epochs}, step {self.step} of {self.steps_per_epoch}"

    def resume(self, log: Callable[[str], None]) -> None:
        """Go to where the checkpoint was saved, if there is one."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return
        tensors, facts = saved
        restore(tensors, self.model, self.optimizer)
        self.losses.copy_(tensors["losses"])
        self.norms.copy_(tensors["norms"])
        self.epoch, self.step, self.history = facts["epoch"], facts["step"], facts["history"]
        self.resumed_at = [*facts["resumed_at"], [self.epoch, self.step]]
        self.earlier_seconds = facts["seconds"]
        self._saved_random = (tensors, facts["random"]) if self.step else None
        log(f"resuming at {self.place}")

    def start_epoch(self, seed: int, count: int) -> tuple[np.random.Generator, torch.Tensor]:
        """The epoch's generator, and its order of `count` points; both as they were if the epoch is resumed."""
        rng = generator(seed, "epoch", self.epoch)
        seed_libraries(torch_seed(seed, "epoch-torch", self.epoch))
        order = torch.from_numpy(rng.permutation(count)).to(self.device)
        if self._saved_random is not None:
            restore_random_states(*self._saved_random, rng, self.device)
            self._saved_random = None
        return rng, order

    def rate(self, step: int) -> float:
        """The learning rate of a step of the epoch under way."""
        return learning_rate(self.epoch * self.steps_per_epoch + step, self.steps_per_epoch, self.spec)

    def set_rate(self) -> None:
        """Set the coming step's learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)

    def watch(self, value: torch.Tensor) -> None:
        """Note a step's loss before the optimiser takes it, and its gradient's norm where the epoch ends.

        Reading a number costs nothing on the CPU, so it is looked at there and then. On another device it would make
        the host wait: losses and norms stay there until the epoch ends.
        """
        self.losses[self.step] = value.detach()
        on_host = self.device.type == "cpu"
        finite = not on_host or math.isfinite(value.item())
        if not on_host or not finite or self.step == self.steps_per_epoch - 1:
            self.norms[self.step] = gradient_norm(self.model)
        if not finite:
            self.check(self.step)

    def check(self, last: int) -> None:
        """Raise DivergedError if a loss of the epoch under way, up to step `last`, is not finite."""
        losses = self.losses[: last + 1].cpu()
        bad = ~torch.isfinite(losses)
        if not bad.any():
            return
        step = int(bad.int().argmax())
        before = f" ({self.history[-1]['gradient_norm']:.3g} at the end of epoch {self.epoch})" if self.history else ""
        raise DivergedError(
            f"loss is {losses[step]:.3g} in epoch {self.epoch + 1} of {self.spec.epochs},"
            f" step {step + 1} of {self.steps_per_epoch}, learning rate {self.rate(step):.3g},"
            f" gradient norm {self.norms[step]:.3g}{before}"
        )

    def end_epoch(self) -> str:
        """Add the epoch to the history and go on to the next; the line for the log."""
        self.check(self.steps_per_epoch - 1)
        rate = self.rate(self.steps_per_epoch - 1)
        mean, norm = self.losses.double().mean().item(), self.norms[-1].item()
        self.epoch, self.step = self.epoch + 1, 0
        done = {"epoch": self.epoch, "step": self.epoch * self.steps_per_epoch}
        self.history.append({**done, "lr": rate, "train_loss": mean, "gradient_norm": norm})
        left = self.seconds / self.epoch * (self.spec.epochs - self.epoch)
        return f"epoch {self.epoch}/{self.spec.epochs}  loss {mean:.4f}  lr {rate:.2e}  {left:.0f} s left"

    def save(self, rng: np.random.Generator) -> None:
        """Save to the checkpoint between two steps."""
        self.check(self.step - 1)
        tensors, state = random_states(rng, self.device)
        self._write(tensors, {"random": state})

    def save_if_asked(self) -> None:
        """Save after the last epoch, if a signal has come: logits are predicted again on resuming."""
        if self.checkpoint is not None and self.checkpoint.signals.received is not None:
            self._write({}, {})

    def _write(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        tensors = {**capture(self.model, self.optimizer), "losses": self.losses, "norms": self.norms, **tensors}
        facts |= {"epoch": self.epoch, "step": self.step, "history": self.history, "seconds": self.seconds}
        self.checkpoint.save(tensors, {"random": None, **facts, "resumed_at": self.resumed_at}, self.place)


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """Euclidean norm of all gradients together, a number on the model's device."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    # One kernel for all of them, where torch.nn.utils would need torch 2.6.
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


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
