"""Compare training with the bare step and a DataLoader: `python benchmarks/training.py [--quick]`.

The seconds that an epoch of `halobench.training.loop.fit` takes in one thread are compared with as many steps (forward,
backward and fused Adam) on one resident batch, and with a DataLoader that transforms items one by one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
import peers_torch as peers
import torch
from harness import Row, main, over, turns

from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data.splits import Data
from halobench.losses import base
from halobench.training.batches import batches_of
from halobench.training.device import memory_format
from halobench.training.loop import TrainingSet, fit
from halobench.training.optimizer import build_optimizer

# Each model has the layout and precision that suit it, and the number of epochs that are timed at a time.
MODELS = {
    "mlp": (ModelSpec("mlp"), {}, 5),
    "cnn": (peers.CNN, {"channels_last": True}, 1),
    "cnn in bf16": (peers.CNN, {"channels_last": True, "precision": "bf16"}, 1),
}
MOST, LEAST = 1.15, 2.0


def recipe(batch: int, epochs: int = 1, **more: Any) -> TrainSpec:
    """Return a recipe for `epochs` epochs at a constant learning rate."""
    return TrainSpec(batch=batch, epochs=epochs, warmup=0, schedule="constant", **more)


def ours(model: ModelSpec, data: Data, spec: TrainSpec) -> Callable[[], object]:
    """Return epochs of `fit` on the training points of `data`."""
    split = data.splits["train"]
    network = peers.build(model, data.shape, spec)
    points, loss = batches_of(split.images, spec, peers.CPU, data), base.build(LossSpec("cross_entropy"))
    samples = TrainingSet(points, split.labels, data.classes)
    return lambda: fit(network, samples, loss, spec, 0, lambda line: None)


def bare(model: ModelSpec, data: Data, spec: TrainSpec) -> Callable[[], None]:
    """Return as many steps on the first batch, with the same optimiser and layout."""
    network = peers.build(model, data.shape, spec).train()
    images = torch.from_numpy(data.inputs("train")[: spec.batch])
    labels = torch.from_numpy(data.splits["train"].labels[: spec.batch])
    count = len(data.splits["train"].labels) // spec.batch * spec.epochs
    batch, optimizer = images.contiguous(memory_format=memory_format(spec)), build_optimizer(network, spec)

    def run() -> None:
        for _ in range(count):
            peers.take_step(network, optimizer, batch, labels, spec)

    return run


def loader(model: ModelSpec, data: Data, spec: TrainSpec, workers: int, plain: bool = False) -> Callable[[], object]:
    """Return as many epochs with a DataLoader, using the same recipe or a `plain` one (float32, NCHW, default Adam)."""
    spec = recipe(spec.batch, spec.epochs) if plain else spec
    network, split = peers.build(model, data.shape, spec), data.splits["train"]
    items = peers.Items(np.asarray(split.images), split.labels, data.mean, data.std)
    optimizer = torch.optim.Adam(network.parameters(), lr=spec.lr) if plain else build_optimizer(network, spec)
    epoch = peers.loader_epoch(network, optimizer, items, spec, workers)
    return lambda: [epoch() for _ in range(spec.epochs)]


def rows(quick: bool) -> Iterator[Row]:
    peers.start()
    count = harness.QUICK_TURNS if quick else harness.TURNS
    with tempfile.TemporaryDirectory() as folder:
        data = peers.digits(500 if quick else 2000, Path(folder))
    for name, (model, suiting, epochs) in MODELS.items():
        for batch in (50, 500):
            spec = recipe(batch, 1 if quick else epochs, **suiting)
            bare_step, fitted = bare(model, data, spec), ours(model, data, spec)
            loaders = [loader(model, data, spec, workers) for workers in (0, 2)]
            loaders.append(loader(model, data, spec, 0, plain=True))
            what, size = f"training epoch, {name}, batch {batch}", spec.epochs * len(data.splits["train"].labels)

            theirs, mine = turns(bare_step, fitted, count=count)
            rates = f"{size / np.median(mine):,.0f} images/s versus {size / np.median(theirs):,.0f}"
            yield Row(what, "bare forward, backward and step", over(mine, theirs), most=MOST, note=rates)

            mine, *others, tutorial = turns(fitted, *loaders, count=2 if quick else 5)
            workers, taken = min(zip((0, 2), others, strict=True), key=lambda one: np.median(one[1]))
            limit = np.median(taken) / np.median(theirs)
            rates = f"{size / np.median(mine):,.0f} images/s versus {size / np.median(taken):,.0f}"
            note = f"{rates} with {workers} workers, the faster of 0 and 2; the bare step alone would give {limit:.2f}"
            yield Row(what, "DataLoader, an item at a time, same recipe", over(taken, mine), least=LEAST, note=note)
            note = f"{size / np.median(tutorial):,.0f} images/s; float32, NCHW, Adam not fused, no workers"
            yield Row(what, "DataLoader as in tutorials", over(tutorial, mine), note=note)


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return stage, points, seconds and peak bytes above what was resident, for the CNN's epoch at three sizes."""
    peers.start()
    spec, found = recipe(50, channels_last=True), []
    for size in (100, 300, 1000) if quick else (400, 1200, 4000):
        with tempfile.TemporaryDirectory() as folder:
            data = peers.digits(size, Path(folder))
        grown = peers.grown(lambda data=data: ours(peers.CNN, data, spec)())
        found.append(("training, by points", float(size), *grown))
    return found


if __name__ == "__main__":
    main(rows, __doc__, growth)
