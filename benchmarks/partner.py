"""Partner scaling and its kin next to exact TS, time and memory of fits: `python benchmarks/partner.py [--quick]`.

On logits (n, k) of which a quarter has its label's partner on top: float32 for `fit_partner`, float64 for calibrators
by name, which get no other. Goals are seconds and bytes, so the rows' ratios are of these; seconds are those of the
processor, since a goal in seconds has no side that a busy machine slows too.
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
"""Samples and classes, and the seconds that a fit may take."""

Fit = Callable[[], object]

QUICK = {(2_000, 20): 1.0, (3_000, 100): 1.0}


def made(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, k) and labels: classes 0 and 1, 2 and 3, ... are taken for each other in a quarter of the samples."""
    rng = np.random.default_rng(0)
    labels = rng.integers(k, size=n)
    logits = rng.standard_normal((n, k), dtype=np.float32)
    logits[np.arange(n), np.where(rng.random(n) < 0.25, labels ^ 1, labels)] += rng.uniform(3, 9, n).astype(np.float32)
    return logits, labels


def rows(quick: bool) -> Iterator[Row]:
    """A row for time and one for memory of each calibrator at each size."""
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
        for name in ("gap", "ts_mix", "top_rest"):
            run = partial(calibrator.fit, name, logits, labels)
            yield from fitted(f"{name}, ({n}, {k})", run, plain, logits, goal, count)


def fitted(what: str, fit: Fit, plain: Fit, logits: np.ndarray, goal: float, count: int) -> Iterator[Row]:
    """The rows of one fit, whose goal is in seconds."""
    seconds, ts = harness.turns(fit, plain, count=count, clock=time.process_time)
    note = f"{statistics.median(seconds):.3g} s of the processor; exact TS {statistics.median(ts):.3g} s"
    yield Row(what, f"{goal:g} s", [each / goal for each in seconds], most=1.0, note=note)
    taken = peak(fit)
    ratio = (logits.nbytes + taken) / logits.nbytes
    note = f"{taken / 2**20:.3g} MiB next to logits of {logits.nbytes / 2**20:.3g} MiB"
    # Blocks of work space are no smaller for small logits.
    yield Row(f"{what}, peak memory", "the logits", [ratio], most=2.0, note=note)


if __name__ == "__main__":
    harness.main(rows, __doc__)
