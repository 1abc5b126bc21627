import os
from pathlib import Path

from halobench.experiment.displays import tables_read
from halobench.results.names import title
from halobench.runner.startup import Startup, attempt
from halobench.storage.layout import ORIGINS, STAGES, TABLES

STARTUP = Startup(workflow, lambda: workflow.source_path("../claims.yaml"))
if STARTUP.frozen is None:

    configfile: "config.yaml"

else:
    config.clear()
    config.update(STARTUP.frozen)

INPUTS = STARTUP.load(config)
CLAIMS = STARTUP.claims
# The results folder, as rules name it and as it lies on disk: with the prefix that a module may be given.
RESULTS, FOLDER = INPUTS.named, INPUTS.results
RUN = f"{RESULTS}/runs/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}"
# The same in shell commands, for a cell's files and checkpoints. Functions of params would be called for each job.
CELL = "{wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
CELL_FOLDER, CHECKPOINTS = f"{FOLDER}/runs/{CELL}", f"{FOLDER}/checkpoints/{CELL}"
# A scope is empty, or `partial/` for what is drawn from the cells that are finished.
TABLE = f"{RESULTS}/{{scope}}tables/{{experiment}}"
TABLE_FOLDER = f"{FOLDER}/{{wildcards.scope}}tables/{{wildcards.experiment}}"


onstart:
    STARTUP.before_jobs(config, INPUTS.config)


onsuccess:
    STARTUP.after_jobs()


onerror:
    STARTUP.after_jobs(report=logger.error)


STARTUP.keep_handlers(onstart=onstart, onsuccess=onsuccess, onerror=onerror)


wildcard_constraints:
    source=r"[A-Za-z0-9][\w.+-]*",
    dataset=r"[A-Za-z0-9][\w.+-]*",
    model=r"[A-Za-z0-9][\w.+-]*",
    loss=r"[A-Za-z0-9][\w.+-]*",
    experiment=r"[A-Za-z0-9][\w.+-]*",
    seed=r"\d+",
    scope=r"(?:partial/)?",


def scoped(stage, path):
    """A path below the results folder, with the scope of a stage that has one."""
    return f"{RESULTS}/{{scope}}{path}" if STAGES[stage].scoped else f"{RESULTS}/{path}"


def key_of(stage, name=""):
    """The key of a stage's jobs, with wildcards; `name` is that of a figure's or table's files."""
    return STAGES[stage].key.replace("{name}", name) if name else STAGES[stage].key


def outputs(stage, name="", reported=None):
    """The files of a stage, its record last; those in `reported` stand in Snakemake's report, with these arguments."""
    paths = [scoped(stage, path) for path in STAGES[stage].paths(key_of(stage, name))]
    return [reported_if(path, (reported or {}).get(Path(path).name)) for path in paths]


def reported_if(path, arguments):
    """A path, in Snakemake's report if there are arguments for that."""
    return path if arguments is None else report(path, **arguments)


def log_of(stage, name=""):
    """The log of a stage's jobs."""
    return scoped(stage, f"logs/{stage}/{key_of(stage, name)}.log")


def tables_of(kind, name):
    """The tables that a figure or table for print reads, as its signature names them."""
    names = attempt(f"The {kind} have", tables_read, kind, name)
    return [f"{TABLE}/{table}.parquet" for table in names]


def caption(name, kind="figure"):
    """The caption of a figure or table, of the working directory or else of the workflow, or that of those without."""
    own = os.path.abspath(f"workflow/report/{name}.rst")
    placed = workflow.current_basedir.join(own).get_path_or_uri(secret_free=False)
    # Not of a workflow that is read from a server: Snakemake would look for it there.
    if Path(own).exists() and placed == own:
        return own
    path = workflow.current_basedir.join(f"../report/{name}.rst")
    there = Path(
        path.get_path_or_uri(secret_free=False)
    ).exists() or workflow.sourcecache.exists(path)
    return f"../report/{name if there else kind}.rst"


# The captions of all figures and tables, as inputs: pages quote them.
CAPTIONS = {
    name: STARTUP.named(
        path
        if os.path.isabs(path := caption(name, kind))
        else workflow.source_path(path)
    )
    for kind in ("figure", "table")
    for name in INPUTS.displays(f"{kind}s")
}


def captions_of(wildcards):
    """The captions of an experiment's figures and tables."""
    job = INPUTS.job("overview", wildcards)
    return [CAPTIONS[name] for name in (*job.spec["figures"], *job.spec["tables"])]


def train_threads(wildcards):
    """The recipe's CPU threads."""
    return INPUTS.recipe(wildcards).threads


def train_gpus(wildcards):
    """One GPU slot, unless the recipe asks for the CPU."""
    return 0 if INPUTS.recipe(wildcards).device == "cpu" else 1


def grown(least):
    """Memory in MiB that grows with the attempt: one may have ended for want of it."""
    return lambda wildcards, attempt: least * attempt


def runs_here(rule):
    """Whether a small job runs in the main process's allocation, rather than wait in a queue for longer than it takes."""
    name = workflow.modifier.modify_rulename(rule)
    settings = workflow.resource_settings.overwrite_resources.get(name, {})
    return getattr(settings.get("submit"), "raw", 0) != 1
