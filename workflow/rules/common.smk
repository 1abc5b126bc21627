import sys
from pathlib import Path

from halobench import checks, plugins
from snakemake.exceptions import WorkflowError

from halobench.config import (
    ConfigError,
    check_file,
    check_folders,
    check_schema,
    load_config,
)
from halobench.grid import TABLES as TABLE_NAMES
from halobench.provenance import code_map
from halobench.specs import SpecError, to_json


def attempt(what, check, *arguments):
    """What `check` gives; where it finds problems, a line for each of them and the end, before any job runs."""
    try:
        return check(*arguments)
    except ConfigError as error:
        sys.exit("\n".join([f"{what} problems:", *error.problems]))


# Before Snakemake reads it: of two values for one key it would silently take the last.
for path in ["config.yaml", *workflow.overwrite_configfiles]:
    if Path(path).exists():
        attempt("The configuration has", check_file, path)


configfile: "config.yaml"


def checked_config():
    """The configuration, checked as a whole."""
    checked = load_config(config)
    check_schema(config, Path(workflow.basedir) / "workflow/schemas/config.schema.yaml")
    checks.ensure(checked, Path(".snakemake/halobench"))
    return checked


checks.put_scripts_on_path()
CONFIG = attempt("The configuration has", checked_config)
RUN = "results/runs/{dataset}/{model}/{loss}/seed{seed}"
LOG = "{dataset}/{model}/{loss}/seed{seed}"
TABLES = "results/tables/{experiment}"
REFERENCE = "results/references/{dataset}/seed{seed}"


wildcard_constraints:
    source=r"[A-Za-z0-9][\w.+-]*",
    dataset=r"[A-Za-z0-9][\w.+-]*",
    model=r"[A-Za-z0-9][\w.+-]*",
    loss=r"[A-Za-z0-9][\w.+-]*",
    experiment=r"[A-Za-z0-9][\w.+-]*",
    seed=r"\d+",


def source_files(wildcards):
    """The files of a data set's source."""
    folder = f"results/sources/{CONFIG.datasets[wildcards.dataset].source}"
    return {
        name: f"{folder}/{name}" for name in ("images.npy", "labels.npy", "meta.json")
    }


def input_folder(wildcards, input):
    """The folder of a job's first input."""
    return str(Path(input[0]).parent)


def output_folder(wildcards, output):
    """The folder of a job's outputs."""
    return str(Path(output[0]).parent)


def output_stem(wildcards, output):
    """The path of a job's first output without its suffix."""
    return str(Path(output[0]).with_suffix(""))


def source_spec(wildcards):
    return to_json(CONFIG.source_spec(wildcards.source))


def source_code(wildcards):
    return to_json(
        code_map("source", [("data", CONFIG.sources[wildcards.source].loader)])
    )


def train_spec(wildcards):
    return to_json(
        CONFIG.train_spec(wildcards.dataset, wildcards.model, wildcards.loss)
    )


def train_code(wildcards):
    return to_json(
        code_map("train", CONFIG.train_plugins(wildcards.model, wildcards.loss))
    )


def train_threads(wildcards):
    """The recipe's CPU threads."""
    return CONFIG.recipes[wildcards.dataset, wildcards.model].threads


def train_gpus(wildcards):
    """One GPU slot, unless the recipe asks for the CPU."""
    return (
        0 if CONFIG.recipes[wildcards.dataset, wildcards.model].device == "cpu" else 1
    )


def probe_spec(wildcards):
    return to_json(CONFIG.probe_spec(wildcards.dataset, wildcards.model))


def probe_code(wildcards):
    return to_json(code_map("probe", [("models", CONFIG.models[wildcards.model].name)]))


def reference_spec(wildcards):
    return to_json(CONFIG.reference_spec(wildcards.dataset))


def figure_code(name):
    return to_json(code_map("figure", [("figures", name)]))


CELL_FILES = [
    "train.json",
    "history.csv",
    "probe.json",
    "neighbourhood.parquet",
    "radii.parquet",
]
CELL_FILES += ["calibrate.json", "calibration.json", "metrics.csv", "reliability.csv"]


def cell_files(experiment):
    """All that an experiment's tables are read from."""
    cells = [f"results/runs/{cell.path}" for cell in CONFIG.cells(experiment)]
    references = [
        f"results/references/{d}/seed{s}" for d, s in CONFIG.references(experiment)
    ]
    wanted = [f"{folder}/{name}" for folder in cells for name in CELL_FILES]
    return wanted + [
        f"{folder}/{name}"
        for folder in references
        for name in ("reference.json", "metrics.csv")
    ]


def experiment_outputs(wildcards):
    return cell_files(wildcards.experiment)


def experiment_digest(wildcards):
    return CONFIG.digest(wildcards.experiment)


def targets():
    """The figures, tables and cells of the experiments that run: each by name, so that what was deleted is made again."""
    wanted = []
    for experiment in CONFIG.run:
        wanted += cell_files(experiment)
        folder = f"results/tables/{experiment}"
        wanted += [
            f"{folder}/{name}.{kind}"
            for name in [*TABLE_NAMES, "claims"]
            for kind in ("csv", "parquet")
        ]
        wanted += [f"{folder}/claims.html"]
        figures = CONFIG.figures(experiment)
        wanted += [
            f"results/figures/{experiment}/{name}.{kind}"
            for name in figures
            for kind in ("png", "pdf")
        ]
    return wanted


def write_manifest(wildcards, output, log):
    """Write an experiment's manifest; a record that can't be read ends the job in one line."""
    try:
        CONFIG.write_manifest(wildcards.experiment, output[0])
    except (SpecError, OSError) as error:
        Path(log[0]).write_text(f"halobench: error: {error}\n")
        raise WorkflowError(str(error)) from None
    Path(log[0]).write_text(
        f"listed the cells of {wildcards.experiment} in {output[0]}\n"
    )


def caption(figure):
    """A figure's own caption, or the one for figures without."""
    own = Path(workflow.basedir) / f"workflow/report/{figure}.rst"
    return f"../report/{figure if own.exists() else 'figure'}.rst"


# Jobs of a run that is under way needn't look again, and would meet files half written.
if workflow.is_main_process:
    attempt("The results have", check_folders, targets())
    attempt("The results have", checks.check_results, CONFIG, Path("results"))
