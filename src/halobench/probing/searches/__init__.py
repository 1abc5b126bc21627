"""Provide the kinds of probe that find distances themselves, one file each, with a search function.

The signature of this function is ``search(model, samples, labels, training_points, *, betas, rng, batch, threshold,
...)``. `model` is the trained model itself, in eval mode and float32, with parameters that don't require gradients.
`samples` is a normalised float tensor (m, ...) on the model's device. `labels` (m,) are the labels whose confidences
are examined. `training_points` holds the training samples, as a `halobench.probing.rays.TrainingPoints`. Three
keyword-only arguments are always passed: `betas` maps calibrators to inverse temperatures (``none`` is 1); `rng`, a
numpy Generator, is the only source of random numbers; and `batch` is the largest number of inputs that may pass through
the model at once. All other arguments are keys of `halobench.core.specs.probe.ProbeSpec`. Of the keys that control
walks or searches, a configuration may set only those that the function takes.

For each (quantity, calibrator), the function returns float64 radii (m, R) for R rays per sample, and bools that say
whether these are censored. A radius is censored if the distance sought wasn't found; its value is then the farthest
distance searched. The calibrator is None for a quantity that depends on neither the threshold nor the temperature. The
function is called for consecutive parts of the samples, in order, and a killed probe resumes after the last saved part.
`halobench.probing.run_search` calls the search function and creates the rows of ``radii.parquet``. A search has no
curves, and therefore no rows in ``neighbourhood.parquet``.
"""

from halobench.core.plugins.constants import TOPICS
from halobench.core.plugins.kinds import Kind

KIND = Kind("searches", __file__, "search", (*TOPICS, "STYLE"))
