# The arrays that it writes beside these aren't declared: a distribution has none, and stages restore those that are lost.
rule source:
    output:
        meta="results/sources/{source}/meta.json",
        record="results/sources/{source}/source.json",
    log:
        "results/logs/source/{source}.log",
    benchmark:
        "results/benchmarks/source/{source}.tsv"
    localrule: runs_here("source")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=source_spec,
        code=source_code,
        folder=output_folder,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench source --spec {params.spec:q} --out {params.folder} >> {log} 2>&1"
