"""Provide post-hoc calibrators, one per file; `exact` is temperature scaling (TS).

Each file describes its map in `ABOUT`, and docs/calibrate.md explains when to use which calibrator. The names
``probmetrics/NAME`` and ``netcal/NAME`` refer to classes of these two libraries, e.g. ``netcal/HistogramBinning``.
Calibrators of both libraries take probabilities, and some can return a probability of 0. If a test sample's label has
this probability, NLL and KL are infinite and are reported as infinite: if probabilities were clipped, both would depend
on the threshold.

Each calibrator's file defines ``fit(logits, labels)``; a ``module:object`` has the same signature. `fit` receives
validation logits, float64 (n, k), and labels (n,) in [0, k). `fit` returns either a function that maps logits (m, k) to
calibrated ones (-inf for a probability of 0), whose softmax is then scored, or a
`halobench.calibration.calibrator.Calibrator`, which can also state why the fit failed. The same data must produce the
same bytes, so draw random numbers only from a generator with a fixed seed. A new calibrator of the package should start
from the beta of TS (`temperature.search.finite_beta`), and return the result of
`halobench.calibration.calibrator.scored`, as `top_rest` does. Its fit should be finite on separable data, e.g. by a
penalty that pulls the fit towards TS.

The map of a new calibrator is a data class of numbers and arrays, so that fits can be saved. The class has the
decorator ``halobench.calibration.saved.savable(NAME)``, where NAME is the file's name. A map that can't be such a data
class, e.g. because it is made of trees, may be any function if the file sets ``REFITTED = True``; a saved fit then
contains all samples that the map was fitted to.

Other optional constants are read without importing the file: ``PACKAGES`` lists the modules that must be installed, and
``LIBRARIES`` the distributions whose versions are recorded with a result. ``MASKED = True`` says that the map takes
logits of -inf, and ``VOTES = True`` says that `fit` also takes shares of votes, float64 (n, k), in place of labels.
"""

from pathlib import Path

from halobench.core.plugins.constants import TOPICS
from halobench.core.plugins.kinds import Kind, Library

ADAPTORS = Path(__file__).parents[1] / "adaptors"

KIND = Kind(
    "calibrators",
    __file__,
    "fit",
    (*TOPICS, "STYLE", "PACKAGES", "LIBRARIES", "MASKED", "VOTES", "REFITTED"),
    libraries=(
        Library("probmetrics", ADAPTORS / "probmetrics.py", ("calibrators",)),
        Library("netcal", ADAPTORS / "netcal.py", ("scaling", "binning")),
    ),
    # These need a cell's own targets, or none.
    built_in={
        "none": {
            "TITLE": "uncalibrated",
            "ABOUT": "the model's own confidence, without calibration",
            "STYLE": ("#111111", "o"),
            "ORDER": 0,
        },
        "oracle": {
            "TITLE": "TS (test-set oracle)",
            "ABOUT": "the best temperature on the test data; it is a bound on what any temperature can achieve, not a "
            "usable method",
            "SOURCE": "temperature scaling, as `exact`, but fitted to test data",
            "STYLE": ("#777777", "^", (0, (1.2, 1))),
            "ORDER": 3,
        },
    },
)
