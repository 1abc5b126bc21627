"""Losses: Mixup against explicit combinations of points, the others against torch and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from halobench import losses, plugins
from halobench.losses import Loss
from halobench.losses.cross_entropy import CrossEntropy
from halobench.losses.focal import Focal
from halobench.losses.label_smoothing import LabelSmoothing
from halobench.losses.mixup import Mixup
from halobench.specs import LossSpec, SpecError


def batch(count: int = 12, classes: int = 4, shape: tuple[int, ...] = (2, 3, 3), seed: int = 0):
    """Random inputs, integer labels, one-hot rows and logits, in float64."""
    torch.manual_seed(seed)
    labels = torch.randint(classes, (count,))
    inputs = torch.randn(count, *shape, dtype=torch.float64)
    return inputs, labels, functional.one_hot(labels, classes).double(), 3 * torch.randn(count, classes).double()


def weights_of(loss: Mixup, count: int, rng: np.random.Generator) -> np.ndarray:
    """The mixing matrix (count, count) that one call applies: what it makes of the identity."""
    identity = torch.eye(count, dtype=torch.float64)
    return loss.mix(identity, identity, rng)[0].numpy()


@pytest.mark.parametrize("weights", ["batch", "sample"])
@pytest.mark.parametrize("points", [2, 3, 5])
def test_mixup_is_the_same_combination_of_points_and_of_their_cross_entropies(points, weights):
    inputs, labels, targets, logits = batch()
    loss = Mixup(points=points, weights=weights)
    mixed, soft = loss.mix(inputs, targets, np.random.default_rng(3))
    matrix = torch.from_numpy(weights_of(loss, len(inputs), np.random.default_rng(3)))
    torch.testing.assert_close(mixed, torch.einsum("ij,jchw->ichw", matrix, inputs), atol=1e-7, rtol=1e-6)
    pairs = sum(
        matrix[i, j] * functional.cross_entropy(logits[i : i + 1], labels[j : j + 1])
        for i in range(len(inputs))
        for j in range(len(inputs))
    )
    torch.testing.assert_close(loss(logits, soft), pairs / len(inputs), atol=1e-6, rtol=1e-6)


def test_mixup_members_are_the_batch_and_permutations_of_it():
    """Each row and column of the mixing matrix sums to one (a mixture of permutations); the first share is its own."""
    count, points = 40, 3
    matrix = weights_of(Mixup(points=points), count, np.random.default_rng(1))
    np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    assert ((matrix > 0).sum(axis=1) <= points).all()
    own = np.diag(matrix)
    assert len(np.unique(own.round(6))) <= 4  # the batch's share, alone or met again by one permutation or both
    assert (matrix > 0).sum() > 2 * count


def test_weights_are_drawn_once_a_batch_or_once_a_sample():
    shares = {
        w: np.sort(weights_of(Mixup(weights=w), 60, np.random.default_rng(5)), axis=1)[:, -2:]
        for w in ("batch", "sample")
    }
    distinct = {w: len(np.unique(s[s[:, 0] > 0].round(6), axis=0)) for w, s in shares.items()}
    assert distinct["batch"] == 1
    assert distinct["sample"] > 50


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("points", [2, 5])
def test_weights_have_the_dirichlets_moments(points, alpha):
    """Mean 1/M, variance (M - 1) / (M^2 (M alpha + 1)); by symmetry, one share's moments fix the others'."""
    rng = np.random.default_rng(7)
    loss = Mixup(points=points, alpha=alpha, weights="sample")
    count = 20_000
    inputs = torch.arange(count, dtype=torch.float64)[:, None]
    ones = torch.ones(count, 1, dtype=torch.float64)
    mixed, soft = loss.mix(inputs, ones, rng)
    np.testing.assert_allclose(soft, 1, atol=1e-6)
    # Given the shares, E[mixed] = share x own + (1 - share) x mean; regressing recovers the mean share 1/M.
    centred = (inputs - inputs.mean()).numpy().ravel()
    slope = centred @ mixed.numpy().ravel() / (centred @ centred)
    assert slope == pytest.approx(1 / points, abs=0.02)
    # Independent standard normal members: Var(mixed) = E[sum of squared shares] = (alpha + 1) / (M alpha + 1).
    noise = torch.from_numpy(rng.normal(size=(count, 1)))
    variance = float(loss.mix(noise, ones, rng)[0].var())
    assert variance == pytest.approx((alpha + 1) / (points * alpha + 1), rel=0.06)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_two_points_are_zhangs_mixup_with_beta_weights(alpha):
    """The batch's share follows Beta(alpha, alpha), by the Kolmogorov-Smirnov test at level 1e-4."""
    from scipy import stats

    rng, loss = np.random.default_rng(2), Mixup(points=2, alpha=alpha)
    inputs = torch.zeros(50, 1, dtype=torch.float64)
    inputs[0] = 1
    draws = []
    for _ in range(2000):
        mixed = loss.mix(inputs, inputs, rng)[0]
        if float(mixed[0]) < 1:  # the permutation moved point 0, so row 0 holds the batch's own share
            draws.append(float(mixed[0]))
    assert len(draws) > 1800
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-4


def test_mixing_repeats_with_its_generator_and_leaves_its_arguments_alone():
    inputs, _, targets, _ = batch()
    kept = inputs.clone(), targets.clone()
    loss = Mixup(points=3)
    first, again, other = (loss.mix(inputs, targets, np.random.default_rng(s))[0] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(inputs, kept[0])
    assert torch.equal(targets, kept[1])


def test_mixing_keeps_dtype_and_memory_layout():
    inputs = torch.randn(6, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    mixed, soft = Mixup(points=3).mix(inputs, torch.eye(6), np.random.default_rng(0))
    assert mixed.dtype == soft.dtype == torch.float32
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(), LabelSmoothing()], ids=lambda loss: type(loss).__name__)
def test_other_losses_mix_nothing(loss):
    inputs, _, targets, _ = batch()
    mixed, soft = loss.mix(inputs, targets, np.random.default_rng(0))
    assert mixed is inputs
    assert soft is targets


def test_losses_equal_torchs():
    _, labels, targets, logits = batch(200)
    torch.testing.assert_close(CrossEntropy()(logits, targets), functional.cross_entropy(logits, labels))
    torch.testing.assert_close(Focal(gamma=0)(logits, targets), functional.cross_entropy(logits, labels))
    for epsilon in (0, 0.1, 0.7):
        expected = functional.cross_entropy(logits, labels, label_smoothing=epsilon)
        torch.testing.assert_close(LabelSmoothing(epsilon=epsilon)(logits, targets), expected)


@pytest.mark.parametrize("gamma", [0.5, 1, 3])
def test_focal_is_its_formula_on_soft_targets(gamma):
    _, _, targets, logits = batch(50)
    soft = 0.7 * targets + 0.3 * targets.roll(1, dims=0)
    p = torch.softmax(logits, dim=1).numpy()
    expected = -(soft.numpy() * (1 - p) ** gamma * np.log(p)).sum(axis=1).mean()
    assert float(Focal(gamma=gamma)(logits, soft)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
def test_focal_is_finite_with_its_gradient_at_certainty(gamma):
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]], requires_grad=True)
    value = Focal(gamma=gamma)(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    value.backward()
    assert value.item() == pytest.approx(500)  # half of it at p = 1 (no loss), half at p = 0 (1,000)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("name", "options", "key", "expected"),
    [
        ("mixup", {"points": 1}, "points", "at least 2"),
        ("mixup", {"points": 2.5}, "points", "whole number"),
        ("mixup", {"alpha": 0}, "alpha", "above 0"),
        ("mixup", {"alpha": -1.0}, "alpha", "above 0"),
        ("mixup", {"alpha": "1e-3"}, "alpha", "write 0.001"),
        ("mixup", {"weights": "sampel"}, "weights", "did you mean 'sample'"),
        ("mixup", {"point": 2}, "point", "points"),
        ("focal", {"gamma": -0.1}, "gamma", "at least 0"),
        ("focal", {"gamma": float("nan")}, "gamma", "finite"),
        ("label_smoothing", {"epsilon": 1}, "epsilon", r"\[0, 1\)"),
        ("label_smoothing", {"epsilon": -0.1}, "epsilon", r"\[0, 1\)"),
        ("cross_entropy", {"gamma": 1}, "gamma", "no options"),
        ("mixupp", {}, "name", "did you mean 'mixup'"),
    ],
)
def test_bad_options_are_named(name, options, key, expected):
    with pytest.raises(SpecError, match=expected) as caught:
        losses.build(LossSpec(name, options))
    assert caught.value.key == key


def test_every_loss_file_is_found_and_builds():
    assert plugins.names("losses") == ["cross_entropy", "focal", "label_smoothing", "mixup"]
    _, _, targets, logits = batch()
    for name in plugins.names("losses"):
        loss = losses.build(LossSpec(name))
        assert isinstance(loss, Loss)
        assert loss(logits, targets).shape == ()
    assert losses.build(LossSpec("mixup", {"points": 5, "alpha": 2})).points == 5
