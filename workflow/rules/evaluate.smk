# How good is the enhanced map, and where? Scores against the model, of every map of an entry.


rule mean_of_half_maps:
    input:
        unpack(lambda w: required(w, "half_map_1", "half_map_2")),
    output:
        map="results/work/{id}/mean_of_half_maps.mrc",
    log:
        "results/work/{id}/mean_of_half_maps.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("mean_of_half_maps", size_of("half_map_1")),
        runtime=runtime("mean_of_half_maps", size_of("half_map_1")),
    params:
        science=science("mean_of_half_maps"),
        settings=lambda w: cells_of(w, "voxel_size"),
    message:
        "{wildcards.id}: average the half-maps"
    script:
        "../scripts/mean_of_half_maps.py"


rule local_resolution:
    input:
        unpack(lambda w: half_maps_of(w) or required(w, "half_map_1", "half_map_2")),
    output:
        map="results/{id}_local_resolution.mrc",
    log:
        "results/work/{id}/local_resolution.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("local_resolution", size_of("half_map_1")),
        runtime=runtime("local_resolution", size_of("half_map_1")),
    params:
        science=science("local_resolution"),
        settings=lambda w: {
            "window": EVALUATION["local_window"],
            **cells_of(w, "voxel_size", "contour"),
        },
    message:
        "{wildcards.id}: local resolution from the half-maps: {output.map}"
    script:
        "../scripts/local_resolution.py"


rule local_correlation:
    input:
        unpack(model_and_resolution),
        map="results/{id}_emready.mrc",
    output:
        map="results/{id}_local_correlation.mrc",
    log:
        "results/work/{id}/local_correlation.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("local_correlation", size_of("map")),
        runtime=runtime("local_correlation", size_of("map")),
    params:
        science=science("local_correlation"),
        settings=lambda w: {
            "radius": EVALUATION["local_radius"],
            **cells_of(w, "resolution"),
        },
    message:
        "{wildcards.id}: local correlation of the enhanced map with the model: {output.map}"
    script:
        "../scripts/local_correlation.py"


rule evaluate_entry:
    input:
        unpack(evaluate_input),
    output:
        summary="results/{id}_evaluation.json",
        curves="results/{id}_evaluation/fsc.tsv",
        atoms="results/{id}_evaluation/atoms.tsv",
        residues="results/{id}_evaluation/residues.tsv",
        chains="results/{id}_evaluation/chains.tsv",
    log:
        "results/work/{id}/evaluate.log",
    priority: 2
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("evaluate_entry", size_of("map")),
        runtime=runtime("evaluate_entry", size_of("map"), times=evaluate_times),
    params:
        science=science("evaluate"),
        settings=evaluate_settings,
    message:
        "{wildcards.id}: compare the deposited and the enhanced map with the model: {output.summary}"
        " [{resources.mem_mb} MB, {resources.runtime} min]"
    script:
        "../scripts/evaluate.py"


rule evaluation_page:
    input:
        unpack(lambda w: required(w, "map")),
        enhanced="results/{id}_emready.mrc",
        summary="results/{id}_evaluation.json",
        curves="results/{id}_evaluation/fsc.tsv",
        residues="results/{id}_evaluation/residues.tsv",
        chains="results/{id}_evaluation/chains.tsv",
    output:
        page=report(
            "results/{id}_evaluation.html",
            caption="../report/evaluation.rst",
            category="Evaluation",
        ),
    log:
        "results/work/{id}/evaluation_page.log",
    priority: 3
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("evaluation_page", size_of("map")),
        runtime=runtime("evaluation_page", size_of("map")),
    params:
        science=science("evaluation_page"),
        settings=lambda w: cells_of(w, "voxel_size"),
    message:
        "{wildcards.id}: draw {output.page}"
    script:
        "../scripts/evaluation_page.py"


rule evaluation_summary:
    input:
        summaries=lambda _: evaluated("json"),
    output:
        table="results/evaluation.tsv",
        page=report(
            "results/evaluation.html",
            caption="../report/evaluation_summary.rst",
            category="Evaluation",
        ),
    log:
        "results/work/evaluation_summary.log",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("table"),
        runtime=runtime("table"),
    params:
        science=science("evaluation_summary"),
    message:
        "all entries of the sheet in one table: {output.table}, {output.page}"
    script:
        "../scripts/evaluation_summary.py"


rule evaluate:
    input:
        "results/evaluation.tsv",
        "results/evaluation.html",
        lambda _: evaluated("html"),
    localrule: True


# After a failure: the same table without those that failed.
use rule evaluation_summary as evaluation_so_far with:
    input:
        summaries=lambda _: evaluated_so_far(),
    output:
        table="results/evaluation_so_far.tsv",
        page="results/evaluation_so_far.html",
    log:
        "results/work/evaluation_so_far.log",
    message:
        "the entries of the sheet that are evaluated in one table: {output.table}, {output.page}"
