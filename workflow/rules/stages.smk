# The whole workflow but its default target: Snakemake ignores that of an included file, so each Snakefile has its own.
from snakemake.utils import min_version

min_version("9.19")


report: "../report/workflow.rst"


include: "common.smk"
include: "source.smk"
include: "train.smk"
include: "probe.smk"
include: "calibrate.smk"
include: "aggregate.smk"
include: "tables.smk"
include: "figures.smk"
include: "explorer.smk"
include: "overview.smk"


STARTUP.check_rules()
