"""Attacked radii against closed forms, another optimiser, invariances and the rays of the same cell."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp
from torch import nn

from halobench import attacked_radius
from halobench.core.errors import DivergedError, SpecError
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.data.splits import Data, Split
from halobench.probing import ray_walk, run_search
from halobench.probing.attack import DECISION, Effort, Goal, attack, attacked
from halobench.probing.probe import ProbedModel, probe_cell
from halobench.probing.progress import Progress
from halobench.probing.ray_walk import ProbeOptions
from halobench.probing.rays import TrainingPoints
from halobench.probing.run_search import as_function
from halobench.training.checkpoint import Checkpoint


def linear(weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    """A linear classifier on 1x2x(D/2) images."""
    layer = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return nn.Sequential(nn.Flatten(), layer).eval()


def drawn(classes: int, size: int, count: int, seed: int = 0):
    """A linear classifier's weights and bias, and samples with the labels that it predicts."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.standard_normal((classes, size)), rng.standard_normal(classes)
    samples = 3 * rng.standard_normal((count, size))
    return weight, bias, torch.from_numpy(samples).float().view(count, 1, 2, -1), (samples @ weight.T + bias).argmax(1)


def network(seed: int = 0, size: int = 8, classes: int = 3) -> nn.Module:
    """A random network with two hidden layers and batch norm, whose statistics are anything but 0 and 1."""
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(size, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(24, classes))
    model.train()
    for _ in range(20):
        model(2 * torch.randn(50, 1, 2, size // 2) + 1)
    with torch.no_grad():
        model[-1].weight.mul_(100)
    return model.eval()


@pytest.mark.parametrize(("norm", "dual", "scale"), [("l2", 2, 1e-3), ("l2", 2, 1e3), ("inf", 1, 1.0)])
def test_of_two_classes_of_a_linear_model_the_radius_is_the_distance_to_a_plane(norm, dual, scale):
    """At each temperature, beta times the gap falls to the level's logit there, whatever the inputs' units."""
    weight, bias, samples, labels = drawn(2, 6, 20)
    model, gap = linear(weight / scale, bias), (samples.flatten(1).numpy() @ weight.T + bias) @ [1, -1]
    away, rng = np.linalg.norm(weight[0] - weight[1], ord=dual), np.random.default_rng(0)
    with as_function(model):
        goals = [*(Goal(beta, 0.8) for beta in (1.0, 0.3, 4.0)), Goal(0.3, None), DECISION]
        found = attack(model, scale * samples, labels, goals=goals, rng=rng, effort=Effort(norm))
    for goal, each in zip(goals, found, strict=True):
        level = logit(expit(goal.beta * np.abs(gap)) / 2 if goal.level is None else goal.level)
        exact = scale * np.maximum(np.abs(gap) - level / goal.beta, 0) / away
        np.testing.assert_allclose(each.radius, exact, rtol=2e-4, atol=1e-5 * scale)
        assert not each.censored.any()


def test_of_more_classes_it_is_what_a_constrained_optimiser_finds():
    """A linear model's margin of the label is concave in the input; SLSQP from several starts finds the same radius."""
    weight, bias, samples, labels = drawn(4, 6, 12, seed=1)
    found = attacked_radius(linear(weight, bias), samples, labels, 0.9, 0.5)
    for x, label, radius in zip(samples.flatten(1).double().numpy(), labels, found, strict=True):

        def margin(offset, x=x, label=label):
            z = 0.5 * (weight @ (x + offset) + bias)
            return z[label] - logsumexp(np.delete(z, label)) - logit(0.9)

        if margin(np.zeros(6)) < 0:
            assert radius == 0
            continue
        towards = [weight[other] - weight[label] for other in range(4) if other != label]
        below = {"type": "ineq", "fun": lambda offset: -margin(offset)}
        best = min(
            result.fun
            for start in towards
            if (result := minimize(np.linalg.norm, start, constraints=below, method="SLSQP", tol=1e-12)).success
        )
        assert radius == pytest.approx(best, rel=2e-3)


def test_a_radius_is_that_of_a_place_below_the_level_and_the_model_stays_as_it_was():
    model = network(3)
    model[1].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    samples = torch.randn(40, 1, 2, 4, generator=torch.Generator().manual_seed(2))
    labels = model(samples).argmax(dim=1)
    found = attacked(model, samples, labels, 0.95)
    with torch.no_grad():
        at_sample = torch.softmax(model(samples).double(), dim=1).gather(1, labels[:, None])[:, 0]
        there = torch.softmax(model(found.points).double(), dim=1).gather(1, labels[:, None])[:, 0]
    assert (there < 0.95 + 1e-7).all()
    distance = (found.points.double() - samples.double()).flatten(1).norm(dim=1)
    np.testing.assert_allclose(found.radius, distance, rtol=1e-12)
    np.testing.assert_array_equal(found.radius == 0, (at_sample < 0.95).numpy())
    assert not found.censored.any()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == [False] + [True] * 7
    assert all(parameter.grad is None for parameter in model.parameters())
    again = attacked_radius(model, samples, labels, 0.95)
    np.testing.assert_array_equal(again, found.radius)


class Steps(nn.Module):
    """Logits without a gradient: class 0 within `reach` of the origin, class 1 beyond."""

    def __init__(self, reach: float):
        super().__init__()
        self.reach = reach

    def forward(self, images):
        inside = (images.flatten(1).norm(dim=1) < self.reach).float()
        return 20 * torch.stack([inside, 1 - inside], dim=1)


def test_without_gradients_the_starts_alone_are_searched_and_what_is_not_found_is_censored():
    samples, labels = torch.zeros(2, 1, 1, 3), np.zeros(2, dtype=int)
    np.testing.assert_allclose(attacked_radius(Steps(5.0).eval(), samples, labels), 5.0, rtol=1e-5)
    never = attacked(Steps(np.inf).eval(), samples, labels, effort=Effort(steps=5))
    assert never.censored.all()
    assert torch.equal(never.points, samples)
    assert np.isinf(attacked_radius(Steps(np.inf).eval(), samples, labels, effort=Effort(steps=5))).all()


class Island(nn.Module):
    """Logits without a gradient: class 1 within 1/2 of a place, class 0 elsewhere."""

    def __init__(self, place: torch.Tensor):
        super().__init__()
        self.place = place

    def forward(self, images):
        inside = ((images - self.place).flatten(1).norm(dim=1) < 0.5).float()
        return 20 * torch.stack([1 - inside, inside], dim=1)


def test_a_search_tries_the_way_to_the_nearest_sample_of_another_class():
    """The attack finds the other class nowhere else."""
    place = 3 * torch.eye(40)[:1].view(1, 1, 2, 20)
    samples, labels = torch.cat([torch.zeros_like(place), place]), np.array([0, 1])
    model, spec = Island(place).eval(), ProbeSpec("adversarial", steps=5)
    assert attacked(model, samples[:1], labels[:1], effort=Effort(steps=5)).censored.all()
    around, rng = TrainingPoints(samples, labels), np.random.default_rng(0)
    found = run_search.search_radii(model, samples[:1], labels[:1], spec, around, rng=rng, options=ProbeOptions())
    assert set(found["quantity"]) == {"certainty", "half_level", "decision"}
    np.testing.assert_allclose(found["radius"], 2.5, rtol=1e-5)
    assert not found["censored"].any()


@pytest.mark.parametrize("effort", [{"norm": "l1"}, {"restarts": 0}, {"steps": 0.5}, {"batch": -1}])
def test_an_effort_that_is_none_is_refused(effort):
    with pytest.raises(SpecError, match=f"{next(iter(effort))} = "):
        Effort(**effort)


def test_logits_that_are_not_finite_are_reported():
    model = network()
    with torch.no_grad():
        model[-1].bias.fill_(torch.inf)
    with pytest.raises(DivergedError):
        attacked_radius(model, torch.zeros(1, 1, 2, 4), np.array([0]))


# --- As a kind of probe ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cell():
    """A network as probed, and the data it is probed around."""
    model, rng = network(5), np.random.default_rng(0)
    images = rng.standard_normal((120, 1, 2, 4)).astype(np.float32)
    with torch.no_grad():
        labels = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    splits = {
        name: Split(np.arange(120)[rows], images[rows], labels[rows], labels[rows])
        for name, rows in (("train", slice(0, 80)), ("val", slice(80, 90)), ("test", slice(90, 120)))
    }
    data = Data(splits, 3, (1, 2, 4), np.zeros(1), np.ones(1), np.eye(3))
    return ProbedModel(model, TrainSpec(eval_batch=64), 0.4), data


def test_no_random_ray_ends_before_the_attacked_radius(cell):
    """This holds for each sample, quantity, calibrator and threshold; each has a row, whether it is censored or not."""
    probed, data = cell
    count = {"points": 20, "control": 10}
    for threshold in (0.6, 0.9):
        probes = {
            "attacked": ProbeSpec("adversarial", threshold=threshold, **count),
            "rays": ProbeSpec("sphere", directions=30, threshold=threshold, bisections=12, **count),
            "line": ProbeSpec("nearest_other", threshold=threshold, bisections=12, **count),
        }
        found = probe_cell(probed, data, probes, 0, Progress(log=lambda line: None))
        assert set(found.curves["probe"]) == {"rays", "line"}
        keys = ["points", "point", "quantity", "calibrator"]
        least = found.radii.pivot_table(index=keys, columns="probe", values="radius", aggfunc="min", observed=True)
        assert least.groupby("quantity", observed=True).size().to_dict() == {
            "certainty": 2 * 30,
            "decision": 30,
            "half_level": 2 * 30,
        }
        rows = found.radii[found.radii["quantity"] == "certainty"]
        assert (least["attacked"] <= 1.001 * least[["rays", "line"]].min(axis=1) + 1e-6).all()
        attacks = rows[rows["probe"] == "attacked"]
        assert len(attacks) == 2 * 30
        assert (attacks["threshold"] == threshold).all()
        assert attacks["line_length"].isna().all()
        np.testing.assert_array_equal(
            attacks.drop_duplicates(["points", "point"])["other_distance"],
            rows[rows["probe"] == "line"].drop_duplicates(["points", "point"])["other_distance"],
        )


@pytest.mark.parametrize("kind", ["adversarial", "certified"])
def test_a_killed_probe_resumes_to_the_same_bytes(cell, tmp_path, kind, monkeypatch):
    """It is interrupted after every part of the samples, in a search and on a walk along rays."""
    monkeypatch.setattr(ray_walk, "FORWARDS", 200)
    monkeypatch.setattr(run_search, "SAMPLES", 4)
    probed, data = cell
    walk = ProbeSpec("sphere", points=12, control=12, directions=2)
    effort = {"steps": 5, "restarts": 1} if kind == "adversarial" else {}
    probes = {"a": ProbeSpec(kind, points=11, control=4, **effort), "b": walk}
    whole, stops = probe_cell(probed, data, probes, 0, Progress(log=lambda line: None)), 0

    class Stop(Exception):
        pass

    def after_a_part(line):
        if "saved" in line:
            raise Stop

    while True:
        try:
            checkpoint = Checkpoint(tmp_path / "point.safetensors", "key", every=0, log=after_a_part)
            parts = probe_cell(probed, data, probes, 0, Progress(checkpoint, lambda line: None))
            break
        except Stop:
            stops += 1
    chunks = -(-12 // ray_walk.chunk_samples(walk, 8, 2))
    assert chunks > 2
    assert stops == 3 + 1 + chunks + chunks
    assert parts.radii.equals(whole.radii)
    assert parts.curves.equals(whole.curves)


def test_a_goal_after_one_that_nothing_meets_is_searched_for_as_far_as_the_first():
    """Without a gradient, starting at the sample alone would find nothing and try no distance."""
    samples, labels = torch.zeros(3, 1, 2, 4), np.zeros(3, int)
    goals = [Goal(1.0, 1e-12), DECISION, Goal(1.0, 1e-12)]  # outside, the confidence is exp(-20), or 2e-9
    model, rng = Steps(0.3).eval(), np.random.default_rng(0)
    with as_function(model):
        never, decision, last = attack(model, samples, labels, goals=goals, rng=rng, effort=Effort())
    assert never.censored.all()
    assert last.censored.all()
    np.testing.assert_allclose(decision.radius, 0.3, rtol=1e-5)
    assert not decision.censored.any()
    assert (last.radius >= 0.3).all()


def test_a_signal_ends_a_search_between_two_passes_and_leaves_the_model_as_it_was(cell):
    """Whatever is raised, no hook remains, and parameters require gradients again."""
    model, passes = copy.deepcopy(cell[0].model), []

    def tick():
        passes.append(None)
        if len(passes) == 3:
            raise KeyboardInterrupt

    rng, goals = np.random.default_rng(0), [Goal(1.0, 1e-9)]
    with pytest.raises(KeyboardInterrupt), as_function(model, tick):
        attack(model, torch.zeros(1, 1, 2, 4), np.zeros(1, int), goals=goals, rng=rng, effort=Effort())
    model(torch.zeros(1, 1, 2, 4))
    assert len(passes) == 3
    assert all(parameter.requires_grad for parameter in model.parameters())
