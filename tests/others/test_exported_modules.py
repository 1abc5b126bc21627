"""Calibrators as modules are exported by torch.export and, if its packages are installed, to ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halobench import Calibrator, diagnose, softmax
from halobench.calibration import calibrator
from unit.calibration.builders import drawn

torch = pytest.importorskip("torch")


def with_floor() -> Calibrator:
    logits, labels = drawn(300, 4, flips=0.3)
    shares = np.round(softmax(logits / 3), 1)
    shares /= shares.sum(axis=1, keepdims=True)
    fit = diagnose(shares, labels, probabilities=True, candidates=("partner",)).calibrator
    assert fit.transform is not None
    return fit


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["exact", "top_rest", "partner", "matrix", "floor"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_exported_to_the_same_numbers_for_any_number_of_rows(name, dtype, atol, tmp_path):
    from halobench.torch import Calibrated

    fit = with_floor() if name == "floor" else calibrator.fit(name, *drawn(300, 4, flips=0.3))
    new = drawn(80, 4, seed=1)[0]
    expected, z = fit.predict_proba(new), torch.from_numpy(new).to(dtype)
    rows = ({0: torch.export.Dim("n")},)
    exported = torch.export.export(Calibrated(fit), (z,), dynamic_shapes=rows).module()(z[:7])
    np.testing.assert_allclose(torch.softmax(exported, 1).numpy(), expected[:7], rtol=0, atol=atol)
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.onnx.export(Calibrated(fit), (z,), dynamo=True, dynamic_shapes=rows).save(tmp_path / "calibrated.onnx")
    session = runtime.InferenceSession(tmp_path / "calibrated.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: z[:33].numpy()})
    np.testing.assert_allclose(softmax(found.astype(np.float64)), expected[:33], rtol=0, atol=atol)


def distributions(k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Distributions with labels."""
    logits, labels = drawn(300, k, flips=0.3)
    return softmax(logits), labels


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["exact", "partner", "floor", "post-hoc"])
def test_probabilities_are_mapped_as_such_only_if_the_module_is_told(name, tmp_path):
    from halobench.core.errors import SpecError
    from halobench.sklearn import PostHoc
    from halobench.torch import Calibrated

    p, labels = distributions()
    if name == "post-hoc":
        fit = PostHoc("partner", probabilities=True).fit(p, labels).calibrator_
    else:
        fit = with_floor() if name == "floor" else calibrator.fit(name, np.log(p), labels)
    expected, rows = fit.predict_proba(p, probabilities=True), torch.from_numpy(p)
    for module in (Calibrated(fit), Calibrated(fit, torch.nn.Softmax(dim=1))):
        with pytest.raises(SpecError, match=r"look like probabilities .*\(if they are probabilities, pass prob"):
            module(rows)
    told = Calibrated(fit, probabilities=True)
    np.testing.assert_allclose(told.predict_proba(rows).numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(told.predict_proba(rows.float()).numpy(), expected, rtol=0, atol=1e-6)
    as_logits = Calibrated(fit, probabilities=False).predict_proba(rows).numpy()
    np.testing.assert_allclose(as_logits, fit.predict_proba(p, probabilities=False), rtol=0, atol=1e-12)
    with pytest.raises(SpecError, match=r"probabilities\[0\]: found a sum of 2, expected a sum within"):
        told(2 * rows)
    dynamic = ({0: torch.export.Dim("n")},)
    exported = torch.export.export(told, (rows,), dynamic_shapes=dynamic).module()(rows[:7])
    np.testing.assert_allclose(torch.softmax(exported, 1).numpy(), expected[:7], rtol=0, atol=1e-12)
    traced = torch.jit.trace(told, (rows,))
    np.testing.assert_allclose(torch.softmax(traced(rows[:7]), 1).numpy(), expected[:7], rtol=0, atol=1e-12)


def test_probabilities_of_0_are_mapped_only_by_maps_that_take_them():
    from halobench.core.errors import SpecError
    from halobench.torch import Calibrated

    p, labels = distributions()
    zeros = torch.tensor([[0.5, 0.5, 0.0, 0.0]], dtype=torch.float64)
    for fit in (calibrator.fit("exact", np.log(p), labels), with_floor()):
        found = Calibrated(fit, probabilities=True).predict_proba(zeros).numpy()
        np.testing.assert_allclose(found, fit.predict_proba(zeros.numpy(), probabilities=True), rtol=0, atol=1e-12)
    with pytest.raises(SpecError, match=r"logits\[0\] = -inf: expected finite numbers; for a probability of 0"):
        Calibrated(calibrator.fit("partner", np.log(p), labels), probabilities=True)(zeros)


def test_another_map_or_number_of_classes_is_named():
    from halobench.core.errors import SpecError
    from halobench.torch import Calibrated

    with pytest.raises(SpecError, match="the map ConfusionMix can't be a module; choose temperature, "):
        Calibrated(calibrator.fit("confusion_mix", *drawn()))
    with pytest.raises(SpecError, match="logits: found 3 columns, expected 4, one for each class in the fit"):
        Calibrated(calibrator.fit("exact", *drawn()))(torch.zeros(2, 3))


@pytest.mark.parametrize("path", ["calibrator.npz", Path("calibrator.npz")])
def test_a_path_or_another_object_is_told_what_to_pass(path):
    from halobench.core.errors import SpecError
    from halobench.sklearn import PostHoc
    from halobench.torch import Calibrated

    with pytest.raises(SpecError, match=r"takes a fitted calibrator; pass Calibrator\.load\('calibrator\.npz'\)"):
        Calibrated(path)
    for other in (PostHoc("exact"), torch.nn.Identity()):
        with pytest.raises(SpecError, match=r"fitted: found a \w+, expected a fitted calibrator, such as"):
            Calibrated(other)
