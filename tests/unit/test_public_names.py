"""The names that `halobench` itself offers: loaded lazily, and including all that the documentation imports."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from importlib import metadata

import pytest

import halobench
from conftest import ROOT

EXAMPLES = [path for path in (ROOT / "src/halobench").rglob("*.py") if ">>> " in path.read_text()]


def test_the_package_is_imported_alone():
    """Importing it takes milliseconds, because it loads no other package, and nothing slow of Python's."""
    code = "import sys; before = {*sys.modules}; import halobench; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded <= {"__future__", "halobench", "importlib", "warnings"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings_give_what_they_show(path):
    module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_every_public_name_is_there_once():
    assert len(halobench.__all__) == len(set(halobench.__all__))
    for name in halobench.__all__:
        value = getattr(halobench, name)
        assert getattr(value, "__name__", name).removeprefix("halobench.") == name
    assert halobench.__version__ == metadata.version("halobench")
    assert dir(halobench) == sorted(halobench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'ec'"):
        _ = halobench.ec


def test_the_documentation_imports_public_names_or_names_their_module():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    imported = {
        name.strip()
        for page in pages
        for names in re.findall(r"^from halobench import (.+)$", page.read_text(), re.M)
        for name in names.split(",")
    }
    assert {"fit_temperature", "ece", "Mixup", "probe", "Loss", "Images"} <= imported
    assert imported <= set(halobench.__all__)
