"""The code map: what is in it, what changes it, and that all Python versions agree on it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, needs
from halobench.calibration.calibrators import auto
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.plugins import names
from halobench.core.plugins.kinds import PACKAGE, kinds
from halobench.experiment import code_version
from halobench.experiment.code_version import code_map, tree_digest
from halobench.storage.layout import STAGES

pytestmark = pytest.mark.rerun


@pytest.fixture(autouse=True)
def forget():
    """Forget what is otherwise kept for a process's life, which is too long for tests that write and edit files."""

    def clear() -> None:
        code_version._code_map.cache_clear()
        code_version._places.cache_clear()
        code_version._imports.cache_clear()
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.partition(".")[0] == "thelib"]:
            del sys.modules[name]  # the parent package of a plug-in is imported

    clear()
    return clear


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


def source_digest(text: str) -> str:
    return tree_digest(ast.parse(text))


def test_the_digest_is_blind_to_comments_docstrings_and_format():
    assert source_digest(SOURCE) == source_digest(SAME)
    assert source_digest(SOURCE) != source_digest(SOURCE.replace("b=2", "b=3"))
    assert source_digest(SOURCE) != source_digest(SOURCE.replace("+ str", "- str"))


def test_the_digest_is_a_known_constant_on_every_python():
    """It is written out to catch a Python version (or an edit to the digest) that changes it."""
    assert source_digest("x = [1, -2.5]\n") == "e89356884c79367b"


# Some of the modules that must count, by stage, so that a map that lost one of its roots is noticed.
NEEDED = {
    "source": ("data/sources", "data/distribution"),
    "weights": ("models/pretrained",),
    "train": (
        "data/splits",
        "losses/base",
        "models/builder",
        "training/train_cell",
        "training/loop",
        "training/optimizer",
    ),
    "probe": ("calibration/calibrators/exact", "data/splits", "models/builder", "probing/probe"),
    "calibrate": (
        "calibration/calibrate_cell",
        "calibration/calibrator",
        "calibration/scores/metric",
        "calibration/scores/scoring",
        "calibration/calibrators/exact",
    ),
    "repair": ("calibration/cell_ladder", "calibration/repair/families", "results/trained_cell"),
    "reference": ("calibration/reference_predictors", "calibration/scores/scoring", "data/splits"),
    "manifest": ("storage/manifest",),
    "aggregate": ("results/aggregate", "analysis/random_ray_null", "storage/columns"),
    "claims": ("reporting/answers/answers", "reporting/pages/claims_page", "analysis/claims/verdicts"),
    "figure": ("reporting/plotting/saving",),
    "table": ("reporting/print_tables/layout",),
    "overview": ("reporting/pages/overview", "reporting/rendering", "results/job_and_fit_tables"),
    "explorer": ("reporting/explorer", "reporting/pages/index", "reporting/rendering"),
}


@pytest.fixture
def edited(monkeypatch, forget):
    """Edits a file of the package, for this test only, as the code map reads it."""
    read = plugins.parsed
    texts: dict[Path, str] = {}

    def clear() -> None:
        forget()
        code_version._file_digest.cache_clear()
        plugins._read.cache_clear()

    def edit(name: str, old: str, new: str) -> None:
        path = PACKAGE / name
        text = texts.get(path, path.read_text())
        assert text.count(old) == 1, (name, old)
        texts[path] = text.replace(old, new)
        clear()

    def edited_parsed(path: Path, mtime_ns: int) -> ast.Module:
        return ast.parse(texts[path]) if path in texts else read(path, mtime_ns)

    monkeypatch.setattr(plugins, "parsed", edited_parsed)
    monkeypatch.setattr(code_version, "parsed", edited_parsed)
    yield edit
    clear()


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_a_stage_includes_what_computes_its_numbers(stage):
    assert {*NEEDED.get(stage, ())} <= {*code_map(stage)}


@pytest.mark.parametrize("stage", names("stages"))
def test_what_a_stage_imports_is_declared(stage):
    """Every module that can change a number is in the map, but for the stages' protocol and what words a warning."""
    tree = ast.parse((PACKAGE / f"pipeline/stages/{stage}.py").read_text())
    imported = code_version._imported(tree, "halobench.pipeline.stages")
    files = (path for name in imported for _, path in code_version._files(name, frozenset()))
    used = {code_version._key("", path) for path in files if not code_version._is_neutral(path)}
    words = {"calibration/arrays"} if stage == "train" else set()
    assert {name for name in used if not name.startswith("pipeline/")} <= {*code_map(stage), *words}


@pytest.mark.parametrize("stage", names("stages"))
def test_a_stages_own_file_computes_nothing(stage):
    """It isn't part of the stage's code, so an edit there reruns nothing: no arithmetic, and no library for it."""
    tree = ast.parse((PACKAGE / f"pipeline/stages/{stage}.py").read_text())
    operators = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.AugAssign)}
    assert not [text for text in operators if not re.search(r" \| | / (?:f?'|name|file|ANSWERS)", text)], (
        "mappings and paths"
    )
    assert not any(isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) for node in ast.walk(tree))
    imported = {name.partition(".")[0] for name in code_version._imported(tree, "halobench.pipeline.stages")}
    assert not imported & {"math", "numpy", "random", "scipy", "statistics", "torch"}


def test_where_a_stage_imports_its_code_is_of_no_consequence(edited):
    before = code_map("calibrate")
    line, place = "from halobench.calibration.calibrate_cell import calibrate\n", "    parsed = parse("
    edited("pipeline/stages/calibrate.py", line, "")
    edited("pipeline/stages/calibrate.py", place, f"    {line}{place}")
    assert code_map("calibrate") == before
    edited("calibration/scores/scoring.py", "name, float(np.mean(value))", "name, 2 * float(np.mean(value))")
    assert code_map("calibrate") != before


def test_code_whose_edits_change_no_number_is_not_declared(edited):
    edited("pipeline/stages/train.py", '"training.train_cell"', '"storage.files"')
    with pytest.raises(
        SpecError, match=r"code names 'storage\.files', whose edits can't change a number; leave it out"
    ):
        code_map("train")


def test_a_ladder_depends_on_all_that_further_draws_pass_through():
    """Its maps are fitted to samples that are drawn again, and to the cell's model on them."""
    needed = {"calibration/cell_ladder", "data/distribution", "data/splits", "models/builder", "training/train_cell"}
    needed |= {"results/trained_cell"}
    assert needed <= set(code_map("repair"))


def test_the_choice_of_a_calibrator_depends_on_every_candidate():
    counted = code_map("calibrate", [("calibrators", "auto")])
    for name in (*auto.OWN, *auto.LIBRARY):
        assert any(key.endswith(f"/{name.split('/')[0]}") for key in counted), name


def test_a_search_counts_where_it_is_used_alone():
    """An edit of the attack reruns no probe that only walks along rays."""
    rays, attacked = code_map("probe", [("probes", "sphere")]), code_map("probe", [("searches", "adversarial")])
    assert set(attacked) - set(rays) == {"probing/searches/adversarial", "probing/attack"}
    assert not any("certify" in name or "piecewise" in name for name in {*rays, *attacked})


def test_what_formats_numbers_for_readers_outdates_tables_and_pages_and_nothing_computed():
    plugins = [(kind, name) for kind in {*kinds()} - {"stages", "figures", "tables"} for name in names(kind)]
    computed = ("source", "weights", "train", "probe", "calibrate", "repair", "reference", "aggregate")
    assert not any("core/formatting" in code_map(stage, plugins) for stage in computed)
    assert all("core/formatting" in code_map(stage) for stage in ("table", "claims", "overview", "explorer"))


def test_every_module_is_in_some_map_or_known_to_change_no_number():
    """A new module must be one or the other: changing it affects the stages that import it, unless it is neutral."""
    package = ROOT / "src/halobench"
    paths = [
        path for path in package.rglob("*.py") if path.stem != "__init__" or len(ast.parse(path.read_text()).body) > 1
    ]
    modules = {path.relative_to(package).with_suffix("").as_posix() for path in paths}
    folders = tuple(f"{kind.folder.relative_to(PACKAGE).as_posix()}/" for kind in kinds().values())
    plugins = {m for m in modules if m.startswith(folders)}
    # The command line, the stages' input and output, checks and plans, and the information for the workflow.
    neutral = {m for m in modules if code_version._is_neutral(package / f"{m}.py")} | {"__init__"}
    around = {m for m in modules if m.startswith(("cli/", "desk/", "experiment/", "pipeline/", "runner/"))} - neutral
    around -= {"experiment/figure_choice"}  # pages take titles of figures and tables from it
    around |= {"models/shape_check", "results/inventory", "results/status"}
    around |= {"reporting/compare", "reporting/pages/diagnosis_page"}  # for people to look at
    around |= {m for m in modules if m.startswith("calibration/diagnosis/")} - neutral
    around |= {
        "arena",
        "figures",
        "sklearn",
        "tables",
        "theory",
        "torch",
    }  # imported by users' figures and notebooks
    around |= {"calibration/floor"}  # of diagnoses
    around |= {m for m in modules if m.startswith("testing/")}  # imported by users' tests
    mapped = {name for stage in STAGES for name in code_map(stage)}
    # Helpers of plug-ins count wherever the plug-in is used.
    named = [(kind, name) for kind in {*kinds()} - {"stages"} for name in names(kind)]
    named += [("models", "timm/resnet18")]
    named += [("calibrators", "probmetrics/SMSCalibrator"), ("calibrators", "netcal/BBQ")]
    mapped |= set().union(*(code_map("source", [plugin]) for plugin in named))
    mapped = {name for name in mapped - {code_version.TITLES} if "/templates/" not in name}
    assert modules - plugins == (mapped | neutral | around) - plugins
    assert not mapped & (neutral | around)


OTHERS = ["python3.11", "python3.12", "python3.13", "python3.14", "/usr/bin/python3", "/usr/local/bin/python3"]
DIGESTS = """
import ast, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from halobench.experiment.code_version import tree_digest
texts = [Path(name).read_text() for name in sys.argv[2:]]
print(json.dumps([list(sys.version_info[:2]), [tree_digest(ast.parse(text)) for text in texts]]))
"""


@pytest.mark.process
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


@pytest.fixture
def outside_map(outside, forget):
    """Computes the map of that loss afresh."""

    def compute() -> dict[str, str]:
        forget()
        return code_map("train", [("losses", "outside_loss:Mine")])

    return compute


def test_what_a_plugin_outside_imports_counts_too(outside, outside_map):
    before = outside_map()
    assert set(before) - set(code_map("train")) == {
        "outside_loss.py",
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


FILES = ("thelib/__init__.py", "thelib/deep.py", "thelib_more.py")


def write(folder: Path, metadata: str = "", listing: str = "RECORD", files: tuple[str, ...] = FILES) -> Path:
    """Write the package `thelib` and the module `thelib_more` into a folder; return it.

    Beside them, there may be `metadata` of a distribution, which lists its `files` as installers or builds do.
    """
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("from thelib import deep\n" if name.endswith("__init__.py") else "x = 1\n")
    if metadata:
        (folder / metadata).mkdir()
        for name in ("METADATA", "PKG-INFO"):
            (folder / metadata / name).write_text("Metadata-Version: 2.1\nName: thelib\nVersion: 1.0\n")
        (folder / metadata / listing).write_text(
            "".join(f"{name},,\n" if listing == "RECORD" else f"{name}\n" for name in files)
        )
    return folder


def link(folder: Path, target: Path) -> Path:
    """Link what `write` wrote into another folder, as views of environment modules do."""
    folder.mkdir(parents=True)
    for name in ("thelib", "thelib_more.py"):
        (folder / name).symlink_to(target / name)
    return folder


INFO = "thelib-1.0.dist-info"
LIBRARIES = {
    "pip --target, or an overlay": lambda top: write(top / "target", INFO),
    "pip --user, or an environment module": lambda top: write(top / "lib/python3/site-packages"),
    "the system's": lambda top: write(top / "lib/python3/dist-packages"),
    "links to an environment's": lambda top: link(top / "eb", write(top / "lib/site-packages")),
    "links to a target": lambda top: link(top / "eb", write(top / "target", INFO)),
}
OWN = {
    "a folder on the path": lambda top: write(top / "mine"),
    "an editable installation's source": lambda top: write(top / "src", "thelib.egg-info", "SOURCES.txt"),
    "an environment's links to a project": lambda top: link(top / "lib/site-packages", write(top / "project")),
    "beside another package's installation": lambda top: write(top / "mine", INFO, files=("other/__init__.py",)),
}


BY_PTH = ("pip --target, or an overlay", "a folder on the path")


@pytest.mark.parametrize(
    ("layout", "by"),
    [*((each, "the search path") for each in (*LIBRARIES, *OWN)), *((each, "a .pth file") for each in BY_PTH)],
)
def test_installed_packages_are_not_followed_wherever_they_are_and_what_the_user_wrote_is(
    layout, by, outside, outside_map, tmp_path, monkeypatch
):
    folder = (LIBRARIES | OWN)[layout](tmp_path / "elsewhere")
    if by == "a .pth file":
        monkeypatch.setattr(sys, "path", [*sys.path])
        (tmp_path / "environment").mkdir()
        (tmp_path / "environment/overlay.pth").write_text(f"{folder}\n")
        site.addsitedir(str(tmp_path / "environment"))
    else:
        monkeypatch.syspath_prepend(folder)
    (outside / "outside_helpers.py").write_text("import thelib.deep, thelib_more\nscale = 2.0\n")
    found = {name for name in outside_map() if "thelib" in name}
    assert found == (set(FILES) if layout in OWN else set())


def test_a_plugin_in_an_installed_package_counts_with_its_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write(tmp_path / "site-packages", INFO))
    (tmp_path / "site-packages/thelib/losses.py").write_text("import numpy, thelib_more\nclass Mine: ...\n")
    found = code_map("train", [("losses", "thelib.losses:Mine")])
    assert {name for name in found if "thelib" in name} == {
        f"thelib/{name}.py" for name in ("__init__", "deep", "losses")
    }


@pytest.mark.process
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
    assert {"outside_one.py", "outside_two.py"} <= set(found)


def test_a_job_refuses_code_that_was_edited_since_it_was_requested(outside, outside_map):
    before = outside_map()
    (outside / "outside_helpers.py").write_text("scale = 3.0\n")
    after = outside_map()
    assert {name for name in after if after[name] != before[name]} == {"outside_helpers.py"}
    plugins, then = [("losses", "outside_loss:Mine")], "was edited after the run had started; start the run again"
    for code in (before, code_version.code_digest(before)):
        with pytest.raises(SpecError, match=then):
            code_version.require_code("train", plugins, code)
    for code in (None, after, code_version.code_digest(after)):
        assert code_version.require_code("train", plugins, code) == after


def test_the_digest_of_a_map_is_a_known_constant_that_ignores_order():
    code = {"losses/mixup": "0" * 16, "losses/base": "1" * 16}
    text = b'{"losses/base":"1111111111111111","losses/mixup":"0000000000000000"}'
    assert code_version.code_digest(code) == hashlib.sha256(text).hexdigest()[:16]
    assert code_version.code_digest(dict(reversed(code.items()))) == code_version.code_digest(code)
