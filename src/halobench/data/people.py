"""Read people's labels of CIFAR-10's images, in the order of the data set's own files.

In CIFAR-10N, three people labelled each training image; in CIFAR-10H, about 51 people labelled each test image.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core.errors import RefusedError, describe_error, refuse
from halobench.data.published_files import PublishedFile, obtain

TRAIN, TEST, CLASSES = 50_000, 10_000, 10
NOT_PASSED_ON = "not for commercial use; don't pass it on without its licence"
RAW = "https://raw.githubusercontent.com"
CIFAR10N = PublishedFile(
    "cifar10/CIFAR-10_human.pt",
    f"{RAW}/UCSC-REAL/cifar-10-100n/49df7d8/data/CIFAR-10_human.pt",
    "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310",
    f"CC BY-NC 4.0: {NOT_PASSED_ON}",
)
CIFAR10H = PublishedFile(
    "cifar10/cifar10h-counts.npy",
    f"{RAW}/jcpeterson/cifar-10h/597cbc5f07266c9405b830ee4a53463539124c4f/data/cifar10h-counts.npy",
    "9b36b4550349af56c79083356312eb4af856cc5fd3caf1f669d40b9d0bbb69ff",
    f"CC BY-NC-SA 4.0: {NOT_PASSED_ON}",
)
TEST_LABELS = PublishedFile(
    "predictions/cleanlab/original_test_labels/cifar10_test_set_original_labels.npy",
    f"{RAW}/cleanlab/label-errors/e3ea63914629b0481d0d58c301110cb6c043cc69/"
    "original_test_labels/cifar10_test_set_original_labels.npy",
    "8fba587d5b11011df52b2a20eb4a272eeaf20c2d162554059f714d4b78d23aed",
    "Apache-2.0",
)
LABELS = ("clean_label", "random_label1", "random_label2", "random_label3")


def training_labels() -> dict[str, np.ndarray]:
    """Return, by name, the official labels and three people's labels of the training images, int64 (50000,) each.

    ``clean_label`` is the official label; each of ``random_label1`` to ``random_label3`` is one person's label. Source:
    J. Wei et al., *Learning with Noisy Labels Revisited*, arXiv 2110.12088.

    Raises SpecError if the file can't be obtained or holds anything else.
    """
    import torch

    (path,) = obtain(CIFAR10N)
    # The file is a pickle. Nothing is allowed in it but int64 arrays; it names `rebuild` by numpy 1's module.
    rebuild: Any = np.empty(0).__reduce__()[0]
    allowed = [rebuild, (rebuild, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype, np.dtypes.Int64DType]
    try:
        with torch.serialization.safe_globals(allowed):
            found = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise RefusedError(str(path), f"isn't CIFAR-10N's file of labels ({describe_error(error)})") from None
    for name in LABELS:
        _check(path, name, found.get(name) if isinstance(found, dict) else None, TRAIN)
    return {name: found[name] for name in LABELS}


def test_votes() -> np.ndarray:
    """Return how many people gave each test image each label, int64 (10000, 10).

    Source: J. Peterson et al., *Human uncertainty makes classification more robust*, arXiv 1908.07086.
    """
    (path,) = obtain(CIFAR10H)
    return np.load(path, allow_pickle=False).astype(np.int64)


def test_labels() -> np.ndarray:
    """Return the official labels of the test images, int64 (10000,)."""
    (path,) = obtain(TEST_LABELS)
    labels = np.load(path, allow_pickle=False).astype(np.int64)
    _check(path, "labels", labels, TEST)
    return labels


def _check(path: Path, name: str, labels: np.ndarray | None, count: int) -> None:
    """Raise SpecError unless `labels` are `count` labels from 0 to 9."""
    fine = labels is not None and labels.shape == (count,) and labels.min() >= 0 and labels.max() < CLASSES
    what = f"has no {name} of {count:,} images from 0 to {CLASSES - 1}"
    refuse(not fine, str(path), f"{what}; delete it to fetch it again")
