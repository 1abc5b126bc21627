"""Wrap models so that they first resize or normalise their images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core.errors import require
from halobench.core.specs.model import Normalisation

Moments = tuple[np.ndarray, np.ndarray]  # mean and standard deviation per channel


class Resize(nn.Module):
    """Resizes images to `side` x `side` (with antialiasing if they shrink)."""

    def __init__(self, side: int, mode: str = "bilinear"):
        super().__init__()
        self.side, self.mode = side, mode

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(
            images, size=(self.side, self.side), mode=self.mode, antialias=max(images.shape[-2:]) > self.side
        )


class Resized(nn.Module):
    """A model that first resizes its images, and any training samples that it is built around."""

    def __init__(self, model: Any, side: int):
        super().__init__()
        self.model, self.resize = model, Resize(side)
        if hasattr(model, "start"):
            self.start = lambda inputs, targets: model.start(self.resize(inputs), targets)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(self.resize(images))


class Normalise(nn.Module):
    """Multiplies each channel by `scale` and adds `offset`; a single channel is repeated for each entry of `scale`."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, scale: np.ndarray, offset: np.ndarray):
        super().__init__()
        for name, values in (("scale", scale), ("offset", offset)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.scale + self.offset


class Preprocessed(nn.Module):
    """A model preceded by its own preprocessing, for images that are normalised for a data set.

    The preprocessing undoes the data set's normalisation, resizes images to `side` (unless it is None), and
    normalises pixels in [0, 1] by the model's moments (mean and standard deviation). The data set's moments are for
    pixel values up to 255. If the probe walks beyond the valid pixel range, the model sees pixels outside [0, 1].
    """

    def __init__(
        self,
        model: nn.Module,
        data_moments: Moments,
        model_moments: Moments,
        side: int | None,
        interpolation: str = "bicubic",
    ):
        super().__init__()
        self.model, self.resize = model, Resize(side, interpolation) if side is not None else None
        (mean, std), (own_mean, own_std) = data_moments, model_moments
        # (x std + mean) / 255 is in [0, 1]; together with the model's own normalisation, this is a single multiply-add.
        scale = np.asarray(std) / 255 / np.asarray(own_std)
        offset = (np.asarray(mean) / 255 - np.asarray(own_mean)) / np.asarray(own_std)
        self.normalise = Normalise(scale, offset)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        points = self.normalise(images)
        if self.resize is not None and tuple(points.shape[-2:]) != (self.resize.side, self.resize.side):
            points = self.resize(points)
        return self.model(points)


def preprocessed(model: nn.Module, moments: Moments, side: int | None) -> Preprocessed:
    """Wrap a timm model in timm's own preprocessing, at size `side` or else at the size that its weights expect."""
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(model)
    channels = len(moments[0])
    # For grey images, timm sums the first layer's weights over the colours, so means and stds are averaged too.
    by_colour = [np.asarray(config[key]) for key in ("mean", "std")]
    mean, std = (values if len(values) == channels else np.full(channels, values.mean()) for values in by_colour)
    return Preprocessed(model, moments, (mean, std), side or config["input_size"][-1], config["interpolation"])


def coloured(channels: int, by: Normalisation) -> int:
    """Return the number of channels after normalisation; three means or stds turn grey images into colour images."""
    return 3 if channels == 1 and 3 in (len(by.mean), len(by.std)) else channels


def normalised(model: nn.Module, moments: Moments, by: Normalisation, side: int | None) -> Preprocessed:
    """Wrap a model in the normalisation that its spec requests, `by`."""
    channels = coloured(len(moments[0]), by)
    for key, values in (("mean", by.mean), ("std", by.std)):
        what = f"one number, or one for each of the {channels} channels"
        require(len(values) in (1, channels), f"preprocess.{key}", list(values), what)
    mean, std = (np.broadcast_to(np.asarray(values), channels) for values in (by.mean, by.std))
    return Preprocessed(model, moments, (mean, std), side, "bilinear")
