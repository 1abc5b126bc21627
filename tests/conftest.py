"""Shared by all tests: the repository's files, tiny configurations, and skipping tests whose tools are missing."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType

import one_host
import pytest
import yaml

import traces
from halobench.data import data_root
from halobench.experiment.config_loader import load_config
from halobench.runner import fork_server
from halobench.storage import provenance, records
from halobench.storage.verify import verify

with contextlib.suppress(ImportError):
    import snakemake_executor_plugin_slurm  # noqa: F401  # Snakemake loads it as it starts; it then runs `which`

for name in ("COLUMNS", "LINES"):  # workers of pytest-xdist inherit those that readline sets
    os.environ.pop(name, None)

ROOT = Path(__file__).parents[1]
SOAK = os.environ.get("HALOBENCH_SOAK") == "1"  # `make soak` runs all trials instead of a sample
os.environ.setdefault("OMP_NUM_THREADS", "1")


def heed_interrupts() -> None:
    """Make a new process handle SIGINT as in a terminal, even if the tests themselves run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def children(process: int) -> list[int]:
    """The processes that the main thread of a process has started (Linux only)."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and leave long trials, marked `soak`, to `make soak`."""
    for item in items:
        item.add_marker(item.path.relative_to(ROOT / "tests").parts[0])
        if item.get_closest_marker("soak") and not SOAK:
            item.add_marker(pytest.mark.skip(reason="a long trial, of `make soak`"))


def needs(there: bool, what: str) -> None:
    """Skip a test whose tool is missing, saying what it needs; fail instead if HALOBENCH_CI is set."""
    if not there:
        (pytest.fail if os.environ.get("HALOBENCH_CI") else pytest.skip)(f"needs {what}")


# Variables that halobench itself sets in its process: see data_root, loaded, fork_server, device and main.
OURS = {data_root.ROOT, data_root.FETCH, "PATH", "PYTHONPATH", fork_server.PLACE, "CUBLAS_WORKSPACE_CONFIG"}
OURS |= {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
OURS |= {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR"}  # which scikit-learn and torch set
PYTESTS = {"PYTEST_CURRENT_TEST"}


@pytest.fixture(autouse=True)
def fresh_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give each test the data root and environment of a new process, and let it leave nothing behind."""
    data_root._noted.clear()
    data_root._before.clear()
    own = str(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else "none"
    marks = {mark.name for mark in request.node.iter_markers()}
    before = {key: os.environ.get(key) for key in OURS}
    try:
        alone = "unit" in marks and "process" not in marks
        with traces.watched(alone, own, str(of_run(tmp_path_factory)), OURS | PYTESTS):
            yield
            while fork_server._started:
                fork_server._started.pop().stdin.close()
    finally:
        for name in [name for name, module in sys.modules.items() if (module_file(module) or "").startswith(f"{own}/")]:
            del sys.modules[name]  # another test's plug-in may have the same name
        for key in OURS:
            os.environ.pop(key, None)
        os.environ.update({key: value for key, value in before.items() if value is not None})


def module_file(module: object) -> str | None:
    """The file of a module; some are odd objects, which have none or load slow ones if asked."""
    return vars(module).get("__file__") if isinstance(module, ModuleType) else None


@pytest.fixture(scope="session", autouse=True)
def _known_commit() -> None:
    """Ask git for the commit once per process, as records do, before any test is watched for processes."""
    provenance.commit()


def of_run(factory: pytest.TempPathFactory) -> Path:
    """The folder for temporary files that all test processes of this run share."""
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def config() -> dict:
    """The committed configuration, to be edited."""
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def put(path: str, value: object) -> Callable[[dict], None]:
    """An edit of a configuration that sets the value at a dotted path, in which a number indexes a list."""

    def edit(config: dict) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in parents:
            config = config[key]
        config[last] = copy.deepcopy(value)

    return edit


def tiny_config() -> dict:
    """Two data sets x two models x two losses x two seeds, which take seconds in total."""
    probe = {"points": 6, "control": 4, "radii": [0.0, 2.0], "relative_radii": [0.5, 1.0], "bisections": 3}
    return {
        "run": ["tiny"],
        "sources": {"digits": {"loader": "digits"}},
        "datasets": {
            "clean": {"source": "digits", "train": 100, "val": 60, "test": 80},
            "noisy": {"source": "digits", "train": 100, "val": 60, "test": 80, "noise": {"p": 0.5}},
        },
        "train": {"epochs": 3, "lr": 0.003},
        "models": {"mlp": {"name": "mlp", "width": 16}, "cnn": {"name": "cnn", "width": 4}},
        "losses": {"cross_entropy": {"name": "cross_entropy"}, "mixup2": {"name": "mixup", "points": 2}},
        "probes": {name: copy.deepcopy(probe) for name in ("sphere", "nearest_other", "mixup_line", "manifold")},
        "calibrators": ["none", "paper", "exact", "oracle"],
        "metrics": {"draws": 50, "floor_draws": 5},
        "experiments": {
            "tiny": {
                "grid": [
                    {
                        "datasets": ["clean", "noisy"],
                        "models": ["mlp", "cnn"],
                        "losses": ["cross_entropy", "mixup2"],
                        "seeds": [0, 1],
                    }
                ]
            }
        },
    }


def one_cell() -> dict:
    """The tiny configuration with a single cell and a single figure."""
    config = tiny_config()
    config["experiments"]["tiny"] = {
        "grid": [{"datasets": ["noisy"], "models": ["mlp"], "losses": ["mixup2"], "seeds": [0]}],
        "figures": ["summary"],
    }
    return config


def few_cells() -> dict:
    """The tiny configuration with two losses and a single figure: all kinds of jobs, few of each."""
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0] |= {"datasets": ["noisy"], "models": ["mlp"], "seeds": [0]}
    config["experiments"]["tiny"]["figures"] = ["summary"]
    return config


def tiny_figures() -> list[str]:
    """The figures that have something to show for the tiny configuration's images and calibrators."""
    return list(load_config(tiny_config()).figures("tiny"))


def tiny_tables() -> list[str]:
    """The tables for print that have something to show for the same configuration."""
    return list(load_config(tiny_config()).tables("tiny"))


@dataclass(frozen=True)
class Seen:
    """A job that Snakemake shows: its rule, its outputs, the reason for it, and what it takes."""

    rule: str
    outputs: tuple[str, ...]
    reason: str
    threads: int
    resources: str


def seen(text: str) -> list[Seen]:
    """The jobs in what Snakemake prints, without targets that only gather files."""
    blocks = re.findall(r"^(?:local)?rule (\S+):\n((?:    .*\n)+)", text, re.M)
    facts = [(rule, dict(re.findall(r"^    (\w+): (.*)$", block, re.M))) for rule, block in blocks]
    return [
        Seen(
            rule, tuple(f["output"].split(", ")), f.get("reason", ""), int(f.get("threads", 1)), f.get("resources", "")
        )
        for rule, f in facts
        if "output" in f
    ]


class Workspace:
    """A copy of the workflow in its own folder, with a configuration to edit, run by the real Snakemake."""

    def __init__(self, folder: Path, config: dict):
        self.folder = folder
        for name in ("Snakefile", "workflow", "profiles"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        self.write(config)

    @classmethod
    def at(cls, folder: Path) -> Workspace:
        """The workspace that already exists in a folder."""
        found = object.__new__(cls)
        found.folder = folder
        return found

    def write(self, config: dict) -> None:
        """Replace config.yaml."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def copy(self, folder: Path) -> Workspace:
        """A copy with everything that has run, in a folder that doesn't exist yet."""
        return self.at(shutil.copytree(self.folder, folder))

    def snakemake(
        self, *arguments: str, environment: dict[str, str] | None = None, timeout: int = 600
    ) -> subprocess.CompletedProcess:
        """Run Snakemake here with this Python's environment and the given variables."""
        return self.module("snakemake", *arguments, environment=environment, timeout=timeout)

    def jobs(self, *arguments: str, environment: dict[str, str] | None = None) -> list[Seen]:
        """Run Snakemake here, and return the jobs that it shows; it must succeed."""
        done = self.snakemake(*arguments, environment=environment)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return seen(done.stdout + done.stderr)

    def dry_run(self, *arguments: str, environment: dict[str, str] | None = None) -> tuple[str, dict[str, int]]:
        """What `halobench run -n` says, and the number of jobs per rule in it."""
        done = self.halobench("run", "-n", *arguments, environment=environment)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-4000:]
        counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", said, re.M)}
        return said, {rule: n for rule, n in counts.items() if rule not in ("all", "total", "partial")}

    def halobench(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        """Run a command of halobench here."""
        return self.module("halobench.cli.main", *arguments, environment=environment)

    def module(
        self, name: str, *arguments: str, environment: dict[str, str] | None = None, timeout: int = 600
    ) -> subprocess.CompletedProcess:
        """Run a module here as a program."""
        return subprocess.run(
            [sys.executable, "-m", name, *arguments],
            cwd=self.folder,
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


ONE_OF_TWO = """
module {name}:
    snakefile: {snakefile!r}
    config: config[{name!r}]
    prefix: {name!r}
use rule * from {name} as {name}_*
"""


def two_modules(workspace: Workspace, snakefile: str = "Snakefile") -> dict[str, float]:
    """Use the workflow twice, with two learning rates; return the record of each one's cell, with its rate."""
    config = {"fast": one_cell(), "slow": one_cell()}
    config["fast"]["train"]["lr"] = 0.01
    workspace.write(config)
    modules = [ONE_OF_TWO.format(name=name, snakefile=str(ROOT / snakefile)) for name in config]
    (workspace.folder / "Snakefile").write_text("\n".join(['configfile: "config.yaml"', *modules]))
    cell = "results/runs/noisy/mlp/mixup2/seed0/train.json"
    return {f"{name}/{cell}": each["train"]["lr"] for name, each in config.items()}


def finished_workspace(
    factory: pytest.TempPathFactory, name: str, config: dict, *aims: str, own: Mapping[str, str] = MappingProxyType({})
) -> Workspace:
    """A workspace whose grid has run to the end or to the targets `aims`, with the files `own` (name to content).

    All test processes share it; the first that needs it builds it.
    """
    shared = of_run(factory)
    folder, done = shared / name, shared / f"{name}.ok"
    with open(shared / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return Workspace.at(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        made = Workspace(folder, config)
        for path, content in own.items():
            (folder / path).write_text(content)
        ran = made.halobench("run", "--cores", "2", *aims)
        assert ran.returncode == 0, ran.stderr[-4000:]
        done.touch()
    return made


def assert_same_cells(whole: Workspace, part: Workspace) -> None:
    """The trained, probed and calibrated cells of `part` have the same bytes in `whole`, and none is damaged."""
    stages = {"train", "probe", "calibrate", "reference"}
    found = [path for path in (part.folder / "results").glob("r*/**/*.json") if path.stem in stages]
    assert stages <= {path.stem for path in found}
    for path in found:
        same = whole.folder / path.relative_to(part.folder)
        assert records.read_record(path)["outputs"] == records.read_record(same)["outputs"], path
    assert verify(part.folder / "results").faults == ()


@pytest.fixture
def tiny() -> dict:
    """A tiny configuration, to be edited."""
    return tiny_config()


@pytest.fixture
def workspace(tmp_path, tiny) -> Workspace:
    """A fresh workspace with the tiny configuration."""
    return Workspace(tmp_path, tiny)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """A workspace whose tiny grid has run to the end."""
    return finished_workspace(tmp_path_factory, "finished", tiny_config())


@pytest.fixture(scope="session")
def finished_one(tmp_path_factory) -> Workspace:
    """A workspace whose only cell has run to the end."""
    return finished_workspace(tmp_path_factory, "one", one_cell())


@pytest.fixture
def slurm() -> None:
    """Skip or fail if SLURM isn't installed."""
    needs(not one_host.missing(), f"SLURM: {one_host.ADVICE}")


@pytest.fixture
def cluster(slurm) -> Iterator[one_host.OneHost]:
    """A SLURM cluster of two nodes with two stand-in GPU slots each, which forgets no job."""
    with one_host.OneHost(settings={"MinJobAge": "3600"}) as started:
        yield started


def holder(code: str, *arguments: str | Path) -> subprocess.Popen:
    """A process that runs `code`, prints a line, and stays until it is killed."""
    script = f"import sys, time; from pathlib import Path\n{code}\nprint('ready', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()
