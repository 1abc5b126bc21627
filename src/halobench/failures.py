"""Which jobs failed or were stopped: those whose log was written in this run and whose output isn't there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SILENT = "(no word: killed, or never started)"
# What a stage leaves when it ends well, by the name of its log.
MADE = {
    "source": "sources/{}/source.json",
    "train": "runs/{}/train.json",
    "probe": "runs/{}/probe.json",
    "calibrate": "runs/{}/calibrate.json",
    "reference": "references/{}/reference.json",
    "manifest": "manifests/{}.json",
    "aggregate": "tables/{}/aggregate.json",
    "claims": "tables/{}/claims.json",
    "figure": "figures/{}.json",
}


@dataclass(frozen=True)
class Failure:
    """A job that failed: its stage, the cell or whatever else it was for, its log, and the log's last line."""

    stage: str
    name: str
    log: Path
    last: str


def failed(results: Path, since: float) -> list[Failure]:
    """The jobs under `results` that failed after `since` (seconds since the epoch).

    Read off the files, so that it holds for jobs of any executor, and for one that was killed without a word.
    """
    found = []
    for stage, made in MADE.items():
        folder = results / "logs" / stage
        for log in sorted(folder.rglob("*.log")):
            name = str(log.relative_to(folder)).removesuffix(".log")
            if log.stat().st_mtime >= since and not (results / made.format(name)).exists():
                found.append(Failure(stage, name, log, last_line(log)))
    return found


def last_line(log: Path) -> str:
    """The last line of a log that isn't empty; of a log that breaks off after its command, that it says nothing."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    if not lines or lines[-1].startswith("$ "):
        return SILENT
    return lines[-1].removeprefix("halobench: error: ")


def table(failures: Sequence[Failure]) -> str:
    """Failed and stopped jobs as text, two lines each."""
    stage, name = (max((len(getattr(f, key)) for f in failures), default=0) for key in ("stage", "name"))
    rows = [f"  {f.stage:{stage}}  {f.name:{name}}  {f.last}\n  {'':{stage}}  {f.log}" for f in failures]
    stopped = sum("stopped by SIG" in f.last for f in failures)
    counts = {"failed": len(failures) - stopped, f"{'was' if stopped == 1 else 'were'} stopped": stopped}
    told = " and ".join(f"{n} job{'s' * (n > 1)} {what}" for what, n in counts.items() if n)
    advice = "Run the same command to go on; with the target `partial` it draws what is there."
    return "\n".join([f"{told}; each with the last line of its log:", *rows, advice])
