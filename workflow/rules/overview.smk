# What was run and what came out, on pages of their own, and for the report's front page.
rule overview:
    input:
        manifest="results/{scope}manifests/{experiment}.json",
        tables=expand(
            f"{TABLES}/{{table}}.parquet",
            table=[*layout.TABLES, "claims"],
            allow_missing=True,
        ),
        records=multiext(f"{TABLES}/", "aggregate.json", "claims.json"),
        figure=front_figure,
    output:
        overview=report(
            f"{TABLES}/overview.html",
            caption="../report/overview.rst",
            category="0 Overview",
            labels={
                "experiment": "{experiment}",
                "what": "what was run, what came out",
            },
        ),
        cells=report(
            f"{TABLES}/cells.html",
            caption="../report/cells.rst",
            category="0 Overview",
            labels={"experiment": "{experiment}", "what": "every cell, table"},
        ),
        front=f"{TABLES}/front.html",
        record=f"{TABLES}/overview.json",
    log:
        "results/{scope}logs/overview/{experiment}.log",
    benchmark:
        "results/{scope}benchmarks/overview/{experiment}.tsv"
    localrule: runs_here("overview")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=overview_spec,
        code=to_json(code_map("overview")),
        folder=output_folder,
        note=partial_note,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench overview --manifest {input.manifest} --results results --tables {params.folder}"
        " --out {params.folder} --figure={input.figure:q} --spec {params.spec:q} --note={params.note:q}"
        " >> {log} 2>&1"
