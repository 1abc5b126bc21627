# The whole workflow but its default target: Snakemake ignores that of an included file, so each Snakefile has its own.
# Each stage declares itself in src/halobench/pipeline/stages: what it reads and writes, and what it takes.
from snakemake.utils import min_version

min_version("9.19")


report: "../report/workflow.rst"


include: "common.smk"


# Snakemake remembers a rule's spec and code, by which it knows what to rerun, but no command: its files move with it.
for stage in STAGES.values():
    if stage.name == "manifest" or stage.each:
        continue

    rule:
        name:
            stage.name
        input:
            **INPUTS.inputs(stage),
            **GIVEN.get(stage.name, {}),
        output:
            **outputs(stage),
        log:
            INPUTS.path(stage, stage.log),
        localrule: INPUTS.runs_here(stage)
        threads: threads(stage)
        resources:
            **resources(stage),
        params:
            spec=INPUTS.spec(stage.name),
            code=INPUTS.code(stage.name),
            command=INPUTS.command(stage.name),
        shell:
            "{params.command} >> {log} 2>&1"


# One rule per figure and per table for print of the package, and per `module:function` that an experiment names. The
# function's parameters name the tables that it reads.
for kind in ("figure", "table"):
    for stem, name in INPUTS.displays(f"{kind}s").items():

        rule:
            name:
                rule_name(kind, stem)
            input:
                **INPUTS.tables(kind, name),
            output:
                **outputs(STAGES[kind], stem),
            log:
                INPUTS.path(STAGES[kind], STAGES[kind].log.replace("{name}", stem)),
            localrule: INPUTS.runs_here(STAGES[kind])
            resources:
                **resources(STAGES[kind]),
            params:
                spec=INPUTS.spec(kind, stem),
                code=INPUTS.code(kind, stem),
                command=INPUTS.command(kind, stem),
                caption=caption(f"{kind}s", stem),
            shell:
                "{params.command} >> {log} 2>&1"


# A grid of thousands of cells doesn't fit on a command line, so Snakemake itself writes the file that lists them.
rule manifest:
    input:
        INPUTS.computed,
    output:
        f"{RESULTS}/manifests/{{experiment}}.json",
    log:
        f"{RESULTS}/logs/manifest/{{experiment}}.log",
    localrule: True
    params:
        cells=INPUTS.digest("manifest"),
    run:
        INPUTS.write_manifest(wildcards.experiment, *output)


# The same for the cells that are finished. No cell is an input, so that asking for it computes none.
rule partial_manifest:
    output:
        manifest=f"{RESULTS}/{{scope}}manifests/{{experiment}}.json",
        missing=f"{RESULTS}/{{scope}}missing/{{experiment}}.csv",
    log:
        f"{RESULTS}/{{scope}}logs/manifest/{{experiment}}.log",
    wildcard_constraints:
        scope="partial/",
    localrule: True
    params:
        cells=INPUTS.digest("manifest"),
    run:
        INPUTS.write_manifest(wildcards.experiment, *output)


INPUTS.place(rules.manifest.output[0])


onstart:
    INPUTS.lock()


rule partial:
    input:
        INPUTS.partial_targets,
    localrule: True


# A target for every kind of result: `halobench run calibrations` trains and calibrates, and draws nothing.
for target in TARGETS:

    rule:
        name:
            target
        input:
            INPUTS.target(target),
        localrule: True
