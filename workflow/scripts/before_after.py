"""Deposited and enhanced map -> the same slices of both at the same contour."""

import json
from pathlib import Path

from cryoready.density.resample import resample
from cryoready.files.maps import read_map
from cryoready.report.plots import plot_before_after
from step import step

with step(snakemake):
    card = json.loads(Path(snakemake.input.card).read_text())
    before = read_map(snakemake.input.map, **snakemake.params.settings)
    plot_before_after(
        before,
        resample(read_map(snakemake.input.enhanced), before.grid),
        contours=(card["contour"]["input"], card["contour"]["enhanced"]),
        title=f"{snakemake.wildcards.id}, weights {card['weights']['name']}",
        path=Path(snakemake.output.picture),
    )
