"""One look at a run, as data and as text in a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from halobench.core.formatting import count, duration
from halobench.runner.monitor.eta import TimeLeft

FACTS = 45  # columns for what is known of a job beside its name; with fewer it stands under that
BAR = 24  # columns of a bar at most
BESIDE = 44  # columns beside it, but for the number of those done
SEVERAL = 8  # jobs of a list that are shown where the height isn't known
PARTS = ("running", "failed", "waiting")


@dataclass(frozen=True)
class Row:
    """The jobs of a stage: how many are done, run, failed and wait, and how many of the latter are in a queue."""

    stage: str
    done: int = 0
    running: int = 0
    failed: int = 0
    waiting: int = 0
    queued: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.running + self.failed + self.waiting


@dataclass(frozen=True)
class Running:
    """A job that runs: how far it is in words, for how many seconds it has run, and how many like ones took."""

    stage: str
    name: str
    seconds: float
    expected: float | None = None
    progress: str = ""
    where: str = ""

    @property
    def facts(self) -> str:
        """How far it is, in words."""
        took = duration(max(self.seconds, 0.0))
        took += f" of about {duration(self.expected)}" if self.expected is not None else ""
        return ", ".join(filter(None, [self.progress, took, self.where]))


@dataclass(frozen=True)
class Failed:
    """A job that failed, and the line of its log that tells why."""

    stage: str
    name: str
    why: str


@dataclass(frozen=True)
class Frame:
    """What is known of a run at a moment.

    Attributes
    ----------
    experiments : tuple of str
    rows : tuple of Row
        By stage, in the order in which they run.
    running, failed : tuple
        The jobs that do.
    masters : tuple of str
        What is known of each master that lives.
    left : TimeLeft or None
        None where nothing is left, or nothing is known of it.
    notes : tuple of str
        Whatever else there is to know.
    """

    experiments: tuple[str, ...]
    rows: tuple[Row, ...]
    running: tuple[Running, ...] = ()
    failed: tuple[Failed, ...] = ()
    masters: tuple[str, ...] = ()
    left: TimeLeft | None = None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Row:
        """All stages together."""
        keys = ("done", *PARTS, "queued")
        return Row("all", **{key: sum(getattr(row, key) for row in self.rows) for key in keys})

    @property
    def complete(self) -> bool:
        """Whether everything is done."""
        return self.total.done == self.total.total

    @property
    def goes_on(self) -> bool:
        """Whether a run is going on."""
        return bool(self.masters)

    @property
    def code(self) -> int:
        """The exit code that tells of it: 0 for complete, or going on without failures; else 1."""
        return 0 if self.complete or (self.goes_on and not self.total.failed) else 1


def bar(row: Row, width: int) -> Text:
    """A stage's jobs as a bar: done, failed, running and waiting ones.

    A part that there is of something is never shown as none of it, where the width allows.
    """
    made, used = Text(), 0
    shares = share((row.done, row.failed, row.running, row.waiting), width)
    for many, sign, style in zip(shares, "█▓▒░", ("green", "red", "cyan", "dim"), strict=True):
        made.append(sign * many, style=style)
        used += many
    return made.append(" " * (width - used))


def share(counts: Sequence[int], width: int) -> list[int]:
    """`width` divided in proportion to counts: at least 1 for what isn't 0, and all of it given."""
    total = sum(counts)
    if not total:
        return [0] * len(counts)
    shares = [max(1, width * many // total) if many else 0 for many in counts]
    while sum(shares) != width:
        step = 1 if sum(shares) < width else -1
        # What is furthest from its due, of those that can give.
        ranked = [(width * many / total - given) * step for many, given in zip(counts, shares, strict=True)]
        able = [i for i, many in enumerate(counts) if many and (step > 0 or shares[i] > 1)]
        if not able:
            break
        shares[max(able, key=lambda i: ranked[i])] += step
    return shares


def stages(frame: Frame, width: int) -> Table:
    """A row for each stage, and one for all."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    made.add_column("", no_wrap=True)
    made.add_column("", no_wrap=True)
    for name in ("done", *PARTS):
        made.add_column(name, justify="right", no_wrap=True)
    rows = (*frame.rows, frame.total)
    wide = max(3, min(BAR, width - BESIDE - max(len(f"{row.done:,}/{row.total:,}") for row in rows)))
    for row in rows:
        style = "bold" if row.stage == "all" else ""
        cells = [Text(f"{getattr(row, key):,}" if getattr(row, key) else "–") for key in PARTS]
        cells[1].stylize("red" if row.failed else "")
        done = Text(f"{row.done:,}/{row.total:,}")
        made.add_row(Text(row.stage, style=style), bar(row, wide), done, *cells, style=style)
    return made


def heading(frame: Frame) -> str:
    """What is to run, and whether it does."""
    alive = "; ".join(frame.masters) if frame.goes_on else "no run is going on"
    return f"{', '.join(frame.experiments)}: {alive}"


def left_told(frame: Frame) -> str:
    """The time left, and what it is told from; empty where there is none left."""
    left = frame.left
    if left is None or frame.complete:
        return ""
    jobs = count(left.unknown, "job")
    missing = f"{jobs} {'has' if left.unknown == 1 else 'have'} no like record" if left.unknown else ""
    blocked = f"; {count(left.blocked, 'job')} can't run for what failed" if left.blocked else ""
    if not left.known and left.unknown:
        return f"time left: unknown, since {missing}{blocked}"
    if not left.known:
        return f"no job is left that can run{blocked}"
    what = "time left" if frame.goes_on else "a run would take"
    least = f"at least {duration(left.seconds)}" if left.unknown else f"about {duration(left.seconds)}"
    bound = f"; {missing}: a lower bound" if left.unknown else ""
    return f"{what}: {least}, from {count(left.records, 'like record')}{bound}{blocked}"


def rendered(frame: Frame, width: int, height: int | None = None) -> RenderableType:
    """A frame for so many columns, and lines if they are limited."""
    parts: list[RenderableType] = [Text(heading(frame), style="bold" if frame.goes_on else "bold yellow")]
    parts += [Text(), stages(frame, width)]
    told = [left_told(frame), *frame.notes]
    if frame.complete:
        told.insert(0, "all is done")
    below: list[RenderableType] = [Text(), *(Text(line) for line in told if line)] if any(told) else []
    # Of a terminal's lines, those that are left are shared by both lists; each has a title and may have a remainder.
    lines = 2 if stacked((*frame.running, *frame.failed), width) else 1
    room = None if height is None else max(2, height - len(frame.rows) - 12 - len(below))
    most = SEVERAL if room is None else max(1, room // lines // (2 if frame.failed and frame.running else 1))
    if frame.running:
        parts += [Text(), Text("running", style="bold cyan"), *listed_running(frame.running, width, most)]
    if frame.failed:
        parts += [Text(), Text("failed", style="bold red"), *listed_failed(frame.failed, width, most)]
    return Group(*parts, *below)


def stacked(jobs: Sequence[Running | Failed], width: int) -> bool:
    """Whether columns are too few for what is known of jobs to stand beside their names."""
    return width < FACTS + max((len(job.stage) + len(job.name) for job in jobs), default=0)


def listed_running(running: Sequence[Running], width: int, most: int) -> Iterator[RenderableType]:
    """Jobs that run, with how far they are."""
    rows = [(job.stage, job.name, Text(job.facts)) for job in running[:most]]
    yield from listed(rows, stacked(running[:most], width), len(running) - len(rows))


def listed_failed(failed: Sequence[Failed], width: int, most: int) -> Iterator[RenderableType]:
    """Jobs that failed, with the line that tells why."""
    # A log's line leads with its cell where that diverged.
    rows = [(job.stage, job.name, Text(job.why.removeprefix(f"{job.name}: "), style="red")) for job in failed[:most]]
    yield from listed(rows, stacked(failed[:most], width), len(failed) - len(rows))


def listed(rows: Sequence[tuple[str, str, Text]], under: bool, more: int) -> Iterator[RenderableType]:
    """Jobs with what is known of them, beside their names or `under` these; and how many `more` there are."""
    if under:
        for stage, name, facts in rows:
            yield Padding(Text(f"{stage} {name}", overflow="fold"), (0, 0, 0, 2))
            yield Padding(facts, (0, 0, 0, 4))
    else:
        made = Table.grid(padding=(0, 2))
        made.add_column(no_wrap=True)
        made.add_column(no_wrap=True)
        made.add_column(overflow="fold", ratio=1)
        for stage, name, facts in rows:
            made.add_row(f"  {stage}", name, facts)
        yield made
    if more:
        yield Text(f"  and {more:,} more")


def line(frame: Frame) -> str:
    """A frame in one line, for a log."""
    total = frame.total
    queued = f" ({total.queued:,} of them in the queue)" if total.queued else ""
    counts = f"{total.done:,} of {count(total.total, 'job')} done, {total.running:,} running, {total.failed:,} failed"
    parts = [f"{counts}, {total.waiting:,} waiting{queued}", left_told(frame)]
    parts.append("all is done" if frame.complete else "" if frame.goes_on else "no run is going on")
    return f"{time.strftime('%H:%M:%S')}  {'; '.join(filter(None, parts))}"
