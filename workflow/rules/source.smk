# The arrays that it also writes aren't declared: a distribution has none, and stages restore those that are lost.
rule source:
    output:
        meta=f"{RESULTS}/sources/{{source}}/meta.json",
        record=f"{RESULTS}/sources/{{source}}/source.json",
    log:
        f"{RESULTS}/logs/source/{{source}}.log",
    localrule: INPUTS.runs_here("source")
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=INPUTS.spec("source"),
        code=INPUTS.code("source"),
    shell:
        "halobench stage source --spec {params.spec:q} --code {params.code}"
        " --out $(dirname {output.record}) >> {log} 2>&1"
