"""Define specs: frozen dataclasses that describe what a stage does and check their own values.

A spec is plain data (strings, numbers, tuples), so it can be written as JSON, hashed, compared and passed on a command
line. `halobench.core.spec_codec` reads and writes specs. A spec's canonical form omits values that equal their
defaults, so a new option with a default doesn't change any old spec. Never change a released default: results computed
with the old one would not be recomputed. docs/configuration.md is generated from the fields' descriptions.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from halobench.core import plugin_facts
from halobench.core.calibrator_spec import BUILT_IN, CALIBRATORS, Calibrators, CalibratorSpec
from halobench.core.errors import hint, naming, one_of, refuse, require
from halobench.core.metric_spec import Metrics, MetricSpec
from halobench.core.plugin_kinds import kinds
from halobench.core.plugin_spec import PluginSpec, suggested
from halobench.core.plugins import check_known, find, names
from halobench.core.spec_codec import (
    Count,
    Distance,
    Flag,
    NotNegative,
    Number,
    Several,
    Text,
    Whole,
    canonical,
    check_distinct,
    parse,
    spec,
)


def _called_here(kind: Any) -> Any:
    """Refuse ``symmetric``, the literature's name for uniform noise, since ``asymmetric`` is another kind."""
    require(kind != "symmetric", "", kind, "uniform, which is halobench's name for symmetric noise")
    return kind


@spec
class NoiseSpec:
    """Label noise, drawn from the cell's seed: with probability `p`, the rule `kind` replaces a label."""

    kind: Annotated[Literal["pair_flip", "asymmetric", "uniform"], BeforeValidator(_called_here)] = Field(
        default="pair_flip",
        description="How the replacement is chosen. pair_flip: the next class in a random cycle through all classes."
        " asymmetric (the paper's): a fixed other class, drawn at random for each class, so two classes may share it."
        " uniform: any other class, with equal probability.",
    )
    p: Number = Field(default=0.0, ge=0, lt=1, description="Probability that a label is replaced.")


@spec
class SourceSpec(PluginSpec):
    """The origin of samples: a loader (a file in ``halobench/data/loaders`` or ``module:object``) and its options."""

    loader: Text = Field(description="Name of the loader, or module:object.", json_schema_extra=suggested("data"))
    options: dict[str, Any] = Field(default_factory=dict)


LADDER_SAMPLES = 50
"""The smallest number of test samples from which a repair ladder is estimated."""


@spec
class DatasetSpec:
    """A source divided into splits of `train`, `val` and `test` samples, with label noise."""

    source: Text = Field(description="Name of one of the sources.")
    train: Whole = Field(ge=2, description="Number of training samples.")
    val: Whole = Field(ge=2, description="Number of validation samples, to which calibrators are fitted.")
    test: Count = Field(
        description="Number of test samples. If a source without official parts is large enough, three to ten blocks of"
        " this size are kept out of training and validation, and each seed tests on one of them."
    )
    noise: NoiseSpec = Field(
        default=NoiseSpec(),
        description="Label noise in training, validation and test labels alike. Models and calibrators are fitted to"
        " labels with noise. Test metrics use the labels without noise and, in expectation, the known distribution of"
        " labels with noise, never the noisy test labels that were drawn.",
    )


def _listed(values: Any) -> Any:
    """Return a single number as a one-element list."""
    return values if isinstance(values, list | tuple) else [values]


Channels = Annotated[
    Several[Number],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}),
]


@spec
class Normalisation:
    """The mean and standard deviation that normalise a model's inputs, each a single number or one per channel."""

    mean: Channels = Field(description="Mean of the pixel values in [0, 1]: one number, or one per channel.")
    std: Channels = Field(
        description="Standard deviation of the pixel values in [0, 1]: one number, or one per channel."
    )

    def __post_init__(self):
        require(min(self.std) > 0, "std", list(self.std), "numbers above 0")


def _read_preprocessing(value: Any) -> Any:
    """Return the value of `preprocess`, turning a mapping into a `Normalisation`; raise SpecError for anything else."""
    if isinstance(value, dict):
        return parse(Normalisation, value)
    words = ("timm", "dataset")
    fine = value is None or isinstance(value, Normalisation) or value in words
    require(fine, "", value, f"{one_of(words, value)}, or a mapping with the keys mean and std")
    return value


def _by_text(outputs: Any) -> Any:
    """Convert a mapping's keys to text, since YAML reads names such as 7 as numbers."""
    return {str(name): output for name, output in outputs.items()} if isinstance(outputs, dict) else outputs


def _check_published(value: Any) -> Any:
    fine = isinstance(value, bool) or (isinstance(value, str) and value)
    require(fine, "", value, "true, false or the name of an installed package")
    return value


Published = Annotated[Flag | Text, BeforeValidator(_check_published)]
Preprocessing = Annotated[Literal["timm", "dataset"] | Normalisation | None, BeforeValidator(_read_preprocessing)]
Outputs = Annotated[dict[str, NotNegative], BeforeValidator(_by_text)]


@spec
class ModelSpec(PluginSpec):
    """A model's builder: a file in ``models/architectures``, ``timm/NAME``, ``torchvision/NAME`` or ``module:object``.

    With `weights` or `pretrained`, the model isn't trained. `preprocess` specifies how inputs are normalised: with the
    data set's statistics (``dataset``, as for models that halobench trains), as timm does for its weights (``timm``),
    or with a given mean and std. `outputs` specifies which outputs of the weights represent the classes; all other
    outputs are dropped. If the weights are given, a probe treats only samples of the source `trained_on` as training
    samples.
    """

    name: Text = Field(
        description="Name of the model, timm/NAME, torchvision/NAME or module:object.",
        json_schema_extra=suggested("models"),
    )
    options: dict[str, Any] = Field(default_factory=dict)
    resize: Count | None = Field(default=None, description="Side length in pixels to which images are resized.")
    stem: Literal["plain", "small"] = Field(
        default="plain",
        description="First layers of a timm or torchvision model. small: a 3x3 convolution with stride 1, with no"
        " pooling after it.",
    )
    weights: Text | None = Field(
        default=None,
        description="A .safetensors file with the model's weights; the model isn't trained. docs/run.md shows how"
        " to convert a .pth or .pt file.",
    )
    pretrained: Published = Field(
        default=False,
        description="Use weights that others published; the model isn't trained. true: timm's weights. PACKAGE: the"
        " only weights file of an installed package. PACKAGE/FILE: that file of the package.",
    )
    outputs: Outputs | None = Field(
        default=None,
        description="Which output of the given weights stands for each class, by the class's name or number. Needed if"
        " the weights have other outputs as well.",
    )
    preprocess: Preprocessing = Field(
        default=None,
        description="Preprocessing of inputs for given weights: timm's (the default for timm models) or the data set's."
        " For any model, trained here or not, it can also be a mapping with mean and std.",
    )
    trained_on: Text | None = Field(default=None, description="Source on which the given weights were trained.")

    def __post_init__(self):
        super().__post_init__()
        from_library = kinds()["models"].library_of(self.name) is not None
        require(
            from_library or self.stem == "plain",
            "stem",
            self.stem,
            "plain, since only timm and torchvision models have other stems",
        )
        both = self.weights is not None and self.pretrained
        refuse(both, "weights", "pretrained is set too; set only one of the two")
        what = "`weights: FILE` or the name of a package instead, since this isn't a timm model"
        require(self.is_timm or self.pretrained is not True, "pretrained", self.pretrained, what)
        fits = self.is_timm or self.preprocess != "timm"
        what = "dataset or a mapping with the keys mean and std, since this isn't a timm model"
        require(fits, "preprocess", self.preprocess, what)
        for key in ("preprocess", "trained_on", "outputs"):
            value = getattr(self, key)
            fits = value is None or self.comes_trained or isinstance(value, Normalisation)
            refuse(
                not fits,
                key,
                "only models with given weights have this key; set `weights` or `pretrained`, or leave it out",
            )

    @property
    def is_timm(self) -> bool:
        return self.name.startswith("timm/")

    @property
    def comes_trained(self) -> bool:
        """Return True if the weights come from elsewhere, so that halobench doesn't train the model."""
        return bool(self.pretrained) or self.weights is not None

    @property
    def timm_preprocessing(self) -> bool:
        """Return True if the model uses timm's preprocessing instead of the data set's."""
        return self.comes_trained and self.is_timm and self.preprocess in (None, "timm")

    def output_rows(self, classes: int, names: Sequence[str] = ()) -> list[int]:
        """Return the output of the given weights for each class, identified by the class's name, if any, or number."""
        outputs, rows = self.outputs or {}, []
        for label in range(classes):
            keys = [*names[label : label + 1], str(label)]
            missing = f"the class {keys[0]!r} has no output; add one{hint(outputs, keys[0])}"
            refuse(not outputs.keys() & keys, "outputs", missing)
            rows.append(next(outputs[key] for key in keys if key in outputs))
        with naming("outputs"):
            return list(check_distinct(tuple(rows)))

    def fitted_on(self, source: str) -> bool:
        """Return True if the model was fitted to samples of a source, by halobench or elsewhere."""
        return not self.comes_trained or self.trained_on == source


@spec
class LossSpec(PluginSpec):
    """A loss (a file in ``halobench/losses`` or ``module:object``) and its options."""

    name: Text = Field(description="Name of the loss, or module:object.", json_schema_extra=suggested("losses"))
    options: dict[str, Any] = Field(default_factory=dict)


# The recipe keys that a probe reads, and the keys that matter for a model that isn't trained.
PROBE_KEYS = ("precision", "channels_last", "eval_batch", "device", "threads")
EVALUATION_KEYS = (*PROBE_KEYS, "deterministic")
# The recipe keys that apply only to images.
IMAGE_KEYS = ("random_crop", "flip", "channels_last")


@spec
class Recipe:
    """The keys of a recipe, each checked on its own, since a single layer of a configuration need not be consistent.

    `random_crop` and `flip` are augmentations, drawn for each image in each epoch. With `micro_batch`, which saves
    memory, batch norm sees only parts of a batch. Without `deterministic`, kernels may be chosen by timing and may sum
    in any order, so results may differ in their last bits from run to run.
    """

    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="PyTorch optimiser; its fused implementation is used."
    )
    lr: Number = Field(default=1e-3, gt=0, description="Learning rate after the warm-up.")
    weight_decay: Number = Field(default=0.0, ge=0, description="Weight decay, passed to the PyTorch optimiser.")
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd; the other optimisers ignore it.")
    batch: Count = Field(
        default=50,
        description="Training samples per step, or all if there are fewer. An incomplete last batch is skipped.",
    )
    epochs: Count = Field(default=50, description="Passes over the training samples.")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="Schedule of the learning rate, which is set at each step; cosine ends at 0."
    )
    warmup: NotNegative = Field(
        default=2, description="Epochs of linear warm-up, at most one less than epochs; larger values are reduced."
    )
    random_crop: NotNegative = Field(
        default=0,
        description="Pixels by which training images are padded, by repeating the border, before they are cropped at"
        " random to their original size.",
    )
    flip: Flag = Field(default=False, description="Mirror each training image with probability 1/2.")
    micro_batch: Count | None = Field(
        default=None,
        description="Number of images that pass through the model at once; a batch's gradients are summed over its"
        " parts.",
    )
    compile: Flag = Field(default=False, description="Compile training steps with torch.compile.")
    deterministic: Flag = Field(
        default=True, description="Make every run give byte-identical results; slower on a GPU."
    )
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="bf16 uses autocast; the weights stay in float32."
    )
    channels_last: Flag = Field(
        default=False, description="Use the channels-last memory layout, which is often faster for convolutions."
    )
    eval_batch: Count = Field(default=250, description="Batch size for evaluation and probing.")
    device: Text = Field(
        default="auto",
        pattern="^(auto|cpu|cuda(:[0-9]+)?)$",
        description="`auto` (CUDA if available, otherwise the CPU), `cpu`, `cuda` or `cuda:N`.",
    )
    threads: Count = Field(default=1, description="Number of CPU threads; it can change the last bits of a result.")


@spec
class TrainSpec(Recipe):
    """A recipe whose keys are consistent with one another."""

    def __post_init__(self):
        fits = self.micro_batch is None or self.micro_batch <= self.batch
        require(fits, "micro_batch", self.micro_batch, f"at most the batch size, {self.batch}")
        # Set in the spec, so that it states what is actually done, and a recipe with few epochs needs no special
        # warm-up.
        object.__setattr__(self, "warmup", min(self.warmup, self.epochs - 1))


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    require(all(a < b for a, b in itertools.pairwise(values)), "", list(values), "distances in increasing order")
    return values


def _known_probe(kind: str) -> str:
    check_known("probes", "", kind, names("searches"))
    return kind


Distances = Annotated[Several[Distance], AfterValidator(_increasing)]
# The keys that control how a probe walks along rays, and the keys that only searches have.
RAY_KEYS = ("directions", "radii", "relative_radii", "components", "bisections")
SEARCH_KEYS = ("norm", "restarts", "steps")


@spec
class ProbeSpec:
    """One probe: the samples that it starts from, and the directions that it takes.

    Most kinds walk along rays and record the confidence at given distances; a search (``adversarial``, ``certified``,
    ``far_field``) finds the distances itself. Keys that don't apply to a kind are refused.
    """

    kind: Annotated[Text, AfterValidator(_known_probe)] = Field(
        description="Where the probe goes. A walk along rays is one of sphere (uniformly random directions),"
        " nearest_other (towards the nearest training sample with a different label), mixup_line (towards a random"
        " one), manifold (random directions in the span of the leading principal components), a file in"
        " src/halobench/probing/directions, or module:object. A search, which finds only radii, is one of adversarial"
        " (the nearest point below the threshold that an attack finds), certified (the largest ball in which confidence"
        " is proved to stay at or above the threshold) and far_field (infinitely far away in random directions).",
        json_schema_extra=lambda schema: schema.update(examples=[*names("probes"), *names("searches")]),
    )
    points: Count = Field(default=150, description="Number of training samples to visit.")
    control: NotNegative = Field(default=100, description="Number of held-out samples to visit.")
    directions: Count = Field(default=1, description="Number of rays per sample.")
    radii: Distances = Field(
        default=(0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0),
        description="Distances in normalised pixels, or in standard deviations for features.",
    )
    relative_radii: Distances = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0),
        description="Distances as multiples of the distance from a sample to its nearest training sample with a"
        " different label.",
    )
    threshold: Number = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="Confidence in the label below which the model no longer counts as certain.",
    )
    components: Count = Field(default=32, description="Number of principal components for the manifold probe.")
    bisections: Count = Field(default=6, description="Number of bisections that refine each radius.")
    norm: Literal["l2", "inf"] = Field(
        default="l2", description="For adversarial: the norm in which distances are measured."
    )
    restarts: Count = Field(
        default=3, description="For adversarial: starts per sample; the first is at the sample itself."
    )
    steps: Count = Field(default=50, description="For adversarial: gradient steps per start.")

    def __post_init__(self):
        changed = canonical(self)
        taken = find("searches", self.kind).options or {} if self.searches else RAY_KEYS
        for key in (key for key in (*RAY_KEYS, *SEARCH_KEYS) if key not in taken):
            refuse(key in changed, key, f"{self.kind} doesn't use this key; leave it out")
        why = None if self.searches else find("probes", self.kind).constants.get("ONE_DIRECTION")
        require(why is None or self.directions == 1, "directions", self.directions, f"1, since {why}")

    @property
    def searches(self) -> bool:
        return self.kind in names("searches")

    @property
    def plugged(self) -> list[tuple[str, str]]:
        """Return the plug-in that the probe runs, as a list with one (kind, name)."""
        return [("searches" if self.searches else "probes", self.kind)]


@spec
class MetricsSpec:
    """The metrics to compute, and the numbers of their bins and bootstrap draws."""

    _: dataclasses.KW_ONLY
    bins: Count = Field(default=15, le=10_000, description="Number of equal-width bins.")
    draws: Count = Field(default=1000, le=100_000, description="Number of bootstrap draws.")
    floor_draws: Count = Field(default=200, le=100_000, description="Number of label draws for the floor of ECE.")
    also: Metrics = Field(
        default=(),
        description="Additional metrics, each as module:object, or under a name of its own as NAME: {name: METRIC,"
        " OPTION: VALUE}.",
    )

    @property
    def scores(self) -> dict[str, MetricSpec]:
        """All metrics by their names in tables: first those of the package, in order, then those in `also`."""
        scores = {name: MetricSpec(name) for name in plugin_facts.named("metrics")}
        for entry in self.also:
            scores |= {entry: MetricSpec(entry)} if isinstance(entry, str) else entry
        return scores

    @functools.cached_property  # thousands of jobs use it
    def scored_by(self) -> list[tuple[str, str]]:
        """The plug-ins that compute the metrics, as (kind, name)."""
        return list(dict.fromkeys(("metrics", each.name) for each in self.scores.values()))


@spec
class CalibrateSpec(MetricsSpec):
    """The calibrators to fit, and the metrics to compute."""

    calibrators: Calibrators = Field(
        default=CALIBRATORS,
        description="Calibrators, each given by its name or as NAME: {name: PLUG-IN, OPTION: VALUE}.",
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the calibrators in tables."""
        return tuple(each if isinstance(each, str) else next(iter(each)) for each in self.calibrators)

    @property
    def plug_ins(self) -> dict[str, CalibratorSpec]:
        """The calibrators that are plug-ins, by their names in tables."""
        entries = (
            {each: CalibratorSpec(each)} if isinstance(each, str) else each
            for each in self.calibrators
            if each not in BUILT_IN
        )
        return {name: entry for each in entries for name, entry in each.items()}

    @functools.cached_property
    def plugged(self) -> list[tuple[str, str]]:
        """The plug-ins to run, as (kind, name)."""
        calibrators = dict.fromkeys(("calibrators", each.name) for each in self.plug_ins.values())
        return [*calibrators, *self.scored_by]
