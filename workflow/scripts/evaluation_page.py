"""An evaluation -> its page, a single HTML file."""

import json
from pathlib import Path

from cryoready.density.resample import resample
from cryoready.files.maps import read_map
from cryoready.report.evaluation import read_table
from cryoready.report.page import write_entry_page
from step import step

with step(snakemake):
    files = snakemake.input
    before = read_map(files.map, **snakemake.params.settings)
    write_entry_page(
        Path(snakemake.output.page),
        json.loads(Path(files.summary).read_text(encoding="utf-8")),
        curves=read_table(files.curves),
        residues=read_table(files.residues),
        chains=read_table(files.chains),
        maps=(before, resample(read_map(files.enhanced), before.grid)),
    )
