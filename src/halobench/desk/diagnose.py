"""Run the command ``diagnose``, which isn't a stage of the workflow."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from halobench.core.errors import refuse
from halobench.storage import files, tables_io

PATIENCE = 2.0  # seconds

FILES = ("diagnosis.html", "diagnosis.json", "probabilities.npz", "calibrator.npz")


def run_diagnose(
    file: Path,
    seed: int,
    out: Path | None = None,
    floor: float | None = None,
    calibrator: str | None = None,
    independent: bool = False,
) -> None:
    """Print the diagnosis of a file of logits; write its page, numbers, probabilities and calibrator to `out`, if any.

    For an HDF5 file in CalArena's layout, a table of the file's pairs takes the place of the diagnosis.
    """
    if out is not None:
        refuse(out.exists() and not out.is_dir(), "--out", f"{out} is a file; pass a folder for the results")
        for name in FILES:
            same = (out / name).exists() and file.exists() and file.samefile(out / name)
            refuse(same, "--out", f"{name} in {out} is the input and would be overwritten; pass another folder")
        files.check_writable(out)
    if file.suffix.lower() in (".h5", ".hdf5"):
        _compare_pairs(file, out)
        return
    from halobench.calibration.diagnosis.diagnose import diagnose_file
    from halobench.calibration.diagnosis.external_logits import read_sets

    with _progress():
        diagnosis = diagnose_file(file, seed=seed, floor=floor, calibrator=calibrator, independent=independent)
    if out is None:
        print(f"{file}\n{diagnosis}")
        print("\nWith --out FOLDER, this becomes a page, next to the calibrator and calibrated probabilities.")
        return
    from halobench.reporting import rendering
    from halobench.reporting.pages.diagnosis_page import diagnosis_page

    val, test, _ = read_sets(file)
    sets = {"probabilities": val} if test is None else {"val_probabilities": val, "test_probabilities": test}
    arrays = {name: diagnosis.predict_proba(samples["logits"], False) for name, samples in sets.items()}
    with files.replacing(out / "probabilities.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    files.write_json(out / "diagnosis.json", diagnosis.as_json())
    page = out / "diagnosis.html"
    rendering.write(page, diagnosis_page(diagnosis, file.name))
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        diagnosis.save(out / "calibrator.npz")
    print(f"{file}\n{diagnosis}")
    for note in notes:
        print(f"\nnote: {note.message}")
    how = how_to_apply(out, file, "probabilities" in val)
    print(f"\nwrote {page}, diagnosis.json, probabilities.npz and calibrator.npz")
    print(f"calibrator.npz holds {diagnosis.calibrator.described()}\n{how}")


def _compare_pairs(file: Path, out: Path | None) -> None:
    """Print a table of the pairs in a file in CalArena's layout; write it to `out`/pairs.csv if `out` is given."""
    from halobench import arena
    from halobench.core import console
    from halobench.core.formatting import count, number
    from halobench.reporting import terminal

    with _progress("halobench.arena"):
        table = arena.compare(file)
    heading = ["data set", "model", "k", "n", "uncalibrated", "TS", "auto", "chosen", "note"]
    columns = ["dataset", "model", "classes", "n_cal", "uncalibrated", "exact", "auto", "chosen", "note"]
    rows = [[number(x) if isinstance(x, float) else str(x) for x in row] for row in table[columns].to_numpy().tolist()]
    title = f"Test NLL (nats) of {count(len(table), 'pair')}"
    console.console().print(terminal.table(title, heading, rows))
    if out is not None:
        tables_io.write_csv(out / "pairs.csv", table)
        print(f"wrote {out / 'pairs.csv'}")


@contextlib.contextmanager
def _progress(of: str = "halobench") -> Iterator[None]:
    """Print the messages of the logger named `of` to standard error once `PATIENCE` seconds have passed."""
    logger, start = logging.getLogger(of), time.monotonic()

    class Late(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (seconds := time.monotonic() - start) > PATIENCE:
                print(f"{seconds:.0f} s: {record.getMessage()}", file=sys.stderr, flush=True)

    handler, level = Late(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def how_to_apply(out: Path, file: Path, probabilities: bool = False) -> str:
    """Return the command and the line of Python that apply the calibrator in a folder to new samples."""
    path, suffix = out / "calibrator.npz", file.suffix if file.suffix in (".csv", ".parquet") else ".npz"
    command = shlex.join(["halobench", "apply", str(path), f"new{suffix}", "--out", f"calibrated{suffix}"])
    rows = "new_probabilities, probabilities=True" if probabilities else "new_logits"
    python = f"halobench.Calibrator.load({str(path)!r}).predict_proba({rows})"
    kind = "probabilities" if probabilities else "logits"
    return f"To calibrate new {kind} (in new{suffix}: {kind}):\n  {command}\n  {python}"
