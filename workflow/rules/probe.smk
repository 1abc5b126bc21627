rule probe:
    input:
        source=INPUTS.source,
        model=f"{RUN}/model.safetensors",
        logits=f"{RUN}/logits.safetensors",
        request=INPUTS.request("probe"),
    output:
        outputs("probe"),
    log:
        log_of("probe"),
    conda:
        "../../environment.yml"
    threads: train_threads
    resources:
        gpu=train_gpus,
        mem_mb=grown(4000),
        runtime=240,
        nodes=1,
        checkpoint_seconds=60,
        slots_per_gpu=1,
    shell:
        "halobench probe --request {input.request} --source $(dirname {input.source}) --seed {wildcards.seed}"
        f" --run {CELL_FOLDER} --checkpoint {CHECKPOINTS}/probe.safetensors"
        " --every {resources.checkpoint_seconds} --slots-per-gpu {resources.slots_per_gpu} >> {log} 2>&1"
