"""Read the entries in a list of calibrators: plain names, or plug-ins with options under custom names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from halobench.core import plugins
from halobench.core.errors import require
from halobench.core.plugins import check_known
from halobench.core.specs.codec import Text, check_distinct, spec
from halobench.core.specs.plugin import PluginSpec, named_entry, suggested

BUILT_IN = ("none", "oracle")  # these need none of a cell's labels, or those of its test samples
CALIBRATORS = ("none", "exact", "paper", "oracle")  # the fits of a temperature, which are the default


@spec
class CalibratorSpec(PluginSpec):
    """A calibrator plug-in (a file in ``calibration/calibrators`` or ``module:object``) and its options."""

    name: Text = Field(description="Name of the calibrator, or module:object.")
    options: dict[str, Any] = Field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        check_known("calibrators", "name", self.name)
        options = plugins.find("calibrators", self.name).without_defaults(self.options)
        object.__setattr__(self, "options", options)


def _read_calibrator(entry: Any) -> Any:
    """Return an entry in a list of calibrators as a built-in name or as {NAME: CalibratorSpec}."""
    if isinstance(entry, str):
        check_known("calibrators", "", entry, BUILT_IN)
        return entry
    form = "a name, or NAME: {name: PLUG-IN, OPTION: VALUE}"
    name, plug_in = named_entry(CalibratorSpec, entry, form, CALIBRATORS, "built in")
    # Otherwise, figures and claims would mistake it for the plug-in of that name.
    taken = name != plug_in.name and name in plugins.names("calibrators")
    require(not taken, "", name, "a different name, since another plug-in has this one")
    return {name: plug_in}


def _distinct_names(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the entries in a list of calibrators; raise SpecError if two have the same name."""
    check_distinct(tuple(each if isinstance(each, str) else next(iter(each)) for each in entries))
    return entries


_Suggested = Annotated[Text, Field(json_schema_extra=suggested("calibrators", *BUILT_IN))]
_Calibrator = Annotated[_Suggested | dict[Text, CalibratorSpec], BeforeValidator(_read_calibrator)]
Calibrators = Annotated[tuple[_Calibrator, ...], Field(min_length=1), AfterValidator(_distinct_names)]
