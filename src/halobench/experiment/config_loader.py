"""The configuration: parsed, checked as a whole, and expanded into cells.

Every problem that can be seen without importing torch is found here, all of them in one go;
`halobench.experiment.validation` builds what only building can check.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from halobench.core import plugins
from halobench.core.aliases import current_words
from halobench.core.errors import NAME, SpecError, check_name, describe_error, hint, one_of, require, shown
from halobench.core.plugins import check_installed
from halobench.core.spec_codec import parse
from halobench.core.specs import (
    CalibrateSpec,
    DatasetSpec,
    LossSpec,
    ModelSpec,
    ProbeSpec,
    SourceSpec,
    TrainSpec,
)
from halobench.experiment.grid import Block, Config, ExperimentSpec

SECTIONS = (
    "run",
    "data_root",
    "fetch",
    "sources",
    "datasets",
    "models",
    "losses",
    "train",
    "probes",
    "calibrators",
    "metrics",
    "experiments",
)


SHOWN = ("figures", "tables")  # what an experiment may choose, each a kind of plug-in
REFERENCE = "reference"  # the loss that marks rows of calibrator-free predictors in tables


class ConfigError(ValueError):
    """All problems of a configuration, a line each; `sound` is what is left of it without the parts that have any."""

    def __init__(self, problems: list[str], sound: Config | None = None):
        super().__init__("\n".join(problems))
        self.problems, self.sound = problems, sound


class _StrictLoader(yaml.SafeLoader):
    """YAML that builds plain data alone and refuses a key that a mapping has twice, of which YAML keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Node] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            other = first.setdefault((key.tag, key.value), key)
            if other is not key:
                why = f"the key {key.value!r} stands in line {other.start_mark.line + 1} already"
                raise yaml.composer.ComposerError(None, None, why, key.start_mark)
        return node


def check_file(path: Path | str) -> None:
    """Check that a file can be a configuration: YAML, or JSON, of plain data with keys at the top and none twice.

    Raises
    ------
    ConfigError
        With one line that names the file, and the line in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: expected a text file in UTF-8 ({describe_error(error)})"]) from None
    try:
        content = yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        why = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
        why += "; indent by spaces, not tabs" if "'\\t'" in why else ""
        raise ConfigError([f"{where}: expected YAML of plain data, each key once ({why})"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: expected YAML of plain data, each key once ({describe_error(error)})"]) from None
    if not isinstance(content, Mapping):
        raise ConfigError([f"{path} = {shown(content)}: expected sections at the top level: {', '.join(SECTIONS)}"])


def check_folders(paths: Iterable[str]) -> None:
    """Check that no file, nor a link that leads nowhere, stands where a folder of results is, or will be made.

    Raises
    ------
    ConfigError
        A line for each that does.
    """
    folders: set[str] = set()
    left = {os.path.dirname(path) for path in paths}
    while left := {folder for folder in left - folders if folder.strip("/")}:
        folders |= left
        left = {os.path.dirname(folder) for folder in left}
    bad = [folder for folder in sorted(folders) if os.path.lexists(folder) and not os.path.isdir(folder)]
    if bad:
        raise ConfigError([f"{folder}: expected a folder, but something else is there: move it away" for folder in bad])


NAMED = ("sources", "datasets", "models", "losses", "probes", "experiments")


def without_null(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration less the names that it gives null: so a file laid over another takes some of its names away."""
    kept = dict(raw)
    for section in NAMED:
        if isinstance(raw.get(section), Mapping):
            kept[section] = {name: value for name, value in raw[section].items() if value is not None}
    return kept


def load_config(raw: Mapping[str, Any]) -> Config:
    """Check a configuration as a whole, its names with null left out and old words replaced.

    Parameters
    ----------
    raw : mapping
        As YAML gives it; see ``workflow/schemas/config.schema.yaml``.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        With every problem found: unknown keys and names, types, ranges.
    """
    return _Loader(current_words(raw)).load()


class _Loader:
    """Parses the sections one after another and gathers what is wrong."""

    def __init__(self, raw: Mapping[str, Any]):
        self.raw = without_null(raw)
        self.problems: list[str] = []

    def load(self) -> Config:
        for key in self.raw:
            if key not in SECTIONS:
                self.problem(SpecError(str(key), self.raw[key], f"a section: {one_of(SECTIONS, key)}"))
        self.guarded("", self.data_root)
        sources = self.section("sources", lambda name, m: self.plugin("data", parse(SourceSpec, m)))
        datasets = self.section("datasets", self.dataset)
        models = self.section("models", self.model)
        losses = self.section("losses", lambda name, m: self.plugin("losses", parse(LossSpec, m)))
        probes = self.section("probes", lambda name, m: parse(ProbeSpec, {"kind": name} | dict(m)))
        calibrate = self.guarded("", self.calibrate)
        experiments = self.section("experiments", lambda name, m: parse_experiment(m))
        self.check_names(sources=sources, datasets=datasets, models=models, losses=losses, experiments=experiments)
        self.check_references(sources, datasets, models, losses, experiments)
        recipes = self.recipes(datasets, models, experiments)
        run = self.run(experiments)
        found = Config(run, sources, datasets, models, losses, recipes, probes, calibrate, experiments)
        if self.problems:
            raise ConfigError(list(dict.fromkeys(self.problems)), _sound(found))
        return found

    def problem(self, error: SpecError) -> None:
        self.problems.append(str(error))

    def guarded(self, where: str, make: Callable[..., Any], *given: Any) -> Any:
        """What `make` gives; None, and the problem noted under `where`, if it raises SpecError."""
        try:
            return make(*given)
        except SpecError as error:
            self.problem(error.within(where) if where else error)
            return None

    def section(self, section: str, make: Callable[[str, Any], Any]) -> dict[str, Any]:
        """The specs of a section by name, None in place of bad ones."""
        entries = self.raw.get(section)
        if not isinstance(entries, Mapping) or not entries:
            examples = f", such as {', '.join(plugins.names('probes'))}," if section == "probes" else ""
            self.problem(SpecError(section, entries, f"a mapping of at least one name{examples} to its keys"))
            return {}
        specs: dict[str, Any] = {}
        for name, value in entries.items():
            where = f"{section}.{name}"
            specs[name] = None
            if not isinstance(value, Mapping):
                self.problem(SpecError(where, value, "a mapping of keys"))
            elif self.guarded("", check_name, where, name):
                specs[name] = self.guarded(where, make, name, value)
        return specs

    def check_names(self, **sections: Mapping[str, Any]) -> None:
        """Names become folders, and some disks take ``Digits`` and ``digits`` for one; ``reference`` marks rows."""
        for section, specs in sections.items():
            first: dict[str, str] = {}
            for name in filter(NAME.fullmatch, map(str, specs)):
                other = first.setdefault(name.lower(), name)
                if other != name:
                    expected = f"a name that differs from {other!r} in more than capitals: names become folders"
                    self.problem(SpecError(f"{section}.{name}", name, expected))
        if REFERENCE in sections["losses"]:
            expected = "another name: tables mark predictors that were not trained by this one"
            self.problem(SpecError(f"losses.{REFERENCE}", REFERENCE, expected))

    def data_root(self) -> None:
        """Where data lie, and whether what lacks there may be fetched: `halobench.data.data_root` heeds both."""
        root, fetch = self.raw.get("data_root", "data"), self.raw.get("fetch", True)
        require(isinstance(root, str) and root, "data_root", root, "the path of a folder")
        require(isinstance(fetch, bool), "fetch", fetch, "true or false")

    def plugin(self, kind: str, spec: Any) -> Any:
        """A spec whose name was found and whose options are known, less those at their defaults."""
        name = spec.loader if kind == "data" else spec.name
        return dataclasses.replace(spec, options=plugins.without_defaults(kind, name, dict(spec.options)))

    def dataset(self, name: str, value: Mapping[str, Any]) -> DatasetSpec:
        return parse(DatasetSpec, {k: v for k, v in value.items() if k != "recipe"})

    def model(self, name: str, value: Mapping[str, Any]) -> ModelSpec:
        return self.plugin("models", parse(ModelSpec, {k: v for k, v in value.items() if k != "recipe"}))

    def calibrate(self) -> CalibrateSpec:
        calibrators = self.raw.get("calibrators", list(CalibrateSpec.calibrators))
        metrics = self.raw.get("metrics", {})
        if not isinstance(metrics, Mapping):
            raise SpecError("metrics", metrics, "a mapping of keys")
        known = [f.name for f in dataclasses.fields(CalibrateSpec) if f.name != "calibrators"]
        for key in metrics:
            if key not in known:
                expected = f"a key among {', '.join(known)}{hint(known, key)}"
                raise SpecError(f"metrics.{key}", metrics[key], expected)
        try:
            found = parse(CalibrateSpec, {"calibrators": calibrators} | dict(metrics))
            check_installed(found.calibrators)
            return found
        except SpecError as error:
            raise error if error.key.startswith("calibrators") else error.within("metrics") from None

    def check_references(self, sources, datasets, models, losses, experiments) -> None:
        """Names that refer to other sections: a data set's source and what a grid holds; and figures and tables."""
        for name, spec in datasets.items():
            if spec is not None and sources and spec.source not in sources:
                self.problem(SpecError(f"datasets.{name}.source", spec.source, one_of(sources, spec.source)))
        for name, spec in models.items():
            if spec is not None and spec.trained_on is not None and sources and spec.trained_on not in sources:
                self.problem(SpecError(f"models.{name}.trained_on", spec.trained_on, one_of(sources, spec.trained_on)))
        known = {"datasets": datasets, "models": models, "losses": losses}
        for name, experiment in experiments.items():
            for i, block in enumerate(experiment.grid if experiment else ()):
                for key, section in known.items():
                    for value in getattr(block, key):
                        if section and value not in section:
                            where = f"experiments.{name}.grid[{i}].{key}"
                            self.problem(SpecError(where, value, one_of(section, value)))
            for kind in SHOWN if experiment else ():
                for value in getattr(experiment, kind):
                    where = f"experiments.{name}.{kind}"
                    self.guarded("", _check_shown, where, kind, value)

    def recipes(self, datasets, models, experiments) -> dict[tuple[str, str], Any]:
        """The recipe of each data set x model pair in a grid: `train`, overlaid by the model's, then the data set's."""
        pairs = {
            (dataset, model)
            for experiment in experiments.values()
            for block in (experiment.grid if experiment else ())
            for dataset in block.datasets
            for model in block.models
        }
        layers = {"train": self.raw.get("train", {})}
        for section, specs in (("models", models), ("datasets", datasets)):
            for name in specs:
                layers[f"{section}.{name}.recipe"] = own_recipe(self.raw, section, name)
        bad = {where for where, layer in layers.items() if not self.guarded(where, check_recipe_keys, layer)}
        recipes = {}
        for dataset, model in sorted(pairs):
            chain = recipe_layers(self.raw, dataset, model)
            if all(where in layers and where not in bad for where, _ in chain):
                recipes[dataset, model] = self.recipe(chain)
        return recipes

    def recipe(self, chain: Layers) -> TrainSpec | None:
        """The layers of one recipe merged; a value out of range is blamed on the last layer that sets it."""
        merged = {key: value for _, layer in chain for key, value in layer.items()}
        try:
            return parse(TrainSpec, merged)
        except SpecError as error:
            self.problem(error.within(layer_that_sets(chain, error.key)))
            return None

    def run(self, experiments: Mapping[str, Any]) -> tuple[str, ...]:
        """The experiments that the default target builds."""
        run = self.raw.get("run")
        if not isinstance(run, list) or not run or not all(isinstance(name, str) for name in run):
            self.problem(SpecError("run", run, "a list of experiments"))
            return ()
        self.guarded("", lambda: check_distinct("run", run))
        for name in run:
            if experiments and name not in experiments:
                self.problem(SpecError("run", name, one_of(experiments, name)))
        return tuple(run)


def _sound(found: Config) -> Config:
    """What remains of a configuration whose bad parts are None: the cells whose every part is there."""

    def whole(specs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: spec for name, spec in specs.items() if spec is not None}

    sources, models, losses = map(whole, (found.sources, found.models, found.losses))
    datasets = {name: spec for name, spec in whole(found.datasets).items() if spec.source in sources}
    recipes = {pair: spec for pair, spec in found.recipes.items() if spec is not None}
    experiments = {}
    for name, experiment in whole(found.experiments).items():
        blocks = []
        for block in experiment.grid:
            kept = tuple(dataset for dataset in block.datasets if dataset in datasets)
            fit = tuple(m for m in block.models if m in models and all((dataset, m) in recipes for dataset in kept))
            scored = tuple(loss for loss in block.losses if loss in losses)
            blocks.append(dataclasses.replace(block, datasets=kept, models=fit, losses=scored))
        experiments[name] = dataclasses.replace(experiment, grid=tuple(blocks))
    run = tuple(name for name in found.run if name in experiments)
    return Config(run, sources, datasets, models, losses, recipes, found.probes, found.calibrate, experiments)


Layers = list[tuple[str, Mapping[str, Any]]]


def own_recipe(raw: Mapping[str, Any], section: str, name: str) -> Any:
    """The recipe that a model or data set of a configuration has of its own, as it is written; empty without one."""
    entries = raw.get(section)
    entry = entries.get(name) if isinstance(entries, Mapping) else None
    return entry.get("recipe", {}) if isinstance(entry, Mapping) else {}


def recipe_layers(raw: Mapping[str, Any], dataset: str, model: str) -> Layers:
    """The layers of a pair's recipe, each laid over those before it, with where they stand."""
    named = (("models", model), ("datasets", dataset))
    own = [(f"{section}.{name}.recipe", own_recipe(raw, section, name)) for section, name in named]
    return [("train", raw.get("train", {})), *own]


def layer_that_sets(layers: Layers, key: str) -> str:
    """Where the value of a recipe's key is from: the last layer that sets it, ``train`` where none does."""
    return next((where for where, layer in reversed(layers) if key in layer), "train")


def check_recipe_keys(layer: Any) -> bool:
    """True; SpecError if a recipe's layer has an unknown key or a value of another type."""
    if not isinstance(layer, Mapping):
        raise SpecError("", layer, "a mapping of keys of the recipe")
    # Ranges may depend on other layers (warmup < epochs): each key is checked alone, beside defaults that fit it.
    for key, value in layer.items():
        fitting = {"epochs": max(value, 0) + 1} if key == "warmup" and isinstance(value, int) else {"warmup": 0}
        parse(TrainSpec, {**fitting, key: value})
    return True


def parse_experiment(value: Mapping[str, Any]) -> ExperimentSpec:
    """An experiment from its mapping.

    Raises
    ------
    SpecError
        On unknown keys, empty lists, or seeds that are no whole numbers of at least 0.
    """
    known = ("grid", "figures", "tables")
    unknown = set(value) - set(known)
    if unknown:
        key = min(unknown, key=str)
        raise SpecError(str(key), value[key], f"a key among {', '.join(known)}{hint(known, key)}")
    grid = value.get("grid")
    if not isinstance(grid, list) or not grid:
        raise SpecError(
            "grid", grid, "a list of blocks of datasets, models, losses and seeds (and probe: true or false)"
        )
    blocks = []
    for i, block in enumerate(grid):
        try:
            blocks.append(parse(Block, block))
        except SpecError as error:
            raise error.within(f"grid[{i}]") from None
        for key in ("datasets", "models", "losses", "seeds"):
            values = getattr(blocks[-1], key)
            if not values:
                raise SpecError(f"grid[{i}].{key}", [], "at least one")
            check_distinct(f"grid[{i}].{key}", values)
        if min(blocks[-1].seeds) < 0:
            raise SpecError(f"grid[{i}].seeds", min(blocks[-1].seeds), "whole numbers of at least 0")
    chosen = {kind: value.get(kind, []) for kind in SHOWN}
    for kind, named in chosen.items():
        if not isinstance(named, list) or (kind in value and not named):
            raise SpecError(kind, named, f"a list of {kind} (without this key, all that have something to show)")
        check_distinct(kind, named)
    return ExperimentSpec(tuple(blocks), **{kind: tuple(named) for kind, named in chosen.items()})


def check_distinct(key: str, values: Sequence[Any]) -> None:
    """Raise SpecError if a list names something twice: it would run once, which may not be what was meant."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise SpecError(key, value, "each value once")


def _check_shown(where: str, kind: str, name: object) -> None:
    """Raise SpecError unless `name` is one of the figures, or of the tables."""
    if not isinstance(name, str):
        raise SpecError(where, name, f"a {kind.removesuffix('s')}'s name")
    try:
        plugins.locate(kind, name)
    except SpecError as error:
        raise SpecError(where, name, error.expected) from None


def check_schema(raw: Mapping[str, Any], schema: Path | str) -> None:
    """Check a configuration against its JSON schema, its names with null left out.

    Raises
    ------
    ConfigError
        A line per violation.
    """
    import jsonschema

    validator = jsonschema.Draft202012Validator(yaml.safe_load(Path(schema).read_text()))
    found = sorted(validator.iter_errors(without_null(raw)), key=lambda error: list(map(str, error.absolute_path)))
    if found:
        raise ConfigError(
            [
                f"{'.'.join(map(str, e.absolute_path)) or 'config'}: expected what the schema asks ({e.message})"
                for e in found
            ]
        )
