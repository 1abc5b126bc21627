"""Record Snakemake's events as data."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

KEPT = ("input", "output", "reason", "threads")  # attributes of a job, by Snakemake's names
HIDDEN = ("_cores", "_nodes")  # resources that repeat threads and nodes


class EventFile:
    """Writes a line of JSON for each event that matters to `halobench why` and `halobench plan`.

    Each line has the key ``event``, which is ``workflow_started`` with ``cwd``, ``run_info`` with ``stats`` (jobs by
    rule), or ``job_info`` with the job's rule, wildcards, resources, threads, reason and files.
    Warnings and errors go to standard error.
    """

    def __init__(self, path: Path):
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115

    def take(self, record: logging.LogRecord) -> None:
        """Write down the contents of a record."""
        event = getattr(record, "event", None)
        if event in FACTS:
            json.dump({"event": str(event)} | FACTS[event](record), self._file)
            self._file.write("\n")
        elif record.levelno >= logging.WARNING:
            print(record.getMessage(), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _job(record: Any) -> dict[str, Any]:
    """Return a job's details; the values of resources are text, such as ``<TBD>`` if they aren't known yet."""
    resources = {name: str(value) for name, value in record.resources.items() if name not in HIDDEN}
    facts = {key: getattr(record, key) for key in KEPT}
    return facts | {"rule": record.rule_name, "wildcards": dict(record.wildcards), "resources": resources}


FACTS: dict[Any, Any] = {
    LogEvent.WORKFLOW_STARTED: lambda record: {"cwd": str(record.cwd)},
    LogEvent.RUN_INFO: lambda record: {"stats": dict(record.stats)},
    LogEvent.JOB_INFO: _job,
}
