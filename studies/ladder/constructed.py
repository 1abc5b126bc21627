"""Judge the repair ladder's ranges where the best map is known.

`python -m studies.ladder.constructed [SAMPLES [SEEDS]]` prints a row per case of `constructed_maps` and kind of target,
as means over seeds, with 1,000 samples: the best map's NLL above the noise (above 0 for labels) and the range of this
part; the gap from the best map to TS; how often the range contains the part on the same samples, and `best_map_range`
the NLL on new samples; and the time. A tolerance of .001 allows for rounding.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np

from halobench.calibration.ladder import ladder
from studies.ladder.constructed_maps import CASES, draw

SAMPLES, TOLERANCE = 1000, 0.001
NEW = 50_000  # samples from which the best map's expected NLL is computed


def main() -> None:
    """Print the table, and at its end how often the truth is covered and how wide the ranges are."""
    samples, seeds = (int(sys.argv[i]) if len(sys.argv) > i else most for i, most in ((1, SAMPLES), (2, 1)))
    print("| case | targets | best map | range | gap to TS | covered | covered, new samples | best family | CPU s |")
    print("|---" * 9 + "|")
    covered, widths = [], []
    for name in CASES:
        expected = draw(name, NEW, 10_000, True)[2]
        for posterior in (True, False):
            rows, family = [], ""
            for seed in range(seeds):
                logits, targets, truth = draw(name, samples, seed, posterior)
                start = time.process_time()
                found = ladder(logits, targets, seed=seed)
                seconds = time.process_time() - start
                part, gap = truth - (found.noise.value if found.noise else 0), found.families["temperature"] - truth
                (low, high), family = found.training_range, found.map
                here = _within(part, (low, high))
                rows.append([part, low, high, gap, here, _within(expected, found.best_map_range), seconds])
                numbers = {"part": part, "low": low, "high": high, "gap": gap, "expected": expected}
                line = {"case": name, "posterior": posterior, "seed": seed, "range": found.best_map_range}
                print(json.dumps(line | numbers | found.families), file=sys.stderr, flush=True)
            part, low, high, gap, here, there, seconds = np.mean(rows, axis=0)
            covered.append([here, there])
            widths.append([high - low, gap])
            kind = "posterior" if posterior else "labels"
            cells = [name, kind, f"{part:.3f}", f"{low:.3f}, {high:.3f}", f"{gap:.3f}"]
            cells += [f"{here:.0%}", f"{there:.0%}", family, f"{seconds:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
    here, there = np.mean(covered, axis=0)
    print(f"\nCovered: {here:.1%} on the same samples, {there:.1%} on new ones. Median width: ", end="")
    print("{:.3f}; median gap to TS: {:.3f}".format(*np.median(widths, axis=0)))


def _within(value: float, ends: tuple[float, float]) -> bool:
    return ends[0] - TOLERANCE <= value <= ends[1] + TOLERANCE


if __name__ == "__main__":
    main()
