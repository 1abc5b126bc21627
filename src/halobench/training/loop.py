"""Train a model in a loop that can be resumed, with random numbers that depend only on the seed and the epoch."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core.errors import DivergedError
from halobench.core.seeding import generator, seed_libraries, torch_seed
from halobench.core.specs.training import TrainSpec
from halobench.losses.base import Loss, send, takes_labels
from halobench.training.augmentation import augmented
from halobench.training.batches import Batches, batches_of
from halobench.training.checkpoint import (
    Checkpoint,
    capture,
    fingerprint,
    random_states,
    restore,
    restore_random_states,
)
from halobench.training.device import autocast, name_out_of_memory
from halobench.training.optimizer import build_optimizer, gradient_norm, learning_rate

Forward = Callable[[torch.Tensor], torch.Tensor]
SMALLER = "a batch that fits in memory, or train.micro_batch to train it in parts"


@dataclass(frozen=True)
class TrainingSet:
    """Normalised samples to train on, with labels, int64 (n,), in [0, classes)."""

    inputs: np.ndarray | Batches
    labels: np.ndarray
    classes: int


def fit(
    model: nn.Module,
    samples: TrainingSet,
    loss: Loss,
    spec: TrainSpec,
    seed: int,
    log: Callable[[str], None] = print,
    checkpoint: Checkpoint | None = None,
) -> TrainingRun:
    """Train `model` in place, resuming from its checkpoint if there is one, and return the run.

    The model must already be on its device, in the recipe's memory layout. `log` receives one line per epoch. The
    checkpoint is saved between steps whenever it is due. If the loss isn't finite, DivergedError is raised, immediately
    on the CPU, and by the end of the epoch on other devices. With a checkpoint, a signal raises Interrupted after the
    current step.
    """
    device, count = next(model.parameters()).device, len(samples.labels)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        log("the model has nothing to train")
        return TrainingRun(model, None, spec, 0, device)
    inputs = samples.inputs if isinstance(samples.inputs, Batches) else batches_of(samples.inputs, spec, device)
    labels, batch = send(samples.labels, device), min(spec.batch, count)
    run = TrainingRun(model, build_optimizer(model, spec), spec, count // batch, device, checkpoint, loss)
    run.resume(log)
    forward: Any = torch.compile(model) if spec.compile else model
    while run.epoch < spec.epochs:
        rng, order = run.start_epoch(seed, count)
        _learn(model)
        with name_out_of_memory("micro_batch" if spec.micro_batch else "batch", spec.micro_batch or batch, SMALLER):
            # An incomplete last batch is dropped, since batch norm and Mixup both depend on the batch size.
            for rows, images in inputs.in_order(order, batch, run.step):
                targets = labels.index_select(0, rows)
                targets = targets if takes_labels(loss) else one_hot(targets, samples.classes)
                run.take_step(forward, images, targets, rng)
        log(run.end_epoch())
    return run


def _learn(model: nn.Module) -> None:
    """Set a model to training mode, except for parts whose weights are all frozen, to keep their batch statistics."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return one-hot probabilities of the labels (n,), float32 (n, classes)."""
    return torch.zeros(len(labels), classes, device=labels.device).scatter_(1, labels[:, None], 1.0)


class TrainingRun:
    """A training run in progress: its state and losses, with methods to save and resume it.

    Random generators are seeded for each epoch with (seed, epoch), so an epoch's random numbers don't depend on
    how many were drawn before. If `optimizer` is None, the model has nothing to train. The `loss` is
    checked for internal state, which checkpoints don't include.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        spec: TrainSpec,
        steps_per_epoch: int,
        device: torch.device,
        checkpoint: Checkpoint | None = None,
        loss: Any = None,
    ):
        self.loss, self._loss_before = loss, fingerprint(loss)
        self.model, self.spec, self.device = model, spec, device
        self.optimizer: Any = optimizer
        self.steps_per_epoch, self.checkpoint = steps_per_epoch, checkpoint
        self.epoch = self.step = 0  # completed epochs, and completed steps of the current one
        self.history: list[dict[str, float]] = []  # the last step of each epoch, and its mean loss
        self.losses = torch.zeros(steps_per_epoch, device=device)  # of each step in the current epoch
        self.norm = torch.full((), math.nan, device=device)  # of the gradient in the last step of an epoch
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.resumed_at: list[list[int]] = []  # epoch and step at which earlier processes stopped
        self.earlier_seconds, self._began = 0.0, time.perf_counter()
        self._saved_random: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None

    @property
    def reads_at_once(self) -> bool:
        """Return whether a number can be read from the device without waiting."""
        return self.device.type == "cpu"

    @property
    def seconds(self) -> float:
        """Return the time spent so far, in seconds."""
        return self.earlier_seconds + time.perf_counter() - self._began

    @property
    def place(self) -> str:
        """Return the progress in words, by epoch and step."""
        if self.epoch == self.spec.epochs:
            return f"the end of epoch {self.epoch} of {self.epoch}"
        return f"epoch {self.epoch + 1} of {self.spec.epochs}, step {self.step} of {self.steps_per_epoch}"

    def resume(self, log: Callable[[str], None]) -> None:
        """Restore the state saved in the checkpoint, if there is one."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return
        tensors, facts = saved
        restore(tensors, self.model, self.optimizer)
        self.losses.copy_(tensors["losses"])
        self.norm.copy_(tensors["norm"])
        self.epoch, self.step, self.history = facts["epoch"], facts["step"], facts["history"]
        self.resumed_at = [*facts["resumed_at"], [self.epoch, self.step]]
        self.earlier_seconds = facts["seconds"]
        self._saved_random = (tensors, facts["random"]) if self.step else None
        log(f"resuming at {self.place}")

    def start_epoch(self, seed: int, count: int) -> tuple[np.random.Generator, np.ndarray]:
        """Return the epoch's generator and order of `count` samples; a resumed epoch restores the generator's state."""
        rng = generator(seed, "epoch", self.epoch)
        seed_libraries(torch_seed(seed, "epoch-torch", self.epoch))
        order = rng.permutation(count)
        if self._saved_random is not None:
            restore_random_states(*self._saved_random, rng, self.device)
            self._saved_random = None
        return rng, order

    def rate(self, step: int) -> float:
        """Return the learning rate of a step in the current epoch."""
        return learning_rate(self.epoch * self.steps_per_epoch + step, self.steps_per_epoch, self.spec)

    def take_step(
        self, forward: Forward, images: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> None:
        """Train on a batch of samples (n, ...) with targets in the loss's format; save a checkpoint if due."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        mixed, soft = self.loss.mix(augmented(images, self.spec, rng), targets, rng)
        for parameter in self.parameters:  # so that the step allocates its own
            parameter.grad = None
        self.watch(backward(forward, self.loss, mixed, soft, self.spec))
        self.optimizer.step()
        self.step += 1
        if self.checkpoint is not None and self.checkpoint.due():
            self.save(rng)

    def watch(self, value: torch.Tensor) -> None:
        """Record a step's loss before the optimiser steps and, in the last step of an epoch, the gradient norm.

        On the CPU, reading a number costs nothing, so the loss is checked at each step. On other devices, reading
        the loss would make the host wait, so losses are checked at the next checkpoint or the end of the epoch.
        """
        self.losses[self.step] = value.detach()
        if self.reads_at_once and not math.isfinite(value.item()):
            self.check(self.step)
        if self.step == self.steps_per_epoch - 1:
            self.norm.copy_(gradient_norm([p.grad for p in self.parameters if p.grad is not None]))

    def check(self, last: int) -> None:
        """Raise DivergedError if any loss in the current epoch, up to step `last`, is not finite."""
        losses = self.losses[: last + 1].cpu()
        bad = ~torch.isfinite(losses)
        if bad.any():
            step = int(bad.int().argmax())
            before = f", gradient norm {self.history[-1]['gradient_norm']:.3g} an epoch earlier" if self.history else ""
            raise DivergedError(
                f"loss is {losses[step]:.3g} in epoch {self.epoch + 1} of {self.spec.epochs},"
                f" step {step + 1} of {self.steps_per_epoch}, learning rate {self.rate(step):.3g}{before}"
            )

    def end_epoch(self) -> str:
        """Add the epoch to the history, advance to the next one, and return a log line."""
        self.check(self.steps_per_epoch - 1)
        rate = self.rate(self.steps_per_epoch - 1)
        mean, norm = self.losses.double().mean().item(), self.norm.item()
        self.epoch, self.step = self.epoch + 1, 0
        done = {"epoch": self.epoch, "step": self.epoch * self.steps_per_epoch}
        self.history.append({**done, "lr": rate, "train_loss": mean, "gradient_norm": norm})
        left = self.seconds / self.epoch * (self.spec.epochs - self.epoch)
        return f"epoch {self.epoch}/{self.spec.epochs}  loss {mean:.4f}  lr {rate:.2e}  {left:.0f} s left"

    def save(self, rng: np.random.Generator) -> None:
        """Save the checkpoint between two steps, unless the loss has acquired internal state, which would be lost.

        Losses that aren't finite are never saved.
        """
        self.check(self.step - 1)
        if self.checkpoint is None:
            return
        if fingerprint(self.loss) != self._loss_before:
            kind = type(self.loss).__qualname__
            self.checkpoint.skip(f"the loss {kind} keeps state between batches, which resume points don't include")
            return
        tensors, state = random_states(rng, self.device)
        self._write(self.checkpoint, tensors, {"random": state})

    def save_if_signalled(self) -> None:
        """If a signal has arrived, save the trained state and raise Interrupted; a resumed job predicts again."""
        if self.checkpoint is not None and self.checkpoint.signals.received is not None:
            self._write(self.checkpoint, {}, {})

    def _write(self, checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Save the model, the optimiser's state and the progress in a checkpoint."""
        tensors = {**capture(self.model, self.optimizer), "losses": self.losses, "norm": self.norm, **tensors}
        facts |= {"epoch": self.epoch, "step": self.step, "history": self.history, "seconds": self.seconds}
        checkpoint.save(tensors, {"random": None, **facts, "resumed_at": self.resumed_at}, self.place)


def backward(
    forward: Forward, loss: Loss, inputs: torch.Tensor, targets: torch.Tensor, spec: TrainSpec
) -> torch.Tensor:
    """Accumulate the gradient of a batch's mean loss in the parameters, part by part, and return the loss."""
    count = len(inputs)
    losses: list[torch.Tensor] = []
    size = spec.micro_batch or count
    for part, part_targets in zip(inputs.split(size), targets.split(size), strict=True):
        with autocast(spec, inputs.device):
            logits = forward(part)
        value = loss(logits.float(), part_targets)
        if len(part) < count:  # weighted, since losses are means over rows
            value = value * (len(part) / count)
        value.backward()
        losses.append(value.detach())
    return functools.reduce(torch.add, losses)
