# One page for all experiments of a run.
rule explorer:
    input:
        tables=INPUTS.explored,
        request=INPUTS.request("explorer"),
    output:
        outputs("explorer"),
    log:
        log_of("explorer"),
    localrule: runs_here("explorer")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "halobench explorer --request {input.request}"
        f" --results {FOLDER} --tables {FOLDER}/{{wildcards.scope}}tables"
        f" --out {FOLDER}/{{wildcards.scope}}explorer.html"
        " >> {log} 2>&1"
