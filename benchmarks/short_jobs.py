"""Compute what 20,000 cells of two minutes take on a cluster, in different ways: `python benchmarks/short_jobs.py`.

Nothing is measured here. The overheads are the results of `python benchmarks/cluster_overhead.py`; the other
assumptions are that all slots are busy all the time, that SLURM starts the next job the moment a slot is free, and that
the limit on slots is as high as the number of slots, so a slot is idle until the main process has seen that its job has
ended. A queue with other users' jobs adds its waiting time to each round of jobs, and to one allocation only once.
"""

from __future__ import annotations

from typing import NamedTuple

CELLS, SECONDS, SLOTS = 20_000, 120.0, 8  # cells, the seconds of one cell's three stages, and GPU slots
STAGES = 3  # train, probe and calibrate; the last runs in the main process unless it is in a group
LOOK = 20.0  # seconds between two looks at the queue
# Measured seconds: in a submitted job besides its stage, for a further stage of a group, and for a local job.
SUBMITTED, GROUPED, LOCAL = 6.0, 7.0, 0.7
ELEMENTS = 50  # of an array: about 75 make a command that is too long
NOTICED = LOOK / 2 + 2.0  # from the end of a job until the next one is submitted


class Way(NamedTuple):
    """A way to run all cells: its seconds per cell and slot, jobs, and submissions."""

    name: str
    seconds: float
    jobs: int
    submissions: int

    @property
    def hours(self) -> float:
        return CELLS * self.seconds / SLOTS / 3600

    def row(self) -> str:
        looks = self.hours * 3600 / LOOK if self.submissions > 1 else 0
        return f"| {self.name} | {self.hours:.0f} | {self.jobs:,} | {self.submissions:,} | {looks:,.0f} |"


def ways() -> list[Way]:
    """Return all ways; `stages` is as plain as the profile makes it."""
    stages = SECONDS + 2 * (SUBMITTED + NOTICED)
    return [
        Way("a job per stage", stages, 2 * CELLS, 2 * CELLS),
        Way(f"the same in arrays of {ELEMENTS}", stages, 2 * CELLS, 2 * CELLS // ELEMENTS),
        Way("a group per cell", SECONDS + SUBMITTED + (STAGES - 1) * GROUPED + NOTICED, CELLS, CELLS),
        Way("one allocation", SECONDS + STAGES * LOCAL, 1, 1),
    ]


def main() -> None:
    print(f"{CELLS:,} cells of {SECONDS:.0f} s on {SLOTS} slots: {CELLS * SECONDS / SLOTS / 3600:.0f} h of work alone")
    print("| way | hours | jobs | sbatch calls | squeue calls |\n|---|---|---|---|---|")
    for way in ways():
        print(way.row())


if __name__ == "__main__":
    main()
