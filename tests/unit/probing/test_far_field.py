"""The far field against networks evaluated far away in float64, and against their rectifiers' decisions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from halobench import far_field
from halobench.core.errors import SpecError
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.data.splits import Data, Split
from halobench.models.architectures import cnn, mlp, mlp_bn
from halobench.probing.far_field import DISTANCES, tails
from halobench.probing.probe import ProbedModel, probe_cell
from halobench.probing.progress import Progress

SHAPE = (1, 8, 8)


class Residual(nn.Module):
    """A small residual network: batch norm, a padded max pooling, a shortcut, average pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.first, self.norm, self.relu = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.second, self.shortcut = nn.Conv2d(6, 8, 3, 2, padding=1), nn.Conv2d(6, 8, 1, 2)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, images):
        stem = self.stem(images)
        inner = self.second(self.relu(self.norm(self.first(stem))))
        return self.head(torch.flatten(self.pool(self.relu(inner + self.shortcut(stem))), 1))


BUILD = {
    "mlp": lambda: mlp.build(SHAPE, 4, width=24),
    "mlp_bn": lambda: mlp_bn.build(SHAPE, 4, width=16, depth=3),
    "cnn": lambda: cnn.build(SHAPE, 4, width=5),
    "residual": Residual,
}


def built(name: str) -> nn.Module:
    """A random network after some batches in train mode, so its batch norms have non-default statistics."""
    torch.manual_seed(3)
    model = BUILD[name]()
    model.train()
    for _ in range(10):
        model(2 * torch.randn(20, *SHAPE) + 0.5)
    return model.eval()


def rays(count: int = 5, each: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples, and directions from each."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(count, each, 64, generator=generator)
    return torch.randn(count, *SHAPE, generator=generator), directions


def read(model: nn.Module, samples: torch.Tensor, directions: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Logits (n * R, k) at a distance (n * R,) along each ray, all in float64."""
    ways = directions.double() / directions.double().norm(dim=2, keepdim=True)
    places = samples.double().flatten(1)[:, None] + distances.view(*ways.shape[:2], 1) * ways
    with torch.no_grad():
        return copy.deepcopy(model).double()(places.view(-1, *SHAPE))


def decisions(model: nn.Module, *arguments: torch.Tensor) -> torch.Tensor:
    """Which rectifiers are active at the places that `read` reads, and where maxima above 0 are; one row per ray.

    Of the rectifiers before a max pooling, only those of the maxima count.
    """
    model, found = copy.deepcopy(model), []

    def passing(_, inputs, outputs):
        found.append((inputs[0] > 0).flatten(1))

    def largest(pool, inputs, outputs):
        options = (pool.kernel_size, pool.stride, pool.padding)
        _, places = nn.functional.max_pool2d(inputs[0], *options, return_indices=True)
        found.append(torch.where(outputs > 0, places, -1).flatten(1))

    layers = list(model.modules())
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.MaxPool2d):
            layer.register_forward_hook(largest)
        elif isinstance(layer, nn.ReLU) and not isinstance(following, nn.MaxPool2d):
            layer.register_forward_hook(passing)
    read(model, *arguments)
    return torch.cat([each.long() for each in found], dim=1)


@pytest.mark.parametrize("name", list(BUILD))
def test_beyond_the_last_kink_the_logits_are_the_affine_piece(name):
    model, (samples, directions) = built(name), rays()
    ends = tails(model, samples, directions)
    for factor, more in ((1.0, 1e-6), (1.5, 1.0), (10.0, 1e4), (1.0, 1e8)):
        distances = factor * ends.kinks + more
        expected = ends.offsets + distances[:, None] * ends.slopes
        torch.testing.assert_close(read(model, samples, directions, distances), expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("name", list(BUILD))
def test_beyond_the_last_kink_no_decision_changes_and_just_before_one_does(name):
    """With max pooling, comparisons among losers count as decisions too, so the one before may not be visible."""
    model, (samples, directions) = built(name), rays()
    kinks = tails(model, samples, directions).kinks
    assert (kinks > 0).all()
    last = decisions(model, samples, directions, 100 * kinks + 1e4)
    for factor in (1 + 1e-7, 1.001, 1.3, 3.0, 30.0):
        assert torch.equal(decisions(model, samples, directions, factor * kinks), last)
    if name.startswith("mlp"):
        before = decisions(model, samples, directions, (1 - 1e-7) * kinks)
        assert (before != last).any(dim=1).all()


@pytest.mark.parametrize("name", list(BUILD))
def test_the_class_and_the_limit_are_what_is_read_far_away(name):
    model, (samples, directions) = built(name), rays()
    found = far_field(model, samples, directions)
    assert found.exact
    assert found.reason == ""
    far = torch.from_numpy(found.last_kink.ravel()) + 100 / torch.from_numpy(found.slope_gap.ravel()).clamp_min(1e-6)
    logits = read(model, samples, directions, 10 * far + 1e6)
    top, classes = torch.softmax(logits, dim=1).max(dim=1)
    np.testing.assert_array_equal(classes, found.classes.ravel())
    np.testing.assert_array_equal(top > 1 - 1e-6, found.tends_to_one.ravel())
    np.testing.assert_array_equal(found.tends_to_one, found.slope_gap > 0)
    assert found.tends_to_one.mean() > 0.9


@pytest.mark.parametrize("beta", [1e-4, 1.0, 30.0])
def test_a_temperature_moves_the_distance_alone(beta):
    """Classes and limits are byte-identical; confidence is at the level from the distance on, but not before it."""
    model, (samples, directions) = built("mlp_bn"), rays()
    raw, found = far_field(model, samples, directions), far_field(model, samples, directions, 0.95, beta)
    for name in ("classes", "tends_to_one", "last_kink", "slope_gap"):
        np.testing.assert_array_equal(getattr(found, name), getattr(raw, name))
    start = torch.from_numpy(found.certain_from.ravel())
    later = found.certain_from.ravel() > found.last_kink.ravel() * (1 + 1e-9)
    assert later.all() if beta < 1e-3 else not later.all()

    def confidence(distances):
        logits = beta * read(model, samples, directions, distances)
        return torch.softmax(logits, dim=1)[torch.arange(len(start)), torch.from_numpy(found.classes.ravel())].numpy()

    for factor in (1 + 1e-9, 1.1, 2.0, 100.0):
        assert (confidence(factor * start) >= 0.95 - 1e-7).all()
    assert (confidence((1 - 1e-6) * start)[later] < 0.95).all()


def test_distances_scale_with_the_inputs_and_directions_have_no_length():
    model, (samples, directions) = built("mlp"), rays()
    wide = copy.deepcopy(model)
    with torch.no_grad():
        wide[1].weight.div_(8)
    first = far_field(model, samples, directions)
    for length in (2.0**-7, 2.0**-100, 2.0**100):
        second = far_field(wide, 8 * samples, length * directions)
        np.testing.assert_array_equal(first.classes, second.classes)
        for name, factor in (("last_kink", 8), ("certain_from", 8), ("slope_gap", 1 / 8)):
            np.testing.assert_allclose(getattr(second, name), factor * getattr(first, name), rtol=1e-5)


def test_where_all_units_die_the_confidence_tends_to_no_one():
    """Along +1, relu(3 - x) ends at 3 and the logits are their biases; along -1, it grows forever."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        for layer, weight, bias in ((model[1], [[-1.0]], [3.0]), (model[3], [[2.0], [0.0]], [0.0, 1.0])):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    found = far_field(model, torch.zeros(1, 1), torch.tensor([[[1.0], [-1.0]]]), level=0.99)
    np.testing.assert_array_equal(found.classes, [[1, 0]])
    np.testing.assert_array_equal(found.tends_to_one, [[False, True]])
    np.testing.assert_allclose(found.last_kink, [[3, 0]])
    np.testing.assert_allclose(found.slope_gap, [[0, 2]])
    # 2 (3 + t) - 1 = log 99 is reached before the sample.
    np.testing.assert_allclose(found.certain_from, [[np.inf, 0]])


def test_other_networks_are_read_at_distances_and_marked():
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3)]
    model, (samples, directions) = nn.Sequential(*layers).eval(), rays()
    found = far_field(model, samples, directions, 0.6, 20.0)
    assert not found.exact
    assert "GELU" in found.reason
    assert np.isnan(found.last_kink).all()
    ways = directions / directions.norm(dim=2, keepdim=True)
    with torch.no_grad():
        logits = [model((samples.flatten(1)[:, None] + far * ways).view(-1, 64)) for far in DISTANCES]
    read = torch.softmax(20 * torch.stack(logits).double(), dim=2).view(3, 5, 6, 3)
    np.testing.assert_array_equal(found.classes, read[-1].argmax(dim=2))
    confidence = read.gather(3, torch.from_numpy(found.classes)[None, :, :, None].expand(3, -1, -1, 1))[..., 0].numpy()
    np.testing.assert_array_equal(found.tends_to_one, confidence[-1] >= 1 - 1e-4)
    first = np.where((confidence >= 0.6).all(axis=0), DISTANCES[0], found.certain_from)
    np.testing.assert_array_equal(found.certain_from, np.where(found.tends_to_one, first, np.inf))


@pytest.mark.parametrize(
    ("directions", "problem"),
    [
        (torch.zeros(5, 6, 64), "expected finite directions of non-zero length"),
        (torch.ones(5, 64), r"expected a float tensor of shape \(5, R, 64\)"),
        (torch.ones(4, 1, 64), r"expected a float tensor of shape \(5, R, 64\)"),
    ],
)
def test_bad_directions_are_refused(directions, problem):
    with pytest.raises(SpecError, match=problem):
        far_field(built("mlp"), rays()[0], directions)


@pytest.mark.parametrize("exact", [True, False])
def test_a_probe_writes_where_each_ray_ends_up(exact, capsys):
    """Both calibrators' rows are censored alike; those of a model evaluated at distances have no kink."""
    model = built("cnn") if exact else nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 4)).eval()
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((60, *SHAPE)).astype(np.float32), np.arange(60) % 4
    split = Split(np.arange(60), images, labels, labels)
    data = Data(dict.fromkeys(("train", "val", "test"), split), 4, SHAPE, np.zeros(1), np.ones(1), np.eye(4))
    probes = {"far": ProbeSpec("far_field", points=20, control=4, directions=3)}
    found = probe_cell(
        ProbedModel(model, TrainSpec(eval_batch=7), 0.5), data, probes, 0, Progress(log=lambda line: None)
    )
    assert found.curves.empty
    rows = found.radii[found.radii["points"] == "train"]
    rows = rows.set_index(["quantity", "calibrator", "point", "ray"]).sort_index()
    quantities = {"certain_from", "label_from"} | ({"last_kink"} if exact else set())
    assert set(found.radii["quantity"]) == quantities
    assert len(rows) == 20 * 3 * (5 if exact else 4)
    some, own = (rows.loc[(name, slice(None)), :] for name in ("certain_from", "label_from"))
    assert (own["censored"].to_numpy() >= some["censored"].to_numpy()).all()
    assert (own["censored"].mean() > some["censored"].mean()) == exact
    both = [some.xs(name, level="calibrator")["censored"].to_numpy() for name in ("none", "exact")]
    np.testing.assert_array_equal(*both)
    if exact:
        kinks = rows.loc[("last_kink", "none"), :]
        assert kinks["threshold"].isna().all()
        assert not kinks["censored"].any()
        assert (some.xs("none", level="calibrator")["radius"].to_numpy() >= kinks["radius"].to_numpy()).all()
        assert (~some["censored"]).mean() > 0.9
    else:
        assert "Tanh" in capsys.readouterr().out
        assert some["censored"].all()
