# One rule a table for print: a table's file names, in the signature of its make function, the tables that it reads.
for table in plugins.names("tables"):

    rule:
        name:
            f"table_{table}"
        input:
            tables=[f"{TABLES}/{read}.parquet" for read in tables_read("tables", table)],
        output:
            csv=report(
                f"{TABLES}/{table}.csv",
                caption=caption(table, "table"),
                category="3 Calibration",
                labels={"experiment": "{experiment}", "what": f"{table}, CSV"},
            ),
            tex=f"{TABLES}/{table}.tex",
            html=report(
                f"{TABLES}/{table}.html",
                caption=caption(table, "table"),
                category="3 Calibration",
                labels={"experiment": "{experiment}", "what": f"{table}, with LaTeX"},
            ),
            record=f"{TABLES}/{table}.json",
        log:
            f"results/{{scope}}logs/table/{{experiment}}/{table}.log",
        benchmark:
            f"results/{{scope}}benchmarks/table/{{experiment}}/{table}.tsv"
        localrule: runs_here(f"table_{table}")
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            table=table,
            code=shown_code("tables", table),
            tables=input_folder,
            stem=output_stem,
            note=partial_note,
        shell:
            "HALOBENCH_CODE={params.code:q}"
            " halobench table {params.table} --tables {params.tables} --out {params.stem}"
            " --note={params.note:q} >> {log} 2>&1"
