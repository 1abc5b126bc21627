"""Calibrators travel: saved, pickled, copied or applied from the shell, they give the same probabilities."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from halobench import Calibrator, TemperatureFit, diagnose, fit_auto, fit_partner, fit_temperature
from halobench.calibration import calibrator, saved
from halobench.calibration.repair import families
from halobench.core.errors import SpecError
from halobench.core.plugins import find
from halobench.core.plugins.kinds import kinds
from halobench.desk import apply
from unit.calibration.builders import drawn

KEPT = Path(__file__).parent / "saved_calibrators"  # written by version 0.2.0
OWN = ("exact", "shrunk", "paper", "top_rest", "partner", "matrix", "dirichlet", "confusion_mix")
EACH = (*OWN, "local", "auto", "netcal/HistogramBinning")
FITS = {"TemperatureFit": fit_temperature, "PartnerFit": fit_partner}
FITS["AutoFit"] = functools.partial(fit_auto, candidates=("partner",))


def samples(name: str, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Samples to fit to: few for calibrators that are saved as their samples, and fitted again each time."""
    return drawn(300 if name in (*OWN, *FITS) else 40, k, flips=0.3)


def fitted(name: str, k: int = 4):
    for package in find("calibrators", name).constants.get("PACKAGES", ()) if name not in FITS else ():
        pytest.importorskip(package)
    logits, labels = samples(name, k)
    return FITS[name](logits, labels) if name in FITS else calibrator.fit(name, logits, labels)


def reloaded(fit, path: Path):
    fit.save(path)
    return type(fit).load(path)


def dumped(fit, path: Path):
    joblib.dump(fit, path)
    return joblib.load(path)


WAYS = {
    "save": reloaded,
    "pickle": lambda fit, path: pickle.loads(pickle.dumps(fit)),
    "copy": lambda fit, path: copy.copy(fit),
    "deepcopy": lambda fit, path: copy.deepcopy(fit),
    "joblib": dumped,
}


MODULES = ("exact", "paper", "top_rest", "partner", "matrix", "auto", *FITS)


def as_modules(fit, new: np.ndarray, expected: np.ndarray) -> None:
    """In float64 and float32, alone or behind a model, exported or not, with gradients to the logits."""
    torch = pytest.importorskip("torch")
    from halobench.torch import Calibrated

    module, z = Calibrated(fit), torch.from_numpy(new)
    np.testing.assert_allclose(module.predict_proba(z).numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(module.predict_proba(z.float()).numpy(), expected, rtol=0, atol=1e-6)
    half = torch.nn.Linear(4, 4, bias=False).double()
    half.weight.data = torch.eye(4, dtype=torch.float64) / 2
    behind = Calibrated(fit, half)
    np.testing.assert_allclose(behind.predict_proba(2 * z).detach().numpy(), expected, rtol=0, atol=1e-12)
    behind.predict_proba(2 * z)[:, 0].sum().backward()
    step = 1e-6
    moved = fit.predict_proba(new * (1 + step))[:, 0].sum() - fit.predict_proba(new * (1 - step))[:, 0].sum()
    assert float((half.weight.grad * torch.eye(4) / 2).sum()) == pytest.approx(moved / step / 2, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("wrong", [True, False])
def test_a_fit_with_an_infinity_is_saved_as_it_is(wrong, tmp_path):
    """T is infinite if the smallest logits are always right, and its inverse is if the largest are."""
    z, _ = drawn(80, 4)
    fit = fit_temperature(z, z.argmin(axis=1) if wrong else z.argmax(axis=1))
    assert np.isinf(fit.T if wrong else fit.beta)
    fit.save(tmp_path / "calibrator.npz")
    assert repr(type(fit).load(tmp_path / "calibrator.npz")) == repr(fit)


def test_this_list_is_complete():
    assert set(EACH) | {"none", "oracle"} >= set(kinds()["calibrators"].built_in) | {
        file.stem for file in kinds()["calibrators"].folder.glob("[a-z]*.py")
    }


@pytest.mark.filterwarnings("ignore:.* validation samples, since")
@pytest.mark.parametrize("name", [*EACH, *FITS])
def test_every_way_gives_the_same_probabilities(name, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "TREES", 5)  # `local` is fitted again each time
    fit, new = fitted(name), drawn(80, 4, seed=1)[0]
    expected = fit.predict_proba(new)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=0, atol=1e-12)
    for way, travelled in WAYS.items():
        other = travelled(fit, tmp_path / "calibrator.npz")
        np.testing.assert_allclose(other.predict_proba(new), expected, rtol=0, atol=1e-12, err_msg=way)
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    fit.save(first)
    type(fit).load(first).save(second)
    assert first.read_bytes() == second.read_bytes()
    np.savez(tmp_path / "new.npz", logits=new)
    apply.run_apply(first, tmp_path / "new.npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_allclose(out["probabilities"], expected, rtol=0, atol=1e-12)
    if name in MODULES:
        as_modules(fit, new, expected)
    again = fit.fit(*samples(name))
    np.testing.assert_allclose(again.predict_proba(new), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["exact", "partner", *FITS])
def test_probabilities_are_never_taken_for_logits(name):
    """Unless the caller says that they are; a diagnosis and a calibrator then give the same as for their logarithms."""
    fit, logits = fitted(name), drawn(50, 4, seed=9)[0]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for method in (fit.predict_proba, fit.logits):
        with pytest.raises(SpecError, match=r"look like probabilities .*pass probabilities=True"):
            method(p)
    np.testing.assert_allclose(fit.predict_proba(p, probabilities=True), fit.predict_proba(np.log(p)), atol=1e-12)
    assert np.isfinite(fit.predict_proba(p, probabilities=False)).all()


@pytest.mark.parametrize("name", OWN)
def test_files_of_earlier_versions_open(name):
    """The maps in them are those of the same fits today, up to the optimisers' tolerance."""
    new = drawn(80, 3, seed=1)[0]
    opened = Calibrator.load(KEPT / f"{name}.npz")
    assert (opened.name, opened.classes, opened.samples) == (name, 3, 300)
    np.testing.assert_allclose(opened.predict_proba(new), fitted(name, 3).predict_proba(new), atol=1e-4)


def edit(path: Path, change) -> None:
    """Change the JSON of a saved calibrator in place, leaving its checksum."""
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    change(header, arrays)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-99]), r"isn't a calibrator, or is damaged \(BadZipFile\)"),
        (lambda path: np.savez(path, logits=np.eye(3)), "has the arrays logits, but no calibrator; pass a file"),
        (lambda path: np.savez(path, header=np.array([{}], dtype=object)), "isn't a calibrator, or is damaged"),
        (lambda path: edit(path, lambda header, _: header.update(nll=0.1)), "damaged or edited after it was saved"),
        (
            lambda path: edit(path, lambda _, arrays: arrays.update({name: a + 1 for name, a in arrays.items()})),
            "damaged or edited after it was saved",
        ),
        (
            lambda path: edit(path, lambda header, _: header.update(version=2, packages={"halobench": "9.1"})),
            "was saved by halobench 9.1, whose files this version can't open; install that version",
        ),
    ],
    ids=["missing", "truncated", "logits", "pickled", "edited", "other arrays", "later version"],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(spoil, told, tmp_path):
    path = tmp_path / "calibrator.npz"
    fitted("partner").save(path)
    spoil(path)
    with pytest.raises(SpecError, match=told) as caught:
        Calibrator.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_other_classes_and_other_kinds_of_fits_are_named(tmp_path):
    path, logits = tmp_path / "calibrator.npz", drawn(300, 3)[0]
    names = ["cat", "dog", "fox"]
    fit = fit_auto(logits, np.array(names)[drawn(300, 3)[1]])
    fit.save(path)
    with pytest.raises(SpecError, match=r"contains a AutoFit; open it by AutoFit\.load"):
        TemperatureFit.load(path)
    opened = type(fit).load(path).calibrator
    assert opened.names == tuple(names)
    table = pd.DataFrame(logits, columns=[f"logit_{name}" for name in names])
    expected = opened.predict_proba(logits)
    np.testing.assert_array_equal(opened.predict_proba(table[["logit_fox", "logit_cat", "logit_dog"]]), expected)
    with pytest.raises(SpecError, match="found the classes cat, dog, cow, expected those of the fit, cat, dog, fox"):
        opened.predict_proba(table.rename(columns={"logit_fox": "logit_cow"}))
    with pytest.raises(SpecError, match="logits: found 2 columns, expected 3, one for each class in the fit"):
        opened.predict_proba(logits[:, :2])
    with pytest.raises(SpecError, match=r"labels\[1\] = 'cow': expected one of cat, dog, fox"):
        fit_auto(logits[:2], np.array(["cat", "cow"]), names=names)
    with pytest.raises(SpecError, match=r"labels: found names of 2 classes, expected names of 3, .*; pass names"):
        diagnose(logits[:2], ["cat", "dog"])


PLUG_IN = """
def fit(logits, labels):
    factor = FACTOR
    return lambda z: factor * z
"""


@pytest.mark.filterwarnings("ignore:.* validation samples, since")
def test_a_plug_in_is_run_only_if_it_is_trusted_and_gives_what_it_gave(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path, module = tmp_path / "calibrator.npz", tmp_path / "saved_here.py"

    def define(factor: float) -> None:
        module.write_text(PLUG_IN.replace("FACTOR", str(factor)))
        sys.modules.pop("saved_here", None)
        sys.dont_write_bytecode = True

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    define(0.5)
    logits, labels = drawn()
    fit = calibrator.fit("saved_here:fit", logits, labels)
    fit.save(path)
    with pytest.raises(SpecError, match="runs the plug-in saved_here:fit, which isn't part of halobench; if you trust"):
        Calibrator.load(path)
    opened = Calibrator.load(path, trust=True)
    np.testing.assert_array_equal(opened.predict_proba(logits), fit.predict_proba(logits))
    define(0.25)
    with pytest.raises(SpecError, match=r"fitted again, its NLL is .*, not .* as saved; install the versions"):
        Calibrator.load(path, trust=True).predict_proba(logits)
    sys.modules.pop("saved_here", None)


OWN_CLASS = """
from dataclasses import dataclass

import numpy as np

from halobench.calibration.saved import savable


@savable("own")
@dataclass(frozen=True, eq=False)
class Own:
    factors: np.ndarray

    def __call__(self, z):
        return self.factors * z


def fit(logits, labels):
    return Own(np.full(logits.shape[1], 0.5))
"""


def test_a_class_of_ones_own_is_saved_as_its_numbers_and_opened_if_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path, module = tmp_path / "calibrator.npz", tmp_path / "own_class.py"
    module.write_text(OWN_CLASS)
    logits, labels = drawn(2000)
    fit = calibrator.fit("own_class:fit", logits, labels)
    fit.save(path)
    assert path.stat().st_size < 10_000
    with np.load(path) as archive:
        assert max(archive[name].size for name in archive if name != "header") == logits.shape[1]
    with pytest.raises(SpecError, match="runs the class own_class:own, which isn't part of halobench; if you trust"):
        Calibrator.load(path)
    for name in ("own_class", None):
        sys.modules.pop(name, None)
        opened = Calibrator.load(path, trust=True)
        np.testing.assert_array_equal(opened.predict_proba(logits), fit.predict_proba(logits))
    monkeypatch.setattr(saved, "_CLASSES", {})
    with pytest.raises(SpecError, match="holds the class own_class:own, which that module no longer defines"):
        Calibrator.load(path, trust=True)
    sys.modules.pop("own_class")
    module.unlink()
    importlib.invalidate_caches()
    with pytest.raises(SpecError, match="holds the class own_class:own, whose module can't be imported"):
        Calibrator.load(path, trust=True)


@pytest.mark.parametrize(
    ("module", "form", "told"),
    [
        ("halobench.calibration.calibrators.top_rest", "other", r"@savable\('other'\): call it 'top_rest', as"),
        ("halobench.calibration.calibrators.top_rest", "top_rest", "has a class of that name; choose another"),
        ("halobench.calibration.scores.scoring", "new", r"list this module in HOMES in halobench\.calibration\.saved"),
        ("mine", "new", "put it above @dataclass"),
    ],
)
def test_a_name_that_files_could_not_be_opened_by_is_refused_at_import(module, form, told):
    fields = {"__module__": module}
    new = type("New", (), fields) if module == "mine" else dataclasses.make_dataclass("New", ["x"], namespace=fields)
    new.__module__ = module
    with pytest.raises(SpecError, match=told):
        saved.savable(form)(new)


@pytest.mark.parametrize("name", ["local", "netcal/HistogramBinning", "own_closure:fit"])
def test_whoever_saves_samples_is_told(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "own_closure.py").write_text(PLUG_IN.replace("FACTOR", "0.5"))
    monkeypatch.setattr(families, "TREES", 5)
    path = tmp_path / "mine.npz"
    told = f"mine.npz holds all 40 validation samples, since {name} can't be saved otherwise"
    fit = fitted(name)
    with pytest.warns(UserWarning, match=told):
        fit.save(path)
    sys.modules.pop("own_closure", None)


def test_saving_numbers_warns_of_nothing(tmp_path, recwarn):
    fitted("top_rest").save(tmp_path / "calibrator.npz")
    assert not recwarn.list


def test_a_map_that_cannot_be_saved_is_one_line(tmp_path):
    fit = dataclasses.replace(fitted("top_rest"), transform=lambda z: z)
    with pytest.raises(SpecError, match=r"c\.npz: an object of the type function can't be saved; return a data class"):
        fit.save(tmp_path / "c.npz")


def test_forms_that_no_class_has_are_refused(tmp_path):
    path = tmp_path / "calibrator.npz"
    fitted("top_rest").save(path)

    def change(header, arrays):
        header["fit"]["map"]["transform"]["form"] = "top_rest.later"
        del header["sha256"]
        header["sha256"] = saved._digest(header, {name: arrays[name] for name in arrays if name != "header"})
        header["sha256"] = header.pop("sha256")

    edit(path, change)
    with pytest.raises(SpecError, match=r"whose files this version can't open \(unknown 'top_rest\.later'\)"):
        Calibrator.load(path)


def nested(header: dict) -> None:
    for _ in range(800):
        header["fit"] = [header["fit"]]


@pytest.mark.parametrize("forge", [nested, lambda header: header.pop("fit")], ids=["nested 800 deep", "no fit"])
def test_a_forged_file_with_a_valid_checksum_is_refused_in_a_line(tmp_path, forge):
    path = tmp_path / "calibrator.npz"
    fitted("top_rest").save(path)

    def change(header, arrays):
        forge(header)
        del header["sha256"]
        header["sha256"] = saved._digest(header, {name: arrays[name] for name in arrays if name != "header"})

    edit(path, change)
    with pytest.raises(SpecError, match=r"calibrator\.npz: (isn't a calibrator|was saved by)") as told:
        Calibrator.load(path)
    assert len(str(told.value)) < 400


ADDED = """
import sys, warnings
from pathlib import Path
import numpy as np
from halobench import Calibrator, testing
from halobench.calibration import calibrator, saved
warnings.simplefilter("error")
rng = np.random.default_rng(0)
logits, labels = rng.normal(size=(2000, 4)), rng.integers(4, size=2000)
for name in ("own", "plain"):
    try:
        fit = calibrator.fit(name, logits, labels)
        fit.save(f"{name}.npz")
        testing.check_calibrator(name)
        print(name, Path(f"{name}.npz").stat().st_size < 10_000)
    except (ValueError, AssertionError) as error:
        print(error)
        try:
            testing.check_calibrator(name)
        except AssertionError as error:
            print(error)
"""
OPENED = "from halobench import Calibrator; print(Calibrator.load('own.npz').samples)"


@pytest.mark.process
def test_a_calibrator_that_is_one_more_file_is_saved_as_its_numbers_or_told_how(tmp_path):
    shutil.copytree(ROOT / "src/halobench", tmp_path / "halobench", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "halobench/calibration/calibrators"
    (folder / "own.py").write_text(OWN_CLASS)
    (folder / "plain.py").write_text(OWN_CLASS.replace('@savable("own")\n', ""))
    run = functools.partial(subprocess.run, capture_output=True, text=True, cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    own, saving, checking = run([sys.executable, "-c", ADDED], env=environment).stdout.splitlines()
    assert own == "own True"
    assert saving.startswith("plain.npz: an object of the type Own can't be saved; return a data class")
    assert checking.startswith('plain can\'t be saved; add @savable("plain") of halobench.calibration.saved to the')
    assert run([sys.executable, "-c", OPENED], env=environment).stdout == "2000\n"


@pytest.mark.process
@pytest.mark.parametrize("name", [*OWN, *FITS])
def test_a_file_is_opened_by_a_process_that_has_imported_nothing(name, tmp_path):
    fitted(name).save(tmp_path / "calibrator.npz")
    code = f"from halobench.calibration import saved; saved.read({str(tmp_path / 'calibrator.npz')!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_are_mapped_block_by_block_with_their_columns_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(apply, "LOGITS_PER_BLOCK", 64)
    names, (logits, labels) = ["b", "a", "c"], drawn(300, 3)
    fit = fit_auto(logits, np.array(names)[labels], names=names, candidates=())
    path, order = tmp_path / "calibrator.npz", [2, 0, 1]
    fit.save(path)
    expected = fit.predict_proba(logits)

    def applied(kind: str) -> Path:
        apply.run_apply(path, tmp_path / f"new{kind}", tmp_path / f"out{kind}")
        return tmp_path / f"out{kind}"

    turned = np.array(names)[order]
    np.savez_compressed(tmp_path / "new.npz", val_logits=np.asfortranarray(logits[:, order]), names=turned)
    with np.load(applied(".npz")) as out:
        np.testing.assert_allclose(out["val_probabilities"], expected, rtol=0, atol=1e-12)
        assert out["names"].tolist() == names
    np.savez(tmp_path / "new.npz", test_probabilities=fit.predict_proba(logits), names=np.array(names))
    with np.load(applied(".npz")) as out:
        np.testing.assert_allclose(out["test_probabilities"], fit.predict_proba(np.log(expected)), rtol=0, atol=1e-12)
    np.save(tmp_path / "new.npy", logits.astype(np.float32))
    single = np.load(applied(".npy"))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-6)
    table = pd.DataFrame(logits[:, order], columns=[f"logit_{name}" for name in turned]).assign(id=range(300))
    table.to_csv(tmp_path / "new.csv", index=False)
    columns = ["id", "probability_b", "probability_a", "probability_c"]
    out = pd.read_csv(applied(".csv"), float_precision="round_trip")
    assert out.columns.tolist() == columns
    np.testing.assert_allclose(out[columns[1:]], expected, rtol=0, atol=1e-12)
    pytest.importorskip("pyarrow")
    table.to_parquet(tmp_path / "new.parquet")
    np.testing.assert_array_equal(pd.read_parquet(applied(".parquet"))[columns[1:]], out[columns[1:]])


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"logits": np.where(np.arange(60)[:, None] == 43, np.nan, np.eye(4)[0])}, r"new\.npz: logits\[43\] = nan"),
        ({"logits": np.ones((9, 3))}, r"new\.npz: logits: found 3 columns, expected 4, one for each class in the fit"),
        ({"logits": np.full((9, 4), 0.25)}, "rows that look like probabilities.*pass an .npz file with an array"),
        ({"scores": np.ones((9, 4))}, r"new\.npz: arrays: found scores, expected logits or probabilities"),
        ({"logits": np.ones(9)}, r"new\.npz: logits: found float64 of shape \(9,\), expected an array \(n, 4\)"),
    ],
    ids=["NaN", "columns", "probabilities", "names", "shape"],
)
def test_what_is_wrong_with_new_logits_is_named(arrays, told, tmp_path, monkeypatch):
    monkeypatch.setattr(apply, "LOGITS_PER_BLOCK", 64)
    fitted("exact").save(tmp_path / "calibrator.npz")
    np.savez(tmp_path / "new.npz", **arrays)
    with pytest.raises(SpecError, match=told):
        apply.run_apply(tmp_path / "calibrator.npz", tmp_path / "new.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
    with pytest.raises(SpecError, match=r"out\.csv must end in \.npz, as the input does"):
        apply.run_apply(tmp_path / "calibrator.npz", tmp_path / "new.npz", tmp_path / "out.csv")


def test_a_file_larger_than_the_memory_that_applying_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(apply, "LOGITS_PER_BLOCK", 1 << 16)
    fit = fitted("top_rest")
    fit.save(tmp_path / "calibrator.npz")
    stream = io.BytesIO()
    np.save(stream, np.random.default_rng(0).normal(size=(500_000, 4)).astype(np.float32))
    (tmp_path / "new.npy").write_bytes(stream.getvalue())
    del stream
    tracemalloc.start()
    try:
        apply.run_apply(tmp_path / "calibrator.npz", tmp_path / "new.npy", tmp_path / "out.npy")
        assert tracemalloc.get_traced_memory()[1] < 5e6 < (tmp_path / "new.npy").stat().st_size
    finally:
        tracemalloc.stop()
