"""The names that `halobench` itself offers: loaded lazily."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import halobench
from halobench.core import plugins
from halobench.core.plugins.kinds import kinds


@pytest.mark.process
def test_the_package_is_imported_alone():
    """Importing it takes milliseconds, because it loads no other package, and nothing slow of Python's."""
    code = "import sys; before = {*sys.modules}; import halobench; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded <= {"__future__", "halobench", "importlib", "warnings"}


def test_every_public_name_is_there_once():
    assert len(halobench.__all__) == len(set(halobench.__all__))
    for name in halobench.__all__:
        value = getattr(halobench, name)
        assert getattr(value, "__name__", name).removeprefix("halobench.") == name
    assert halobench.__version__ == metadata.version("halobench")
    assert dir(halobench) == sorted(halobench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'ec'"):
        _ = halobench.ec


def test_every_loss_and_metric_of_the_package_is_public():
    """By its file alone: a class named after a loss's file, and a function with a metric's name."""
    named = {*plugins.names("metrics"), *map(kinds()["losses"].entry_of, plugins.names("losses"))}
    assert named <= {*halobench.__all__}


def test_the_type_stub_has_every_public_name_from_its_module():
    """Editors read it in place of the package, whose names are loaded on first use."""
    homes = {}
    for node in ast.parse(Path(halobench.__file__).with_suffix(".pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            homes |= {alias.asname: node.module for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            homes[node.name] = "halobench.calibration.scores.metric"
        elif isinstance(node, ast.AnnAssign):
            homes[ast.unparse(node.target)] = ""
    assert sorted(homes) == sorted(halobench.__all__)
    for name, module in homes.items():
        assert not module or hasattr(importlib.import_module(module), name)
