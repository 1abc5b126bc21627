# One page for all experiments of a run. It shows their tables, and of each cell the records that the tables were made from.
rule explorer:
    input:
        explorer_tables,
    output:
        html="results/{scope}explorer.html",
        record="results/{scope}explorer.json",
    log:
        "results/{scope}logs/explorer/explorer.log",
    benchmark:
        "results/{scope}benchmarks/explorer/explorer.tsv"
    localrule: runs_here("explorer")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        experiments=explored,
        code=to_json(code_map("explorer")),
        tables="results/{scope}tables",
        note=explorer_note,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench explorer {params.experiments} --results results --tables {params.tables} --out {output.html}"
        " --note={params.note:q} >> {log} 2>&1"
