"""autogluon.core's tune_temperature_scaling, used as TabularPredictor uses it, on probabilities."""

from autogluon.core.calibrate.temperature_scaling import apply_temperature_scaling, tune_temperature_scaling

TITLE = "AutoGluon"
REQUIRES = ("autogluon.core==1.6.3", "torch<2.14")
TAKES = "probabilities"
UPSTREAM = "https://github.com/autogluon/autogluon"
ADVICE = 'a loop of `torch.optim.LBFGS([T], max_iter=100, line_search_fn="strong_wolfe")` on float64 logits.'


def fit(probabilities, labels):
    T = tune_temperature_scaling(probabilities, labels)
    if T is None or T <= 0:  # its caller then says so, and leaves the model uncalibrated
        raise ValueError(f"no calibration, as for infinite logits or a negative T: the fit returned {T}")
    return {"T": T, "probabilities": apply_temperature_scaling(probabilities, T, "multiclass")}
