# Cryo-EM maps made readable. `snakemake results/EMD-3488_emready.mrc`, `snakemake --cores 8 train`.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


container: "envs/cryoready.sif"  # used with --sdm apptainer only (docs/schedulers.md)


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/evaluation_lookups.smk"
include: "workflow/rules/dataset_lookups.smk"
include: "workflow/rules/cost_lookups.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/training_runs.smk"
include: "workflow/rules/enhance.smk"
include: "workflow/rules/build.smk"
include: "workflow/rules/peers.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/failures.smk"


# What a bare `snakemake` makes: the embedded entry.
rule all:
    default_target: True
    input:
        "results/EMD-3488_emready.mrc",
        "results/EMD-3488_emready.png",
        "results/EMD-3488_evaluation.html",
