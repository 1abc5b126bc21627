"""Define the layout of results: the stages and the files that they write.

Only this module knows which stages exist. The workflow's rules, logs, estimates, verification, aggregation and the
table of failed jobs all go through `STAGES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

CELL = "{dataset}/{model}/{loss}/seed{seed}"


@dataclass(frozen=True)
class Stage:
    """One stage: a program that turns files into other files and leaves a record of its work."""

    name: str  # of the stage, its command and its rule
    key: str  # identifies each of its jobs by the wildcards of its rule
    record: str  # the path of a job's record below the results folder; {} stands for its key
    # The files in the record's folder that it declares to Snakemake, besides its record. If `each` is true, {} stands
    # for the name of a figure or table.
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # the stages whose outputs it reads
    undeclared: tuple[str, ...] = ()  # other files that it may write there
    scoped: bool = False  # whether it can also run on only the finished cells, and then write below partial/
    each: bool = False  # whether each figure or table has its own rule, named {stage}_{name}
    long: bool = False  # whether a run on a cluster always submits it, instead of running it in the main process

    def record_path(self, key: str) -> str:
        return self.record.format(key)

    def paths(self, key: str) -> list[str]:
        """Return the paths of a job's declared outputs and its record, below the results folder."""
        record = PurePosixPath(self.record_path(key))
        return [*(str(record.parent / name.format(record.stem)) for name in self.outputs), str(record)]

    @property
    def log(self) -> str:
        return f"logs/{self.name}/{self.key}.log"

    @property
    def records(self) -> tuple[str, ...]:
        """Patterns for the paths of the stage's records below the results folder."""
        pattern = self.record.format("/".join("*" if "{" in part else part for part in self.key.split("/")))
        return (pattern, f"partial/{pattern}") if self.scoped else (pattern,)

    def wildcards(self, record: str) -> dict[str, str]:
        """Return the wildcards of the job that wrote a record, from its path below the results folder and scope."""
        match = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.record.format(self.key)), record)
        return match.groupdict() if match else {}

    @property
    def output_patterns(self) -> tuple[str, ...]:
        """Patterns for the paths of the stage's files; none if each figure or table has files of its own."""
        names = () if self.each else (*self.outputs, *self.undeclared)
        paths = map(PurePosixPath, self.records)
        return tuple(str(path.with_name(name.format(path.stem))) for path in paths for name in names)


COMPUTING = ("train", "probe", "repair")  # the stages whose jobs take longest
QUICK = 1.5  # seconds that a job of most other stages takes
TABLES = ("metrics", "neighbourhood", "radii", "reliability", "history", "runs")  # the tables of an experiment
ORIGINS = ("jobs", "fits")  # how the results were computed, for the experiment's pages; parquet only
ANSWERS = "answers.json"  # the answers to the four questions in words, by the stage `claims`
PAGES = ("overview", "leaderboard", "figures", "tables")
EXPLORED = ("metrics", "neighbourhood", "radii", "reliability", "runs", "history", *ORIGINS)  # read by the explorer

_STAGES = (
    Stage(
        "source",
        "{source}",
        "sources/{}/source.json",
        outputs=("meta.json",),
        undeclared=("images.npy", "labels.npy", "posterior.npy"),  # not in every source; stages restore lost ones
    ),
    Stage("weights", "{model}", "weights/{}/weights.json", outputs=("model.safetensors",)),
    Stage(
        "train",
        CELL,
        "runs/{}/train.json",
        outputs=("model.safetensors", "logits.safetensors", "history.csv"),
        needs=("source", "weights"),
        long=True,
    ),
    Stage(
        "probe",
        CELL,
        "runs/{}/probe.json",
        outputs=("neighbourhood.parquet", "radii.parquet"),
        needs=("source", "train"),
        long=True,
    ),
    Stage(
        "calibrate",
        CELL,
        "runs/{}/calibrate.json",
        outputs=("calibration.json", "metrics.csv", "reliability.csv"),
        needs=("train",),
    ),
    # Runs only on the cells of experiments that show repair ladders.
    Stage(
        "repair",
        CELL,
        "runs/{}/repair.json",
        outputs=("repair.csv",),
        needs=("source", "train"),
    ),
    Stage(
        "reference",
        "{dataset}/seed{seed}",
        "references/{}/reference.json",
        outputs=("calibration.json", "metrics.csv"),
        needs=("source",),
    ),
    # The manifest is its own record, since it contains its own checksum and takes only a moment to write.
    Stage(
        "manifest",
        "{experiment}",
        "manifests/{}.json",
        needs=("train", "probe", "calibrate", "repair", "reference"),
        scoped=True,
    ),
    Stage(
        "aggregate",
        "{experiment}",
        "tables/{}/aggregate.json",
        outputs=(
            *(f"{table}.{suffix}" for table in TABLES for suffix in ("csv", "parquet")),
            *(f"{table}.parquet" for table in ORIGINS),
        ),
        needs=("manifest",),
        scoped=True,
    ),
    Stage(
        "claims",
        "{experiment}",
        "tables/{}/claims.json",
        outputs=("claims.csv", "claims.parquet", "claims.html", ANSWERS),
        needs=("aggregate",),
        scoped=True,
    ),
    Stage(
        "table",
        "{experiment}/{name}",
        "tables/{}.json",
        outputs=("{}.csv", "{}.tex", "{}.html"),
        needs=("aggregate", "claims"),
        scoped=True,
        each=True,
    ),
    Stage(
        "figure",
        "{experiment}/{name}",
        "figures/{}.json",
        outputs=("{}.png", "{}.pdf", "{}.svg"),
        needs=("aggregate", "claims"),
        scoped=True,
        each=True,
    ),
    Stage(
        "overview",
        "{experiment}",
        "tables/{}/overview.json",
        outputs=tuple(f"{page}.html" for page in PAGES),
        needs=("aggregate", "claims"),
        scoped=True,
    ),
    Stage(
        "explorer",
        "explorer",
        "{}.json",
        outputs=("{}.html", "index.html"),
        needs=("aggregate", "claims", "figure"),
        scoped=True,
    ),
)
STAGES: Mapping[str, Stage] = {stage.name: stage for stage in _STAGES}  # in the order in which they run
CELL_STAGES = tuple(stage for stage in _STAGES if stage.key == CELL)


def stage_records(probed: bool, laddered: bool = False) -> tuple[str, ...]:
    """Return the names of a cell's records, which depend on whether it is probed and has a repair ladder."""
    optional = {"probe": probed, "repair": laddered}
    return tuple(f"{stage.name}.json" for stage in CELL_STAGES if optional.get(stage.name, True))
