"""Load images, features and distributions; a cell's seed determines its splits, label noise and drawn samples.

Each of the package's loaders is a file in ``data/loaders``. A loader of images or features has two functions:
``describe(**options) -> Description``, which should be quick, and ``load(**options) -> Images``. A third,
``listing(**options)``, may return a number per file that is read, uint64 (n,); once these change, the source is loaded
again. A distribution's loader has only ``load(**options) -> Distribution``. Importing a module of this folder doesn't
import torch.
"""
