"""Judge the repair ladder's estimates of the best map where that map is known: `python benchmarks/ladder.py [SEEDS]`.

Prints a row per case of `constructed_maps` and kind of target: the best map's NLL, the ladder's range, and the time, as
means over seeds, with 2,000 samples. A case counts as covered if the truth lies within the range or .001 of it.
"""

from __future__ import annotations

import json
import sys
import time

import harness

harness.one_thread()

import numpy as np  # noqa: E402
from constructed_maps import CASES, draw  # noqa: E402

from halobench.calibration.repair import ladder  # noqa: E402

SAMPLES, TOLERANCE = 2000, 0.001


def main() -> None:
    """Print the table, and at its end how often the truth is covered."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print("| case | targets | best map | range | covered | best family | CPU s |\n|---|---|---|---|---|---|---|")
    covered = 0
    for name in CASES:
        for posterior in (True, False):
            rows, family = [], ""
            for seed in range(seeds):
                logits, targets, truth = draw(name, SAMPLES, seed, posterior)
                start = time.process_time()
                found = ladder(logits, targets, seed=seed)
                low, high = found.best_map_range
                inside = low - TOLERANCE <= truth <= high + TOLERANCE
                rows.append([truth, low, high, inside, time.process_time() - start])
                family = found.map
                print(
                    json.dumps(
                        {"case": name, "posterior": posterior, "seed": seed, "truth": truth, "low": low, "high": high}
                        | found.families
                    ),
                    file=sys.stderr,
                    flush=True,
                )
            truth, low, high, inside, seconds = np.mean(rows, axis=0)
            covered += inside / (2 * len(CASES))
            kind = "posterior" if posterior else "labels"
            cells = [name, kind, f"{truth:.3f}", f"{low:.3f}, {high:.3f}", f"{inside:.0%}", family, f"{seconds:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\nCovered: {covered:.0%}")


if __name__ == "__main__":
    main()
