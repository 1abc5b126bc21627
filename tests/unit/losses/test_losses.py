"""Losses: mixing ones against explicit combinations of points, the others against torch and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs import DatasetSpec, LossSpec, ModelSpec, NoiseSpec, SourceSpec, TrainSpec
from halobench.data import sources, splits
from halobench.experiment import build_checks
from halobench.losses import base
from halobench.losses.base import Loss, soft_cross_entropy
from halobench.losses.brier import Brier
from halobench.losses.cross_entropy import CrossEntropy
from halobench.losses.cutmix import Cutmix
from halobench.losses.dual_focal import DualFocal, next_below
from halobench.losses.focal import Focal
from halobench.losses.label_smoothing import LabelSmoothing
from halobench.losses.mixup import Mixup
from halobench.losses.regmixup import Regmixup
from halobench.training.cell import train_cell


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


# CutMix ---------------------------------------------------------------------------------------------------------------


def coordinates(count: int, height: int, width: int) -> torch.Tensor:
    """Images whose every pixel tells which image it is of, and which pixel."""
    return torch.arange(count * height * width, dtype=torch.float32).view(count, 1, height, width)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 13), (1, 16), (1, 1)])
def test_cutmix_pastes_one_box_of_one_permutation_and_mixes_targets_by_its_area(height, width):
    count = 9
    inputs, own = coordinates(count, height, width), torch.eye(count)
    areas = set()
    for seed in range(60):
        mixed, soft = Cutmix().mix(inputs, own, np.random.default_rng(seed))
        source, pixel = mixed.long() // (height * width), mixed.long() % (height * width)
        assert torch.equal(pixel, inputs.long() % (height * width))  # pixels stay in their places
        others = source != torch.arange(count)[:, None, None, None]
        moved = others.flatten(1).any(dim=1)  # a permutation may leave images where they are
        boxes = others[moved].unique(dim=0)
        assert len(boxes) <= 1
        share = 0.0
        if len(boxes):
            box = boxes[0, 0]
            rows, columns = box.any(dim=1).nonzero().ravel(), box.any(dim=0).nonzero().ravel()
            assert box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert box.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
            share = box.sum().item() / box.numel()
            partner = source[:, 0, rows[0], columns[0]]
            assert sorted(partner.tolist()) == list(range(count))
            expected = torch.eye(count) * (1 - share) + torch.eye(count)[partner] * share
            torch.testing.assert_close(soft, expected)
        areas.add(round(share, 6))
    assert len(areas) > (10 if height * width > 16 else 1 if height * width > 1 else 0)


def test_cutmix_keeps_the_share_of_each_target_that_the_image_shows():
    """Images of one value each: the target's mean over images is the mean pixel, whatever the box."""
    inputs = torch.randn(16, 1, 1, 1).expand(16, 3, 7, 9)
    for seed in range(20):
        mixed, soft = Cutmix(alpha=0.5).mix(inputs, inputs[:, :1, 0, 0], np.random.default_rng(seed))
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), soft[:, 0])


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_cutmix_draws_boxes_of_the_papers_sizes(alpha):
    """Uncut, a box has the area 1 - share, share ~ Beta(alpha, alpha), by the Kolmogorov-Smirnov test at level 1e-4."""
    from scipy import stats

    side, rng = 1000, np.random.default_rng(4)
    inputs = torch.zeros(2, 1, side, side)
    inputs[1] = 1
    ratios = []
    for _ in range(800):
        mixed, soft = Cutmix(alpha=alpha).mix(inputs, torch.eye(2), rng)
        rows, columns = ((mixed[0, 0] > 0).any(dim=axis).nonzero().ravel() for axis in (1, 0))
        if len(rows) and rows[0] > 0 and rows[-1] < side - 1 and columns[0] > 0 and columns[-1] < side - 1:
            assert len(rows) == len(columns)
            assert soft[0, 1] == pytest.approx(len(rows) * len(columns) / side**2, abs=1e-6)
            ratios.append(len(rows) / side)
    # A side of r stays inside on both axes with probability (1 - r)^2, so that much of the density is seen.
    grid = np.linspace(0, 1, 4001)[1:-1]
    density = stats.beta(alpha, alpha).pdf(1 - grid**2) * 2 * grid * (1 - grid) ** 2
    cdf = np.concatenate([[0], np.cumsum(density)]) / density.sum()
    assert len(ratios) > 30
    found = stats.kstest(ratios, lambda r: np.interp(r, [0, *grid], cdf))
    assert found.pvalue > 1e-4


def test_cutmix_mixes_a_share_of_batches():
    inputs, targets = coordinates(4, 8, 8), torch.eye(4)
    rng = np.random.default_rng(0)
    kept = sum(Cutmix(probability=0.3).mix(inputs, targets, rng)[0] is inputs for _ in range(1000))
    assert 640 < kept < 760  # 700 +- 4 standard deviations
    always, seldom = (Cutmix(probability=p).mix(inputs, targets, np.random.default_rng(3)) for p in (1, 0.9999))
    assert torch.equal(always[0], seldom[0])


@pytest.mark.parametrize("shape", [(6,), (6, 10), (6, 3, 10), (6, 1, 4, 4, 4)])
def test_cutmix_refuses_what_is_no_image(shape):
    with pytest.raises(SpecError, match=r"expected images \(n, C, H, W\)") as caught:
        Cutmix().mix(torch.zeros(shape), torch.eye(6), np.random.default_rng(0))
    assert str(shape) in str(caught.value)


# RegMixup -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["batch", "sample"])
@pytest.mark.parametrize("eta", [0.25, 1.0, 3.0])
def test_regmixup_is_clean_cross_entropy_and_eta_times_mixups(eta, weights):
    inputs, labels, targets, _ = batch()
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(18, 4)).double()
    loss = Regmixup(eta=eta, alpha=2.0, weights=weights)
    doubled, soft = loss.mix(inputs, targets, np.random.default_rng(3))
    mixed, shares = Mixup(alpha=2.0, weights=weights).mix(inputs, targets, np.random.default_rng(3))
    assert torch.equal(doubled[: len(inputs)], inputs)
    expected = functional.cross_entropy(net(inputs), labels) + eta * soft_cross_entropy(net(mixed), shares)
    torch.testing.assert_close(loss(net(doubled), soft), expected)


def test_regmixup_in_parts_is_regmixup():
    """The loss is a mean over rows, so that parts of the batch add up by their number of rows, gradients too."""
    inputs, _, targets, _ = batch(10)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(18, 4)).double()
    loss = Regmixup(eta=0.5)
    mixed, soft = loss.mix(inputs, targets, np.random.default_rng(1))

    def gradient(value):
        return torch.autograd.grad(value, net[1].weight)[0]

    whole = gradient(loss(net(mixed), soft))
    parts = [slice(0, 7), slice(7, 13), slice(13, 20)]
    summed = sum((part.stop - part.start) / 20 * gradient(loss(net(mixed[part]), soft[part])) for part in parts)
    torch.testing.assert_close(summed, whole)


# Mixing ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [Cutmix(), Regmixup(), Mixup()], ids=lambda loss: type(loss).__name__)
def test_mixing_losses_repeat_and_keep_arguments_dtype_and_layout(loss):
    inputs = torch.randn(6, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    targets = torch.eye(6)
    before = inputs.clone(), targets.clone()
    (mixed, soft), again, other = (loss.mix(inputs, targets, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(mixed, again[0])
    assert torch.equal(soft, again[1])
    assert not torch.equal(mixed, other[0])
    assert torch.equal(inputs, before[0])
    assert torch.equal(targets, before[1])
    assert mixed.dtype == soft.dtype == torch.float32
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "loss",
    [CrossEntropy(), Focal(), LabelSmoothing(), DualFocal(), Brier()],
    ids=lambda loss: type(loss).__name__,
)
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


# Dual focal and Brier -------------------------------------------------------------------------------------------------


def dual_focal(logits: np.ndarray, label: int, gamma: float) -> float:
    """The paper's loss of one point, term by term."""
    p = np.exp(logits - logits.max())
    p /= p.sum()
    below = [q for q in p if q < p[label]]
    return -((1 - p[label] + max(below, default=0)) ** gamma) * np.log(p[label])


@pytest.mark.parametrize("gamma", [0.5, 1, 5])
def test_dual_focal_is_its_formula(gamma):
    _, labels, targets, logits = batch(50, classes=6)
    logits[:10, 2] = logits[:10, 3]  # ties: neither is below the other
    loss = DualFocal(gamma=gamma)
    points = np.array([[dual_focal(z, j, gamma) for j in range(6)] for z in logits.numpy()])
    assert float(loss(logits, targets)) == pytest.approx(points[np.arange(50), labels].mean(), rel=1e-9)
    soft = 0.7 * targets + 0.3 * targets.roll(1, dims=0)
    assert float(loss(logits, soft)) == pytest.approx((soft.numpy() * points).sum(axis=1).mean(), rel=1e-9)


def test_dual_focal_is_cross_entropy_at_gamma_0_and_focal_where_nothing_is_below():
    _, labels, targets, logits = batch(60)
    torch.testing.assert_close(DualFocal(gamma=0)(logits, targets), functional.cross_entropy(logits, labels))
    least = functional.one_hot(logits.argmin(dim=1), 4).double()
    torch.testing.assert_close(DualFocal(gamma=2)(logits, least), Focal(gamma=2)(logits, least))


def test_dual_focals_gradient_is_that_of_finite_differences():
    _, _, targets, logits = batch(8)
    assert torch.autograd.gradcheck(lambda z: DualFocal(gamma=2.5)(z, targets), logits.requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 5.0])
def test_dual_focal_is_finite_with_its_gradient_at_certainty(gamma):
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0], [0.0, 0.0]], requires_grad=True)
    value = DualFocal(gamma=gamma)(logits, torch.tensor([[1.0, 0.0]] * 3))
    value.backward()
    # At p = 1 nothing, at p = 0 the logits' distance, at a tie the focal loss.
    assert value.item() == pytest.approx((1000 + 0.5**gamma * np.log(2)) / 3)
    assert torch.isfinite(logits.grad).all()


def test_next_below_skips_equal_entries():
    values = torch.tensor([[3.0, 1.0, 3.0, 2.0], [2.0, 2.0, 2.0, 2.0]])
    assert next_below(values).tolist() == [[2.0, 0.0, 2.0, 1.0], [0.0] * 4]


def test_brier_is_the_score_of_the_metrics():
    from halobench.calibration import metrics

    _, labels, targets, logits = batch(80)
    p = metrics.softmax(logits.numpy())
    assert float(Brier()(logits, targets)) == pytest.approx(metrics.brier(p, labels.numpy()), rel=1e-12)
    soft = 0.6 * targets + 0.4 * targets.roll(1, dims=0)
    noise = float((1 - soft.square().sum(dim=1)).mean())
    assert float(Brier()(logits, soft)) + noise == pytest.approx(metrics.brier(p, soft.numpy()), rel=1e-12)


def test_briers_gradient_is_the_closed_form():
    """Of one point in its logits: 2 p_i (d_i - p.d) with d = p - t."""
    _, _, targets, logits = batch(1)
    value = Brier()(logits.requires_grad_(), targets)
    p = torch.softmax(logits.detach(), dim=1)
    expected = 2 * p * (p - targets - (p * (p - targets)).sum())
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], expected)


# Names, options and checks --------------------------------------------------------------------------------------------


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
        ("dual_focal", {"gamma": -1}, "gamma", "at least 0"),
        ("cutmix", {"alpha": 0}, "alpha", "above 0"),
        ("cutmix", {"probability": 0}, "probability", r"\(0, 1\]"),
        ("cutmix", {"probability": 1.5}, "probability", r"\(0, 1\]"),
        ("regmixup", {"alpha": -1}, "alpha", "above 0"),
        ("regmixup", {"eta": 0}, "eta", "above 0"),
        ("regmixup", {"weights": "points"}, "weights", "one of batch, sample"),
        ("regmixup", {"points": 3}, "points", "no such key"),
        ("brier", {"gamma": 1}, "gamma", "no options"),
        ("label_smoothing", {"epsilon": 1}, "epsilon", r"\[0, 1\)"),
        ("label_smoothing", {"epsilon": -0.1}, "epsilon", r"\[0, 1\)"),
        ("cross_entropy", {"gamma": 1}, "gamma", "no options"),
        ("mixupp", {}, "name", "did you mean 'mixup'"),
    ],
)
def test_bad_options_are_named(name, options, key, expected):
    with pytest.raises(SpecError, match=expected) as caught:
        base.build(LossSpec(name, options))
    assert caught.value.key == key


def test_every_loss_file_is_found_and_builds():
    assert plugins.names("losses") == [
        *("brier", "cross_entropy", "cutmix", "dual_focal", "focal", "label_smoothing", "mixup", "regmixup")
    ]
    _, _, targets, logits = batch()
    for name in plugins.names("losses"):
        loss = base.build(LossSpec(name))
        assert isinstance(loss, Loss)
        assert loss(logits, targets).shape == ()
    assert base.build(LossSpec("mixup", {"points": 5, "alpha": 2})).points == 5


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_every_loss_makes_as_many_rows_as_its_file_says(name):
    inputs, _, targets, _ = batch()
    mixed, _ = base.build(LossSpec(name)).mix(inputs, targets, np.random.default_rng(0))
    assert len(mixed) == len(inputs) * (plugins.constant("losses", name, "ROWS") or 1)


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_every_loss_passes_the_check_before_a_run(name):
    build_checks.check_loss(LossSpec(name))


class Halves(CrossEntropy):
    """A loss that drops every other row, which a loss may."""

    def mix(self, inputs, targets, rng):
        return inputs[::2], targets[::2]


class Uneven(CrossEntropy):
    def mix(self, inputs, targets, rng):
        return inputs, torch.cat([targets, targets])


class Empty(CrossEntropy):
    def mix(self, inputs, targets, rng):
        return inputs[:0], targets[:0]


class Narrow(CrossEntropy):
    def mix(self, inputs, targets, rng):
        return inputs[..., 1:], targets


class Scalar(CrossEntropy):
    def mix(self, inputs, targets, rng):
        return inputs, targets.sum()


def test_a_mix_may_change_the_number_of_rows_and_nothing_else():
    here = __name__
    build_checks.check_loss(LossSpec(f"{here}:Halves"))
    for name, shapes in (
        ("Uneven", "not (4, 1, 4, 4) and (8, 3)"),
        ("Empty", "not (0, 1, 4, 4) and (0, 3)"),
        ("Narrow", "not (4, 1, 4, 3) and (4, 3)"),
    ):
        with pytest.raises(SpecError, match="but for its number of rows") as caught:
            build_checks.check_loss(LossSpec(f"{here}:{name}"))
        assert shapes in str(caught.value)
    with pytest.raises(SpecError, match=f"name = '{here}:Scalar': expected a loss"):
        build_checks.check_loss(LossSpec(f"{here}:Scalar"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """200 digits, a fifth of them mislabelled."""
    folder = tmp_path_factory.mktemp("digits")
    sources.write_source(SourceSpec("digits"), folder)
    return splits.load_data(folder, DatasetSpec("digits", 200, 50, 200, NoiseSpec("pair_flip", 0.2)), seed=0)


@pytest.mark.parametrize("name", ["brier", "cutmix", "dual_focal", "regmixup"])
def test_new_losses_train_a_cell_to_the_same_bytes(digits, name):
    spec = TrainSpec(lr=0.003, epochs=8)
    first, again = (train_cell(digits, ModelSpec("mlp"), LossSpec(name), spec, 0, lambda line: None) for _ in range(2))
    assert first.logits["test.logits"].tobytes() == again.logits["test.logits"].tobytes()
    right = (first.logits["test.logits"].argmax(axis=1) == digits.splits["test"].clean).mean()
    assert right > 0.6  # chance is 0.1
    assert first.history[-1]["train_loss"] < first.history[0]["train_loss"]


PLAIN = """
from torch import nn

class Smoothed(nn.Module):
    def __init__(self, amount=0.1, *, weights=(1.0, 1.0, 1.0)):
        super().__init__()
        import torch
        self.loss = nn.CrossEntropyLoss(torch.tensor(weights), label_smoothing=amount)

    def forward(self, logits, labels):
        assert labels.dtype.is_floating_point is False
        return self.loss(logits, labels)

class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(1, 1)
"""


def test_a_plain_module_is_a_loss_of_labels(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plain_losses.py").write_text(PLAIN)
    assert plugins.signature("losses", "plain_losses:Smoothed") == {"amount": 0.1, "weights": (1.0, 1.0, 1.0)}
    spec = LossSpec("plain_losses:Smoothed", {"amount": 0.3})
    loss = base.build(spec)
    assert base.takes_labels(loss)
    assert build_checks.check_loss(spec) == 4
    logits, labels = torch.randn(6, 3), torch.arange(6) % 3
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.3)
    torch.testing.assert_close(loss(logits, labels), expected)
    with pytest.raises(SpecError, match=r"a loss that has nothing to learn, not scale\.weight, scale\.bias"):
        base.build(LossSpec("plain_losses:Learned"))
    with pytest.raises(SpecError, match="has amount, weights"):
        base.build(LossSpec("plain_losses:Smoothed", {"amuont": 1}))
