"""The code map: what is in it, what changes it, and that all Python versions agree on it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, needs
from halobench.core.errors import SpecError
from halobench.core.plugins import FOLDERS, names
from halobench.experiment import code_version
from halobench.experiment.code_version import FOLDER, NEUTRAL, STAGES, code_map, source_digest

pytestmark = pytest.mark.rerun


@pytest.fixture(autouse=True)
def _fresh():
    """Clear the maps, which are otherwise cached for a process's life: too long for tests that edit files."""
    code_version._maps.clear()
    code_version._places.cache_clear()


SOURCE = '''"""Module."""
import os


def f(a, *, b=2):
    """Doc."""
    # why
    return f"{a}" + str(b)


class C:
    """Doc."""

    x = {"k": [1, 2]}
'''
SAME = (
    'import os\ndef f(a,*,b=2):\n  return f"{a}"+str( b )  # other\nclass C:\n  "Another."\n  x = {\'k\': [1,\n 2]}\n'
)


def test_the_digest_is_blind_to_comments_docstrings_and_format():
    assert source_digest(SOURCE) == source_digest(SAME)
    assert source_digest(SOURCE) != source_digest(SOURCE.replace("b=2", "b=3"))
    assert source_digest(SOURCE) != source_digest(SOURCE.replace("+ str", "- str"))


def test_the_digest_is_a_known_constant_on_every_python():
    """It is written out to catch a Python version (or an edit to the digest) that changes it."""
    assert source_digest("x = [1, -2.5]\n") == "e89356884c79367b"


def test_the_code_map_holds_a_stage_and_its_plugins():
    base = code_map("train")
    mixed = code_map("train", [("losses", "mixup"), ("models", "timm/resnet18")])
    assert set(mixed) - set(base) == {"losses/mixup", "models/library_models"}
    assert {key: mixed[key] for key in base} == base
    assert all(len(digest) == 16 for digest in mixed.values())


def test_a_search_counts_where_it_is_used_alone():
    """An edit of the attack reruns no probe that only walks along rays."""
    rays, attacked = code_map("probe", [("probes", "sphere")]), code_map("probe", [("searches", "adversarial")])
    assert set(attacked) - set(rays) == {"probing/searches/adversarial", "probing/attack"}
    assert not any("far_field" in name or "piecewise" in name for name in {*rays, *attacked})


def test_every_module_is_in_some_map_or_known_to_change_no_number():
    """A new module must be one or the other: changing it affects the stages that import it, unless it is neutral."""
    package = ROOT / "src/halobench"
    paths = [path for path in package.rglob("*.py") if not code_version._is_empty(path)]
    modules = {path.relative_to(package).with_suffix("").as_posix() for path in paths}
    plugins = {m for folder in FOLDERS.values() for m in modules if m.startswith(f"{folder}/")}
    # The command line, the stages' input and output, checks and plans, and the information for the workflow.
    around = {m for m in modules if m.startswith(("cli/", "experiment/", "pipeline/", "runner/"))} - NEUTRAL
    around |= {"models/shape_check", "results/inventory", "storage/verify"}
    around |= {"models/weight_conversion", "probing/sample_size"}  # run before a model is scored; a probe's precision
    around |= {"calibration/external_logits", "reporting/compare", "results/trained_cell"}  # for people to look at
    around |= {"figures", "tables", "theory"}  # imported by users' figures, tables and notebooks
    mapped = {name for stage in STAGES for name in code_map(stage) if not name.startswith(FOLDER)}
    # Helpers of plug-ins count wherever the plug-in is used.
    named = [(kind, name) for kind in FOLDERS for name in names(kind)] + [("models", "timm/resnet18")]
    mapped |= set().union(*(code_map("source", [plugin]) for plugin in named))
    assert modules - plugins == (mapped - plugins) | NEUTRAL | around
    assert not mapped & (NEUTRAL | around)


OTHERS = ["python3.11", "python3.12", "python3.13", "python3.14", "/usr/bin/python3", "/usr/local/bin/python3"]
DIGESTS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from halobench.experiment.code_version import source_digest
print(json.dumps([list(sys.version_info[:2]), [source_digest(path.read_text()) for path in map(Path, sys.argv[2:])]]))
"""


def test_other_pythons_agree_on_the_digest_of_every_file():
    """Files of this repository, and of Snakemake, written in another style (nested f-strings, match, type hints)."""
    import snakemake

    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    files += Path(snakemake.__file__).parent.glob("*.py")
    expected = [source_digest(path.read_text()) for path in files]
    seen = set()
    for python in filter(None, map(shutil.which, OTHERS)):
        command = [python, "-I", "-c", DIGESTS, str(ROOT / "src"), *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:  # no shim for a version that isn't installed, or is older than 3.11
            version, digests = json.loads(done.stdout)
            seen.add(tuple(version))
            assert digests == expected, version
    print(f"agreed: Python {sorted(seen)}, {len(files)} files")
    needs(bool(seen - {sys.version_info[:2]}), "another Python of 3.11 or newer, e.g. Debian's python3")


MAIN = """from outside_helpers import scale
import outside_package.deep
import numpy as np


class Mine:
    def __call__(self, logits, targets):
        from halobench.losses.focal import Focal

        return Focal()(scale * logits, targets)
"""


@pytest.fixture
def outside(tmp_path, monkeypatch) -> Path:
    """A loss outside the package, with helpers next to it, one of them in a package with relative imports."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_loss.py").write_text(MAIN)
    (tmp_path / "outside_helpers.py").write_text("scale = 2.0\n")
    (tmp_path / "outside_package").mkdir()
    for name, text in {"__init__": "", "deep": "from . import deeper", "deeper": "x = 1", "unused": "x = 1"}.items():
        (tmp_path / f"outside_package/{name}.py").write_text(text + "\n")
    return tmp_path


def outside_map() -> dict[str, str]:
    code_version._maps.clear()
    return code_map("train", [("losses", "outside_loss:Mine")])


def test_what_a_plugin_outside_imports_counts_too(outside):
    before = outside_map()
    assert set(before) - set(code_map("train")) == {
        "outside_loss:Mine",
        "outside_helpers.py",
        "outside_package/__init__.py",
        "outside_package/deep.py",
        "outside_package/deeper.py",
        "losses/focal",
    }
    for path in ("outside_helpers.py", "outside_package/deeper.py"):
        text = (outside / path).read_text()
        (outside / path).write_text(f"# A comment.\n{text}")
        assert outside_map() == before
        (outside / path).write_text(f"{text}\ny = 3\n")
        after = outside_map()
        assert {key for key in after if after[key] != before[key]} == {path}
        (outside / path).write_text(text)
    (outside / "outside_package/unused.py").write_text("x = 2\n")
    assert outside_map() == before
    (outside / "outside_loss.py").write_text(MAIN.replace("from halobench.losses.focal import Focal\n", "Focal = int"))
    assert "losses/focal" not in outside_map()


TWO = """import outside_helpers
from functools import partial

RATE = 2.0
BASE = 3.0


def shared(x):
    return outside_helpers.scale * x


def alone(x):
    return x


class One(dict):
    def __call__(self, logits, targets):
        return shared(RATE * logits).sum()


class Two(dict):
    def __call__(self, logits, targets):
        return alone(BASE * logits).sum()


describe = partial(alone, 1)
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("RATE * logits", "RATE + logits", {"One"}),  # the object itself
        ("RATE = 2.0", "RATE = 4.0", {"One"}),  # a constant that it uses
        ("outside_helpers.scale * x", "outside_helpers.scale + x", {"One"}),  # a function that it calls
        ("class Two(dict)", "class Two(list)", {"Two"}),
        ("    return x\n", "    return 2 * x\n", {"Two"}),
        ("import outside_helpers\n", "import outside_helpers\nprint(1)\n", {"One", "Two"}),  # this may do anything
        ("class Two(dict)", "exec('')\nclass Two(dict)", {"One", "Two"}),
        ("RATE = 2.0", "# Why.\nRATE = 2.0", set()),
    ],
)
def test_an_object_outside_counts_with_what_it_refers_to_alone(outside, old, new, changed):
    def maps() -> dict[str, dict[str, str]]:
        code_version._maps.clear()
        return {name: code_map("train", [("losses", f"outside_two:{name}")]) for name in ("One", "Two")}

    path = outside / "outside_two.py"
    path.write_text(TWO)
    before = maps()
    assert "outside_helpers.py" in before["One"]
    assert "outside_helpers.py" not in before["Two"]
    assert old in TWO
    path.write_text(TWO.replace(old, new))
    after = maps()
    assert {name for name in before if before[name] != after[name]} == changed
    if changed == {"One"}:
        differing = {key for key in before["One"] if before["One"][key] != after["One"].get(key)}
        assert "outside_two:One" in differing


def test_a_file_that_a_helper_imports_counts_whole(outside):
    (outside / "outside_two.py").write_text(TWO)
    (outside / "outside_helpers.py").write_text("import outside_two\nscale = 2.0\n")
    before = code_map("train", [("losses", "outside_two:One")])
    (outside / "outside_two.py").write_text(TWO.replace("BASE = 3.0", "BASE = 4.0"))
    code_version._maps.clear()
    assert code_map("train", [("losses", "outside_two:One")]) != before


def test_libraries_are_not_imported_to_be_looked_at(outside):
    """Importing torch takes seconds, which is too slow for a dry run."""
    code = "import sys; from halobench.experiment.code_version import code_map;"
    code += " code_map('train', [('losses', 'outside_loss:Mine')]);"
    code += "print(sorted({'torch', 'numpy', 'outside_loss', 'outside_helpers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=outside)
    assert done.stdout.strip() == "[]"


def test_modules_that_import_each_other_end(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_one.py").write_text("import outside_two\ndef build(input_shape, classes): ...\n")
    (tmp_path / "outside_two.py").write_text("import outside_one, missing_module\n")
    found = code_map("train", [("models", "outside_one:build")])
    assert {"outside_one:build", "outside_two.py"} <= set(found)


def test_a_frozen_map_counts_and_a_job_refuses_code_that_was_edited_since(outside, monkeypatch):
    """The Snakemake processes around a job use the map saved by its run; the job itself checks the actual code."""
    before = outside_map()
    noted = json.loads(json.dumps(code_version.maps_in_use()))
    (outside / "outside_helpers.py").write_text("scale = 3.0\n")
    after = outside_map()
    assert {name for name in after if after[name] != before[name]} == {"outside_helpers.py"}
    code_version._maps.clear()
    code_version.freeze(noted)
    assert code_map("train", [("losses", "outside_loss:Mine")]) == before
    assert code_map("calibrate") == code_version._code_map("calibrate", ())
    code_version._maps.clear()
    with pytest.raises(SpecError, match=r"outside_helpers\.py changed"):
        code_version.require_code("train", [("losses", "outside_loss:Mine")], before)
