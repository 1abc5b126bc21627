rule source:
    output:
        images="results/sources/{source}/images.npy",
        labels="results/sources/{source}/labels.npy",
        meta="results/sources/{source}/meta.json",
        record="results/sources/{source}/source.json",
    log:
        "results/logs/source/{source}.log",
    benchmark:
        "results/benchmarks/source/{source}.tsv"
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
