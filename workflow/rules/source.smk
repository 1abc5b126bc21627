# The arrays that it also writes aren't declared: a distribution has none, and stages restore those that are lost.
rule source:
    input:
        request=INPUTS.request("source"),
    output:
        outputs("source"),
    log:
        log_of("source"),
    localrule: runs_here("source")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "halobench source --request {input.request}"
        f" --out {FOLDER}/sources/{{wildcards.source}}"
        " >> {log} 2>&1"
