"""How long a run still takes, from what its jobs are expected to take and what it may use at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from halobench.runner.forecast.plan import AROUND, Limits

CHAIN = ("train", "probe", "calibrate")  # a cell's stages: the first before the others
DRAWN = (
    "manifest",
    "aggregate",
    "claims",
    "table",
    "figure",
    "overview",
    "explorer",
)  # what waits for all cells, in this order


@dataclass(frozen=True)
class Rest:
    """What is left of a job: seconds (None: no like record is known) on so many threads.

    Parameters
    ----------
    cell : str
        What its jobs that wait for each other share.
    away : bool
        Whether it runs on a node of a cluster, and `submitted` whether it does so already.
    """

    stage: str
    cell: str
    seconds: float | None
    threads: int = 1
    away: bool = False
    submitted: bool = False

    @property
    def lasting(self) -> float:
        """Seconds as far as they are known, with those that a submission adds."""
        return (self.seconds or 0.0) + (AROUND if self.away and not self.submitted else 0.0)


@dataclass(frozen=True)
class TimeLeft:
    """Seconds that a run still takes, at least; from how many like records, and how many jobs have none.

    `known` counts the jobs that have one, and `blocked` those that wait for one that failed, which aren't in it.
    """

    seconds: float
    records: int
    unknown: int = 0
    blocked: int = 0
    known: int = 0


def chains(rests: Iterable[Rest]) -> dict[str, float]:
    """Seconds of each cell's jobs that wait for each other: its training, then the longer of probe and calibration."""
    first: dict[str, float] = {}
    then: dict[str, float] = {}
    for rest in rests:
        if rest.stage in ("probe", "calibrate"):
            then[rest.cell] = max(then.get(rest.cell, 0.0), rest.lasting)
        else:
            first[rest.cell] = rest.lasting
    return {cell: first.get(cell, 0.0) + then.get(cell, 0.0) for cell in {**first, **then}}


def drawing(rests: Iterable[Rest], cores: int) -> float:
    """Seconds of what waits for all cells: aggregation and claims in turn, then tables, figures and pages."""
    total, shown = 0.0, []
    for rest in rests:
        if rest.stage in ("table", "figure", "overview", "explorer"):
            shown.append(rest.lasting)
        else:
            total += rest.lasting
    return total + max(sum(shown) / cores, max(shown, default=0.0))


def seconds_left(rests: Sequence[Rest], most: Limits) -> float:
    """Seconds that jobs take at least, however well they fill what the run may use at once.

    The largest of: the longest chain of a cell's jobs; the seconds x threads of the jobs beside the master over its
    cores; the seconds of submitted jobs over the GPU slots or jobs at once. What waits for all cells is added.
    """
    cells = [rest for rest in rests if rest.stage not in DRAWN]
    here = sum(rest.lasting * rest.threads for rest in cells if not rest.away)
    away = sum(rest.lasting for rest in cells if rest.away)
    slots = min(filter(None, (most.gpus, most.jobs)), default=None) if most.remote else None
    bounds = [max(chains(cells).values(), default=0.0), here / most.cores, away / slots if slots else 0.0]
    return max(bounds) + drawing((rest for rest in rests if rest.stage in DRAWN), most.cores)


def time_left(rests: Sequence[Rest], most: Limits, records: int, blocked: int = 0) -> TimeLeft:
    """`seconds_left`, with what it is told from; a job without a like record counts as no time."""
    unknown = sum(rest.seconds is None for rest in rests)
    return TimeLeft(seconds_left(rests, most), records, unknown, blocked, len(rests) - unknown)
