rule calibrate:
    input:
        logits=f"{RUN}/logits.safetensors",
        request=INPUTS.request("calibrate"),
    output:
        outputs("calibrate"),
    log:
        log_of("calibrate"),
    localrule: runs_here("calibrate")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "halobench calibrate --request {input.request} --seed {wildcards.seed}"
        f" --run {CELL_FOLDER}"
        " >> {log} 2>&1"


rule repair:
    input:
        source=INPUTS.source,
        model=f"{RUN}/model.safetensors",
        logits=f"{RUN}/logits.safetensors",
        request=INPUTS.request("repair"),
    output:
        outputs("repair"),
    log:
        log_of("repair"),
    localrule: runs_here("repair")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "halobench repair --request {input.request} --seed {wildcards.seed}"
        f" --run {CELL_FOLDER}"
        " >> {log} 2>&1"


rule reference:
    input:
        source=INPUTS.source,
        request=INPUTS.request("reference"),
    output:
        outputs("reference"),
    log:
        log_of("reference"),
    localrule: runs_here("reference")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    shell:
        "halobench reference --request {input.request} --source $(dirname {input.source}) --seed {wildcards.seed}"
        f" --out {FOLDER}/references/{{wildcards.dataset}}/seed{{wildcards.seed}}"
        " >> {log} 2>&1"
