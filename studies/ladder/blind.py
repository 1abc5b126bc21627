"""Judge the repair ladder on families that were written without knowledge of its estimator.

`python -m studies.ladder.blind [SAMPLES ...] [--only PATTERN]` draws samples of each family of `blind_maps` with
labels and prints a row per family: the best map's expected NLL, the gap from it to that of TS with the best
temperature, `best_map_range`, and whether it contains the former. A tolerance of .002 allows for the Monte Carlo error
of the true values. The last lines say how often it does, in how many families the lower end is trivial (0), and how
wide the ranges of both kinds are next to the gaps.

The true values are in blind_maps.json; `--truth` computes them again, in four minutes or so.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import time
import zlib
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np

from halobench import repair_ladder
from studies.ladder.blind_maps import FAMILIES, draw_labels, true_nlls

TRUTH = Path(__file__).with_name("blind_maps.json")  # by family: the expected NLLs of the best map and of TS
SAMPLES, TOLERANCE = (200, 1000), 0.002


def write_truth(names: list[str]) -> None:
    """Compute the true values of these families, to four digits, and write them to the file."""
    truth = json.loads(TRUTH.read_text())
    for name in names:
        truth[name] = [round(nll, 4) for nll in true_nlls(FAMILIES[name], np.random.default_rng(1))]
        print(name, *truth[name], flush=True)
    lines = [f"  {json.dumps(name)}: {json.dumps(truth[name])}" for name in FAMILIES]
    TRUTH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def found_range(name: str, samples: int) -> tuple[float, float]:
    """Return the range of the best map's NLL that the ladder finds from samples of a family."""
    rng = np.random.default_rng([samples, zlib.crc32(name.encode())])
    logits, posterior = FAMILIES[name].draw(samples, rng)
    labels = draw_labels(posterior, rng)
    start = time.process_time()
    found = repair_ladder(logits, labels)
    low, high = map(float, found.best_map_range)
    line = {"name": name, "n": samples, "low": low, "high": high, "map": found.map}
    print(json.dumps(line | {"seconds": time.process_time() - start}), file=sys.stderr, flush=True)
    return low, high


def judge(names: list[str], samples: int) -> None:
    """Print the table of these families, and its summary."""
    truth, found = json.loads(TRUTH.read_text()), []
    print(f"\n{samples} samples\n\n| family | classes | best map | gap to TS | range | covered |\n" + "|---" * 6 + "|")
    for name in names:
        (best, ts), (low, high) = truth[name], found_range(name, samples)
        covered = low - TOLERANCE <= best <= high + TOLERANCE
        found.append((covered, low <= 0, high - low, ts - best))
        cells = [name, str(FAMILIES[name].classes), f"{best:.4f}", f"{ts - best:.4f}", f"{low:.3f}, {high:.3f}"]
        print("| " + " | ".join([*cells, "yes" if covered else "NO"]) + " |", flush=True)
    covered, trivial, widths, gaps = np.array(found).T
    print(f"\nCovered: {covered.sum():.0f} of {len(names)}. Lower ends that are trivial: {trivial.sum():.0f}.")
    for kind, of_kind in (("trivial", trivial == 1), ("other", trivial == 0)):
        if of_kind.any():
            medians = f"width {np.median(widths[of_kind]):.3f}, gap to TS {np.median(gaps[of_kind]):.3f}"
            share = f"covered: {covered[of_kind].sum():.0f} of {of_kind.sum()}"
            print(f"Medians of ranges with {kind} lower ends: {medians}; {share}.")


def main() -> None:
    """Print a table per number of samples, or compute the true values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="*", type=int, default=SAMPLES, help="default: 200 and 1000")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="families, such as 'bin_*'")
    parser.add_argument("--truth", action="store_true", help="compute the true values again")
    options = parser.parse_args()
    names = fnmatch.filter(FAMILIES, options.only)
    if not names:
        parser.error(f"no family matches {options.only!r}")
    if options.truth:
        write_truth(names)
    else:
        for samples in options.samples:
            judge(names, samples)


if __name__ == "__main__":
    main()
