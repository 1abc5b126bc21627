"""Define the layout of results: the stages, and the files that they write.

A stage declares itself in its own file, in the literal ``STAGE`` of ``pipeline/stages/NAME.py``, which is read without
being imported. The workflow's rules, the job list, the status, logs, estimates, verification, aggregation and the
command line all rely on `STAGES`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath
from typing import Any

from pydantic import Field

from halobench.core import plugins
from halobench.core.errors import RefusedError, naming, one_of, refuse, require
from halobench.core.plugins.kinds import PACKAGE, kinds
from halobench.core.specs.codec import Count, Flag, Text, parse, spec

CELL = "{dataset}/{model}/{loss}/seed{seed}"
FILE = re.compile(r"(\{\}|[\w-]+)(\.\w+)+")  # the name of a file that a stage writes
TARGET = re.compile(r"[a-z_]*")


@dataclass(frozen=True)
class Unit:
    """The unit that one job of a stage works on, such as a cell."""

    key: str  # identifies it by the wildcards of the stage's rule; empty if there is only one
    record: str  # the path of a job's record below the results folder; {} stands for the job's key
    scoped: bool = False  # whether it can also be made from only the finished cells, and is then below partial/
    each: bool = False  # whether each has a rule of its own, named {stage}_{name}


UNITS = {
    "source": Unit("{source}", "sources/{}/STAGE.json"),
    "model": Unit("{model}", "weights/{}/STAGE.json"),
    "cell": Unit(CELL, "runs/{}/STAGE.json"),
    "dataset": Unit("{dataset}/seed{seed}", "references/{}/STAGE.json"),  # drawn with a seed
    "experiment": Unit("{experiment}", "tables/{}/STAGE.json", scoped=True),
    "table": Unit("{experiment}/{name}", "tables/{}.json", scoped=True, each=True),
    "figure": Unit("{experiment}/{name}", "figures/{}.json", scoped=True, each=True),
    "run": Unit("", "{}.json", scoped=True),
}


@spec
class Stage:
    """A stage: a program that turns files into other files and leaves a record of its work."""

    name: Text  # of the stage, its command and its rule
    of: Text  # what each of its jobs works on, a key of `UNITS`
    # The files that it reads, or patterns of their names, by the stage that writes them. An empty list stands for files
    # that depend on the job.
    reads: Mapping[Text, tuple[Text, ...]] = Field(default_factory=dict)
    # The files in the record's folder that it declares to Snakemake, besides its record; in those of figures and tables
    # for print, {} stands for their names.
    writes: tuple[Text, ...] = ()
    may_write: tuple[Text, ...] = ()  # other files that it may write there
    code: tuple[Text, ...] = ()  # the modules on which its numbers depend (see `halobench.experiment.code_version`)
    cells: Text = ""  # the method of `Config` that returns the cells of an experiment that it is for; by default, all
    target: Text = ""  # the target of the workflow that asks for its results, e.g. ``calibrations``
    device: Flag = False  # whether it uses the recipe's device and threads, and saves checkpoints
    memory: Count = 2000  # MiB
    minutes: Count = 30  # after which a cluster ends its job
    record: Text = ""  # the path of its record below the results folder, by default that of its unit

    def __post_init__(self) -> None:
        require(self.of in UNITS, "of", self.of, one_of(UNITS, self.of))
        object.__setattr__(self, "record", self.record or UNITS[self.of].record.replace("STAGE", self.name))

    @property
    def key(self) -> str:
        return UNITS[self.of].key or self.name

    @property
    def scoped(self) -> bool:
        return UNITS[self.of].scoped

    @property
    def each(self) -> bool:
        return UNITS[self.of].each

    @property
    def names(self) -> tuple[str, ...]:
        """Return the wildcards that identify the stage's jobs."""
        return tuple(re.findall(r"{(\w+)}", self.key))

    def record_path(self, key: str) -> str:
        return self.record.format(key)

    def files(self, names: Iterable[str], key: str) -> list[str]:
        """Return the paths, below the results folder, of the files that the stage writes under these names."""
        record = PurePosixPath(self.record_path(key))
        return [str(record.parent / name.format(record.stem)) for name in names]

    def paths(self, key: str) -> list[str]:
        """Return the paths of a job's declared outputs and its record, below the results folder."""
        return [*self.files(self.writes, key), self.record_path(key)]

    @property
    def log(self) -> str:
        return f"logs/{self.name}/{self.key}.log"

    @property
    def records(self) -> tuple[str, ...]:
        """Return patterns for the paths of the stage's records below the results folder."""
        pattern = self.record.format("/".join("*" if "{" in part else part for part in self.key.split("/")))
        return (pattern, f"partial/{pattern}") if self.scoped else (pattern,)


def declared(name: str) -> Stage:
    """Return a stage as its file declares it; SpecError is raised if a key or a value is wrong."""
    plugin = plugins.find("stages", name)
    said: Any = plugin.constants.get("STAGE", {})
    place = f"{plugin.path.name}: STAGE"
    require(isinstance(said, Mapping), place, said, "a mapping with the keys of `halobench.storage.layout.Stage`")
    for key in ("of", "writes", "code"):
        refuse(not said.get(key), place, f"has no `{key}`; add it, as `halobench.storage.layout.Stage` describes it")
    for key in ("name", "record"):
        refuse(key in said, f"{place}.{key}", "follows from the file's name and `of`; leave it out")
    with naming(place):
        stage = parse(Stage, {**said, "name": name})
    written = [*stage.writes, *stage.may_write]
    for file in written:
        named = "{}" not in file or "{}" in PurePosixPath(stage.record).name
        good = FILE.fullmatch(file) and named and file != f"{name}.json"
        what = "the name of a file in the folder of its record, with a suffix; it isn't the record itself"
        require(good and written.count(file) == 1, f"{place}.writes", file, f"{what}, and is listed once")
    require(TARGET.fullmatch(stage.target), f"{place}.target", stage.target, "lower-case letters and _")
    unknown = [module for module in stage.code if not _is_module(module)]
    refuse(unknown, f"{place}.code", f"names {', '.join(unknown)}, which isn't a module of halobench; correct it")
    return stage


def _is_module(dotted: str) -> bool:
    path = PACKAGE.joinpath(*dotted.split("."))
    return "/" not in dotted and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def in_order(stages: Iterable[Stage]) -> dict[str, Stage]:
    """Return stages by name, ordered so that each stage reads only files that earlier stages write.

    RefusedError is raised if a stage reads a file that no stage writes, or if stages read each other's files.
    """
    known = {stage.name: stage for stage in stages}
    known = {stage.name: _with_files(stage, known) for stage in known.values()}
    _check_apart(known.values())
    order, ordered = TopologicalSorter({stage.name: [*stage.reads] for stage in known.values()}), list[Stage]()
    try:
        order.prepare()
    except CycleError as error:
        names = ", ".join(dict.fromkeys(error.args[1]))
        raise RefusedError("stages", f"what {names} reads is made from what it writes; break the circle") from None
    while order.is_active():
        ready = order.get_ready()
        ordered += sorted(map(known.__getitem__, ready), key=lambda stage: (not stage.device, stage.name))
        order.done(*ready)
    return {stage.name: stage for stage in ordered}


def _check_apart(stages: Iterable[Stage]) -> None:
    """Raise SpecError if two stages write the same file, or if a target has the name of a rule."""
    writers: dict[str, str] = {}
    taken = {*(stage.name for stage in stages), "all", "partial", "partial_manifest"}
    for stage in stages:
        refuse(
            stage.target in taken,
            f"stages.{stage.name}: target",
            f"a rule is named {stage.target}; choose another name",
        )
        for path in [*stage.paths(stage.key), *stage.files(stage.may_write, stage.key)]:
            other = writers.setdefault(path, stage.name)
            refuse(
                other != stage.name,
                f"stages.{stage.name}",
                f"{other} writes {PurePosixPath(path).name} there, too; rename it",
            )


def _with_files(stage: Stage, known: Mapping[str, Stage]) -> Stage:
    """Return a stage in which patterns such as ``*.parquet`` are replaced by the names of the files that it reads."""
    read = {}
    for source, patterns in stage.reads.items():
        place = f"stages.{stage.name}"
        refuse(source not in known, place, f"reads files of {source!r}, which isn't a stage; name one of {list(known)}")
        few, writes = known[source].cells, known[source].writes
        found = {"source": {"dataset"}, "weights": {"model"}}.get(source, set(known[source].names))
        shared = found <= set(stage.names) or stage.of == "run" or stage.name == "manifest"
        what = f"reads files of {source}, one per {' and '.join(sorted(found))}, which don't identify its own jobs"
        refuse(not shared, place, f"{what}; leave it out, or choose another `of`")
        apart = stage.of == "cell" and few not in ("", stage.cells)
        refuse(apart, place, f"reads files of {source}, which runs on some cells only; set its `cells` to {few!r}, too")
        unknown = [pattern for pattern in patterns if not fnmatch.filter(writes, pattern)]
        refuse(unknown, place, f"reads {', '.join(unknown)}, but {source} writes {', '.join(writes)}")
        read[source] = tuple(name for pattern in patterns for name in fnmatch.filter(writes, pattern))
    return dataclasses.replace(stage, reads=read)


# Snakemake itself writes manifests, since a list of thousands of cells doesn't fit on a command line. A manifest is its
# own record: it contains its own checksum, and takes only a moment to write.
# Every file counts, since a stage whose function is misspelt would be missing without a word.
_COMMANDS = [declared(path.stem) for path in sorted(kinds()["stages"].folder.glob("[!_]*.py"))]
_OF_CELLS = {stage.name: () for stage in _COMMANDS if stage.of in ("cell", "dataset")}
MANIFEST = Stage(name="manifest", of="experiment", reads=_OF_CELLS, record="manifests/{}.json")
STAGES: Mapping[str, Stage] = in_order([*_COMMANDS, MANIFEST])
CELL_STAGES = tuple(stage for stage in STAGES.values() if stage.of == "cell")
TARGETS = {
    target: tuple(s.name for s in STAGES.values() if s.target == target)
    for target in dict.fromkeys(stage.target for stage in STAGES.values() if stage.target)
}

_TABLES = [PurePosixPath(name) for name in STAGES["aggregate"].writes]
TABLES = tuple(path.stem for path in _TABLES if path.suffix == ".csv")  # the tables of an experiment
# How the results were computed, for the experiment's pages; parquet only.
ORIGINS = tuple(path.stem for path in _TABLES if path.stem not in TABLES)
ANSWERS = "answers.json"  # the answers to the four questions in words, by the stage `claims`
PAGES = tuple(name.removesuffix(".html") for name in STAGES["overview"].writes)
# The tables that the explorer reads.
EXPLORED = tuple(name.removesuffix(".parquet") for name in STAGES["explorer"].reads["aggregate"])
