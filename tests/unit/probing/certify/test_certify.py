"""Certified radii against closed forms, exact worst cases, attacks, samples of the ball, and wrong relaxations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logit
from torch import nn
from torch.nn import functional as F

from conftest import SOAK
from halobench import attacked_radius, certified_radius
from halobench.core.errors import SpecError
from halobench.core.specs.model import Normalisation
from halobench.core.specs.probe import ProbeSpec
from halobench.models.piecewise import maps
from halobench.models.piecewise.layers import network_of
from halobench.models.piecewise.maps import Patch
from halobench.models.preprocessing import Preprocessed, Resize, Resized, normalised
from halobench.probing.attack import Effort
from halobench.probing.certify import bounds
from halobench.probing.certify.bounds import Balls
from halobench.probing.ray_walk import ProbeOptions
from halobench.probing.rays import TrainingPoints
from halobench.probing.run_search import search_radii


class Residual(nn.Module):
    """Residual blocks with operations that torch.fx traces as functions and methods, in place and not."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.down, self.shortcut = nn.Conv2d(channels, 4, 3, stride=2, padding=1), nn.Conv2d(channels, 4, 1, stride=2)
        self.last = nn.Linear(4 * 2, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        x = x + self.two(torch.relu(self.one(x)))
        y = self.down(F.relu(x))
        y += self.shortcut(x)
        return self.last(torch.flatten(F.adaptive_avg_pool2d(y.relu(), (2, 1)), 1))


class PreActivation(nn.Module):
    """An in-place rectifier whose input, by then rectified, is read again."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(24, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.rectify, self.rest = nn.ReLU(inplace=True), nn.Sequential(nn.Identity(), nn.Dropout(0.5))

    def forward(self, x):
        x = self.first(x.flatten(1))
        y = self.second(self.rectify(self.rest(x)))
        return self.last(x + y)


class FixedSize(nn.Module):
    """A network of fixed size as other projects write it: it checks the shape of its input, and flattens by views."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Linear(36, 8), nn.Linear(8, 3)

    def forward(self, x):
        if x.shape[1:] != (3, 5, 5):
            raise ValueError(x.shape)
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x.view(x.size(0), -1)))
        return self.last(x.reshape(-1, 8))


ZOO = {
    "mlp": lambda: nn.Sequential(
        *(nn.Flatten(), nn.Linear(24, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU()),
        nn.Linear(12, 3),
    ),
    "cnn": lambda: nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
        *(nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    ),
    "pools": lambda: nn.Sequential(
        *(nn.Conv2d(1, 4, (3, 2), padding=(1, 2)), nn.MaxPool2d(3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2), nn.AvgPool2d(2, 1, 1), nn.ReLU()),
        *(nn.ZeroPad2d((0, 1, 1, 0)), nn.MaxPool2d((2, 1), 1), nn.Flatten(), nn.LazyLinear(3)),
    ),
    "resized": lambda: Resized(
        nn.Sequential(
            *(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4, affine=False), nn.ReLU()),
            *(nn.Conv2d(4, 6, 2, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)),
        ),
        side=5,
    ),
    "preprocessed": lambda: normalised(
        FixedSize(), (np.array([1.0]), np.array([200.0])), Normalisation((0.1, -0.2, 0.3), (0.6, 0.9, 1.2)), 5
    ),
    "bicubic": lambda: Preprocessed(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)),
        *((np.array([1.0]), np.array([200.0])), (np.array([0.1]), np.array([0.6])), 5, "bicubic"),
    ),
    "residual": Residual,
    "pre-activation": PreActivation,
}


def built(name: str, seed: int = 0, scale: float = 3.0) -> nn.Module:
    """A network on 1x4x6 images with random weights, and batch-norm statistics that are anything but 0 and 1."""
    torch.manual_seed(seed)
    model = ZOO[name]()
    for _ in range(10):
        model(2 * torch.randn(50, 1, 4, 6) + 1)
    with torch.no_grad():
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        last.weight.mul_(scale * 4 / model.eval()(torch.randn(200, 1, 4, 6)).std())
    return model.eval()


def drawn(model: nn.Module, count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples, with the labels that a network predicts."""
    samples = torch.randn(count, 1, 4, 6, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return samples, model(samples).argmax(dim=1)


def below(model: nn.Module, places: torch.Tensor, labels: torch.Tensor, level: float, beta: float) -> torch.Tensor:
    """Whether confidences at places (n, s, ...) are below a level, in float64: (n,)."""
    with torch.no_grad():
        logits = model.double()(places.flatten(0, 1)).unflatten(0, places.shape[:2])
    model.float()
    confidence = torch.softmax(beta * logits, dim=2)[torch.arange(len(labels)), :, labels]
    return (confidence < level - 1e-12).any(dim=1)


def in_balls(samples: torch.Tensor, radii: np.ndarray, count: int, seed: int = 2) -> torch.Tensor:
    """Places in balls (n, count, ...), half of them on the surface."""
    generator = torch.Generator().manual_seed(seed)
    way = torch.randn(len(samples), count, *samples.shape[1:], generator=generator, dtype=torch.float64)
    way /= way.flatten(2).norm(dim=2)[(..., *[None] * (samples.dim() - 1))]
    share = torch.rand(len(samples), count, generator=generator, dtype=torch.float64) ** (1 / samples[0].numel())
    share[:, ::2] = 1
    length = (share * torch.from_numpy(radii)[:, None])[(..., *[None] * (samples.dim() - 1))]
    return samples.double()[:, None] + length * way


def violations(
    model: nn.Module, samples: torch.Tensor, labels: torch.Tensor, level: float, beta: float
) -> tuple[int, int]:
    """The number of certified balls in which an attack or sampling finds a place below the level, and their total."""
    radii = certified_radius(model, samples, labels, level, beta)
    exact = model.double(), samples.double()  # in float32, rounding alone can push a confidence below the level
    attacked = attacked_radius(*exact, labels, level, beta, effort=Effort(restarts=1, steps=25))
    model.float()
    wrong = below(model, in_balls(samples, radii, 100), labels, level, beta).numpy() & (radii > 0)
    return int(((radii > attacked) | wrong).sum()), int((radii > 0).sum())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [3, 5, 9])
def test_resized_pixels_change_by_at_most_the_sum_of_absolute_coefficients(side, mode):
    """A bicubic resize has negative coefficients, so the change is larger than the resized change of the inputs."""
    resize, eye = Resize(side, mode), torch.eye(24, dtype=torch.float64)
    largest = torch.rand(2, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients = resize(eye.view(24, 1, 4, 6)).flatten(1)
    expected = (largest @ coefficients.abs()).view(2, 1, side, side)
    found = maps.resized(resize, (1, 4, 6)).spread(largest.view(2, 1, 4, 6))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ZOO)
def test_a_network_computes_what_its_model_does_and_small_balls_see_its_gradient(name):
    """The transposes of all steps, including on cropped parts of images, match autograd."""
    model = built(name).double()
    network, (samples, _) = network_of(model, (1, 4, 6)), drawn(built(name), 5)
    inputs = samples.double().requires_grad_()
    logits = model(inputs)
    torch.testing.assert_close(network(inputs), logits, rtol=1e-10, atol=1e-10)
    rows = torch.eye(3, dtype=torch.float64).repeat(5, 1)
    sample = torch.arange(5).repeat_interleave(3)
    with torch.no_grad():
        balls = Balls(network, inputs.detach(), torch.full((5,), 1e-7, dtype=torch.float64))
        lines = balls.rows(len(network.steps) - 1, Patch(rows), sample)
    torch.testing.assert_close(lines.least.view(5, 3), logits.detach(), rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad(logits[:, j].sum(), inputs, retain_graph=True)[0] for j in range(3)]
    torch.testing.assert_close(lines.norms.view(5, 3), torch.stack(slopes, 1).flatten(2).norm(dim=2), rtol=1e-8, atol=0)


def strays(model: nn.Module) -> int:
    """The number of places, of 500 in each of some balls, where a rectifier's input is outside its bounds.

    A ball's bounds are also used for a ball half as large.
    """
    (samples, _), network = drawn(model, 4), network_of(model.double(), (1, 4, 6))
    radii, count = torch.tensor([0.01, 0.1, 0.5, 2.0], dtype=torch.float64), 0
    with torch.no_grad():
        balls = Balls(network, samples.double(), radii)
        inner = Balls(network, samples.double(), radii / 2, balls.bounds)
        for each, radius in ((balls, radii), (inner, radii / 2)):
            values = [in_balls(samples, radius.numpy(), 500).flatten(0, 1)]
            for place, step in enumerate(network.steps[1:], start=1):
                first = values[step.sources[0]]
                if step.kind == "relu":
                    least, most = (bound[:, None] for bound in each.bounds[place])
                    read = first.flatten(1).unflatten(0, (4, 500))
                    count += int(((read < least - 1e-12) | (read > most + 1e-12)).sum())
                    values.append(first.clamp_min(0))
                else:
                    values.append(step.affine(first) if step.affine else first + values[step.sources[1]])
    return count


@pytest.mark.parametrize("name", ZOO)
def test_bounds_hold_for_what_every_rectifier_reads(name):
    assert strays(built(name)) == 0


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0, math.inf])
def test_of_two_classes_of_a_linear_model_the_radius_is_the_distance_to_a_plane(beta):
    torch.manual_seed(0)
    layer = nn.Linear(6, 2).eval()
    samples = 3 * torch.randn(30, 6)
    labels = layer(samples).argmax(dim=1)
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    gap = (samples.double() @ weight.T + bias) @ torch.tensor([1.0, -1.0], dtype=torch.float64)
    exact = (gap.abs() - logit(0.8) / beta).clamp_min(0) / (weight[0] - weight[1]).norm()
    found = certified_radius(layer, samples, labels, 0.8, beta)
    assert 0 < (found > 0).sum() < 30 or beta == math.inf, "every decision is the label"
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-9)
    assert (found <= exact.numpy() * (1 + 1e-15)).all()


def worst_odds(model: nn.Sequential, sample: np.ndarray, label: int, radius: float, beta: float) -> tuple[float, float]:
    """The largest log odds against a label on a disc, exact up to a gap: the value, and how much larger it may be.

    On each region of a network with one hidden layer, the log odds are convex, so the largest are at corners of
    regions, all of which are enumerated, or on the circle, along which they change by at most their Lipschitz constant.
    """
    first, last = model[0], model[2]
    w, b = first.weight.detach().numpy().astype(float), first.bias.detach().numpy().astype(float)
    v, c = last.weight.detach().numpy().astype(float), last.bias.detach().numpy().astype(float)

    def odds(places):
        scores = beta * (np.maximum(places @ w.T + b, 0) @ v.T + c)
        others = np.delete(scores - scores[:, [label]], label, axis=1)
        return np.log(np.exp(others).sum(axis=1))

    corners = []
    for i, j in itertools.combinations(range(len(w)), 2):
        if abs(np.linalg.det(w[[i, j]])) > 1e-9:
            corners.append(np.linalg.solve(w[[i, j]], -b[[i, j]]))
    corners = [place for place in corners if np.linalg.norm(place - sample) <= radius]
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    circle = sample + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lipschitz = beta * max(np.linalg.norm(v[j] - v[label]) for j in range(len(v))) * np.linalg.norm(w, 2)
    return odds(np.array([*corners, *circle])).max(), lipschitz * radius * np.pi / len(angles)


def test_against_the_exact_worst_case_of_small_networks():
    """The radius is below it, but not by much, for 7 hidden units and two numbers per sample."""
    ratios = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 7), nn.ReLU(), nn.Linear(7, 3)).eval()
        with torch.no_grad():
            model[2].weight.mul_(20)
        samples = torch.randn(4, 2)
        labels = model(samples).argmax(dim=1)
        for beta, level in ((1.0, 0.7), (2.0, 0.5)):
            found = certified_radius(model, samples, labels, level, beta)
            for sample, label, radius in zip(samples.numpy().astype(float), labels.tolist(), found, strict=True):
                if not 0 < radius < 100:
                    continue
                assert worst_odds(model, sample, label, radius, beta)[0] <= logit(1 - level) + 1e-9
                low, high = radius, 100 * radius
                for _ in range(12):
                    middle = math.sqrt(low * high)
                    value, gap = worst_odds(model, sample, label, middle, beta)
                    low, high = (middle, high) if value + gap <= logit(1 - level) else (low, middle)
                ratios.append(low / radius)
    assert len(ratios) > 8
    assert np.median(ratios) < 1.25


FAST = ("mlp", "pre-activation")
COMBINATIONS = [(0.5, 1.0), (0.9, 1.0), (0.9, 3.0), (0.5, math.inf), (0.99, 2.0), (0.4, 0.3)]


@pytest.mark.parametrize("name", ZOO)
def test_certified_balls_hold_no_place_below_the_level(name):
    """Neither an attack nor sampling finds one, for random networks of all kinds, levels and temperatures."""
    found, combinations = [], COMBINATIONS if name in FAST or SOAK else COMBINATIONS[1:2]
    for seed, (level, beta) in enumerate(combinations):
        model = built(name, seed)
        found.append(violations(model, *drawn(model, 30 if name in FAST else 4, seed), level, beta))
    wrong, proved = map(sum, zip(*found, strict=True))
    assert wrong == 0
    assert proved > len(combinations)


@pytest.mark.parametrize("kind", ["upper slope", "lower line", "interval"])
def test_a_wrong_relaxation_is_caught(kind, monkeypatch):
    """These are an upper line that is too flat, a lower line with a slope above 1, and intervals that are too short."""
    right = bounds.lines_around

    def wrong(least, most):
        if kind == "interval":
            return right(0.5 * least, 0.5 * most)
        lines = right(least, most)
        if kind == "lower line":
            return lines._replace(lower=torch.where(lines.shift > 0, 2.0, lines.lower))
        return lines._replace(upper=0.5 * lines.upper, shift=0.5 * lines.shift)

    monkeypatch.setattr(bounds, "lines_around", wrong)
    model = built("mlp")
    assert violations(model, *drawn(model, 80), 0.9, 1.0)[0] > 0


def test_samples_are_independent_of_each_other_and_none_is_certified_below_the_level():
    model = built("residual")
    samples, labels = drawn(model, 4)
    together = certified_radius(model, samples, labels)
    apart = np.concatenate([certified_radius(model, samples[i : i + 1], labels[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(apart, together, rtol=1e-6)
    np.testing.assert_array_equal(together, certified_radius(model, samples, labels))
    assert below(model, samples[:, None].double(), labels, 0.9, 1.0).numpy().tolist() == (together == 0).tolist()
    assert (certified_radius(model, samples, (labels + 1) % 3) == 0).all()


class Branching(nn.Module):
    def forward(self, x):
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class Regrouped(nn.Module):
    """A view that doesn't keep samples apart."""

    def forward(self, x):
        return x.view(-1, 8)


REFUSED = [
    (
        nn.Sequential(nn.Flatten(), nn.Linear(24, 3), nn.GELU()),
        r"model: found GELU \(2\), expected only linear .*",
    ),
    (
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), nn.Flatten()),
        r".*found Conv2d.*reflect\) \(0\), .*",
    ),
    (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Flatten()), r".*ceil_mode=True\) \(0\), .*"),
    (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten()), r".*found BatchNorm2d\(1, .*"),
    (Regrouped(), r"model: found view \(view\), expected .*"),
    (nn.Sequential(nn.Conv2d(1, 3, 3)), r".*the last layer, .* doesn't return logits \(n, k\)"),
    (Branching(), r"model: torch.fx can't trace Branching .*"),
]


def test_a_probe_gives_the_radii_of_every_calibrator():
    """One row per sample and calibrator, without rays; the model may be in float32 and require gradients."""
    model = built("resized").requires_grad_()
    samples, labels = drawn(model, 4)
    found = search_radii(
        model,
        samples,
        labels.numpy(),
        ProbeSpec("certified", threshold=0.8),
        TrainingPoints(torch.cat([samples, samples + 1]), np.concatenate([labels, (labels + 1) % 3])),
        rng=np.random.default_rng(0),
        options=ProbeOptions({"none": 1.0, "exact": 0.5}, batch=10),
    )
    assert not found["censored"].any()
    kinds = (("certainty", "none", 1.0), ("certainty", "exact", 0.5), ("decision", "none", math.inf))
    for quantity, name, beta in kinds:
        rows = found[(found["quantity"] == quantity) & (found["calibrator"] == name)]
        assert (rows["threshold"] == 0.8).all() if quantity == "certainty" else rows["threshold"].isna().all()
        np.testing.assert_array_equal(rows["radius"], certified_radius(model, samples, labels, 0.8, beta))
    assert len(found) == 3 * len(samples)


@pytest.mark.parametrize(("model", "line"), REFUSED)
def test_other_layers_are_named(model, line):
    with pytest.raises(SpecError, match=line):
        network_of(model.eval(), (1, 4, 6))
