# One rule per table for print, as with figures.
for stem, table in INPUTS.displays("tables").items():
    shown = dict(caption="../report/display.rst", category="3 Calibration")
    label = {"experiment": "{experiment}"}
    what = display_facts("tables", stem).label

    rule:
        name:
            f"table_{stem}"
        input:
            tables=tables_of("tables", table),
        output:
            report(
                f"{TABLE}/{stem}.csv",
                **shown,
                labels=label | {"what": f"{what}: CSV"},
            ),
            f"{TABLE}/{stem}.tex",
            report(
                f"{TABLE}/{stem}.html",
                **shown,
                labels=label | {"what": f"{what}: page and LaTeX"},
            ),
            record=f"{TABLE}/{stem}.json",
        log:
            f"{RESULTS}/{{scope}}logs/table/{{experiment}}/{stem}.log",
        localrule: INPUTS.runs_here("table")
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            spec=INPUTS.spec("table", stem),
            code=INPUTS.code("table", stem),
            caption=caption("tables", stem),
        shell:
            "halobench stage table --spec {params.spec:q} --code {params.code}"
            " --tables $(dirname {output.record}) --out {output.record} >> {log} 2>&1"
