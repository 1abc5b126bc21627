# The whole workflow but its default target: Snakemake ignores that of an included file, so each Snakefile has its own.
from snakemake.utils import min_version

min_version("9.19")


report: "../report/workflow.rst"


include: "common.smk"
include: "source.smk"
include: "train.smk"
include: "probe.smk"
include: "calibrate.smk"
include: "aggregate.smk"
include: "tables.smk"
include: "figures.smk"
include: "explorer.smk"
include: "overview.smk"


# A target for every kind of result: `halobench run calibrations` trains and calibrates, and draws nothing.
rule partial:
    input:
        INPUTS.partial_targets,
    localrule: True


rule trainings:
    input:
        lambda wildcards: INPUTS.targets("trainings"),
    localrule: True


rule calibrations:
    input:
        lambda wildcards: INPUTS.targets("calibrations"),
    localrule: True


rule probes:
    input:
        lambda wildcards: INPUTS.targets("probes"),
    localrule: True


rule figures:
    input:
        lambda wildcards: INPUTS.targets("figures"),
    localrule: True
