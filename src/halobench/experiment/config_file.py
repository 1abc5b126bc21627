"""Read the files of a configuration, and check them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from halobench.core.errors import describe_error, shown
from halobench.experiment.config_loader import ConfigError
from halobench.experiment.grid import Config

MOST = 300_000  # largest number of parts of a file as JSON, in which each alias is expanded


class StrictLoader(yaml.SafeLoader):
    """A loader that builds only plain data and refuses duplicate keys in a mapping (YAML would keep the last value)."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Node] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            other = first.setdefault((key.tag, key.value), key)
            if other is not key:
                why = f"the key {key.value!r} is already defined on line {other.start_mark.line + 1}"
                raise yaml.composer.ComposerError(None, None, why, key.start_mark)
        return node


def typed(value: Any) -> Any:
    """Convert a ``--config`` value as YAML would, since Snakemake leaves numbers in lists and mappings as text.

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
    """Read entries of the form ``KEY=VALUE``, where VALUE is YAML."""
    config = {}
    for key, _, text in (entry.partition("=") for entry in entries):
        try:
            config[key] = typed(yaml.load(text, yaml.BaseLoader))
        except yaml.YAMLError:
            config[key] = text
    return config


def read_file(path: Path | str) -> dict[str, Any]:
    """Read a configuration file: YAML or JSON of plain data, with sections at the top and unique keys."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "no such file" if missing else f"can't be read as UTF-8 text ({describe_error(error)})"
        raise ConfigError([f"{path}: {why}"]) from None
    try:
        content = yaml.load(text, StrictLoader)
        parts = json.JSONEncoder(default=str, skipkeys=True).iterencode(content)  # refuses circular references
        endless = len(list(itertools.islice(parts, MOST))) == MOST
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        why = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
        why += "; indent with spaces, not tabs" if "'\\t'" in why else ""
        raise ConfigError([f"{where}: can't be read as YAML with plain data and unique keys ({why})"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: can't be read as YAML ({describe_error(error)})"]) from None
    if endless:
        raise ConfigError([f"{path}: YAML aliases expand to too much data"])
    if not isinstance(content, Mapping):
        sections = ", ".join(field.name for field in dataclasses.fields(Config))
        raise ConfigError([f"{path}: found {shown(content)} at the top level, expected the sections {sections}"])
    return dict(content)
