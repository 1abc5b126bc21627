"""Bound the training time, in seconds, of models that have no record of training yet, by published speeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from halobench.core.specs.codec import parse
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import TrainSpec

GPU = "RTX 3090"
# Images of 224 x 224 pixels per second with automatic mixed precision, channels_last and batches of 256 to 512. Source:
# timm (huggingface/pytorch-image-models), results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv.
IMAGES_PER_SECOND = {
    "timm/resnet18": 3481.78,
    "timm/vit_tiny_patch16_224": 2299.56,
    "timm/resnext50_32x4d": 1001.03,
    "timm/densenet121": 913.65,
    "timm/convnext_tiny": 819.24,
}
# Up to this size, even a stem for small images and patches of 4 pixels leave fewer positions than 224 pixels do.
LARGEST = 56


def training_bound(spec: Mapping[str, Any]) -> float | None:
    """Return an upper bound on the seconds of a training job on `GPU`, from its spec; None if none is known."""
    model = parse(ModelSpec, spec["model"])
    speed = IMAGES_PER_SECOND.get(model.name)
    if speed is None or model.resize is None or model.resize > LARGEST or model.comes_trained:
        return None
    return spec["dataset"]["train"] * TrainSpec(**spec["train"]).epochs / speed
