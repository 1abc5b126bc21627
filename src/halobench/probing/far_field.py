"""Find the class, if any, of which a network becomes certain infinitely far from a sample (see docs/halos.md).

Along a ray x + t d, a network of affine maps, sums, rectifiers and max pooling is piecewise affine in the distance t
(in the units of normalised inputs, for unit d), with finitely many pieces. On the last piece, each value in the network
has the form a + b t. `_last_piece` computes the pairs (a, b) layer by layer, without evaluating the network far away.
The class whose logit has the largest slope b wins: its confidence never falls on the last piece, and tends to 1 if no
other class has the same slope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from halobench.core.errors import DivergedError, Found, SpecError, require
from halobench.models.piecewise.exact import exact_network
from halobench.models.piecewise.network import Network
from halobench.probing.checks import check_confidence, check_model

ROUNDED = 1e-12  # slopes and gaps below this fraction of their terms count as rounding errors
HALVINGS = 60
DISTANCES = (1e3, 1e5, 1e7)  # distances at which other networks are evaluated
NEARLY_ONE = 1e-4  # how far the confidence at the last distance may be below 1 and still count as tending to 1


@dataclass(frozen=True)
class FarField:
    """The limit of the confidence along R rays from each of n samples; distances are in the units of the samples.

    Attributes
    ----------
    classes : int64 array (n, R)
        The class that has the largest logit far away: on the last affine piece if `exact`, else at the last of the
        `DISTANCES`.
    tends_to_one : bool array (n, R)
        Whether the confidence in the class in `classes` tends to 1.
    slope_gap : float64 array (n, R)
        How much faster the logit of the class in `classes` grows than any other logit, per unit of distance. A gap that
        rounding could cause counts as 0.
    last_kink : float64 array (n, R)
        The last distance at which a rectifier or a comparison in max pooling changes its decision, or 0 if there is
        none; NaN if not `exact`. Beyond this distance, the logits are affine.
    certain_from : float64 array (n, R)
        The smallest distance, at or beyond the last kink, from which the confidence in the class in `classes` is always
        at least the level; infinite if the confidence doesn't tend to 1.
    exact : bool
        Whether the results were derived from the last affine piece of the network. Otherwise, the logits were evaluated
        at `DISTANCES`, and a finite certain_from is one of these. A confidence then counts as tending to 1 if, at the
        last distance, it is within `NEARLY_ONE` of 1 and at least the level.
    reason : str
        One line that explains why the results aren't exact; empty if they are.
    """

    classes: np.ndarray
    tends_to_one: np.ndarray
    slope_gap: np.ndarray
    last_kink: np.ndarray
    certain_from: np.ndarray
    exact: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Tails:
    """The logits far away along rays (r,), as a + b t beyond the last kink or as values at `DISTANCES`."""

    offsets: torch.Tensor  # a (r, k), or the last values
    slopes: torch.Tensor  # b (r, k), or slopes between the last two values
    kinks: torch.Tensor  # (r,)
    sizes: torch.Tensor  # (r, k), sums of the absolute values of the slopes' terms in the last step
    read: torch.Tensor | None = None  # logits (r, 3, k) at DISTANCES
    reason: str = ""


def far_field(
    model: torch.nn.Module, inputs: torch.Tensor, directions: torch.Tensor, level: float = 0.9, beta: float = 1.0
) -> FarField:
    """Determine the class, if any, of which a model becomes certain along each ray, infinitely far from the samples.

    For most networks with only linear layers, convolutions, batch norm, ReLU, average and max pooling, resizing,
    flatten, addition and dropout, the result is exact, apart from float64 rounding. All other models are evaluated at
    distances of 1e3, 1e5 and 1e7, and the result's ``reason`` says why it isn't exact.

    Parameters
    ----------
    model : nn.Module
        Maps inputs (b, ...) to logits (b, k); must be in eval mode.
    inputs : float tensor (n, ...)
        Samples on the model's device; results are distances in their units, e.g. normalised pixels.
    directions : float tensor (n, R, D)
        Directions of any positive length, with their D numbers in the order of a flattened sample.
    level : float
        Confidence, in (0, 1). Of exact results, only ``certain_from`` depends on it.
    beta : float
        Positive inverse temperature. Of exact results, only ``certain_from`` depends on it.

    Returns
    -------
    FarField

    Raises
    ------
    SpecError
        If a module is in train mode, or an argument isn't as described above.
    DivergedError
        If a logit is not finite along a ray.
    """
    check_model(model, inputs, np.zeros(len(inputs), dtype=np.int64))
    check_directions(inputs, directions)
    check_confidence(level, beta)
    require(beta < math.inf, "beta", beta, "a finite inverse temperature")
    return describe(tails(model, inputs, directions), directions.shape[1], level, beta)


def check_directions(inputs: torch.Tensor, directions: torch.Tensor) -> None:
    """Raise SpecError unless the directions are finite, of non-zero length and of shape (n, R, D)."""
    is_tensor = isinstance(directions, torch.Tensor) and directions.is_floating_point() and directions.dim() == 3
    value = Found(f"shape {tuple(getattr(directions, 'shape', ()))}")
    size = inputs[0].numel()
    fits = is_tensor and directions.shape[::2] == (len(inputs), size) and directions.shape[1] >= 1
    require(fits, "directions", value, f"a float tensor of shape ({len(inputs)}, R, {size})")
    lengths = directions.double().norm(dim=2)
    finite = torch.isfinite(lengths).all() and (lengths > 0).all()
    require(finite, "directions", Found("a zero or non-finite direction"), "finite directions of non-zero length")


def tails(model: torch.nn.Module, inputs: torch.Tensor, directions: torch.Tensor, batch: int = 250) -> Tails:
    """Compute the logits far away along directions (n, R, D) from samples (n, ...), `batch` rays at a time."""
    rays, directions = directions.shape[1], directions.to(inputs.device, torch.float64)
    ways = (directions / directions.norm(dim=2, keepdim=True)).flatten(0, 1)
    ways = ways.view(-1, *inputs.shape[1:])
    starts = inputs.double().repeat_interleave(rays, dim=0)
    pairs = list(zip(starts.split(batch), ways.split(batch), strict=True))
    with torch.no_grad():
        try:
            network, reason = exact_network(model, inputs.double()), ""
        except SpecError as error:
            network, reason = None, str(error)
        if network is not None:
            parts = [_last_piece(network, start, way) for start, way in pairs]
            offsets, slopes, kinks, sizes = (torch.cat(each) for each in zip(*parts, strict=True))
            return Tails(offsets, slopes, kinks, sizes)
        read = torch.cat([_read(model, start, way, inputs.dtype) for start, way in pairs])
    slopes = (read[:, -1] - read[:, -2]) / (DISTANCES[-1] - DISTANCES[-2])
    return Tails(read[:, -1], slopes, torch.full_like(read[:, 0, 0], torch.nan), slopes.abs(), read, reason)


def _last_piece(
    network: Network, starts: torch.Tensor, ways: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the logits' offsets and slopes on the last affine piece, its start, and the slopes' `sizes`.

    Once all rectifiers before it have made their final decisions, a rectifier's argument a + b t is affine, and its own
    decision is final beyond -a / b. The last kink is therefore the largest of the distances -a / b over all
    rectifiers, or 0 if none is positive.
    """
    offsets, slopes = [starts], [ways]
    last, size = starts.new_zeros(len(starts)), ways.abs()
    for step in network.steps[1:]:
        a, b = offsets[step.sources[0]], slopes[step.sources[0]]
        if step.affine is not None:
            size = step.affine.spread(b.abs())
            a, b = step.affine(a), step.affine.linear(b)
        elif step.kind == "add":
            size = b.abs() + slopes[step.sources[1]].abs()
            a, b = a + offsets[step.sources[1]], b + slopes[step.sources[1]]
        else:
            kinks = torch.where(b == 0, 0.0, -a / b)
            last = torch.maximum(last, kinks.flatten(1).amax(dim=1))
            passes = (b > 0) | ((b == 0) & (a > 0))
            offsets.append(torch.where(passes, a, 0.0))
            slopes.append(torch.where(passes, b, 0.0))
            size = slopes[-1]
            continue
        offsets.append(a)
        slopes.append(torch.where(b.abs() <= ROUNDED * size, 0.0, b))
    if not (torch.isfinite(offsets[-1]).all() and torch.isfinite(slopes[-1]).all()):
        raise DivergedError("logits are not finite along a ray")
    return offsets[-1], slopes[-1], last, size


def _read(model: torch.nn.Module, starts: torch.Tensor, ways: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a model's logits (r, 3, k) at `DISTANCES`."""
    logits = torch.stack([model((starts + far * ways).to(dtype)).double() for far in DISTANCES], dim=1)
    if not torch.isfinite(logits).all():
        raise DivergedError(f"logits are not finite within a distance of {DISTANCES[-1]:g} from a sample")
    return logits


def describe(tails: Tails, rays: int, level: float, beta: float) -> FarField:
    """Return the limiting behaviour of the confidence at an inverse temperature, along `rays` rays per sample."""
    exact = tails.read is None
    steepest = _lead(tails, tails.slopes.argmax(dim=1)) == 0
    classes = torch.where(steepest, tails.offsets, -torch.inf).argmax(dim=1) if exact else tails.offsets.argmax(dim=1)
    gap = _lead(tails, classes).scatter(1, classes[:, None], torch.inf).amin(dim=1)
    if exact:
        one, start = gap > 0, _certain_from(tails, classes, level, beta)
    else:
        one, start = _certain_read(tails, classes, level, beta)
    arrays = {"classes": classes, "tends_to_one": one, "slope_gap": gap, "last_kink": tails.kinks}
    arrays["certain_from"] = torch.where(one, start, torch.inf)
    shaped = {name: values.cpu().numpy().reshape(-1, rays) for name, values in arrays.items()}
    return FarField(**shaped, exact=exact, reason=tails.reason)


def _lead(tails: Tails, classes: torch.Tensor) -> torch.Tensor:
    """Return the slopes of `classes` (r,) minus each slope (r, k), with 0 for differences that rounding could cause."""
    column = classes[:, None]
    lead = tails.slopes.gather(1, column) - tails.slopes
    size = tails.sizes.gather(1, column) + tails.sizes
    return torch.where(lead.abs() <= ROUNDED * size, 0.0, lead)


def _certain_from(tails: Tails, classes: torch.Tensor, level: float, beta: float) -> torch.Tensor:
    """Return the distance (r,), at or beyond the last kink, from which the confidence is always at least the level.

    The distance is found by bisection between the last kink and a distance at which the other classes are so far behind
    that the confidence must have reached the level.
    """
    column, need = classes[:, None], math.log(level) - math.log1p(-level)
    ahead = beta * (tails.offsets.gather(1, column) - tails.offsets)
    speed = beta * (tails.slopes.gather(1, column) - tails.slopes)
    labelled = torch.zeros_like(ahead, dtype=torch.bool).scatter(1, column, True)

    def reaches(distance: torch.Tensor) -> torch.Tensor:
        behind = (-(ahead + speed * distance[:, None])).masked_fill(labelled, -torch.inf)
        return -behind.logsumexp(dim=1) >= need

    enough = (need + math.log(max(ahead.shape[1] - 1, 1)) - ahead) / speed
    high = torch.maximum(torch.where(labelled | (speed <= 0), -torch.inf, enough).amax(dim=1), tails.kinks)
    low, reached = tails.kinks, reaches(tails.kinks)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        over = reaches(middle)
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return torch.where(reached, tails.kinks, high)


def _certain_read(tails: Tails, classes: torch.Tensor, level: float, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return whether confidences count as tending to 1, and from which of `DISTANCES` on they are at least the level.

    The distance is infinite if the confidence at the last of the `DISTANCES` is below the level.
    """
    assert tails.read is not None
    column = classes[:, None, None].expand(-1, len(DISTANCES), 1)
    confidences = torch.softmax(beta * tails.read, dim=2).gather(2, column)[:, :, 0]
    one = (confidences[:, -1] >= 1 - NEARLY_ONE) & (confidences[:, -1] >= level)
    holds = (confidences >= level).flip(1).cumprod(dim=1).sum(dim=1)  # how many consecutive ones, up to the last
    far = confidences.new_tensor([*DISTANCES, torch.inf])
    return one, far[len(DISTANCES) - holds]
