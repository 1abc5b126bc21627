"""The kinds of probe that find distances themselves: one file per kind, found by name, with a function that searches.

That is ``search(model, samples, labels, surroundings, *, betas, rng, batch, threshold, ...)``. `model` is the trained
model itself, in eval mode and float32, whose parameters take no gradients; `samples` are a float tensor (m, ...),
normalised, on the model's device; `labels` (m,) are the labels whose confidence is searched; `surroundings` are the
training samples, a `halobench.probing.rays.Surroundings`. Of the keyword-only arguments `betas`, `rng` and `batch` are
always given: a mapping of calibrator to inverse temperature (``none`` is 1), a numpy Generator, the only source of
random numbers, and how many inputs may pass through the model at once. All others are keys of
`halobench.core.specs.ProbeSpec`; a configuration may set those that the function takes, and no others.

The function returns, for each (quantity, calibrator), the radii (m, R) of R rays per sample, float64, and whether they
are censored, bool: nothing was found, and the radius is as far as was searched. The calibrator is None for a quantity
that depends on neither threshold nor temperature. The function is called for consecutive parts of the samples, in
order, and a killed probe resumes behind the last part. `halobench.probing.search` calls it and makes the rows of
``radii.parquet``; a search has no curves, and so no rows in ``neighbourhood.parquet``.
"""
