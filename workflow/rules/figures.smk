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
FIGURE = f"{RESULTS}/{{scope}}figures/{{experiment}}"


# One rule per figure of the package, and per `module:function` that an experiment names. A figure names, in the
# signature of its function, the tables that it reads.
for stem, figure in INPUTS.displays("figures").items():
    shown = dict(
        caption=caption(stem, "figure"),
        category=CATEGORIES.get(stem, "6 Other"),
        labels={"experiment": "{experiment}", "what": title(stem)},
    )

    rule:
        name:
            f"figure_{stem}"
        input:
            tables=tables_of("figures", figure),
        output:
            report(f"{FIGURE}/{stem}.png", **shown),
            f"{FIGURE}/{stem}.pdf",
            f"{FIGURE}/{stem}.svg",
            record=f"{FIGURE}/{stem}.json",
        log:
            f"{RESULTS}/{{scope}}logs/figure/{{experiment}}/{stem}.log",
        localrule: INPUTS.runs_here("figure")
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            spec=INPUTS.spec("figure", stem),
            code=INPUTS.code("figure", stem),
        shell:
            "halobench stage figure --spec {params.spec:q} --code {params.code}"
            " --tables $(dirname {input.tables[0]}) --out {output.record} >> {log} 2>&1"
