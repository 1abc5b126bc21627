"""Models: one file for each of the package's own, and all of timm's and torchvision's by name.

A model built around its training samples, such as nearest neighbours, has a method ``start(inputs, targets)``. It is
called before training with inputs (n, C, H, W), as the model will see them, and one-hot targets (n, k), and may create
parameters. The probe also calls it, so the samples need not be stored with the weights (use buffers with
``persistent=False``).
"""
