"""Compare implementations of temperature scaling on sets of logits: `python benchmarks/conformance/run.py [NAME ...]`.

Each file in implementations/ is one implementation, which runs in an environment and in processes of its own. Results
are kept in build/conformance, one file for each implementation and set, and a run computes only what is missing there,
so it may be interrupted. At the end, it writes matrix.json, reports/ and the tables of docs/conformance.md. With NAMEs,
only these run.
`--sets TEXT` is a first look at the sets whose names have TEXT in them; it writes none of these files.
`--reproduce NAME SET` prints the lines that reproduce one result.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build/conformance"
MATRIX, REPORTS, DOCS = HERE / "matrix.json", HERE / "reports", ROOT / "docs/conformance.md"
SECONDS, PATIENCE, GIBIBYTES = 60, 3600, 6  # the limits on each set; on a busy machine, seconds of the clock pass fast
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CONSTANTS = ("TITLE", "REQUIRES", "ALONE", "TAKES", "SUPPORTS", "CLASSES", "UPSTREAM", "ADVICE", "NOTE", "SHOW")
for name in THREADS:  # before numpy is imported
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import page  # noqa: E402
import verdicts  # noqa: E402

from halobench.testing import Optimum, TemperatureSet  # noqa: E402
from halobench.testing.logit_sets import SETS, SOFT  # noqa: E402
from halobench.testing.optimum import optimum  # noqa: E402


@dataclass(frozen=True)
class Implementation:
    """What a file in implementations/ says about itself, read without running it.

    requires : packages to install, of which the first is the one under test; () for this repository's environment.
    alone : packages to install without their dependencies.
    takes : what `fit` is given first, "logits" or "probabilities".
    supports : kinds of sets that it is run on only if it says so: "soft targets".
    classes : the only number of classes that it takes; 0 if any.
    upstream, advice : where it is maintained, and which settings make it right.
    note, show : what its maintainers would say to the results, and the set that its report reproduces.
    """

    file: Path
    about: str
    title: str
    requires: tuple[str, ...]
    alone: tuple[str, ...] = ()
    takes: str = "logits"
    supports: tuple[str, ...] = ()
    classes: int = 0
    upstream: str = ""
    advice: str = ""
    note: str = ""
    show: str = ""

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def package(self) -> str:
        """The name of the package under test."""
        spec = (*self.alone, *self.requires, "halobench")[0]
        return spec.split("==")[0].split("[")[0]

    @property
    def pinned(self) -> str:
        """The version that its file asks for, or ""."""
        return (*self.alone, *self.requires, "")[0].partition("==")[2]

    @property
    def digest(self) -> str:
        """Identify what the results depend on: the code and the packages, not the words."""
        parts = [ast.dump(node) for node in code_of(self.file)]
        return hashlib.sha256(repr([parts, self.requires, self.alone, self.takes]).encode()).hexdigest()[:12]

    @classmethod
    def read(cls, file: Path) -> Implementation:
        tree = ast.parse(file.read_text())
        said = {named(node).lower(): ast.literal_eval(node.value) for node in tree.body if named(node) in CONSTANTS}
        return cls(file, ast.get_docstring(tree) or "", **{"title": file.stem} | said)


def named(node: ast.stmt) -> str:
    """Return the name that a statement gives a value, or ""."""
    assigns = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    return node.targets[0].id if assigns else ""


def code_of(file: Path) -> list[ast.stmt]:
    """Return the statements of an implementation without its docstring and its `CONSTANTS`."""
    tree = ast.parse(file.read_text())
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return [node for node in body if named(node) not in CONSTANTS]


def implementations() -> dict[str, Implementation]:
    """Return all implementations by name: halobench first, loops last."""
    found = {file.stem: Implementation.read(file) for file in (HERE / "implementations").glob("*.py")}
    last = ("paper", "tutorial_adam", "tutorial_lbfgs")
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "halobench", name in last, name))}


def environment(implementation: Implementation, folder: Path) -> Path:
    """Return the Python of an implementation's environment, which is made if its packages changed.

    Raises RuntimeError, with the installer's message, if it can't be installed.
    """
    if not implementation.requires:
        return Path(sys.executable)
    home = folder / implementation.name
    python, made = home / "bin/python", home / "made.json"
    wanted = json.dumps([implementation.requires, implementation.alone])
    if made.exists() and made.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    uv = shutil.which("uv")
    steps = [[uv, "venv", "--quiet", "--python", sys.executable, home] if uv else [sys.executable, "-m", "venv", home]]
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    steps += [[*install, "--quiet", *implementation.requires]]
    steps += [[*install, "--quiet", "--no-deps", *implementation.alone]] if implementation.alone else []
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout).strip()[-1000:])
    made.write_text(wanted)
    return python


def unsupported(implementation: Implementation, logit_set: TemperatureSet, classes: int) -> str:
    """Return why an implementation isn't run on a set, or ""."""
    if logit_set.kind == SOFT and SOFT not in implementation.supports:
        return "takes labels only"
    if implementation.classes not in (0, classes):
        return f"for {implementation.classes} classes only"
    return ""


def digest(logit_set: TemperatureSet) -> str:
    """Identify a set by the lines that make it."""
    return hashlib.sha256(logit_set.code.encode()).hexdigest()[:16]


def file_of(logit_set: TemperatureSet, folder: Path) -> Path:
    """Return a set as an .npz file in `folder`, which is written if it is missing."""
    path = folder / f"{digest(logit_set)}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, z=logit_set.logits, y=logit_set.labels)
        partial.replace(path)
    return path


def measure(
    implementation: Implementation,
    sets: dict[str, TemperatureSet],
    work: Path = WORK,
    seconds: float = SECONDS,
    patience: float = PATIENCE,
    limit: int = GIBIBYTES << 30,
) -> tuple[dict[str, dict], dict[str, str]]:
    """Return what an implementation returned for each set, and versions; only missing results are computed.

    Raises RuntimeError if its environment can't be made, or if it can't be imported there.
    """
    folder = work / "results" / f"{implementation.name}-{implementation.digest}"
    folder.mkdir(parents=True, exist_ok=True)
    outs = {name: folder / f"{digest(logit_set)}.json" for name, logit_set in sets.items()}
    missing = [name for name, out in outs.items() if not out.exists()]
    noted = folder / "versions.json"
    if missing or not noted.exists():
        python = environment(implementation, work / "environments")
        task = {
            "implementation": str(implementation.file),
            "packages": [implementation.package, "numpy", "scipy", "torch"],
            "sets": [{"path": str(file_of(sets[name], work / "sets")), "out": str(outs[name])} for name in missing],
            "seconds": seconds,
            "patience": patience,
            "bytes": limit,
        }
        done = subprocess.run(
            [python, "-P", HERE / "worker.py"], input=json.dumps(task), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-1000:] or f"exit status {done.returncode}")
        noted.write_text(done.stdout)
    found = {name: json.loads(out.read_text()) for name, out in outs.items() if out.exists()}
    return found, json.loads(noted.read_text())


@cache
def arrays(name: str, work: Path = WORK) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits and targets of a set."""
    found = np.load(file_of(SETS[name], work / "sets"))
    return found["z"], found["y"]


@cache
def referee(name: str, work: Path = WORK) -> Optimum:
    """Return the certified optimum of a set."""
    return optimum(*arrays(name, work))


def cells(implementation: Implementation, sets: dict[str, TemperatureSet] = SETS) -> list[dict]:
    """Return an implementation's row of the matrix, a dictionary for each set."""
    skipped = {
        name: reason
        for name, each in sets.items()
        if (reason := unsupported(implementation, each, arrays(name)[0].shape[1]))
    }
    wanted = {name: each for name, each in sets.items() if name not in skipped}
    found, versions = measure(implementation, wanted)
    if not any("T" in result for result in found.values()):
        raise RuntimeError(f"no set has a result: {next(iter(found.values()), 'none is kept')}")
    row = []
    for name, each in sets.items():
        if name in skipped:
            verdict, result = verdicts.Verdict(verdicts.UNSUPPORTED, skipped[name]), {}
        elif name not in found:
            continue
        else:
            result = found[name]
            verdict = verdicts.judge(result, referee(name), each.kind, *arrays(name))
        cell = {
            "implementation": implementation.name,
            "version": versions.get(implementation.package, implementation.pinned),
            "set": name,
            "verdict": verdict.name,
            "reason": " ".join(verdict.reason.split())[:160],
            "T": rounded(result.get("T")),
            "excess": rounded(verdict.excess, 3),
            "seconds": rounded(result.get("seconds"), 2),
            "mebibytes": rounded(result.get("mebibytes"), 2),
        }
        row.append({key: value for key, value in cell.items() if value not in (None, "")})
    return row


def rounded(value: float | None, digits: int = 5) -> float | str | None:
    """Return a number with few digits, or as text if JSON has no such number."""
    if value is None:
        return None
    return float(f"{value:.{digits}g}") if np.isfinite(value) else str(value)


def reproduction(implementation: Implementation, name: str) -> str:
    """Return a program that shows one result in a new environment, and how to make that."""
    needed = {"sklearn": "scikit-learn", "torch": "torch"}
    specs = list(implementation.requires or ["halobench"])
    specs += [package for module, package in needed.items() if f"{module}." in SETS[name].code and package not in specs]
    packages = " ".join(f'"{spec}"' for spec in specs)
    lines = [f"# pip install {packages}"]
    lines += [f"# pip install --no-deps {' '.join(implementation.alone)}"] if implementation.alone else []
    lines += [SETS[name].code]
    if implementation.takes == "probabilities":
        lines += ["p = np.exp(z - z.max(axis=1, keepdims=True)); p /= p.sum(axis=1, keepdims=True)"]
    code = "\n".join(ast.unparse(node) for node in code_of(implementation.file))
    given, picked = "p" if implementation.takes == "probabilities" else "z", "['T']" if "return {'T':" in code else ""
    lines += [code, f"print(fit({given}, y){picked})  # {referee(name)}"]
    return "\n".join(lines) + "\n"


def why(error: RuntimeError) -> str:
    """Return the last line of an error that says something; pip's last one may be a note."""
    lines = [line for line in str(error).splitlines() if not line.lower().startswith(("note:", "hint:"))]
    return lines[-1][:300] if lines else str(error)[:300]


def look(implementation: Implementation, sets: dict[str, TemperatureSet]) -> None:
    """Print an implementation's verdicts on some sets."""
    for cell in cells(implementation, sets):
        found = f"T = {cell['T']}, and {referee(cell['set'])}" if "T" in cell else ""
        print(f"  {'; '.join(filter(None, (cell['set'], cell['verdict'], found, cell.get('reason'))))}")


def main() -> None:
    known = implementations()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)} (all)")
    parser.add_argument("--sets", metavar="TEXT", help="show only the sets with TEXT in their names; write no matrix")
    parser.add_argument("--reproduce", nargs=2, metavar=("NAME", "SET"), help="print the lines that show one result")
    given = parser.parse_args()
    if given.reproduce:
        print(reproduction(known[given.reproduce[0]], given.reproduce[1]), end="")
        return
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no such implementation: {', '.join(unknown)}")
    if given.sets is not None:
        some = {name: each for name, each in SETS.items() if given.sets in name}
        for name in given.names or known:
            print(name)
            look(known[name], some)
        return
    old = json.loads(MATRIX.read_text()) if MATRIX.exists() else {"cells": [], "not tried": {}}
    rows = {name: [cell for cell in old["cells"] if cell["implementation"] == name] for name in known}
    failed = {name: reason for name, reason in old["not tried"].items() if name in known}
    for name in given.names or known:
        print(f"{name}: ", end="", flush=True)
        failed.pop(name, None)
        try:
            rows[name] = cells(known[name])
        except RuntimeError as error:
            rows[name], failed[name] = [], why(error)
            print(f"not tried: {failed[name]}")
            continue
        counts = {verdict: sum(cell["verdict"] == verdict for cell in rows[name]) for verdict in page.VERDICTS}
        print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    matrix = {"cells": [cell for name in known for cell in rows[name]], "not tried": failed}
    write(MATRIX, page.as_json(matrix))
    best = {name: referee(name) for name in SETS}
    write(DOCS, page.filled(DOCS.read_text(), {"matrix": page.table(known, matrix), "kinds": page.kinds()}))
    shutil.rmtree(REPORTS, ignore_errors=True)
    for name, text in page.reports(known, matrix, best, reproduction).items():
        write(REPORTS / f"{name}.md", text)


def write(path: Path, text: str) -> None:
    """Write a file under a temporary name, and rename it."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    main()
