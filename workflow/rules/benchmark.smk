# Our column beside the published figures of others, on the maps of theirs that can be downloaded.
# A checkpoint: which maps there are is known only when they were asked for.
checkpoint benchmark_fetch:
    output:
        available="results/benchmark/available.tsv",
    log:
        "results/benchmark/fetch.log",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    resources:
        downloads=1,
        mem_mb=mem_mb("download"),
        runtime=runtime("download"),
    params:
        entries=benchmark_entries,
    message:
        "download the maps of the benchmark: tens of GB for all 150; benchmark.entries takes fewer"
    script:
        "../scripts/fetch_benchmark.py"


rule benchmark:
    input:
        yardstick=RESOURCES / "benchmark" / "yardstick.tsv",
        evaluations=benchmark_evaluations,
    output:
        table="results/benchmark.tsv",
        maps="results/benchmark_maps.tsv",
        reproduction="results/benchmark_reproduction.tsv",
    log:
        "results/benchmark/benchmark.log",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("table"),
        runtime=runtime("table"),
    params:
        science=science("benchmark"),
    message:
        "compare with the published figures: {output.table}"
    script:
        "../scripts/benchmark.py"
