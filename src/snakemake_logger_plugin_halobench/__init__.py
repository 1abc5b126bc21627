"""A Snakemake logger plug-in that shows the progress of a halobench run (``snakemake --logger halobench``).

The plug-in listens to the events of Snakemake's logger interface. `halobench run` uses the plug-in by default.
"""

import logging
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Passes Snakemake's log records to `Lines`; Snakemake itself logs dry runs."""

    has_filter = has_formatter = True
    needs_rulegraph = writes_to_file = writes_to_stream = False

    def __post_init__(self) -> None:
        self.writes_to_stream = not self.common_settings.dryrun  # in place of Snakemake's own handler
        self._lines: Any = None
        if self.writes_to_stream:
            from .lines import Lines  # which would slow down each start of Snakemake

            self._lines = Lines(self.common_settings)

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a record says."""
        try:
            if self._lines:
                self._lines.take(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Show how the run ended."""
        lines, self._lines = self._lines, None
        if lines:
            lines.close()
        super().close()
