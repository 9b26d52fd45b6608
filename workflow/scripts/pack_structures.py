"""Models of the simulated training entries -> one array of their atoms, and its table."""

from pathlib import Path

from cryoready.dataset.structures import pack
from step import step

with step(snakemake) as report:
    settings = snakemake.params.settings
    models = dict(zip(settings["resolutions"], snakemake.input, strict=True))
    structures = pack(models, settings["resolutions"])
    structures.write(Path(snakemake.output.atoms), Path(snakemake.output.table))
    megabytes = structures.atoms.nbytes / 1e6
    report(f"{len(structures)} structures, {len(structures.atoms)} atoms, {megabytes:.0f} MB")
