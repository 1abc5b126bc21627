"""Define the specs of the calibrators to fit and the metrics to compute."""

from __future__ import annotations

import dataclasses
import functools

from pydantic import Field

from halobench.core.plugins import facts as plugin_facts
from halobench.core.specs import calibrator, metric
from halobench.core.specs.calibrator import CALIBRATORS, Calibrators, CalibratorSpec
from halobench.core.specs.codec import Count, spec
from halobench.core.specs.metric import Metrics, MetricSpec


@spec
class MetricsSpec:
    """The metrics to compute, and the numbers of their bins and bootstrap draws."""

    _: dataclasses.KW_ONLY
    bins: Count = Field(
        default=15,
        le=10_000,
        description="Number of bins, which have equal widths or, for `ace_equal_mass`, equal numbers of samples.",
    )
    draws: Count = Field(default=1000, le=100_000, description="Number of bootstrap draws for intervals over samples.")
    floor_draws: Count = Field(default=200, le=100_000, description="Number of label draws for the floor of ECE.")
    also: Metrics = Field(
        default=(),
        description="Additional metrics, each as module:object, or under a name of its own as NAME: {name: METRIC,"
        " OPTION: VALUE}.",
    )

    @property
    def scores(self) -> dict[str, MetricSpec]:
        """Return all metrics by their names in tables: first the package's, in order, then the metrics in `also`."""
        return metric.ENTRIES.by_name([*plugin_facts.named("metrics"), *self.also])

    @functools.cached_property  # thousands of jobs use it
    def scored_by(self) -> list[tuple[str, str]]:
        """Return the plug-ins that compute the metrics, as (kind, name)."""
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
        """Return the names of the calibrators in tables."""
        return tuple(each if isinstance(each, str) else next(iter(each)) for each in self.calibrators)

    @property
    def plug_ins(self) -> dict[str, CalibratorSpec]:
        """Return the calibrators that are plug-ins, by their names in tables."""
        return calibrator.ENTRIES.by_name(self.calibrators)

    @functools.cached_property
    def plugged(self) -> list[tuple[str, str]]:
        """Return the plug-ins to run, as (kind, name): first calibrators, then metrics."""
        calibrators = dict.fromkeys(("calibrators", each.name) for each in self.plug_ins.values())
        return [*calibrators, *self.scored_by]
