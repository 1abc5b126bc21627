"""Load Fashion-MNIST: greyscale images of clothing, 28x28 pixels, 60,000 for training and 10,000 for testing.

Debian's package ``dataset-fashion-mnist`` contains the same files, recompressed.
"""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import idx_set

TITLE = "Fashion-MNIST"
SOURCE = "H. Xiao, K. Rasul and R. Vollgraf, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747)"
ORDER = 4

FROM_DISK = True
SET = idx_set(
    "Fashion-MNIST",
    "FashionMNIST",
    payloads=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


def describe() -> Description:
    return SET.describe()


def load() -> Images:
    return SET.load()
