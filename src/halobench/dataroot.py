"""The data root: the folder that data sets are read from, and whether those that it lacks may be fetched into it.

Where data lie is no part of what they are, so it is in no spec: a run's configuration hands it on to its jobs in their
environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT, FETCH = "HALOBENCH_DATA", "HALOBENCH_FETCH"


def note(config: Mapping[str, Any]) -> None:
    """Let what a configuration says under ``data_root`` and ``fetch`` count in this process and those that it starts.

    What it doesn't say is left as the environment has it. Bad values are passed over: `halobench.config` tells them.
    """
    if isinstance(config.get("data_root"), str) and config["data_root"]:
        os.environ[ROOT] = config["data_root"]
    if isinstance(config.get("fetch"), bool):
        os.environ[FETCH] = str(int(config["fetch"]))


def data_root() -> Path:
    """The data root: HALOBENCH_DATA, else the folder ``data`` in the working directory."""
    return Path(os.environ.get(ROOT) or "data").expanduser()


def may_fetch() -> bool:
    """Whether data sets that aren't there may be fetched: unless HALOBENCH_FETCH is 0."""
    return os.environ.get(FETCH) != "0"
