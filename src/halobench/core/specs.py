"""Specs: frozen dataclasses that say what a stage does, each of which checks its own values.

A spec is plain data (strings, numbers, tuples), so it can be written as JSON, hashed, compared and passed on a command
line. Reading and writing are in `halobench.core.spec_codec`, whose canonical form leaves out values that equal their
default: a new option with a default changes no old spec. Never change a released default: results that were computed
with the old one would not be computed again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from halobench.core.errors import one_of, require
from halobench.core.plugins import LIBRARY_PREFIXES, check_known, constant

NOISE_KINDS = ("pair_flip", "asymmetric", "uniform")


@dataclass(frozen=True)
class NoiseSpec:
    """Label noise: with probability `p` a label is replaced, by a rule `kind` drawn from the cell's seed.

    ``pair_flip``: by the next of one random cycle through all classes; ``asymmetric``: by a random fixed other class
    (two classes may share a partner; the paper's); ``uniform``: by any other class, evenly.
    """

    kind: str = "pair_flip"
    p: float = 0.0

    def __post_init__(self):
        require(self.kind in NOISE_KINDS, "kind", self.kind, one_of(NOISE_KINDS, self.kind))
        require(0 <= self.p < 1, "p", self.p, "a probability in [0, 1)")


@dataclass(frozen=True)
class SourceSpec:
    """Where images come from: a loader (a file of ``halobench/data/loaders`` or ``module:object``) and its options."""

    loader: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSpec:
    """A source cut into splits of `train`, `val` and `test` samples, with label noise."""

    source: str
    train: int
    val: int
    test: int
    noise: NoiseSpec = NoiseSpec()

    def __post_init__(self):
        for key, least in (("train", 2), ("val", 1), ("test", 1)):
            require(getattr(self, key) >= least, key, getattr(self, key), f"at least {least}")


@dataclass(frozen=True)
class ModelSpec:
    """A model's builder: a file of ``models/architectures``, ``timm/NAME``, ``torchvision/NAME`` or ``module:object``.

    `resize` is the side, in pixels, that images are interpolated to before they enter the model; None leaves them.
    `stem`, for models of timm and torchvision, is ``plain``, the library's own, or ``small``: a 3x3 convolution of
    stride 1 without pooling behind it.

    With `weights`, a .safetensors file, or `pretrained`, the weights that timm publishes, nothing is trained.
    `preprocess` then says whose preprocessing the model gets: ``timm``, as the weights were trained with, or
    ``dataset``, the data set's, as for models trained here. `trained_on` is the source that the weights were trained
    on: only samples of that source are training samples for a probe.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    resize: int | None = None
    stem: str = "plain"
    weights: str | None = None
    pretrained: bool = False
    preprocess: str | None = None
    trained_on: str | None = None

    def __post_init__(self):
        require(self.resize is None or self.resize >= 1, "resize", self.resize, "a side in pixels, at least 1")
        require(self.stem in ("plain", "small"), "stem", self.stem, one_of(("plain", "small"), self.stem))
        from_library = self.name.startswith(LIBRARY_PREFIXES)
        require(
            from_library or self.stem == "plain", "stem", self.stem, "plain, but for models of timm and torchvision"
        )
        both = self.weights is not None and self.pretrained
        require(not both, "weights", self.weights, "either weights or pretrained, not both")
        require(
            self.is_timm or not self.pretrained, "pretrained", self.pretrained, "a model of timm's, or `weights: FILE`"
        )
        allowed = self.preprocess in (None, "timm", "dataset")
        require(allowed, "preprocess", self.preprocess, one_of(("timm", "dataset"), self.preprocess))
        for key in ("preprocess", "trained_on"):
            value = getattr(self, key)
            require(value is None or self.comes_trained, key, value, "this key beside `weights` or `pretrained` alone")
        fits = self.is_timm or self.preprocess != "timm"
        require(fits, "preprocess", self.preprocess, "dataset: it is no model of timm's")

    @property
    def is_timm(self) -> bool:
        """Return True for a model of timm's."""
        return self.name.startswith("timm/")

    @property
    def comes_trained(self) -> bool:
        """Return True if the weights come from elsewhere, so that the model isn't trained here."""
        return self.pretrained or self.weights is not None

    @property
    def timm_preprocessing(self) -> bool:
        """Return True if the model gets timm's preprocessing instead of the data set's."""
        return self.comes_trained and self.is_timm and self.preprocess in (None, "timm")

    def fitted_on(self, source: str) -> bool:
        """Return True if the model was fitted to samples of a source: trained here, or on that source elsewhere."""
        return not self.comes_trained or self.trained_on == source


@dataclass(frozen=True)
class LossSpec:
    """A loss (a file of ``halobench/losses`` or ``module:object``) and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


# The keys of a recipe that a probe reads, and those that count for a model that isn't trained.
PROBE_KEYS = ("precision", "channels_last", "eval_batch", "device", "threads")
EVALUATION_KEYS = (*PROBE_KEYS, "deterministic")


RECIPE_CHOICES = {
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("cosine", "constant"),
    "precision": ("float32", "bf16"),
}


@dataclass(frozen=True)
class TrainSpec:
    """The recipe of a training; `warmup` and `epochs` count epochs.

    `random_crop` and `flip` are augmentation, drawn for each image in each epoch: a crop of the image's size from the
    image padded by so many pixels on each side with its border repeated, and a mirror image every other time.
    `micro_batch` is the number of images that pass through the model at once: gradients of a batch are summed over such
    parts, which takes less memory (batch norm then sees parts). `compile` hands training steps to torch.compile.
    Without `deterministic`, kernels may be chosen by trial and sum in any order: on a GPU that is faster, and results
    may differ in their last bits from run to run. `threads` is the number of threads of the numerical libraries on the
    CPU: it can change the last bits of a result.
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    batch: int = 50
    epochs: int = 50
    schedule: str = "cosine"
    warmup: int = 2
    random_crop: int = 0
    flip: bool = False
    micro_batch: int | None = None
    compile: bool = False
    deterministic: bool = True
    precision: str = "float32"
    channels_last: bool = False
    eval_batch: int = 250
    device: str = "auto"
    threads: int = 1

    def __post_init__(self):
        for key, names in RECIPE_CHOICES.items():
            require(getattr(self, key) in names, key, getattr(self, key), one_of(names, getattr(self, key)))
        require(re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device), "device", self.device, "auto, cpu, cuda or cuda:N")
        require(self.lr > 0, "lr", self.lr, "a learning rate above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number of at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "a number in [0, 1)")
        for key in ("batch", "epochs", "eval_batch", "threads"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        fits = self.micro_batch is None or 1 <= self.micro_batch <= self.batch
        require(fits, "micro_batch", self.micro_batch, f"at least 1, and at most the batch, {self.batch}")
        for key in ("warmup", "random_crop"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "at least 0")
        require(self.warmup < self.epochs, "warmup", self.warmup, f"epochs in [0, {self.epochs}), fewer than epochs")


@dataclass(frozen=True)
class ProbeSpec:
    """One probe: its directions, the samples that it visits, and the distances.

    `kind` names the directions: a file of ``halobench/probing/directions`` or ``module:object``. `points` training
    samples and `control` held-out samples are visited, with `directions` rays each. `radii` are distances in normalised
    pixels; `relative_radii` are multiples of a sample's distance to its nearest training sample of another label.
    `threshold` is the label confidence under which certainty has ended; `components` is the number of principal
    components that the ``manifold`` probe spans; `bisections` halve the bracket of each radius.
    """

    kind: str
    points: int = 150
    control: int = 100
    directions: int = 1
    radii: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0)
    relative_radii: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0)
    threshold: float = 0.9
    components: int = 32
    bisections: int = 6

    def __post_init__(self):
        check_known("probes", "kind", self.kind, ())
        for key in ("points", "directions", "components", "bisections"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        require(self.control >= 0, "control", self.control, "at least 0")
        require(0 < self.threshold < 1, "threshold", self.threshold, "a confidence in (0, 1)")
        for key in ("radii", "relative_radii"):
            values = getattr(self, key)
            increasing = all(a < b for a, b in itertools.pairwise(values))
            require(values and values[0] >= 0 and increasing, key, list(values), "increasing distances of at least 0")
        why = constant("probes", self.kind, "ONE_DIRECTION")
        require(why is None or self.directions == 1, "directions", self.directions, f"1: {why}")

    @property
    def plugged(self) -> list[tuple[str, str]]:
        """Return the kind and name of the plug-in that it runs."""
        return [("probes", self.kind)]


# Built in, since these temperature fits need the targets of a cell. All others are plug-ins.
CALIBRATORS = ("none", "exact", "released", "oracle")
PAPER = "paper"  # what a configuration calls the fit that specs, records and tables call `released`


@dataclass(frozen=True)
class CalibrateSpec:
    """Which calibrators are fitted and how metrics are taken: equal-width `bins`, bootstrap `draws`, `floor_draws`.

    Of `calibrators`, ``paper`` becomes ``released``: results that were computed under the old word stay valid.
    """

    calibrators: tuple[str, ...] = CALIBRATORS
    bins: int = 15
    draws: int = 1000
    floor_draws: int = 200

    def __post_init__(self):
        names = tuple("released" if name == PAPER else name for name in self.calibrators)
        object.__setattr__(self, "calibrators", names)
        for name in names:
            check_known("calibrators", "calibrators", name, (*CALIBRATORS, PAPER))
        unique = self.calibrators and len(set(self.calibrators)) == len(self.calibrators)
        require(unique, "calibrators", list(self.calibrators), "at least one calibrator, each once")
        for key in ("bins", "draws", "floor_draws"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")

    @property
    def plugged(self) -> list[tuple[str, str]]:
        """The plug-ins that it runs, as (kind, name)."""
        return [("calibrators", name) for name in self.calibrators if name not in CALIBRATORS]
