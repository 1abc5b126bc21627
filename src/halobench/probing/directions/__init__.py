"""The kinds of probe that walk along rays: one file per kind, found by name, with a function that gives directions.

That is ``directions(points, labels, surroundings, *, count, rng)``. `points` are the samples around which the probe
walks, a float tensor (m, D), normalised, on the model's device; `labels` (m,) are the labels whose confidence is read;
`surroundings` are the training samples, a `halobench.probing.rays.Surroundings`; `count` is the number of rays per
sample; and `rng` is a numpy Generator, the only source of random numbers. The function returns directions as a tensor
(m, count, D) of any lengths above 0, or `halobench.probing.rays.Rays`, as `halobench.probing.rays.towards` builds them
from targets. It is called for consecutive parts of the samples, in order.

A function with a keyword argument ``components`` gets the one of the probe's spec. A file whose kind has just one ray
per sample says why in a constant ``ONE_DIRECTION``.
"""
