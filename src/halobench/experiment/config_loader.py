"""Load a configuration and check that its names are consistent.

This module finds problems without importing torch, and reports them together; `halobench.runner.validation` finds the
problems that appear only when models and losses are built.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pydantic

from halobench.core import plugins
from halobench.core.errors import NAME, RefusedError, SpecError, one_of, refuse, shown
from halobench.core.plugins import facts as plugin_facts
from halobench.core.specs.codec import adapter, spec_errors
from halobench.core.specs.data import LADDER_SAMPLES
from halobench.core.specs.training import EVALUATION_KEYS, TrainSpec
from halobench.experiment.grid import Config
from halobench.storage.columns import REFERENCE

# The kinds of plug-ins by whose titles the keys of a section are shown, and the key that names the plug-in.
TITLED = {"sources": ("data", "loader"), "models": ("models", "name"), "losses": ("losses", "name")}
TITLED |= {"probes": ("probes", "kind")}
NAMED = ("sources", "datasets", "models", "losses", "probes", "experiments")  # sections whose keys are names


class ConfigError(ValueError):
    """All `problems` with a configuration, one per line.

    `plain` is the configuration without the parts that have problems of their own; `sound` is `plain` as a `Config`, or
    None.
    """

    def __init__(self, problems: Iterable[str], plain: Mapping[str, Any] | None = None, sound: Config | None = None):
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))
        self.plain, self.sound = plain or {}, sound


def load_config(raw: Mapping[str, Any]) -> Config:
    """Return a configuration as a `Config`, or raise ConfigError.

    Values of dotted keys override what is there, and names set to null are removed.
    """
    try:
        raw = _without_null(_with_dotted(raw))
    except SpecError as error:
        raise ConfigError([str(error)]) from None
    config, plain, problems = _read(raw)
    names = {section: list(entries) for section, entries in raw.items() if isinstance(entries, Mapping)}
    train_is_bad = any(problem.key.partition(".")[0] == "train" for problem in problems)  # part of every recipe
    problems += _check_capitals(names)
    if config is not None:
        problems += _check_references(config, names)
        problems += _check_probes(config, names)
        problems += _check_noise(config)
        problems += _check_titles(config)
        problems += [] if problems else _check_ladders(config)
        problems += [] if train_is_bad else _check_recipes(config)
        problems += _check_recipes_of_trained(config)
    if not problems and config is not None:
        return config
    raise ConfigError(map(str, problems), plain, None if train_is_bad else config)


def _with_dotted(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the values of dotted keys put in their places, overriding what is there."""
    plain = {key: value for key, value in raw.items() if "." not in str(key)}
    if len(plain) == len(raw):
        return plain
    plain = copy.deepcopy(plain)
    for key in raw.keys() - plain.keys():
        _put(plain, key.split("."), raw[key], key)
    return plain


def _put(part: Any, words: list[str], value: Any, key: str) -> None:
    """Set the value below `part` to which the `words` of a dotted key lead, by the longest names that exist."""
    name: Any = words[0]
    used = 1
    if isinstance(part, list):
        fits = name.isdigit() and int(name) < len(part)
        refuse(not fits, key, f"{name} isn't the position of an item, from 0 to {len(part) - 1}")
        name = int(name)
    else:
        refuse(not isinstance(part, dict), key, f"what is there, {shown(part)}, has no part {name}")
        used = next((n for n in range(len(words), 0, -1) if ".".join(words[:n]) in part), 1)
        name = ".".join(words[:used])
    if words[used:]:
        _put(part[name] if isinstance(part, list) else part.setdefault(name, {}), words[used:], value, key)
    elif not isinstance(part, list) and isinstance(value, dict) and isinstance(part.get(name), dict):
        part[name] |= value
    else:
        part[name] = value


def _without_null(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without names set to null, by which a file removes names that another file defines."""
    kept = dict(raw)
    for section in NAMED:
        if isinstance(raw.get(section), Mapping):
            kept[section] = {name: value for name, value in raw[section].items() if value is not None}
    return kept


def _read(raw: Mapping[str, Any]) -> tuple[Config | None, Mapping[str, Any], list[SpecError]]:
    """Return a configuration without its bad entries, as a `Config` (or None) and as plain data, and the problems."""
    read = adapter(Config).validate_python
    try:
        return read(raw), raw, []
    except pydantic.ValidationError as error:
        problems = spec_errors(Config, error)
        kept: dict[Any, Any] = {
            section: dict(keys) if isinstance(keys, Mapping) else keys for section, keys in raw.items()
        }
        for section, *place in (problem["loc"] for problem in error.errors()):
            if section in NAMED and place:
                kept[section].pop(place[0], None)
            else:
                kept.pop(section, None)
    try:
        return read(kept), kept, problems
    except pydantic.ValidationError:  # a required section is bad, or empty without its bad entries
        return None, kept, problems


def _check_capitals(names: Mapping[str, Iterable[Any]]) -> Iterator[SpecError]:
    """Report names that differ only in case, which some file systems ignore, and a loss called `REFERENCE`."""
    for section in ("sources", "datasets", "models", "losses", "experiments"):
        first: dict[str, str] = {}
        for name in filter(NAME.fullmatch, map(str, names.get(section, ()))):
            other = first.setdefault(name.lower(), name)
            if other != name:
                sentence = f"differs from {other!r} only in case; rename one of them, since names become folders"
                yield RefusedError(f"{section}.{name}", sentence)
    if REFERENCE in names.get("losses", ()):
        sentence = "tables use this name for predictors that weren't trained; rename the loss"
        yield RefusedError(f"losses.{REFERENCE}", sentence)


def _check_references(config: Config, names: Mapping[str, list[Any]]) -> Iterator[SpecError]:
    """Report each name that is used but not defined, and a calibrator or metric that isn't installed."""
    uses: list[tuple[str, str, str | None]] = [("run", "experiments", name) for name in config.run]
    uses += [(f"datasets.{name}.source", "sources", entry.source) for name, entry in config.datasets.items()]
    uses += [(f"models.{name}.trained_on", "sources", entry.trained_on) for name, entry in config.models.items()]
    for probe, visit in config.probes.items():
        uses += [(f"probes.{probe}.models", "models", name) for name in visit.models or ()]
    for experiment, entry in config.experiments.items():
        for i, block in enumerate(entry.grid):
            for key in ("datasets", "models", "losses"):
                uses += [(f"experiments.{experiment}.grid[{i}].{key}", key, name) for name in getattr(block, key)]
    for place, section, name in uses:
        if name is not None and name not in names[section]:
            yield SpecError(place, name, f"{one_of(names[section], name)}{_plugin_entry(section, name)}")
    try:
        plugins.check_installed(config.calibrate.plugged)
    except SpecError as error:
        yield error


def _plugin_entry(section: str, name: str) -> str:
    """Return the entry that would define a missing loss or model if a plug-in has its name; otherwise, ""."""
    known = section in ("losses", "models") and name in plugins.names(section)
    return f", or add `{section}: {{ {name}: {{ name: {name} }} }}`" if known else ""


def _check_probes(config: Config, names: Mapping[str, list[Any]]) -> Iterator[SpecError]:
    """Report each model to be probed that no probe includes, unless the probes have problems of their own."""
    if len(config.probes) < len(names.get("probes", ())):
        return
    for experiment, entry in config.experiments.items():
        for i, block in enumerate(entry.grid):
            for model in block.models if block.probe else ():
                if not config.probes_of(model):
                    what = f"no probe lists {model}; add it to a probe's models, or set probe: false"
                    yield RefusedError(f"experiments.{experiment}.grid[{i}].models", what)


def _check_noise(config: Config) -> Iterator[SpecError]:
    """Report each data set whose name contradicts its label noise, since figures and pages show the name."""
    for name, dataset in config.datasets.items():
        said = re.search(r"-noise(\d\d)$", name)
        if said and abs(100 * dataset.noise.p - int(said[1])) > 0.5:
            what = f"{int(said[1]) / 100:g}, as the data set's name says, or another name"
            yield SpecError(f"datasets.{name}.noise.p", dataset.noise.p, what)


def _check_titles(config: Config) -> Iterator[SpecError]:
    """Report each key that has the name of another plug-in or of other options, since pages show the name's title."""
    for section, (kind, field) in TITLED.items():
        owners = plugin_facts.owners(kind)
        for key, entry in getattr(config, section).items():
            stem, plugin = plugin_facts.stem(key, owners), getattr(entry, field)
            owner, options = owners.get(stem, (plugin, {}))
            if owner != plugin:
                yield SpecError(
                    f"{section}.{key}.{field}", plugin, f"{owner}, which has this name in halobench, or another name"
                )
            for option, value in options.items() if owner == plugin else ():
                given = entry.options.get(option, (plugins.find(kind, plugin).options or {}).get(option))
                if given != value:
                    yield SpecError(f"{section}.{key}.{option}", given, f"{value}, as its name says, or another name")
    owners = plugin_facts.owners("data")
    for key, dataset in config.datasets.items():
        owner, _ = owners.get(plugin_facts.stem(key, owners), ("", {}))
        if owner and dataset.source in config.sources and config.sources[dataset.source].loader != owner:
            what = f"a source with the loader {owner}, as its name says, or another name"
            yield SpecError(f"datasets.{key}.source", dataset.source, what)


def _check_ladders(config: Config) -> Iterator[SpecError]:
    """Report each data set with too few test samples for the repair ladders that an experiment requests."""
    used = {cell.dataset for experiment in config.experiments for cell in config.laddered(experiment)}
    for name in sorted(used & set(config.datasets)):
        if config.datasets[name].test < LADDER_SAMPLES:
            what = f"at least {LADDER_SAMPLES} test samples, which an experiment that shows `repair` needs"
            yield SpecError(f"datasets.{name}.test", config.datasets[name].test, what)


def _check_recipes(config: Config) -> Iterator[SpecError]:
    """Report each inconsistent recipe of a data set and model in a grid."""
    blocks = [block for experiment in config.experiments.values() for block in experiment.grid]
    pairs = {(dataset, model) for block in blocks for dataset in block.datasets for model in block.models}
    for dataset, model in sorted(pairs):
        if dataset in config.datasets and model in config.models:
            try:
                config.recipe(dataset, model)
            except SpecError as error:
                yield error


def _check_recipes_of_trained(config: Config) -> Iterator[SpecError]:
    """Report each training key in the recipe of a model that isn't trained here."""
    training_keys = {field.name for field in dataclasses.fields(TrainSpec)} - set(EVALUATION_KEYS)
    what = f"the model isn't trained here; leave this key out (only {', '.join(EVALUATION_KEYS)} apply)"
    for name, model in sorted(config.models.items()):
        for key in model.recipe if model.comes_trained else ():
            if key in training_keys:
                yield RefusedError(f"models.{name}.recipe.{key}", what)
