"""An enhanced map -> a model built into it by another program, or the reason why there is none."""

from pathlib import Path

from cryoready.dataset.fitted import with_fitted_model
from cryoready.dataset.metadata import reported_resolution
from cryoready.enhance.model_building import build_model, sequences_of, write_built_model
from cryoready.files.models import read_model
from step import step

with step(snakemake) as report:
    files = with_fitted_model(dict(snakemake.input))
    to, settings = snakemake.output, snakemake.params.settings
    built = build_model(
        settings["program"],
        Path(files["map"]),
        Path(to.card).with_suffix(""),
        resolution=reported_resolution(settings["resolution"], files.get("metadata")),
        sequences=sequences_of(read_model(files["model"])) if "model" in files else {},
        threads=snakemake.threads,
    )
    report(write_built_model(built, Path(to.card)))
