"""Partner scaling's fit beside exact temperature scaling's, and its memory: `python benchmarks/partner.py [--quick]`.

On float32 logits (n, k) of which a quarter has its label's partner on top. Goals are seconds and bytes, so the rows'
ratios are of these.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

import harness

harness.one_thread()

import numpy as np  # noqa: E402
from harness import Row  # noqa: E402
from temperature import peak  # noqa: E402

from halobench import fit_partner, fit_temperature  # noqa: E402

SIZES = {(10_000, 100): 1.0, (50_000, 1000): 10.0}
"""Samples and classes, and the seconds that a fit may take."""

QUICK = {(2_000, 20): 1.0, (3_000, 100): 1.0}


def made(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, k) and labels: classes 0 and 1, 2 and 3, ... are taken for each other in a quarter of the samples."""
    rng = np.random.default_rng(0)
    labels = rng.integers(k, size=n)
    logits = rng.standard_normal((n, k), dtype=np.float32)
    logits[np.arange(n), np.where(rng.random(n) < 0.25, labels ^ 1, labels)] += rng.uniform(3, 9, n).astype(np.float32)
    return logits, labels


def rows(quick: bool) -> Iterator[Row]:
    """A row for time and one for memory at each size."""
    for (n, k), goal in (QUICK if quick else SIZES).items():
        logits, labels = made(n, k)
        fits = (partial(fit_partner, logits, labels), partial(fit_temperature, logits, labels))
        seconds, plain = harness.turns(*fits, count=harness.QUICK_TURNS if quick else 3)
        fit = fit_partner(logits, labels)
        if not (fit.converged and fit.excess < 1e-9):
            raise SystemExit(f"({n}, {k}): the fit lies up to {fit.excess:.2g} nats above its optimum")
        note = f"{statistics.median(seconds):.3g} s; exact TS {statistics.median(plain):.3g} s"
        yield Row(f"partner scaling, ({n}, {k})", f"{goal:g} s", [each / goal for each in seconds], most=1.0, note=note)
        taken = peak(fits[0])
        ratio = (logits.nbytes + taken) / logits.nbytes
        note = f"{taken / 2**20:.3g} MiB next to logits of {logits.nbytes / 2**20:.3g} MiB"
        # Blocks of work space are no smaller for small logits.
        yield Row(f"partner scaling, ({n}, {k}), peak memory", "the logits", [ratio], most=2.0, note=note)


if __name__ == "__main__":
    harness.main(rows, __doc__)
