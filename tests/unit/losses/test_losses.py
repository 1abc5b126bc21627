"""Losses: those that mix against explicit combinations of points, the others against their formulas."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs.data import NoiseSpec
from halobench.core.specs.training import LossSpec
from halobench.data.splits import noise_transition
from halobench.losses import base, checks
from halobench.losses.base import Loss, soft_cross_entropy
from halobench.losses.brier import Brier
from halobench.losses.cross_entropy import CrossEntropy
from halobench.losses.cutmix import Cutmix
from halobench.losses.dual_focal import DualFocal
from halobench.losses.focal import Focal
from halobench.losses.forward_correction import ForwardCorrection
from halobench.losses.label_smoothing import LabelSmoothing
from halobench.losses.mixup import Mixup
from halobench.losses.regmixup import Regmixup


def batch(count: int = 12, classes: int = 4, shape: tuple[int, ...] = (2, 3, 3), seed: int = 0):
    """Random inputs, integer labels, one-hot rows and logits, in float64."""
    torch.manual_seed(seed)
    labels = torch.randint(classes, (count,))
    inputs = torch.randn(count, *shape, dtype=torch.float64)
    return inputs, labels, functional.one_hot(labels, classes).double(), 3 * torch.randn(count, classes).double()


def weights_of(loss: Mixup, count: int, rng: np.random.Generator) -> np.ndarray:
    """The mixing matrix (count, count) that one call applies, found by mixing the identity."""
    identity = torch.eye(count, dtype=torch.float64)
    return loss.mix(identity, identity, rng)[0].numpy()


@pytest.mark.parametrize("weights", ["batch", "sample"])
@pytest.mark.parametrize("points", [2, 3])
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
    """Rows and columns of the mixing matrix sum to one (a mixture of permutations); the first share is a row's own."""
    count, points = 40, 3
    matrix = weights_of(Mixup(points=points), count, np.random.default_rng(1))
    np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    assert ((matrix > 0).sum(axis=1) <= points).all()
    shares = {w: weights_of(Mixup(weights=w), 60, np.random.default_rng(5)) for w in ("batch", "sample")}
    distinct = {w: len(np.unique(each[(each > 0) & (each < 1)].round(6))) for w, each in shares.items()}
    assert distinct["batch"] == 2, "one draw a batch: a share and its complement"
    assert distinct["sample"] > 100
    own = np.diag(matrix)
    assert len(np.unique(own.round(6))) <= 4  # the batch's share, alone or plus that of one or both permutations
    assert (matrix > 0).sum() > 2 * count


@pytest.mark.parametrize("alpha", [0.3, 4.0])
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
    # Given the shares, E[mixed] = share x own + (1 - share) x mean; a regression recovers the mean share 1/M.
    centred = (inputs - inputs.mean()).numpy().ravel()
    slope = centred @ mixed.numpy().ravel() / (centred @ centred)
    assert slope == pytest.approx(1 / points, abs=0.02)
    # Independent standard normal members: Var(mixed) = E[sum of squared shares] = (alpha + 1) / (M alpha + 1).
    noise = torch.from_numpy(rng.normal(size=(count, 1)))
    variance = float(loss.mix(noise, ones, rng)[0].var())
    assert variance == pytest.approx((alpha + 1) / (points * alpha + 1), rel=0.06)


# CutMix ---------------------------------------------------------------------------------------------------------------


def coordinates(count: int, height: int, width: int) -> torch.Tensor:
    """Images in which every pixel encodes its image and its position."""
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


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_cutmix_draws_boxes_of_the_papers_sizes(alpha):
    """If not cropped, a box has area 1 - share, share ~ Beta(alpha, alpha) (Kolmogorov-Smirnov test at level 1e-4)."""
    from scipy import stats

    side, rng = 100, np.random.default_rng(4)
    inputs = torch.zeros(2, 1, side, side)
    inputs[1] = 1
    ratios = []
    for _ in range(600):
        mixed, soft = Cutmix(alpha=alpha).mix(inputs, torch.eye(2), rng)
        rows, columns = ((mixed[0, 0] > 0).any(dim=axis).nonzero().ravel() for axis in (1, 0))
        if len(rows) and rows[0] > 0 and rows[-1] < side - 1 and columns[0] > 0 and columns[-1] < side - 1:
            assert len(rows) == len(columns)
            assert soft[0, 1] == pytest.approx(len(rows) * len(columns) / side**2, abs=1e-6)
            ratios.append(len(rows) / side)
    # A side of r stays inside on both axes with probability (1 - r)^2, so this much of the density is seen.
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


@pytest.mark.parametrize("shape", [(6, 3, 10), (6, 1, 4, 4, 4)])
def test_cutmix_refuses_what_is_no_image(shape):
    with pytest.raises(SpecError, match=r"expected images \(n, C, H, W\)") as caught:
        Cutmix().mix(torch.zeros(shape), torch.eye(6), np.random.default_rng(0))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("loss", [Mixup(), Cutmix()])
def test_arrays_are_refused_where_tensors_are_mixed(loss):
    with pytest.raises(SpecError, match=r"expected a tensor, e\.g\. from torch"):
        loss.mix(np.zeros((6, 1, 4, 4), np.float32), np.eye(6, dtype=np.float32), np.random.default_rng(0))


# RegMixup -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eta", "weights"), [(0.25, "batch"), (3.0, "sample")])
def test_regmixup_is_clean_cross_entropy_and_eta_times_mixups(eta, weights):
    inputs, labels, targets, _ = batch()
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(18, 4)).double()
    loss = Regmixup(eta=eta, alpha=2.0, weights=weights)
    doubled, soft = loss.mix(inputs, targets, np.random.default_rng(3))
    mixed, shares = Mixup(alpha=2.0, weights=weights).mix(inputs, targets, np.random.default_rng(3))
    assert torch.equal(doubled[: len(inputs)], inputs)
    expected = functional.cross_entropy(net(inputs), labels) + eta * soft_cross_entropy(net(mixed), shares)
    torch.testing.assert_close(loss(net(doubled), soft), expected)


# Losses that score predictions ----------------------------------------------------------------------------------------


def plain_loss(loss: Loss, logits: np.ndarray, label: int) -> float:
    """The loss of one point and label, computed term by term from its definition."""
    p = np.exp(logits - logits.max())
    p /= p.sum()
    other = 0.0
    match loss:
        case CrossEntropy():
            return -np.log(p[label])
        case LabelSmoothing():
            return -(1 - loss.epsilon) * np.log(p[label]) - loss.epsilon * np.log(p).mean()
        case Brier():
            return (p**2).sum() - 2 * p[label]  # the metrics' score, up to a constant of the labels
        case DualFocal():
            other = max((q for q in p if q < p[label]), default=0.0)
    return -((1 - p[label] + other) ** loss.gamma) * np.log(p[label])


SCORES = [
    CrossEntropy(),
    LabelSmoothing(epsilon=0.1),
    *(kind(gamma=gamma) for kind in (Focal, DualFocal) for gamma in (0.5, 5)),
    Brier(),
]


@pytest.mark.parametrize("loss", SCORES, ids=lambda loss: f"{type(loss).__name__} {list(vars(loss).values())}")
def test_a_score_is_its_formula_on_labels_and_on_soft_targets(loss):
    """Its gradient matches finite differences, and nothing is mixed."""
    inputs, _, targets, logits = batch(50, classes=6)
    logits[:10, 2] = logits[:10, 3]  # ties: neither value is below the other
    mixed, same = loss.mix(inputs, targets, np.random.default_rng(0))
    assert mixed is inputs
    assert same is targets
    points = np.array([[plain_loss(loss, z, j) for j in range(6)] for z in logits.numpy()])
    for rows in (targets, 0.7 * targets + 0.3 * targets.roll(1, dims=0)):
        expected = (rows.numpy() * points).sum(axis=1).mean()
        if isinstance(loss, Brier):
            expected += float(rows.square().sum(dim=1).mean())
        assert float(loss(logits, rows)) == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets[10:15]), logits[10:15].clone().requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("kind", [Focal, DualFocal])
def test_focal_losses_are_finite_with_their_gradients_at_certainty(kind, gamma):
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0], [0.0, 0.0]], requires_grad=True)
    value = kind(gamma=gamma)(logits, torch.tensor([[1.0, 0.0]] * 3))
    value.backward()
    # It is 0 at p = 1, the logits' distance at p = 0, and the focal loss at a tie.
    assert value.item() == pytest.approx((1000 + 0.5**gamma * np.log(2)) / 3)
    assert torch.isfinite(logits.grad).all()


# Names, options and checks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "key", "expected"),
    [
        ("mixup", {"points": 2.5}, "points", "whole number"),
        ("mixup", {"alpha": -1.0}, "alpha", "above 0"),
        ("mixup", {"weights": "sampel"}, "weights", "did you mean 'sample'"),
        ("focal", {"gamma": -0.1}, "gamma", "at least 0"),
        ("dual_focal", {"gamma": -1}, "gamma", "at least 0"),
        ("cutmix", {"alpha": 0}, "alpha", "above 0"),
        ("cutmix", {"probability": 1.5}, "probability", "at most 1"),
        ("regmixup", {"eta": 0}, "eta", "above 0"),
        ("regmixup", {"points": 3}, "points", "no such option; those of regmixup are alpha, eta, weights"),
        ("brier", {"gamma": 1}, "gamma", "no options"),
        ("label_smoothing", {"epsilon": 1}, "epsilon", "below 1"),
        ("label_smoothing", {"epsilon": -0.1}, "epsilon", "at least 0"),
    ],
)
def test_bad_options_are_named(name, options, key, expected):
    with pytest.raises(SpecError, match=expected) as caught:
        base.build(LossSpec(name, options))
    assert caught.value.key == key


class Mixes(CrossEntropy):
    """A loss that mixes by the rule of this name; it may drop every other row."""

    RULES: ClassVar = {
        "halves": lambda inputs, targets: (inputs[::2], targets[::2]),
        "uneven": lambda inputs, targets: (inputs, torch.cat([targets, targets])),
        "empty": lambda inputs, targets: (inputs[:0], targets[:0]),
        "narrow": lambda inputs, targets: (inputs[..., 1:], targets),
        "scalar": lambda inputs, targets: (inputs, targets.sum()),
    }

    def __init__(self, *, rule: str = "halves"):
        self.rule = rule

    def mix(self, inputs, targets, rng):
        return self.RULES[self.rule](inputs, targets)


def test_a_mix_may_change_the_number_of_rows_and_nothing_else():
    name = f"{__name__}:Mixes"
    checks.check_loss(LossSpec(name))
    for rule, told in (
        ("uneven", r"returned shapes \(4, 1, 4, 4\) and \(8, 3\); .*a different number of rows"),
        ("empty", r"returned shapes \(0, 1, 4, 4\) and \(0, 3\); .*a different number of rows"),
        ("narrow", r"returned shapes \(4, 1, 4, 3\) and \(4, 3\); .*a different number of rows"),
        ("scalar", f"name: {name} can't score a batch"),
    ):
        with pytest.raises(SpecError, match=told):
            checks.check_loss(LossSpec(name, {"rule": rule}))


@pytest.mark.parametrize("kind", ["pair_flip", "asymmetric", "uniform"])
def test_forward_correction_is_cross_entropy_of_the_noisy_label(kind):
    """Against the formula, and its gradient vanishes in expectation if the model outputs the clean posterior."""
    _, labels, targets, logits = batch(classes=5)
    transition = noise_transition(NoiseSpec(kind, 0.4), 5, np.random.default_rng(1))
    loss = ForwardCorrection()
    torch.testing.assert_close(loss(logits, labels), functional.cross_entropy(logits, labels))  # no noise known
    loss.learn_noise(transition)
    noisy = logits.softmax(1) @ torch.from_numpy(transition)
    torch.testing.assert_close(loss(logits, labels), functional.nll_loss(noisy.log(), labels), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(loss(logits, targets), loss(logits, labels))
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(loss(logits, noisy.detach()), logits)  # labels drawn from softmax(z) T
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-7, rtol=0)
    sure = torch.tensor(
        [[200.0, 0, 0, 0, 0]], requires_grad=True
    )  # the noisy label that the model excludes is possible
    loss(sure, torch.tensor([int(transition[0, 1:].argmax()) + 1])).backward()
    assert torch.isfinite(sure.grad).all()


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
    assert plugins.find("losses", "plain_losses:Smoothed").options == {"amount": 0.1, "weights": (1.0, 1.0, 1.0)}
    spec = LossSpec("plain_losses:Smoothed", {"amount": 0.3})
    loss = base.build(spec)
    assert base.takes_labels(loss)
    assert checks.check_loss(spec) == 4
    logits, labels = torch.randn(6, 3), torch.arange(6) % 3
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.3)
    torch.testing.assert_close(loss(logits, labels), expected)
    with pytest.raises(SpecError, match=r"has trainable parameters \(scale\.weight, scale\.bias\)"):
        base.build(LossSpec("plain_losses:Learned"))
    with pytest.raises(SpecError, match="amount, weights"):
        base.build(LossSpec("plain_losses:Smoothed", {"amuont": 1}))
