"""Divide a source into splits and add label noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core.errors import RefusedError, refuse, require
from halobench.core.seeding import generator
from halobench.core.specs.data import DatasetSpec, NoiseSpec
from halobench.data.distribution import Distribution, Sample, draw_labels, sample_generator
from halobench.data.mapped_rows import Normalised, Rows, normalise, rows_of
from halobench.data.sources import SPLITS, load_distribution
from halobench.data.written_sources import read_arrays, read_meta

COPIED = 2**26  # bytes of a split's images held in memory; larger splits are read on demand
MOST_BLOCKS, FEWEST_BLOCKS = 10, 3  # of test samples set aside from all training; fewer aren't worthwhile


@dataclass(frozen=True)
class Split:
    """The n samples of one split."""

    index: np.ndarray  # rows of the source; 0 to n - 1 if the samples were drawn from a distribution
    images: np.ndarray | Rows  # float32 if drawn from a distribution; `Rows` of the source's file for a large split
    labels: np.ndarray  # with the drawn label noise, for training
    clean: np.ndarray  # as in the source
    region: np.ndarray | None = None  # that each sample was drawn from, if the distribution consists of regions
    posterior: np.ndarray | None = None  # P(clean label | sample), float64 (n, classes), if provided by the loader


@dataclass(frozen=True)
class Data:
    """The splits of a data set for one seed, and the distribution of its label noise."""

    splits: Mapping[str, Split]
    classes: int
    shape: tuple[int, ...]  # (C, H, W) for images, (D,) for features
    mean: np.ndarray  # per channel (on the scale of pixels or inputs) or per feature
    std: np.ndarray
    transition: np.ndarray  # P(label = j | clean label = i), float64 (classes, classes)
    distribution: Distribution | None = None  # from which the splits were drawn
    loader: str = ""  # the distribution's loader
    source: str = ""  # the source's name in the configuration
    names: tuple[str, ...] = ()  # names of the classes
    test_block: int | None = None  # see `blocks_of`
    train_block: int | None = None  # of the source, if each seed has its own

    def inputs(self, split: str) -> np.ndarray:
        """Return the normalised images of a split, float32 (n, C, H, W), or its features (n, D)."""
        return normalise(self.splits[split].images, self.mean, self.std)

    def flat(self, split: str) -> Normalised:
        """Return a split's inputs flattened to (n, D), where each slice is normalised when it is read."""
        return Normalised(self.splits[split].images, self.mean, self.std)

    def targets(self) -> dict[str, np.ndarray]:
        """Return labels, clean labels and posterior, which `halobench.calibration.calibrate_cell` needs besides logits.

        Without a distribution, the posterior is ``transition``, plus ``{split}.posterior`` for any split whose
        posterior the source provides. For a distribution, the posterior is ``{split}.posterior``, or the posterior by
        region along with each sample's region: ``regions.posterior``, ``regions.mass``, ``regions.shared`` and
        ``{split}.region``.
        """
        arrays = {f"{name}.labels": split.labels for name, split in self.splits.items()}
        arrays |= {f"{name}.clean": split.clean for name, split in self.splits.items()}
        if self.distribution is None:
            with_posterior = [name for name, split in self.splits.items() if split.posterior is not None]
            arrays |= {f"{name}.posterior": self.posterior(name) for name in with_posterior}
            return arrays | {"transition": self.transition}
        regions = self.distribution.regions
        if regions is None:
            return arrays | {f"{name}.posterior": self.posterior(name) for name in self.splits}
        arrays |= {f"{name}.region": each.region for name, each in self.splits.items() if each.region is not None}
        return arrays | {
            "regions.posterior": regions.posterior @ self.transition,
            "regions.mass": regions.mass,
            "regions.shared": regions.shared.astype(np.uint8),
        }

    def posterior(self, split: str) -> np.ndarray:
        """Return P(label | x) for a split's samples, including label noise, as float64 (n, classes)."""
        samples = self.splits[split]
        if samples.posterior is not None:
            return samples.posterior @ self.transition
        if self.distribution is None:
            return self.transition[samples.clean]
        return self.distribution.posterior(np.asarray(samples.images)) @ self.transition

    def facts(self) -> dict[str, Any]:
        """Return facts for the tables: a distribution's loader and facts or, for stored samples, the seed's blocks."""
        if self.distribution is not None:
            return {"distribution": self.loader, **self.distribution.facts()}
        own = {"test_block": self.test_block, "train_block": self.train_block}
        return {key: block for key, block in own.items() if block is not None}


def load_data(folder: Path, spec: DatasetSpec, seed: int) -> Data:
    """Divide a written source into the splits of `spec`, or draw the splits from it, and add label noise, using `seed`.

    The choice of samples doesn't depend on the noise, so data sets that differ only in noise share samples.
    """
    source, meta = read_meta(folder)
    if not meta["size"]:  # a distribution has no stored samples, so they are drawn here
        return _drawn(load_distribution(source), source.loader, spec, seed)
    samples = read_arrays(folder, source, meta)
    transition = noise_transition(spec.noise, meta["classes"], generator(seed, "noise-map"))
    splits = {}
    for name, index in split_indices(spec, meta["size"], meta["parts"], seed).items():
        clean = samples.labels[index]
        noisy = draw_labels(transition, clean, generator(seed, "noise", name))
        posterior = None if samples.posterior is None else samples.posterior[index]
        if posterior is not None and np.isnan(posterior).any():  # known for all samples of a part or for none
            posterior = None
        splits[name] = Split(index, rows_of(samples.images, index, COPIED), noisy, clean, posterior=posterior)
    mean, std = np.asarray(meta["mean"]), np.asarray(meta["std"])
    blocks = blocks_of(spec, meta["size"], meta["parts"])
    about = {"source": spec.source, "names": meta["names"], "test_block": seed % blocks if blocks else None}
    about["train_block"] = seed if spec.blocks else None
    return Data(splits, meta["classes"], meta["shape"], mean, std, transition, **about)


def check_neighbours(data: Data) -> None:
    """Raise SpecError if a training sample's only neighbours with other labels are copies of itself.

    Copies arise, for example, if one feature value is so large that normalisation makes all other values equal.
    """
    rows, labels = data.flat("train"), data.splits["train"].labels
    differing = next((row for row in range(1, len(rows)) if (rows[row : row + 1] != rows[:1]).any()), 0)
    for label in {labels[0], labels[differing]}:  # for any other label, these two rows differ
        others, alike = np.flatnonzero(labels != label), np.flatnonzero(labels == label)
        first = rows[others[:1]]
        same = len(others) and all((rows[[row]] == first).all() for row in others)
        if same and any((rows[[row]] == first).all() for row in alike):
            copies = f"all training samples of other classes equal a sample of class {label}"
            what = f"after normalisation, {copies}; check the scale of the features in {data.source}"
            raise RefusedError("dataset.source", what)


def _drawn(source: Distribution, loader: str, spec: DatasetSpec, seed: int) -> Data:
    """Draw a data set's splits from a distribution: test samples by `test_sample`, and the other splits by `sample`."""
    transition = noise_transition(spec.noise, source.classes, generator(seed, "noise-map"))
    splits = {}
    for name in SPLITS:
        draw = source.test_sample if name == "test" else source.sample
        drawn: Sample = draw(getattr(spec, name), sample_generator(source, seed, "sample", name))
        noisy = draw_labels(transition, drawn.labels, sample_generator(source, seed, "noise", name))
        splits[name] = Split(np.arange(len(noisy)), drawn.inputs, noisy, drawn.labels, drawn.region)
    mean, std = np.asarray(source.mean, dtype=float), np.asarray(source.std, dtype=float)
    return Data(splits, source.classes, tuple(source.shape), mean, std, transition, source, loader, spec.source)


def check_size(spec: DatasetSpec, size: int | None, parts: Mapping[str, Any] | None = None, seed: int = 0) -> None:
    """Raise SpecError if a source of `size` samples (None if unlimited) can't fill the splits of `spec` for a seed."""
    if size is None:
        refuse(spec.blocks, "blocks", "samples are drawn for each seed anyway; leave this key out")
        return
    if spec.blocks:
        pool = parts["train"][1] - parts["train"][0] if parts else size - spec.test
        most = pool // _block_size(spec, parts or {})
        what = (
            f"a seed below {most}, since source {spec.source!r} has so many blocks of training and validation samples"
        )
        require(seed < max(most, 1), "seed", seed, what)
    if not parts:
        total = spec.train + spec.val + spec.test
        if total > size:
            raise RefusedError(
                "",
                f"train + val + test = {total}, but source {spec.source!r} has only {size} samples; reduce them",
            )
        return
    needs = [("train + val", spec.train + spec.val, "train"), ("test", spec.test, "test")]
    if "val" in parts:
        needs = [(name, getattr(spec, name), name) for name in SPLITS]
    for key, count, part in needs:
        start, stop = parts[part]
        if count > stop - start:
            have = f"the {part} part of source {spec.source!r} has only {stop - start} samples; reduce it"
            raise RefusedError("", f"{key} = {count}, but {have}")


def blocks_of(spec: DatasetSpec, size: int, parts: Mapping[str, Any]) -> int:
    """Return how many disjoint blocks of test samples are set aside from training; 0 if there are none.

    A source without official parts has blocks if it is large enough for `FEWEST_BLOCKS`. Seeds with different blocks
    share no test samples, and no seed trains on another's test samples. If seeds have their own training samples, they
    share the test samples instead.
    """
    blocks = 0 if parts or spec.blocks else min(MOST_BLOCKS, (size - spec.train - spec.val) // spec.test)
    return blocks if blocks >= FEWEST_BLOCKS else 0


def split_indices(spec: DatasetSpec, size: int, parts: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Draw disjoint rows for each split without replacement, from the official parts if the source has any.

    Without an official ``val`` part, validation samples come from the ``train`` part. Without any official parts, test
    samples are one of the blocks that are set aside (see `blocks_of`), if the source is large enough. With the spec's
    `blocks`, training samples and, without a ``val`` part, validation samples are the seed's own.
    """
    check_size(spec, size, parts, seed)
    rng = generator(seed, "split")
    if parts:
        part = {name: rng.permutation(np.arange(*parts[name])) for name in ("train", "test", "val") if name in parts}
        part["train"] = _own_block(np.arange(*parts["train"]), spec, parts, seed) if spec.blocks else part["train"]
        val = part["val"] if "val" in part else part["train"][spec.train :]
        return {"train": part["train"][: spec.train], "val": val[: spec.val], "test": part["test"][: spec.test]}
    blocks = blocks_of(spec, size, parts)
    if not blocks and not spec.blocks:
        order = rng.permutation(size)
        stops = np.cumsum([spec.train, spec.val, spec.test])
        return dict(zip(SPLITS, np.split(order, stops)[:3], strict=True))
    order = generator(0, "test-blocks").permutation(size)  # the same for all seeds
    blocks = max(blocks, 1)
    test, rest = np.split(order, [blocks * spec.test])
    rest = _own_block(rest, spec, parts, seed) if spec.blocks else rng.permutation(rest)
    train, val = rest[: spec.train], rest[spec.train : spec.train + spec.val]
    return {"train": train, "val": val, "test": np.split(test, blocks)[seed % blocks]}


def _block_size(spec: DatasetSpec, parts: Mapping[str, Any]) -> int:
    """Return the number of samples in a seed's block: its training and, without a ``val`` part, validation samples."""
    return spec.train + (0 if "val" in parts else spec.val)


def _own_block(rows: np.ndarray, spec: DatasetSpec, parts: Mapping[str, Any], seed: int) -> np.ndarray:
    """Return a seed's own block of rows (n,), from a permutation that is the same for all seeds."""
    size = _block_size(spec, parts)
    return generator(0, "train-blocks").permutation(rows)[seed * size : (seed + 1) * size]


def noise_transition(spec: NoiseSpec, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return P(label = j | clean = i) as float64 (classes, classes), for the kinds of noise in `NoiseSpec`."""
    identity = np.eye(classes)
    if spec.kind == "uniform":
        return (1 - spec.p) * identity + spec.p * (1 - identity) / (classes - 1)
    partner = np.empty(classes, dtype=np.int64)
    if spec.kind == "pair_flip":
        order = rng.permutation(classes)
        partner[order] = np.roll(order, -1)
    else:
        # An offset in [1, classes) never leads to the class itself, and leads to all other classes with equal
        # probability.
        partner[:] = (np.arange(classes) + rng.integers(1, classes, size=classes)) % classes
    return (1 - spec.p) * identity + spec.p * identity[partner]
