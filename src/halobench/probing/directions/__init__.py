"""Probes of your own: a file each, found by name, with ``directions(points, labels, surroundings, *, count, rng)``.

It gets points as a float tensor (m, D), normalised, on the model's device; the labels (m,) whose confidence is watched;
the training points as `halobench.probing.rays.Surroundings`; how many rays a point has; and a numpy Generator, the only
thing to draw from. It returns directions as a tensor (m, count, D) of any lengths above 0, or
`halobench.probing.rays.Rays`, as `halobench.probing.rays.towards` makes them of targets. It is asked for some points at
a time, in order.
"""
