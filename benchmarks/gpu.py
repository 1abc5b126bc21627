"""Compare a GPU with the CPU and with plain PyTorch, in some minutes: `python benchmarks/gpu.py [--out FILE]`.

This needs torch, timm, safetensors, numpy, pandas and scipy, but not Snakemake. It prints, line by line, whether
training and probing on the GPU agree with the CPU's results, within `TOLERANCES`, and the images per second when
training and probing ResNet-18 and ResNeXt-50 at 32 x 32 pixels, compared with a plain PyTorch loop that takes turns
with them in the same run. That nothing waits for the GPU, and that a full GPU leads to an error that says what to do,
are checked by tests/cuda/on_cuda.py.

Without a GPU (or with `--device cpu`), the same code runs with tiny models and sizes, which shows that it runs. The
exit code is 1 if a check fails.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be set before CUDA starts

import numpy as np
import peers_torch as peers
import torch
from harness import turns

from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.losses import base
from halobench.probing.probe import ProbeOptions, probe
from halobench.probing.ray_walk import Predict, predictor
from halobench.probing.rays import TrainingPoints
from halobench.training.batches import batches_of
from halobench.training.device import autocast, kept_casts, memory_format
from halobench.training.loop import TrainingSet, fit
from halobench.training.optimizer import build_optimizer
from halobench.training.train_cell import predict

CLASSES = 10
# The largest differences allowed between the devices, in float32 without TF32: for logits (relative to the largest), a
# mean loss and a confidence.
TOLERANCES = {"logits": 1e-4, "loss": 1e-3, "confidence": 1e-3}
PLAIN = 1.15  # training and probing may take this many times as long as a plain loop


@dataclass(frozen=True)
class Finding:
    """One line: what was checked, what was found, and whether that is right; `right` is None if it can't fail."""

    what: str
    found: str
    right: bool | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.found}" + ("" if self.right is None else "  ok" if self.right else "  WRONG")


@dataclass(frozen=True)
class Sizes:
    """The models and sizes that are measured on one kind of device."""

    models: dict[str, ModelSpec]
    shape: tuple[int, int, int]
    images: int
    batch: int
    probed: int
    turns: int


GPU = Sizes(
    {
        "ResNet-18": ModelSpec("timm/resnet18", stem="small"),
        "ResNeXt-50": ModelSpec("timm/resnext50_32x4d", stem="small"),
    },
    (3, 32, 32),
    images=16_384,
    batch=512,
    probed=256,
    turns=5,
)
CPU = Sizes({"MLP": ModelSpec("mlp")}, (1, 8, 8), images=256, batch=32, probed=8, turns=2)


def samples(count: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, float32 (count, C, H, W), and labels (count,) that they determine; the same each time."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=count)
    centres = rng.normal(size=(CLASSES, *shape))
    return (centres[labels] + rng.normal(size=(count, *shape))).astype(np.float32), labels.astype(np.int64)


def recipe(batch: int, **more: Any) -> TrainSpec:
    """Return a recipe for one epoch at a constant learning rate."""
    return TrainSpec(**{"batch": batch, "epochs": 1, "warmup": 0, "schedule": "constant", "eval_batch": 512, **more})


def fast(sizes: Sizes, device: torch.device) -> TrainSpec:
    """Return the recipe that is meant to be fast, with bf16 and channels_last on a GPU."""
    if device.type == "cpu":
        return recipe(sizes.batch)
    return recipe(sizes.batch, precision="bf16", channels_last=True, deterministic=False)


def training_set(images: np.ndarray, labels: np.ndarray, spec: TrainSpec, device: torch.device) -> TrainingSet:
    """Return samples to train on."""
    return TrainingSet(batches_of(images, spec, device), labels, CLASSES)


def trained(model: torch.nn.Module, given: TrainingSet, spec: TrainSpec) -> float:
    """Train a model for an epoch with cross-entropy; return its mean loss."""
    loss = base.build(LossSpec("cross_entropy"))
    return fit(model, given, loss, spec, 0, lambda line: None).history[-1]["train_loss"]


def probed(
    predict: Predict, spec: TrainSpec, images: np.ndarray, labels: np.ndarray, walk: ProbeSpec, inputs: torch.Tensor
) -> np.ndarray:
    """Return the probe's mean confidences along rays around `inputs`, the first samples."""
    training_points = TrainingPoints(batches_of(images, spec, inputs.device), labels)
    options = ProbeOptions({"none": 1.0}, spec.eval_batch, memory_format(spec))
    rng = np.random.default_rng(1)
    with kept_casts(inputs.device):
        tables = probe(predict, inputs, labels[: len(inputs)], walk, training_points, rng=rng, options=options)
    return tables.curves["confidence"].to_numpy()


def waited(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """Return a function that calls `function` and then waits until a GPU's queue is empty."""

    def run() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def agreement(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Compare a short training run and a probe on this device with the CPU's, in float32.

    The model is probed before it is trained, since training amplifies rounding differences without bound.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    images, labels = samples(512, sizes.shape)
    short = recipe(64, optimizer="sgd", lr=1e-3)
    walk = ProbeSpec("sphere", directions=4, radii=(0.0, 1.0, 4.0, 16.0), relative_radii=(0.5, 1.0), bisections=2)
    for name, spec in sizes.models.items():
        outcomes = []
        for on in (torch.device("cpu"), device):
            model = peers.build(spec, sizes.shape, short, on)
            logits, inputs = predict(model, images, short), torch.from_numpy(images[:16]).to(on)
            confidence = probed(predictor(model.eval(), short), short, images, labels, walk, inputs)
            loss = trained(model, training_set(images, labels, short, on), short)
            outcomes.append({"logits": logits, "loss": loss, "confidence": confidence})
        for what, tolerance in TOLERANCES.items():
            here, there = (np.asarray(outcome[what]) for outcome in outcomes)
            scale = np.abs(here).max() if what == "logits" else 1.0
            difference = float(np.abs(here - there).max() / scale)
            found = f"{difference:.1e} from the CPU's at most (tolerance {tolerance:g})"
            yield Finding(f"{name}, {what}", found, difference <= tolerance)


def training(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Compare an epoch of training with a plain loop over resident images."""
    images, labels = samples(sizes.images, sizes.shape)
    spec = fast(sizes, device)
    for name, model_spec in sizes.models.items():
        ours, plain = (peers.build(model_spec, sizes.shape, spec, device) for _ in range(2))
        epoch = plain_epoch(plain, images, labels, spec, device)
        run = functools.partial(trained, ours, training_set(images, labels, spec, device), spec)
        yield compared(f"training {name}", len(images), epoch, run, sizes, device)


def compared(
    what: str,
    count: int,
    plain: Callable[[], object],
    ours: Callable[[], object],
    sizes: Sizes,
    device: torch.device,
) -> Finding:
    """Compare images per second with a plain loop's; on a CPU, this can't fail, since the sizes are too small."""
    theirs, mine = turns(waited(plain, device), waited(ours, device), count=sizes.turns)
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    rates = f"{count / statistics.median(mine):,.0f} images/s compared with {count / statistics.median(theirs):,.0f}"
    found = f"{rates} of a plain loop: {ratio:.2f} x its time (at most {PLAIN})"
    return Finding(what, found, None if device.type == "cpu" else ratio <= PLAIN)


def plain_epoch(
    model: torch.nn.Module, images: np.ndarray, labels: np.ndarray, spec: TrainSpec, device: torch.device
) -> Callable[[], None]:
    """Return an epoch written in the usual way, with shuffled images on the device, in the same layout."""
    resident, targets = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    optimizer, count = build_optimizer(model, spec), len(images) // spec.batch

    def run() -> None:
        model.train()
        order = torch.randperm(len(images), device=device)
        for step in range(count):
            rows = order[step * spec.batch : (step + 1) * spec.batch]
            batch = resident[rows].contiguous(memory_format=memory_format(spec))
            peers.take_step(model, optimizer, batch, targets[rows], spec)

    return run


def probing(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Compare the probe with as many bare forward passes in the same layout, precision and batch size."""
    images, labels = samples(sizes.images, sizes.shape)
    spec = fast(sizes, device)
    walk = ProbeSpec("sphere", directions=2, bisections=1)
    inputs = torch.from_numpy(images[: sizes.probed]).to(device)
    resident = torch.from_numpy(images[: spec.eval_batch]).to(device, memory_format=memory_format(spec))
    for name, model_spec in sizes.models.items():
        model = peers.build(model_spec, sizes.shape, spec, device)
        counted = peers.Counted(predictor(model, spec))
        ours = functools.partial(probed, counted, spec, images, labels, walk, inputs)
        ours()
        count = counted.images
        plain = functools.partial(forwards, model, resident, count, spec)
        yield compared(f"probing {name}", count, plain, ours, sizes, device)


@torch.no_grad()
def forwards(model: torch.nn.Module, images: torch.Tensor, count: int, spec: TrainSpec) -> None:
    """Compute confidences for `count` images in batches, reusing the same resident images."""
    with kept_casts(images.device):
        for _ in range(max(1, count // len(images))):
            with autocast(spec, images.device):
                logits = model(images)
            logits.float().softmax(1).amax(1).cpu()


def circumstances(device: torch.device) -> str:
    """Describe the device and torch's version."""
    if device.type == "cpu":
        return f"CPU; torch {torch.__version__}; tiny models: this shows that it runs, and measures nothing"
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free; torch {torch.__version__}"


def main() -> int:
    """Make all comparisons and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda, or cpu")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the findings there, as JSON")
    given = parser.parse_args()
    device = torch.device(given.device)
    sizes, findings = CPU if device.type == "cpu" else GPU, []
    print(circumstances(device), flush=True)
    torch.backends.cudnn.benchmark = True  # for both sides of each comparison
    for check in (agreement, training, probing):
        for finding in check(sizes, device):
            print(finding, flush=True)
            findings.append(finding)
    if given.out:
        found = {"device": circumstances(device), "findings": [asdict(finding) for finding in findings]}
        given.out.write_text(json.dumps(found, indent=2) + "\n")
    return int(any(finding.right is False for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
