# Weights that timm publishes are fetched beside the master: nodes often have no network.
rule weights:
    output:
        model="results/weights/{model}/model.safetensors",
        record="results/weights/{model}/weights.json",
    log:
        "results/logs/weights/{model}.log",
    benchmark:
        "results/benchmarks/weights/{model}.tsv"
    localrule: runs_here("weights")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=weights_spec,
        code=to_json(code_map("weights")),
        folder=output_folder,
    shell:
        "HALOBENCH_CODE={params.code:q}"
        " halobench weights --spec {params.spec:q} --out {params.folder} >> {log} 2>&1"


rule train:
    input:
        unpack(source_files),
        weights=given_weights,
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
        " --weights={input.weights:q} --checkpoint {params.checkpoint} --every {resources.checkpoint_seconds}"
        " --slots-per-gpu {resources.slots_per_gpu} --spec {params.spec:q} >> {log} 2>&1"
