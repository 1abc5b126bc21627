import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    from halobench.experiment.figure_choice import caption, display_facts, rule_name
    from halobench.runner.end_of_run import CLAIMS
    from halobench.runner.rule_inputs import prepare
    from halobench.runner.run_plan import FROZEN
    from halobench.storage.layout import STAGES, TARGETS
except ModuleNotFoundError as error:
    message = f"{error}; install halobench next to Snakemake: pip install 'halobench[workflow] @ git+URL' (this repository's)"
    raise WorkflowError(message) from None

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


# The input files that no stage writes.
GIVEN = {"claims": {"claims": as_input(CLAIMS, "../claims.yaml")}}
INPUTS = prepare(workflow, config, GIVEN["claims"]["claims"])
RESULTS = INPUTS.named
NAME = r"[A-Za-z0-9][\w.+-]*"


wildcard_constraints:
    **dict.fromkeys(("source", "dataset", "model", "loss", "experiment"), NAME),
    seed=r"\d+",
    scope=r"(?:partial/)?",  # empty, or `partial/` for what is drawn from the cells that are finished


# Files that Snakemake's report shows: caption, heading and label, by stage and by the name of the output.
REPORTED = {
    "claims": {"claims_html": ("claims_table", "6 Claims", "verdicts, table")},
    "overview": {
        "overview": ("overview", "0 Overview", "four questions, and what was run")
    },
    "figure": {"png": ("display", "{category}", "{label}")},
    "table": {
        "csv": ("display", "3 Calibration", "{label}: CSV"),
        "html": ("display", "3 Calibration", "{label}: page and LaTeX"),
    },
}


def outputs(stage, stem=""):
    """The output files of a stage's rule, by name; `stem` is that of a figure's or table's files."""
    named, said = INPUTS.outputs(stage, stem), {}
    if stem:
        facts = display_facts(f"{stage.name}s", stem)
        said = {"label": facts.label, "category": facts.category or "7 Other"}
    for name, texts in REPORTED.get(stage.name, {}).items():
        page, category, what = (text.format(**said) for text in texts)
        labels = {"experiment": "{experiment}", "what": what}
        caption = f"../report/{page}.rst"
        named[name] = report(
            named[name], caption=caption, category=category, labels=labels
        )
    return named


# --- Functions of the wildcards. Each comes from a function of the stage, since a lambda in the body of a rule that is
# --- made in a loop would see the last stage, in silence.


def threads(stage):
    """The recipe's CPU threads for a stage that trains or probes."""
    if not stage.device:
        return 1
    return lambda wildcards: INPUTS.recipe(wildcards).threads


def resources(stage):
    """Time and memory, which grows with the attempt: one may have ended for want of it; and one GPU slot.

    The stages of a recipe that asks for the CPU take no slot.
    """
    if not stage.device:
        return {"mem_mb": stage.memory, "runtime": stage.minutes}
    return {
        "gpu": lambda wildcards: int(INPUTS.recipe(wildcards).device != "cpu"),
        "mem_mb": lambda wildcards, attempt: stage.memory * attempt,
        "runtime": stage.minutes,
        "nodes": 1,
    }
