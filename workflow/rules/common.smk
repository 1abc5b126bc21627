import os
from pathlib import Path

from halobench.experiment.figure_choice import caption, display_facts, tables_read
from halobench.runner.run_plan import FROZEN, attempt
from halobench.runner.end_of_run import CLAIMS
from halobench.runner.rule_inputs import prepare
from halobench.storage.layout import ORIGINS, PAGES, TABLES

# `halobench run` passes the whole configuration as one file, so that jobs use that of the start of their run.
if not config.get(FROZEN):

    configfile: "config.yaml"


def as_input(own, shipped):
    """The user's own file if there is one, or else one of the workflow, as an input.

    Its path is relative, so that moving a clone reruns nothing, except in a module, whose relative paths may get a
    prefix, or if the workflow lies on a server.
    """
    here = Path(workflow.snakefile).parent
    is_main = Path(workflow.basedir).absolute() in (here.parent, here.parents[1])
    if os.path.exists(own):
        return own if is_main else os.path.abspath(own)
    return os.path.relpath(here / shipped) if is_main else workflow.source_path(shipped)


CLAIMS = as_input(CLAIMS, "../claims.yaml")
INPUTS = prepare(workflow, config, CLAIMS)
RESULTS = INPUTS.named
RUN = f"{RESULTS}/runs/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}"
# A scope is empty, or `partial/` for what is drawn from the cells that are finished.
TABLE = f"{RESULTS}/{{scope}}tables/{{experiment}}"


wildcard_constraints:
    source=r"[A-Za-z0-9][\w.+-]*",
    dataset=r"[A-Za-z0-9][\w.+-]*",
    model=r"[A-Za-z0-9][\w.+-]*",
    loss=r"[A-Za-z0-9][\w.+-]*",
    experiment=r"[A-Za-z0-9][\w.+-]*",
    seed=r"\d+",
    scope=r"(?:partial/)?",


def tables_of(kind, name):
    """The tables that a figure or table for print reads, as its signature names them."""
    names = attempt(f"The {kind} have", tables_read, kind, name)
    return [f"{TABLE}/{table}.parquet" for table in names]


def page(name, text):
    """A page of an experiment, which stands in Snakemake's report."""
    label = {"experiment": "{experiment}", "what": text}
    return report(
        f"{TABLE}/{name}.html",
        caption=f"../report/{name}.rst",
        category="0 Overview",
        labels=label,
    )


def train_threads(wildcards):
    """The recipe's CPU threads."""
    return INPUTS.recipe(wildcards).threads


def train_gpus(wildcards):
    """One GPU slot, unless the recipe asks for the CPU."""
    return 0 if INPUTS.recipe(wildcards).device == "cpu" else 1


def grown(least):
    """Memory in MiB that grows with the attempt: one may have ended for want of it."""
    return lambda wildcards, attempt: least * attempt


def option(name, default):
    """An option of a stage that profiles set as a resource, since it changes no result."""
    return lambda wildcards, resources: resources.get(name, default)
