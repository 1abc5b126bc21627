"""Training: the schedule, determinism, and what is recorded."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from halobench.core.errors import DivergedError, SpecError
from halobench.core.seeding import generator
from halobench.core.specs.codec import canonical, parse
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data import sources, splits
from halobench.losses import base
from halobench.models import builder
from halobench.training.augmentation import augmented, shifted
from halobench.training.loop import TrainingSet, backward, fit
from halobench.training.optimizer import learning_rate
from halobench.training.train_cell import evaluate_cell, predict, train_cell


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """300 noisy digits."""
    folder = tmp_path_factory.mktemp("digits")
    sources.write_source(SourceSpec("digits"), folder)
    return splits.load_data(folder, DatasetSpec("digits", 300, 50, 50, NoiseSpec("pair_flip", 0.5)), seed=0)


def silent(line: str) -> None:
    """Drop progress lines."""


def test_the_schedule_warms_up_linearly_and_ends_at_zero():
    spec = TrainSpec(lr=0.1, epochs=10, warmup=2)
    rates = [learning_rate(step, 5, spec) for step in range(50)]
    np.testing.assert_allclose(rates[:10], 0.1 * np.arange(1, 11) / 10)
    expected = [0.05 * (1 + math.cos(math.pi * i / 40)) for i in range(40)]
    np.testing.assert_allclose(rates[10:], expected)
    assert learning_rate(50, 5, spec) == pytest.approx(0)
    constant = TrainSpec(lr=0.1, epochs=10, warmup=0, schedule="constant")
    assert {learning_rate(step, 5, constant) for step in range(50)} == {0.1}


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (2, 1), (3, 2), (50, 2)])
def test_the_default_warm_up_leaves_an_epoch_of_a_short_recipe(epochs, warmup):
    """The spec records it; specs of recipes long enough for the full warm-up are unchanged."""
    spec = parse(TrainSpec, {"epochs": epochs})
    assert spec.warmup == warmup
    assert canonical(spec) == ({"epochs": epochs} if epochs != 50 else {}) | ({"warmup": warmup} if epochs < 3 else {})
    assert parse(TrainSpec, canonical(spec)) == spec
    rates = [learning_rate(step, 5, spec) for step in range(5 * epochs)]
    assert max(rates) == spec.lr
    assert rates.index(spec.lr) == max(5 * warmup - 1, 0)


def test_one_full_batch_step_of_sgd_is_the_gradient_step():
    """For softmax regression from zero, the gradient is the closed form X^T (softmax - Y) / n."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(20, 1, 1, 4)).astype(np.float32), rng.integers(3, size=20)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    spec = TrainSpec(optimizer="sgd", momentum=0.0, lr=0.5, batch=20, epochs=1, warmup=0, schedule="constant")
    history = fit(model, TrainingSet(inputs, labels, 3), base.build(LossSpec("cross_entropy")), spec, 0, silent).history
    residual = 1 / 3 - np.eye(3)[labels]
    np.testing.assert_allclose(
        model[1].weight.detach(), -0.5 * residual.T @ inputs.reshape(20, 4) / 20, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(model[1].bias.detach(), -0.5 * residual.mean(axis=0), rtol=1e-5, atol=1e-7)
    (row,) = history
    assert {key: row[key] for key in ("epoch", "step", "lr")} == {"epoch": 1, "step": 1, "lr": 0.5}
    assert row["train_loss"] == pytest.approx(math.log(3), rel=1e-6)
    gradient = np.concatenate([residual.T @ inputs.reshape(20, 4), residual.sum(axis=0)[:, None]], axis=1) / 20
    assert row["gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


CROPPED = TrainSpec(lr=0.003, epochs=3, channels_last=True, random_crop=1, flip=True)


@pytest.mark.parametrize(
    ("model", "loss", "spec"),
    [("cnn", "mixup", CROPPED), *(("mlp", name, TrainSpec(lr=0.003, epochs=3)) for name in ("brier", "regmixup"))],
)
def test_a_training_repeats_to_the_byte_learns_and_follows_its_seed(digits, model, loss, spec):
    lines = []
    cells = [train_cell(digits, ModelSpec(model), LossSpec(loss), spec, seed, lines.append) for seed in (0, 0, 1)]
    first, second, other = (cell.logits["test.logits"].tobytes() for cell in cells)
    assert first == second != other
    assert cells[0].history == cells[1].history
    assert cells[0].history[-1]["train_loss"] < cells[0].history[0]["train_loss"]
    assert [line.split()[1] for line in lines[:3]] == ["1/3", "2/3", "3/3"]
    assert all("s left" in line for line in lines)


@pytest.mark.parametrize("change", [{"random_crop": 0}, {"flip": False}, {"batch": 40}], ids=str)
def test_what_is_done_to_images_and_batches_counts(digits, change):
    specs = CROPPED, dataclasses.replace(CROPPED, **change)
    cells = [train_cell(digits, ModelSpec("mlp"), LossSpec("cross_entropy"), spec, 0, silent) for spec in specs]
    assert not np.array_equal(cells[0].logits["test.logits"], cells[1].logits["test.logits"])


@pytest.mark.parametrize(
    ("name", "cls", "options"),
    [("adam", torch.optim.Adam, {}), ("adamw", torch.optim.AdamW, {}), ("sgd", torch.optim.SGD, {"momentum": 0.8})],
)
def test_a_training_is_a_plain_loop_over_torchs_optimiser(name, cls, options):
    """With the same epoch orders, full batches only, and a learning rate per step, weights agree up to rounding."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(60, 1, 4, 4)).astype(np.float32), rng.integers(3, size=60)
    spec = TrainSpec(optimizer=name, lr=0.02, momentum=0.8, weight_decay=0.05, batch=25, epochs=4, warmup=2)
    found = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    plain = copy.deepcopy(found)
    fit(found, TrainingSet(inputs, labels, 3), base.build(LossSpec("cross_entropy")), spec, 5, silent)
    optimizer = cls(plain.parameters(), weight_decay=0.05, **options)
    for epoch in range(4):
        order = generator(5, "epoch", epoch).permutation(60)
        for step in range(2):
            optimizer.param_groups[0]["lr"] = learning_rate(2 * epoch + step, 2, spec)
            rows = order[25 * step : 25 * (step + 1)]
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                plain(torch.from_numpy(inputs[rows])), torch.from_numpy(labels[rows])
            ).backward()
            optimizer.step()
    for mine, theirs in zip(found.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def interpolating(digits):
    """A cell that fits all its labels."""
    recipe = TrainSpec(epochs=40, lr=0.01)
    return train_cell(digits, ModelSpec("mlp"), LossSpec("cross_entropy"), recipe, 0, silent)


def test_cells_say_whether_they_interpolate(digits, interpolating):
    short = train_cell(digits, ModelSpec("mlp"), LossSpec("cross_entropy"), TrainSpec(epochs=3), 0, silent)
    assert not short.facts["interpolates"]
    assert interpolating.facts["interpolates"]
    assert interpolating.facts["train_accuracy"] >= 0.99
    assert interpolating.facts["steps"] == 40 * 6


def test_prediction_is_in_eval_mode_and_does_not_depend_on_the_batch(digits):
    cell = train_cell(digits, ModelSpec("cnn"), LossSpec("cross_entropy"), TrainSpec(epochs=3), 0, silent)
    before = {name: value.clone() for name, value in cell.model.state_dict().items()}
    whole = predict(cell.model, digits.inputs("test"), TrainSpec(eval_batch=50))
    parts = predict(cell.model, digits.inputs("test"), TrainSpec(eval_batch=7))
    np.testing.assert_allclose(whole, parts, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in cell.model.state_dict().items())


def test_shifts_move_whole_images_and_repeat_their_border():
    shape, rng = (2, 4, 9), np.random.default_rng(0)
    images = torch.randn(200, *shape)
    found = shifted(images, 2, np.random.default_rng(3))
    assert found.shape == images.shape
    offsets = set()
    for image, moved in zip(images, found, strict=True):
        rows, columns = np.arange(shape[1]), np.arange(shape[2])
        fits = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                y, x = np.clip(rows + down, 0, shape[1] - 1), np.clip(columns + right, 0, shape[2] - 1)
                if torch.equal(image[:, y][:, :, x], moved):
                    fits.append((down, right))
        assert len(fits) == 1
        offsets.add(fits[0])
    assert len(offsets) == 25, "every offset comes up"
    assert torch.equal(shifted(images, 0, rng), images)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state, "nothing is drawn without shifts"


def test_a_model_with_nothing_to_train_takes_no_step(digits):
    lines = []
    cell = train_cell(digits, ModelSpec("nearest"), LossSpec("cross_entropy"), TrainSpec(), 0, lines.append)
    assert (cell.history, cell.facts["steps"], cell.facts["train_accuracy"]) == ([], 0, 1.0)
    assert lines == ["the model has nothing to train"]


def test_mirrored_images_are_mirrored_and_half_of_them_are():
    images = torch.arange(24.0).view(1, 1, 4, 6).repeat(2000, 1, 1, 1)
    found = augmented(images, TrainSpec(flip=True), np.random.default_rng(0))
    plain = (found.flatten(1) == images.flatten(1)).all(dim=1)
    turned = (found.flatten(1) == images.flip(3).flatten(1)).all(dim=1)
    assert (plain ^ turned).all()
    assert abs(turned.float().mean() - 0.5) < 0.05
    assert augmented(images, TrainSpec(), np.random.default_rng(0)) is images


def test_a_loss_that_knows_the_noise_predicts_labels_with_noise(digits):
    """The saved logits are those of the label with noise, while the model's outputs are about the clean one."""
    cell = train_cell(digits, ModelSpec("mlp"), LossSpec("forward_correction"), TrainSpec(epochs=30), 0, log=silent)
    outputs = predict(cell.model, digits.inputs("test"), TrainSpec())
    clean = torch.from_numpy(outputs).double().softmax(1).numpy()
    expected = np.log(clean @ digits.transition)
    np.testing.assert_allclose(cell.logits["test.logits"], expected, atol=1e-4)
    assert (clean.argmax(1) == digits.splits["test"].clean).mean() > 0.6


@pytest.mark.parametrize("loss", [LossSpec("cross_entropy"), LossSpec("regmixup")])
@pytest.mark.parametrize("part", [1, 7])
def test_gradients_added_up_over_parts_are_those_of_the_batch(loss, part):
    """For a model without batch norm; in float64 they are equal up to the rounding of the sum."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(20, 1, 2, 4)))
    targets = torch.nn.functional.one_hot(torch.from_numpy(rng.integers(3, size=20)), 3).double()
    found = []
    for size in (None, part):
        torch.manual_seed(0)
        model, built = (
            nn.Sequential(nn.Flatten(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)).double(),
            base.build(loss),
        )
        mixed, soft = built.mix(inputs, targets, np.random.default_rng(1))
        value = backward(model, built, mixed, soft, TrainSpec(batch=20, micro_batch=size))
        found.append((value, torch.cat([p.grad.flatten() for p in model.parameters()])))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def starved(input_shape, classes):
    """A model that takes at most 8 images."""

    class Starved(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(int(np.prod(input_shape)), classes)

        def forward(self, images):
            if len(images) > 8:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return self.inner(images.flatten(1))

    return Starved()


def test_a_gpu_that_runs_out_of_memory_is_told_with_the_batch_and_what_helps(digits):
    model, loss = ModelSpec(f"{__name__}:starved"), LossSpec("cross_entropy")
    with pytest.raises(SpecError, match=r"train.batch = 50: .*train.micro_batch.*out of memory"):
        train_cell(digits, model, loss, TrainSpec(epochs=3, eval_batch=8), 0, silent)
    with pytest.raises(SpecError, match=r"train.micro_batch = 10: .*out of memory"):
        train_cell(digits, model, loss, TrainSpec(epochs=3, eval_batch=8, micro_batch=10), 0, silent)
    with pytest.raises(SpecError, match=r"train.eval_batch = 250: .*out of memory"):
        train_cell(digits, model, loss, TrainSpec(epochs=3, micro_batch=8), 0, silent)
    train_cell(digits, model, loss, TrainSpec(epochs=3, micro_batch=8, eval_batch=8), 0, silent)


@pytest.mark.paper
def test_a_model_with_given_weights_is_evaluated_as_it_is(digits, interpolating, tmp_path):
    path = tmp_path / "w.safetensors"
    save_model(interpolating.model, str(path))
    told = []
    spec = ModelSpec("mlp", weights=str(path), trained_on="digits")
    cell = evaluate_cell(digits, spec, path, TrainSpec(), 0, told.append)
    assert told == ["the model has nothing to train"]
    assert cell.history == []
    assert cell.facts["fitted_here"]
    assert cell.facts["interpolates"]
    for name, logits in interpolating.logits.items():
        np.testing.assert_array_equal(logits, cell.logits[name])
    other = evaluate_cell(dataclasses.replace(digits, source="mnist"), spec, path, TrainSpec(), 0, silent)
    assert not other.facts["fitted_here"]
    assert not other.facts["interpolates"]


def test_logits_of_given_weights_that_are_not_finite_speak_of_their_file(digits, tmp_path):
    model = builder.build(ModelSpec("mlp"), digits.shape, digits.classes)
    path = tmp_path / "w.safetensors"
    save_file({name: tensor.abs() * 1e30 for name, tensor in model.state_dict().items()}, path)
    spec = ModelSpec("mlp", weights=str(path))
    with pytest.raises(DivergedError, match=r"logits from the weights in .*w\.safetensors are not finite"):
        evaluate_cell(digits, spec, path, TrainSpec(), 0, silent)
