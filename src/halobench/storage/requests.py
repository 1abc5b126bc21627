"""Requests: files, named after their content, that state what a job should do and with which code.

A request is an input of its job. If a value or a module changes, the request gets a different name, which Snakemake
sees as a changed set of inputs. The content under a name never changes, so its modification time carries no
information. All requests have the same time in the distant past, so losing or copying a folder of them reruns nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError
from halobench.core.spec_codec import to_json
from halobench.storage import files

FOLDER = "requests"  # below the results folder
DAY = 86_400
OUTSIDE = re.compile(r'"[A-Za-z_][\w.]*:[A-Za-z_]\w*"')  # a plug-in outside the package, in JSON
STALE = 1 * DAY  # the time given to a record that is set back, in seconds since the epoch
TIME = 2 * DAY  # the time of every request: older than any result that wasn't set back


@dataclass(frozen=True)
class Request:
    """What a job should do.

    Attributes
    ----------
    stage : str
        A key of `halobench.storage.layout.STAGES`.
    spec : mapping
        What to do, as plain data. Jobs that differ only in their seed share it.
    code : mapping of str to str
        The modules that the result depends on, with their digests.
    """

    stage: str
    spec: Mapping[str, Any]
    code: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of its file, derived from its content."""
        text = to_json([self.stage, self.spec, dict(self.code)])
        return f"{self.stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def write_request(results: Path, request: Request, again: bool = False) -> Path:
    """Write a request below a results folder unless an undamaged copy exists; return its path.

    With `again`, it is always written and includes the current time, so its checksum changes.
    """
    path = results / FOLDER / request.name
    content = {"stage": request.stage, "spec": request.spec, "code": dict(request.code)}
    if again or not _holds(path, content):
        when = {"again": datetime.now(UTC).isoformat(timespec="microseconds")} if again else {}
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(content | when, indent=1, sort_keys=True, allow_nan=False) + "\n")
            os.utime(temporary, (TIME, TIME))  # before others can see it
    elif path.stat().st_mtime != TIME:  # it was copied, or touched
        os.utime(path, (TIME, TIME))
    return path


def _holds(path: Path, content: Mapping[str, Any]) -> bool:
    """Return whether a file holds this content; a truncated or edited one would invalidate its results."""
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and to_json({key: held[key] for key in held if key != "again"}) == to_json(content)


def read_request(path: Path | str, stage: str) -> Request:
    """Read a request for a stage.

    Raises
    ------
    SpecError
        If the file is missing, isn't a request, or is a request for another stage.
    """
    content = files.read_json(path, ["stage", "spec", "code"])
    if content["stage"] != stage:
        raise SpecError(f"{path}: stage", content["stage"], stage)
    return Request(stage, content["spec"], content["code"])


def outside_plugins(spec: Any) -> bool:
    """Return whether a spec uses a plug-in outside the package, ``module:object``."""
    return OUTSIDE.search(to_json(spec)) is not None


def differences(record: Mapping[str, Any], request: Request, seed: int | None = None) -> list[str]:
    """Return which of ``seed``, ``spec`` and ``code`` differ between a record and a request.

    A result is current if none differs.
    """
    wanted = {"seed": seed, "spec": request.spec, "code": dict(request.code)}
    return [part for part, value in wanted.items() if to_json(record.get(part)) != to_json(value)]
