"""Report, at the end of a run, its answers, the location of its results, and the next command to run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from halobench.core.errors import SpecError
from halobench.core.formatting import count, size
from halobench.runner import logs
from halobench.storage.files import nearest_existing, read_json

CLAIMS = "workflow/claims.yaml"  # the user's own claims, next to the configuration
INDEX = "index.html"  # the page that leads to all others
_place = [Path("results")]  # the results folder of this process's run


def note_place(results: Path) -> None:
    """Note the results folder of this process's run."""
    _place[:] = [results]


def place() -> Path:
    """Return the results folder of this process's run."""
    return _place[0]


def say(line: str) -> None:
    """Print one of halobench's own lines among Snakemake's."""
    print(f"halobench: {line}", file=sys.stderr, flush=True)


def summary(outputs: Iterable[str]) -> list[str]:
    """Return lines about what a run found and wrote, from its jobs' `outputs`; without outputs, name any index page."""
    paths = sorted(map(PurePosixPath, outputs))
    if not paths:
        index = place() / INDEX
        return [f"See {index}."] if index.exists() else []
    lines = [line for path in paths if path.name == "answers.json" for line in answer_lines(Path(path))]
    indices = [path for path in paths if path.name == INDEX]
    figures = {path.parent for path in paths if "figures" in path.parts and path.suffix == ".png"}
    lines += [f"Figures: {folder}" for folder in sorted(figures)] if not indices else []
    return lines + [f"Start at {path}: it leads to all figures, tables and claims." for path in indices]


def unfinished(tally: str, failed: Sequence[logs.Job], stopped: int) -> list[str]:
    """Return the final lines of an incomplete run, in which `stopped` jobs were stopped by a signal."""
    if not failed:
        return [f"The run was stopped: {tally}. The same command resumes it."]
    ends = f", {len(failed):,} failed" + (f", {stopped:,} stopped" if stopped else "")
    return [
        f"{count(len(failed), 'job')} failed; here are the last lines of each log:",
        *(line for job in failed for line in job.describe()),
        f"{tally}{ends}.",
        *filter(None, [full_disk_line(place())]),
        "Run the same command to resume, or with the target `partial` to draw the finished cells.",
    ]


def full_disk_line(folder: Path, least: int = 2**20) -> str:
    """Return a warning if fewer than `least` bytes are free where `folder` is, too few for logs; otherwise, ""."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    return f"{folder}: No space left on device ({size(free)} free): make room first." if free < least else ""


def answer_lines(answers: Path) -> list[str]:
    """Return lines with the answers and the outcomes of a user's own claims in a file; [] if it can't be read."""
    try:
        said = read_json(answers, ["answers", "claims"])
        lines = [f"{each['question']} {each['lead']}" for each in said["answers"]]
        lines += [f"{each['statement']}: {each['found']}." for each in said["claims"]]
    except (SpecError, TypeError, KeyError):
        return []
    return [f"{answers.parent.name}:", *(f"  {line}" for line in lines)]
