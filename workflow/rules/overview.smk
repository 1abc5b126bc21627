# What was run and what came out, on pages of their own.
rule overview:
    input:
        answers=f"{TABLE}/answers.json",
        tables=[f"{TABLE}/{table}.parquet" for table in (*TABLES, *ORIGINS, "claims")],
        records=[f"{TABLE}/{name}.json" for name in ("aggregate", "claims")],
    output:
        page("overview", "four questions, and what was run"),
        [f"{TABLE}/{name}.html" for name in PAGES if name != "overview"],
        record=f"{TABLE}/overview.json",
    log:
        f"{RESULTS}/{{scope}}logs/overview/{{experiment}}.log",
    localrule: INPUTS.runs_here("overview")
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=INPUTS.spec("overview"),
        code=INPUTS.code("overview"),
    shell:
        "halobench stage overview --spec {params.spec:q} --code {params.code}"
        " --tables $(dirname {output.record}) --out $(dirname {output.record})"
        " >> {log} 2>&1"
