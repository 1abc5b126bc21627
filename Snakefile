report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/source.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/probe.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/overview.smk"


rule all:
    default_target: True
    input:
        INPUTS.targets() if workflow.is_main_process else [],
    localrule: True


# A target for every kind of result: `halobench run calibrations` trains and calibrates, and draws nothing.
rule partial:
    input:
        INPUTS.partial_targets,
    localrule: True


rule trainings:
    input:
        lambda wildcards: INPUTS.targets("train"),
    localrule: True


rule calibrations:
    input:
        lambda wildcards: INPUTS.targets("calibrate", "reference"),
    localrule: True


rule probes:
    input:
        lambda wildcards: INPUTS.targets("probe"),
    localrule: True


rule figures:
    input:
        lambda wildcards: INPUTS.targets("figure"),
    localrule: True
