"""Provide the kinds of probe that walk along rays, one file each, with a function that returns directions.

The signature of this function is ``directions(points, labels, training_points, *, count, rng)``. `points` are the
normalised samples around which the probe walks, as a float tensor (m, D) on the model's device. `labels` (m,) are the
labels whose confidences are recorded. `training_points` holds the training samples, as a
`halobench.probing.rays.TrainingPoints`. `count` is the number of rays per sample, and `rng`, a numpy Generator, is the
only source of random numbers. The function returns a tensor (m, count, D) of directions of any positive length, or a
`halobench.probing.rays.Rays`, which `halobench.probing.rays.towards` builds from targets. The function is called for
consecutive parts of the samples, in order.

A function with a keyword argument ``components`` receives its value from the probe's spec. If a kind has only one ray
per sample, its file explains why in a constant ``ONE_DIRECTION``.
"""

from halobench.core.plugins.constants import TOPICS
from halobench.core.plugins.kinds import Kind

KIND = Kind("probes", __file__, "directions", (*TOPICS, "STYLE", "ONE_DIRECTION"))
