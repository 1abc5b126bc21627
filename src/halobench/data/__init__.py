"""Sources of images, cut into splits and given label noise from the cell's seed; and distributions, sampled from it.

A loader is a file of ``data/loaders``. One of images has two functions: ``describe(**options) -> Description``, which
is cheap, and ``load(**options) -> Images``. A distribution has ``load(**options) -> Distribution`` alone. Nothing here
needs torch.
"""
