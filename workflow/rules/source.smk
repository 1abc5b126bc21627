# Whatever computes waits for this. Most of it was done when the Snakefile was read: here it is written down, with the
# room on the disk. Jobs depend on it as on something ancient, so that a new check reruns nothing.
rule check:
    output:
        CHECK,
    log:
        "results/logs/check.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        asked=to_json(checks.request(CONFIG)),
    run:
        room = disk.require_room(CONFIG, REPORT, RESULTS)
        write_json(output[0], REPORT | {"disk": room})
        Path(log[0]).write_text(
            f"models, losses and sources can be built; disk: {room}\n"
        )


rule source:
    input:
        check=ancient(CHECK),
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
        "halobench source --spec {params.spec:q} --out {params.folder} >> {log} 2>&1"
