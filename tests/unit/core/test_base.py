"""Specs, seeds, files and plug-ins."""

from __future__ import annotations

import ast
import inspect
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from halobench.calibration.scores.metric import nll
from halobench.core import plugins
from halobench.core.errors import Found, SpecError, naming, refuse, require, shown
from halobench.core.plugins.kinds import PACKAGE
from halobench.core.seeding import generator
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.calibrator import CalibratorSpec
from halobench.core.specs.codec import canonical, parse, to_json
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.core.specs.metric import MetricSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data.sources import is_distribution
from halobench.experiment.code_version import code_map
from halobench.losses import base
from halobench.storage import arrays_io, files, provenance, tables_io


@pytest.mark.parametrize(
    "spec",
    [
        TrainSpec(lr=0.5, epochs=9),
        ProbeSpec("sphere", radii=(0.0, 1.0)),
        DatasetSpec("s", 4, 2, 3, NoiseSpec("asymmetric", 0.25)),
        ModelSpec("timm/any", {"width": 3, "list": [1, 2]}, resize=32),
    ],
)
def test_a_spec_survives_its_canonical_json(spec):
    assert parse(type(spec), json.loads(to_json(spec))) == spec


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0.1, "it's", "", [], (), {}, set(), [1], (1,), (1, 2), {"a": 1}, {(1,): [{}, ()]}, np.float64(2)),
        {"b": [1, (2, {"c": None})], "a": {"d": [[[]]]}},
        Path("x"),
    ],
)
def test_a_value_is_shown_as_python_prints_it(value):
    """Long ones are cut, and line breaks are escaped."""
    assert shown(value) == repr(value)
    assert shown([value] * 300) == f"{repr([value] * 300)[:200]}..."
    assert shown(["\n", "\x1b"]) == r"['\n', '\x1b']"


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: TrainSpec(lr=-1), "lr = -1.0: expected a number above 0"),
        (lambda: TrainSpec(batch="50"), "batch = '50': expected a whole number"),
        (lambda: TrainSpec(lr="1e999"), "lr = inf: expected a finite number"),
        (lambda: DatasetSpec("s", 4), "val: missing; set it, since it has no default"),
        (lambda: parse(ModelSpec, {"nam": "mlp"}), "name: missing; set it, since it has no default"),
        (
            lambda: LossSpec("focal", {"gamm": 3}),
            "gamm: no such option; those of focal are gamma (did you mean 'gamma'?)",
        ),
        (
            lambda: parse(ModelSpec, {"name": "mlp", "widht": 8}),
            "widht: no such option; those of mlp are width, depth (did you mean 'width'?)",
        ),
        (lambda: SourceSpec("digits", {"side": 4}), "side: digits has no options; leave this key out"),
        (
            lambda: CalibratorSpec("exat"),
            f"name = 'exat': expected one of {', '.join(plugins.names('calibrators'))} (did you mean 'exact'?),"
            " probmetrics/NAME, netcal/NAME or module:object",
        ),
        (lambda: MetricSpec("ece", {"bin": 5}), "bin: no such option; those of ece are bins (did you mean 'bins'?)"),
        (
            lambda: ProbeSpec("sphere", norm="inf"),
            "norm: sphere doesn't use this key; leave it out",
        ),
    ],
)
def test_a_spec_is_checked_however_it_is_built(build, line):
    with pytest.raises(SpecError) as raised:
        build()
    assert str(raised.value) == line
    again = pickle.loads(pickle.dumps(raised.value))  # as from a worker process
    assert (type(again), str(again), vars(again)) == (type(raised.value), line, vars(raised.value))


@pytest.mark.parametrize(
    "spec",
    [
        LossSpec("mixup", {"points": 2, "alpha": 1.0}),
        ModelSpec("mlp", {"width": 256}),
        SourceSpec("gaussians", {"classes": 2}),
        MetricSpec("ece", {"bins": 15}),
    ],
)
def test_a_spec_built_in_python_has_no_options_that_equal_their_defaults(spec):
    """So it is the spec that a configuration would give, and the job is the same."""
    defaults = spec.plugin.options
    assert not [key for key, value in spec.options.items() if value == defaults[key]]
    assert parse(type(spec), canonical(spec)) == spec


def refusal(call) -> SpecError:
    with pytest.raises(SpecError) as raised, naming("outer"):
        call()
    return raised.value


@pytest.mark.parametrize(
    ("call", "line", "sentence"),
    [
        (lambda: require(False, "lr", -1, "a number"), "outer.lr = -1: expected a number", None),
        (
            lambda: require(False, "logits", Found("shape (3,)"), "an array (n, k)"),
            "outer.logits: found shape (3,), expected an array (n, k)",
            "found shape (3,), expected an array (n, k)",
        ),
        (lambda: refuse(True, "mine.npz", "no such file"), "outer.mine.npz: no such file", "no such file"),
        (lambda: refuse(True, "", "the table has no rows"), "outer: the table has no rows", "the table has no rows"),
    ],
)
def test_a_line_has_the_key_and_the_value_or_what_was_found_or_a_sentence(call, line, sentence):
    error = refusal(call)
    assert str(error) == line
    assert error.sentence == (sentence or line)
    moved = error.at("elsewhere", " (a remedy)")
    assert type(moved) is type(error)
    assert str(moved) == line.replace(error.key, "elsewhere", 1) + " (a remedy)"
    require(True, "a", 1, "b")
    refuse(False, "a", "b")


# Values that are words: names of plug-ins or of options, which users wrote.
NAMES = {"ovo", "small"}


def raised_in(path: Path) -> list[tuple[int, list[ast.expr]]]:
    """The line and the arguments (key, value, expected) of each SpecError that a module may raise."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    by_name = [(node, getattr(node.func, "id", "")) for node in calls]
    skipped = {"SpecError": 0, "require": 1}
    return [(node.lineno, node.args[skipped[name] :]) for node, name in by_name if name in skipped]


def test_messages_are_sentences_unless_a_value_is_wrong():
    """A description isn't shown in quotes, as if it were the value, and "expected" isn't followed by what is wrong."""
    faults = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, (_, value, *expected) in raised_in(path):
            words = isinstance(value, ast.JoinedStr) or (
                isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value not in NAMES
            )
            text = "".join(str(n.value) for e in expected for n in ast.walk(e) if isinstance(n, ast.Constant))
            if words or re.match(r"(no|none|not|this key)\b|.*, but (there|this|it) ", text):
                faults.append(f"{path.name}:{line}: {text}")
    assert not faults, "use Found for descriptions, and RefusedError or refuse for sentences"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (TrainSpec(epochs=7.0, lr=1), '{"epochs":7,"lr":1.0}'),
        (parse(TrainSpec, {"lr": 1, "epochs": 7}), '{"epochs":7,"lr":1.0}'),
        (TrainSpec(), "{}"),
        (parse(TrainSpec, {"lr": "3e-3", "epochs": "1E2"}), '{"epochs":100,"lr":0.003}'),  # as YAML 1.1 reads them
        (
            ModelSpec("timm/any", {"a": "-1.5e-3", "b": ["e3", "1e3x"]}),
            '{"name":"timm/any","options":{"a":-0.0015,"b":["e3","1e3x"]}}',
        ),
        (
            DatasetSpec("s", 4, 2, 3, NoiseSpec("pair_flip", 0.5)),
            '{"noise":{"p":0.5},"source":"s","test":3,"train":4,"val":2}',
        ),
        ({"b": 1, "a": [1.5]}, '{"a":[1.5],"b":1}'),
    ],
)
def test_canonical_json_has_sorted_keys_numbers_of_their_type_and_no_defaults(spec, text):
    assert to_json(spec) == text
    assert isinstance(spec, dict) or canonical(spec) == json.loads(text)


def test_streams_differ_by_purpose_and_seed_and_repeat():
    keys = [(0, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (1, "a")]
    draws = [tuple(generator(*key).random(4)) for key in keys]
    assert len(set(draws)) == 5
    assert tuple(generator(*keys[0]).random(4)) == draws[0]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError):  # noqa: PT011
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert files.read_json(tmp_path / "a.json") == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_tables_and_arrays_survive_their_files_with_the_same_bytes(tmp_path):
    table = pd.DataFrame({"a": [0.1, 1 / 3, 1e-300], "b": ["x", "y", "z"]})
    arrays = {"x": np.arange(6).reshape(2, 3), "y": np.ones(3, np.float32)}
    for folder in (tmp_path / "one", tmp_path / "two"):
        tables_io.write_csv(folder / "t.csv", table)
        tables_io.write_parquet(folder / "t.parquet", table)
        arrays_io.write_arrays(folder / "t.safetensors", arrays)
        arrays_io.write_npy(folder / "t.npy", arrays["x"])
        pd.testing.assert_frame_equal(pd.read_csv(folder / "t.csv"), table, check_exact=True)
        pd.testing.assert_frame_equal(pd.read_parquet(folder / "t.parquet"), table, check_exact=True)
        assert all(
            (arrays_io.read_arrays(folder / "t.safetensors")[key] == value).all() for key, value in arrays.items()
        )
    for name in ("t.csv", "t.parquet", "t.safetensors", "t.npy"):
        assert files.checksum(tmp_path / "one" / name) == files.checksum(tmp_path / "two" / name)


def test_plugins_are_files_and_their_options_are_read_without_importing():
    assert "cnn" in plugins.names("models")
    assert {name for name in ("digits", "overlap") if is_distribution(name)} == {"overlap"}
    assert plugins.find("figures", "log_k").constants.get("SHOWS") == ("overlap", "image_overlap", "collage")
    assert plugins.find("figures", "radii").constants.get("SHOWS") is None
    assert "theme" not in plugins.names("figures")
    assert plugins.find("losses", "mixup").options == {"points": 2, "alpha": 1.0, "weights": "batch"}
    assert plugins.find("models", "timm/resnet18").options is None
    assert plugins.find("losses", "mixup").without_defaults({"points": 2, "alpha": 0.5}) == {"alpha": 0.5}


def test_a_class_that_its_module_imports_from_elsewhere_is_a_plugin(tmp_path, monkeypatch):
    """The library's own file is found; its version, not its code, is part of a job's code version."""
    (tmp_path / "own_imports.py").write_text("from torch.nn import CrossEntropyLoss as Own\nfrom math import sqrt\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("torch.nn:CrossEntropyLoss", "own_imports:Own"):
        plugin = plugins.find("losses", name)
        assert plugin.path == Path(inspect.getfile(torch.nn.CrossEntropyLoss))
        assert plugin.options["label_smoothing"] == 0.0
        assert plugin.load() is torch.nn.CrossEntropyLoss
    logits, labels = torch.randn(5, 3), torch.arange(5) % 3
    loss = base.build(LossSpec("torch.nn:CrossEntropyLoss", {"label_smoothing": 0.1}))
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, labels), expected)
    (module,) = (name for name in code_map("train", [("losses", "torch.nn:CrossEntropyLoss")]) if "torch" in name)
    assert module == "torch/nn.py"
    for name, said in (
        ("own_imports:Other", "doesn't define 'Other'"),
        ("own_imports:sqrt", "isn't a function or class"),
    ):
        with pytest.raises(SpecError, match=said):
            plugins.find("losses", name)


def test_a_file_without_its_entry_is_named():
    with pytest.raises(SpecError, match=r"base\.py defines no class 'Base', which makes it one of the losses"):
        plugins.find("losses", "base")


def test_no_folder_is_listed_twice(monkeypatch):
    """Looking plug-ins up took more than half of the time of the stage `calibrate`."""
    entries = {"calibrators": ["none", "exact", "paper", "partner"]}
    logits, labels = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 3
    first = parse(CalibrateSpec, entries).plugged, nll(logits, labels)
    listed = []
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: listed.append(folder) or iter(()))
    assert (parse(CalibrateSpec, entries).plugged, nll(logits, labels)) == first
    assert not listed


def test_each_argument_of_a_class_has_its_own_default_or_none(tmp_path, monkeypatch):
    text = "class Own:\n    def __init__(self, weights, share, amount=0.1, *, level, power=2): ...\n"
    (tmp_path / "own_losses.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    expected = {"weights": ..., "share": ..., "amount": 0.1, "level": ..., "power": 2}
    assert plugins.find("losses", "own_losses:Own").options == expected


def test_defaults_are_left_out_however_they_are_written(tmp_path, monkeypatch):
    """YAML and JSON have no tuples; in Python, True == 1."""
    text = "def build(input_shape, classes, *, sizes=(1, (2, 3)), deep=True, one=1, rate=0.5): ...\n"
    (tmp_path / "defaulted.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        plugins.find("models", "defaulted:build").without_defaults({"sizes": [1, [2, 3]], "deep": True, "one": 1.0})
        == {}
    )
    other = {"sizes": [1, [2, 4]], "deep": 1, "one": True, "rate": 0.25}
    assert plugins.find("models", "defaulted:build").without_defaults(dict(other)) == other


@pytest.mark.process
def test_a_commit_is_marked_if_a_tracked_file_is_edited_or_the_package_has_a_new_one(tmp_path, monkeypatch):
    package = tmp_path / "src/halobench"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "README.md").touch()
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    commit = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "commit", "--quiet", "--message=now"]
    for command in (["init", "--quiet"], ["add", "."], commit):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    now = provenance.commit.__wrapped__
    clean = now()
    assert len(clean) == 40
    (tmp_path / "notes.txt").touch()
    (package / "__pycache__").mkdir()
    (package / "__pycache__/a.pyc").touch()
    assert now() == clean, "what isn't of the package, and what git is to ignore"
    (package / "mine.py").touch()
    assert now() == f"{clean}-dirty"
    (package / "mine.py").unlink()
    (tmp_path / "README.md").write_text("edited")
    assert now() == f"{clean}-dirty"


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells no other peak")
def test_a_peak_of_memory_is_not_that_of_the_process_before(tmp_path):
    measure = "from halobench.storage.provenance import _peak_memory; print(_peak_memory())"
    began_large = f"""
import subprocess, sys
held = bytearray(b"x") * (300 * 2**20)
print(subprocess.run([sys.executable, "-c", {measure!r}], check=True, capture_output=True, text=True).stdout)
exec({measure!r})
"""
    done = subprocess.run([sys.executable, "-c", began_large], check=True, capture_output=True, text=True)
    child, parent = map(float, done.stdout.split())
    assert child < 200
    assert parent > 300
