"""Certified radii of many samples at once, beside a loop over samples: `python benchmarks/certify.py [--quick]`.

In one thread: of an MLP trained on images of mnist5k, and of a CNN with random weights around random images of 8 x 8.
"""

from __future__ import annotations

from collections.abc import Iterator

import harness
import numpy as np
import peers_torch as peers
import torch
from harness import Row, main, over, turns
from torch import nn

from halobench import certified_radius
from halobench.core.specs import ModelSpec, TrainSpec

LEAST = {"mlp": 2.0, "cnn": 1.2}
SEARCHED = 0.05  # relative: searches end within 2 %, and rounding may take them along other radii


def of_mlp(count: int, device: torch.device, quick: bool) -> tuple[nn.Module, torch.Tensor]:
    """An MLP, trained on images of mnist5k, and some of them."""
    recipe = TrainSpec(lr=3e-3, epochs=3 if quick else 20, device=str(device))
    model, data = peers.trained(ModelSpec("mlp"), 500 if quick else 1000, recipe)
    return model, torch.from_numpy(data.inputs("train")[:count])


def of_cnn(count: int, device: torch.device, quick: bool) -> tuple[nn.Module, torch.Tensor]:
    """A CNN with random weights, made as certain as a trained one, and random images."""
    model = peers.build(ModelSpec("cnn", {"width": 8 if quick else 24}), (1, 8, 8), TrainSpec(), device).eval()
    images = peers.noise(count, (1, 8, 8), device)
    with torch.no_grad():
        model[-1].weight.mul_(10 / model(images).std())
    return model, images


def rows(quick: bool) -> Iterator[Row]:
    device = peers.start()
    for name, made in (
        ("mlp", of_mlp(8 if quick else 64, device, quick)),
        ("cnn", of_cnn(3 if quick else 16, device, quick)),
    ):
        model, images = made
        labels = model(images).argmax(dim=1).numpy()
        single = [(images[i : i + 1], labels[i : i + 1]) for i in range(len(images))]

        def batched(model=model, images=images, labels=labels) -> np.ndarray:
            return certified_radius(model, images, labels, 0.5)

        def looped(model=model, single=single) -> np.ndarray:
            return np.concatenate([certified_radius(model, *each, 0.5) for each in single])

        np.testing.assert_allclose(batched(), looped(), rtol=SEARCHED)
        ours, theirs = turns(batched, looped, count=harness.QUICK_TURNS if quick else harness.TURNS)
        note = f"{np.median(ours) / len(images):.3g} s a sample"
        yield Row(f"certified radii, {name}", "a loop over samples", over(theirs, ours), least=LEAST[name], note=note)


if __name__ == "__main__":
    main(rows, __doc__)
