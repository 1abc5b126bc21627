"""Measure where channels_last and torch.compile pay off: `python benchmarks/layouts.py [--quick]`.

Forward passes on 250 images (64 for ResNeXt-50), and training steps on as many, are compared with NCHW without a
compiler. The ratios say how many times as fast they are, and have no targets. Compilation itself isn't counted; the
notes say how long it took.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import harness
import peers_torch as peers
import torch
from harness import Row, main, over, turns

from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import TrainSpec
from halobench.training.device import autocast, memory_format
from halobench.training.optimizer import build_optimizer

# Each entry has the batch size, and the precisions and layouts (whether channels_last) that are also compiled, which
# takes a minute each for ResNeXt-50.
MODELS = {
    "cnn 28x28": (peers.CNN, (1, 28, 28), 250, [("float32", True), ("bf16", True)]),
    "ResNeXt-50 32x32": (peers.RESNEXT, (3, 32, 32), 64, [("float32", False), ("bf16", True)]),
}
Timed = tuple[Callable[[], None], float]


def forward(spec: ModelSpec, shape: tuple[int, int, int], recipe: TrainSpec, device: torch.device) -> Timed:
    """Return a forward pass in eval mode, and the seconds of its first call."""
    model = peers.build(spec, shape, recipe, device)
    images = peers.noise(recipe.batch, shape, device).contiguous(memory_format=memory_format(recipe))
    call = torch.compile(model) if recipe.compile else model

    def run() -> None:
        with torch.no_grad(), autocast(recipe, device):
            call(images)

    return _begun(peers.waited(run, device))


def step(spec: ModelSpec, shape: tuple[int, int, int], recipe: TrainSpec, device: torch.device) -> Timed:
    """Return a training step, and the seconds of its first call."""
    model = peers.build(spec, shape, recipe, device).train()
    images = peers.noise(recipe.batch, shape, device).contiguous(memory_format=memory_format(recipe))
    labels, optimizer = torch.arange(recipe.batch, device=device) % 10, build_optimizer(model, recipe)
    call = torch.compile(model) if recipe.compile else model

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(recipe, device):
            logits = call(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return _begun(peers.waited(run, device))


def _begun(run: Callable[[], None]) -> Timed:
    """Call a function once, and return it with the seconds that this took."""
    began = time.perf_counter()
    run()
    return run, time.perf_counter() - began


def rows(quick: bool) -> Iterator[Row]:
    device, names = peers.start(), list(MODELS)[: 1 if quick else 2]
    for name, (what, make) in itertools.product(names, (("forward", forward), ("training step", step))):
        spec, shape, batch, compiled = MODELS[name]
        ways = [(precision, last, False) for precision in ("float32", "bf16") for last in (False, True)]
        ways += [] if quick else [(*way, True) for way in compiled]
        made = [
            make(spec, shape, TrainSpec(batch=batch, precision=way[0], channels_last=way[1], compile=way[2]), device)
            for way in ways
        ]
        times = turns(*(run for run, _ in made), count=harness.QUICK_TURNS if quick else 5)
        for (precision, last, by_compiler), (_, first), found in zip(ways[1:], made[1:], times[1:], strict=True):
            told = f"{precision}{', channels_last' if last else ''}{', compiled' if by_compiler else ''}"
            began = f"; first call {first:.0f} s" if by_compiler else ""
            note = f"{batch / statistics.median(found):,.0f} images/s{began}"
            yield Row(f"{what}, {name}, {told}", "float32, NCHW", over(times[0], found), note=note)


if __name__ == "__main__":
    main(rows, __doc__)
