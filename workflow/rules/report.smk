# Figures.


rule loss_figure:
    input:
        history=f"{RUN}/history.tsv",
    output:
        figure=report(f"{RUN}/loss.svg", caption="../report/loss.rst", category="Training"),
    log:
        f"{RUN}/loss_figure.log",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("table"),
        runtime=runtime("table"),
    params:
        science=science("loss_figure"),
    message:
        f"draw the loss of run {RUN_NAME}"
    script:
        "../scripts/loss_figure.py"


rule before_after:
    input:
        unpack(lambda w: required(w, "map")),
        enhanced="results/{id}_emready.mrc",
        card="results/{id}_emready.json",
    output:
        picture=report(
            "results/{id}_emready.png",
            caption="../report/before_after.rst",
            category="Enhanced maps",
        ),
    log:
        "results/work/{id}/before_after.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("before_after", size_of("map")),
        runtime=runtime("before_after", size_of("map")),
    params:
        science=science("before_after"),
        settings=lambda w: cells_of(w, "voxel_size"),
    message:
        "{wildcards.id}: draw the same slices before and after, at contours of the same volume"
    script:
        "../scripts/before_after.py"
