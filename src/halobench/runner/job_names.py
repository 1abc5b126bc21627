"""The names of jobs: their stage and what they are for, such as a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EACH = ("figure", "table")  # each figure and table has its own rule, named after it, such as figure_summary


@dataclass(frozen=True)
class PlannedJob:
    """A job as Snakemake reports it."""

    rule: str
    outputs: tuple[str, ...] = ()
    wildcards: Mapping[str, str] = field(default_factory=dict)
    log: str = ""

    @property
    def kind(self) -> str:
        """The job's stage.

        It is taken from the path of the job's log, because each figure and each table for print has its own rule, and a
        workflow that uses this one as a module may rename all rules.
        """
        if "/logs/" in f"/{self.log}":
            return f"/{self.log}".rpartition("/logs/")[2].partition("/")[0]
        kind = self.rule.partition("_")[0]
        return kind if kind in EACH else self.rule

    @property
    def label(self) -> str:
        """The job's cell, such as ``clean/cnn/mixup2/seed0``, or whatever its wildcards hold."""
        named = {key: value.rstrip("/") for key, value in self.wildcards.items() if value}
        parts = [f"seed{value}" if key == "seed" else value for key, value in named.items()]
        return "/".join([*parts, self.rule.partition(f"{self.kind}_")[2]] if self.kind in EACH else parts)

    @property
    def name(self) -> str:
        """The kind and the label."""
        return f"{self.kind} {self.label}".strip()
