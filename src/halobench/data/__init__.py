"""Load image sources and distributions; the cell's seed determines splits, label noise and samples.

A loader is a file in ``data/loaders``. An image loader has two functions: ``describe(**options) -> Description``, which
is cheap, and ``load(**options) -> Images``. A distribution's loader has only ``load(**options) -> Distribution``. No
module in this folder needs torch.
"""
