"""Define the spec of a metric."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from halobench.core import plugins
from halobench.core.errors import Found, require
from halobench.core.specs.codec import Text, spec
from halobench.core.specs.plugin import Entries, PluginSpec

OF_PROBABILITIES = ("probabilities", "confidence", "correct")
OF_TARGETS = ("correct", "labels", "posterior", "targets")
PARAMETERS = tuple(dict.fromkeys(("logits", *OF_PROBABILITIES, *OF_TARGETS)))
RESERVED = ("ece_floor",)  # computed in addition to the plug-ins


def parameters(name: str) -> list[str]:
    """Return the names of the arrays that a metric's function takes.

    Raise SpecError if there is no such metric, if it takes an unknown array, if it takes both logits and arrays
    computed from probabilities, or if it doesn't take any targets.
    """
    takes = list(plugins.find("metrics", name).arguments or ())
    key, parameters = f"metrics.{name}", Found(f"the parameters {', '.join(takes) or '()'}")
    require(set(takes) <= set(PARAMETERS), key, parameters, f"only {', '.join(PARAMETERS)}")
    require(set(takes) & set(OF_TARGETS), key, parameters, f"at least one of {', '.join(OF_TARGETS)}")
    mixed = "logits" in takes and set(takes) & set(OF_PROBABILITIES)
    require(not mixed, key, parameters, f"either logits or {', '.join(OF_PROBABILITIES)}, not both")
    return takes


@spec
class MetricSpec(PluginSpec):
    """A metric plug-in (a file in ``calibration/metrics`` or ``module:object``) and its options."""

    KIND = "metrics"
    name: Text = Field(description="Name of the metric, or module:object.")
    options: dict[str, Any] = Field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        parameters(self.name)


ENTRIES = Entries(MetricSpec, RESERVED, computed=True)
Metrics = tuple[Annotated[Text | dict[Text, MetricSpec], BeforeValidator(ENTRIES.read)], ...]
