"""Boxes and structures to train on, maps to validate on -> weights, cards and history."""

from cryoready.training.launch import launch
from cryoready.training.variants import run_config
from step import step

with step(snakemake) as report:
    files, settings = snakemake.input, snakemake.params.settings
    train = run_config(snakemake.wildcards.run, snakemake.config)["train"]
    judged = zip(settings["judged"], files.validation_maps, files.validation_models, strict=True)
    launch(
        {
            "training": list(files.training),
            "local_targets": list(files.local_targets),
            "structures": list(files.structures),
            "validation": list(files.validation),
            "judged": [{**entry, "map": str(m), "model": str(x)} for entry, m, x in judged],
            "pair_cards": list(files.cards),
            "initial_weights": files.init or None,
            "architecture": settings["network"],
            "settings": {**train, **settings["train"]},
            "definition": settings,
            "outputs": dict(snakemake.output.items()),
            "states": "results/training/state",
            "code": snakemake.params.science,
            "threads": snakemake.threads,
        },
        gpus=snakemake.resources.gpu,
        requeue=bool(snakemake.resources.requeue),
        report=report,
    )
    report(f"to use the weights: --config weights={snakemake.output.weights}")
