"""Define an MLP-Mixer for small images with timm, whose named models have a fixed patch size and depth."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import nn

from halobench.core.specs.codec import Count, Whole, checked

TITLE = "MLP-Mixer"
SOURCE = "I. Tolstikhin et al., *MLP-Mixer*, NeurIPS 2021, [arXiv 2105.01601](https://arxiv.org/abs/2105.01601)"
ORDER = 8

IMAGES = True  # the model doesn't take feature vectors


@checked
def build(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    patch: Count = 8,
    width: Annotated[Whole, Field(ge=2)] = 1024,
    depth: Count = 8,
) -> nn.Module:
    """Build an MLP-Mixer (Tolstikhin et al. 2021) of `depth` blocks on patches of `patch` x `patch` pixels.

    The defaults are those of arXiv 2306.00740. Hidden layers have width / 2 units across patches and 4 width units
    across channels. Images that don't consist of whole patches are padded with zeros at the right and bottom.
    """
    channels, height, wide = input_shape
    below, right = -height % patch, -wide % patch
    from timm.models.mlp_mixer import MlpMixer

    size: Any = (height + below, wide + right)  # timm's type annotation only allows squares
    mixer = MlpMixer(
        num_classes=classes,
        img_size=size,
        in_chans=channels,
        patch_size=patch,
        num_blocks=depth,
        embed_dim=width,
    )
    return nn.Sequential(nn.ZeroPad2d((0, right, 0, below)), mixer) if below or right else mixer
