"""Post-hoc calibrators other than temperature scaling (TS), one file each, looked up by name.

============= ======================================================================== ======================
name          softmax of, or probabilities by                                          fitted by
============= ======================================================================== ======================
matrix        W z + b, with a ridge towards TS chosen by cross-validation              scipy, L-BFGS
dirichlet     W log p + b, with two ridges chosen by cross-validation                  scipy, L-BFGS
gap           z / T, T a function of the gap of the two largest logits                 numpy, Newton's method
top_rest      one temperature for whether the top class is right, one for the others   numpy, Newton's method
confusion_mix (1 - w) softmax(z / T) + w C_a, C_a: validation labels with prediction a numpy
noise_layer   softmax(z / T) Q, Q a matrix of transitions                              numpy, EM
partner       TS's logits and validation confusions with the predicted class           numpy, Newton's method
local         TS, partner scaling, nearest neighbours and trees, mixed                 scikit-learn
auto          matrix, partner, top_rest or TS, whichever cross-fitting chooses         as the chosen one
============= ======================================================================== ======================

``probmetrics/NAME`` and ``netcal/NAME`` are the classes of these libraries, such as ``netcal/HistogramBinning``. Both
libraries take probabilities, and many of their maps can return a probability of 0. If a test sample then has that
class, NLL and KL are infinite and are reported as such. Clipping probabilities, as scikit-learn's `log_loss` does at
2e-16, would count 36 nats for each such sample, a number that depends only on the clipping threshold.

Each file here defines ``fit(logits, labels)``; a ``module:object`` has the same signature. `fit` receives validation
logits, float64 (n, k), and labels (n,) in [0, k). It returns either a function that maps logits (m, k) to calibrated
ones (-inf for a probability of 0), whose softmax is then scored, or a `halobench.calibration.calibrator.Calibrator`,
which can also state why the fit failed. The same data must produce the same bytes, so draw random numbers only from a
generator with a fixed seed.

Two optional constants are read without importing the file. ``PACKAGES`` lists the modules that must be installed, and
``LIBRARIES`` the distributions whose versions are recorded with a result.
"""
