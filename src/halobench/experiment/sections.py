"""The sections of a configuration as specs, and the parts of them that each stage gets.

Each field is a section or a key, and its description is the text in docs/configuration.md.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, WrapValidator

from halobench.core import plugins
from halobench.core.calibrator_spec import CALIBRATORS, Calibrators
from halobench.core.errors import NAME, SpecError, check_name, one_of, require
from halobench.core.spec_codec import Distinct, Flag, Text, canonical, parse, spec
from halobench.core.specs import (
    PROBE_KEYS,
    CalibrateSpec,
    DatasetSpec,
    LossSpec,
    MetricsSpec,
    ModelSpec,
    ProbeSpec,
    Recipe,
    SourceSpec,
    TrainSpec,
)
from halobench.storage.layout import STAGES

T = TypeVar("T")


def _given_keys(layer: Any, check: Callable[[Any], Recipe]) -> dict[str, Any]:
    """Return a layer of a recipe with its values checked; keys that it leaves out come from other layers."""
    recipe = check(layer)
    return {key: getattr(recipe, key) for key in layer}


def _without_defaults(kind: str, entry: Any) -> Any:
    """Return a plug-in's spec without options at their defaults; raise SpecError on an unknown plug-in or option."""
    name = entry.loader if kind == "data" else entry.name
    return dataclasses.replace(entry, options=plugins.without_defaults(kind, name, entry.options))


def _named_kinds(probes: Any) -> Any:
    """Return the probes, each with its name as its kind if it specifies none."""
    if not isinstance(probes, dict):
        return probes
    return {name: {"kind": name} | keys if isinstance(keys, dict) else keys for name, keys in probes.items()}


def _check_folder(path: str) -> str:
    """Return a path if it can be used unquoted in rules and shells; raise SpecError if it can't."""
    expected = "a folder other than the working directory, with only letters, digits and . _ + - / in its path"
    other = os.path.realpath(path) != os.path.realpath(".")
    require(re.fullmatch(r"[\w.+/-]+", path, re.ASCII) and other, "", path, expected)
    return path


# Stages that take seconds, and run in the main process of a run on a cluster. Manifests always do.
SMALL = tuple(stage for stage in STAGES if stage not in ("train", "probe", "manifest"))


def _check_small(stages: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of small stages; raise SpecError for any other."""
    for stage in stages:
        require(stage in SMALL, "", stage, one_of(SMALL, stage))
    return stages


# Specs by name. Names become folder names.
Name = Annotated[
    str,
    BeforeValidator(functools.partial(check_name, "")),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"}),
]
Named = Annotated[dict[Name, T], Field(min_length=1)]
if TYPE_CHECKING:
    Layer = dict[str, Any]
else:  # one layer of a recipe, with any of a recipe's keys, each checked as in the whole recipe
    Layer = Annotated[Recipe, WrapValidator(_given_keys)]
RECIPE = "How a model is trained. The learning rate is set at each step; warmup and epochs are in epochs."


@spec
class DatasetEntry(DatasetSpec):
    """A data set and its layer of recipes."""

    recipe: Layer = Field(default_factory=dict, exclude=True, description=RECIPE)


@spec
class ModelEntry(ModelSpec):
    """A model and its layer of recipes."""

    recipe: Layer = Field(default_factory=dict, exclude=True, description=RECIPE)


@spec
class ProbeEntry(ProbeSpec):
    """A probe and the models whose cells it visits."""

    models: Distinct[Text] | None = Field(
        default=None,
        exclude=True,
        description="Names of the models whose cells the probe visits; all models by default.",
    )

    def visits(self, model: str) -> bool:
        return self.models is None or model in self.models


Source = Annotated[SourceSpec, AfterValidator(functools.partial(_without_defaults, "data"))]
Model = Annotated[ModelEntry, AfterValidator(functools.partial(_without_defaults, "models"))]
Loss = Annotated[LossSpec, AfterValidator(functools.partial(_without_defaults, "losses"))]


@spec
class Sections:
    """A configuration's specs, by name.

    The specs that its methods return are canonical plain data, without default values. Cells that differ only in their
    seed share them, so don't modify them.
    """

    _: dataclasses.KW_ONLY
    run: Distinct[Text] = Field(description="Experiments that are built by default.")
    results: Annotated[Text, AfterValidator(_check_folder)] = Field(
        default="results",
        description="Folder for all results. Use a different folder for each variant of a configuration; halobench run"
        " --results FOLDER overrides this key.",
    )
    data_root: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None,
        description="Folder with the data sets that are read from disk, in torchvision's layout. Changing it reruns"
        " nothing. The default is the environment variable HALOBENCH_DATA or, if that isn't set, the folder data.",
    )
    fetch: Flag = Field(default=True, description="Download data sets that are missing from `data_root`.")
    sources: Named[Source] = Field(
        description="Images, features or a distribution, each provided by a loader. A loader is a file in"
        " src/halobench/data/loaders or module:object; all other keys are its options."
    )
    datasets: Named[DatasetEntry] = Field(
        description="A source that is cut into splits, or a distribution that splits are drawn from, with label noise."
    )
    models: Named[Model] = Field(
        description="Each model is a file in src/halobench/models/architectures, timm/NAME, torchvision/NAME or"
        " module:object; all keys that aren't listed here are its options."
    )
    losses: Named[Loss] = Field(
        description="Each loss is a file in src/halobench/losses or module:object; all other keys are its options."
    )
    train: Layer = Field(
        default_factory=dict,
        description="Defaults for all recipes. A model's recipe overrides them, and a data set's recipe overrides"
        " both.",
    )
    probes: Annotated[dict[Name, ProbeEntry], BeforeValidator(_named_kinds)] = Field(
        default_factory=dict,
        description="Walks and searches around samples. By default, the kind of a probe is its name.",
    )
    calibrators: Calibrators = Field(
        default=CALIBRATORS,
        validate_default=True,
        description="Calibrators to score, each with its own rows in the tables. `none` leaves the logits as they are."
        " The other built-in calibrators are temperature scaling at the optimum on validation data (`exact`), as fitted"
        " by the paper's code (`paper`), and at the optimum on test data (`oracle`). A calibrator can also be a file in"
        " src/halobench/calibration/calibrators, `probmetrics/NAME` or `netcal/NAME` (classes of libraries, which need"
        " the extra posthoc) or module:object. To set a plug-in's options, list it under a name of its own, as NAME:"
        " {name: PLUG-IN, OPTION: VALUE}. All calibrators except `none` and `oracle` are fitted to the validation"
        " labels as drawn, even if the source gives their posterior.",
    )
    metrics: MetricsSpec = Field(default=MetricsSpec(), description="How metrics are computed.")
    submit: Annotated[tuple[Text, ...], AfterValidator(_check_small)] = Field(
        default=(),
        description="Small stages (" + ", ".join(SMALL) + ") that a run on a cluster submits as jobs. The others run in"
        " the main process, since they would wait in a queue for longer than they take.",
    )

    def source_spec(self, source: str) -> dict[str, Any]:
        return canonical(self.sources[source])

    def weights_spec(self, model: str) -> dict[str, Any]:
        """Return the spec of a weights stage, which fetches the published weights of a model."""
        spec = self.models[model]
        return canonical(ModelSpec(spec.name, pretrained=spec.pretrained))

    def train_spec(self, dataset: str, model: str, loss: str) -> dict[str, Any]:
        def build() -> dict[str, Any]:
            return {
                "dataset": canonical(self.datasets[dataset]),
                "model": canonical(self.models[model]),
                "loss": canonical(self.losses[loss]),
                "train": canonical(self.recipe(dataset, model)),
            }

        return self._shared(("train", dataset, model, loss), build)

    def probe_spec(self, dataset: str, model: str) -> dict[str, Any]:
        """Return the spec of a probe stage, with only the recipe keys that say how a model is evaluated."""

        def build() -> dict[str, Any]:
            recipe = self.recipe(dataset, model)
            return {
                "dataset": canonical(self.datasets[dataset]),
                "model": canonical(self.models[model]),
                "train": canonical(TrainSpec(**{key: getattr(recipe, key) for key in PROBE_KEYS})),
                "probes": {name: canonical(probe) for name, probe in self.probes_of(model).items()},
            }

        return self._shared(("probe", dataset, model), build)

    def probes_of(self, model: str) -> dict[str, ProbeEntry]:
        return {name: probe for name, probe in self.probes.items() if probe.visits(model)}

    def calibrate_spec(self) -> dict[str, Any]:
        return self._shared(("calibrate",), lambda: canonical(self.calibrate))

    def reference_spec(self, dataset: str) -> dict[str, Any]:
        return {"dataset": canonical(self.datasets[dataset]), "calibrate": canonical(self.calibrate)}

    def layers(self, dataset: str, model: str) -> dict[str, Mapping[str, Any]]:
        """Return the layers of a recipe by their places in the configuration; each overrides those before it."""
        return {
            "train": self.train,
            f"models.{model}.recipe": self.models[model].recipe,
            f"datasets.{dataset}.recipe": self.datasets[dataset].recipe,
        }

    def layer_that_sets(self, dataset: str, model: str, key: str) -> str:
        """Return the place of the last layer of a recipe that sets a key; ``train`` if none does."""
        layers = self.layers(dataset, model)
        return next((place for place in reversed(layers) if key in layers[place]), "train")

    def recipe(self, dataset: str, model: str) -> TrainSpec:
        """Return the recipe of a data set and model, merged from its layers."""

        def merge() -> TrainSpec:
            merged = {key: value for layer in self.layers(dataset, model).values() for key, value in layer.items()}
            try:
                return parse(TrainSpec, merged)
            except SpecError as error:
                raise error.within(self.layer_that_sets(dataset, model, error.key)) from None

        return self._shared(("recipe", dataset, model), merge)

    @functools.cached_property
    def calibrate(self) -> CalibrateSpec:
        shared = {each.name: getattr(self.metrics, each.name) for each in dataclasses.fields(self.metrics)}
        return CalibrateSpec(self.calibrators, **shared)

    def sampler(self, dataset: str) -> list[tuple[str, str]]:
        """Return the plug-in that draws a data set's samples, or an empty list if they are cut from images."""
        loader = self.sources[self.datasets[dataset].source].loader
        return [("data", loader)] if loader in self.distributions else []

    def train_plugins(self, dataset: str, model: str, loss: str) -> list[tuple[str, str]]:
        return [("models", self.models[model].name), ("losses", self.losses[loss].name), *self.sampler(dataset)]

    def probe_plugins(self, dataset: str, model: str) -> list[tuple[str, str]]:
        """Return the plug-ins that a probe stage runs, as kind and name."""

        def listed() -> list[tuple[str, str]]:
            directions = [plugin for probe in self.probes_of(model).values() for plugin in probe.plugged]
            return [("models", self.models[model].name), *self.sampler(dataset), *directions]

        return self._shared(("probe plug-ins", dataset, model), listed)

    @functools.cached_property
    def distributions(self) -> frozenset[str]:
        """Return the loaders that are distributions; their files are read once, as there may be thousands of cells."""
        return frozenset(filter(plugins.is_distribution, {source.loader for source in self.sources.values()}))

    @functools.cached_property
    def _cache(self) -> dict[tuple[str, ...], Any]:
        return {}

    def _shared(self, key: tuple[str, ...], build: Callable[[], T]) -> T:
        """Return the result of `build`, which is called only once for each key."""
        if key not in self._cache:
            self._cache[key] = build()
        return self._cache[key]
