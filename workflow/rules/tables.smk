# The same for tables for print.
for stem, table in INPUTS.displays("tables").items():
    shown = dict(caption=caption(stem, "table"), category="3 Calibration")
    texts = {"csv": f"{title(stem)}: CSV", "html": f"{title(stem)}: page and LaTeX"}

    rule:
        name:
            f"table_{stem}"
        input:
            tables=tables_of("tables", table),
            request=INPUTS.request("table", stem),
        output:
            outputs(
                "table",
                stem,
                reported={
                    f"{stem}.{suffix}": dict(
                        **shown, labels={"experiment": "{experiment}", "what": text}
                    )
                    for suffix, text in texts.items()
                },
            ),
        log:
            log_of("table", stem),
        localrule: runs_here(f"table_{stem}")
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        # A command is only put together when its job runs, so it can't use the variables of this loop.
        params:
            table=table,
            stem=stem,
        shell:
            "halobench table {params.table} --request {input.request}"
            f" --tables {TABLE_FOLDER} --out {TABLE_FOLDER}/{{params.stem}}"
            " >> {log} 2>&1"
