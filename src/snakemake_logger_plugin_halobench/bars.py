"""Show a run live on a terminal: a bar for the total and per stage, the running jobs, and the time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

from halobench.core.formatting import duration
from halobench.runner.logs import Job
from halobench.storage.job_logs import SILENT, last_line
from halobench.storage.layout import STAGES

from .lines import Lines

AROUND = 6  # number of lines besides those for stages and running jobs
NARROW = 60  # terminal columns below which there are no bars
BAR, BESIDES = 30, 50  # terminal columns of a bar, and of what stands next to it


class Bars(Lines):
    """Draws bars below the messages, which scroll above them."""

    def __init__(self, settings: OutputSettingsLoggerInterface, console: Console | None = None):
        super().__init__(settings)
        self.console = console or Console(
            stderr=True, highlight=False, emoji=False, markup=False, no_color=settings.nocolor or None
        )
        self.live = Live(get_renderable=self.picture, console=self.console, refresh_per_second=2, redirect_stdout=False)

    def say(self, text: str) -> None:
        """Print some lines above the bars."""
        self.console.print(text, soft_wrap=True)

    def take(self, record: Any) -> None:
        """Show a record; from the first job on, also show the bars."""
        super().take(record)
        if self.running and not self.quiet:
            self.live.start()  # does nothing if it has already started

    def show_finished(self, job: Job) -> None:
        """Do nothing, since the bars already show finished jobs."""

    def close(self) -> None:
        """Leave the bars in their final state and print the summary below them."""
        self.settle()
        self.live.stop()
        super().close()

    def picture(self) -> RenderableType:
        """Return the bars and, while jobs run, the time left and each running job with the last line of its log."""
        states = [(job, job.state) for job in [*self.running.values(), *self.failed.values()]]
        counts = Counter((job.stage, state) for job, state in states)
        bars, shown = list[tuple[RenderableType, ...]](), list[tuple[RenderableType, ...]]()
        width = min(BAR, self.console.width - BESIDES)
        for stage in [*sorted(self.total, key=[*STAGES, *self.total].index), "all"]:
            stages = self.total if stage == "all" else [stage]
            done, total = (sum(jobs[name] for name in stages) for jobs in (self.done, self.total))
            bar = ProgressBar(total=total, completed=done, width=width, complete_style="green", finished_style="green")
            notes = ", ".join(f"{n:,} {state}" for (name, state), n in counts.items() if name == stage)
            style = "red" if "failed" in notes else ""
            bars.append((Text(stage, style), bar, Text(f"{done:,}/{total:,}", style), Text(notes, style)))
        if not self.running:
            return self._grid(bars, 2)
        running = [job for job, state in states if state == "running"]
        most = max(1, self.console.height - len(self.total) - AROUND)
        for job in running[:most]:
            last = last_line(job.log).replace(SILENT, "") if job.written else ""
            shown.append(
                (Text(f"  {job.name}"), Text(duration(job.age)), Text(last, no_wrap=True, overflow="ellipsis"))
            )
        if len(running) > most:
            shown.append((Text(f"  and {len(running) - most:,} more"), Text(), Text()))
        elapsed = f"{duration(time.time() - self.began)} elapsed{self.left(', about {} left')}"
        return Group(self._grid(bars, 2), elapsed, self._grid(shown, 1))

    def _grid(self, rows: Sequence[Sequence[RenderableType]], kept: int) -> RenderableType:
        """Return rows as a grid whose column `kept` is never wrapped or, in a narrow terminal, as lines of text."""
        if self.console.width < NARROW:
            return Group(*(Text(" ").join(cell for cell in row if isinstance(cell, Text)) for row in rows))
        grid = Table.grid(padding=(0, 1))
        for column in range(len(rows[0]) if rows else 0):
            grid.add_column(overflow="fold", no_wrap=column == kept)
        for row in rows:
            grid.add_row(*row)
        return grid
