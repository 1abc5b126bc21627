"""Compare what a small job costs as a separate process with the cost of any process that reads tables.

`python benchmarks/processes.py [--quick]` starts the stage `calibrate` cold on a cell of the demo's size (10 classes,
1,000 points for training, 500 for validation, 1,000 for testing, half of the labels noisy) and compares it with
`import numpy, pandas`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import harness

harness.one_thread()

import numpy as np  # noqa: E402
import peers_calibration as peers  # noqa: E402
from harness import Row  # noqa: E402

from halobench.storage import arrays_io  # noqa: E402

SPLITS = {"train": 1000, "val": 500, "test": 1000}

CALIBRATE = ["-m", "halobench.cli.main", "stage", "calibrate", "--seed", "0", "--spec", "{}"]


def rows(quick: bool) -> Iterator[Row]:
    """Yield a row for the stage as a process; its note says how much of that is start-up and imports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cell(folder)
        commands = {
            "calibrate": [*CALIBRATE, "--run", str(folder)],
            "import numpy, pandas": ["-c", "import numpy, pandas"],
            "import numpy": ["-c", "import numpy"],
            "import halobench.pipeline.stage": ["-c", "import halobench.pipeline.stage"],
        }
        count = harness.QUICK_TURNS if quick else 11
        seconds = harness.turns(*(lambda code=code: python(code) for code in commands.values()), count=count)
        if not (folder / "metrics.csv").is_file():
            raise SystemExit("calibrate wrote no metrics.csv")
    told = "; ".join(f"{name} {statistics.median(s):.3g} s" for name, s in zip(commands, seconds, strict=True))
    ratios = harness.over(seconds[0], seconds[1])
    yield Row("calibrate, whole process", "import numpy, pandas", ratios, most=3, note=told)


def python(arguments: list[str]) -> None:
    """Run Python in a separate process, without a warm server."""
    environment = {name: value for name, value in os.environ.items() if name != "HALOBENCH_WARM"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)


def write_cell(folder: Path) -> None:
    """Write a cell's logits as training leaves them, with half of the labels noisy."""
    flip = 0.5 * (np.eye(10) + np.roll(np.eye(10), 1, axis=1))
    arrays = {"transition": flip}
    for seed, (split, n) in enumerate(SPLITS.items()):
        logits, clean = peers.made(n, 10, seed)
        noisy = np.random.default_rng(seed).random(n) < 0.5
        arrays |= {f"{split}.logits": logits, f"{split}.clean": clean}
        arrays[f"{split}.labels"] = np.where(noisy, (clean + 1) % 10, clean)
    arrays_io.write_arrays(folder / "logits.safetensors", arrays)


if __name__ == "__main__":
    harness.main(rows, __doc__)
