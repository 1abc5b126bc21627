"""Show a run live on a terminal: a total bar and one per stage, the running jobs, and the time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

from halobench.core.formatting import duration

from .lines import Lines
from .progress import Started

BAR = 30  # width of a bar in columns
RUNNING = 11  # columns reserved for the number of running jobs, so nothing moves when it changes
STYLES = {"running": "", "in the queue": "", "failed": "red", "stopped": "yellow"}
AROUND = 6  # lines other than those for stages and running jobs


class Bars(Lines):
    """Draws bars below the messages, which scroll above them."""

    def __init__(self, settings: OutputSettingsLoggerInterface, console: Console | None = None):
        super().__init__(settings)
        self.console = console or Console(
            stderr=True, highlight=False, emoji=False, markup=False, no_color=settings.nocolor or None
        )
        self._live: Live | None = None
        self._closed = False

    def say(self, text: str) -> None:
        """Print some lines above the bars."""
        self.console.print(text, soft_wrap=True)

    def show_finished(self, started: Started, seconds: float) -> None:
        """Do nothing, since the bars already show it."""

    def close(self) -> None:
        """Leave the bars in their final state and print the summary below them."""
        self._closed = True
        if self._live is not None:
            self._live.stop()
        super().close()

    def _begin(self, record: Any) -> None:
        super()._begin(record)
        if self._live is None and self.run.started and not self.quiet:
            self._live = Live(
                get_renderable=self.picture, console=self.console, refresh_per_second=2, redirect_stdout=False
            )
            self._live.start()

    def picture(self) -> RenderableType:
        """Return the bars, the time left and the running jobs; at the end, only the bars."""
        if self._closed:
            return self._stages((), ())
        started = list(self.run.running.values())
        running = [job for job in started if job.begun]
        queued = [job for job in started if job not in running]
        left = self.run.seconds_left()
        note = f"{duration(time.time() - self.run.began)} elapsed" + (f", about {duration(left)} left" if left else "")
        most = max(1, self.console.height - len(self.run.total) - AROUND)
        return Group(self._stages(running, queued), Text(note), *listed(running, most))

    def _stages(self, running: Sequence[Started], queued: Sequence[Started]) -> Table:
        """Return a bar for each stage, and one for the total."""
        listed = (running, queued, list(self.run.failed.values()), list(self.run.stopped.values()))
        columns = (self.run.done, self.run.total, *(Counter(job.stage for job in jobs) for jobs in listed))
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, min_width=None if self._closed else RUNNING)
        for name in (*self.run.stages(), "all"):
            done, total, *others = (counts.total() if name == "all" else counts[name] for counts in columns)
            states = zip(others, STYLES, strict=True)
            table.add_row(
                Text(name, style="bold" if name == "all" else ""),
                ProgressBar(total=total, completed=done, width=BAR, complete_style="green", finished_style="green"),
                f"{done:,}/{total:,}",
                *(Text(f"{n:,} {state}" if n else "", style=STYLES[state]) for n, state in states),
            )
        return table


def listed(jobs: Sequence[Started], most: int) -> Iterator[RenderableType]:
    """Yield lines for the first running jobs, with their progress, and one for how many more there are."""
    table = Table.grid(padding=(0, 2))
    now = time.time()
    for started in jobs[:most]:
        table.add_row(f"  {started.job.name}", duration(max(now - started.since, 0.0)), started.progress)
    yield table
    if len(jobs) > most:
        yield Text(f"  and {len(jobs) - most:,} more")
