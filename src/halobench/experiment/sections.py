"""The named specs of a checked configuration, and what each stage is given of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from halobench.core import plugins
from halobench.core.spec_codec import canonical
from halobench.core.specs import (
    PROBE_KEYS,
    CalibrateSpec,
    DatasetSpec,
    LossSpec,
    ModelSpec,
    ProbeSpec,
    SourceSpec,
    TrainSpec,
)


@dataclass(frozen=True)
class Sections:
    """The specs of a configuration by name; `recipes` by data set and model.

    The specs that its methods return are canonical plain data, without default values. Cells that differ in their seed
    alone share them: don't change them.
    """

    sources: Mapping[str, SourceSpec]
    datasets: Mapping[str, DatasetSpec]
    models: Mapping[str, ModelSpec]
    losses: Mapping[str, LossSpec]
    recipes: Mapping[tuple[str, str], TrainSpec]
    probes: Mapping[str, ProbeSpec]
    calibrate: CalibrateSpec

    def source_spec(self, source: str) -> dict[str, Any]:
        """Return the spec of a source stage."""
        return canonical(self.sources[source])

    def weights_spec(self, model: str) -> dict[str, Any]:
        """Return the spec of a weights stage, which fetches the published weights of a model."""
        return canonical(ModelSpec(self.models[model].name, pretrained=True))

    def train_spec(self, dataset: str, model: str, loss: str) -> dict[str, Any]:
        """Return the spec of a train stage."""

        def build() -> dict[str, Any]:
            return {
                "dataset": canonical(self.datasets[dataset]),
                "model": canonical(self.models[model]),
                "loss": canonical(self.losses[loss]),
                "train": canonical(self.recipes[dataset, model]),
            }

        return self._shared(("train", dataset, model, loss), build)

    def probe_spec(self, dataset: str, model: str) -> dict[str, Any]:
        """Return the spec of a probe stage, with those keys of the recipe alone that say how a model is evaluated."""

        def build() -> dict[str, Any]:
            recipe = self.recipes[dataset, model]
            return {
                "dataset": canonical(self.datasets[dataset]),
                "model": canonical(self.models[model]),
                "train": canonical(TrainSpec(**{key: getattr(recipe, key) for key in PROBE_KEYS})),
                "probes": {name: canonical(spec) for name, spec in self.probes.items()},
            }

        return self._shared(("probe", dataset, model), build)

    def calibrate_spec(self) -> dict[str, Any]:
        """Return the spec of all calibrate stages."""
        return self._shared(("calibrate",), lambda: canonical(self.calibrate))

    def reference_spec(self, dataset: str) -> dict[str, Any]:
        """Return the spec of a reference stage."""
        return {"dataset": canonical(self.datasets[dataset]), "calibrate": canonical(self.calibrate)}

    def sampler(self, dataset: str) -> list[tuple[str, str]]:
        """Return the plug-in that draws a data set's samples; none if they are cut from images."""
        loader = self.sources[self.datasets[dataset].source].loader
        return [("data", loader)] if loader in self.distributions else []

    def train_plugins(self, dataset: str, model: str, loss: str) -> list[tuple[str, str]]:
        """Return the plug-ins that a training runs, as kind and name."""
        return [("models", self.models[model].name), ("losses", self.losses[loss].name), *self.sampler(dataset)]

    def probe_plugins(self, dataset: str, model: str) -> list[tuple[str, str]]:
        """Return the plug-ins that a probe runs, as kind and name."""
        directions = [plugin for probe in self.probes.values() for plugin in probe.plugged]
        return [("models", self.models[model].name), *self.sampler(dataset), *directions]

    @functools.cached_property
    def distributions(self) -> frozenset[str]:
        """Return the loaders that are distributions; their files are read once, for there may be thousands of cells."""
        return frozenset(filter(plugins.is_distribution, {spec.loader for spec in self.sources.values()}))

    @functools.cached_property
    def _cache(self) -> dict[tuple[str, ...], Any]:
        """Return the specs that were built so far."""
        return {}

    def _shared(self, key: tuple[str, ...], build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what `build` returns, built once for each key."""
        if key not in self._cache:
            self._cache[key] = build()
        return self._cache[key]
