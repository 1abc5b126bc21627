"""Define the spec of a calibrator."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from halobench.core.specs.codec import Text, check_distinct, spec
from halobench.core.specs.plugin import Entries, PluginSpec, suggested

BUILT_IN = ("none", "oracle")  # these need none of a cell's labels, or those of its test samples
CALIBRATORS = ("none", "exact", "paper", "oracle")  # the fits of a temperature, which are the default


@spec
class CalibratorSpec(PluginSpec):
    """A calibrator plug-in (a file in ``calibration/calibrators`` or ``module:object``) and its options."""

    KIND = "calibrators"
    name: Text = Field(description="Name of the calibrator, or module:object.")
    options: dict[str, Any] = Field(default_factory=dict)


ENTRIES = Entries(CalibratorSpec, CALIBRATORS)


def _distinct_names(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the entries in a list of calibrators; raise SpecError if two have the same name."""
    check_distinct(tuple(each if isinstance(each, str) else next(iter(each)) for each in entries))
    return entries


_Suggested = Annotated[Text, Field(json_schema_extra=suggested("calibrators", *BUILT_IN))]
_Calibrator = Annotated[_Suggested | dict[Text, CalibratorSpec], BeforeValidator(ENTRIES.read)]
Calibrators = Annotated[tuple[_Calibrator, ...], Field(min_length=1), AfterValidator(_distinct_names)]
