"""Read configuration files, and the values that ``--config`` sets."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from halobench.core.errors import RefusedError, SpecError, shown
from halobench.experiment.config_loader import ConfigError
from halobench.experiment.grid import Config
from halobench.storage.yaml_io import DuplicateKeyError, StrictTextLoader, read_yaml


def typed(value: Any) -> Any:
    """Convert texts within a ``--config`` value that YAML reads as numbers, booleans or null; return the value.

    Snakemake leaves such values in lists and mappings as text.

    Examples
    --------
    >>> typed({"digits": {"train": "1000", "source": "digits"}})
    {'digits': {'train': 1000, 'source': 'digits'}}
    """
    if isinstance(value, Mapping):
        return {key: typed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [typed(part) for part in value]
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            plain = yaml.safe_load(value)
            return plain if isinstance(plain, int | float | None) else value
    return value


def typed_entries(entries: Iterable[str]) -> dict[str, Any]:
    """Return the values of entries ``KEY=VALUE`` by key, read as YAML or, if that fails, as text."""
    config = {}
    for key, _, text in (entry.partition("=") for entry in entries):
        try:
            config[key] = typed(yaml.load(text, StrictTextLoader))
        except DuplicateKeyError as error:
            raise RefusedError(f"--config {key}", f"{error.problem}; keep one of the two") from None
        except yaml.YAMLError:
            config[key] = text
    return config


def leaves(value: Any, key: str) -> Iterator[str]:
    """Yield the dotted key of each value within nested mappings."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from leaves(part, f"{key}.{name}")
    else:
        yield key


def read_file(path: Path | str) -> dict[str, Any]:
    """Return the content of a configuration file; raise ConfigError unless it is a YAML mapping with unique keys."""
    try:
        content = read_yaml(path)
    except SpecError as error:
        raise ConfigError([str(error)]) from None
    if not isinstance(content, Mapping):
        sections = ", ".join(field.name for field in dataclasses.fields(Config))
        raise ConfigError([f"{path}: found {shown(content)} at the top level, expected the sections {sections}"])
    return dict(content)
