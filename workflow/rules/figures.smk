CATEGORIES = {
    "summary": "1 Claims",
    "claims": "1 Claims",
    "neighbourhood": "2 Neighbourhoods",
    "confidence_radius": "2 Neighbourhoods",
    "logit_gaps": "2 Neighbourhoods",
    "radii": "2 Neighbourhoods",
    "halo": "2 Neighbourhoods",
    "calibration": "3 Calibration",
    "reliability": "3 Calibration",
    "reliability_posthoc": "3 Calibration",
    "training": "4 Training",
    "overlap": "5 Theory",
    "log_k": "5 Theory",
    "phase": "5 Theory",
    "predicted": "5 Theory",
    "gaussians": "5 Theory",
    "repair": "3 Calibration",
}


FIGURE_FOLDER = f"{FOLDER}/{{wildcards.scope}}figures/{{wildcards.experiment}}"


# One rule per figure of the package, and per `module:function` that an experiment names. A figure names, in the
# signature of its function, the tables that it reads.
for stem, figure in INPUTS.displays("figures").items():
    shown = dict(caption=caption(stem), category=CATEGORIES.get(stem, "6 Other"))
    labelled = dict(labels={"experiment": "{experiment}", "what": title(stem)})

    rule:
        name:
            f"figure_{stem}"
        input:
            tables=tables_of("figures", figure),
            request=INPUTS.request("figure", stem),
        output:
            outputs("figure", stem, reported={f"{stem}.png": shown | labelled}),
        log:
            log_of("figure", stem),
        localrule: runs_here(f"figure_{stem}")
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        # A command is only put together when its job runs, so it can't use the variables of this loop.
        params:
            figure=figure,
            stem=stem,
        shell:
            "halobench figure {params.figure} --request {input.request}"
            f" --tables {TABLE_FOLDER} --out {FIGURE_FOLDER}/{{params.stem}}"
            " >> {log} 2>&1"
