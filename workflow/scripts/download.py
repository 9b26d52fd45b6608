"""One file of the public archives, from the first mirror that has it."""

from pathlib import Path

from cryoready.dataset.archive_files import fetch_file
from step import step

with step(snakemake) as report:
    kind, config = snakemake.params.kind, snakemake.config
    path, cache = Path(snakemake.output[0]), Path(config["cache"])
    brought = fetch_file(kind, snakemake.params.key, path, config["archive"], cache=cache)
    report(f"{path}: {brought.fetched / 1e6:.1f} MB from {brought.url}")
