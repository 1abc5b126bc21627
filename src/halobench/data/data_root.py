"""Find the data root (the folder of data sets), and say whether missing data sets may be downloaded to it.

Where data is stored isn't part of its identity, so specs don't contain the data root. Instead, a run's configuration
passes the data root to jobs through their environment.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import RefusedError, require
from halobench.storage.files import nearest_existing

CHANGES_NUMBERS = False  # see `halobench.experiment.code_version`
ROOT, FETCH = "HALOBENCH_DATA", "HALOBENCH_FETCH"
_noted: dict[str, str] = {}  # values that configurations have set in this process
_before: dict[str, str] = {}  # earlier values of the environment


def note(config: Mapping[str, Any]) -> None:
    """Put ``data_root`` and ``fetch`` from a configuration into the environment of this process and its children.

    A missing key stands for the environment's value from before any configuration or, if there was none, the default.
    Bad values count as missing, since `halobench.experiment.config_loader` reports them. SpecError is raised if a
    second configuration in this process, such as that of another module of a workflow, has a different value.
    """
    for variable, default in ((ROOT, "data"), (FETCH, "1")):
        _before.setdefault(variable, os.environ.get(variable) or default)
    values = dict(_before)
    if isinstance(config.get("data_root"), str) and config["data_root"]:
        values[ROOT] = config["data_root"]
    if isinstance(config.get("fetch"), bool):
        values[FETCH] = str(int(config["fetch"]))
    for variable, value in values.items():
        other = _noted.setdefault(variable, value)
        what = f"{other}, as in another module of this workflow, since all jobs share one environment"
        require(value == other, "data_root" if variable == ROOT else "fetch", value, what)
    os.environ.update(values)


def data_root() -> Path:
    """Return the data root: HALOBENCH_DATA or, by default, the folder ``data`` in the working directory."""
    return Path(os.environ.get(ROOT) or "data").expanduser()


def check_root() -> None:
    """Raise SpecError if the data root or, if it is missing, its nearest existing parent isn't a folder."""
    root = data_root()
    nearest = nearest_existing(root)
    if not nearest.is_dir():
        what = "a link that doesn't point to a folder" if nearest.is_symlink() else "not a folder"
        raise RefusedError(
            "data_root", f"{root} can't be a folder, since {nearest} is {what}; move it, or choose another data_root"
        )


def unfit(path: str | Path) -> str | None:
    """Describe what is at a path, following links; return None if it is a non-empty file or doesn't exist."""
    try:
        info = os.stat(path)
    except OSError:
        return "a broken link" if os.path.islink(path) else None
    if stat.S_ISREG(info.st_mode):
        return None if info.st_size else "an empty file"
    return "a folder" if stat.S_ISDIR(info.st_mode) else "not a regular file"


def may_fetch() -> bool:
    """Return whether missing data sets may be downloaded, which only HALOBENCH_FETCH=0 forbids."""
    return os.environ.get(FETCH) != "0"
