"""Parse the sections of a configuration that hold named specs: sources, data sets, models, losses, probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from halobench.core import plugins
from halobench.core.errors import NAME, SpecError, check_name, hint, one_of, require
from halobench.core.plugins import check_installed
from halobench.core.spec_codec import parse
from halobench.core.specs import (
    CalibrateSpec,
    DatasetSpec,
    LossSpec,
    ModelSpec,
    ProbeSpec,
    SourceSpec,
)
from halobench.experiment.problems import Problems

# The specs of a section by name; None in place of one that has a problem.
Specs = Mapping[str, Any]
REFERENCE = "reference"  # the loss that marks rows of calibrator-free predictors in tables


def check_data_root(raw: Mapping[str, Any]) -> None:
    """Check the types of ``data_root`` and ``fetch``, which `halobench.data.data_root` reads."""
    root, fetch = raw.get("data_root", "data"), raw.get("fetch", True)
    require(isinstance(root, str) and root, "data_root", root, "the path of a folder")
    require(isinstance(fetch, bool), "fetch", fetch, "true or false")


def parse_sections(raw: Mapping[str, Any], problems: Problems) -> dict[str, dict[str, Any]]:
    """Return the specs of each section with named specs, by section and name; None in place of bad ones."""
    parsers = {
        "sources": lambda name, keys: _without_defaults("data", parse(SourceSpec, keys)),
        "datasets": lambda name, keys: parse(DatasetSpec, _without_recipe(keys)),
        "models": lambda name, keys: _without_defaults("models", parse(ModelSpec, _without_recipe(keys))),
        "losses": lambda name, keys: _without_defaults("losses", parse(LossSpec, keys)),
        "probes": lambda name, keys: parse(ProbeSpec, {"kind": name} | dict(keys)),
    }
    return {section: parse_section(raw, section, parser, problems) for section, parser in parsers.items()}


def parse_section(
    raw: Mapping[str, Any], section: str, parser: Callable[[str, Any], Any], problems: Problems
) -> dict[str, Any]:
    """Return the specs of one section by name, each by `parser(name, keys)`; None in place of bad ones."""
    entries = raw.get(section)
    if not isinstance(entries, Mapping) or not entries:
        examples = f", such as {', '.join(plugins.names('probes'))}," if section == "probes" else ""
        problems.add(section, entries, f"a mapping of at least one name{examples} to its keys")
        return {}
    specs: dict[str, Any] = {}
    for name, keys in entries.items():
        place = f"{section}.{name}"
        specs[name] = None
        if not isinstance(keys, Mapping):
            problems.add(place, keys, "a mapping of keys")
        elif problems.guard("", check_name, place, name):
            specs[name] = problems.guard(place, parser, name, keys)
    return specs


def _without_recipe(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a data set or model without its recipe, which `recipes.parse_recipes` parses."""
    return {key: value for key, value in keys.items() if key != "recipe"}


def _without_defaults(kind: str, spec: Any) -> Any:
    """Return a plug-in's spec without options at their defaults; raise SpecError on an unknown plug-in or option."""
    name = spec.loader if kind == "data" else spec.name
    return dataclasses.replace(spec, options=plugins.without_defaults(kind, name, dict(spec.options)))


def parse_calibrate(raw: Mapping[str, Any]) -> CalibrateSpec:
    """Return the spec of the calibrate stages, from the sections ``calibrators`` and ``metrics``.

    Raises
    ------
    SpecError
        On unknown keys or calibrators, bad values, and a calibrator whose packages aren't installed.
    """
    calibrators = raw.get("calibrators", list(CalibrateSpec.calibrators))
    metrics = raw.get("metrics", {})
    if not isinstance(metrics, Mapping):
        raise SpecError("metrics", metrics, "a mapping of keys")
    keys = [field.name for field in dataclasses.fields(CalibrateSpec) if field.name != "calibrators"]
    for key in metrics:
        if key not in keys:
            raise SpecError(f"metrics.{key}", metrics[key], f"a key among {', '.join(keys)}{hint(keys, key)}")
    try:
        spec = parse(CalibrateSpec, {"calibrators": calibrators} | dict(metrics))
        check_installed(spec.plugged)
        return spec
    except SpecError as error:
        raise error if error.key.startswith("calibrators") else error.within("metrics") from None


def check_names(sections: Mapping[str, Specs], problems: Problems) -> None:
    """Check that names differ in more than capitals, since some disks ignore case, and that no loss is a reference."""
    for section, specs in sections.items():
        first: dict[str, str] = {}
        for name in filter(NAME.fullmatch, map(str, specs)):
            other = first.setdefault(name.lower(), name)
            if other != name:
                expected = f"a name that differs from {other!r} in more than capitals: names become folders"
                problems.add(f"{section}.{name}", name, expected)
    if REFERENCE in sections["losses"]:
        expected = "another name: tables mark predictors that were not trained by this one"
        problems.add(f"losses.{REFERENCE}", REFERENCE, expected)


def check_sources(sections: Mapping[str, Specs], problems: Problems) -> None:
    """Check that the sources that data sets and models refer to are in the configuration."""
    sources = sections["sources"]
    if not sources:
        return
    for section, key in (("datasets", "source"), ("models", "trained_on")):
        for name, spec in sections[section].items():
            source = None if spec is None else getattr(spec, key)
            if source is not None and source not in sources:
                problems.add(f"{section}.{name}.{key}", source, one_of(sources, source))
