rule calibrate:
    input:
        logits=f"{RUN}/logits.safetensors",
    output:
        fits=f"{RUN}/calibration.json",
        metrics=f"{RUN}/metrics.csv",
        reliability=f"{RUN}/reliability.csv",
        record=f"{RUN}/calibrate.json",
    log:
        f"results/logs/calibrate/{LOG}.log",
    benchmark:
        f"results/benchmarks/calibrate/{LOG}.tsv"
    localrule: runs_here("calibrate")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=to_json(CONFIG.calibrate),
        code=to_json(code_map("calibrate", CONFIG.calibrate.plugged)),
        folder=output_folder,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench calibrate --seed {wildcards.seed} --run {params.folder} --spec {params.spec:q} >> {log} 2>&1"


rule reference:
    input:
        unpack(source_files),
    output:
        fits=f"{REFERENCE}/calibration.json",
        metrics=f"{REFERENCE}/metrics.csv",
        record=f"{REFERENCE}/reference.json",
    log:
        "results/logs/reference/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/reference/{dataset}/seed{seed}.tsv"
    localrule: runs_here("reference")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        spec=reference_spec,
        code=reference_code,
        source=input_folder,
        folder=output_folder,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench reference --source {params.source} --seed {wildcards.seed} --out {params.folder}"
        " --spec {params.spec:q} >> {log} 2>&1"
