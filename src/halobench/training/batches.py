"""Provide samples as normalised tensors on a device, kept there if they fit and read ahead in batches otherwise.

Results don't depend on where samples are kept, since samples are normalised by the same operations everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from halobench.core.specs.training import TrainSpec
from halobench.data.splits import Data
from halobench.losses.base import send, staged
from halobench.training.device import memory_format

FLOATS = 2**26  # bytes of normalised samples that the CPU keeps to avoid normalising each batch again
SHARE = 0.5  # share of a GPU's free memory used for samples; weights, optimiser state and activations need the rest
AHEAD = 2  # batches read ahead while one is in use


def form_that_fits(images: Any, device: torch.device) -> str:
    """Return the form in which a device keeps `images`: ``floats``, ``bytes`` or ``nothing``, as in `Batches`.

    A GPU keeps images as they are if they take at most half of its free memory. The CPU keeps normalised samples if
    there are few enough; otherwise, it keeps images that are in memory anyway, but nothing from a larger mapped file.
    """
    size = int(np.prod(images.shape))
    if device.type == "cuda":
        fits = size * np.dtype(images.dtype).itemsize <= SHARE * torch.cuda.mem_get_info(device)[0]
        return "bytes" if fits else "nothing"
    if 4 * size <= FLOATS:
        return "floats"
    in_memory = isinstance(images, np.ndarray) and not isinstance(images, np.memmap)
    return "bytes" if in_memory else "nothing"


class Batches:
    """The samples of a split, in batches; images (n, C, H, W) or features (n, D) may be rows of a mapped file.

    Samples are normalised per channel or feature as by `halobench.data.mapped_rows.normalise`; without a `mean`, they
    must already be normalised. Batches have the memory `layout`. The device can `keep` normalised samples (``floats``),
    images as they are (``bytes``), or ``nothing``, in which case batches are read ahead; the default is the form that
    fits.
    """

    def __init__(
        self,
        images: Any,
        mean: np.ndarray | None = None,
        std: np.ndarray | None = None,
        device: torch.device | str = "cpu",
        layout: torch.memory_format = torch.contiguous_format,
        keep: str | None = None,
    ):
        self.images, self.device, self.layout = images, torch.device(device), layout
        self.statistics = None if mean is None else self._statistics(mean, std)
        self.keep = keep or form_that_fits(images, self.device)
        self.kept: torch.Tensor | None = None
        if self.keep != "nothing":
            kept = torch.from_numpy(np.asarray(images)).to(self.device)
            self.kept = self._in_rows(self._normalised(kept) if self.keep == "floats" else kept)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Return the normalised samples in these rows (m,), as float32 (m, C, H, W) or (m, D) on the device."""
        if self.kept is None:
            return self._normalised(self._read(rows).to(self.device, non_blocking=True))
        return self._kept_rows(self.kept, send(np.ascontiguousarray(rows), self.device))

    def in_order(self, order: np.ndarray, batch: int, first: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the rows (batch,) and samples of each full batch of `order` (n,), from batch `first` on."""
        count = len(order) // batch
        rows = send(np.ascontiguousarray(order), self.device)
        parts = [slice(step * batch, (step + 1) * batch) for step in range(first, count)]
        if self.kept is not None:
            for part in parts:
                yield rows[part], self._kept_rows(self.kept, rows[part])
            return
        with ThreadPoolExecutor(1) as reader:
            waiting = [reader.submit(self._read, order[part]) for part in parts[:AHEAD]]
            for number, part in enumerate(parts):
                images = waiting.pop(0).result()
                if number + AHEAD < len(parts):
                    waiting.append(reader.submit(self._read, order[parts[number + AHEAD]]))
                yield rows[part], self._normalised(images.to(self.device, non_blocking=True))

    def _statistics(self, mean: np.ndarray, std: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and inverse std, (1, C, 1, 1) or (1, D), rounded as in `mapped_rows.normalise`."""
        numbers = (np.asarray(mean, np.float32), (1 / np.asarray(std)).astype(np.float32))
        ones = [1] * (len(self.images.shape) - 2)
        centre, scale = (torch.from_numpy(each).view(1, -1, *ones).to(self.device) for each in numbers)
        return centre, scale

    def _read(self, rows: np.ndarray) -> torch.Tensor:
        """Return unchanged rows of the images, ready to be copied to the device."""
        return staged(np.ascontiguousarray(self.images[rows]), self.device)

    def _kept_rows(self, kept: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return normalised rows of the kept tensor."""
        images = self._images(kept.index_select(0, rows))
        return images if self.keep == "floats" else self._normalised(images)

    def _in_rows(self, images: torch.Tensor) -> torch.Tensor:
        """Flatten images to rows (n, D) in the layout's memory order, so that each row is read in one piece."""
        last = self.layout == torch.channels_last
        return (images.permute(0, 2, 3, 1) if last else images).contiguous().flatten(1)

    def _images(self, rows: torch.Tensor) -> torch.Tensor:
        """View rows (m, D) in the layout's memory order as images (m, C, H, W), without copying them."""
        if self.layout != torch.channels_last:
            return rows.view(-1, *self.images.shape[1:])
        channels, height, width = self.images.shape[1:]
        return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return images as float32 in the layout, normalised if there are statistics."""
        samples = images.float()
        if self.statistics is not None:
            samples = (samples - self.statistics[0]) * self.statistics[1]
        return samples.contiguous(memory_format=self.layout)


def batches_of(images: Any, spec: TrainSpec, device: torch.device, data: Data | None = None) -> Batches:
    """Return the batches of `images` (n, ...) in the recipe's layout, normalised as `data` specifies, if passed."""
    mean, std = (None, None) if data is None else (data.mean, data.std)
    return Batches(images, mean, std, device, memory_format(spec))
