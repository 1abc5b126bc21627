# Weights that timm publishes are downloaded by the main process: nodes often have no network.
rule weights:
    input:
        request=INPUTS.request("weights"),
    output:
        outputs("weights"),
    log:
        log_of("weights"),
    localrule: runs_here("weights")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "halobench weights --request {input.request}"
        f" --out {FOLDER}/weights/{{wildcards.model}}"
        " >> {log} 2>&1"


rule train:
    input:
        source=INPUTS.source,
        weights=INPUTS.weights,
        request=INPUTS.request("train"),
    output:
        outputs("train"),
    log:
        log_of("train"),
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
        "halobench train --request {input.request} --source $(dirname {input.source}) --seed {wildcards.seed}"
        f" --out {CELL_FOLDER} --checkpoint {CHECKPOINTS}/train.safetensors"
        " --weights={input.weights:q} --every {resources.checkpoint_seconds} --slots-per-gpu {resources.slots_per_gpu} >> {log} 2>&1"
