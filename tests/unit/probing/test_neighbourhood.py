"""The probe against functions whose neighbourhoods are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from halobench.core.errors import SpecError
from halobench.core.specs.probe import ProbeSpec
from halobench.models.architectures.attention import median_nearest
from halobench.probing import rays
from halobench.probing.probe import ProbeOptions, probe
from halobench.probing.rays import TrainingPoints, nearest_of_another_label, principal_components


def radial(centre: torch.Tensor, slope: float = 1.0):
    """Two logits whose gap for class 0 is `slope` * (1 - distance from `centre`)."""

    def predict(batch: torch.Tensor) -> torch.Tensor:
        distance = (batch.flatten(1) - centre).norm(dim=1)
        return torch.stack([slope * (1 - distance), torch.zeros_like(distance)], dim=1)

    return predict


@pytest.fixture
def two_classes():
    """Points of two classes in three dimensions, as 1x1x3 images, class 0 at the origin."""
    training = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [0, 4.0, 0]]).view(3, 1, 1, 3)
    return training, np.array([0, 1, 1])


def run(predict, points, labels, spec, two_classes, seed=0, **more):
    training, training_labels = two_classes
    around = TrainingPoints(training, training_labels)
    return probe(predict, points, np.asarray(labels), spec, around, rng=np.random.default_rng(seed), **more)


@pytest.mark.parametrize("kind", ["sphere", "nearest_other", "mixup_line", "manifold"])
def test_a_radial_function_gives_its_own_profile_and_radii(kind, two_classes):
    """Where the gap depends on distance alone, every kind of ray reads the same curve and the same radii."""
    training, _ = two_classes
    slope = 10.0
    spec = ProbeSpec(kind, radii=(0.0, 0.5, 0.9, 2.0), relative_radii=(0.5, 1.0), bisections=30)
    found = run(
        radial(torch.zeros(3), slope),
        training[:1],
        [0],
        spec,
        two_classes,
        options=ProbeOptions({"none": 1.0, "exact": 0.5}),
    )
    distance = np.where(found.curves["radius"].isna(), found.curves["relative_radius"] * 3.0, found.curves["radius"])
    gap = slope * (1 - distance)
    np.testing.assert_allclose(found.curves["logit_gap"], gap, atol=1e-5)
    np.testing.assert_allclose(found.curves["confidence"], 1 / (1 + np.exp(-gap)), atol=1e-6)
    radii = found.radii.set_index(["quantity", "calibrator"])["radius"]
    half = 1 / (1 + np.exp(-slope)) / 2
    assert radii["certainty", "none"] == pytest.approx(1 - np.log(9) / slope, abs=1e-5)
    assert radii["certainty", "exact"] == pytest.approx(1 - np.log(9) / (0.5 * slope), abs=1e-5)
    assert radii["half_level", "none"] == pytest.approx(1 - np.log(half / (1 - half)) / slope, abs=1e-5)
    assert radii["decision", "none"] == pytest.approx(1.0, abs=1e-5)
    assert not found.radii["censored"].any()


def test_rays_to_other_points_lead_there(two_classes):
    """Their lengths are right, and relative radius 1 is the nearest other point itself."""
    training, _ = two_classes
    at_other = radial(torch.tensor([3.0, 0, 0]))
    specs = ProbeSpec("nearest_other", radii=(0.0,), relative_radii=(1.0,)), ProbeSpec("mixup_line", directions=40)
    near, far, sphere = (run(at_other, training[:1], [0], spec, two_classes) for spec in (*specs, ProbeSpec("sphere")))
    assert near.curves["logit_gap"].iloc[-1] == pytest.approx(1.0, abs=1e-6)
    assert near.radii["line_length"].unique().tolist() == [3.0]
    assert sorted(far.radii["line_length"].unique()) == [3.0, 4.0]
    assert far.radii["other_distance"].unique().tolist() == [3.0]
    assert sphere.radii["line_length"].isna().all()


def test_certainty_that_never_ends_is_censored_and_that_never_begins_has_radius_zero(two_classes):
    training, _ = two_classes
    spec = ProbeSpec("sphere", radii=(0.0, 5.0), relative_radii=(0.5, 2.0))
    endless = run(lambda batch: torch.tensor([[9.0, 0.0]]).repeat(len(batch), 1), training[:1], [0], spec, two_classes)
    assert endless.radii["censored"].all()
    assert endless.radii["radius"].tolist() == pytest.approx([6.0] * 3), "the longest distance"
    radii = run(radial(torch.zeros(3), 0.1), training[:1], [0], ProbeSpec("sphere"), two_classes).radii
    certainty = radii[radii["quantity"] == "certainty"].iloc[0]
    assert (certainty["radius"], certainty["censored"]) == (0, False)


def test_a_class_that_draws_level_with_the_label_has_not_overtaken_it(two_classes):
    """All logits are 0 everywhere, so no ray ever reaches another decision."""
    training, _ = two_classes
    spec = ProbeSpec("sphere", radii=(0.0, 5.0), relative_radii=(0.5, 2.0))
    radii = run(lambda batch: torch.zeros(len(batch), 2), training[:1], [0], spec, two_classes).radii
    decision = radii[radii["quantity"] == "decision"].iloc[0]
    assert (decision["radius"], decision["censored"]) == (6.0, True)


def test_directions_do_not_depend_on_the_model_and_are_fresh_for_each_point(two_classes):
    seen = []

    def recording(batch):
        seen.append(batch.clone())
        return torch.zeros(len(batch), 2)

    spec = ProbeSpec("sphere", directions=2, radii=(1.0,), relative_radii=(1.0,))
    points = torch.zeros(2, 1, 1, 3)
    run(recording, points, [0, 0], spec, two_classes)
    first = torch.cat(seen)
    seen.clear()
    run(recording, points, [0, 0], spec, two_classes)
    assert torch.equal(first, torch.cat(seen))
    at_one = first[2:].view(2, 2, -1, 3)[:, :, 0]  # after the two points themselves, which are evaluated once
    assert len(torch.unique(at_one.reshape(-1, 3), dim=0)) == 4


def test_bad_arguments_are_named_and_a_module_in_train_mode_is_left_alone(two_classes):
    inputs, around = two_classes[0][:1], TrainingPoints(*two_classes)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))

    def refused(match: str, predict=None, inputs=inputs, labels=(0,), kind="sphere") -> None:
        predict = predict or radial(torch.zeros(3))
        with pytest.raises(SpecError, match=match):
            probe(predict, inputs, np.asarray(labels), ProbeSpec(kind), around, rng=np.random.default_rng(0))

    refused("kind: adversarial doesn't walk along rays", kind="adversarial")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refused("model: a module is in train mode; call model.eval", predict=model.train())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()[1].train()  # one layer is enough
    refused("model: a module is in train mode", predict=model)
    refused("inputs: found ndarray of float32, expected a float tensor", inputs=inputs.numpy())
    refused("inputs: found Tensor of torch.int64, expected a float tensor", inputs=inputs.long())
    refused(r"inputs\[0\]: found NaN or infinity, expected finite", inputs=inputs * float("nan"))
    refused("inputs: found .*expected .*to match the training samples", inputs=inputs[..., :2])
    refused(r"labels: found shape \(2,\), expected one label per sample", labels=[0, 1])
    refused("labels: found dtype float64, expected integer", labels=[0.0])
    refused("labels = -1: expected non-negative labels", labels=[-1])
    refused("labels = 2: expected labels from 0 to 1", labels=[2])
    for seed in (0, None):
        with pytest.raises(SpecError, match=r"rng = (0|None): expected a generator, such as numpy\.random"):
            probe(radial(torch.zeros(3)), inputs, np.zeros(1, int), ProbeSpec("sphere"), around, rng=seed)
    points = torch.randn(4, 3)
    with pytest.raises(SpecError, match="all training samples have the label 0"):
        nearest_of_another_label(points, np.zeros(4, int), TrainingPoints(points, np.zeros(4, int)))


def test_sphere_directions_are_uniform():
    """Squared coordinates of a uniform direction in D dimensions have mean 1/D and variance 2(D-1)/(D^2(D+2))."""
    seen = []

    def recording(batch):
        seen.append(batch.clone())
        return torch.zeros(len(batch), 2)

    training = torch.cat([torch.zeros(1, 1, 1, 5), torch.ones(1, 1, 1, 5)])
    spec = ProbeSpec("sphere", directions=20000, radii=(1.0,), relative_radii=(1.0,))
    around = TrainingPoints(training, np.array([0, 1]))
    probe(recording, training[:1], np.array([0]), spec, around, rng=np.random.default_rng(0))
    at_one = torch.cat(seen).view(-1, 5)
    at_one = at_one[(at_one.norm(dim=1) - 1).abs() < 1e-4]
    assert len(at_one) >= 20000
    assert at_one.mean(dim=0).abs().max() < 0.02
    np.testing.assert_allclose((at_one**2).mean(dim=0), 0.2, atol=0.01)
    np.testing.assert_allclose((at_one**2).var(dim=0), 2 * 4 / (25 * 7), atol=0.005)


def test_standard_errors_are_clustered_by_point(two_classes):
    """Rays of a point share its label, so only the spread between points' means counts."""
    values = {0.0: 2.0, 1.0: -1.0}

    def by_first_coordinate(batch):
        gap = torch.tensor([values[round(float(x[0]))] for x in batch.flatten(1)])
        return torch.stack([gap, torch.zeros_like(gap)], dim=1)

    points = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]).view(2, 1, 1, 3)
    spec = ProbeSpec("sphere", directions=7, radii=(0.0,), relative_radii=(0.01,))
    curves = run(by_first_coordinate, points, [0, 0], spec, two_classes).curves
    assert curves["logit_gap"].iloc[0] == pytest.approx(0.5)
    assert curves["logit_gap_se"].iloc[0] == pytest.approx(np.std([2.0, -1.0], ddof=1) / np.sqrt(2))


@pytest.mark.parametrize("far", [None, 6e4, 3e7])
def test_nearest_samples_are_those_of_brute_force_whatever_the_outlier(far):
    """After normalisation with an outlier, all others lie within a small fraction of their norm; copies don't count."""
    rng = np.random.default_rng(1)
    training, labels = rng.normal(size=(300, 6)), rng.integers(3, size=300)
    training[7], labels[7], labels[3] = training[3], 1, 0
    if far:
        training[0] = far
        training = (training - training.mean(axis=0)) / training.std(axis=0)
    training = training.astype(np.float32) + (0 if far else 20)
    samples = torch.from_numpy(training)
    row, distance = nearest_of_another_label(samples, labels, TrainingPoints(samples, labels))
    brute = np.linalg.norm(training[:, None].astype(np.float64) - training[None], axis=2)
    brute[brute == 0] = np.inf
    other = np.where(labels[:, None] == labels, np.inf, brute)
    np.testing.assert_allclose(distance, other.min(axis=1), rtol=1e-6)
    assert (labels[row] != labels).all()
    if far:
        assert float(median_nearest(samples)) == pytest.approx(np.sort(brute.min(axis=1))[149], rel=1e-5)


def test_parts_of_the_samples_of_the_last_search_are_not_searched_again(monkeypatch):
    rng = np.random.default_rng(1)
    training, labels = torch.from_numpy(rng.normal(size=(60, 4)).astype(np.float32)), rng.integers(3, size=60)
    samples, targets, searches = training[10:40], labels[10:40], []
    samples[7] = samples[6]  # a copy, which looks like the start of another run
    around = TrainingPoints(training, labels)

    def search(*arguments):
        searches.append(len(arguments[0]))
        return nearest_of_another_label(*arguments)

    monkeypatch.setattr(rays, "nearest_of_another_label", search)
    row, distance = around.nearest(samples, targets)
    for part in (slice(0, 30), slice(0, 12), slice(7, 20), slice(20, 30)):
        some = around.nearest(samples[part].clone(), targets[part].copy())
        assert np.array_equal(some[0], row[part])
        assert np.array_equal(some[1], distance[part])
    assert searches == [30]
    around.nearest(samples[3:9], (targets[3:9] + 1) % 3)
    around.nearest(samples, targets)
    assert searches == [30, 6, 30]


def test_principal_components_are_orthonormal_and_lead():
    rng = np.random.default_rng(2)
    scale = np.array([5.0, 3.0, 0.01, 0.01])
    points = rng.normal(size=(500, 4)) * scale + [0, 0, 9, 9]  # their location doesn't matter
    basis = principal_components(torch.from_numpy(points.astype(np.float32)), 2)
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-5)
    assert basis[:, 2:].abs().max() < 0.02
    flat = torch.zeros(10, 4)
    flat[:, 1] = torch.arange(10.0)
    assert len(principal_components(flat, 3)) == 1
