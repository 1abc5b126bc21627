"""The data root: the folder that data sets are read from, and whether those that it lacks may be fetched into it.

Where data lie is no part of what they are, so it is in no spec: a run's configuration hands it on to its jobs in their
environment.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError

ROOT, FETCH = "HALOBENCH_DATA", "HALOBENCH_FETCH"
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def note(config: Mapping[str, Any]) -> None:
    """Let what a configuration says under ``data_root`` and ``fetch`` count in this process and those that it starts.

    What it doesn't say is left as the environment has it. Bad values are passed over:
    `halobench.experiment.config_loader` tells them.
    """
    if isinstance(config.get("data_root"), str) and config["data_root"]:
        os.environ[ROOT] = config["data_root"]
    if isinstance(config.get("fetch"), bool):
        os.environ[FETCH] = str(int(config["fetch"]))


def data_root() -> Path:
    """The data root: HALOBENCH_DATA, else the folder ``data`` in the working directory."""
    return Path(os.environ.get(ROOT) or "data").expanduser()


def check_root() -> None:
    """Raise SpecError if the data root is there but no folder, or can't be made since what it would lie in is none."""
    root = data_root()
    nearest = next((place for place in (root, *root.parents) if os.path.lexists(place)), None)
    if nearest is not None and not nearest.is_dir():
        what = "a link that leads to no folder" if nearest.is_symlink() else "no folder"
        raise SpecError("data_root", str(root), f"a folder, and {nearest} is {what}")


def unfit(path: str | Path) -> str | None:
    """What lies at a path where a file should, in words; None of a file that isn't empty. Links are followed.

    Raises
    ------
    OSError
        If nothing lies there, not even a link, or it can't be looked at.
    """
    try:
        info = os.stat(path)
    except OSError:
        if os.path.islink(path):
            return "a link that leads nowhere"
        raise
    if stat.S_ISREG(info.st_mode):
        return None if info.st_size else "an empty file"
    return KINDS.get(stat.S_IFMT(info.st_mode), "no file")


def may_fetch() -> bool:
    """Whether data sets that aren't there may be fetched: unless HALOBENCH_FETCH is 0."""
    return os.environ.get(FETCH) != "0"
