"""Count the forward passes that a probe needs for a given precision: `python benchmarks/precision.py [--quick]`.

The baseline is the paper's probe, which visits every training point, at 10 radii, with 500 directions each. Both
estimate the same quantity, the mean label confidence over all training points at each radius. A pilot of 200 points
determines how many points and directions reduce its standard error, at the radius where points differ most, to 0.005
(`halobench.probing.sample_size`). The pilot's forward passes are counted too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import harness
import numpy as np
import peers_torch as peers
import torch
from harness import Row, main
from torch import nn

from halobench.core.specs import ModelSpec, ProbeSpec, TrainSpec
from halobench.data.splits import Data
from halobench.probing.probe import ProbeOptions, choose_samples, confidences, probe
from halobench.probing.ray_walk import predictor
from halobench.probing.rays import Surroundings
from halobench.probing.sample_size import components, estimated_variance, needed, variance

RADII, DIRECTIONS = np.linspace(0, 10, 10), 500  # the paper's
TARGET, MOST = 0.005, 1 / 200
PILOT = (200, 4)
MODELS = {
    "mlp": (ModelSpec("mlp"), TrainSpec(lr=3e-3, epochs=5, eval_batch=500)),
    "cnn": (peers.CNN, TrainSpec(lr=3e-3, epochs=3, batch=100, eval_batch=64, channels_last=True)),
}


@dataclass
class Asked:
    """A trained model, its training points, and the number of images that it has been evaluated on."""

    model: nn.Module
    data: Data
    recipe: TrainSpec
    images: int = 0

    def __post_init__(self):
        self.inputs, self.labels = torch.from_numpy(self.data.inputs("train")), self.data.splits["train"].labels
        self.around, self.plain = Surroundings(self.inputs, self.labels), predictor(self.model, self.recipe)

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        self.images += len(batch)
        return self.plain(batch)

    def read(self, spec: ProbeSpec, seed: int) -> np.ndarray:
        """Return label confidences (m, R, radii) around the spec's points, which are drawn without replacement."""
        return self._ask(confidences, spec, seed)

    def probed(self, spec: ProbeSpec, seed: int) -> np.ndarray:
        """Return the probe's mean label confidence by radius; the probe also searches for radii of certainty."""
        return self._ask(probe, spec, seed).curves["confidence"].to_numpy()[: len(spec.radii)]

    def _ask(self, how: Callable[..., Any], spec: ProbeSpec, seed: int) -> Any:
        """Return what `how`, the probe or its pilot, finds around the points drawn with a seed."""
        rows = choose_samples(len(self.labels), spec.points, np.random.default_rng((seed, 0)))
        points, rng = self.inputs[torch.from_numpy(rows)], np.random.default_rng((seed, 1))
        batch = self.recipe.eval_batch
        return how(
            self.predict, points, self.labels[rows], spec, self.around, rng=rng, options=ProbeOptions(batch=batch)
        )


def row(name: str, train: int, quick: bool) -> Row:
    """Return the number of images that the pilot and the probe forward, over the paper's, for several seeds."""
    model, recipe = MODELS[name]
    asked = Asked(*peers.trained(model, train, recipe), recipe)
    radii = tuple(map(float, RADII))
    spec = ProbeSpec("sphere", PILOT[0], directions=PILOT[1], radii=radii, relative_radii=(1.0,), bisections=1)

    values = asked.read(spec, seed=1000)
    pilot, spreads = asked.images, [components(values[:, :, column]) for column in range(len(radii))]
    worst = int(np.argmax([variance(spread, 1, 1, train) for spread in spreads]))
    points, directions = needed(spreads[worst], train, TARGET)

    ratios, means = [], []
    suggested = replace(spec, points=points, directions=directions)
    for seed in range(harness.QUICK_TURNS if quick else 20):
        asked.images = pilot
        means.append(asked.probed(suggested, seed)[worst])
        ratios.append(asked.images / (train * len(RADII) * DIRECTIONS))
    told = math.sqrt(estimated_variance(asked.read(replace(suggested, directions=2), 0)[:, :1, worst], train))
    exact = replace(spec, points=train, directions=10 if quick else 40, radii=(radii[worst],))
    error = math.sqrt(np.mean((np.asarray(means) - asked.read(exact, 2000)[:, :, 0].mean()) ** 2))
    note = (
        f"{points} of {train} points, {directions} directions, at distance {radii[worst]:.1f}; root mean square error"
        f" {error:.4f} over {len(means)} seeds, confidence_se {told:.4f}; 1/{1 / np.median(ratios):,.0f}"
    )
    what = f"forward images to a standard error of {TARGET}, {name}"
    return Row(what, "the paper's way, whose own error is smaller still", ratios, most=MOST, note=note)


def rows(quick: bool) -> Iterator[Row]:
    peers.start()
    for name in ["mlp"] if quick else MODELS:
        yield row(name, 500 if quick else 4000, quick)


if __name__ == "__main__":
    main(rows, __doc__)
