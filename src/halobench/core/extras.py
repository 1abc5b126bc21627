"""List the package's extras with the modules that they install, and say what to install if a module is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Each module is listed under the extra that installs it, as in pyproject.toml; the core's dependencies always exist.
EXTRAS = {
    "plot": ("matplotlib", "seaborn"),
    "parquet": ("pyarrow",),
    "train": ("torch", "torchvision", "timm", "PIL", "mlxtend", "pynvml"),
    "workflow": ("snakemake", "snakemake_interface_logger_plugins", "yaml", "plotly", "psutil", "argcomplete"),
    "arena": ("h5py",),
    "slurm": ("snakemake_executor_plugin_slurm",),
    "posthoc": ("probmetrics", "numba", "netcal"),
}


class MissingExtraError(ImportError):
    """Raised if a module of an extra isn't installed; the one-line message says what to install."""


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "halobench[{extra}]"'


def extra_of(module: str) -> str | None:
    """Return the extra that installs a module, or None if there is none."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


@contextlib.contextmanager
def explained(what: str, verb: str = "needs") -> Iterator[None]:
    """Raise MissingExtraError if this context can't import an extra's module; `what` and `verb` begin the message.

    The ModuleNotFoundError of any other module is raised unchanged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if (extra := extra_of(module)) is None:
            raise
        raise MissingExtraError(f"{what} {verb} {module}: {install(extra)}", name=module) from None
