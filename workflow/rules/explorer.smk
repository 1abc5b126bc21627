# The pages on all experiments of a run: the entrance, and the explorer of their cells.
rule explorer:
    input:
        tables=INPUTS.explored,
    output:
        page=f"{RESULTS}/{{scope}}explorer.html",
        index=f"{RESULTS}/{{scope}}index.html",
        record=f"{RESULTS}/{{scope}}explorer.json",
    log:
        f"{RESULTS}/{{scope}}logs/explorer/explorer.log",
    localrule: INPUTS.runs_here("explorer")
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=INPUTS.spec("explorer"),
        code=INPUTS.code("explorer"),
    shell:
        "halobench stage explorer --spec {params.spec:q} --code {params.code}"
        " --tables $(dirname {output.page})/tables --out {output.page} >> {log} 2>&1"
