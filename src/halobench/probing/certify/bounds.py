"""Bound a network's outputs on balls around samples, first with affine forms, then with CROWN (see docs/halos.md).

Forms are propagated forwards: each expresses an output as an affine function of the offset from the ball's centre, up
to an error. Propagating forms costs as much as one forward pass per input dimension. If a form leaves the sign of a
rectifier's input undetermined, rows are propagated backwards from that input, except at the first rectifiers, whose
forms are exact. Rows are linear functions of a step's outputs, propagated to the network's input through transposed
affine maps, with a line in place of each rectifier.

Bounds cover the rounding of float64 sums of fewer than N terms. Whatever the order of the terms, the rounding is at
most g = N u / (1 - N u) times the sum of the terms' absolute values, where u = 2^-53 (N. J. Higham, Accuracy and
Stability of Numerical Algorithms, 2nd edition, section 3.1). A row A loses at most g |A| H per step, where H bounds the
sum of the absolute values of the terms that a step adds up on the ball; a form is widened by g H. N is the number of
outputs of all steps, plus 64 per step, and g is multiplied by four to cover the rounding of the terms themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from halobench.models.piecewise.maps import Patch
from halobench.models.piecewise.network import Network, Step

HELD = 2**22  # maximum number of elements in the rows held at once
UNIT = 2.0**-53
Bounds = dict[int, tuple[torch.Tensor, torch.Tensor]]  # bounds (m, size) on each rectifier's input, by step


class Lines(NamedTuple):
    """Lines that enclose rectifiers, per sample and unit (m, ...): ``lower x`` and, above it, ``upper x + shift``."""

    lower: torch.Tensor
    upper: torch.Tensor
    shift: torch.Tensor


def lines_around(least: torch.Tensor, most: torch.Tensor) -> Lines:
    """Return lines that enclose relu(x) for x in [least, most]; the lower line is 0 or x, whichever is closer."""
    below, above = least.clamp_max(0), most.clamp_min(0)
    upper = torch.where(below < 0, above / (above - below).clamp_min(1e-300), (above > 0).to(above))
    return Lines((above > -below).to(above), upper, -upper * below)


@dataclass(frozen=True)
class Form:
    """Affine functions of the offset d from a ball's centre: ``slope . d + centre``, up to ``error``."""

    slope: torch.Tensor  # (m, D, ...), or (1, D, ...) if it is the same for all samples
    centre: torch.Tensor  # (m, ...)
    error: torch.Tensor
    reach: torch.Tensor  # largest absolute value of slope . d, which is the radius times the norm of the slope

    @property
    def largest(self) -> torch.Tensor:
        """Return the largest absolute values (m, ...) of the functions on the ball."""
        return self.centre.abs() + self.reach + self.error


@dataclass(frozen=True)
class Rows:
    """Linear functions of the input, each of which bounds a function of a step's outputs from below on its ball."""

    least: torch.Tensor  # (b,), their values at the balls' centres minus the largest possible rounding error
    norms: torch.Tensor  # (b,), their steepest rates of decrease


class Balls:
    """Bounds on a network's values on balls with radii (m,) around samples (m, ...).

    `within` are bounds on balls of the same or larger radii around the same samples, so they also hold for `radii`.
    """

    def __init__(self, network: Network, samples: torch.Tensor, radii: torch.Tensor, within: Bounds | None = None):
        self.network, self.samples, self.radii = network, samples, radii
        terms = sum(step.size + 64 for step in network.steps)
        self.unit = 4 * terms * UNIT / (1 - terms * UNIT)
        self.bounds: Bounds = {}
        self.lines: dict[int, Lines] = {}
        self.costs: list[torch.Tensor] = []  # H of each step, (m, ...)
        forms: dict[int, Form] = {}
        last = {source: place for place, step in enumerate(network.steps) for source in step.sources}
        for place, step in enumerate(network.steps):
            sources = [forms[source] for source in step.sources]
            if step.kind == "relu":
                self._bound(place, step.sources[0], sources[0], within)
            forms[place], cost = self._form(place, step, sources)
            self.costs.append(cost)
            for source in step.sources:
                if last[source] == place:
                    forms.pop(source, None)

    def _form(self, place: int, step: Step, sources: list[Form]) -> tuple[Form, torch.Tensor]:
        """Return a step's form, and H (m, ...) for each sample."""
        if step.kind == "input":
            shape = (len(self.samples), *step.shape)
            slope = torch.eye(step.size, dtype=torch.float64).view(1, step.size, *step.shape)
            radii = self.radii.view(-1, *[1] * len(step.shape)).expand(shape)
            form = Form(slope, self.samples, torch.zeros(shape, dtype=torch.float64), radii)
            return form, form.largest
        first = sources[0]
        if step.affine is not None:
            cost = step.affine.magnitude(first.largest)
            slope = step.affine.linear(first.slope.flatten(0, 1)).unflatten(0, first.slope.shape[:2])
            centre, error = step.affine(first.centre), step.affine.spread(first.error)
        elif step.kind == "relu":
            cost, lines = first.largest, self.lines[place]
            upper, half = lines.upper, lines.shift / 2
            slope, centre, error = first.slope * upper[:, None], first.centre * upper + half, first.error * upper + half
        else:
            cost = first.largest + sources[1].largest
            slope, centre, error = (
                getattr(first, name) + getattr(sources[1], name) for name in ("slope", "centre", "error")
            )
        reach = slope.flatten(2).norm(dim=1) * self.radii[:, None]
        return Form(slope, centre, error + self.unit * cost, reach.view(centre.shape)), cost

    def _bound(self, place: int, source: int, form: Form, within: Bounds | None) -> None:
        """Bound rectifiers' inputs by forms, by `within` and, if signs are unknown and forms inexact, by rows."""
        half = form.reach + form.error
        least, most = ((form.centre + sign * half).flatten(1) for sign in (-1, 1))
        if within:
            least, most = torch.maximum(least, within[place][0]), torch.minimum(most, within[place][1])
        # Forms of affine functions are exact. Rows for the same pixel depend on the same part of the input image.
        if self.lines:
            samples, units = ((least < 0) & (most > 0)).nonzero(as_tuple=True)
            for sample, unit in self._batches(source, samples, units):
                below, above = self._range(source, sample, unit)
                least[sample, unit] = torch.maximum(least[sample, unit], below)
                most[sample, unit] = torch.minimum(most[sample, unit], above)
        self.bounds[place] = least, most
        shape = self.network.steps[place].shape
        self.lines[place] = lines_around(*(each.view(-1, *shape) for each in (least, most)))

    def _batches(self, place: int, samples: torch.Tensor, units: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Split units (b,) of samples (b,) into batches, each for one pixel of an image."""
        steps = self.network.steps[: place + 1]
        count = max(1, HELD // 2 // max(step.size for step in steps))
        spots = units % math.prod(steps[-1].shape[1:]) if len(steps[-1].shape) == 3 else units.new_zeros(len(units))
        spots, order = spots.sort(stable=True)
        sizes = spots.unique_consecutive(return_counts=True)[1].tolist()
        for part in order.split(sizes):
            for chosen in part.split(count):
                yield samples[chosen], units[chosen]

    def _range(self, place: int, sample: torch.Tensor, unit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return bounds (b,), by rows, on the inputs of rectifiers: units (b,) of samples (b,), all at one pixel."""
        shape, corner = self.network.steps[place].shape, (0, 0)
        if len(shape) == 3:
            spot = int(unit[0]) % math.prod(shape[1:])
            corner, unit, shape = (spot // shape[2], spot % shape[2]), unit // math.prod(shape[1:]), (shape[0], 1, 1)
        one = torch.zeros(len(unit), math.prod(shape), dtype=torch.float64).scatter_(1, unit[:, None], 1.0)
        sample = sample.repeat(2)
        rows = self.rows(place, Patch(torch.cat([one, -one]).view(-1, *shape), corner), sample)
        below, above = (rows.least - self.radii[sample] * rows.norms).chunk(2)
        return below, -above

    def rows(self, place: int, patch: Patch, sample: torch.Tensor) -> Rows:
        """Propagate rows (b, ...) of a step's outputs back to the input, on the balls of samples (b,)."""
        constant = slack = patch.rows.new_zeros(len(sample))
        pending = {place: patch}
        for here in range(place, -1, -1):
            if here not in pending:
                continue
            patch, step = pending.pop(here), self.network.steps[here]
            slack = slack + (patch.rows.abs() * self.costs[here][:, *patch.view][sample]).flatten(1).sum(dim=1)
            if step.affine is not None:
                whole = patch if step.affine.local else patch.grown((0, 0), step.shape[1:])
                if step.affine.bias is not None:
                    constant = constant + (whole.rows * step.affine.bias).flatten(1).sum(dim=1)
                patch = step.affine.transpose(whole)
            elif step.kind == "relu":
                patch, shift = self._rectify(here, patch, sample)
                constant = constant + shift
            for source in step.sources:
                pending[source] = pending[source] + patch if source in pending else patch
        centres = self.samples[:, *patch.view][sample]
        least = constant + (patch.rows * centres).flatten(1).sum(dim=1)
        return Rows(least - self.unit * slack, patch.rows.flatten(1).norm(dim=1) * (1 + self.unit))

    def _rectify(self, place: int, patch: Patch, sample: torch.Tensor) -> tuple[Patch, torch.Tensor]:
        """Propagate rows back through a rectifier; return the new rows and the constant (b,) to add."""
        lower, upper, shift = (each[:, *patch.view][sample] for each in self.lines[place])
        falling = patch.rows.clamp_max(0)
        rows = (patch.rows - falling) * lower + falling * upper
        return Patch(rows, patch.corner), (falling * shift).flatten(1).sum(dim=1)
