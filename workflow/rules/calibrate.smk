rule calibrate:
    input:
        logits=f"{RUN}/logits.safetensors",
    output:
        fits=f"{RUN}/calibration.json",
        metrics=f"{RUN}/metrics.csv",
        reliability=f"{RUN}/reliability.csv",
        record=f"{RUN}/calibrate.json",
    log:
        f"{RESULTS}/logs/calibrate/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
    localrule: INPUTS.runs_here("calibrate")
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=INPUTS.spec("calibrate"),
        code=INPUTS.code("calibrate"),
    shell:
        "halobench stage calibrate --spec {params.spec:q} --code {params.code} --seed {wildcards.seed}"
        " --run $(dirname {output.record}) >> {log} 2>&1"


rule repair:
    input:
        source=INPUTS.source,
        model=f"{RUN}/model.safetensors",
        logits=f"{RUN}/logits.safetensors",
    output:
        parts=f"{RUN}/repair.csv",
        record=f"{RUN}/repair.json",
    log:
        f"{RESULTS}/logs/repair/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}.log",
    localrule: INPUTS.runs_here("repair")
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=INPUTS.spec("repair"),
        code=INPUTS.code("repair"),
    shell:
        "halobench stage repair --spec {params.spec:q} --code {params.code} --seed {wildcards.seed}"
        " --run $(dirname {output.record}) >> {log} 2>&1"


rule reference:
    input:
        source=INPUTS.source,
    output:
        fits=f"{RESULTS}/references/{{dataset}}/seed{{seed}}/calibration.json",
        metrics=f"{RESULTS}/references/{{dataset}}/seed{{seed}}/metrics.csv",
        record=f"{RESULTS}/references/{{dataset}}/seed{{seed}}/reference.json",
    log:
        f"{RESULTS}/logs/reference/{{dataset}}/seed{{seed}}.log",
    localrule: INPUTS.runs_here("reference")
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        spec=INPUTS.spec("reference"),
        code=INPUTS.code("reference"),
    shell:
        "halobench stage reference --spec {params.spec:q} --code {params.code} --seed {wildcards.seed}"
        " --source $(dirname {input.source}) --out $(dirname {output.record}) >> {log} 2>&1"
