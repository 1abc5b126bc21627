"""Calibrators of your own: a file each, found by name. It defines ``fit(logits, labels)``.

`fit` gets validation logits, float64 (n, k), and labels (n,) in [0, k), and returns what maps logits (m, k) to
calibrated ones, of which the softmax is then scored (-inf for a probability of 0); or a
`halobench.calibration.calibrator.Calibrator`, which can also say that there is no finite optimum. The same data must
give the same bytes: draw nothing but from a generator of a fixed seed.
"""
