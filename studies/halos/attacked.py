"""Draw training samples, the nearest places at which an attack ends their certainty, and a random step as long.

``python -m studies.halos.attacked OUT.png CELL ...`` takes folders of cells of images, such as
``results/runs/digits/mlp/mixup2/seed0``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from halobench import attacked, open_cell
from halobench.reporting import labels
from halobench.reporting.plotting.panel_grid import add_head, blank_figure
from halobench.reporting.plotting.style import styled

SAMPLES = 6  # of a cell, whose confidence is at least the level
LEVEL = 0.9
TITLE = "How little it takes to end certainty around a training image"
NOTE = (
    f"Above each image: confidence in the label trained on. Middle: the nearest place with less than {LEVEL:g} that an"
    " attack found; Δ is its distance, as a multiple of that to the nearest training image of another label. Right: a"
    " random step of the same length."
)


def confidence(model: torch.nn.Module, inputs: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    """The confidence in each label."""
    with torch.no_grad():
        return torch.softmax(model(inputs), dim=1).numpy()[np.arange(len(targets)), targets]


def rows_of(folder: Path) -> list[list[tuple[np.ndarray, str]]]:
    """For each sample: image and words of the sample, of the attacked one, and of one a random step away."""
    cell = open_cell(folder)
    train = cell.data.splits["train"]
    inputs = torch.from_numpy(cell.data.inputs("train"))
    certain = np.flatnonzero(confidence(cell.model, inputs, train.labels) >= LEVEL)[:SAMPLES]
    points, targets = inputs[certain], train.labels[certain]
    found = attacked(cell.model, points, targets, level=LEVEL)
    steps = torch.from_numpy(np.random.default_rng(0).standard_normal(points.shape).astype(np.float32))
    lengths = torch.from_numpy(found.radius.astype(np.float32)).view(-1, *[1] * (points.dim() - 1))
    steps = points + lengths * steps / steps.flatten(1).norm(dim=1).view_as(lengths)
    others = [
        float((inputs[train.labels != label] - point).flatten(1).norm(dim=1).min())
        for point, label in zip(points, targets, strict=True)
    ]
    shown = []
    for kind, places in (("", points), ("Δ", found.points), ("", steps)):
        values = confidence(cell.model, places, targets)
        deltas = [f", Δ = {r / other:.2f}" if kind else "" for r, other in zip(found.radius, others, strict=True)]
        shown.append([(place[0].numpy(), f"{v:.2f}{d}") for place, v, d in zip(places, values, deltas, strict=True)])
    return [list(row) for row in zip(*shown, strict=True)]


@styled
def draw(folders: list[Path]) -> Figure:
    """A block of three columns per cell, a row per sample."""
    blocks = [rows_of(folder) for folder in folders]
    figure = blank_figure(3.2 * len(folders), 1.15 * SAMPLES)
    axes = figure.subplots(SAMPLES, 3 * len(folders))
    for block, (folder, rows) in enumerate(zip(folders, blocks, strict=True)):
        dataset, model, loss = folder.resolve().parts[-4:-1]
        heading = f"{labels.cell_label(dataset, model)}\n{labels.loss_label(loss)}\n\n"
        for i, row in enumerate(rows):
            for j, (image, words) in enumerate(row):
                ax = axes[i, 3 * block + j]
                ax.imshow(image, cmap="gray", vmin=rows[i][0][0].min(), vmax=rows[i][0][0].max())
                above = heading if (i, j) == (0, 1) else ""
                ax.set_title(above + words, size=7, pad=2)
                ax.set_axis_off()
    add_head(figure, TITLE, NOTE)
    return figure


def main() -> None:
    """Draw the cells that the command line names."""
    out, *folders = map(Path, sys.argv[1:])
    draw(folders).savefig(out, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
