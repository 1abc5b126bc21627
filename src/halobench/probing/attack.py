"""Attack confidences: search for the nearest point at which the confidence in a sample's label is below a level.

The level is either a given confidence or half the confidence at the sample itself. At an infinite inverse temperature,
the confidence is 1 if the label has the largest logit and 0 if not, so the search is for the nearest change of
decision.

The search is a minimum-norm attack in the style of FMN (Pintor et al., NeurIPS 2021), without box constraints: like a
ray, it may leave the valid pixel range. The length of a step is a share of the current limit on the distance. Until a
point below the level is found, the limit is slightly more than the distance at which, according to the gradient, the
confidence falls below the level. After that, the limit shrinks at points below the level and grows at others. From each
starting point, the search follows the gradient of the margin of the label y, with logits z,

    beta z_y - log sum_{j != y} exp(beta z_j) - log(level / (1 - level)),

which is negative where the confidence is below the level, and whose gradient doesn't vanish where the confidence is
nearly 1; at an infinite beta, the margin is z_y - max_{j != y} z_j. For each `Goal`, the search ends with bisections
along the best directions found, and keeps the nearest crossing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from halobench.core.errors import DivergedError, require
from halobench.core.seeding import generator
from halobench.probing.checks import check_confidence, check_model
from halobench.probing.run_search import as_function

HALVINGS = 24  # bisections along the best direction
START_HALVINGS = 8  # bisections along the line to a start
REACH = 1e5  # the largest distance tried, in normalised inputs
NUMBERS = 2**22  # maximum number of elements in the inputs held at once
STEP = (1.0, 0.01)  # first and last step size, relative to the distance, as in FMN
CHANGE = (0.05, 0.001)  # first and last relative change of the distance per step


@dataclass(frozen=True)
class Effort:
    """The norm that an attack uses, and how long it searches.

    Attributes
    ----------
    norm : str
        Norm used to measure distances, ``l2`` or ``inf``.
    restarts, steps : int
        Number of starts per sample for the first goal (later goals have two), and of gradient steps from each start.
    batch : int
        Largest number of inputs per forward pass.
    """

    norm: Literal["l2", "inf"] = "l2"
    restarts: int = 3
    steps: int = 50
    batch: int = 250

    def __post_init__(self):
        require(self.norm in ("l2", "inf"), "norm", self.norm, "l2 or inf")
        for key in ("restarts", "steps", "batch"):
            value = getattr(self, key)
            require(isinstance(value, int) and value >= 1, key, value, "a whole number of at least 1")

    def length(self, offsets: torch.Tensor) -> torch.Tensor:
        """Return the lengths (r,) of offsets (r, D)."""
        return offsets.norm(dim=1) if self.norm == "l2" else offsets.abs().amax(dim=1)

    def steepest(self, slopes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return steps of length 1 that most increase margins with slopes (r, D), and the rates of increase (r,)."""
        size = slopes.norm(dim=1) if self.norm == "l2" else slopes.abs().sum(dim=1)
        ways = slopes / size.clamp_min(1e-30)[:, None] if self.norm == "l2" else slopes.sign()
        return ways, size

    def shorten(self, offsets: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
        """Return the offsets nearest to `offsets` whose lengths are at most `most` (r,)."""
        if self.norm == "inf":
            return torch.maximum(torch.minimum(offsets, most[:, None]), -most[:, None])
        return offsets * (most / self.length(offsets).clamp_min(1e-30)).clamp(max=1)[:, None]


@dataclass(frozen=True)
class Attacked:
    """The nearest points found below the level around n samples.

    Attributes
    ----------
    radius : float64 array (n,)
        The distance of each point from its sample: 0 if the confidence at the sample itself is below the level, and the
        largest distance tried if no point was found.
    censored : bool array (n,)
        True if no point was found.
    points : float tensor (n, ...)
        The points, or the sample itself if no point was found.
    """

    radius: np.ndarray
    censored: np.ndarray
    points: torch.Tensor


@dataclass(frozen=True)
class Goal:
    """What an attack looks for: a confidence below `level` at an inverse temperature `beta`, which may be infinite.

    If `level` is None, the level is half the confidence at the sample itself.
    """

    beta: float
    level: float | None


DECISION = Goal(math.inf, 0.5)  # another class has the largest logit


@dataclass(frozen=True)
class _Margin:
    """A model's margins around samples (r, ...) with labels (r,), minus the log odds of their levels (r,)."""

    model: torch.nn.Module
    samples: torch.Tensor
    labels: torch.Tensor
    beta: float
    levels: torch.Tensor
    batch: int

    def towards(self, goal: Goal) -> _Margin:
        """Return the margins that are negative where a goal is reached."""
        plain = replace(self, beta=goal.beta, levels=torch.zeros_like(self.levels))
        if goal.level is None:
            # The logit of p / 2, where p = sigmoid(m), is -log(1 + 2 exp(-m)).
            start = plain.at(torch.zeros_like(self.samples.flatten(1)))
            return replace(plain, levels=-torch.nn.functional.softplus(math.log(2) - start))
        if math.isinf(goal.beta):
            return plain
        return replace(plain, levels=plain.levels + math.log(goal.level) - math.log1p(-goal.level))

    def rows(self, which: torch.Tensor) -> _Margin:
        """Return the margins around the samples in the given rows, which may be repeated."""
        return replace(self, samples=self.samples[which], labels=self.labels[which], levels=self.levels[which])

    def at(self, offsets: torch.Tensor) -> torch.Tensor:
        """Return the margins (r,) at offsets (r, D) from the samples, in float64."""
        with torch.no_grad():
            return torch.cat([self._read(self._places(offsets, part), part) for part in self._parts()])

    def slopes(self, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the margins (r,) and their gradients (r, D) at offsets (r, D) from the samples."""
        margins, slopes = [], []
        for part in self._parts():
            places = self._places(offsets, part).requires_grad_()
            margin = self._read(places.clone(), part)  # cloned, since the model may change it in place
            # Logits that depend on the input through comparisons alone have no gradient.
            slope = torch.autograd.grad(margin.sum(), places)[0] if margin.requires_grad else torch.zeros_like(places)
            margins.append(margin.detach())
            slopes.append(slope.flatten(1))
        return torch.cat(margins), torch.cat(slopes)

    def _parts(self) -> list[slice]:
        return [slice(start, start + self.batch) for start in range(0, len(self.labels), self.batch)]

    def _places(self, offsets: torch.Tensor, part: slice) -> torch.Tensor:
        samples = self.samples[part]
        return samples + offsets[part].view_as(samples)

    def _read(self, places: torch.Tensor, part: slice) -> torch.Tensor:
        decides = math.isinf(self.beta)
        logits = self.model(places).double() * (1.0 if decides else self.beta)
        column = self.labels[part, None]
        others = logits.scatter(1, column, -torch.inf)
        largest = others.amax(dim=1) if decides else others.logsumexp(dim=1)
        margin = logits.gather(1, column)[:, 0] - largest - self.levels[part]
        if not torch.isfinite(margin).all():
            raise DivergedError("logits are not finite near an attacked sample")
        return margin


def attack(
    model: torch.nn.Module,
    samples: torch.Tensor,
    labels: np.ndarray,
    *,
    goals: Sequence[Goal],
    rng: np.random.Generator,
    effort: Effort,
    others: torch.Tensor | None = None,
) -> list[Attacked]:
    """Attack samples (m, ...), and return what was found for each goal.

    The caller must enter the context `halobench.probing.run_search.as_function`. For the first goal, the search uses
    the first `restarts` of these starts: the sample, `others` (m, D), which are samples with other labels, and random
    points. For each later goal, the search starts at the sample and at the point that the latest successful search
    found or, if no search has succeeded, at the last of the first goal's starts.
    """
    targets = torch.from_numpy(labels).to(samples.device)
    searches = []  # by goal: the offsets found, and the largest distances tried
    starts = _starts(samples, others, effort.restarts, rng)
    zeros = torch.zeros(len(samples), dtype=torch.float64, device=samples.device)
    plain = _Margin(model, samples, targets, 1.0, zeros, effort.batch)
    margins = [plain.towards(goal) for goal in goals]
    for margin in margins:
        offsets, farthest = _descend(margin, starts, effort)
        searches.append((offsets, farthest))
        starts = [torch.zeros_like(offsets), torch.where(torch.isfinite(offsets), offsets, starts[-1])]
    candidates = [offsets for offsets, _ in searches]
    return [_nearest(margin, candidates, far, effort) for margin, (_, far) in zip(margins, searches, strict=True)]


def _starts(
    samples: torch.Tensor, others: torch.Tensor | None, restarts: int, rng: np.random.Generator
) -> list[torch.Tensor]:
    """Return the first `restarts` of these starting offsets (m, D): zero, offsets to `others`, and random ones."""
    flat = samples.flatten(1)
    starts = [torch.zeros_like(flat)] + ([others - flat] if others is not None else [])
    for _ in range(restarts - len(starts)):
        starts.append(torch.from_numpy(rng.standard_normal(tuple(flat.shape), dtype=np.float32)).to(flat))
    return starts[:restarts]


def _descend(margin: _Margin, starts: list[torch.Tensor], effort: Effort) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shortest offsets (m, D) found below the level (NaN if none), and the largest distances tried."""
    count = len(margin.labels)
    above = (margin.at(torch.zeros_like(starts[0])) >= 0).nonzero()[:, 0]
    best, farthest = torch.zeros_like(starts[0]), torch.zeros(count, dtype=torch.float64, device=above.device)
    if not len(above):
        return best, farthest
    rows = above.repeat(len(starts))
    offsets, lengths, tried = _follow(margin.rows(rows), torch.cat([start[above] for start in starts]), effort)
    lengths, tried = lengths.view(len(starts), -1), tried.view(len(starts), -1)
    shortest, which = lengths.min(dim=0)
    chosen = offsets.view(len(starts), len(above), -1)[which, torch.arange(len(above), device=which.device)]
    best[above] = torch.where(torch.isinf(shortest)[:, None], torch.nan, chosen)
    farthest[above] = tried.amax(dim=0).double()
    return best, farthest


def _follow(margin: _Margin, starts: torch.Tensor, effort: Effort) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Follow the gradient of the margin from starts (r, D).

    Returns the shortest offsets found below the level, their lengths (infinite if none was found), and the largest
    distances tried.
    """
    offsets = _first(margin, starts, effort)
    best, lengths = offsets, torch.full_like(offsets[:, 0], torch.inf)
    allowed = farthest = effort.length(offsets)
    for step in range(effort.steps):
        values, slopes = margin.slopes(offsets)
        ways, rise = effort.steepest(slopes)
        length, below = effort.length(offsets), values < 0
        farthest, shorter = torch.maximum(farthest, length), below & (length < lengths)
        best = torch.where(shorter[:, None], offsets, best)
        lengths = torch.where(shorter, length, lengths)
        anneal = (1 + math.cos(math.pi * step / effort.steps)) / 2
        size, change = (last + (first - last) * anneal for first, last in (STEP, CHANGE))
        linear = length + (values / rise.double().clamp_min(1e-30)).to(length)
        # Go slightly farther than the gradient suggests: steps that end exactly at the level would never be below it.
        larger = torch.where(torch.isinf(lengths), linear, allowed) * (1 + change)
        allowed = torch.where(below, torch.minimum(allowed * (1 - change), lengths), larger).clamp(max=REACH)
        # Without a gradient, continue straight ahead.
        ways = torch.where(rise[:, None] > 0, ways, -offsets / length.clamp_min(1e-30)[:, None])
        offsets = effort.shorten(offsets - size * allowed[:, None] * ways, allowed)
    return best, lengths, farthest


def _first(margin: _Margin, starts: torch.Tensor, effort: Effort) -> torch.Tensor:
    """Return starts shortened to a crossing of the level or, if there is none, rescaled as their gradients suggest."""
    values, slopes = margin.slopes(torch.zeros_like(starts))
    length = effort.length(starts)
    estimate = (values / effort.steepest(slopes)[1].double().clamp_min(1e-30)).to(length).clamp(max=REACH)
    scaled = starts * (estimate / length.clamp_min(1e-30))[:, None]
    ends = torch.where((margin.at(starts) < 0)[:, None], starts, scaled)
    return _bisect(margin, ends, START_HALVINGS)[1]


def _bisect(margin: _Margin, offsets: torch.Tensor, halvings: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which offsets (r, D) are below the level, and all offsets; each one below is shortened to a crossing.

    The model was evaluated at the shortened offsets, which are below the level. Offsets that aren't below the level are
    unchanged.
    """
    below = margin.at(offsets) < 0
    low, high = torch.zeros_like(offsets[:, 0]), torch.ones_like(offsets[:, 0])
    for _ in range(halvings):
        middle = (low + high) / 2
        under = margin.at(offsets * middle[:, None]) < 0
        low, high = torch.where(under, low, middle), torch.where(under, middle, high)
    return below, torch.where(below[:, None], offsets * high[:, None], offsets)


def _nearest(margin: _Margin, candidates: list[torch.Tensor], farthest: torch.Tensor, effort: Effort) -> Attacked:
    """Return each sample's nearest crossing along any of the offsets (m, D), which are NaN if a search found none."""
    flat = torch.cat([offsets.nan_to_num() for offsets in candidates])
    repeated = torch.arange(len(farthest), device=flat.device).repeat(len(candidates))
    below, offsets = _bisect(margin.rows(repeated), flat, HALVINGS)
    samples = margin.samples.flatten(1)
    # Points are rounded, so distances are computed from the points that were evaluated.
    places = samples[repeated] + offsets
    away = places.double() - samples[repeated].double()
    lengths = torch.where(below, effort.length(away), torch.inf).view(len(candidates), -1)
    shortest, which = lengths.min(dim=0)
    censored = torch.isinf(shortest)
    chosen = places.view(len(candidates), len(farthest), -1)[which, torch.arange(len(farthest), device=which.device)]
    points = torch.where(censored[:, None], samples, chosen).view_as(margin.samples)
    radius = torch.where(censored, farthest, shortest)
    return Attacked(radius.cpu().numpy(), censored.cpu().numpy(), points)


def attacked_radius(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    level: float = 0.9,
    beta: float = 1.0,
    effort: Effort = Effort(),
    seed: int = 0,
) -> np.ndarray:
    """Return the smallest distance from each sample at which an attack found the label's confidence below `level`.

    Each distance is an upper bound on the true smallest one, since the model was evaluated at a point that far away.

    Parameters
    ----------
    model : nn.Module
        Any model in eval mode that maps inputs (b, ...) to logits (b, k) and that torch can differentiate.
    inputs : float tensor (n, ...)
        Samples on the model's device. Distances are in the samples' units.
    labels : int array or tensor (n,)
        The labels whose confidences are attacked, in [0, k).
    level : float
        A confidence, above 0 and below 1.
    beta : float
        Positive inverse temperature by which the logits are multiplied. If beta is ``math.inf``, the confidence is 1 or
        0, and another class overtakes the label at the distance returned, whatever the level.
    effort : Effort, optional
        The norm to use, and how long to search.
    seed : int, optional
        Determines the random starts.

    Returns
    -------
    float64 array (n,)
        0 if the confidence at the sample itself is below the level, infinite if no point below the level was found. No
        point is tried at a distance above 1e5, so rescale inputs if larger distances matter.

    Raises
    ------
    SpecError
        If a module is in train mode, or any argument except `seed` isn't as described above.
    DivergedError
        If the label's margin is not finite, e.g. because a logit is NaN.
    """
    nearest = attacked(model, inputs, labels, level, beta, effort, seed)
    return np.where(nearest.censored, np.inf, nearest.radius)


def attacked(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    level: float = 0.9,
    beta: float = 1.0,
    effort: Effort = Effort(),
    seed: int = 0,
) -> Attacked:
    """Return the points that `attacked_radius` finds with the same arguments, and their distances."""
    targets, inputs = check_model(model, inputs, labels), inputs.detach()
    check_confidence(level, beta)
    require(isinstance(effort, Effort), "effort", effort, "a halobench.Effort")
    rng = generator(seed, "attack")
    step, parts = max(1, NUMBERS // (effort.restarts * inputs[0].numel())), []
    with as_function(model):
        for start in range(0, len(targets), step):
            part = slice(start, start + step)
            parts += attack(model, inputs[part], targets[part], goals=[Goal(beta, level)], rng=rng, effort=effort)
    radius, censored = (np.concatenate([getattr(part, name) for part in parts]) for name in ("radius", "censored"))
    return Attacked(radius, censored, torch.cat([part.points for part in parts]))
