"""Measure the time and memory of partner scaling, its kin and exact TS: `python benchmarks/partner.py [--quick]`.

The fits are to logits (n, k), a quarter of which have their label's partner on top. The logits are float32 for
`fit_partner`, and float64 for calibrators fitted by name, which never get anything else. Each ratio is relative to a
target in seconds or bytes. CPU time is measured, because a busy machine wouldn't slow down a target in seconds as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import harness

harness.one_thread()

import numpy as np  # noqa: E402
from harness import Row  # noqa: E402
from temperature import peak  # noqa: E402

from halobench import fit_partner, fit_temperature  # noqa: E402
from halobench.calibration import calibrator  # noqa: E402

SIZES = {(10_000, 100): 1.0, (50_000, 1000): 10.0}
"""The numbers of samples and classes, with the seconds that a fit may take."""

Fit = Callable[[], object]

QUICK = {(2_000, 20): 1.0, (3_000, 100): 1.0}


def made(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, k) and labels; in a quarter of the samples, classes 0 and 1, 2 and 3, ... are confused."""
    rng = np.random.default_rng(0)
    labels = rng.integers(k, size=n)
    logits = rng.standard_normal((n, k), dtype=np.float32)
    logits[np.arange(n), np.where(rng.random(n) < 0.25, labels ^ 1, labels)] += rng.uniform(3, 9, n).astype(np.float32)
    return logits, labels


def rows(quick: bool) -> Iterator[Row]:
    """Yield one row for time and one for memory, for each calibrator at each size."""
    count = harness.QUICK_TURNS if quick else 3
    for (n, k), goal in (QUICK if quick else SIZES).items():
        logits, labels = made(n, k)
        fit = fit_partner(logits, labels)
        if not (fit.converged and fit.excess < 1e-9):
            raise SystemExit(f"({n}, {k}): the fit lies up to {fit.excess:.2g} nats above its optimum")
        plain = partial(fit_temperature, logits, labels)
        yield from fitted(
            f"partner scaling, ({n}, {k})", partial(fit_partner, logits, labels), plain, logits, goal, count
        )
        logits = logits.astype(np.float64)
        run = partial(calibrator.fit, "top_rest", logits, labels)
        yield from fitted(f"top_rest, ({n}, {k})", run, plain, logits, goal, count)


def fitted(what: str, fit: Fit, plain: Fit, logits: np.ndarray, goal: float, count: int) -> Iterator[Row]:
    """Yield the rows of one fit; `goal` is in seconds."""
    seconds, ts = harness.turns(fit, plain, count=count, clock=time.process_time)
    note = f"{statistics.median(seconds):.3g} s of CPU time; exact TS {statistics.median(ts):.3g} s"
    yield Row(what, f"{goal:g} s", [each / goal for each in seconds], most=1.0, note=note)
    taken = peak(fit)
    ratio = (logits.nbytes + taken) / logits.nbytes
    note = f"{taken / 2**20:.3g} MiB in addition to logits of {logits.nbytes / 2**20:.3g} MiB"
    # Small logits don't make the blocks of work space any smaller.
    yield Row(f"{what}, peak memory", "the logits", [ratio], most=2.0, note=note)


if __name__ == "__main__":
    harness.main(rows, __doc__)
