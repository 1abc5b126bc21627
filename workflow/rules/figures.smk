FIGURE = f"{RESULTS}/{{scope}}figures/{{experiment}}"


# One rule per figure of the package, and per `module:function` that an experiment names. A figure names, in the
# signature of its function, the tables that it reads.
for stem, figure in INPUTS.displays("figures").items():
    said = display_facts("figures", stem)
    shown = dict(
        caption="../report/display.rst",
        category=said.category or "7 Other",
        labels={"experiment": "{experiment}", "what": said.label},
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
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            spec=INPUTS.spec("figure", stem),
            code=INPUTS.code("figure", stem),
            caption=caption("figures", stem),
        shell:
            "halobench stage figure --spec {params.spec:q} --code {params.code}"
            " --tables $(dirname {input.tables[0]}) --out {output.record} >> {log} 2>&1"
