"""A Snakemake logger plug-in that shows the progress of a halobench run (``snakemake --logger halobench``).

The plug-in listens to the events of Snakemake's logger interface. `halobench run` uses the plug-in by default.
"""

import logging
import os
import sys
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface


class LogHandler(LogHandlerBase):
    """Passes Snakemake's log records to a view: bars on a terminal, lines elsewhere. Snakemake itself logs dry runs."""

    has_filter = has_formatter = True
    needs_rulegraph = writes_to_file = writes_to_stream = False

    def __post_init__(self) -> None:
        self.writes_to_stream = not self.common_settings.dryrun  # in place of Snakemake's own handler
        self._view = _open(self.common_settings) if self.writes_to_stream else None

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record to the view."""
        try:
            if self._view:
                self._view.take(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Let the view show how the run ended."""
        view, self._view = self._view, None
        if view:
            view.close()
        super().close()


def _open(settings: OutputSettingsLoggerInterface) -> Any:
    """Import and return the view; importing it with this module would slow down each start of Snakemake."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from .bars import Bars

        return Bars(settings)
    from .lines import Lines

    return Lines(settings)
