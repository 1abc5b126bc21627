# Weights that timm publishes are downloaded by the main process: nodes often have no network.
rule weights:
    output:
        model=f"{RESULTS}/weights/{{model}}/model.safetensors",
        record=f"{RESULTS}/weights/{{model}}/weights.json",
    log:
        f"{RESULTS}/logs/weights/{{model}}.log",
    localrule: INPUTS.runs_here("weights")
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=INPUTS.spec("weights"),
        code=INPUTS.code("weights"),
    shell:
        "halobench stage weights --spec {params.spec:q} --code {params.code}"
        " --out $(dirname {output.record}) >> {log} 2>&1"


rule train:
    input:
        source=INPUTS.source,
        weights=INPUTS.weights,
    output:
        model=f"{RUN}/model.safetensors",
        logits=f"{RUN}/logits.safetensors",
        history=f"{RUN}/history.csv",
        record=f"{RUN}/train.json",
    log:
        f"{RESULTS}/logs/train/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
    threads: train_threads
    resources:
        gpu=train_gpus,
        mem_mb=grown(4000),
        runtime=240,
        nodes=1,
    params:
        spec=INPUTS.spec("train"),
        code=INPUTS.code("train"),
        every=option("checkpoint_seconds", 60),
        slots=option("slots_per_gpu", 1),
    shell:
        "halobench stage train --spec {params.spec:q} --code {params.code} --seed {wildcards.seed}"
        " --source $(dirname {input.source}) --weights={input.weights:q} --out $(dirname {output.record})"
        " --every {params.every} --slots-per-gpu {params.slots} >> {log} 2>&1"
