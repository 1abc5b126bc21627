rule probe:
    input:
        source=INPUTS.source,
        model=f"{RUN}/model.safetensors",
        logits=f"{RUN}/logits.safetensors",
    output:
        neighbourhood=f"{RUN}/neighbourhood.parquet",
        radii=f"{RUN}/radii.parquet",
        record=f"{RUN}/probe.json",
    log:
        f"{RESULTS}/logs/probe/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
    threads: train_threads
    resources:
        gpu=train_gpus,
        mem_mb=grown(4000),
        runtime=240,
        nodes=1,
    params:
        spec=INPUTS.spec("probe"),
        code=INPUTS.code("probe"),
        every=option("checkpoint_seconds", 60),
        slots=option("slots_per_gpu", 1),
    shell:
        "halobench stage probe --spec {params.spec:q} --code {params.code} --seed {wildcards.seed}"
        " --source $(dirname {input.source}) --run $(dirname {output.record})"
        " --every {params.every} --slots-per-gpu {params.slots} >> {log} 2>&1"
