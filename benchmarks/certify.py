"""Compare certified and attacked radii of many samples at once with a loop: `python benchmarks/certify.py [--quick]`.

The models are an MLP trained on images of mnist5k, and a CNN with random weights around random images of 8 x 8 pixels.
Everything runs in one thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import harness
import numpy as np
import peers_torch as peers
import torch
from harness import Row, main, over, turns
from torch import nn

from halobench import Effort, attacked_radius, certified_radius
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import TrainSpec

LEAST = {("certified", "mlp"): 2.0, ("certified", "cnn"): 1.2, ("attacked", "mlp"): 3.0, ("attacked", "cnn"): 1.2}
SEARCHED = 0.05  # relative; searches end within 2 %, and rounding may lead them through different radii


def of_mlp(count: int, device: torch.device, quick: bool) -> tuple[nn.Module, torch.Tensor]:
    """Return an MLP trained on images of mnist5k, and some of those images."""
    recipe = TrainSpec(lr=3e-3, epochs=3 if quick else 20, device=str(device))
    model, data = peers.trained(ModelSpec("mlp"), 500 if quick else 1000, recipe)
    return model, torch.from_numpy(data.inputs("train")[:count])


def of_cnn(count: int, device: torch.device, quick: bool) -> tuple[nn.Module, torch.Tensor]:
    """Return a CNN with random weights, scaled to be as certain as a trained one, and random images."""
    model = peers.build(ModelSpec("cnn", {"width": 8 if quick else 24}), (1, 8, 8), TrainSpec(), device).eval()
    images = peers.noise(count, (1, 8, 8), device)
    with torch.no_grad():
        model[-1].weight.mul_(10 / model(images).std())
    return model, images


def joined(parts: Iterable[Callable[[], np.ndarray]]) -> np.ndarray:
    """Concatenate what all parts return."""
    return np.concatenate([part() for part in parts])


def attacked(model: nn.Module, images: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Return attacked radii, starting only at each sample, since other starts are drawn for all samples together."""
    return attacked_radius(model, images, labels, 0.5, effort=Effort(restarts=1))


def certified(model: nn.Module, images: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Return certified radii."""
    return certified_radius(model, images, labels, 0.5)


def rows(quick: bool) -> Iterator[Row]:
    device = peers.start()
    for name, (model, images) in (
        ("mlp", of_mlp(8 if quick else 64, device, quick)),
        ("cnn", of_cnn(3 if quick else 16, device, quick)),
    ):
        labels = model(images).argmax(dim=1).numpy()
        for search in (certified, attacked):
            batched = functools.partial(search, model, images, labels)
            single = zip(images.split(1), labels[:, None], strict=True)
            looped = functools.partial(joined, [functools.partial(search, model, *each) for each in single])
            found, one_by_one = batched(), looped()
            assert np.abs(found - one_by_one).mean() <= SEARCHED * found.mean()
            ours, theirs = turns(batched, looped, count=harness.QUICK_TURNS if quick else harness.TURNS)
            what, note = f"{search.__name__} radii, {name}", f"{np.median(ours) / len(images):.3g} s per sample"
            yield Row(what, "a loop over samples", over(theirs, ours), least=LEAST[search.__name__, name], note=note)


if __name__ == "__main__":
    main(rows, __doc__)
