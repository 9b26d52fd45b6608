"""An enhanced map -> a model built into it by another program, or the reason why there is none."""

import json
from pathlib import Path

from cryoready.enhance.model_building import build_model, sequences_of, write_built_model
from cryoready.files.models import read_model
from step import step

with step(snakemake) as report:
    files, to = snakemake.input, snakemake.output
    built = build_model(
        snakemake.params.settings["program"],
        Path(files.map),
        Path(to.card).with_suffix(""),
        resolution=json.loads(Path(files.card).read_text())["resolution"],
        sequences=sequences_of(read_model(files.model)) if files.get("model") else {},
        threads=snakemake.threads,
    )
    report(write_built_model(built, Path(to.card)))
