"""The model that an entry's metadata name, from the first mirror of the PDB that has it."""

from pathlib import Path

from cryoready.dataset.fitted import fetch_fitted_model
from step import step

with step(snakemake) as report:
    metadata, folder = Path(snakemake.input.metadata), Path(snakemake.output.folder)
    config = snakemake.config
    model = fetch_fitted_model(metadata, folder, config["archive"], cache=Path(config["cache"]))
    report(f"{folder}: {model.url}" if model else f"{metadata} names no fitted model")
