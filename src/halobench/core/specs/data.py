"""Define the specs of sources, data sets and label noise."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from halobench.core.errors import require
from halobench.core.specs.codec import Count, Flag, Number, Text, Whole, spec
from halobench.core.specs.plugin import PluginSpec, suggested


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

    KIND = "data"
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
        description="Number of test samples. If a source without official parts is large enough and `blocks` isn't set,"
        " three to ten blocks of this size are kept out of training and validation, and each seed tests on one of them."
    )
    noise: NoiseSpec = Field(
        default=NoiseSpec(),
        description="Label noise in training, validation and test labels alike. Models and calibrators are fitted to"
        " labels with noise. Test metrics use the labels without noise and, in expectation, the known distribution of"
        " labels with noise, never the noisy test labels that were drawn.",
    )
    blocks: Flag = Field(
        default=False,
        description="Give each seed its own block of training samples and, unless the source has an official validation"
        " part, of validation samples, so that seeds 0, 1, ... share none; the source must have enough. By default,"
        " each seed draws from all samples not kept for testing.",
    )
