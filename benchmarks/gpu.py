"""Run all checks on a GPU, in one command that takes at most eight minutes: `python benchmarks/gpu.py [--out FILE]`.

This needs torch, timm, safetensors, numpy, pandas and scipy, but not Snakemake. Each check prints one line:

- whether training and probing on the GPU agree with the CPU's results, within `TOLERANCES`;
- whether any step of an epoch makes the host wait for the GPU;
- images per second when training and probing ResNet-18 and ResNeXt-50 at 32 x 32 pixels, compared with a plain PyTorch
  loop that takes turns with them in the same run;
- the share of an epoch in which the GPU is busy;
- whether `torch.compile`, and CUDA graphs (its mode "reduce-overhead"), pay off;
- whether running out of memory leads to an error that mentions which key of the recipe to change.

Without a GPU (or with `--device cpu`), the same code runs with tiny models and sizes, and checks that need a GPU are
skipped. The exit code is 1 if a check fails; numbers without a limit can't fail.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be set before CUDA starts

import numpy as np
import torch
from harness import turns

from halobench.core.errors import SpecError
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.losses import base
from halobench.models import builder
from halobench.probing.probe import ProbeOptions, probe
from halobench.probing.ray_walk import Predict, predictor
from halobench.probing.rays import TrainingPoints
from halobench.training.batches import batches_of
from halobench.training.device import autocast, kept_casts, memory_format, place
from halobench.training.loop import TrainingRun, TrainingSet, fit
from halobench.training.optimizer import build_optimizer
from halobench.training.train_cell import predict

BUDGET = 400.0  # seconds after which no new check starts; the longest takes about a minute
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


def silent(line: str) -> None:
    """Discard a progress line."""


def samples(count: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, float32 (count, C, H, W), and labels (count,) that they determine; the same each time."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=count)
    centres = rng.normal(size=(CLASSES, *shape))
    return (centres[labels] + rng.normal(size=(count, *shape))).astype(np.float32), labels.astype(np.int64)


def build(spec: ModelSpec, shape: tuple[int, int, int], recipe: TrainSpec, device: torch.device) -> torch.nn.Module:
    """Build a model with random weights, which are the same each time and on each device."""
    torch.manual_seed(0)
    return place(builder.build(spec, shape, CLASSES), recipe, device)


def recipe(batch: int, **more: Any) -> TrainSpec:
    """Return a recipe for one epoch at a constant learning rate."""
    return TrainSpec(**{"batch": batch, "epochs": 1, "warmup": 0, "schedule": "constant", "eval_batch": 512, **more})


def fast(sizes: Sizes, device: torch.device) -> TrainSpec:
    """Return the recipe that is meant to be fast, with bf16 and channels_last on a GPU."""
    if device.type == "cpu":
        return recipe(sizes.batch)
    return recipe(sizes.batch, precision="bf16", channels_last=True, deterministic=False)


def wait(device: torch.device) -> None:
    """Wait until a GPU's queue is empty."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def waited(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """Return a function that calls `function` and then waits for its device."""

    def run() -> None:
        function()
        wait(device)

    return run


# Agreement ------------------------------------------------------------------------------------------------------------


def agreement(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Compare a short training run and a probe on this device with the CPU's, in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    images, labels = samples(512, sizes.shape)
    for name, spec in sizes.models.items():
        outcomes = [trained(spec, images, labels, on) for on in (torch.device("cpu"), device)]
        (untrained, loss, confidence), (there, loss_there, confidence_there) = outcomes
        differences = {
            "logits": np.abs(untrained - there).max() / np.abs(untrained).max(),
            "loss": abs(loss - loss_there),
            "confidence": np.abs(confidence - confidence_there).max(),
        }
        for what, difference in differences.items():
            found = f"{difference:.1e} from the CPU's at most (tolerance {TOLERANCES[what]:g})"
            yield Finding(f"{name}, {what}", found, bool(difference <= TOLERANCES[what]))


def trained(
    spec: ModelSpec, images: np.ndarray, labels: np.ndarray, device: torch.device
) -> tuple[np.ndarray, float, np.ndarray]:
    """Return logits before training, the mean loss of one epoch of SGD, and confidences near samples before training.

    The model is probed before it is trained, since training amplifies rounding differences without bound.
    """
    short = recipe(64, optimizer="sgd", lr=1e-3)
    model = build(spec, images.shape[1:], short, device)
    before = predict(model, images, short)
    walk = ProbeSpec("sphere", directions=4, radii=(0.0, 1.0, 4.0, 16.0), relative_radii=(0.5, 1.0), bisections=2)
    table = probed(predictor(model.eval(), short), short, images, labels, walk, 16, device)
    run = fit(model, TrainingSet(images, labels, CLASSES), base.build(LossSpec("cross_entropy")), short, 0, silent)
    return before, run.history[-1]["train_loss"], table


def probed(
    predict: Predict,
    spec: TrainSpec,
    images: np.ndarray,
    labels: np.ndarray,
    walk: ProbeSpec,
    count: int,
    device: torch.device,
) -> np.ndarray:
    """Return the probe's mean confidences along rays around the first `count` samples."""
    training_points = TrainingPoints(batches_of(images, spec, device), labels)
    options = ProbeOptions({"none": 1.0}, spec.eval_batch, memory_format(spec))
    inputs = torch.from_numpy(images[:count]).to(device)
    with kept_casts(device):
        tables = probe(
            predict, inputs, labels[:count], walk, training_points, rng=np.random.default_rng(1), options=options
        )
    return tables.curves["confidence"].to_numpy()


# Waiting --------------------------------------------------------------------------------------------------------------


def synchronisations(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Check whether a step makes the host wait, which torch warns about, for a loss that mixes and one that doesn't."""
    if device.type != "cuda":
        yield Finding("waiting for the GPU inside an epoch", "left out: no GPU")
        return
    images, labels = samples(sizes.batch * 4, sizes.shape)
    spec, model_spec = fast(sizes, device), next(iter(sizes.models.values()))
    for name in ("cross_entropy", "mixup"):
        model, loss = build(model_spec, sizes.shape, spec, device).train(), base.build(LossSpec(name))
        inputs, targets = batches_of(images, spec, device), torch.from_numpy(labels).to(device)
        one_hot = torch.nn.functional.one_hot(targets, CLASSES).float()
        targets = targets if base.takes_labels(loss) else one_hot
        run = TrainingRun(model, build_optimizer(model, spec), spec, 4, device, None, loss)
        rng, order = run.start_epoch(0, len(images))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number, (rows, batch) in enumerate(inputs.in_order(order, spec.batch)):
                if number == 1:  # the first step builds the optimiser's state
                    torch.cuda.set_sync_debug_mode("warn")
                run.take_step(model, batch, targets.index_select(0, rows), rng)
            torch.cuda.set_sync_debug_mode("default")
        told = [str(one.message) for one in caught if "synchroniz" in str(one.message)]
        yield Finding(f"waiting for the GPU inside an epoch, {name}", f"{len(told)} times in 3 steps", not told)


# Speed ----------------------------------------------------------------------------------------------------------------


def training(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Compare an epoch of training with a plain loop over resident images, and measure how busy the GPU is in it."""
    images, labels = samples(sizes.images, sizes.shape)
    spec = fast(sizes, device)
    for name, model_spec in sizes.models.items():
        model, loss = build(model_spec, sizes.shape, spec, device), base.build(LossSpec("cross_entropy"))
        given = TrainingSet(batches_of(images, spec, device), labels, CLASSES)
        ours = waited(lambda m=model, g=given, by=loss: fit(m, g, by, spec, 0, silent), device)
        plain = plain_epoch(build(model_spec, sizes.shape, spec, device), images, labels, spec, device)
        theirs, mine = turns(plain, ours, count=sizes.turns)
        yield beside(f"training {name}", len(images), theirs, mine, device)
        yield Finding(f"GPU busy in an epoch of {name}", busy(ours, device))


def beside(what: str, count: int, theirs: list[float], mine: list[float], device: torch.device) -> Finding:
    """Compare images per second with a plain loop's; on a CPU, this can't fail, since the sizes are too small."""
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    rates = f"{count / statistics.median(mine):,.0f} images/s beside {count / statistics.median(theirs):,.0f}"
    told = f"{rates} of a plain loop: {ratio:.2f} x its time (at most {PLAIN})"
    return Finding(what, told, None if device.type == "cpu" else ratio <= PLAIN)


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
            optimizer.zero_grad(set_to_none=True)
            with autocast(spec, device):
                logits = model(batch)
            torch.nn.functional.cross_entropy(logits.float(), targets[rows]).backward()
            optimizer.step()

    return waited(run, device)


def busy(run: Callable[[], None], device: torch.device) -> str:
    """Format the share of a call's time in which kernels or copies run, by torch's profiler (there is one stream)."""
    if device.type != "cuda":
        return "left out: no GPU"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
    at_work = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    return f"{at_work / seconds:.0%} of {seconds:.2f} s"


def probing(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Compare the probe with as many bare forward passes in the same layout, precision and batch size."""
    images, labels = samples(sizes.images, sizes.shape)
    spec = fast(sizes, device)
    walk = ProbeSpec("sphere", directions=2, bisections=1)
    for name, model_spec in sizes.models.items():
        model = build(model_spec, sizes.shape, spec, device).eval()
        counted = Counted(predictor(model, spec))
        probed(counted, spec, images, labels, walk, sizes.probed, device)
        count = counted.images
        ours = waited(lambda p=counted: probed(p, spec, images, labels, walk, sizes.probed, device), device)
        resident = torch.from_numpy(images[: spec.eval_batch]).to(device, memory_format=memory_format(spec))
        plain = waited(lambda m=model, r=resident, n=count: forwards(m, r, n, spec), device)
        theirs, mine = turns(plain, ours, count=sizes.turns)
        yield beside(f"probing {name}", count, theirs, mine, device)


class Counted:
    """A predictor that counts the images passed to it."""

    def __init__(self, predict: Predict):
        self.predict, self.images = predict, 0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.images += len(batch)
        return self.predict(batch)


@torch.no_grad()
def forwards(model: torch.nn.Module, images: torch.Tensor, count: int, spec: TrainSpec) -> None:
    """Compute confidences for `count` images in batches, reusing the same resident images."""
    with kept_casts(images.device):
        for _ in range(max(1, count // len(images))):
            with autocast(spec, images.device):
                logits = model(images)
            logits.float().softmax(1).amax(1).cpu()


# Compilers and memory -------------------------------------------------------------------------------------------------


def compilers(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Measure the speed-up of training steps by the compiler and CUDA graphs, and how long the first steps take."""
    if device.type != "cuda":
        yield Finding("torch.compile and CUDA graphs", "left out: no GPU")
        return
    spec = fast(sizes, device)
    for name, model_spec in sizes.models.items():
        eager, _ = stepper(model_spec, sizes, spec, device)
        for mode in ("default", "reduce-overhead"):
            what = f"training step of {name} by torch.compile, mode {mode}"
            try:
                compiled, first = stepper(model_spec, sizes, spec, device, mode)
            except Exception as error:
                yield Finding(what, f"not to be had here: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
                continue
            theirs, mine = turns(eager, compiled, count=sizes.turns)
            ratio = statistics.median(a / b for a, b in zip(theirs, mine, strict=True))
            yield Finding(what, f"{ratio:.2f} x as fast as without; the first step takes {first:.0f} s")


def stepper(
    model_spec: ModelSpec, sizes: Sizes, spec: TrainSpec, device: torch.device, mode: str | None = None
) -> tuple[Callable[[], None], float]:
    """Return a function that takes twenty training steps on a resident batch, and the seconds of its first call."""
    model = build(model_spec, sizes.shape, spec, device).train()
    images, labels = samples(spec.batch, sizes.shape)
    batch = torch.from_numpy(images).to(device, memory_format=memory_format(spec))
    targets, optimizer = torch.from_numpy(labels).to(device), build_optimizer(model, spec)
    call: Any = model if mode is None else torch.compile(model, mode=mode)

    def run() -> None:
        for _ in range(20):
            optimizer.zero_grad(set_to_none=True)
            with autocast(spec, device):
                logits = call(batch)
            torch.nn.functional.cross_entropy(logits.float(), targets).backward()
            optimizer.step()

    ready = waited(run, device)
    began = time.perf_counter()
    ready()
    return ready, time.perf_counter() - began


def memory(sizes: Sizes, device: torch.device) -> Iterator[Finding]:
    """Train with a batch that doesn't fit; the error must mention the recipe's key."""
    what = "running out of memory"
    if device.type != "cuda":
        yield Finding(what, "left out: no GPU")
        return
    wait(device)
    torch.cuda.empty_cache()
    model_spec, large = list(sizes.models.values())[-1], recipe(8192)
    model, (images, labels) = build(model_spec, sizes.shape, large, device), samples(8192, sizes.shape)
    given = TrainingSet(batches_of(images, large, device), labels, CLASSES)
    torch.cuda.set_per_process_memory_fraction(0.05)  # otherwise the batch would fit on the largest GPUs
    try:
        fit(model, given, base.build(LossSpec("cross_entropy")), large, 0, silent)
    except SpecError as error:
        yield Finding(what, str(error)[:160], "train.batch = 8192" in str(error))
    else:
        yield Finding(what, "no error: the batch fits", None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


CHECKS = (agreement, synchronisations, training, probing, memory, compilers)


def circumstances(device: torch.device) -> str:
    """Describe the device and torch's version."""
    if device.type == "cpu":
        return f"CPU; torch {torch.__version__}; tiny models: this shows that it runs, and measures nothing"
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free; torch {torch.__version__}"


def main() -> int:
    """Run all checks and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda, or cpu")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the findings there, as JSON")
    given = parser.parse_args()
    device, began = torch.device(given.device), time.monotonic()
    sizes, findings = CPU if device.type == "cpu" else GPU, []
    print(circumstances(device), flush=True)
    torch.backends.cudnn.benchmark = True  # for both sides of each comparison
    for check in CHECKS:
        for finding in check(sizes, device):
            print(finding, flush=True)
            findings.append(finding)
            if time.monotonic() - began > BUDGET:
                print(f"{check.__name__} and what comes after it: cut short after {BUDGET:.0f} s")
                break
        if time.monotonic() - began > BUDGET:
            break
    print(f"{time.monotonic() - began:.0f} s")
    if given.out:
        told = {"device": circumstances(device), "findings": [asdict(finding) for finding in findings]}
        given.out.write_text(json.dumps(told, indent=2) + "\n")
    return int(any(finding.right is False for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
