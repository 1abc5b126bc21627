"""Models: shapes, sizes in closed form, adaptation to images, and bad input named before anything runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from halobench import models, plugins
from halobench.models import Resized, build, check
from halobench.specs import ModelSpec, SpecError

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


def size(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())


def logits(spec: ModelSpec, shape: tuple[int, int, int], classes: int = 7, count: int = 3) -> torch.Tensor:
    """What a freshly drawn model says of random images, in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        return build(spec, shape, classes).eval()(torch.randn(count, *shape))


def error(spec: ModelSpec, shape: tuple[int, int, int]) -> SpecError:
    """The error that `check` raises."""
    with pytest.raises(SpecError) as caught:
        check(spec, shape, 10)
    assert "\n" not in str(caught.value)
    return caught.value


def not_a_model(input_shape, classes):
    """A plug-in whose output has one class too many."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes + 1))


def vanishing(input_shape, classes):
    """A plug-in that crops its maps to no pixels and averages nothing: NaN, and no exception."""
    return nn.Sequential(
        nn.ZeroPad2d(-(input_shape[1] // 2)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(classes)
    )


def outside(input_shape, classes, *, width: int = 5):
    """A plug-in outside the package."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], width), nn.Linear(width, classes)
    )


@pytest.mark.parametrize("shape", [DIGITS, MNIST, CIFAR, (2, 4, 4), (3, 12, 20)])
@pytest.mark.parametrize("name", plugins.names("models"))
def test_own_models_give_logits_for_images_of_any_shape(name, shape):
    spec = ModelSpec(name, {"width": 8})
    check(spec, shape, 7)
    found = logits(spec, shape)
    assert found.shape == (3, 7)
    assert found.std() > 0


@pytest.mark.parametrize("shape", [DIGITS, CIFAR])
@pytest.mark.parametrize(("width", "depth"), [(256, 2), (16, 1), (8, 4)])
def test_the_mlps_size_is_its_closed_form(shape, width, depth):
    inputs = shape[0] * shape[1] * shape[2]
    expected = (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * 10
    assert size(build(ModelSpec("mlp", {"width": width, "depth": depth}), shape, 10)) == expected


@pytest.mark.parametrize("shape", [DIGITS, MNIST, CIFAR])
@pytest.mark.parametrize("width", [8, 32])
def test_the_cnns_size_is_its_closed_form_whatever_the_images(shape, width):
    """Convolutions without bias, batch norm's scale and shift, a linear layer on averages."""
    c, w = shape[0], width
    convolutions = 9 * (c * w + w * w + 2 * w * w + 4 * w * w)
    expected = convolutions + 2 * (w + w + 2 * w + 2 * w) + (2 * w + 1) * 10
    assert size(build(ModelSpec("cnn", {"width": width}), shape, 10)) == expected


def test_an_mlp_without_its_rectifiers_would_be_linear():
    """f(x) + f(y) = f(x + y) + f(0) holds for an affine map, not for the mlp."""
    torch.manual_seed(0)
    model = build(ModelSpec("mlp"), DIGITS, 10)
    x, y = torch.randn(2, 4, *DIGITS)
    with torch.no_grad():
        defect = model(x) + model(y) - model(x + y) - model(torch.zeros_like(x))
    assert defect.abs().max() > 0.01


def test_weights_come_from_torchs_global_generator():
    for name in ("mlp", "cnn"):
        first, again = logits(ModelSpec(name), DIGITS), logits(ModelSpec(name), DIGITS)
        assert torch.equal(first, again)
        torch.manual_seed(1)
        assert not torch.equal(build(ModelSpec(name), DIGITS, 7).eval()(torch.ones(1, *DIGITS)), first[:1])


def test_checking_draws_nothing_from_the_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    check(ModelSpec("cnn"), DIGITS, 10)
    error(ModelSpec(f"{__name__}:not_a_model"), DIGITS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("side", "shape"), [(16, DIGITS), (10, MNIST), (12, (1, 8, 20))])
def test_resizing_shows_the_model_squares(side, shape):
    seen = []
    inner = nn.Identity()
    inner.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.rand(2, *shape)
    Resized(inner, side)(images)
    assert seen[0].shape == (2, shape[0], side, side)
    # Bilinear weights are convex: constants stay, and no pixel leaves the range of the image.
    assert seen[0].min() >= images.min() - 1e-6
    assert seen[0].max() <= images.max() + 1e-6
    assert torch.allclose(Resized(nn.Identity(), side)(torch.full_like(images, 0.3)), torch.tensor(0.3))


def test_shrinking_averages_and_does_not_skip_pixels():
    """Of a checkerboard halved by skipping, one colour would be left; antialiased, grey."""
    board = (torch.arange(16)[:, None] + torch.arange(16)[None]) % 2
    grey = Resized(nn.Identity(), 5)(board.float()[None, None])
    assert (grey - 0.5).abs().max() < 0.1


def test_resize_is_what_the_model_is_built_for():
    model = build(ModelSpec("mlp", {"width": 8}, resize=12), DIGITS, 10)
    assert size(model) == (144 + 1) * 8 + 9 * 8 + 9 * 10
    check(ModelSpec("mlp", resize=12), DIGITS, 10)


@pytest.mark.parametrize("shape", [MNIST, CIFAR])
@pytest.mark.parametrize(
    "name",
    [
        "timm/test_efficientnet",
        "timm/test_resnet",
        "timm/test_vit",
        "torchvision/resnet18",
        "torchvision/squeezenet1_1",
    ],
)
def test_libraries_models_take_channels_sizes_and_classes(name, shape):
    spec = ModelSpec(name, resize=32)
    check(spec, shape, 7)
    assert logits(spec, shape).shape == (3, 7)
    torch.manual_seed(0)
    model = build(spec, shape, 7)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == shape[0]


@pytest.mark.parametrize("name", ["timm/test_vit", "torchvision/vit_b_16"])
def test_transformers_are_told_the_images_size(name):
    check(ModelSpec(name), CIFAR, 7)
    check(ModelSpec(name, resize=48), MNIST, 7)


def test_a_replaced_convolution_keeps_its_other_arguments():
    with torch.device("meta"):
        grey = build(ModelSpec("torchvision/resnet18"), (1, 32, 32), 10).conv1
        colour = build(ModelSpec("torchvision/resnet18"), (3, 32, 32), 10).conv1
    for attribute in ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
        assert getattr(grey, attribute) == getattr(colour, attribute)
    assert (grey.in_channels, colour.in_channels) == (1, 3)
    assert grey.bias is colour.bias is None


def test_options_reach_the_librarys_builder():
    plain = build(ModelSpec("timm/test_vit"), CIFAR, 10)
    assert len(build(ModelSpec("timm/test_vit", {"depth": 3}), CIFAR, 10).blocks) == 3 != len(plain.blocks)


@pytest.mark.parametrize(
    ("name", "shape", "side"),
    [
        ("torchvision/densenet121", DIGITS, 32),
        ("torchvision/alexnet", MNIST, 64),
        ("torchvision/vit_b_16", DIGITS, 32),
        ("timm/test_vit", DIGITS, 32),
        ("timm/test_convnext", (1, 2, 2), 32),
        ("timm/test_maxvit", DIGITS, 64),
        ("cnn", (1, 3, 8), 4),
    ],
)
def test_images_too_small_are_named_and_resize_helps(name, shape, side):
    found = error(ModelSpec(name), shape)
    assert (found.key, found.value) == ("name", name)
    assert "`resize`" in str(found)
    assert "x".join(map(str, shape[1:])) in str(found)
    check(ModelSpec(name, resize=side), shape, 10)


@pytest.mark.parametrize(
    ("plugin", "expected"), [(vanishing, "no pixels"), (not_a_model, r"logits \(2, 10\).*not \(2, 11\)")]
)
def test_models_that_fail_silently_are_found(plugin, expected):
    spec = ModelSpec(f"{__name__}:{plugin.__name__}")
    with pytest.raises(SpecError, match=expected):
        check(spec, DIGITS, 10)


def test_models_outside_the_package_build_with_their_options():
    assert size(build(ModelSpec(f"{__name__}:outside", {"width": 3}), DIGITS, 10)) == 65 * 3 + 4 * 10
    assert error(ModelSpec(f"{__name__}:outside", {"widht": 3}), DIGITS).key == "widht"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mpl", "did you mean 'mlp'"),
        ("timm/resnet81", "timm/resnet18"),
        ("timm/tets_efficientnet", "timm/test_efficientnet"),
        ("torchvision/resnet81", "torchvision/resnet18"),
        ("torchvision/densnet121", "torchvision/densenet121"),
    ],
)
def test_misspelt_names_get_the_nearest(name, nearest):
    found = error(ModelSpec(name), CIFAR)
    assert (found.key, found.value) == ("name", name)
    assert nearest in found.expected
    assert len(str(found)) < 300


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("mlp", {"widht": 8}, "widht"),
        ("mlp", {"width": 0}, "width"),
        ("mlp", {"depth": 1.5}, "depth"),
        ("cnn", {"width": "1e2"}, "width"),
        ("timm/test_resnet", {"drop_rate": 0.1, "widht": 8}, "widht"),
        ("timm/test_vit", {"widht": 8}, "widht"),
        ("torchvision/resnet18", {"widht": 8}, "widht"),
        ("timm/test_resnet", {"pretrained": True}, "pretrained"),
        ("torchvision/resnet18", {"weights": "DEFAULT"}, "weights"),
    ],
)
def test_bad_options_are_named(name, options, key):
    found = error(ModelSpec(name, options), CIFAR)
    assert (found.key, found.value) == (key, options[key])


def test_the_packages_models_are_its_files():
    assert plugins.names("models") == ["cnn", "mlp"]
    assert models.build is build
