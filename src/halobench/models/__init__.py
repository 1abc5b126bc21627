"""Provide models: the package's own, one per file, and the classifiers of timm and torchvision by name.

A model built around its training samples, such as nearest neighbours, has a method ``start(inputs, targets)``. The
method is called before training with inputs (n, ...), as the model will see them, and one-hot targets (n, k), and
may create parameters. The probe also calls ``start``, so the samples need not be stored with the weights (use buffers
with ``persistent=False``).
"""
