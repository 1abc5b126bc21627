"""Provide a recipe's optimiser, its learning rate at each step, and the norm of gradients."""

from __future__ import annotations

import math

import torch
from torch import nn

from halobench.core.specs.training import TrainSpec


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Return a recipe's optimiser for a model's learnable parameters, with fused kernels."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=True
        )
    cls = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return cls(parameters, lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def learning_rate(step: int, steps_per_epoch: int, spec: TrainSpec) -> float:
    """Return the rate at `step`, counted from 0: a linear warm-up, then constant or a half-cosine towards 0."""
    warmup, total = spec.warmup * steps_per_epoch, spec.epochs * steps_per_epoch
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.lr
    return spec.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def gradient_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Return the Euclidean norm of all gradients together, as a scalar on their device."""
    # One kernel handles all gradients; torch.nn.utils provides this only from torch 2.6 on.
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
