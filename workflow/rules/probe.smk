rule probe:
    input:
        unpack(source_files),
        model=f"{RUN}/model.safetensors",
        logits=f"{RUN}/logits.safetensors",
    output:
        curves=f"{RUN}/neighbourhood.parquet",
        radii=f"{RUN}/radii.parquet",
        record=f"{RUN}/probe.json",
    log:
        f"results/logs/probe/{LOG}.log",
    benchmark:
        f"results/benchmarks/probe/{LOG}.tsv"
    conda:
        "../../environment.yml"
    threads: train_threads
    resources:
        gpu=train_gpus,
        mem_mb=grown(4000),
        runtime=240,
        nodes=1,
        slurm_extra=WARNED,
        checkpoint_seconds=60,
        slots_per_gpu=1,
    params:
        spec=probe_spec,
        code=probe_code,
        source=input_folder,
        folder=output_folder,
        checkpoint=f"results/checkpoints/{LOG}/probe.safetensors",
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench probe --source {params.source} --seed {wildcards.seed} --run {params.folder}"
        " --checkpoint {params.checkpoint} --every {resources.checkpoint_seconds}"
        " --slots-per-gpu {resources.slots_per_gpu} --spec {params.spec:q} >> {log} 2>&1"
