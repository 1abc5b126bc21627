"""Build timm's and torchvision's models by name, adapted to a data set's channels, image size and classes.

Each library is imported only if needed, because importing it takes seconds.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from torch import nn

from halobench.core.errors import RefusedError, SpecError

ORDER = 4
# The experiments' names for models of these libraries.
VARIANTS = {
    "efficientnet": {"TITLE": "EfficientNet", "ARCHITECTURE": "convolutional"},
    "resnet": {"TITLE": "ResNet", "ARCHITECTURE": "convolutional"},
    "resnet18": {"TITLE": "ResNet-18", "ARCHITECTURE": "convolutional"},
    "resnet50": {"TITLE": "ResNet-50", "ARCHITECTURE": "convolutional"},
    "resnext50": {"TITLE": "ResNeXt-50", "ARCHITECTURE": "convolutional"},
    "densenet121": {"TITLE": "DenseNet-121", "ARCHITECTURE": "convolutional"},
    "convnext": {"TITLE": "ConvNeXt", "ARCHITECTURE": "convolutional"},
    "convnext_tiny": {"TITLE": "ConvNeXt-T", "ARCHITECTURE": "convolutional"},
    "vit": {"TITLE": "ViT", "ARCHITECTURE": "attention"},
    "mixer": {"TITLE": "MLP-Mixer"},
    "nfnet": {"TITLE": "NFNet", "ARCHITECTURE": "convolutional"},
    "mambaout": {"TITLE": "MambaOut", "ARCHITECTURE": "convolutional"},
    "resnet18-small": {"TITLE": "ResNet-18, small stem", "ARCHITECTURE": "convolutional"},
    "resnext50-small": {"TITLE": "ResNeXt-50, small stem", "ARCHITECTURE": "convolutional"},
    "densenet121-small": {"TITLE": "DenseNet-121, small stem", "ARCHITECTURE": "convolutional"},
}

# These aren't options, because they follow from the data set or the source of the weights.
RESERVED = {"num_classes", "in_chans", "pretrained", "weights", "checkpoint_path", "cache_dir"}
# The arguments that a convolution keeps when its number of input channels changes.
KEPT = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
# Paths of the first convolution in torchvision's models, and of any pooling that follows it.
STEMS = ("conv1", "features.conv0", "features.0.0")
POOLS = ("maxpool", "features.pool0", "stem.pool")


def adapt(
    name: str, input_shape: tuple[int, ...], classes: int, options: dict[str, Any], stem: str = "plain"
) -> nn.Module:
    """Build ``timm/NAME`` or ``torchvision/NAME``; `options` are passed to the library's own builder."""
    library, _, model = name.partition("/")
    for key in sorted(RESERVED & options.keys()):
        raise RefusedError(key, "follows from the data set's images and classes; leave this key out")
    built = (_timm if library == "timm" else _torchvision)(name, model, input_shape, classes, options)
    if stem == "small":
        _shrink_stem(name, built)
    return built


def native_size(name: str) -> tuple[int, int]:
    """Return the height and width of images that timm's weights for ``timm/NAME`` expect; without weights, 224 each."""
    import timm

    _check_name(name)
    config = timm.get_pretrained_cfg(name.partition("/")[2])
    if config is None:
        return 224, 224
    _, height, width = config.input_size
    return height, width


def _check_name(name: str) -> None:
    """Raise SpecError unless timm has a model of this name and, if the name has a weights tag, those weights."""
    import timm

    models, (model, _, tag) = timm.list_models(), name.partition("/")[2].partition(".")
    if model not in models:
        raise _unknown(name, model, models)
    try:
        timm.get_pretrained_cfg(f"{model}.{tag}" if tag else model)
    except RuntimeError:  # there is no such tag
        tagged = timm.list_pretrained(f"{model}.*")
        tags = f", or one of {', '.join(f'timm/{one}' for one in tagged)}" if tagged else ", since it has no tags"
        raise SpecError("name", name, f"timm/{model} without a tag{tags}") from None


def _shrink_stem(name: str, model: nn.Module) -> None:
    """Replace a model's first convolution with a 3x3 one of stride 1, and remove any pooling after it."""
    paths = dict(model.named_modules())
    first_convolution = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")  # set by timm's models
    path = next((path for path in (first_convolution, *STEMS) if isinstance(path, str) and path in paths), None)
    first = paths[path] if path is not None else None
    # A patch embedding reads each pixel once. A stem's windows overlap, except for ConvNeXt's, which is also a stem.
    patches = path is not None and ("embed" in path or path == "stem.proj")
    if path is None or not isinstance(first, nn.Conv2d) or patches:
        what = f"plain, since {name} doesn't start with a convolution over pixels"
        raise SpecError("stem", "small", f"{what} (try an option such as patch_size instead)")
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    _put(model, path, small)
    for pool in POOLS:
        if isinstance(paths.get(pool), nn.MaxPool2d):
            _put(model, pool, nn.Identity())


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the submodule at a path."""
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _timm(name: str, model: str, input_shape: tuple[int, ...], classes: int, options: dict[str, Any]) -> nn.Module:
    """Build a timm model."""
    import timm

    _check_name(name)
    sized: dict[str, Any] = {"num_classes": classes, "in_chans": input_shape[0]} | options
    try:
        # Transformers and mixers need the image size; other models don't accept it.
        built = timm.create_model(model, **({"img_size": input_shape[1:]} | sized))
    except TypeError as error:
        if "img_size" not in str(error) or "img_size" in options:
            raise _refused(error, options) from None
    else:
        _check_patches(name, built, options)
        return built
    try:
        return timm.create_model(model, **sized)
    except TypeError as error:
        raise _refused(error, options) from None


def _check_patches(name: str, model: nn.Module, options: dict[str, Any]) -> None:
    """Raise SpecError if a timm model would drop border pixels beyond the last whole patch."""
    from timm.layers import PatchEmbed

    for embedding in (getattr(model, "patch_embed", None), getattr(model, "stem", None)):  # mixers have a stem
        if not isinstance(embedding, PatchEmbed) or embedding.img_size is None or embedding.dynamic_img_pad:
            continue
        (high, wide), sides = embedding.patch_size, embedding.img_size
        key, value = ("patch_size", options["patch_size"]) if "patch_size" in options else ("name", name)
        what = f"patches that divide images of {sides[0]}x{sides[1]}, unlike {high}x{wide}; set"
        what += " `resize` to a multiple of the patch's side, or `patch_size` to a divisor of the image's"
        if sides[0] % high or sides[1] % wide:
            raise SpecError(key, value, what)


def _torchvision(
    name: str, model: str, input_shape: tuple[int, ...], classes: int, options: dict[str, Any]
) -> nn.Module:
    """Build a torchvision model."""
    import torchvision

    models = torchvision.models.list_models(module=torchvision.models)
    if model not in models:
        raise _unknown(name, model, models)
    sized: dict[str, Any] = {"weights": None, "num_classes": classes}
    # torchvision's transformers need the image's side length; its other models don't accept it.
    if model.startswith("vit_"):
        sized["image_size"] = input_shape[1]
    elif model.startswith("maxvit"):
        sized["input_size"] = input_shape[1:]
    try:
        built = torchvision.models.get_model(model, **(sized | options))
    except TypeError as error:
        raise _refused(error, options) from None
    _adapt_channels(built, input_shape[0])
    return built


def _adapt_channels(model: nn.Module, channels: int) -> None:
    """Replace the first convolution with one that has `channels` input channels; keep its other arguments."""
    path, first = next((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == channels:
        return
    kept: dict[str, Any] = {key: getattr(first, key) for key in KEPT}
    wider = nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **kept)
    _put(model, path, wider)


def _unknown(name: str, model: str, models: list[str]) -> SpecError:
    """Return an error that suggests the closest names, since the libraries have hundreds of models."""
    library = name.partition("/")[0]
    near = difflib.get_close_matches(model, models, n=3, cutoff=0.5)
    hint = f"; closest: {', '.join(f'{library}/{n}' for n in near)}" if near else ""
    return SpecError("name", name, f"one of {library}'s {len(models)} models{hint}")


def _refused(error: TypeError, options: dict[str, Any]) -> Exception:
    """Return an error that names the option rejected by the library's builder, or `error` if there are no options."""
    if not options:
        return error
    match = re.search(r"argument '(\w+)'", str(error))
    key = match[1] if match and match[1] in options else next(iter(options))
    return SpecError(key, options[key], f"an option that the model's builder accepts ({error})")
