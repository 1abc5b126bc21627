"""Compare random directions with the worst one at the decision boundary, where untrained networks can be measured too.

``python -m studies.halos.untrained CELL ...`` takes folders of cells, such as
``results/runs/digits/mlp-untrained/cross_entropy/seed0``. An untrained network isn't certain of anything, but it
decides for a class. Here, each sample's label is the class that the network decides for, and an infinite inverse
temperature makes confidence fall from 1 to 0 at the boundary of that class. For each cell, a line shows the median
distance at which an attack ends the decision, the lower quartile and the median of how many times further random rays
get, and the share of rays that get more than `FAR` times as far. The last lines show the same for flat boundaries.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from halobench import attacked_radius, open_cell
from halobench.theory import half_space_factor, half_space_survival

SAMPLES, RAYS = 32, 20
FAR = 200.0
FACTORS = np.geomspace(1, FAR, 107)  # in steps of 5%
BETA = float("inf")


def factors(folder: str) -> tuple[int, float, np.ndarray]:
    """The number of classes decided for, the median attacked radius, and how many times further random rays get."""
    cell = open_cell(folder)
    inputs = torch.from_numpy(cell.data.inputs("train"))
    rng, model = np.random.default_rng(0), cell.model.eval()
    with torch.no_grad():
        own = model(inputs).argmax(dim=1).numpy()
        chosen = rng.permutation(len(inputs))[:SAMPLES]
        samples, labels = inputs[chosen], own[chosen]
    radius = attacked_radius(model, samples, labels, level=0.5, beta=BETA)
    found = []
    for sample, label, reach in zip(samples, labels, radius, strict=True):
        directions = torch.from_numpy(rng.standard_normal((RAYS, sample.numel()), dtype=np.float32))
        directions *= float(reach) / directions.norm(dim=1, keepdim=True)
        steps = torch.from_numpy(FACTORS.astype(np.float32))[:, None, None] * directions
        with torch.no_grad():
            decided = model((sample.flatten() + steps).reshape(-1, *sample.shape)).argmax(dim=1).numpy()
        ended = (decided != label).reshape(len(FACTORS), RAYS)
        found.append(np.where(ended.any(axis=0), FACTORS[ended.argmax(axis=0)], np.inf))
    return len(set(own)), float(np.median(radius)), np.concatenate(found)


def main() -> None:
    print(f"{'':50} classes  attacked  quartile  median  beyond")
    for folder in sys.argv[1:]:
        classes, radius, found = factors(folder)
        quartile, median = (np.quantile(found, level, method="lower") for level in (0.25, 0.5))
        name = "/".join(folder.rstrip("/").split("/")[-4:])
        print(f"{name:50} {classes:7} {radius:9.3f} {quartile:9.1f} {median:7.1f} {np.isinf(found).mean():7.2f}")
    for dimension in (64, 784):
        for planes in (1, 9):
            quartile, median = (half_space_factor(dimension, planes, level) for level in (0.25, 0.5))
            beyond = float(half_space_survival(FAR, 1.0, dimension, planes))
            name = f"flat boundaries: {planes}, in {dimension} dimensions"
            print(f"{name:50} {'':7} {'':9} {quartile:9.1f} {median:7.1f} {beyond:7.2f}")


if __name__ == "__main__":
    main()
