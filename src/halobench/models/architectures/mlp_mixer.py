"""Define an MLP-Mixer for small images with timm, whose named models have a fixed patch size and depth."""

from __future__ import annotations

from typing import Any

from torch import nn

from halobench.core.errors import require
from halobench.core.specs.codec import convert_number

TITLE = "MLP-Mixer"
SOURCE = "I. Tolstikhin et al., *MLP-Mixer*, NeurIPS 2021, [arXiv 2105.01601](https://arxiv.org/abs/2105.01601)"
ORDER = 8

IMAGES = True  # the model doesn't take feature vectors


def build(
    input_shape: tuple[int, int, int], classes: int, *, patch: int = 8, width: int = 1024, depth: int = 8
) -> nn.Module:
    """Build an MLP-Mixer (Tolstikhin et al. 2021) of `depth` blocks on patches of `patch` x `patch` pixels.

    The defaults are those of arXiv 2306.00740. Hidden layers have width / 2 units across patches and 4 width units
    across channels. Images that don't consist of whole patches are padded with zeros at the right and bottom.
    """
    for key, value, least in (("patch", patch, 1), ("width", width, 2), ("depth", depth, 1)):
        require(convert_number(int, key, value) >= least, key, value, f"at least {least}")
    patch, (channels, height, wide) = int(patch), input_shape
    below, right = -height % patch, -wide % patch
    from timm.models.mlp_mixer import MlpMixer

    size: Any = (height + below, wide + right)  # timm's type annotation only allows squares
    mixer = MlpMixer(
        num_classes=classes,
        img_size=size,
        in_chans=channels,
        patch_size=patch,
        num_blocks=int(depth),
        embed_dim=int(width),
    )
    return nn.Sequential(nn.ZeroPad2d((0, right, 0, below)), mixer) if below or right else mixer
