"""Models: shapes, sizes in closed form, adaptation to images, and bad input named before anything runs."""

from __future__ import annotations

import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.spec_codec import parse
from halobench.core.specs import ModelSpec
from halobench.models import builder
from halobench.models.builder import Resized, build, start
from halobench.models.shape_check import check

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


def size(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())


def logits(spec: ModelSpec, shape: tuple[int, int, int], classes: int = 7, count: int = 3) -> torch.Tensor:
    """What a freshly drawn model says of random images, in eval mode."""
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
    spec = ModelSpec(name, {"width": 8} if "width" in plugins.signature("models", name) else {})
    check(spec, shape, 7)
    found = logits(spec, shape)
    assert found.shape == (3, 7)
    assert found.std() > 0 or name in ("attention", "mlp_mixer")  # whose last weights start at 0


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


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ({"act_layer": "nosuch"}, "act_layer", "nosuch"),
        ({"global_pool": "nosuch"}, "global_pool", "nosuch"),
        ({"drop_rate": 7}, "drop_rate", 7),
        ({"output_stride": 3, "drop_rate": 0.1}, "output_stride", 3),
        ({"output_stride": 3, "drop_rate": 7}, "options", {"output_stride": 3, "drop_rate": 7}),
    ],
)
def test_options_with_which_no_image_would_do_are_named(options, key, value):
    found = error(ModelSpec("timm/resnet18", options), DIGITS)
    assert (found.key, found.value) == (key, value)
    assert "resize" not in found.expected


@pytest.mark.parametrize(
    ("resize", "told"), [(None, "1x28x28 .*; set `resize`"), (32, "1x32x32 .*; set a larger `resize`")]
)
def test_images_that_are_too_small_are_told_as_the_model_gets_them(resize, told):
    found = error(ModelSpec("torchvision/alexnet", resize=resize), MNIST)
    assert re.search(f"takes images of {told}", found.expected)


@pytest.mark.parametrize("given", [{}, {"pretrained": True}])
def test_a_tag_that_timm_does_not_have_gets_those_that_it_has(given):
    found = error(ModelSpec("timm/resnet18.nosuch", **given), CIFAR)
    assert (found.key, found.value) == ("name", "timm/resnet18.nosuch")
    assert "timm/resnet18.a1_in1k" in found.expected


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("timm/vit_tiny_patch16_224", {}, "name"),
        ("timm/vit_tiny_patch16_224", {"patch_size": 8}, "patch_size"),
        ("timm/mixer_s16_224", {}, "name"),
    ],
)
def test_patches_that_would_drop_pixels_are_refused(name, options, key):
    found = error(ModelSpec(name, options), MNIST)
    assert found.key == key
    assert "images of 28x28" in found.expected
    check(ModelSpec(name, options, resize=32), MNIST, 10)


def test_patches_that_images_are_made_up_of_are_taken():
    check(ModelSpec("timm/vit_tiny_patch16_224", {"patch_size": 7}), MNIST, 10)


def test_the_packages_models_are_its_files():
    assert plugins.names("models") == ["attention", "cnn", "mlp", "mlp_bn", "mlp_mixer", "nearest"]
    assert builder.build is build


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
    """Against its formula in float64, in the unit that it takes its bandwidth in."""
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
    start(fixed, points, labels, 4)
    assert not fixed.log_bandwidth.requires_grad


def test_attention_survives_copies_of_its_points():
    points = np.zeros((6, *DIGITS), dtype=np.float32)
    model = build(ModelSpec("attention"), DIGITS, 2)
    start(model, points, np.array([0, 1] * 3), 2)
    assert torch.isfinite(model(torch.zeros(2, *DIGITS))).all()


@pytest.mark.parametrize("name", ["nearest", "attention"])
def test_models_around_their_points_take_resized_ones(name):
    spec = ModelSpec(name, {}, resize=4)
    model = build(spec, DIGITS, 3)
    points = np.random.default_rng(0).standard_normal((9, *DIGITS), dtype=np.float32)
    start(model, points, np.arange(9) % 3, 3)
    assert model.model.points.shape == (9, 16)
    assert model(torch.from_numpy(points)).shape == (9, 3)


def test_the_size_of_attention_counts_its_points():
    assert check(ModelSpec("attention"), DIGITS, 10, samples=100) > 100 * 10 * 4


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("nearest", {"scale": 0}, "scale = 0: expected a logit above 0"),
        ("attention", {"bandwidth": -1.0}, "bandwidth = -1.0: expected a number from 1e-3 to 1e3"),
        ("attention", {"learned": "yes"}, "learned = 'yes': expected true or false"),
        ("mlp_bn", {"depth": 0}, "depth = 0: expected at least 1"),
    ],
)
def test_bad_options_of_the_bench_models_are_named(name, options, told):
    assert told in str(error(ModelSpec(name, options), DIGITS))


def test_a_cnn_without_batch_norm_has_biases_instead():
    bare, normed = (build(ModelSpec("cnn", {"norm": norm}), MNIST, 10) for norm in (False, True))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in bare.modules())
    widths = 32 + 32 + 64 + 64
    assert size(normed) - size(bare) == widths, "a scale and a shift a channel in place of a bias"
    assert "norm = 'no': expected true or false" in str(error(ModelSpec("cnn", {"norm": "no"}), MNIST))


# The paper's models and their published sizes: at 1,000 classes and 224 x 224 pixels, by the libraries that they are
# taken from (torchvision's pages for the first four).
PAPER = {
    "resnet18": (ModelSpec("timm/resnet18", stem="small"), 11_689_512),
    "resnext50": (ModelSpec("timm/resnext50_32x4d", stem="small"), 25_028_904),
    "densenet121": (ModelSpec("timm/densenet121", stem="small"), 7_978_856),
    "convnext_tiny": (ModelSpec("timm/convnext_tiny", stem="small"), 28_589_128),
    "vit": (ModelSpec("timm/vit_tiny_patch16_224", {"patch_size": 4}), 5_717_416),
}


@pytest.mark.paper
@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_have_the_published_sizes(name):
    spec, published = PAPER[name]
    with torch.device("meta"):
        assert size(build(ModelSpec(spec.name), (3, 224, 224), 1000)) == published
        if name != "vit":  # which torchvision has in other sizes
            other = spec.name.replace("timm/", "torchvision/")
            assert size(build(ModelSpec(other), (3, 224, 224), 1000)) == published


@pytest.mark.paper
def test_the_mixers_size_is_its_closed_form():
    """Per block: two layer norms, an MLP across the 16 patches and one across the 1,024 channels."""
    patches, width, across, along = 16, 1024, 512, 4096
    block = 2 * 2 * width + (patches + 1) * across + (across + 1) * patches + (width + 1) * along + (along + 1) * width
    expected = (3 * 8 * 8 + 1) * width + 8 * block + 2 * width + (width + 1) * 10
    with torch.device("meta"):
        assert size(build(ModelSpec("mlp_mixer"), CIFAR, 10)) == expected


@pytest.mark.paper
@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize(("name", "path"), [("resnet18", "conv1"), ("densenet121", "features.conv0")])
def test_a_small_stem_keeps_the_maps_large(library, name, path):
    """ResNet-18 for 32 x 32 images has 11,173,962 parameters at 10 classes, a well-known number."""
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


def test_a_small_stem_is_refused_where_there_is_no_convolution_over_pixels():
    found = error(ModelSpec("timm/test_vit", stem="small"), (3, 160, 160))
    assert (found.key, found.value) == ("stem", "small")
    with pytest.raises(SpecError, match="stem = 'small': expected plain"):
        ModelSpec("cnn", stem="small")


@pytest.mark.paper
@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "cnn"])
def test_weights_that_were_trained_elsewhere_give_the_same_logits(name, tmp_path):
    """Saved by safetensors as any project would, loaded behind timm's preprocessing or the data set's."""
    shape, moments = (3, 160, 160), (np.array([110.0, 120.0, 130.0]), np.array([60.0, 70.0, 80.0]))
    torch.manual_seed(0)
    model = build(ModelSpec(name), shape, 5).eval()
    save_model(model, str(tmp_path / "w.safetensors"))
    pixels = torch.randint(0, 256, (4, *shape)).float()
    given = (pixels - torch.tensor(moments[0]).float().view(1, 3, 1, 1)) / torch.tensor(moments[1]).float().view(
        1, 3, 1, 1
    )
    path = tmp_path / "w.safetensors"
    with torch.no_grad():
        same = build(ModelSpec(name, weights=str(path), preprocess="dataset"), shape, 5, moments, path).eval()
        torch.testing.assert_close(same(given), model(given), rtol=0, atol=0)
        assert not any(parameter.requires_grad for parameter in same.parameters())
        if name == "cnn":
            return
        own = build(ModelSpec(name, weights=str(path)), shape, 5, moments, path).eval()
        config = timm.data.resolve_model_data_config(model)
        mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        torch.testing.assert_close(own(given), model((pixels / 255 - mean) / std), rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: tensors | {"0.weight": torch.zeros(4, 1, 3, 3)}, r"0\.weight is \(4, 1, 3, 3\)"),
        (lambda tensors: {k: v for k, v in tensors.items() if k != "0.weight"}, r"they lack 0\.weight"),
        (lambda tensors: tensors | {"more": torch.zeros(1)}, "which has no more"),
        (lambda tensors: tensors | {"0.weight": tensors["0.weight"].int()}, r"0\.weight is of type I32"),
        (lambda tensors: tensors | {"0.weight": tensors["0.weight"] > 0}, r"0\.weight is of type BOOL"),
        (lambda tensors: tensors | {"0.weight": tensors["0.weight"] + 0j}, r"0\.weight is of type C64"),
        (lambda tensors: tensors | {"0.weight": tensors["0.weight"] / 0}, r"finite weights: 72 of 72 .* of 0\.weight"),
        (lambda tensors: tensors | {"0.weight": tensors["0.weight"].double() + 1e300}, "finite weights"),
    ],
)
def test_weights_of_another_model_are_refused_before_anything_runs(tmp_path, spoil, message):
    model, path = build(ModelSpec("cnn", {"width": 8}), DIGITS, 10), tmp_path / "w.safetensors"
    save_file(spoil(model.state_dict()), path)
    found = error(ModelSpec("cnn", {"width": 8}, weights=str(path)), DIGITS)
    assert (found.key, found.value) == ("weights", str(path))
    assert re.search(message, found.expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.write_bytes(b"no weights"), "a .safetensors file of weights"),
        (lambda path: torch.save({}, path), "a .safetensors file of weights"),
        (lambda path: path.mkdir(), "this is a directory"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, make, message):
    make(tmp_path / "w.safetensors")
    found = error(ModelSpec("cnn", weights=str(tmp_path / "w.safetensors")), DIGITS)
    assert found.key == "weights"
    assert message in found.expected


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floating_point_types_are_taken(tmp_path, kind):
    tensors = build(ModelSpec("cnn", {"width": 8}), DIGITS, 10).state_dict()
    path = tmp_path / "w.safetensors"
    save_file({name: t.to(kind) if t.is_floating_point() else t for name, t in tensors.items()}, path)
    check(ModelSpec("cnn", {"width": 8}, weights=str(path)), DIGITS, 10)


def test_a_tilde_is_said_not_to_be_expanded():
    assert "~ isn't expanded" in error(ModelSpec("cnn", weights="~/w.safetensors"), DIGITS).expected


def test_loading_weights_that_are_not_finite_speaks_of_them(tmp_path):
    model, path = build(ModelSpec("mlp"), DIGITS, 10), tmp_path / "w.safetensors"
    save_file({name: t / 0 for name, t in model.state_dict().items()}, path)
    with pytest.raises(SpecError, match="expected finite weights"):
        build(ModelSpec("mlp", weights=str(path)), DIGITS, 10, None, path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "cnn", "pretrained": True}, "pretrained = True: expected a model of timm's"),
        ({"name": "timm/resnet18", "pretrained": True, "weights": "w"}, "not both"),
        ({"name": "timm/resnet18", "trained_on": "digits"}, "beside `weights` or `pretrained` alone"),
        ({"name": "cnn", "weights": "w", "preprocess": "timm"}, "expected dataset"),
        ({"name": "cnn", "weights": "w", "preprocess": "tim"}, "did you mean 'timm'"),
    ],
)
def test_contradictions_about_given_weights_are_named(spec, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        parse(ModelSpec, spec)


def test_pretrained_weights_are_for_a_number_of_classes():
    found = error(ModelSpec("timm/resnet18", pretrained=True), (3, 224, 224))
    assert "for the data set's 10 classes, not 1000" in found.expected
    assert found.key == "pretrained"
