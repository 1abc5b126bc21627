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

from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.probing.probe import ProbeOptions, probe
from halobench.probing.ray_walk import predictor
from halobench.probing.rays import TrainingPoints
from halobench.training.device import kept_casts, memory_format, place

# The paper's distances; relative distances and the bisection of radii are the suite's own additions.
SPHERE = ProbeSpec("sphere", directions=16, radii=tuple(map(float, range(11))))
TEN = np.linspace(0, 10, 10)
MOST, LEAST = 1.2, {"float32": 3.0, "bf16": 4.0}


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
        with kept_casts(peers.CPU):
            probe(predict, self.inputs, self.labels, self.spec, around, rng=rng, options=options)

    def under(self, recipe: TrainSpec) -> tuple[Callable[[], None], int]:
        """Return the probe with a recipe, and the number of images that it forwards."""
        model = self.placed(recipe)
        counted = peers.Counted(predictor(model, recipe))
        self.run(counted, recipe)
        predict = predictor(model, recipe)
        return lambda: self.run(predict, recipe), counted.images

    def placed(self, spec: TrainSpec) -> nn.Module:
        """Return a copy of the model in a recipe's layout."""
        return place(copy.deepcopy(self.model), spec, peers.CPU)


def of_cnn(points: int, quick: bool) -> Probed:
    """Return the CNN, trained on images of mnist5k and probed around some of them."""
    recipe = TrainSpec(lr=3e-3, epochs=3 if quick else 8, channels_last=True)
    model, data = peers.trained(peers.CNN, 500 if quick else 1000, recipe)
    inputs = torch.from_numpy(data.inputs("train")[:points])
    return Probed(model, inputs, data.splits["train"].labels[:points])


def of_resnext(points: int, quick: bool) -> Probed:
    """Return a ResNeXt-50 with random weights, probed around random images of 3 x 32 x 32."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.standard_normal((points, 3, 32, 32), dtype=np.float32))
    model = peers.build(peers.RESNEXT, (3, 32, 32), TrainSpec())
    spec = dataclasses.replace(SPHERE, directions=2) if quick else SPHERE
    return Probed(model, inputs, np.arange(points) % 10, spec)


Best = dict[str, tuple[TrainSpec, float]]


def rates(ours: float, theirs: float, recipe: TrainSpec) -> str:
    """Return both sides' images per second, and how our model is evaluated."""
    return f"{ours:,.0f} images/s versus {theirs:,.0f}; {peers.described(recipe)}"


def against_forward(what: str, probed: Probed, best: Best, noise: torch.Tensor, quick: bool) -> Iterator[Row]:
    """Compare the probe with the bare forward pass of noise at its fastest, for each precision."""
    quickest = min(best, key=lambda precision: best[precision][1])
    for precision, (recipe, _) in best.items():
        forward = peers.raw_forward(probed.placed(recipe), noise, recipe)
        run, count = probed.under(recipe)
        theirs, ours = turns(forward, run, count=harness.QUICK_TURNS if quick else harness.TURNS)
        note = rates(count / np.median(ours), len(noise) / np.median(theirs), recipe)
        best_said = ", the forward pass's best" if precision == quickest else ""
        ratios = over([t / count for t in ours], [t / len(noise) for t in theirs])
        yield Row(f"probe, {what}, {precision}", f"bare forward pass{best_said}", ratios, most=MOST, note=note)


def against_paper(probed: Probed, best: Best, quick: bool) -> Iterator[Row]:
    """Compare the probe with the paper's method, which forwards one point's 500 images at a time (float32, NCHW)."""
    plain = torch.no_grad()(probed.placed(TrainSpec()))
    radii, directions = TEN[-1:] if quick else TEN, 500
    theirs = peers.with_usual_memory(
        lambda: peers.paper_probe(plain, probed.inputs[:1], probed.labels[:1], radii, directions)
    )
    ours = {precision: probed.under(recipe) for precision, (recipe, _) in best.items()}
    paper, *times = turns(theirs, *(run for run, _ in ours.values()), count=harness.QUICK_TURNS if quick else 5)
    per_image = [t / (len(radii) * directions) for t in paper]
    for (precision, (_, count)), found in zip(ours.items(), times, strict=True):
        note = rates(count / np.median(found), 1 / np.median(per_image), best[precision][0])
        ratios = over(per_image, [t / count for t in found])
        aim = LEAST[precision] if precision == "float32" or harness.has_bf16() else None
        yield Row(f"probe, cnn 28x28, {precision}", "the paper's way", ratios, least=aim, note=note)


def rows(quick: bool) -> Iterator[Row]:
    peers.start()
    count = 1 if quick else 3
    cnn, noise = of_cnn(6 if quick else 20, quick), peers.noise(1000 if quick else 2000, (1, 28, 28))
    batches = (64,) if quick else (32, 64, 128, 250, 500)
    best = peers.best_forwards(peers.CNN, noise[: len(noise) // 2], batches, count)
    yield from against_forward("cnn 28x28", cnn, best, noise, quick)
    yield from against_paper(cnn, best, quick)
    resnext, noise = of_resnext(2, quick), peers.noise(32 if quick else 256, (3, 32, 32))
    best = peers.best_forwards(peers.RESNEXT, noise, (32,) if quick else (64, 128, 256), count)
    yield from against_forward("ResNeXt-50 32x32", resnext, best, noise, quick)


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return the stage, points, seconds and peak bytes above what was resident, for the CNN's probe at three sizes."""
    peers.start()
    sizes = (10, 30, 100) if quick else (100, 300, 900)
    whole, recipe = of_cnn(sizes[-1], quick), TrainSpec(channels_last=True, eval_batch=64)
    spec, predict = dataclasses.replace(SPHERE, directions=2), predictor(whole.model, recipe)
    found = []
    for points in sizes:
        part = Probed(whole.model, whole.inputs[:points], whole.labels[:points], spec)
        found.append(("probe, by points", float(points), *peers.grown(lambda part=part: part.run(predict, recipe))))
    return found


if __name__ == "__main__":
    main(rows, __doc__, growth)
