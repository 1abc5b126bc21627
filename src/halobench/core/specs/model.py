"""Define the specs of models and their preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from halobench.core.errors import hint, naming, one_of, refuse, require
from halobench.core.plugins.kinds import kinds
from halobench.core.specs.codec import Count, Flag, NotNegative, Number, Several, Text, check_distinct, parse, spec
from halobench.core.specs.plugin import PluginSpec, suggested


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
    require(isinstance(value, bool), "", value, "true or false (set `weights: FILE` for weights in a file)")
    return value


Published = Annotated[Flag, BeforeValidator(_check_published)]
Preprocessing = Annotated[Literal["timm", "dataset"] | Normalisation | None, BeforeValidator(_read_preprocessing)]
Outputs = Annotated[dict[str, NotNegative], BeforeValidator(_by_text)]


@spec
class ModelSpec(PluginSpec):
    """A model's builder: a file in ``models/architectures``, ``timm/NAME``, ``torchvision/NAME`` or ``module:object``.

    With `weights` or `pretrained`, the model isn't trained, unless `finetune` says which part of it to train.
    `preprocess` specifies how inputs are normalised: with the data set's statistics (``dataset``, as for models that
    halobench trains), as timm does for its weights (``timm``), or with a given mean and std. `outputs` specifies which
    outputs of the weights represent the classes; all other outputs are dropped. If a model isn't trained here, a probe
    counts samples as training samples only if they are from the source `trained_on`.
    """

    KIND = "models"
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
        description="A .safetensors, .pth or .pt file with the model's weights; the model isn't trained, unless"
        " `finetune` is set.",
    )
    pretrained: Published = Field(
        default=False,
        description="Use the weights that timm publishes; the model isn't trained, unless `finetune` is set.",
    )
    finetune: Literal["head", "all"] | None = Field(
        default=None,
        description="Train given weights further, with a new last layer for the data set's classes or, with `outputs`,"
        " one that starts from those outputs. head: only the last layer, with all other batch norms as in evaluation."
        " all: all layers.",
    )
    outputs: Outputs | None = Field(
        default=None,
        description="Which output of the given weights stands for each class, by the class's name or number. Without"
        " `finetune`, needed if the weights have other outputs as well.",
    )
    preprocess: Preprocessing = Field(
        default=None,
        description="Preprocessing of inputs for given weights: timm's (the default for timm models) or the data set's."
        " For any model, trained here or not, the value can also be a mapping with mean and std.",
    )
    trained_on: Text | None = Field(default=None, description="The source on which the given weights were trained.")

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
        what = "`weights: FILE` instead, since this isn't a timm model"
        require(self.is_timm or not self.pretrained, "pretrained", self.pretrained, what)
        fits = self.is_timm or self.preprocess != "timm"
        what = "dataset or a mapping with the keys mean and std, since this isn't a timm model"
        require(fits, "preprocess", self.preprocess, what)
        for key in ("preprocess", "trained_on", "outputs", "finetune"):
            value = getattr(self, key)
            fits = value is None or self.has_weights or isinstance(value, Normalisation)
            refuse(
                not fits,
                key,
                "only models with given weights have this key; set `weights` or `pretrained`, or leave it out",
            )
        tuned = self.finetune is not None and self.trained_on is not None
        refuse(tuned, "trained_on", "`finetune` trains the model on the data set; leave this key out")

    @property
    def is_timm(self) -> bool:
        return self.name.startswith("timm/")

    @property
    def has_weights(self) -> bool:
        """Return whether weights from elsewhere are given, whether or not halobench trains them further."""
        return bool(self.pretrained) or self.weights is not None

    @property
    def comes_trained(self) -> bool:
        """Return whether the weights come from elsewhere, and halobench doesn't train the model."""
        return self.has_weights and self.finetune is None

    @property
    def timm_preprocessing(self) -> bool:
        """Return whether the model uses timm's preprocessing instead of the data set's."""
        return self.has_weights and self.is_timm and self.preprocess in (None, "timm")

    def output_rows(self, classes: int, names: Sequence[str] = ()) -> list[int]:
        """Return the output of the given weights for each class, identified by the class's name or number."""
        outputs, rows = self.outputs or {}, []
        for label in range(classes):
            keys = [*names[label : label + 1], str(label)]
            missing = f"the class {keys[0]!r} has no output; add one{hint(outputs, keys[0])}"
            refuse(not outputs.keys() & keys, "outputs", missing)
            rows.append(next(outputs[key] for key in keys if key in outputs))
        with naming("outputs"):
            return list(check_distinct(tuple(rows)))

    def fitted_on(self, source: str) -> bool:
        """Return whether the model was fitted to samples of a source, by halobench or elsewhere."""
        return not self.comes_trained or self.trained_on == source
