# What runs together tell: the ablation, the page that compares them; and the release of one.


rule ablation:
    input:
        weights=[f"results/training/{run}/weights.safetensors" for run in ABLATION],
        tables=[
            f"results/training/{run}/{table}.tsv"
            for run in ABLATION
            for table in ("history", "validation")
        ],
    output:
        table="results/ablation.tsv",
    log:
        "results/training/ablation.log",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("table"),
        runtime=runtime("table"),
    params:
        science=science("ablation"),
        settings={"variants": [variant for variant, _ in ABLATION.values()]},
    message:
        "compare the variants: {output.table}"
    script:
        "../scripts/ablation.py"


rule sample_boxes:
    input:
        boxes=lambda _: boxes_of(*split("val")),
    output:
        samples="results/training/{run}/samples.npz",
    log:
        "results/training/{run}/samples.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("sample_boxes"),
        runtime=runtime("sample_boxes"),
    params:
        science=science("sample_boxes"),
        settings=lambda w: left_by(w.run, "weights.safetensors"),
    message:
        "{wildcards.run}: predict the same few validation crops as every run"
    script:
        "../scripts/sample_boxes.py"


rule training_report:
    input:
        samples=lambda _: [f"results/training/{run}/samples.npz" for run in sampled_runs()],
    output:
        page=report(
            "results/training_report.html",
            caption="../report/training_report.rst",
            category="Training",
        ),
        numbers="results/training_report.json",
    log:
        "results/training/training_report.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("training_report"),
        runtime=runtime("training_report"),
    params:
        science=science("training_report"),
        settings=training_report_settings,
    message:
        "compare the training runs that there are: {output.page}"
    script:
        "../scripts/training_report.py"


rule release:
    input:
        boxes=lambda _: boxes_of(*split("val")),
        entries=config["entries"],
    output:
        weights=f"results/release/{RUN_NAME}/weights.safetensors",
        card=f"results/release/{RUN_NAME}/card.json",
        readme=f"results/release/{RUN_NAME}/README.md",
        entries=f"results/release/{RUN_NAME}/entries.tsv",
    log:
        f"results/release/{RUN_NAME}/release.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("release"),
        runtime=runtime("release"),
    params:
        science=science("release"),
        settings=lambda _: {
            "release": config["release"],
            **left_by(RUN_NAME, "weights.safetensors", *RUN_TABLES),
        },
    message:
        f"make the weights of run {RUN_NAME} ready to be given away: {{output.weights}}"
    script:
        "../scripts/release.py"
