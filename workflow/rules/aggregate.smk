# A grid of thousands of cells doesn't fit on a command line: aggregation reads a file that lists them. Which they are is
# told by a file that the master wrote.
rule manifest:
    input:
        experiment_outputs,
    output:
        "results/manifests/{experiment}.json",
    log:
        "results/logs/manifest/{experiment}.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        cells=experiment_cells,
    shell:
        "halobench manifest --cells {params.cells} --results results --out {output} >> {log} 2>&1"


# The same for the cells that are there. It has no inputs, so that asking for it computes no cell.
rule partial_manifest:
    output:
        manifest="results/partial/manifests/{experiment}.json",
        missing="results/partial/missing/{experiment}.csv",
    log:
        "results/partial/logs/manifest/{experiment}.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        cells=partial_cells,
    shell:
        "halobench manifest --cells {params.cells} --results results --out {output.manifest}"
        " --missing {output.missing} >> {log} 2>&1"


rule partial:
    input:
        partial_targets,
    localrule: True


rule aggregate:
    input:
        manifest="results/{scope}manifests/{experiment}.json",
    output:
        multiext(f"{TABLES}/metrics", ".csv", ".parquet"),
        multiext(f"{TABLES}/neighbourhood", ".csv", ".parquet"),
        multiext(f"{TABLES}/radii", ".csv", ".parquet"),
        multiext(f"{TABLES}/reliability", ".csv", ".parquet"),
        multiext(f"{TABLES}/history", ".csv", ".parquet"),
        multiext(f"{TABLES}/runs", ".csv", ".parquet"),
        f"{TABLES}/aggregate.json",
    log:
        "results/{scope}logs/aggregate/{experiment}.log",
    benchmark:
        "results/{scope}benchmarks/aggregate/{experiment}.tsv"
    localrule: runs_here("aggregate")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=to_json(code_map("aggregate")),
        folder=output_folder,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench aggregate --manifest {input.manifest} --results results --out {params.folder} >> {log} 2>&1"


rule claims:
    input:
        tables=expand(
            f"{TABLES}/{{table}}.parquet",
            table=layout.TABLES,
            allow_missing=True,
        ),
        claims=CLAIMS,
    output:
        csv=f"{TABLES}/claims.csv",
        parquet=f"{TABLES}/claims.parquet",
        html=report(
            f"{TABLES}/claims.html",
            caption="../report/claims_table.rst",
            category="1 Claims",
            labels={"experiment": "{experiment}", "what": "verdicts, table"},
        ),
        record=f"{TABLES}/claims.json",
    log:
        "results/{scope}logs/claims/{experiment}.log",
    benchmark:
        "results/{scope}benchmarks/claims/{experiment}.tsv"
    localrule: runs_here("claims")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=to_json(code_map("claims")),
        folder=output_folder,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench claims --claims {input.claims} --tables {params.folder} --out {params.folder} >> {log} 2>&1"
