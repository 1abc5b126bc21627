"""Measure how far collages without planted overlap overlap naturally, with a forecaster that knows how they're made.

Fashion-MNIST must be in the data root.

Two CNNs classify upper and lower halves of Fashion-MNIST images, and are calibrated by temperature scaling. The
forecaster knows which pairs of image classes are regions, and with which masses; by Bayes' rule, it turns the two
classifiers' probabilities for a collage into probabilities of its region, and hence of its class. It is scored on
halves of images that no classifier saw. Its KL is an upper bound of what no classifier of these images could avoid,
so growth of the KL with k that it shares can't be separated from natural overlap. A line per layout has the KL at
each k, and its slope on log k, for the controls of ``controls.yaml``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from halobench import fit_temperature
from halobench.calibration.scores.sample_scores import cross_entropy, softmax
from halobench.core.seeding import generator
from halobench.data.distribution import layout_generator, overlap_regions
from halobench.data.loaders.collage import of_classes
from halobench.data.sources import plain_images
from halobench.models.architectures import cnn
from halobench.reporting.plotting import class_families
from halobench.storage import tables_io

# Each family's image classes, whose halves are used, and its k.
FAMILIES = {
    "fashion-overlap": ([*range(10)], (4, 10, 20, 40, 66)),
    "fashion-apart": ([1, 3, 5, 7, 8, 9], (4, 8, 16, 24)),
}
LAYOUTS = (0, 1, 2)
TRAIN, VALIDATION = 4 / 7, 1 / 14  # shares of the images
DRAWS = 40_000
OUT = Path(__file__).with_suffix(".csv")
EPOCHS, BATCH, WIDTH = 10, 128, 24


def expert(train: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """Train a CNN on halves (n, C, h, w) with Adam, and a learning rate that falls to 0."""
    model = cnn.build(tuple(train.shape[1:]), int(labels.max()) + 1, width=WIDTH)
    steps = EPOCHS * (len(train) // BATCH)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train))[: len(train) // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(train[rows]), labels[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def log_probabilities(halves: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return calibrated log-probabilities (n, C) of the last of the halves, which no expert was fitted to."""
    train, stop = round(TRAIN * len(labels)), round((TRAIN + VALIDATION) * len(labels))
    inputs, targets = torch.from_numpy(halves.astype(np.float32) / 255 - 0.3), torch.from_numpy(labels)
    model = expert(inputs[:train], targets[:train])
    with torch.no_grad():
        logits = torch.cat([model(part) for part in inputs[train:].split(1000)]).double().numpy()
    fit = fit_temperature(logits[: stop - train], labels[train:stop])
    tested, of_tested = logits[stop - train :] * fit.beta, labels[stop:]
    error, nll = (tested.argmax(axis=1) != of_tested).mean(), cross_entropy(tested, of_tested).mean()
    print(f"a half's class: error {error:.3f}, NLL {nll:.3f}", flush=True)
    return np.log(softmax(tested))


def kl(k: int, layout: int, upper: np.ndarray, lower: np.ndarray, labels: np.ndarray) -> float:
    """Return the forecaster's KL in nats, with the log-probabilities (n, C) of halves with `labels` (n,)."""
    regions, rng = overlap_regions(k, 2, 0.5, [1, 0]), generator(0, "half expert", f"{k}/{layout}")
    count = upper.shape[1]
    pairs = np.stack(np.divmod(layout_generator(layout).permutation(count**2)[: len(regions.mass)], count), axis=1)
    region = regions.draw(DRAWS, rng)
    by_class = [np.flatnonzero(labels == j) for j in range(count)]
    drawn = [np.array([rng.choice(by_class[j]) for j in pairs[region, place]]) for place in (0, 1)]
    scores = upper[drawn[0]][:, pairs[:, 0]] + lower[drawn[1]][:, pairs[:, 1]] + np.log(regions.mass)
    forecast = softmax(scores) @ regions.posterior
    return float(-np.log(forecast[np.arange(DRAWS), regions.posterior[region].argmax(axis=1)]).mean())


def main() -> None:
    images = plain_images("images", "fashion_mnist")
    tables = []
    for name, (of, numbers) in FAMILIES.items():
        torch.manual_seed(0)
        chosen = of_classes(images, of)
        order = generator(0, "half expert", "images").permutation(len(chosen.labels))
        pixels, labels = chosen.images[order], chosen.labels[order].astype(np.int64)
        middle = pixels.shape[2] // 2
        upper, lower = (log_probabilities(half, labels) for half in (pixels[:, :, :middle], pixels[:, :, middle:]))
        tested = labels[-len(upper) :]
        for layout in LAYOUTS:
            kls = [kl(k, layout, upper, lower, tested) for k in numbers]
            family = f"{name}-layout{layout}" if layout else name
            table = pd.DataFrame({"family": family, "classes": numbers, "kl": kls})
            print(f"{table.to_string(index=False)}\nslope {class_families.slope(table):.3f}", flush=True)
            tables.append(table)
    tables_io.write_csv(OUT, pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    main()
