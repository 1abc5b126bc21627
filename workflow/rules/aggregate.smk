# A grid of thousands of cells doesn't fit on a command line: aggregation reads a file that lists them.
rule manifest:
    input:
        cells=INPUTS.computed,
        request=INPUTS.request("manifest"),
    output:
        f"{RESULTS}/manifests/{{experiment}}.json",
    log:
        f"{RESULTS}/logs/manifest/{{experiment}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "halobench manifest --request {input.request}"
        f" --results {FOLDER}"
        " --out {output} >> {log} 2>&1"


# The same for the cells that are finished. No cell is an input, so that asking for it computes none.
rule partial_manifest:
    input:
        request=INPUTS.request("manifest"),
    output:
        manifest=f"{RESULTS}/{{scope}}manifests/{{experiment}}.json",
        missing=f"{RESULTS}/{{scope}}missing/{{experiment}}.csv",
    log:
        f"{RESULTS}/{{scope}}logs/manifest/{{experiment}}.log",
    wildcard_constraints:
        scope="partial/",
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "halobench manifest --request {input.request}"
        f" --results {FOLDER}"
        " --out {output.manifest} --missing {output.missing} >> {log} 2>&1"


rule partial:
    input:
        INPUTS.partial_targets,
    localrule: True


rule aggregate:
    input:
        manifest=f"{RESULTS}/{{scope}}manifests/{{experiment}}.json",
        request=INPUTS.request("aggregate"),
    output:
        outputs("aggregate"),
    log:
        log_of("aggregate"),
    localrule: runs_here("aggregate")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "halobench aggregate --request {input.request} --manifest {input.manifest}"
        f" --results {FOLDER} --out {TABLE_FOLDER}"
        " >> {log} 2>&1"


rule claims:
    input:
        tables=[f"{TABLE}/{table}.parquet" for table in TABLES],
        claims=CLAIMS,
        request=INPUTS.request("claims"),
    output:
        outputs(
            "claims",
            reported={
                "claims.html": dict(
                    caption="../report/claims_table.rst",
                    category="1 Claims",
                    labels={"experiment": "{experiment}", "what": "verdicts, table"},
                )
            },
        ),
    log:
        log_of("claims"),
    localrule: runs_here("claims")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "halobench claims --request {input.request} --claims {input.claims}"
        f" --tables {TABLE_FOLDER} --out {TABLE_FOLDER}"
        " >> {log} 2>&1"
