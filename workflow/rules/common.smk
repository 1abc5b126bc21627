from pathlib import Path

from snakemake.exceptions import WorkflowError

from halobench import checks, plugins
from halobench.config import ConfigError, check_schema, load_config
from halobench.provenance import code_map
from halobench.specs import to_json


def checked_config():
    """The configuration, or a WorkflowError that lists every problem before any job runs."""
    try:
        checked = load_config(config)
        check_schema(
            config, Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"
        )
        checks.ensure(checked, Path(".snakemake/halobench"))
    except ConfigError as error:
        raise WorkflowError(
            "the configuration has problems:", *error.problems
        ) from None
    return checked


checks.put_scripts_on_path()
CONFIG = checked_config()
RUN = "results/runs/{dataset}/{model}/{loss}/seed{seed}"
LOG = "{dataset}.{model}.{loss}.seed{seed}"
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


def experiment_outputs(wildcards):
    """The records of all cells and references of an experiment."""
    cells = [f"results/runs/{cell.path}" for cell in CONFIG.cells(wildcards.experiment)]
    stages = [
        f"{folder}/{stage}.json"
        for folder in cells
        for stage in ("train", "probe", "calibrate")
    ]
    references = CONFIG.references(wildcards.experiment)
    return stages + [
        f"results/references/{dataset}/seed{seed}/reference.json"
        for dataset, seed in references
    ]


def experiment_digest(wildcards):
    return CONFIG.digest(wildcards.experiment)


def targets():
    """The figures and tables of the experiments that run."""
    wanted = []
    for experiment in CONFIG.run:
        wanted += [
            f"results/tables/{experiment}/claims.csv",
            f"results/tables/{experiment}/metrics.csv",
        ]
        wanted += [
            f"results/figures/{experiment}/{figure}.png"
            for figure in CONFIG.figures(experiment)
        ]
    return wanted
