"""Radii of unusual layers, shapes and arguments: right, or refused in a line that says why."""

from __future__ import annotations

import copy
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from halobench import attacked_radius, certified_radius
from halobench import probe as probe_along_rays
from halobench.core.errors import SpecError
from halobench.core.specs.probe import ProbeSpec
from halobench.probing.rays import TrainingPoints


def made(seed: int, scale: float, *layers: nn.Module) -> nn.Module:
    """A sequence of layers with random weights times a scale."""
    model = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            fan = weight[0].numel() if weight.dim() > 1 else weight.numel()
            weight.copy_(scale * (2 * torch.rand(weight.shape, generator=generator) - 1) / fan**0.5)
    return model


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        layer.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    return layer.eval()


def least_confidence(model: nn.Module, sample: torch.Tensor, label: int, radius: float) -> float:
    """The least confidence that projected gradient descent finds in a ball, in float64, from 40 places."""
    model, steps = copy.deepcopy(model).double(), 60
    generator, flat = torch.Generator().manual_seed(0), sample.double().flatten()
    offsets = torch.randn(40, len(flat), generator=generator, dtype=torch.float64)
    least = 1.0
    for step in range(steps):
        offsets = offsets * (radius / offsets.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)
        places = (flat + offsets).view(-1, *sample.shape).requires_grad_()
        logits = model(places)
        others = logits.scatter(1, torch.full((40, 1), label), -torch.inf).logsumexp(dim=1)
        margin = logits[:, label] - others
        least = min(least, float(margin.detach().min().sigmoid()))
        slope = torch.autograd.grad(margin.sum(), places)[0].flatten(1)
        size = slope.norm(dim=1, keepdim=True).clamp_min(1e-30)
        offsets = offsets - slope / size * radius * (0.5 * (1 - step / steps) + 0.01)
    return least


def of_columns(outputs: int):
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Linear(6, outputs), nn.ReLU(), nn.Flatten())
    return lambda seed: made(seed, 3, *layers, nn.Linear(20 * outputs, 3)), (1, 5, 6)


def of_flat(*shape: int):
    layers = (nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    return lambda seed: made(seed, 3, *layers), shape


def of_tokens():
    layers = (nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(2), nn.Linear(5, 5), nn.ReLU(), nn.Flatten())
    return lambda seed: made(seed, 3, *layers, nn.Linear(10, 3)), (2, 4)


def of_a_divisor():
    layers = (nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.AvgPool2d(6, divisor_override=-36))
    return lambda seed: made(seed, 5, *layers, nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), (1, 8, 8)


UNUSUAL = {
    "a linear layer from columns to one": of_columns(1),
    "a linear layer of columns": of_columns(3),
    "tokens": of_tokens(),
    "four dimensions a sample": of_flat(1, 2, 4, 2),
    "a divisor below 0": of_a_divisor(),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_gradient_descent_finds_no_place_below_the_level_in_a_certified_ball(name):
    """Covers layers along the columns of images, samples of other dimensions, and averages with negative weights."""
    build, shape = UNUSUAL[name]
    proved = 0
    for seed in (2, 4):
        model = build(seed)
        samples = 2 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
        labels = model(samples).argmax(dim=1)
        radii = certified_radius(model, samples, labels, 0.4)
        proved += int((radii > 0).sum())
        for sample, label, radius in zip(samples, labels.tolist(), radii, strict=True):
            assert radius == 0 or least_confidence(model, sample, label, radius) >= 0.4
    assert proved > 1


class InPlace(nn.Module):
    """An in-place operation on values (n, 1, 2) that share storage with another value; relu(-9 + x) is 0 near 0."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.first = kind, linear([[1.0]], [1.0])
        self.read, self.again = linear([[1.0], [0.0]], [0.0, 0.0]), linear([[-2.0], [0.0]], [0.0, -5.0])
        self.late, self.rest, self.rectify = linear([[1.0]], [-9.0]), nn.Dropout(0.5), nn.ReLU(inplace=True)
        self.pool, self.wide = nn.MaxPool2d(1), nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            for weight in self.wide.parameters():
                weight.fill_(1.0)

    def forward(self, x):
        if self.kind == "input":
            return self.read(F.relu_(x).flatten(1)) + self.again(x.flatten(1))
        if self.kind == "pooled":
            image = self.wide(x)
            pooled = self.pool(self.rectify(self.rest(image)))
            return self.read(pooled.flatten(1)) + self.again(image.flatten(1))
        hidden = self.first(x)
        if self.kind == "view":
            after = self.rectify(torch.flatten(hidden, 1))
            return self.read(after) + self.again(torch.flatten(hidden, 1))
        if self.kind == "base":
            view = torch.flatten(hidden, 1)
            return self.read(torch.flatten(self.rectify(hidden), 1)) + self.again(view)
        before = hidden  # "sum": torch.fx traces += as +
        hidden += self.late(x).relu()
        return self.read(hidden.flatten(1)) + self.again(before.flatten(1))


IN_PLACE = {"view": (1, 1), "base": (1, 1), "pooled": (1, 1, 1), "sum": (1, 1)}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_what_shares_the_storage_of_what_changes_in_place_is_not_read_as_it_was(kind):
    """Near the samples everything is positive, so no trial shows it."""
    model, samples = InPlace(kind).eval(), torch.zeros(2, *IN_PLACE[kind])
    with pytest.raises(SpecError, match=r"in-place operation|doesn't compute what its layers define"):
        certified_radius(model, samples, [0, 0])


def test_an_input_that_is_rectified_in_place_is_read_as_rectified():
    """relu(x) - 2 relu(x) + 5 is below log 9 from relu(x) = 5 - log 9 on."""
    for search in (certified_radius, attacked_radius):
        found = search(InPlace("input").eval(), torch.tensor([[1.0], [-1.0]]), [0, 0])
        np.testing.assert_allclose(found, 5 - np.log(9) + np.array([-1, 1]), rtol=0.03)


@pytest.mark.parametrize("mean", [1e6, 1e8])
def test_rounding_of_a_batch_norm_whose_mean_and_bias_cancel_is_covered(mean):
    """Compared with 60-digit arithmetic: the logits are margin + factor x apart, and the level is log odds of 2."""
    level, getcontext().prec = 1 / (1 + np.exp(-2.0)), 60
    odds = Decimal(level).ln() - (1 - Decimal(level)).ln()
    for seed in range(8):
        rng, norm = np.random.default_rng(seed), nn.BatchNorm1d(1)
        norm.running_mean.fill_(mean * (1 + rng.random()))
        norm.running_var.fill_(1 + rng.random())
        factor = 1 / (Decimal(norm.running_var.item()) + Decimal(norm.eps)).sqrt()
        scaled = Decimal(norm.running_mean.item()) * factor
        with torch.no_grad():
            norm.bias.fill_(float(scaled))
        shift = Decimal(norm.bias.item()) - scaled
        last = linear([[1.0], [0.0]], [3.0 - float(shift), 0.0])
        exact = (shift + Decimal(last.bias[0].item()) - odds) / factor
        (found,) = certified_radius(nn.Sequential(norm, last).eval(), torch.zeros(1, 1), [0], level)
        assert 0.999 * float(exact) < found
        assert Decimal(found) <= exact


def hooked(model: nn.Module) -> nn.Module:
    model.register_forward_hook(lambda module, inputs, outputs: -outputs)
    return model


def replaced_far_away(model: nn.Module) -> nn.Module:
    layer = model[0]
    layer.forward = lambda x: F.linear(x.clamp(-1e4, 1e4), layer.weight.to(x), layer.bias.to(x))
    return model


@pytest.mark.parametrize("change", [hooked, replaced_far_away])
def test_a_model_that_does_more_than_its_layers_is_not_certified(change):
    model = change(made(0, 1, nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)))
    with pytest.raises(SpecError, match="doesn't compute what its layers define"):
        certified_radius(model, torch.ones(3, 2), [0, 0, 0])


def walked(model: nn.Module, samples: torch.Tensor) -> np.ndarray:
    labels, around = np.array([0, 0]), TrainingPoints(torch.tensor([[0.0], [9.0]]), np.array([0, 1]))
    spec = ProbeSpec("sphere", directions=2, radii=(1.0, 2.0))
    return probe_along_rays(model, samples, labels, spec, around, rng=np.random.default_rng(0)).curves["confidence"]


CALLS = {
    "certified": lambda model, samples: certified_radius(model, samples, [0, 0], 0.5),
    "certified, float64": lambda model, samples: certified_radius(model.double(), samples.double(), [0, 0], 0.5),
    "attacked": lambda model, samples: attacked_radius(model, samples, [0, 0], 0.5),
    "walked": walked,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_model_that_changes_its_input_in_place_changes_no_callers_tensor(name):
    read = CALLS[name]
    plain, changing = (
        nn.Sequential(nn.ReLU(inplace), linear([[-1.0], [1.0]], [5.0, 0.0])).eval() for inplace in (False, True)
    )
    samples = torch.tensor([[-50.0], [-20.0]], dtype=torch.float64 if "float64" in name else torch.float32)
    given = samples.clone()
    np.testing.assert_array_equal(read(changing, given), read(plain, samples))
    assert torch.equal(given, samples)


def test_a_far_sample_leaves_the_certificates_of_others_as_they_are():
    model = made(0, 1, nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[2].bias[0] += 5
    samples = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    far = torch.full((1, 4), 1e13)
    alone = certified_radius(model, samples, [0, 0, 0])
    beside = certified_radius(model, torch.cat([samples, far]), [0, 0, 0, int(model(far).argmax())])
    assert (alone > 0).all()
    np.testing.assert_allclose(beside[:3], alone, rtol=1e-9)


RADII = {"certified": certified_radius, "attacked": attacked_radius}
BAD = {
    "no module": ({"model": lambda batch: batch}, "expected a torch.nn.Module"),
    "one class": ({"model": linear([[1.0, 1.0]], [0.0])}, r"model: found outputs of shape \(1, 1\), expected logits"),
    "probabilities": ({"model": nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)).eval()}, "outputs that look like"),
    "NaN": ({"inputs": torch.full((2, 2), torch.nan)}, "expected finite numbers"),
    "another size": ({"inputs": torch.zeros(2, 3)}, "can't take shape .* raised RuntimeError: "),
    "a class too many": ({"labels": [0, 2]}, "labels = 2: expected labels from 0 to 1"),
    "no level": ({"level": None}, "level = None: expected a confidence"),
    "level 1": ({"level": 1.0}, "level = 1.0: expected a confidence above 0 and below 1"),
    "beta 0": ({"beta": 0.0}, "beta = 0.0: expected an inverse temperature above 0"),
}


@pytest.mark.parametrize(
    ("search", "name"),
    [*(("certified", name) for name in BAD), ("attacked", "NaN"), ("attacked", "level 1")],
)
def test_what_cannot_be_searched_is_refused_in_a_line(search, name):
    change, problem = BAD[name]
    arguments = {"model": linear([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), "inputs": torch.zeros(2, 2), "labels": [0, 0]}
    with pytest.raises(SpecError, match=problem):
        RADII[search](**(arguments | change))


@pytest.mark.parametrize("search", RADII)
def test_gradients_and_inference_mode_make_no_difference(search):
    model, inputs = made(0, 2, nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3)), torch.randn(4, 3)
    labels = model(inputs).argmax(dim=1)
    expected = RADII[search](model, inputs, labels, 0.4)
    assert (expected > 0).any()
    np.testing.assert_array_equal(RADII[search](model, inputs.clone().requires_grad_(), labels, 0.4), expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(RADII[search](model, inputs.clone(), labels, 0.4), expected)


@pytest.mark.parametrize("level", [1e-310, 1 - 2**-53])
def test_the_most_extreme_levels_are_attacked(level):
    """A margin of 50 is above the larger level's log odds, and 800 below the smaller one's."""
    model = linear([[1.0], [0.0]], [50.0, 0.0])
    odds = np.log(level) - np.log1p(-level)
    np.testing.assert_allclose(attacked_radius(model, torch.zeros(1, 1), [0], level), 50 - odds, rtol=1e-3)
