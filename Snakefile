# The same as workflow/Snakefile; a plug-in in this folder can be named as module:object.
include: "workflow/rules/stages.smk"


rule all:
    default_target: True
    input:
        INPUTS.targets() if workflow.is_main_process else [],
    localrule: True
