"""Define the sections of a configuration as specs.

Each field is a section or a key, whose description appears in docs/configuration.md.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, WrapValidator

from halobench.core.errors import NAME, SpecError, check_name, one_of, require
from halobench.core.specs.calibrate import MetricsSpec
from halobench.core.specs.calibrator import CALIBRATORS, Calibrators
from halobench.core.specs.codec import Distinct, Flag, NotNegative, Several, Text, check_distinct, spec
from halobench.core.specs.data import DatasetSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, Recipe
from halobench.experiment.figure_choice import ALL, tables_read
from halobench.storage.layout import STAGES

T = TypeVar("T")


def _given_keys(layer: Any, check: Callable[[Any], Recipe]) -> dict[str, Any]:
    """Return a layer of a recipe after checking its values; keys that it omits come from other layers."""
    recipe = check(layer)
    return {key: getattr(recipe, key) for key in layer}


def _named_kinds(probes: Any) -> Any:
    """Return the probes; a probe that doesn't specify its kind gets its name as the kind."""
    if not isinstance(probes, dict):
        return probes
    return {name: {"kind": name} | keys if isinstance(keys, dict) else keys for name, keys in probes.items()}


TAKEN = (".snakemake", "src", "workflow", "profiles")  # folders in the working directory


def _check_folder(path: str) -> str:
    """Return a path; raise SpecError if it can't be used unquoted in rules and shells, or can't be a results folder."""
    expected = "a folder other than the working directory and those above, with only letters, digits, and . _ + - /"
    place, here = Path(path).resolve(), Path.cwd()
    plain = re.fullmatch(r"[\w.+/-]+", path, re.ASCII)
    require(plain and not here.is_relative_to(place), "", path, f"{expected} in its path")
    taken = any(place.is_relative_to(here / name) for name in TAKEN)
    require(not taken, "", path, f"a folder outside {', '.join(TAKEN)}, which have files of other kinds")
    returns = ".." in os.path.normpath(path) and place.is_relative_to(here)
    require(not returns, "", path, "the path from the working directory, since this one leads out of it and back")
    return path


# Stages without a device, which may run in the main process of a run on a cluster. Manifests always do.
MAIN_PROCESS_STAGES = tuple(name for name, stage in STAGES.items() if not stage.device and name != "manifest")


def _check_small(stages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stages; raise SpecError for any that isn't in `MAIN_PROCESS_STAGES`."""
    for stage in stages:
        require(stage in MAIN_PROCESS_STAGES, "", stage, one_of(MAIN_PROCESS_STAGES, stage))
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
else:  # one layer of a recipe, with any of its keys, each checked as in a whole recipe
    Layer = Annotated[Recipe, WrapValidator(_given_keys)]
RECIPE = "Keys of `train` to override."


@spec
class DatasetEntry(DatasetSpec):
    """A data set and its layer of the recipes."""

    recipe: Layer = Field(default_factory=dict, exclude=True, description=RECIPE)


@spec
class ModelEntry(ModelSpec):
    """A model and its layer of the recipes."""

    recipe: Layer = Field(default_factory=dict, exclude=True, description=RECIPE)


@spec
class ProbeEntry(ProbeSpec):
    """A probe and the models whose cells it probes."""

    models: Distinct[Text] | None = Field(
        default=None,
        exclude=True,
        description="Names of the models whose cells the probe visits; all models by default.",
    )

    def visits(self, model: str) -> bool:
        return self.models is None or model in self.models


@dataclass(frozen=True, order=True)
class Cell:
    """One trained model, identified by the names of its data set, model and loss, and by its seed."""

    dataset: str
    model: str
    loss: str
    seed: int

    @property
    def path(self) -> str:
        return f"{self.dataset}/{self.model}/{self.loss}/seed{self.seed}"


@spec
class Block:
    """A full grid of data sets x models x losses x seeds; with `probe`, the neighbourhoods of its cells are probed."""

    datasets: Distinct[Text] = Field(description="Names of data sets.")
    models: Distinct[Text] = Field(description="Names of models.")
    losses: Distinct[Text] = Field(description="Names of losses.")
    seeds: Distinct[NotNegative] = Field(
        description="Seeds, each with its own split, label noise, initialisation and order of samples."
    )
    probe: Flag = Field(default=True, description="Probe the neighbourhoods of the cells.")

    def cells(self) -> Iterator[Cell]:
        return itertools.starmap(Cell, itertools.product(self.datasets, self.models, self.losses, self.seeds))


def _known_display(kind: str, name: str) -> str:
    """Return the name of a figure or table; raise SpecError if no function of that name takes tables."""
    try:
        if name != ALL:
            tables_read(kind, name)
    except SpecError as error:
        raise error.at("") from None
    return name


Figure = Annotated[Text, AfterValidator(functools.partial(_known_display, "figures"))]
Table = Annotated[Text, AfterValidator(functools.partial(_known_display, "tables"))]


@spec
class ExperimentSpec:
    """Blocks of cells, and the figures and tables made from them (by default, all with something to show)."""

    grid: Several[Block] = Field(description="Blocks of cells. A cell in several blocks counts once.")
    figures: Annotated[tuple[Figure, ...], AfterValidator(check_distinct)] | None = Field(
        default=None,
        description="Files in src/halobench/reporting/figures, module:function, or all (the default), which stands"
        " for all files that have something to show. An empty list means none.",
    )
    tables: Annotated[tuple[Table, ...], AfterValidator(check_distinct)] | None = Field(
        default=None,
        description="Tables for print: files in src/halobench/reporting/tables, module:function, or all (the default),"
        " which stands for all files that have something to show. An empty list means none.",
    )

    def cells(self) -> list[Cell]:
        return sorted({cell for block in self.grid for cell in block.cells()})


@spec
class Sections:
    """The sections of a configuration."""

    _: dataclasses.KW_ONLY
    run: Distinct[Text] = Field(description="Experiments that are built by default.")
    results: Annotated[Text, AfterValidator(_check_folder)] = Field(
        default="results",
        description="Folder for all results. Use a different folder for each variant of a configuration; halobench run"
        " --results FOLDER overrides this key.",
    )
    data_root: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None,
        description="Folder of the files that loaders read from disk, mostly in torchvision's layout. Changing the"
        " folder reruns nothing. Defaults to the environment variable HALOBENCH_DATA or, if it isn't set, to the folder"
        " data.",
    )
    fetch: Flag = Field(default=True, description="Download data sets that are missing from `data_root`.")
    sources: Named[SourceSpec] = Field(
        description="Images, features or a distribution, each provided by a loader. A loader is a file in"
        " src/halobench/data/loaders or module:object; all other keys are its options."
    )
    datasets: Named[DatasetEntry] = Field(
        description="A source cut into splits, or a distribution from which splits are drawn, with or without label"
        " noise."
    )
    models: Named[ModelEntry] = Field(
        description="Each model is a file in src/halobench/models/architectures, timm/NAME, torchvision/NAME or"
        " module:object; all keys that aren't listed here are its options."
    )
    losses: Named[LossSpec] = Field(
        description="Each loss is a file in src/halobench/losses or module:object; all other keys are its options."
    )
    train: Layer = Field(
        default_factory=dict,
        description="Defaults for all recipes.",
    )
    probes: Annotated[dict[Name, ProbeEntry], BeforeValidator(_named_kinds)] = Field(
        default_factory=dict,
        description="Walks and searches around samples. By default, a probe's kind is its name.",
    )
    calibrators: Calibrators = Field(
        default=CALIBRATORS,
        validate_default=True,
        description="Calibrators to score, each with its own rows in the tables. `none` leaves the logits as they are."
        " Temperature scaling is fitted optimally to validation data (`exact`), by the paper's code (`paper`), or"
        " optimally to test data (`oracle`). A calibrator can also be a file in src/halobench/calibration/calibrators,"
        " `probmetrics/NAME` or `netcal/NAME` (classes of libraries, which need the extra posthoc) or module:object. To"
        " set a plug-in's options, list it under a name of its own, as NAME: {name: PLUG-IN, OPTION: VALUE}. All"
        " calibrators except `none` and `oracle` are fitted to the validation labels as drawn, even if the source gives"
        " their posterior.",
    )
    metrics: MetricsSpec = Field(default=MetricsSpec(), description="How metrics are computed.")
    submit: Annotated[tuple[Text, ...], AfterValidator(_check_small)] = Field(
        default=(),
        description=f"Stages that a run on a cluster submits as jobs, out of {', '.join(MAIN_PROCESS_STAGES)}. By"
        " default, all of these run in the main process, since most take less time than they would wait in a queue.",
    )
    experiments: Named[ExperimentSpec] = Field(description="Grids of cells. A block is the full product of its lists.")
