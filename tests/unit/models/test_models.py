"""Models: shapes, sizes in closed form, adaptation to images, and bad input reported before anything runs."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from halobench.core import plugins
from halobench.core.errors import RefusedError, SpecError
from halobench.core.specs.codec import parse
from halobench.core.specs.model import ModelSpec
from halobench.models.builder import build, start
from halobench.models.preprocessing import Resized
from halobench.models.shape_check import check

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


def size(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())


def logits(spec: ModelSpec, shape: tuple[int, int, int], classes: int = 7, count: int = 3) -> torch.Tensor:
    """A newly initialised model's logits for random images, in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        model = build(spec, shape, classes).eval()
        start(
            model,
            np.random.default_rng(0).standard_normal((classes, *shape), dtype=np.float32),
            np.arange(classes),
            classes,
        )
        return model(torch.randn(count, *shape))


def error(spec: ModelSpec, shape: tuple[int, int, int]) -> SpecError:
    """The error that `check` raises."""
    with pytest.raises(SpecError) as caught:
        check(spec, shape, 10)
    assert "\n" not in str(caught.value)
    return caught.value


def probabilities(input_shape, classes):
    """A plug-in whose outputs are no logits."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes), nn.Softmax(dim=1))


def vanishing(input_shape, classes):
    """A plug-in that crops its maps to no pixels and averages nothing, giving NaN without an exception."""
    return nn.Sequential(
        nn.ZeroPad2d(-(input_shape[1] // 2)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(classes)
    )


def outside(input_shape, classes, *, width: int = 5):
    """A plug-in outside the package."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], width), nn.Linear(width, classes)
    )


@pytest.mark.parametrize("shape", [(2, 4, 4), (3, 12, 20)])
@pytest.mark.parametrize("name", plugins.names("models"))
def test_own_models_give_logits_for_images_of_any_shape(name, shape):
    """They are drawn from torch's global generator, which a check doesn't advance; resized ones see squares."""
    spec = ModelSpec(name, {"width": 8} if "width" in plugins.find("models", name).options else {})
    torch.manual_seed(0)
    before = torch.get_rng_state()
    check(spec, shape, 7)
    assert torch.equal(before, torch.get_rng_state())
    found = logits(spec, shape)
    assert found.shape == (3, 7)
    assert torch.equal(found, logits(spec, shape))
    assert found.std() > 0 or name in ("attention", "mlp_mixer")  # their last weights start at 0
    assert logits(dataclasses.replace(spec, resize=4), shape).shape == (3, 7)


@pytest.mark.paper
def test_the_mixer_has_the_papers_size():
    """Each block has two layer norms, an MLP across the 16 patches and one across the channels."""
    width, across, along = 1024, 512, 4096
    block = 2 * 2 * width + 17 * across + (across + 1) * 16 + (width + 1) * along + (along + 1) * width
    with torch.device("meta"):
        model = build(ModelSpec("mlp_mixer"), CIFAR, 10)
    assert size(model) == (3 * 8 * 8 + 1) * width + 8 * block + 2 * width + (width + 1) * 10


@pytest.mark.parametrize(("side", "shape"), [(16, DIGITS), (10, MNIST), (12, (1, 8, 20))])
def test_resizing_shows_squares_of_convex_means_and_skips_no_pixel(side, shape):
    images = torch.rand(2, *shape)
    seen = Resized(nn.Identity(), side)(images)
    assert seen.shape == (2, shape[0], side, side)
    assert seen.min() >= images.min() - 1e-6
    assert seen.max() <= images.max() + 1e-6
    assert torch.allclose(Resized(nn.Identity(), side)(torch.full_like(images, 0.3)), torch.tensor(0.3))
    # Skipping every other pixel of a checkerboard would leave one colour; antialiasing gives grey.
    board = (torch.arange(16)[:, None] + torch.arange(16)[None]) % 2
    assert (Resized(nn.Identity(), 5)(board.float()[None, None]) - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("library", ["timm/test_efficientnet", "timm/test_vit", "torchvision/resnet18"])
def test_libraries_models_take_channels_sizes_and_classes(library):
    """The first convolution is replaced by one that differs only in its channels."""
    spec = ModelSpec(library, resize=32)
    check(spec, MNIST, 7)
    assert logits(spec, MNIST).shape == (3, 7)
    with torch.device("meta"):
        first, colour = (
            next(m for m in build(spec, (channels, *MNIST[1:]), 7).modules() if isinstance(m, nn.Conv2d))
            for channels in (1, 3)
        )
    assert (first.in_channels, colour.in_channels) == (1, 3)
    for attribute in ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
        assert getattr(first, attribute) == getattr(colour, attribute)
    assert (first.bias is None) == (colour.bias is None)


def test_options_reach_builders_in_libraries_and_outside_the_package():
    deep, plain = (build(ModelSpec("timm/test_vit", options), CIFAR, 10) for options in ({"depth": 3}, {}))
    assert len(deep.blocks) == 3 != len(plain.blocks)
    assert size(build(ModelSpec(f"{__name__}:outside", {"width": 3}), DIGITS, 10)) == 65 * 3 + 4 * 10
    check(ModelSpec("timm/vit_tiny_patch16_224", {"patch_size": 7}), MNIST, 10)
    with pytest.raises(SpecError, match=r"widht: no such option; .* \(did you mean 'width'\?\)"):
        ModelSpec(f"{__name__}:outside", {"widht": 3})


@pytest.mark.parametrize(
    ("name", "shape", "side"),
    [
        ("timm/test_vit", DIGITS, 32),
        ("timm/test_convnext", (1, 2, 2), 32),
        ("cnn", (1, 3, 8), 4),
    ],
)
def test_images_too_small_are_named_and_resize_helps(name, shape, side):
    found = error(ModelSpec(name), shape)
    assert found.key == "name"
    assert name in str(found)
    assert "`resize`" in str(found)
    assert "x".join(map(str, shape[1:])) in str(found)
    check(ModelSpec(name, resize=side), shape, 10)


def test_images_that_are_too_small_are_named_as_the_model_gets_them():
    found = error(ModelSpec("timm/test_convnext", resize=2), MNIST)
    assert "can't take images of 1x2x2 " in found.sentence
    assert "; set a larger `resize`" in found.sentence


VIT = "timm/vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("spec", "shape", "key", "told"),
    [
        (ModelSpec("torchvision/densnet121"), CIFAR, "name", "torchvision/densenet121"),
        (ModelSpec("timm/resnet18.nosuch", pretrained=True), CIFAR, "name", "timm/resnet18.a1_in1k"),
        (
            ModelSpec("timm/resnet18", pretrained=True),
            (3, 224, 224),
            "pretrained",
            "1000 classes, and the data set has 10",
        ),
        (ModelSpec("cnn", {"norm": "no"}), CIFAR, "norm", "true or false"),
        (ModelSpec("mlp_bn", {"depth": 0}), CIFAR, "depth", "at least 1"),
        (ModelSpec("nearest", {"scale": 0}), CIFAR, "scale", "a number above 0"),
        (ModelSpec("attention", {"bandwidth": -1.0}), CIFAR, "bandwidth", "at least 0.001"),
        (ModelSpec(f"{__name__}:vanishing"), DIGITS, "name", "zero pixels"),
        (ModelSpec(f"{__name__}:probabilities"), DIGITS, "name", "ends in a softmax"),
        (ModelSpec("timm/test_vit", {"widht": 8}), CIFAR, "widht", ""),
        (ModelSpec("torchvision/resnet18", {"widht": 8}), CIFAR, "widht", ""),
        (ModelSpec("timm/test_resnet", {"pretrained": True}), CIFAR, "pretrained", ""),
        # No image would work with these: `resize` doesn't help.
        (ModelSpec("timm/test_resnet", {"act_layer": "nosuch"}), DIGITS, "act_layer", ""),
        (ModelSpec("timm/test_resnet", {"output_stride": 3, "drop_rate": 0.1}), DIGITS, "options", ""),
        # Patches that would drop pixels.
        (ModelSpec(VIT), MNIST, "name", "images of 28x28"),
        (ModelSpec(VIT, {"patch_size": 8}), MNIST, "patch_size", "images of 28x28"),
        (ModelSpec("timm/mixer_s16_224"), MNIST, "name", "images of 28x28"),
        (ModelSpec("timm/test_vit", stem="small"), (3, 160, 160), "stem", ""),
    ],
    ids=lambda value: value.name if isinstance(value, ModelSpec) else None,
)
def test_a_bad_model_is_told_with_its_key(spec, shape, key, told):
    found = error(spec, shape)
    wrong = {"name": spec.name, "pretrained": spec.name, "stem": spec.stem, "options": spec.options} | spec.options
    assert found.key == key
    assert found.value == wrong[key] or isinstance(found, RefusedError)
    assert told in found.expected
    assert len(str(found)) < 400
    if spec.name in (VIT, "timm/mixer_s16_224"):
        check(dataclasses.replace(spec, resize=32), shape, 10)
    if key in ("act_layer", "options"):
        assert "resize" not in found.expected


def test_nearest_says_the_label_of_the_nearest_point_and_is_stored_without_its_points():
    rng = np.random.default_rng(0)
    points, labels = rng.standard_normal((40, *DIGITS), dtype=np.float32) + 5, rng.integers(6, size=40)
    queries = rng.standard_normal((200, *DIGITS), dtype=np.float32) + 5
    model = build(ModelSpec("nearest", {"scale": 3.0}), DIGITS, 6)
    start(model, points, labels, 6)
    distances = np.linalg.norm((queries[:, None] - points[None]).reshape(200, 40, -1), axis=2)
    found = model(torch.from_numpy(queries)).numpy()
    np.testing.assert_array_equal(found, 3 * np.eye(6)[labels[distances.argmin(axis=1)]])
    assert list(model.state_dict()) == ["scale"]


def test_attention_is_the_normalised_radial_basis_classifier():
    """It matches the formula in float64, with the bandwidth in the model's unit."""
    rng = np.random.default_rng(0)
    points, labels = rng.standard_normal((30, *DIGITS), dtype=np.float32), rng.integers(4, size=30)
    queries = rng.standard_normal((50, *DIGITS), dtype=np.float32)
    model = build(ModelSpec("attention", {"bandwidth": 0.5}), DIGITS, 4)
    start(model, points, labels, 4)
    with torch.no_grad():
        model.values.copy_(torch.from_numpy(rng.standard_normal((30, 4))))
        model.bias.copy_(torch.arange(4))
        found = model(torch.from_numpy(queries)).double().numpy()
    flat, asked = points.reshape(30, -1).astype(float), queries.reshape(50, -1).astype(float)
    between = np.linalg.norm(flat[:, None] - flat[None], axis=2) + np.diag(np.full(30, np.inf))
    unit = np.sort(between.min(axis=1))[14]  # torch's median is the lower of the two in the middle
    square = ((asked[:, None] - flat[None]) ** 2).sum(axis=2)
    weights = np.exp(-(square - square.min(axis=1, keepdims=True)) / (2 * (0.5 * unit) ** 2))
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, weights @ model.values.detach().double().numpy() + np.arange(4), atol=1e-4)
    assert set(model.state_dict()) == {"bias", "values", "log_bandwidth"}
    fixed = build(ModelSpec("attention", {"learned": False}), DIGITS, 4)
    start(fixed, np.zeros_like(points), labels, 4)  # copies of one point
    assert not fixed.log_bandwidth.requires_grad
    assert torch.isfinite(fixed(torch.zeros(2, *DIGITS))).all()
    assert check(ModelSpec("attention"), DIGITS, 10, samples=100) > 100 * 10 * 4, "its size counts its points"


@pytest.mark.paper
@pytest.mark.parametrize(
    ("library", "name", "path"),
    [("torchvision", "resnet18", "conv1"), ("timm", "resnet18", "conv1"), ("timm", "densenet121", "features.conv0")],
)
def test_a_small_stem_keeps_the_maps_large(library, name, path):
    """ResNet-18 for 32 x 32 images is known to have 11,173,962 parameters at 10 classes."""
    with torch.device("meta"):
        small = build(ModelSpec(f"{library}/{name}", stem="small"), CIFAR, 10)
        plain = build(ModelSpec(f"{library}/{name}"), CIFAR, 10)
    first = small.get_submodule(path)
    assert (first.kernel_size, first.stride, first.padding) == ((3, 3), (1, 1), (1, 1))
    assert size(plain) - size(small) == first.out_channels * 3 * (7 * 7 - 3 * 3)
    assert not any(isinstance(module, nn.MaxPool2d) for module in small.modules())
    if name == "resnet18":
        assert size(small) == 11_173_962
    maps = []
    last = [module for module in small.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)][-1]
    last.register_forward_hook(lambda module, inputs, output: maps.append(tuple(output.shape[-2:])))
    with torch.no_grad():
        small.eval()(torch.zeros(1, *CIFAR, device="meta"))
    assert maps == [(4, 4)]


@pytest.mark.paper
@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "cnn"])
def test_weights_that_were_trained_elsewhere_give_the_same_logits(name, tmp_path):
    """Saved with safetensors, as any project would, and loaded with the data set's preprocessing."""
    shape, moments = (3, 160, 160), (np.array([110.0, 120.0, 130.0]), np.array([60.0, 70.0, 80.0]))
    torch.manual_seed(0)
    model, path = build(ModelSpec(name), shape, 5).eval(), tmp_path / "w.safetensors"
    save_model(model, str(path))
    given = torch.randn(4, *shape)
    with torch.no_grad():
        same = build(ModelSpec(name, weights=str(path), preprocess="dataset"), shape, 5, moments, path).eval()
        torch.testing.assert_close(same(given), model(given), rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in same.parameters())


@pytest.mark.paper
def test_preprocessing_resizes_as_timm_does_and_takes_grey_images():
    spec = ModelSpec("timm/test_resnet", weights="w.safetensors")
    model = build(spec, (1, 28, 28), 5, (np.array([33.0]), np.array([78.0]))).eval()
    seen = []
    model.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.full((2, 1, 28, 28), -33.0 / 78))  # black
    assert seen[0].shape == (2, 1, 160, 160)
    told = timm.get_pretrained_cfg("test_resnet")
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], -np.mean(told.mean) / np.mean(told.std)))


@pytest.mark.paper
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_images_are_resized_by_the_interpolation_that_the_weights_expect(name):
    """Bilinear for one of the two, and bicubic for the other."""
    told = timm.get_pretrained_cfg(name)
    moments = np.zeros(3), np.full(3, 255.0)  # images are then pixels in [0, 1]
    model = build(ModelSpec(f"timm/{name}", weights="w.safetensors"), (3, 40, 40), 5, moments).eval()
    seen = []
    model.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        model(images)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (told.mean, told.std))
    resized = nn.functional.interpolate((images - mean) / std, size=told.input_size[1:], mode=told.interpolation)
    torch.testing.assert_close(seen[0], resized, rtol=1e-4, atol=1e-4)


def spoilt(change):
    """A function that changes the first tensor of a weights file."""

    def spoil(path):
        tensors = load_file(path)
        save_file(tensors | {"0.weight": change(tensors["0.weight"])}, path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoilt(lambda first: torch.zeros(4, 1, 3, 3)), r"0\.weight in .* is \(4, 1, 3, 3\)"),
        (spoilt(lambda first: first.int()), r"0\.weight in .* is of type torch\.int32"),
        (spoilt(lambda first: first > 0), r"0\.weight in .* is of type torch\.bool"),
        (spoilt(lambda first: first + 0j), r"0\.weight in .* is of type torch\.complex64"),
        (spoilt(lambda first: first / 0), r"72 of 72 values in 0\.weight of .* aren\'t finite"),
        (spoilt(lambda first: first.double() + 1e300), "aren't finite"),
        (
            lambda path: save_file(load_file(path) | {"more": torch.zeros(1)}, path),
            "has more, which this model doesn't have",
        ),
        (lambda path: save_file({"more": torch.zeros(1)}, path), r"has no 0\.weight .*, which this model needs"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"no weights"), r"can\'t be read as a \.safetensors, \.pth or \.pt file"),
        (lambda path: torch.save({}, path), r"can\'t be read as a \.safetensors, \.pth or \.pt file"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    ],
)
def test_what_are_no_weights_of_the_model_is_refused_before_anything_runs(tmp_path, spoil, told):
    model, path = build(ModelSpec("cnn", {"width": 8}), DIGITS, 10), tmp_path / "w.safetensors"
    save_file(model.state_dict(), path)
    spec = ModelSpec("cnn", {"width": 8}, weights=str(path))
    check(spec, DIGITS, 10)
    spoil(path)
    found = error(spec, DIGITS)
    assert found.key == "weights"
    assert str(path) in str(found)
    assert re.search(told, found.sentence)
    if "finite" in told:
        with pytest.raises(SpecError, match="aren't finite"):
            build(spec, DIGITS, 10, None, path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floating_point_types_are_taken(tmp_path, kind):
    tensors = build(ModelSpec("cnn", {"width": 8}), DIGITS, 10).state_dict()
    path = tmp_path / "w.safetensors"
    save_file({name: t.to(kind) if t.is_floating_point() else t for name, t in tensors.items()}, path)
    check(ModelSpec("cnn", {"width": 8}, weights=str(path)), DIGITS, 10)
    assert "~ isn't expanded" in error(ModelSpec("cnn", weights="~/w.safetensors"), DIGITS).expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "cnn", "pretrained": True}, "expected `weights: FILE` instead"),
        ({"name": "timm/resnet18", "pretrained": True, "weights": "w"}, "weights: pretrained is set too"),
        ({"name": "cnn", "pretrained": "package"}, "pretrained = 'package': expected true or false (set"),
        ({"name": "cnn", "pretrained": 1}, "pretrained = 1: expected true or false"),
        ({"name": "cnn", "weights": "w", "preprocess": "timm"}, "expected dataset"),
        ({"name": "cnn", "weights": "w", "preprocess": "tim"}, "did you mean 'timm'"),
        ({"name": "mlp", "preprocess": {"mean": [0.1, 0.2], "std": 1}}, "preprocess.mean = [0.1, 0.2]"),
        ({"name": "mlp", "preprocess": {"mean": 0.5, "std": 0}}, "preprocess.std = [0.0]: expected numbers above 0"),
        ({"name": "mlp", "preprocess": {"mean": 0.5}}, "preprocess.std: missing"),
        ({"name": "mlp", "preprocess": {"mean": "x", "std": 1}}, "preprocess.mean[0] = 'x'"),
        ({"name": "mlp", "preprocess": 3}, "preprocess = 3: expected one of dataset, timm"),
        (
            {"name": "nearest", "preprocess": {"mean": 0.5, "std": 1}},
            "preprocess: the model is built around its training samples",
        ),
    ],
)
def test_contradictions_about_weights_and_preprocessing_are_named(spec, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        check(parse(ModelSpec, spec), CIFAR, 10)
