"""Baselines for the benchmarks that use torch: the paper's probe, the bare forward pass and step, and a DataLoader."""

from __future__ import annotations

import ctypes
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import harness
import numpy as np
import torch
from torch import nn

from halobench.core.specs.data import DatasetSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data import sources, splits
from halobench.data.splits import Data
from halobench.models import builder
from halobench.models.batchnorm_folding import folded
from halobench.training.device import autocast, keep_freed_memory, memory_format, place
from halobench.training.train_cell import train_cell

CNN = ModelSpec("cnn")
RESNEXT = ModelSpec("torchvision/resnext50_32x4d")
CPU = torch.device("cpu")


def described(recipe: TrainSpec) -> str:
    """Return how a model is evaluated by a recipe: the precision, the layout and the images per forward pass."""
    return f"{recipe.precision} {'channels_last' if recipe.channels_last else 'NCHW'} batch {recipe.eval_batch}"


def start() -> None:
    """Set torch up as the workflow's jobs do, with one thread."""
    torch.set_num_threads(1)
    keep_freed_memory()


def with_usual_memory(function: Callable[[], object]) -> Callable[[], None]:
    """Make `function` run with glibc's own thresholds, at the largest values they grow to, not those that jobs set."""

    def run() -> None:
        keep_freed_memory(2**26, 2**25)
        function()
        keep_freed_memory()

    return run


def grown(function: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a call, and its peak of resident bytes above what there was before (Linux, glibc)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # otherwise, reusing memory freed earlier would go unnoticed
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before, began = peak_bytes(), time.perf_counter()
    function()
    seconds = time.perf_counter() - began
    return seconds, float(peak_bytes() - before)


def peak_bytes() -> int:
    """Return the largest resident size of this program so far, in bytes (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


class Counted:
    """A predictor that counts the images passed to it."""

    def __init__(self, predict: Callable[[torch.Tensor], torch.Tensor]):
        self.predict, self.images = predict, 0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.images += len(batch)
        return self.predict(batch)


def build(spec: ModelSpec, shape: tuple[int, int, int], recipe: TrainSpec, device: torch.device = CPU) -> nn.Module:
    """Build a model with random weights, the same each time, in eval mode and the recipe's layout."""
    torch.manual_seed(0)
    return place(builder.build(spec, shape, 10), recipe, device).eval()


def raw_forward(model: nn.Module, images: torch.Tensor, recipe: TrainSpec) -> Callable[[], None]:
    """Return the bare forward pass, in batches, of resident `images` (n, C, H, W) through the model that is probed.

    Batch norm is folded, and autocast's casts of the weights are kept.
    """
    model = folded(model)
    batches = [part.contiguous(memory_format=memory_format(recipe)) for part in images.split(recipe.eval_batch)]

    @torch.inference_mode()
    def run() -> None:
        with autocast(recipe, CPU):  # around all batches, so weights are cast only once
            for batch in batches:
                model(batch)

    return run


def best_forwards(
    spec: ModelSpec, images: torch.Tensor, batches: Iterable[int], turns: int
) -> dict[str, tuple[TrainSpec, float]]:
    """Return the recipe with the fastest bare forward pass of images, and its seconds, for each precision."""
    found = {}
    for precision in ("float32", "bf16"):
        tried = []
        for channels_last, batch in itertools.product((False, True), batches):
            recipe = TrainSpec(eval_batch=batch, channels_last=channels_last, precision=precision)
            run = raw_forward(build(spec, tuple(images.shape[1:]), recipe), images, recipe)
            (times,) = harness.turns(run, count=turns)
            tried.append((recipe, statistics.median(times)))
        found[precision] = min(tried, key=lambda one: one[1])
    return found


def paper_probe(
    predict: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    labels: np.ndarray,
    radii: np.ndarray,
    directions: int = 500,
) -> tuple[np.ndarray, np.ndarray]:
    """Run the probe as the paper describes it, one point and one radius at a time, drawing new directions for each.

    Returns the mean label confidence and logit gap of the points `inputs` (n, C, H, W), as arrays (n, len(radii)).
    """
    confidences, gaps = np.zeros((2, len(inputs), len(radii)))
    for (row, point), (column, radius) in itertools.product(enumerate(inputs), enumerate(radii)):
        noise = torch.randn(directions, *point.shape)
        noise = noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        logits, label = predict(point + float(radius) * noise), int(labels[row])
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        confidences[row, column] = logits.softmax(dim=1)[:, label].mean().item()
        gaps[row, column] = (logits[:, label] - others.max(dim=1).values).mean().item()
    return confidences, gaps


def take_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, spec: TrainSpec
) -> None:
    """Take a training step, as written in tutorials, on a batch (n, C, H, W) with integer labels (n,)."""
    optimizer.zero_grad(set_to_none=True)
    with autocast(spec, images.device):
        logits = model(images)
    nn.functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()


class Items(torch.utils.data.Dataset):
    """uint8 images (n, C, H, W) and labels, passed through torchvision's transforms one item at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: np.ndarray, std: np.ndarray):
        from torchvision import transforms

        self.images, self.labels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels
        moments = ((np.asarray(mean) / 255).tolist(), (np.asarray(std) / 255).tolist())
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*moments)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[row]), int(self.labels[row])


def loader_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, items: Items, spec: TrainSpec, workers: int
) -> Callable[[], None]:
    """Return an epoch with a shuffling DataLoader, as written in tutorials, in a recipe's layout and precision."""
    loader = torch.utils.data.DataLoader(
        items, spec.batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )

    def run() -> None:
        model.train()
        for images, labels in loader:
            take_step(model, optimizer, images.contiguous(memory_format=memory_format(spec)), labels, spec)

    return run


def digits(train: int, folder: Path) -> Data:
    """Return `train` training images of mnist5k, with 28 x 28 pixels, and 500 each for validation and testing."""
    sources.write_source(SourceSpec("mnist5k"), folder)
    return splits.load_data(folder, DatasetSpec("mnist5k", train, 500, 500), seed=0)


def trained(model: ModelSpec, train: int, spec: TrainSpec) -> tuple[nn.Module, Data]:
    """Return a model in eval mode, trained on images of mnist5k with a recipe, and its data."""
    with tempfile.TemporaryDirectory() as folder:
        found = digits(train, Path(folder))
    cell = train_cell(found, model, LossSpec("cross_entropy"), spec, seed=0, log=lambda line: None)
    return cell.model.eval(), found


def noise(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return random images (count, C, H, W), the same each time."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))
