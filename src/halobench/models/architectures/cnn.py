"""Define a small convolutional network."""

from __future__ import annotations

from torch import nn

from halobench.core.errors import refuse
from halobench.core.specs.codec import Count, Flag, checked

TITLE = "CNN"
ARCHITECTURE = "convolutional"
ORDER = 3
# The experiments' CNNs whose names don't describe them well enough.
VARIANTS = {
    "cnn-bare": {"TITLE": "CNN, no batch norm"},
    "cnn-shift": {"TITLE": "CNN, shifted images"},
    "cnn-decay": {"TITLE": "CNN, weight decay"},
}

IMAGES = True  # the model doesn't take feature vectors


@checked
def build(input_shape: tuple[int, int, int], classes: int, *, width: Count = 32, norm: Flag = True) -> nn.Module:
    """Build a network of four 3x3 convolutions, with width, width, 2 width and 2 width channels, for images (C, H, W).

    With `norm`, each convolution is followed by batch norm; otherwise, it has a bias. Feature maps are halved in size
    before the last convolution and, if images have at least 16 pixels per side, after the first. The final maps are
    averaged over their pixels, and a linear layer turns these averages into logits.
    """
    channels, height, wide = input_shape
    refuse(min(height, wide) < 4, "name", f"cnn needs images of at least 4x4 pixels, not {height}x{wide}; set `resize`")

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        if not norm:
            return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    narrow, broad = width, 2 * width
    # At full size, the second convolution would be the costliest, so larger images are halved before it.
    early = [nn.MaxPool2d(2)] if min(height, wide) >= 16 else []
    layers = [*block(channels, narrow), *early, *block(narrow, narrow), *block(narrow, broad), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, *block(broad, broad), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(broad, classes)
    )
