rule train:
    input:
        unpack(source_files),
    output:
        model=f"{RUN}/model.safetensors",
        logits=f"{RUN}/logits.safetensors",
        history=f"{RUN}/history.csv",
        record=f"{RUN}/train.json",
    log:
        f"results/logs/train/{LOG}.log",
    benchmark:
        f"results/benchmarks/train/{LOG}.tsv"
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
        spec=train_spec,
        code=train_code,
        source=input_folder,
        folder=output_folder,
        checkpoint=f"results/checkpoints/{LOG}/train.safetensors",
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench train --source {params.source} --seed {wildcards.seed} --out {params.folder}"
        " --checkpoint {params.checkpoint} --every {resources.checkpoint_seconds}"
        " --slots-per-gpu {resources.slots_per_gpu} --spec {params.spec:q} >> {log} 2>&1"
