"""Compare the probe with the bare forward pass and the paper's method: `python benchmarks/probe.py [--quick]`.

Seconds per image are measured, in one thread. The bare forward pass is first tried with several batch sizes in both
layouts; the probe then runs with the fastest recipe.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator

import harness
import numpy as np
import peers_torch as peers
import torch
from harness import Row, main, over, turns
from torch import nn

from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.probing.probe import ProbeOptions, probe
from halobench.probing.ray_walk import predictor, score
from halobench.probing.rays import TrainingPoints
from halobench.training.device import kept_casts, memory_format, place

# The paper's distances; relative distances and the bisection of radii are the suite's own additions.
SPHERE = ProbeSpec("sphere", directions=16, radii=tuple(map(float, range(11))))
TEN = np.linspace(0, 10, 10)
MOST, LEAST = 1.2, {"float32": 3.0, "bf16": 4.0}


class Counted:
    """A predictor that counts the images passed to it."""

    def __init__(self, predict: Callable[[torch.Tensor], torch.Tensor]):
        self.predict, self.images = predict, 0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.images += len(batch)
        return self.predict(batch)


@dataclasses.dataclass
class Probed:
    """Points (n, C, H, W) with labels (n,), and a model that is probed around them."""

    model: nn.Module
    inputs: torch.Tensor
    labels: np.ndarray
    spec: ProbeSpec = SPHERE

    def run(self, predict: Callable[[torch.Tensor], torch.Tensor], spec: TrainSpec) -> None:
        around, rng = TrainingPoints(self.inputs, self.labels), np.random.default_rng(0)
        options = ProbeOptions(batch=spec.eval_batch, layout=memory_format(spec))
        with kept_casts(self.inputs.device):
            probe(predict, self.inputs, self.labels, self.spec, around, rng=rng, options=options)

    def under(self, recipe: peers.Recipe) -> tuple[Callable[[], None], int]:
        """Return the probe with a recipe, and the number of images that it forwards."""
        device = self.inputs.device
        model = place(copy.deepcopy(self.model), recipe.spec, device)
        counted = Counted(predictor(model, recipe.spec))
        self.run(counted, recipe.spec)
        predict = predictor(model, recipe.spec)
        return peers.waited(lambda: self.run(predict, recipe.spec), device), counted.images


def of_cnn(points: int, device: torch.device, quick: bool) -> Probed:
    """Return the CNN, trained on images of mnist5k and probed around some of them."""
    recipe = TrainSpec(lr=3e-3, epochs=3 if quick else 8, channels_last=True, device=str(device))
    model, data = peers.trained(peers.CNN, 500 if quick else 1000, recipe)
    inputs = torch.from_numpy(data.inputs("train")[:points]).to(device)
    return Probed(model, inputs, data.splits["train"].labels[:points])


def of_resnext(points: int, device: torch.device, quick: bool) -> Probed:
    """Return a ResNeXt-50 with random weights, probed around random images of 3 x 32 x 32."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.standard_normal((points, 3, 32, 32), dtype=np.float32)).to(device)
    model = peers.build(peers.RESNEXT, (3, 32, 32), TrainSpec(), device)
    spec = dataclasses.replace(SPHERE, directions=2) if quick else SPHERE
    return Probed(model, inputs, np.arange(points) % 10, spec)


Best = dict[str, tuple[peers.Recipe, float]]


def against_forward(what: str, probed: Probed, best: Best, images: int, quick: bool) -> Iterator[Row]:
    """Compare the probe with the bare forward pass at its fastest, for each precision."""
    device, shape = probed.inputs.device, tuple(probed.inputs.shape[1:])
    quickest = min(best, key=lambda precision: best[precision][1])
    for precision, (recipe, _) in best.items():
        forward = peers.raw_forward(
            place(copy.deepcopy(probed.model), recipe.spec, device), peers.noise(images, shape, device), recipe
        )
        run, count = probed.under(recipe)
        theirs, ours = turns(forward, run, count=harness.QUICK_TURNS if quick else harness.TURNS)
        rates = f"{count / np.median(ours):,.0f} images/s versus {images / np.median(theirs):,.0f}; {recipe}"
        best_told = ", the forward pass's best" if precision == quickest else ""
        ratios = over([t / count for t in ours], [t / images for t in theirs])
        yield Row(f"probe, {what}, {precision}", f"bare forward pass{best_told}", ratios, most=MOST, note=rates)


def against_paper(probed: Probed, best: Best, quick: bool) -> Iterator[Row]:
    """Compare the probe with the paper's method, which forwards one point's 500 images at a time (float32, NCHW)."""
    device = probed.inputs.device
    plain = peers.plain_predict(place(copy.deepcopy(probed.model), TrainSpec(), device))
    radii, directions = TEN[-1:] if quick else TEN, 500
    theirs = peers.with_usual_memory(
        peers.waited(lambda: peers.paper_probe(plain, probed.inputs[:1], probed.labels[:1], radii, directions), device)
    )
    ours = {precision: probed.under(recipe) for precision, (recipe, _) in best.items()}
    paper, *times = turns(theirs, *(run for run, _ in ours.values()), count=harness.QUICK_TURNS if quick else 5)
    per_image = [t / (len(radii) * directions) for t in paper]
    for (precision, (_, count)), found in zip(ours.items(), times, strict=True):
        recipe, _ = best[precision]
        told = "" if precision == "float32" else bf16_told(probed, recipe)
        rates = f"{count / np.median(found):,.0f} images/s versus {1 / np.median(per_image):,.0f}; {recipe}{told}"
        ratios = over(per_image, [t / count for t in found])
        aim = LEAST[precision] if precision == "float32" or harness.has_bf16() else None
        yield Row(f"probe, cnn 28x28, {precision}", "the paper's way", ratios, least=aim, note=rates)


def bf16_told(probed: Probed, recipe: peers.Recipe) -> str:
    """Describe how much bf16 changes label confidences at the points that the probe visits."""
    images = (probed.inputs[:, None] + peers.rays(probed.inputs, SPHERE.radii)).flatten(0, 1)
    labels = torch.from_numpy(probed.labels).to(images.device).repeat_interleave(len(SPHERE.radii))
    found = []
    for spec in (TrainSpec(), recipe.spec):
        predict = predictor(place(copy.deepcopy(probed.model), spec, images.device), spec)
        found.append(score(torch.cat([predict(part) for part in images.split(100)]), labels, [1.0])[1])
    apart = (found[0] - found[1]).abs()
    return f"; label confidences differ from float32 by {apart.max():.2g} at most, {apart.mean():.2g} on average"


def best_of(spec: ModelSpec, probed: Probed, batches: tuple[int, ...], images: int, quick: bool) -> Best:
    """Return each precision's recipe with the fastest bare forward pass, and its seconds per image."""
    shape, device = tuple(probed.inputs.shape[1:]), probed.inputs.device
    return {
        precision: peers.best_forward(spec, shape, precision, batches, images, device, 1 if quick else 3)
        for precision in ("float32", "bf16")
    }


def rows(quick: bool) -> Iterator[Row]:
    device, images = peers.start(), 500 if quick else 1000
    cnn = of_cnn(6 if quick else 20, device, quick)
    best = best_of(peers.CNN, cnn, (64,) if quick else (32, 64, 128, 250, 500), images, quick)
    yield from against_forward("cnn 28x28", cnn, best, 2 * images, quick)
    yield from against_paper(cnn, best, quick)
    resnext, images = of_resnext(2, device, quick), 32 if quick else 256
    best = best_of(peers.RESNEXT, resnext, (32,) if quick else (64, 128, 256), images, quick)
    yield from against_forward("ResNeXt-50 32x32", resnext, best, images, quick)


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return the stage, points, seconds and peak bytes above what was resident, for the CNN's probe at three sizes."""
    device, sizes = peers.start(), (10, 30, 100) if quick else (100, 300, 900)
    whole, recipe = of_cnn(sizes[-1], device, quick), TrainSpec(channels_last=True, eval_batch=64)
    spec, predict = dataclasses.replace(SPHERE, directions=2), predictor(whole.model, recipe)
    found = []
    for points in sizes:
        part = Probed(whole.model, whole.inputs[:points], whole.labels[:points], spec)
        found.append(("probe, by points", float(points), *peers.grown(lambda part=part: part.run(predict, recipe))))
    return found


if __name__ == "__main__":
    main(rows, __doc__, growth)
