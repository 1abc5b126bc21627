"""Models: one file each for the package's own, any of timm's and torchvision's by name.

A model that is built around its training samples, as nearest neighbours are, has a method ``start(inputs, targets)``,
which gets them before training: inputs (n, C, H, W) as the model will see them, one-hot targets (n, k). It may create
parameters there. The probe calls it too, so that samples need not be stored with the weights (use buffers with
``persistent=False``).
"""
