"""Requests: what a job is asked to do, and by which code, in a file named after its content.

A request is an input of its job. A changed value or a changed module gives a request of another name, which Snakemake
sees as a changed set of inputs. A request never changes under its name, so its time says nothing: all have the same old
one, and a folder of requests that was lost or copied reruns nothing.
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
STALE = 1 * DAY  # the time of a record that was set back, in seconds since the epoch
TIME = 2 * DAY  # of every request: older than any result that was not set back


@dataclass(frozen=True)
class Request:
    """What a job is asked to do.

    Attributes
    ----------
    stage : str
        A key of `halobench.storage.layout.STAGES`.
    spec : mapping
        What to do, as plain data. Jobs that differ in their seed alone share it.
    code : mapping of str to str
        The modules that the result depends on, with their digests.
    """

    stage: str
    spec: Mapping[str, Any]
    code: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of its file, after its content."""
        text = to_json([self.stage, self.spec, dict(self.code)])
        return f"{self.stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def write_request(results: Path, request: Request, again: bool = False) -> Path:
    """Write a request below a results folder unless it is there, undamaged; return its path.

    With `again` it is written in any case, and says when, so that its checksum is another one.
    """
    path = results / FOLDER / request.name
    content = {"stage": request.stage, "spec": request.spec, "code": dict(request.code)}
    if again or not _holds(path, content):
        when = {"again": datetime.now(UTC).isoformat(timespec="microseconds")} if again else {}
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(content | when, indent=1, sort_keys=True, allow_nan=False) + "\n")
            os.utime(temporary, (TIME, TIME))  # before others can see it
    return path


def _holds(path: Path, content: Mapping[str, Any]) -> bool:
    """Whether a file is there that holds this content: not cut short or edited, which would undo its results."""
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
        If the file is missing, is no request, or is one for another stage.
    """
    content = files.read_json(path, ["stage", "spec", "code"])
    if content["stage"] != stage:
        raise SpecError(f"{path}: stage", content["stage"], stage)
    return Request(stage, content["spec"], content["code"])


def outside_plugins(spec: Any) -> bool:
    """Return whether a spec names a plug-in outside the package, ``module:object``."""
    return OUTSIDE.search(to_json(spec)) is not None


def differences(record: Mapping[str, Any], request: Request, seed: int | None = None) -> list[str]:
    """Return what a record was made with that the request doesn't ask for: ``seed``, ``spec``, ``code``.

    A result is current if there is nothing.
    """
    wanted = {"seed": seed, "spec": request.spec, "code": dict(request.code)}
    return [part for part, value in wanted.items() if to_json(record.get(part)) != to_json(value)]
