"""Weights saved elsewhere: converted, cut to the available classes, and with their own normalisation."""

from __future__ import annotations

import random
import re
import time
import urllib.error
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from halobench.cli.main import main
from halobench.core.errors import SpecError
from halobench.core.spec_codec import canonical, parse
from halobench.core.specs import ModelSpec
from halobench.models import pretrained
from halobench.models.builder import build
from halobench.models.shape_check import check
from halobench.models.weight_conversion import convert

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


def converted(tmp_path: Path, tensors: object, name: str = "in.pth") -> tuple[Path, list[str]]:
    """The converted file and the printed lines."""
    lines: list[str] = []
    torch.save(tensors, tmp_path / name)
    convert(tmp_path / name, tmp_path / "out.safetensors", f"timm/{NAME}", CLASSES, lines.append)
    return tmp_path / "out.safetensors", lines


def test_a_renamed_file_with_strides_gives_plain_timms_logits(tmp_path, plain, pixels):
    tensors = foreign(plain)
    assert not all(tensor.is_contiguous() for tensor in tensors.values())
    with pytest.raises(ValueError, match="non contiguous"):
        save_file(tensors, tmp_path / "fails.safetensors")
    out, lines = converted(tmp_path, {"state_dict": tensors, "epoch": 3})
    assert lines[0] == "_conv_stem.weight -> conv_stem.weight (24, 3, 3, 3)"
    assert len(lines) == len(tensors) + 1
    assert "by order and shape" in lines[-1]
    model = build(ModelSpec(f"timm/{NAME}", weights=str(out)), SHAPE, CLASSES, MOMENTS, out).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(as_data(pixels)), as_timm(plain, pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module._orig_mod."])
def test_names_are_matched_in_any_order(tmp_path, plain, prefix):
    items = list(plain.state_dict().items())
    random.Random(0).shuffle(items)
    out, lines = converted(tmp_path, {prefix + name: tensor for name, tensor in items})
    assert "by name" in lines[-1]
    found = load_file(out)
    assert found.keys() == plain.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in items)


def test_batch_norms_counters_may_be_missing(tmp_path, plain):
    tensors = {name: tensor for name, tensor in foreign(plain).items() if not name.endswith("num_batches_tracked")}
    out, _ = converted(tmp_path, tensors)
    check(ModelSpec(f"timm/{NAME}", weights=str(out)), SHAPE, CLASSES)


def swapped(tensors: dict, first: str, second: str) -> dict:
    """The tensors with two entries swapped."""
    other = {first: second, second: first}
    return {other.get(name, name): tensors[other.get(name, name)] for name in tensors}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: {name: tensors[name] for name in sorted(tensors)}, "by order"),
        (lambda tensors: swapped(tensors, "_bn1.weight", "_bn1.bias"), r"_bn1\.bias \(\d+,\) would be bn1\.weight"),
        (lambda tensors: {"_" if name == "_bn1.bias" else name: t for name, t in tensors.items()}, "would be bn1.bias"),
        (lambda tensors: {"other.bias" if n == "_bn1.bias" else n: t for n, t in tensors.items()}, "different module"),
        (lambda tensors: dict(list(tensors.items())[:-1]), "none () would be classifier.bias"),
        (lambda tensors: tensors | {"_classifier.weight": torch.zeros(5, 256)}, "--classes sets the model's"),
    ],
)
def test_what_leaves_more_than_one_possibility_is_refused(tmp_path, plain, spoil, message):
    with pytest.raises(SpecError, match=message.replace("()", r"\(\)")) as caught:
        converted(tmp_path, spoil(foreign(plain)))
    assert caught.value.key == "IN"
    assert not (tmp_path / "out.safetensors").exists()


def test_blocks_that_are_not_in_the_order_of_their_numbers_are_refused(tmp_path):
    """All blocks have the same shapes, and as text, block 10 comes before block 2."""
    tensors = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES).state_dict()
    by_text = sorted({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    blocks = [n for number in by_text for n in tensors if n.startswith(f"blocks.{number}.")]
    first = [name for name in tensors if not name.startswith(("blocks.", "norm.", "head."))]
    order = [*first, *blocks, *(name for name in tensors if name.startswith(("norm.", "head.")))]
    torch.save({name.replace("blocks", "layers"): tensors[name] for name in order}, tmp_path / "in.pth")
    with pytest.raises(SpecError, match=r"layers\.2\..* out of numerical order"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "timm/vit_tiny_patch16_224", CLASSES)


def test_safetensors_have_lost_their_order(tmp_path, plain):
    save_file({name: tensor.contiguous() for name, tensor in foreign(plain).items()}, tmp_path / "in.safetensors")
    with pytest.raises(SpecError, match="safetensors sorts them"):
        convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", f"timm/{NAME}", CLASSES)
    convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", None, CLASSES)
    assert load_file(tmp_path / "out.safetensors").keys() == foreign(plain).keys()


class Bomb:
    """An object that runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_code_of_a_file_is_run(tmp_path, capsys):
    torch.save({"weight": torch.zeros(2), "more": Bomb(tmp_path / "ran")}, tmp_path / "in.pth")
    assert main(["weights", "convert", str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")]) == 2
    assert "objects that could run code" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    for bad, message in (
        ({"a": torch.zeros(1), "epoch": 3}, "this one contains 'epoch', which isn't a tensor"),
        ({}, "this one is empty"),
    ):
        torch.save(bad, tmp_path / "in.pth")
        assert main(["weights", "convert", str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")]) == 2
        assert message in capsys.readouterr().err


# --- Outputs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory, plain) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(plain.state_dict(), path)
    return path


@pytest.mark.parametrize("names", [("ant", "bee", "cat"), ("cat", "ant", "bee"), ()])
def test_the_outputs_of_classes_are_plain_timms(weights, plain, pixels, names):
    """They are matched by class names in order, or by numbers if the classes have no names."""
    rows = [ROWS[name] for name in names or ROWS]
    outputs = ROWS if names else dict(enumerate(ROWS.values()))
    spec = parse(ModelSpec, {"name": f"timm/{NAME}", "weights": str(weights), "outputs": outputs})
    assert parse(ModelSpec, canonical(spec)) == spec
    check(spec, SHAPE, 3, names=names)
    with torch.no_grad():
        found = build(spec, SHAPE, 3, MOMENTS, weights, names).eval()(as_data(pixels))
    torch.testing.assert_close(found, as_timm(plain, pixels)[:, rows], rtol=1e-4, atol=1e-4)


def test_as_many_outputs_as_classes_are_put_in_their_order(weights, plain, pixels):
    names = tuple(f"c{label}" for label in range(CLASSES))
    rows = list(reversed(range(CLASSES)))
    spec = ModelSpec(f"timm/{NAME}", weights=str(weights), outputs=dict(zip(names, rows, strict=True)))
    with torch.no_grad():
        found = build(spec, SHAPE, CLASSES, MOMENTS, weights, names).eval()(as_data(pixels))
    torch.testing.assert_close(found, as_timm(plain, pixels)[:, rows], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"classifier.weight is \(12, \d+\) .* use `outputs` to choose an output for each"),
        ({"outputs": ROWS | {"cat": 12}}, "outputs = 12: expected less than 12, the number of outputs"),
        ({"outputs": {"ant": 7, "bee": 0, "cats": 1}}, r"'cat' has none \(did you mean 'cats'\?\)"),
        ({"outputs": ROWS | {"cat": 0}}, "outputs = 0: expected no duplicates"),
        ({"outputs": ROWS | {"cat": -1}}, r"outputs\.cat = -1: expected at least 0"),
        ({"outputs": ROWS, "weights": None, "pretrained": True}, "outputs = 2000: expected less than .* published"),
        ({"outputs": ROWS, "weights": None}, "`weights` or `pretrained` to be set as well"),
        ({"outputs": ROWS, "name": f"{__name__}:averaged"}, "doesn't have one row per output"),
    ],
)
def test_outputs_that_are_not_there_are_refused(weights, keys, message):
    if keys.get("pretrained"):
        keys = keys | {"outputs": ROWS | {"cat": 2000}}
    keys = {key: value for key, value in ({"name": f"timm/{NAME}", "weights": str(weights)} | keys).items() if value}
    with pytest.raises(SpecError, match=message):
        check(parse(ModelSpec, keys), SHAPE, 3, names=("ant", "bee", "cat"))


def averaged(input_shape, classes):
    """A model without an output layer."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d((1, classes)), nn.Flatten(), nn.Linear(4 * classes, 3)
    )


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


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"preprocess": {"mean": [0.1, 0.2], "std": 1}}, "preprocess.mean = [0.1, 0.2]: expected one number, or one"),
        ({"preprocess": {"mean": 0.5, "std": 0}}, "preprocess.std = [0.0]: expected numbers above 0"),
        ({"preprocess": {"mean": 0.5}}, "preprocess.std = None: expected a value"),
        ({"preprocess": {"mean": "x", "std": 1}}, "preprocess.mean[0] = 'x': expected a number"),
        ({"preprocess": 3}, "preprocess = 3: expected one of dataset, timm, or a mapping with the keys mean and std"),
        ({"name": "nearest", "preprocess": {"mean": 0.5, "std": 1}}, "expected no preprocessing"),
    ],
)
def test_a_bad_normalisation_is_named(keys, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        check(parse(ModelSpec, {"name": "mlp"} | keys), SHAPE, 5)


# --- What timm publishes ------------------------------------------------------------------------------


def test_without_a_network_published_weights_are_not_asked_for_again_and_again(tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise urllib.error.URLError("no network")

    def waited(seconds):
        raise AssertionError("the hub's client waits to try again")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr(time, "sleep", waited)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SpecError, match=r"timm's cache, or a network .*no network") as caught:
        pretrained.fetch(ModelSpec("timm/resnet18.a1_in1k", pretrained=True), tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False
