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


rule aggregate:
    input:
        manifest=f"{RESULTS}/{{scope}}manifests/{{experiment}}.json",
    output:
        [f"{TABLE}/{name}.csv" for name in TABLES],
        [f"{TABLE}/{name}.parquet" for name in (*TABLES, *ORIGINS)],
        record=f"{TABLE}/aggregate.json",
    log:
        f"{RESULTS}/{{scope}}logs/aggregate/{{experiment}}.log",
    localrule: INPUTS.runs_here("aggregate")
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=INPUTS.code("aggregate"),
        results=INPUTS.folder,
    shell:
        "halobench stage aggregate --code {params.code} --manifest {input.manifest}"
        " --results {params.results} --out $(dirname {output.record}) >> {log} 2>&1"


rule claims:
    input:
        tables=[f"{TABLE}/{name}.parquet" for name in TABLES],
        claims=CLAIMS,
    output:
        f"{TABLE}/claims.csv",
        f"{TABLE}/claims.parquet",
        report(
            f"{TABLE}/claims.html",
            caption="../report/claims_table.rst",
            category="6 Claims",
            labels={"experiment": "{experiment}", "what": "verdicts, table"},
        ),
        f"{TABLE}/answers.json",
        record=f"{TABLE}/claims.json",
    log:
        f"{RESULTS}/{{scope}}logs/claims/{{experiment}}.log",
    localrule: INPUTS.runs_here("claims")
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=INPUTS.code("claims"),
    shell:
        "halobench stage claims --code {params.code} --claims {input.claims:q}"
        " --tables $(dirname {output.record}) --out $(dirname {output.record}) >> {log} 2>&1"
