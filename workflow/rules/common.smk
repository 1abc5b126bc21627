import functools
import os
import sys
import time
from pathlib import Path

from halobench.core import plugins
from halobench.data import data_root
from halobench.experiment import grid, validation
from halobench.results import inventory, manifest
from halobench.runner import (
    cluster_run,
    disk_space,
    environment,
    failures,
    fork_server,
    preflight,
)
from halobench.runner import run as controller
from halobench.runner.slurm import queries
from halobench.experiment.code_version import code_map
from halobench.experiment.config_loader import (
    ConfigError,
    check_file,
    check_folders,
    load_config,
)
from halobench.core.errors import SpecError, hint, one_of, require
from halobench.core.spec_codec import to_json
from halobench.storage import layout


def attempt(what, check, *arguments):
    """What `check` gives; where it finds problems, a line for each of them and the end, before any job runs."""
    try:
        return check(*arguments)
    except (ConfigError, SpecError, queries.SlurmError) as error:
        problems = getattr(error, "problems", [str(error)])
        sys.exit("\n".join([f"{what} problems:", *problems]))


# Set in the Snakemakes that run one job each on a node: what counted when their run was started, however files have been
# edited since. They look at nothing that their master has looked at: there is one for each job.
STARTED_WITH = None if workflow.is_main_process else cluster_run.started_with()

# Before Snakemake reads it: of two values for one key it would silently take the last.
for path in ["config.yaml", *workflow.overwrite_configfiles]:
    if Path(path).exists() and not STARTED_WITH:
        attempt("The configuration has", check_file, path)

if STARTED_WITH:
    config.clear()
    config.update(STARTED_WITH)
else:

    configfile: "config.yaml"


environment.put_scripts_on_path()
environment.put_modules_on_path(workflow.basedir)
data_root.note(config)
STARTED = time.time()
RESULTS, LISTS = Path("results"), controller.STATE / "cells"
# Beside the configuration, or else beside the Snakefile.
CLAIMS = "workflow/claims.yaml"
if not Path(CLAIMS).exists():
    CLAIMS = os.path.relpath(Path(workflow.basedir) / CLAIMS)
# The step that every job waits for, and no job of its own: of a job whose ancient input is to be made anew, Snakemake
# (9.27) doesn't look at the other reasons to run, so that an edit that changed both would go unnoticed.
SCHEMA = Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"
if STARTED_WITH:
    CONFIG, REPORT = load_config(config), {}
else:
    there = (
        "" if Path("config.yaml").exists() else f" (no config.yaml is in {Path.cwd()})"
    )
    CONFIG, REPORT = attempt(
        f"The configuration{there} has",
        validation.load_checked,
        config,
        SCHEMA,
        controller.STATE,
    )
if workflow.is_main_process and not workflow.dryrun:
    controller.enrol(Path.cwd())
RUN = "results/runs/{dataset}/{model}/{loss}/seed{seed}"
LOG = "{dataset}/{model}/{loss}/seed{seed}"
# A scope is empty, or `partial/` for what is drawn from the cells that are there.
TABLES = "results/{scope}tables/{experiment}"
FIGURES = "results/{scope}figures/{experiment}"
REFERENCE = "results/references/{dataset}/seed{seed}"


onstart:
    attempt("The disk has", disk_space.require_room, CONFIG, REPORT, RESULTS)
    attempt("The cluster has", cluster_run.start, workflow, config)
    cluster_run.adopt(workflow)
    if cluster_run.is_local(workflow):
        fork_server.start()


onsuccess:
    cluster_run.end(workflow)


onerror:
    cluster_run.end(workflow)
    for folder in (RESULTS, RESULTS / "partial"):
        if found := failures.failed(folder, STARTED, cluster_run.logs(workflow)):
            logger.error(failures.table(found))
    if full := disk_space.told_full(RESULTS):
        logger.error(full)


wildcard_constraints:
    source=r"[A-Za-z0-9][\w.+-]*",
    dataset=r"[A-Za-z0-9][\w.+-]*",
    model=r"[A-Za-z0-9][\w.+-]*",
    loss=r"[A-Za-z0-9][\w.+-]*",
    experiment=r"[A-Za-z0-9][\w.+-]*",
    seed=r"\d+",
    scope=r"(?:partial/)?",


def source_files(wildcards):
    """The file that tells of a data set's source: it holds the checksums of its arrays, which stages restore if lost."""
    return {
        "meta": f"results/sources/{CONFIG.datasets[wildcards.dataset].source}/meta.json"
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


def weights_spec(wildcards):
    return to_json(CONFIG.weights_spec(wildcards.model))


@functools.cache
def made_weights():
    """The files of weights that rules make for what is configured."""
    cells = {cell for name in CONFIG.experiments for cell in CONFIG.cells(name)}
    fetched = [name for name, model in CONFIG.models.items() if model.pretrained]
    folders = [f"runs/{cell.path}" for cell in cells]
    folders += [f"weights/{name}" for name in fetched]
    return {f"results/{folder}/model.safetensors" for folder in folders}


def given_weights(wildcards):
    """The file of a model's weights, where they come from elsewhere."""
    model = CONFIG.models[wildcards.model]
    if model.pretrained:
        return f"results/weights/{wildcards.model}/model.safetensors"
    path = os.path.normpath(model.weights) if model.weights else ""
    if path.startswith("results/") and path not in made_weights():
        # What an earlier configuration left: no rule is to take it for its output, and look for a cell that isn't there.
        return os.path.abspath(path)
    return model.weights or []


# Cells that differ in their seed alone share their specs and code maps, whose JSON is made once.
@functools.cache
def train_spec_of(dataset, model, loss):
    return to_json(CONFIG.train_spec(dataset, model, loss))


def train_spec(wildcards):
    return train_spec_of(wildcards.dataset, wildcards.model, wildcards.loss)


@functools.cache
def train_code_of(dataset, model, loss):
    return to_json(code_map("train", CONFIG.train_plugins(dataset, model, loss)))


def train_code(wildcards):
    return train_code_of(wildcards.dataset, wildcards.model, wildcards.loss)


def train_threads(wildcards):
    """The recipe's CPU threads."""
    return CONFIG.recipes[wildcards.dataset, wildcards.model].threads


def train_gpus(wildcards):
    """One GPU slot, unless the recipe asks for the CPU."""
    return (
        0 if CONFIG.recipes[wildcards.dataset, wildcards.model].device == "cpu" else 1
    )


@functools.cache
def probe_spec_of(dataset, model):
    return to_json(CONFIG.probe_spec(dataset, model))


def probe_spec(wildcards):
    return probe_spec_of(wildcards.dataset, wildcards.model)


@functools.cache
def probe_code_of(dataset, model):
    return to_json(code_map("probe", CONFIG.probe_plugins(dataset, model)))


def probe_code(wildcards):
    return probe_code_of(wildcards.dataset, wildcards.model)


def reference_spec(wildcards):
    return to_json(CONFIG.reference_spec(wildcards.dataset))


def reference_code(wildcards):
    return to_json(code_map("reference", CONFIG.sampler(wildcards.dataset)))


def tables_read(kind, name):
    """The tables that a figure's or table's signature names."""
    return attempt(f"The {kind} have", grid.tables_read, kind, name)


def shown_code(kind, name):
    """The code map of a figure or a table."""
    return to_json(code_map(kind.removesuffix("s"), [(kind, name)]))


CELL_FILES = ["train.json", "history.csv", "calibrate.json", "calibration.json"]
CELL_FILES += ["metrics.csv", "reliability.csv"]
PROBE_FILES = ["probe.json", "neighbourhood.parquet", "radii.parquet"]


def cell_files(experiment):
    """All that an experiment's tables are read from."""
    references = [
        f"results/references/{d}/seed{s}" for d, s in CONFIG.references(experiment)
    ]
    probed = CONFIG.probed(experiment)
    wanted = [
        f"results/runs/{cell.path}/{name}"
        for cell in CONFIG.cells(experiment)
        for name in CELL_FILES + PROBE_FILES * (cell in probed)
    ]
    return wanted + [
        f"{folder}/{name}"
        for folder in references
        for name in ("reference.json", "metrics.csv")
    ]


def experiment_outputs(wildcards):
    return cell_files(wildcards.experiment)


def experiment_cells(wildcards):
    """A list of an experiment's cells, in a file named after its content."""
    return str(
        manifest.keep_list(manifest.listing(CONFIG, wildcards.experiment), LISTS)
    )


def drawn(experiment, scope=""):
    """The tables, figures and pages of an experiment."""
    tables = f"results/{scope}tables/{experiment}"
    wanted = [
        f"{tables}/{name}.{kind}"
        for name in [*layout.TABLES, "claims"]
        for kind in ("csv", "parquet")
    ]
    wanted += [f"{tables}/{name}" for name in ("claims.html", "claims.json")]
    wanted += [f"{tables}/{name}.html" for name in layout.PAGES]
    wanted += [f"{tables}/{name}.json" for name in ("aggregate", "overview")]
    wanted += [
        f"{tables}/{name}.{kind}"
        for name in CONFIG.tables(experiment)
        for kind in ("csv", "tex", "html", "json")
    ]
    return wanted + [
        f"results/{scope}figures/{experiment}/{name}.{kind}"
        for name in CONFIG.figures(experiment)
        for kind in ("png", "pdf", "json")
    ]


def targets():
    """All that the experiments that run give: each file by name, so that what was deleted is made again."""
    if not workflow.is_main_process:
        return []  # there the target is one job, and the rest would only take time
    return [
        path
        for experiment in CONFIG.run
        for path in (*cell_files(experiment), *drawn(experiment))
    ] + [f"results/explorer.{kind}" for kind in ("html", "json")]


@functools.cache
def surveyed(experiment):
    """What of an experiment is there, seen once: tables and figures are to tell of the same cells."""
    return inventory.survey(CONFIG, experiment, RESULTS)


def begun():
    """The experiments that have a finished cell."""
    return [experiment for experiment in CONFIG.run if surveyed(experiment).cells]


def partial_targets(wildcards):
    """The same from the cells that are there, for each experiment that has any."""
    found = begun()
    if not found:
        sys.exit(f"partial: no cell of {', '.join(CONFIG.run)} is finished yet")
    wanted = [path for experiment in found for path in drawn(experiment, "partial/")]
    return wanted + [f"results/partial/explorer.{kind}" for kind in ("html", "json")]


def partial_cells(wildcards):
    """The same of the cells that are there."""
    found = surveyed(wildcards.experiment)
    return str(manifest.keep_list(inventory.listed(found, RESULTS), LISTS))


def partial_note(wildcards):
    """What a figure or table from a part of the cells says of itself."""
    return surveyed(wildcards.experiment).note if wildcards.scope else ""


def explored(wildcards):
    """The experiments that the explorer shows: in a partial run those that have a finished cell."""
    return begun() if wildcards.scope else list(CONFIG.run)


def explorer_tables(wildcards):
    """The tables that the explorer reads, of all experiments."""
    return [
        f"results/{wildcards.scope}tables/{experiment}/{name}.parquet"
        for experiment in explored(wildcards)
        for name in layout.EXPLORED
    ]


def explorer_note(wildcards):
    """What the explorer of a part of the cells says of itself."""
    notes = [(e, surveyed(e).note) for e in explored(wildcards) if wildcards.scope]
    return "; ".join(f"{experiment}, {note}" for experiment, note in notes if note)


def overview_spec(wildcards):
    """The part of the configuration that an experiment uses."""
    return to_json(CONFIG.used(wildcards.experiment))


def front_figure(wildcards):
    """The figure that sums an experiment up: the summary, or else the first that it has."""
    figures = CONFIG.figures(wildcards.experiment)
    name = "summary" if "summary" in figures else figures[0]
    return f"results/{wildcards.scope}figures/{wildcards.experiment}/{name}.png"


def caption(name, kind="figure"):
    """The own caption of a figure or table, or the one for those without."""
    own = Path(workflow.basedir) / f"workflow/report/{name}.rst"
    return f"../report/{name if own.exists() else kind}.rst"


def runs_here(rule):
    """Whether a small job runs beside the master, where it else would wait in a queue for longer than it takes."""
    given = workflow.resource_settings.overwrite_resources.get(rule, {})
    return getattr(given.get("submit"), "raw", 0) != 1


# SLURM warns train and probe so many seconds ahead of the time limit: they save where they are, and the next attempt goes
# on from there.
WARNED = "--signal=USR1@60"


def grown(least):
    """Memory in MiB that grows with the attempt: one may have ended for want of it."""
    return lambda wildcards, attempt: least * attempt


def check_rules():
    """Refuse resources of rules that aren't there, and names that are near to those of known resources."""
    known = {rule.name for rule in workflow.rules}
    for name, asked in workflow.resource_settings.overwrite_resources.items():
        require(name in known, "--set-resources, rule", name, one_of(known, name))
        for key in set(asked) - queries.RESOURCES:
            near = hint(queries.RESOURCES, key)
            require(not near, f"--set-resources {name}", key, f"a resource{near}")


def check_resources():
    """Refuse numbers that a stage would refuse: by then Snakemake has deleted what the job made before."""
    given = workflow.resource_settings.overwrite_resources
    cap = getattr(workflow.global_resources.get("gpu"), "value", None)
    for name in ("train", "probe"):
        gpus = getattr(given.get(name, {}).get("gpu"), "raw", 0)
        what = f"at most {cap}, the slots of all jobs together: --resources gpu={cap}"
        # Snakemake would give the job less than it asks for.
        fits = cap is None or not isinstance(gpus, int) or gpus <= cap
        require(fits, f"--set-resources {name}:gpu", gpus, what)
        slots = getattr(given.get(name, {}).get("slots_per_gpu"), "raw", 1)
        what = "at least 1 job a GPU"
        bad = isinstance(slots, int) and slots < 1
        require(not bad, f"--set-resources {name}:slots_per_gpu", slots, what)


# Jobs of a run that is under way needn't look again, and would meet files half written.
if workflow.is_main_process:
    attempt("The command line has", check_resources)
    attempt("The claims have", preflight.check_claims, CLAIMS)
    attempt("The results have", check_folders, targets())
    attempt("The results have", preflight.check_results, CONFIG, RESULTS)
