# What was run and what came out, on pages of their own, and for the report's front page.
rule overview:
    input:
        tables=[f"{TABLE}/{table}.parquet" for table in (*TABLES, *ORIGINS, "claims")],
        records=[f"{TABLE}/{name}.json" for name in ("aggregate", "claims")],
        figure=INPUTS.front_figure,
    output:
        page("overview", "what was run, what came out"),
        page("cells", "every cell, table"),
        [
            f"{TABLE}/{name}.html"
            for name in ("leaderboard", "figures", "tables", "front")
        ],
        record=f"{TABLE}/overview.json",
    log:
        f"{RESULTS}/{{scope}}logs/overview/{{experiment}}.log",
    localrule: INPUTS.runs_here("overview")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=INPUTS.spec("overview"),
        code=INPUTS.code("overview"),
    shell:
        "halobench overview --spec {params.spec:q} --code {params.code}"
        " --tables $(dirname {output.record}) --out $(dirname {output.record})"
        " --figure={input.figure:q} >> {log} 2>&1"
