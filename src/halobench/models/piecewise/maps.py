"""Define the affine maps that networks consist of, with their transposes, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Patch:
    """Coefficients (b, ...) of a step's outputs; for images, a part (b, C, h, w), outside which coefficients are 0."""

    rows: torch.Tensor
    corner: tuple[int, int] = (0, 0)  # top and left position of the part in the image

    @property
    def view(self) -> tuple[slice, ...]:
        """Return the index of the part (C, h, w) within an image; () if the outputs aren't images."""
        if self.rows.dim() != 4:
            return ()
        top, left = self.corner
        height, width = self.rows.shape[-2:]
        return slice(None), slice(top, top + height), slice(left, left + width)

    def grown(self, corner: tuple[int, int], end: Sequence[int]) -> Patch:
        """Pad the patch with zeros to cover the part from `corner` up to `end`."""
        if self.rows.dim() != 4 or (self.corner == corner and self.end == tuple(end)):
            return self
        (top, left), (bottom, right) = self.corner, self.end
        padding = (left - corner[1], end[1] - right, top - corner[0], end[0] - bottom)
        return Patch(F.pad(self.rows, padding), corner)

    @property
    def end(self) -> tuple[int, int]:
        """Return the position (row, column) just past the last row and column of the part."""
        return self.corner[0] + self.rows.shape[-2], self.corner[1] + self.rows.shape[-1]

    def __add__(self, other: Patch) -> Patch:
        if self.rows.dim() != 4:
            return Patch(self.rows + other.rows)
        corner, end = (
            (of(each[0][0], each[1][0]), of(each[0][1], each[1][1]))
            for of, each in ((min, (self.corner, other.corner)), (max, (self.end, other.end)))
        )
        return Patch(self.grown(corner, end).rows + other.grown(corner, end).rows, corner)


@dataclass(frozen=True)
class Affine:
    """An affine map of samples (n, ...)."""

    linear: Map
    transpose: Callable[[Patch], Patch]  # of the linear part; maps a patch of outputs to one of inputs
    absolute: Map | None = None  # the linear part with absolute values of its coefficients, if any are negative
    bias: torch.Tensor | None = None
    terms: torch.Tensor | None = None  # sum of the absolute values of the bias's terms, if the bias isn't exact
    local: bool = True  # whether `transpose` accepts part of an image, not only all of it

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the map's outputs for samples (n, ...)."""
        outputs = self.linear(inputs)
        return outputs if self.bias is None else outputs + self.bias

    def spread(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the largest possible change of each output if the inputs change by at most `inputs`."""
        return (self.absolute or self.linear)(inputs)

    def magnitude(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the largest sum of absolute values of each output's terms for inputs of at most `inputs` in size."""
        spread = self.spread(inputs)
        if self.bias is None:
            return spread
        return spread + (self.bias.abs() if self.terms is None else self.terms)


def dense(layer: nn.Linear) -> Affine:
    """Return the map of a linear layer, along the last axis."""
    weight, bias = layer.weight.double(), _double(layer.bias)
    absolute = weight.abs()
    # Applied to an image, this mixes its columns, so it can't be restricted to a part.
    return Affine(
        lambda x: F.linear(x, weight),
        lambda a: Patch(a.rows @ weight),
        lambda x: F.linear(x, absolute),
        bias,
        local=False,
    )


def convolution(layer: nn.Conv2d, shape: Sequence[int]) -> Affine:
    """Return the map of a convolution for images of shape (C, H, W)."""
    weight, bias = layer.weight.double(), _double(layer.bias)
    stride, dilation = layer.stride, layer.dilation
    padding = cast("tuple[int, int]", layer.padding)

    def transpose(patch: Patch) -> Patch:
        """Map coefficients of outputs to coefficients of the inputs in their windows, cutting off the padding."""
        count, channels, *sides = len(patch.rows), shape[0], *patch.rows.shape[2:]
        seen = [
            (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(sides, stride, dilation, weight.shape[2:], strict=True)
        ]
        whole = (count, channels, *seen)
        rows = conv2d_input(whole, weight, patch.rows, stride, 0, dilation, layer.groups)
        return _cut(rows, [c * s - p for c, s, p in zip(patch.corner, stride, padding, strict=True)], shape)

    def linear(inputs: torch.Tensor, weights: torch.Tensor = weight) -> torch.Tensor:
        return F.conv2d(inputs, weights, None, stride, padding, dilation, layer.groups)

    bias = None if bias is None else bias.view(-1, 1, 1)
    return Affine(linear, transpose, lambda x: linear(x, weight.abs()), bias)


def _cut(rows: torch.Tensor, start: Sequence[int], shape: Sequence[int]) -> Patch:
    """Return the part of images that begins at `start` as a patch, cropped to images of the given shape."""
    (top, left), (height, width) = start, shape[1:]
    rows = rows[..., max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    return Patch(rows, (max(0, top), max(0, left)))


def taps(shape: Sequence[int], axis: int, count: int, stride: int, weights: dict[int, int]) -> Affine:
    """Return the map to `count` weighted sums of pixels, `stride` apart along axis 1 or 2; `weights` are by offset."""
    first, last = min(weights), max(weights)

    def view(start: int, number: int) -> tuple[Any, ...]:
        along = slice(start, start + (number - 1) * stride + 1, stride)
        return (..., along, slice(None)) if axis == 1 else (..., along)

    def linear(inputs: torch.Tensor, sign: bool = True) -> torch.Tensor:
        parts = [inputs[view(offset, count)] * (w if sign else abs(w)) for offset, w in weights.items()]
        return torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]

    def transpose(patch: Patch) -> Patch:
        sides, corner = list(patch.rows.shape), list(patch.corner)
        number = sides[axis + 1]
        sides[axis + 1] = (number - 1) * stride + 1 + last - first
        corner[axis - 1] = corner[axis - 1] * stride + first
        rows = patch.rows.new_zeros(sides)
        for offset, weight in weights.items():
            rows[view(offset - first, number)] += weight * patch.rows
        return Patch(rows, (corner[0], corner[1]))

    return Affine(linear, transpose, lambda x: linear(x, sign=False))


def normalisation(layer: nn.BatchNorm1d | nn.BatchNorm2d, shape: Sequence[int]) -> Affine:
    """Return the map of a batch norm in eval mode, which has one factor and one shift per channel."""
    mean, variance = (cast("torch.Tensor", each).double() for each in (layer.running_mean, layer.running_var))
    factor = 1 / (variance + layer.eps).sqrt()
    if layer.weight is not None:
        factor = factor * layer.weight.double()
    shift = -mean * factor
    terms = shift.abs()
    if layer.bias is not None:
        shift, terms = shift + layer.bias.double(), terms + layer.bias.double().abs()
    factor, shift, terms = (each.view(-1, *[1] * (len(shape) - 1)) for each in (factor, shift, terms))
    return Affine(
        lambda x: x * factor, lambda a: Patch(a.rows * factor, a.corner), lambda x: x * factor.abs(), shift, terms
    )


def reshaped(shape: Sequence[int]) -> Affine:
    """Return the map that flattens samples of the given shape."""
    return Affine(lambda x: x.flatten(1), lambda a: Patch(a.rows.view(len(a.rows), *shape)))


def without_weights(linear: Map, shape: Sequence[int]) -> Affine:
    """Return a linear map as `Affine`; its `absolute` is right only if an output's coefficients have the same sign."""

    def transpose(patch: Patch) -> Patch:
        with torch.enable_grad():
            inputs = patch.rows.new_zeros(len(patch.rows), *shape).requires_grad_()
            return Patch(torch.autograd.grad(linear(inputs), inputs, patch.rows)[0])

    return Affine(linear, transpose, lambda x: linear(x).abs(), local=False)


def resized(linear: Map, shape: Sequence[int]) -> Affine:
    """Return a map that resizes an image's rows and columns separately, such as a bicubic one, as `Affine`."""
    _, height, width = shape
    by_row = torch.eye(height, dtype=torch.float64)[:, None, :, None].expand(-1, 1, -1, width)
    by_column = torch.eye(width, dtype=torch.float64)[:, None, None, :].expand(-1, 1, height, -1)
    # An image that is constant along an axis stays so, since the coefficients of each output sum to 1.
    rows, columns = linear(by_row.contiguous())[:, 0, :, 0].abs(), linear(by_column.contiguous())[:, 0, 0, :].abs()

    def absolute(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nihw,hr,wc->nirc", x, rows.to(x), columns.to(x))

    return replace(without_weights(linear, shape), absolute=absolute)


NEGATIVE = Affine(torch.neg, lambda a: Patch(-a.rows, a.corner), lambda x: x)


def _double(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values.double()
