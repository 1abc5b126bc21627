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
    params:
        folder=output_folder,
    shell:
        "halobench calibrate --request {input.request} --seed {wildcards.seed} --run {params.folder} >> {log} 2>&1"


rule repair:
    input:
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
    params:
        folder=output_folder,
    shell:
        "halobench repair --request {input.request} --seed {wildcards.seed} --run {params.folder} >> {log} 2>&1"


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
    params:
        source=input_folder,
        folder=output_folder,
    shell:
        "halobench reference --request {input.request} --source {params.source} --seed {wildcards.seed}"
        " --out {params.folder} >> {log} 2>&1"
