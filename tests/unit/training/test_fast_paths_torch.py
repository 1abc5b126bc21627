"""Fast paths of the probe and of training, each against the plain way to compute the same result.

In float64 both agree to 1e-8: the same operations in another order. In float32, a convolution on another batch, or with
a batch norm folded into it, rounds differently: logits of order 1 to 10 differ by about 1e-5, confidences by less.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.losses import base
from halobench.losses.base import Loss
from halobench.losses.cross_entropy import CrossEntropy
from halobench.models import builder
from halobench.models.batchnorm_folding import folded
from halobench.probing.probe import ProbeOptions, probe
from halobench.probing.ray_walk import predictor, score
from halobench.probing.rays import Geometry, TrainingPoints
from halobench.training.device import autocast, kept_casts, place
from halobench.training.loop import TrainingSet, fit
from halobench.training.train_cell import predict

CLASSES = 5
BETAS = {"none": 1.0, "exact": 0.4}


def silent(line: str) -> None:
    """Drop progress lines."""


def lively(name: str, shape: tuple[int, int, int], **options) -> nn.Module:
    """A model in eval mode with non-default batch-norm statistics and logits of order 10."""
    torch.manual_seed(0)
    model = builder.build(ModelSpec(name, options), shape, CLASSES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(last.weight)
    return model.eval()


@pytest.fixture(scope="module", params=[(1, 5, 5), (3, 6, 5)], ids=["grey", "colour"])
def points(request):
    """6 images with labels of 5 classes."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(6, *request.param)).astype(np.float32)), np.arange(6) % CLASSES


def plain_places(spec: ProbeSpec, inputs, labels, seed: int):
    """Rays (n, R, D) and grid distances (n, S), drawn as a probe draws them."""
    geometry = Geometry(spec, inputs, labels, TrainingPoints(inputs, labels), np.random.default_rng(seed))
    rays, other = geometry.rays(slice(0, len(labels))), geometry.other_distance[:, None]
    fixed = np.tile(np.asarray(spec.radii), (len(labels), 1))
    return rays.directions, np.concatenate([0 * other, fixed, np.asarray(spec.relative_radii) * other], axis=1)


def plain_read(predict, inputs, labels, directions, point, ray, distance, beta: float):
    """Label confidence and logit gap at one place, by definition."""
    place = inputs[point].flatten() + np.float32(distance) * directions[point, ray]
    logits = predict(place.view(1, *inputs.shape[1:]))[0].double() * beta
    others = torch.cat([logits[: labels[point]], logits[labels[point] + 1 :]])
    return float(torch.softmax(logits, 0)[labels[point]]), float(logits[labels[point]] - others.max())


def plain_radius(spec: ProbeSpec, read, grid: np.ndarray, quantity: str) -> tuple[float, bool]:
    """The first distance in `grid` at which a ray has ended, refined by bisection, and whether it never ends."""
    value = 1 if quantity == "decision" else 0
    level = {"certainty": spec.threshold, "half_level": read(0.0)[0] / 2, "decision": 0.0}[quantity]
    ordered = np.sort(grid)
    ended = [read(distance)[value] < level for distance in ordered]
    if not any(ended):
        return float(ordered[-1]), True
    first = ended.index(True)
    if first == 0:
        return float(ordered[0]), False
    low, high = ordered[first - 1], ordered[first]
    for _ in range(spec.bisections if high > low else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if read(middle)[value] < level else (middle, high)
    return float((low + high) / 2), False


@pytest.mark.parametrize(
    ("kind", "last", "places", "batches"),
    [
        ("sphere", False, 1, 1),
        ("nearest_other", True, 64 * 7, 2),
        ("manifold", True, 2**20, 4),
    ],
)
def test_the_probe_is_the_plain_one(points, kind, last, places, batches, monkeypatch):
    """Ray by ray and place by place, in float64 after the places: curves to 1e-8, radii to the last bisection.

    In a batch, the model rounds sums differently than alone, by 1e-15, but no bisection depends on that here.
    """
    monkeypatch.setattr("halobench.probing.ray_walk.PLACES", places)  # the number made at a time doesn't matter
    monkeypatch.setattr("halobench.probing.ray_walk.BATCHES", batches)
    inputs, labels = points
    model = lively("cnn", tuple(inputs.shape[1:]), width=4).double()
    layout = torch.channels_last if last else torch.contiguous_format
    asked = []

    @torch.no_grad()
    def exact(batch):
        asked.append(batch.is_contiguous(memory_format=layout))
        return model(batch.double())

    spec = ProbeSpec(kind, directions=1 if kind == "nearest_other" else 2, radii=(0.0, 1.0, 4.0), components=4)
    around = TrainingPoints(inputs, labels)
    found = probe(
        exact, inputs, labels, spec, around, rng=np.random.default_rng(7), options=ProbeOptions(BETAS, 10, layout)
    )
    assert all(asked)
    directions, distances = plain_places(spec, inputs, labels, 7)

    def reader(point, ray, beta):
        return lambda distance: plain_read(exact, inputs, labels, directions, point, ray, distance, beta)

    shape = (*directions.shape[:2], distances.shape[1])
    values = np.array([reader(p, r, 1.0)(distances[p, s]) for p, r, s in np.ndindex(shape)]).reshape(*shape, 2)
    means = values.mean(axis=(0, 1))[1:]
    np.testing.assert_allclose(found.curves[["confidence", "logit_gap"]], means, rtol=1e-8, atol=1e-11)
    for row in found.radii.itertuples():
        read = reader(row.point, row.ray, BETAS[row.calibrator])
        radius, censored = plain_radius(spec, read, distances[row.point], row.quantity)
        assert (row.radius, row.censored) == (pytest.approx(radius, rel=1e-9), censored)


def test_a_point_itself_is_looked_at_once_and_no_batch_is_larger_than_asked_for(points):
    inputs, labels = points
    flat, sizes, seen = inputs.flatten(1), [], []

    def constant(batch):
        sizes.append(len(batch))
        seen.append(batch.flatten(1).clone())
        return torch.zeros(len(batch), CLASSES)

    spec = ProbeSpec("sphere", directions=4, radii=(0.0, 1.0, 2.0), relative_radii=(0.5,))
    around, options = TrainingPoints(inputs, labels), ProbeOptions(batch=9)
    probe(constant, inputs, labels, spec, around, rng=np.random.default_rng(0), options=options)
    assert max(sizes) <= 9
    places = torch.cat(seen)
    assert [int((places == point).all(dim=1).sum()) for point in flat] == [1] * len(flat)
    assert len(places) == len(flat) * (1 + 4 * 3)


@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
def test_scores_are_the_definition(size):
    """In float64, to 1e-12 of a confidence, or to 1e-300 if it is that small."""
    rng = np.random.default_rng(0)
    logits, labels = size * rng.normal(size=(200, 6)), rng.integers(6, size=200)
    gap, plain, warm, finite = score(torch.from_numpy(logits), torch.from_numpy(labels), [1.0, 0.3]).numpy()
    own = logits[np.arange(200), labels]
    others = np.where(np.arange(6) == labels[:, None], -np.inf, logits)
    np.testing.assert_allclose(gap, own - others.max(axis=1), rtol=1e-12)
    for found, beta in ((plain, 1.0), (warm, 0.3)):
        with np.errstate(over="ignore"):  # 1 / inf is the intended 0
            expected = 1 / np.exp(beta * (logits - own[:, None])).sum(axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)
    assert (finite == 1).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("column", [0, 2])
def test_one_logit_that_is_not_finite_is_told(bad, column):
    logits = torch.zeros(3, 4)
    logits[1, column] = bad
    assert score(logits, torch.tensor([2, 2, 0]), [1.0])[-1].tolist() == [1, 0, 1]


@pytest.mark.parametrize(("name", "options"), [("cnn", {"norm": False}), ("torchvision/resnet18", {})])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_folding_batch_norm_leaves_the_function(name, options, dtype, tolerance):
    """To `tolerance` of the largest logit, for float64 and float32 rounding through up to 20 layers."""
    model = lively(name, (3, 32, 32), **options).to(dtype)
    before = copy.deepcopy(model.state_dict())
    images = torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        expected, found = model(images), folded(model)(images)
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_folding_leaves_what_it_must_not_touch():
    """Training mode, a layer or sequence with a hook, and other modules stay unfolded; shared layers are copied."""

    class Other(nn.Sequential):
        def forward(self, images):
            return self[0](images)

    pair = [nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)]
    chain, twice = nn.Sequential(*pair).eval(), nn.Sequential(*pair, pair[0]).eval()
    assert isinstance(folded(chain)[1], nn.Identity)
    assert folded(twice)[2] is pair[0]
    for model in (Other(*pair).eval(), nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))):
        assert folded(model) is model
    chain.register_forward_hook(lambda *_: None)
    assert folded(chain) is chain
    pair[0].register_forward_hook(lambda *_: None)
    assert list(folded(twice)[:2]) == pair


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_casts_that_are_kept_change_no_bit_and_are_made_once(points, name):
    inputs, _ = points
    recipe, device = TrainSpec(precision="bf16"), torch.device("cpu")
    model = folded(lively(name, tuple(inputs.shape[1:])))

    def run(calls: int) -> tuple[torch.Tensor, int]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as noted:
            for _ in range(calls):
                with torch.no_grad(), autocast(recipe, device):
                    found = model(inputs)
        return found, sum(event.count for event in noted.key_averages() if event.key == "aten::_to_copy")

    once, casts = run(1)
    with kept_casts(device):
        assert not torch.is_autocast_enabled("cpu")
        kept, fewer = run(3)
    assert torch.equal(once, kept)
    weights = len(list(model.parameters()))
    assert fewer == weights + 3 * (casts - weights)  # besides weights, intermediate values are cast


def test_the_probes_predictions_are_the_stages_and_bf16_moves_them_by_no_more_than_it_rounds(points):
    """With 8 bits per number, logits of order 10 move by about 0.05, and confidences by a fortieth at the very most."""
    inputs, labels = points
    model = lively("cnn", tuple(inputs.shape[1:]))
    for last in (False, True):  # folded, but still the stage's predictions
        recipe = TrainSpec(channels_last=last)
        placed = place(copy.deepcopy(model), recipe, torch.device("cpu"))
        expected, found = predict(placed, inputs.numpy(), recipe), predictor(placed, recipe)(inputs).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    logits = [predictor(model, TrainSpec(precision=precision))(inputs) for precision in ("float32", "bf16")]
    sure = [score(one, torch.from_numpy(labels), [1.0])[1] for one in logits]
    size = float(logits[0].abs().max())
    assert 0 < (logits[0] - logits[1]).abs().max() < 2**-6 * size
    assert (sure[0] - sure[1]).abs().max() < 2**-6 * size / 2  # a confidence moves by at most half its logits' move


class Spelt(Loss):
    """Cross entropy that gets rows of probabilities."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert targets.dim() == 2
        return base.soft_cross_entropy(logits, targets)


@pytest.mark.parametrize(
    ("name", "precision", "micro"),
    [("mlp", "float32", 8), ("cnn", "bf16", None)],
)
def test_labels_train_as_their_rows_do(name, precision, micro):
    """The gradient is the same to the last bit, and so are the weights; the loss is summed in another order."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(60, 1, 8, 8)).astype(np.float32), rng.integers(CLASSES, size=60)
    samples = TrainingSet(inputs, labels, CLASSES)
    spec = TrainSpec(batch=20, epochs=3, warmup=0, precision=precision, micro_batch=micro)
    weights: list[Mapping[str, torch.Tensor]] = []
    told = []
    for loss in (base.build(LossSpec("cross_entropy")), Spelt()):
        torch.manual_seed(0)
        model = builder.build(ModelSpec(name), (1, 8, 8), CLASSES)
        told.append([row["train_loss"] for row in fit(model, samples, loss, spec, 0, silent).history])
        weights.append(model.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    np.testing.assert_allclose(told[0], told[1], rtol=1e-6)


def test_a_subclass_of_cross_entropy_gets_rows_unless_it_says_otherwise():
    """It may change either method, so the parent's inputs don't determine its own."""

    class Halved(CrossEntropy):
        def mix(self, inputs, targets, rng):
            return inputs, targets / 2

    class Labelled(Halved):
        LABELS = True

    assert base.takes_labels(CrossEntropy())
    assert not base.takes_labels(Halved())
    assert base.takes_labels(Labelled())
