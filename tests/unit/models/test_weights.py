"""Weights saved elsewhere: renamed, cut to the available classes, and with their own normalisation."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from halobench.core.errors import SpecError
from halobench.core.specs.codec import canonical, parse
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.losses import base
from halobench.models.builder import build
from halobench.models.shape_check import check
from halobench.training.loop import TrainingSet, fit

NAME, CLASSES, SHAPE = "test_efficientnet", 12, (3, 160, 160)
MOMENTS = (np.array([110.0, 120.0, 130.0]), np.array([60.0, 70.0, 80.0]))
ROWS = {"ant": 7, "bee": 0, "cat": 11}


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """Timm's model with weights unlike any initialisation: different running statistics, and biases that aren't 0."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=CLASSES).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "mean" not in name else torch.randn_like(tensor) / 9)
    return model


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (4, *SHAPE), generator=torch.Generator().manual_seed(1)).float()


def as_data(pixels: torch.Tensor) -> torch.Tensor:
    """Images normalised as by a data set."""
    mean, std = (torch.tensor(each).float().view(1, 3, 1, 1) for each in MOMENTS)
    return (pixels - mean) / std


def as_timm(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Plain timm's logits."""
    config = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return model((pixels / 255 - mean) / std)


def foreign(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights as another project might save them: other names, and tensors that aren't contiguous."""
    renamed = {
        f"_{name.replace('blocks', 'stages').replace('.bn', '._bn')}": t for name, t in model.state_dict().items()
    }
    return {name: t.mT.contiguous().mT if t.ndim > 1 else t for name, t in renamed.items()}


# --- Outputs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory, plain) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(plain.state_dict(), path)
    return path


NUMBERED = dict(enumerate(ROWS.values()))
EACH = {f"c{label}": CLASSES - 1 - label for label in range(CLASSES)}


@pytest.mark.parametrize(
    ("outputs", "names"),
    [(ROWS, ("cat", "ant", "bee")), (NUMBERED, ()), (EACH, tuple(EACH))],
)
def test_the_outputs_of_classes_are_plain_timms(weights, plain, pixels, outputs, names):
    """They are matched by class names in order, or by numbers if the classes have no names."""
    rows = [outputs[name] for name in names or outputs]
    spec = parse(ModelSpec, {"name": f"timm/{NAME}", "weights": str(weights), "outputs": outputs})
    assert parse(ModelSpec, canonical(spec)) == spec
    check(spec, SHAPE, len(rows), names=names)
    with torch.no_grad():
        found = build(spec, SHAPE, len(rows), MOMENTS, weights, names).eval()(as_data(pixels))
    torch.testing.assert_close(found, as_timm(plain, pixels)[:, rows], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"classifier.weight in .* is \(12, \d+\) .* use `outputs` to choose an output for each"),
        ({"outputs": ROWS | {"cat": 12}}, "outputs = 12: expected less than 12, the number of outputs"),
        ({"outputs": {"ant": 7, "bee": 0, "cats": 1}}, r"'cat' has no output; add one \(did you mean 'cats'\?\)"),
        ({"outputs": ROWS | {"cat": 0}}, "outputs = 0: expected each value only once"),
        ({"outputs": ROWS | {"cat": -1}}, r"outputs\.cat = -1: expected at least 0"),
        (
            {"outputs": ROWS, "weights": None, "pretrained": True},
            "outputs = 1000: expected less than 1000, .* published",
        ),
        ({"outputs": ROWS, "weights": None}, "outputs: .* set `weights` or `pretrained`"),
        ({"outputs": ROWS, "name": f"{__name__}:averaged"}, "doesn't have one row per output"),
    ],
)
def test_outputs_that_are_not_there_are_refused(weights, keys, message):
    if keys.get("pretrained"):
        keys = keys | {"outputs": ROWS | {"cat": timm.get_pretrained_cfg(NAME).num_classes}}
    keys = {key: value for key, value in ({"name": f"timm/{NAME}", "weights": str(weights)} | keys).items() if value}
    with pytest.raises(SpecError, match=message):
        check(parse(ModelSpec, keys), SHAPE, 3, names=("ant", "bee", "cat"))


def averaged(input_shape, classes):
    """A model without an output layer."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d((1, classes)), nn.Flatten(), nn.Linear(4 * classes, 3)
    )


# --- Weights that torch.save wrote ----------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A function that saves a file of weights, and returns its path."""

    def save(content: object) -> Path:
        torch.save(content, tmp_path / "net.pth")
        return tmp_path / "net.pth"

    return save


@pytest.mark.parametrize("inside", ["", "state_dict"])
def test_renamed_weights_give_plain_timms_logits(saved, plain, pixels, inside):
    """They are matched by their order."""
    tensors = foreign(plain)
    path = saved({inside: tensors, "epoch": 3} if inside else tensors)
    spec = parse(ModelSpec, {"name": f"timm/{NAME}", "weights": str(path)})
    check(spec, SHAPE, CLASSES)
    model = build(spec, SHAPE, CLASSES, MOMENTS, path).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(as_data(pixels)), as_timm(plain, pixels), rtol=1e-4, atol=1e-4)
    fewer = dataclasses.replace(spec, outputs=ROWS)
    check(fewer, SHAPE, 3, names=tuple(ROWS))
    with torch.no_grad():
        found = build(fewer, SHAPE, 3, MOMENTS, path, tuple(ROWS)).eval()(as_data(pixels))
    torch.testing.assert_close(found, as_timm(plain, pixels)[:, list(ROWS.values())], rtol=1e-4, atol=1e-4)


def changed(tensors: dict[str, torch.Tensor], **changes: object) -> dict[str, object]:
    """The tensors with some replaced, or left out if the replacement is None."""
    return {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}


def test_weights_that_do_not_belong_to_the_model_are_refused_on_one_line(saved, plain):
    """Renamed tensors are matched only if all of them correspond."""
    renamed = foreign(plain)
    first, last = next(iter(renamed)), list(renamed)[-1]
    for content, message in (
        (
            changed(renamed, **{last: None}),
            r"which this model needs \(its \d+ tensors don't correspond to the file's \d+, such as _",
        ),
        (changed(renamed, more=torch.ones(1)), "don't correspond"),
        (dict(reversed(renamed.items())), "don't correspond"),
        (changed(renamed, **{first: renamed[first][1:]}), r"conv_stem.weight in .* is \(\d+, 3, 3, 3\) instead of"),
        (plain, "can't be read by torch.load with weights_only=True"),  # a pickled object
        ({"epoch": 3}, "doesn't contain a state dict, which maps names to tensors"),
        ({}, "a state dict"),
    ):
        spec = ModelSpec(f"timm/{NAME}", weights=str(saved(content)))
        with pytest.raises(SpecError, match=message) as caught:
            check(spec, SHAPE, CLASSES)
        assert caught.value.key == "weights"
        assert "\n" not in str(caught.value)


class OfItsOwnSize(nn.Module):
    """Another package's network of fixed size, which is built from numbers of its own and takes colour images."""

    def __init__(self, side: int, classes: int = 10):
        super().__init__()
        self.side, self.last = side, nn.Linear(3 * side * side, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[1:] != (3, self.side, self.side):
            raise ValueError("another size")
        return self.last(images.view(images.size(0), -1))


def test_a_network_of_another_package_is_built_from_its_options_alone(saved):
    """By a normalisation of three channels, grey images become colour images."""
    torch.manual_seed(0)
    own = OfItsOwnSize(5).eval()
    keys = {"name": f"{__name__}:OfItsOwnSize", "side": 5, "weights": str(saved(own.state_dict()))}
    spec = parse(ModelSpec, keys | {"preprocess": {"mean": [0.1, 0.2, 0.3], "std": 0.5}, "resize": 5})
    check(spec, (1, 8, 8), 10)
    model = build(spec, (1, 8, 8), 10, (np.array([100.0]), np.array([50.0])), Path(spec.weights)).eval()
    grey = torch.rand(4, 1, 5, 5) * 255
    expected = own((grey.expand(-1, 3, -1, -1) / 255 - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / 0.5)
    torch.testing.assert_close(model((grey - 100) / 50), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(SpecError, match="resize"):
        check(dataclasses.replace(spec, resize=None), (1, 8, 8), 10)
    with pytest.raises(SpecError, match=r"logits of shape \(2, 4\)"):
        check(spec, (1, 8, 8), 4)


# --- A normalisation of its own ------------------------------------------------------------------------


class Wrapped(nn.Module):
    """Another project's module that wraps a network, as many do."""

    def __init__(self, classes: int):
        super().__init__()
        self.model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


def wrapped(input_shape, classes):
    return Wrapped(classes)


@pytest.mark.parametrize("mean", [0.5, [0.4, 0.5, 0.6]])
def test_any_model_may_have_a_mean_and_a_deviation_of_its_own(tmp_path, pixels, mean):
    torch.manual_seed(0)
    own, path = Wrapped(5).eval(), tmp_path / "w.safetensors"
    save_file(own.state_dict(), path)
    keys = {"name": f"{__name__}:wrapped", "preprocess": {"mean": mean, "std": 0.25}}
    spec = parse(ModelSpec, keys | {"weights": str(path)})
    assert parse(ModelSpec, canonical(spec)) == spec
    check(spec, SHAPE, 5)
    model = build(spec, SHAPE, 5, MOMENTS, path).eval()
    with torch.no_grad():
        expected = own((pixels / 255 - torch.tensor(mean).view(1, -1, 1, 1)) / 0.25)
        torch.testing.assert_close(model(as_data(pixels)), expected, rtol=1e-4, atol=1e-4)
    trained_here = build(parse(ModelSpec, keys | {"resize": 64}), SHAPE, 5, MOMENTS)
    assert all(parameter.requires_grad for parameter in trained_here.parameters())


# --- Fine-tuning -------------------------------------------------------------------------------------


def tuned(weights: Path, part: str, names: tuple[str, ...] = (), **keys: object) -> tuple[nn.Module, nn.Module]:
    """The model before and after an epoch on noise with two classes more than the weights have."""
    spec = parse(ModelSpec, {"name": f"timm/{NAME}", "weights": str(weights), "finetune": part, **keys})
    assert parse(ModelSpec, canonical(spec)) == spec
    classes = len(names) or CLASSES + 2
    check(spec, SHAPE, classes, names=names)
    torch.manual_seed(3)
    model = build(spec, SHAPE, classes, MOMENTS, weights, names)
    before = copy.deepcopy(model)
    rng = np.random.default_rng(0)
    samples = TrainingSet(rng.normal(size=(8, *SHAPE)).astype(np.float32), np.arange(8) % classes, classes)
    fit(model, samples, base.build(LossSpec("cross_entropy")), TrainSpec(epochs=1, batch=4, lr=0.01), 0, print)
    return before.model, model.model


@pytest.mark.parametrize("part", ["head", "all"])
def test_fine_tuning_trains_a_new_last_layer_and_others_only_if_asked(weights, plain, part):
    """Of a frozen layer, neither weights nor running statistics change: its features stay plain timm's."""
    before, after = tuned(weights, part)
    given, first, last = plain.state_dict(), before.state_dict(), after.state_dict()
    heads = {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(first[name], given[name]) for name in given.keys() - heads)
    assert first["classifier.weight"].shape[0] == CLASSES + 2
    changed = {name for name in last if not torch.equal(first[name], last[name])}
    assert changed == heads if part == "head" else changed == set(last)
    frozen = {name for name, weight in after.named_parameters() if not weight.requires_grad}
    assert frozen == (set(dict(after.named_parameters())) - heads if part == "head" else set())


def test_a_new_last_layer_may_start_from_outputs_and_is_drawn_otherwise(weights, plain):
    names = ("cat", "ant", "bee")
    head = tuned(weights, "all", names, outputs=ROWS)[0].classifier
    assert torch.equal(head.weight, plain.classifier.weight[[ROWS[name] for name in names]])
    drawn = tuned(weights, "all", names)[0].classifier
    assert drawn.weight.shape == head.weight.shape
    assert not torch.equal(drawn.weight, head.weight)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "cnn", "finetune": "head"}, "finetune: .* set `weights` or `pretrained`"),
        ({"name": "cnn", "weights": "w", "finetune": "last"}, "finetune = 'last': expected"),
        ({"name": "cnn", "weights": "w", "finetune": "all", "trained_on": "x"}, "trained_on: `finetune` trains"),
    ],
)
def test_bad_fine_tuning_is_refused(keys, message):
    with pytest.raises(SpecError, match=message):
        parse(ModelSpec, keys)
