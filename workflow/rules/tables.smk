# One rule per table for print: a table's file names, in the signature of its make function, the tables that it reads.
for table in plugins.names("tables"):
    shown = dict(caption=caption(table, "table"), category="3 Calibration")
    texts = {"csv": f"{table}, CSV", "html": f"{table}, with LaTeX"}

    rule:
        name:
            f"table_{table}"
        input:
            tables=tables_of("tables", table),
            request=INPUTS.request("table", table),
        output:
            outputs(
                "table",
                table,
                reported={
                    f"{table}.{suffix}": dict(
                        **shown, labels={"experiment": "{experiment}", "what": text}
                    )
                    for suffix, text in texts.items()
                },
            ),
        log:
            log_of("table", table),
        localrule: runs_here(f"table_{table}")
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            table=table,
            tables=input_folder,
            stem=output_stem,
        shell:
            "halobench table {params.table} --request {input.request} --tables {params.tables} --out {params.stem}"
            " >> {log} 2>&1"
