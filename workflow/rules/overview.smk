# What was run and what came out, on pages of their own, and for the report's front page.
rule overview:
    input:
        tables=[f"{TABLE}/{table}.parquet" for table in (*TABLES, *ORIGINS, "claims")],
        records=[f"{TABLE}/{name}.json" for name in ("aggregate", "claims")],
        figure=INPUTS.front_figure,
        captions=captions_of,
        request=INPUTS.request("overview"),
    output:
        outputs(
            "overview",
            reported={
                f"{page}.html": dict(
                    caption=f"../report/{page}.rst",
                    category="0 Overview",
                    labels={"experiment": "{experiment}", "what": text},
                )
                for page, text in (
                    ("overview", "what was run, what came out"),
                    ("cells", "every cell, table"),
                )
            },
        ),
    log:
        log_of("overview"),
    localrule: runs_here("overview")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "halobench overview --request {input.request}"
        f" --tables {TABLE_FOLDER} --out {TABLE_FOLDER}"
        " --figure={input.figure:q} --captions {input.captions:q} >> {log} 2>&1"
