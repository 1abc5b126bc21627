"""A Snakemake logger plug-in that shows a halobench run (``snakemake --logger halobench``).

It listens to the events of Snakemake's logger interface. `halobench run` uses it by default.
"""

# Snakemake imports every logger plug-in at each start, so a view's dependencies are only imported when the view is
# opened.
import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """The plug-in's options, each available on the command line as ``--logger-halobench-NAME``."""

    # Snakemake reads the type, and only understands Optional.
    events: Optional[Path] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Write what Snakemake reports about its jobs to this file as lines of JSON, and show only errors.",
            "env_var": False,
            "required": False,
        },
    )


class View(Protocol):
    """A place where log records are shown or kept."""

    def take(self, record: logging.LogRecord) -> None:
        """Take a record."""

    def close(self) -> None:
        """Stop taking records."""


class LogHandler(LogHandlerBase):
    """Passes Snakemake's log records to a view: bars on a terminal, lines elsewhere, or a file of events.

    A dry run that records no events is left to Snakemake's own handler.
    """

    settings: LogHandlerSettings | None
    has_filter = True
    has_formatter = True
    needs_rulegraph = False
    writes_to_file = False

    def __post_init__(self) -> None:
        self._view = self._open()

    @property
    def writes_to_stream(self) -> bool:
        """Whether this replaces Snakemake's own handler."""
        return not self.common_settings.dryrun or self._events is not None

    @property
    def _events(self) -> Path | None:
        return self.settings.events if self.settings else None

    def _open(self) -> View | None:
        """Open the view that suits the output's destination."""
        if self._events is not None:
            from .events import EventFile

            return EventFile(self._events)
        if self.common_settings.dryrun:
            return None
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from .bars import Bars

            return Bars(self.common_settings)
        from .lines import Lines

        return Lines(self.common_settings)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record to the view."""
        if self._view is not None:
            try:
                self._view.take(record)
            except Exception:
                self.handleError(record)

    def close(self) -> None:
        """Let the view show how the run ended."""
        view, self._view = self._view, None
        if view is not None:
            view.close()
        super().close()
