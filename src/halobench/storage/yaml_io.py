"""Read YAML of plain data, refusing mappings with duplicate keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from halobench.core.errors import RefusedError, describe_error


class DuplicateKeyError(yaml.composer.ComposerError):
    """Raised if a mapping has a key twice, since PyYAML would keep only the last value."""


class UniqueKeys(yaml.composer.Composer):
    """The part of a loader that refuses duplicate keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Node] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            other = first.setdefault((key.tag, key.value), key)
            if other is not key:
                why = f"the key {key.value!r} is already defined on line {other.start_mark.line + 1}"
                raise DuplicateKeyError(None, None, why, key.start_mark)
        return node


class StrictLoader(UniqueKeys, yaml.SafeLoader):
    """A loader that builds only plain data with unique keys."""


class StrictTextLoader(UniqueKeys, yaml.BaseLoader):
    """A loader like `StrictLoader`, except that it reads all values, such as numbers, as text."""


def read_yaml(path: Path | str) -> Any:
    """Read a file of YAML or JSON; raise SpecError unless it is plain data with unique keys."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "no such file" if missing else f"can't be read as UTF-8 text ({describe_error(error)})"
        raise RefusedError(str(path), why) from None
    try:
        return yaml.load(text, StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        why = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
        why += "; indent with spaces, not tabs" if "'\\t'" in why else ""
        raise RefusedError(where, f"can't be read as YAML with plain data and unique keys ({why})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RefusedError(str(path), f"can't be read as YAML ({describe_error(error)})") from None
