"""Image sources, split and given label noise using the cell's seed, and distributions, sampled with that seed.

A loader is a file in ``data/loaders``. An image loader has two functions: ``describe(**options) -> Description``, which
is cheap, and ``load(**options) -> Images``. A distribution's loader has only ``load(**options) -> Distribution``.
Nothing here needs torch.
"""
