"""Sources of images, cut into splits with label noise from the cell's seed; and distributions, sampled with it.

A loader is a file of ``data/loaders``. A loader of images has two functions: ``describe(**options) -> Description``,
which is cheap, and ``load(**options) -> Images``. A distribution has only ``load(**options) -> Distribution``. Nothing
here needs torch.
"""
