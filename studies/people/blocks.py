"""Divide CIFAR-10's images into blocks with people's labels, as sources of the study.

Arm N has five blocks of 10,000 training images, each with three people's labels (CIFAR-10N): 5,000 to train, 1,000 to
validate and 4,000 to score. Arm H has five divisions of the 10,000 test images, with about 51 votes each (CIFAR-10H):
6,000, 1,000 and 3,000. Both are stratified by the official class, and images that look alike (by their difference
hashes) are in one split of one block.

A source is trained and validated on one label per image: `labels` says on which. Its test labels are of the same kind.
"""

from __future__ import annotations

import functools
import itertools
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from halobench.core.errors import refuse
from halobench.core.seeding import generator
from halobench.data import people
from halobench.data.loaders.cifar10_jpeg import NAMES
from halobench.data.published_files import check_obtainable
from halobench.data.sources import Description, Images, plain_images

TITLE = "CIFAR-10 with people's labels"
FROM_DISK = True
BLOCKS = 5
SPLITS = {"N": (5000, 1000, 4000), "H": (6000, 1000, 3000)}  # images to train, validate and score
NEAR = 4  # bits of 64; in more than half of such pairs, pixels correlate by .9 or more
FLIPS = 0.172  # the share of one person's labels that differ from the official ones
KINDS = PERSON, PERMUTED, UNIFORM, OFFICIAL = "person", "permuted", "uniform", "official"
Arm = Literal["N", "H"]


def describe(*, arm: Arm = "N", block: int = 0, labels: str = PERSON, images: str = "cifar10_jpeg") -> Description:
    """Return the source's shape, sizes and parts."""
    refuse(block not in range(BLOCKS), "block", f"{block} is none of 0 to {BLOCKS - 1}")
    refuse(labels not in KINDS, "labels", f"{labels} is none of {', '.join(KINDS)}")
    check_obtainable(people.CIFAR10N, people.CIFAR10H, people.TEST_LABELS)
    return Description((3, 32, 32), len(NAMES), sum(SPLITS[arm]), _parts(arm), NAMES)


def load(*, arm: Arm = "N", block: int = 0, labels: str = PERSON, images: str = "cifar10_jpeg") -> Images:
    """Return a block's images, in the order of `rows`, with the first column of `label_columns`.

    `images` names the loader of the images, which must be CIFAR-10's, in its own order: their labels are compared with
    the official ones that come with people's.
    """
    loaded = _loaded(images)
    official = np.concatenate([people.training_labels()["clean_label"], people.test_labels()])
    differ = int((loaded.labels != official).sum()) if len(loaded.labels) == len(official) else len(official)
    refuse(
        differ, "images", f"{images} has other labels than CIFAR-10 for {differ:,} images; name a loader of CIFAR-10"
    )
    chosen = rows(arm, block)
    pixels = loaded.images[chosen + (people.TRAIN if arm == "H" else 0)]
    return Images(pixels, label_columns(arm, block, labels)[:, 0], len(NAMES), _parts(arm), NAMES)


@functools.cache
def rows(arm: Arm, block: int) -> np.ndarray:
    """Return a block's rows (n,) of CIFAR-10's training images (arm N) or test images (arm H), split by split."""
    if arm == "N":
        return dealt(_official(arm), _lookalikes(arm), SPLITS[arm], BLOCKS, generator(0, "people", arm))[block]
    return dealt(_official(arm), _lookalikes(arm), SPLITS[arm], 1, generator(block, "people", arm))[0]


def dealt(
    official: np.ndarray, groups: np.ndarray, sizes: tuple[int, ...], blocks: int, rng: np.random.Generator
) -> np.ndarray:
    """Deal images into splits of `sizes` within each of `blocks`; return their rows (blocks, sum of sizes).

    Each class, of `official` (n,), has an equal share of each split. The images of a group, (n,), stay together.
    """
    classes = int(official.max()) + 1
    room = np.tile(np.array(sizes) // classes, (classes, blocks))  # of each class, in each split of each block
    count = np.bincount(groups)
    order = rng.permutation(len(count))
    place = np.empty(len(official), dtype=np.int64)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(count)[:-1])
    for group in order[np.argsort(-count[order], kind="stable")]:  # the largest first, while there is room for them
        needed = np.bincount(official[members[group]], minlength=classes)
        fits = np.flatnonzero((room >= needed[:, None]).all(axis=0))
        chosen = rng.choice(fits, p=(weight := room[official[members[group][0]], fits]) / weight.sum())
        room[:, chosen] -= needed
        place[members[group]] = chosen
    inside = rng.permutation(len(official))  # the order of images in a split
    return inside[np.argsort(place[inside], kind="stable")].reshape(blocks, -1)


def label_columns(arm: Arm, block: int, labels: str) -> np.ndarray:
    """Return the labels of a block's images: in arm N of three people each (n, 3), in arm H one drawn vote (n, 1).

    If `labels` is ``permuted``, each column is permuted within the official class: as many confusions of each kind, but
    none depends on the image. ``uniform`` flips official labels to any other class as often as people do.
    """
    chosen = rows(arm, block)
    official = _official(arm)[chosen]
    rng = generator(block, "people", arm, "labels", labels)
    if arm == "H":
        drawn = _votes_to_labels(people.test_votes()[chosen], rng)[:, None]
    else:
        of = people.training_labels()
        drawn = np.stack([of[f"random_label{person}"][chosen] for person in (1, 2, 3)], axis=1)
    if labels == PERMUTED:
        return np.stack([_permuted(column, official, rng) for column in drawn.T], axis=1)
    if labels == UNIFORM:
        other = (official[:, None] + rng.integers(1, len(NAMES), size=drawn.shape)) % len(NAMES)
        return np.where(rng.random(drawn.shape) < FLIPS, other, official[:, None])
    return drawn if labels == PERSON else np.repeat(official[:, None], drawn.shape[1], axis=1)


def _votes_to_labels(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one of each image's votes (n, k), as labels (n,)."""
    reached = rng.integers(votes.sum(axis=1))
    return (votes.cumsum(axis=1) > reached[:, None]).argmax(axis=1)


def _permuted(column: np.ndarray, official: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    moved = column.copy()
    for label in np.unique(official):
        of_class = np.flatnonzero(official == label)
        moved[of_class] = column[rng.permutation(of_class)]
    return moved


def _official(arm: Arm) -> np.ndarray:
    return people.training_labels()["clean_label"] if arm == "N" else people.test_labels()


_loaded = functools.cache(functools.partial(plain_images, "images"))  # decoding all images takes a third of a minute


@functools.cache
def _lookalikes(arm: Arm) -> np.ndarray:
    loaded = _loaded("cifar10_jpeg")
    start, stop = loaded.parts["train" if arm == "N" else "test"]
    return lookalikes(difference_hash(loaded.images[start:stop]))


def lookalikes(hashes: np.ndarray) -> np.ndarray:
    """Return the group (n,) of each image, of which neighbours differ in at most `NEAR` bits of their hashes (n,)."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for band in np.array_split(np.arange(64, dtype=np.uint64), NEAR + 1):  # such hashes agree in one of these bands
        key = hashes >> band[0] & np.uint64(2 ** len(band) - 1)
        order = np.argsort(key, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            near = np.bitwise_count(hashes[rows, None] ^ hashes[None, rows]) <= NEAR
            pairs.append(rows[np.argwhere(np.triu(near, 1))])
    ends = np.concatenate(pairs).T
    return connected_components(coo_array((np.ones(ends.shape[1]), tuple(ends)), (len(hashes),) * 2), False)[1]


def difference_hash(images: np.ndarray) -> np.ndarray:
    """Return a hash, uint64 (n,), of images (n, 3, 32, 32), which says where the brightness grows from left to right.

    Each bit says whether one of 8 x 8 fields is brighter than the field on its left. Fields are means of a grey copy,
    in 8 rows of 9 (N. Krawetz, *Kind of Like That*, 2013).
    """
    grey = images.astype(np.float32).mean(axis=1)
    bands = grey.reshape(len(grey), 8, 4, 32).mean(axis=2)
    edges = np.linspace(0, 32, 10)
    reach = np.clip(
        np.minimum(edges[1:], np.arange(1, 33)[:, None]) - np.maximum(edges[:-1], np.arange(32)[:, None]), 0, None
    )
    fields = bands @ (reach / reach.sum(axis=0)).astype(np.float32)
    bits = (fields[:, :, 1:] > fields[:, :, :-1]).reshape(len(images), 64)
    return np.packbits(bits, axis=1).view(">u8")[:, 0]


def _parts(arm: Arm) -> dict[str, tuple[int, int]]:
    stops = np.cumsum([0, *SPLITS[arm]]).tolist()
    return dict(zip(("train", "val", "test"), itertools.pairwise(stops), strict=False))
