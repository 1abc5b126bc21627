CATEGORIES = {
    "summary": "1 Claims",
    "claims": "1 Claims",
    "neighbourhood": "2 Neighbourhoods",
    "confidence_radius": "2 Neighbourhoods",
    "logit_gaps": "2 Neighbourhoods",
    "radii": "2 Neighbourhoods",
    "calibration": "3 Calibration",
    "reliability": "3 Calibration",
    "reliability_posthoc": "3 Calibration",
    "training": "4 Training",
    "overlap": "5 Theory",
    "log_k": "5 Theory",
    "phase": "5 Theory",
    "predicted": "5 Theory",
    "gaussians": "5 Theory",
}


# One rule a figure: a figure's file names, in the signature of its draw function, the tables that it reads.
for figure in plugins.names("figures"):

    rule:
        name:
            f"figure_{figure}"
        input:
            tables=[
                f"{TABLES}/{table}.parquet" for table in tables_read("figures", figure)
            ],
        output:
            png=report(
                f"{FIGURES}/{figure}.png",
                caption=caption(figure),
                category=CATEGORIES.get(figure, "6 Other"),
                labels={"experiment": "{experiment}", "what": figure},
            ),
            pdf=f"{FIGURES}/{figure}.pdf",
            record=f"{FIGURES}/{figure}.json",
        log:
            f"results/{{scope}}logs/figure/{{experiment}}/{figure}.log",
        benchmark:
            f"results/{{scope}}benchmarks/figure/{{experiment}}/{figure}.tsv"
        localrule: runs_here(f"figure_{figure}")
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            figure=figure,
            code=shown_code("figures", figure),
            tables=input_folder,
            stem=output_stem,
            note=partial_note,
        shell:
            "HALOBENCH_CODE={params.code:q}"
            " halobench figure {params.figure} --tables {params.tables} --out {params.stem}"
            " --note={params.note:q} >> {log} 2>&1"
