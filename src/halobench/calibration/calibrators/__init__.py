"""Post-hoc calibrators besides temperature scaling (TS), one file each, found by name.

========= ====================================================================== ============================
name      softmax of, or probabilities by                                        fitted by
========= ====================================================================== ============================
vector    w_j z_j + b_j: vector scaling                                          scipy, Newton's method
matrix    W z + b, a ridge towards TS: structured matrix scaling                 probmetrics
matrix_cv the same, its ridge chosen by cross-validation                         scipy, L-BFGS
isotonic  a monotone map of each class's probability, normalised                 scikit-learn
histogram the frequency in a bin of each class's probability, normalised         numpy
ensemble  w_1 softmax(z / T) + w_2 softmax(z) + w_3 / k: ensemble TS             scipy, SLSQP
ts_mix    n / (n + 1) softmax(z / T) + 1 / (n + 1) / k                           numpy
gap       z / T, T a function of the gap of the two largest logits               numpy, Newton's method
top_rest  one temperature for whether the top class is right, one for the others numpy, Newton's method
partner   TS's logits and validation confusions with the predicted class         numpy, Newton's method
========= ====================================================================== ============================

A file here defines ``fit(logits, labels)``, and so does any ``module:object``. `fit` gets validation logits, float64
(n, k), and labels (n,) in [0, k). It returns a function that maps logits (m, k) to calibrated ones, whose softmax is
then scored (-inf for a probability of 0); or a `halobench.calibration.calibrator.Calibrator`, which can also say that
there is no finite optimum. The same data must give the same bytes: draw from nothing but a generator of a fixed seed.

Three constants of the file are read without importing it, and may be left out. ``PACKAGES`` are the modules that must
be installed, ``EXTRA`` is the optional extra that installs them, and ``LIBRARIES`` are the distributions whose versions
go into the record of a result.

A probability of 0 is what isotonic and histogram give a class that no validation sample of that score had. If a test
sample then has that class, NLL and KL are infinite and are reported as such: clipping, as scikit-learn's `log_loss`
does at 2e-16, would count 36 nats for each such sample, a number that depends on the clip alone. Error, Brier score and
ECE remain.
"""
