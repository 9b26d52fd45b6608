"""What all training runs left behind -> one page that compares them, and its numbers."""

from pathlib import Path

import pandas as pd

from cryoready.report.training import write_training_report
from cryoready.training.record import Record
from cryoready.training.samples import Slices
from step import step

with step(snakemake) as report:
    settings, to = snakemake.params.settings, snakemake.output
    samples = [Path(path) for path in snakemake.input.samples]
    table = settings["ablation"]
    text = {"sep": "\t", "keep_default_na": False, "na_values": [""]}
    write_training_report(
        Path(to.page),
        [Record.read(Path("results/training") / run) for run in settings["runs"]],
        samples={path.parent.name: Slices.read(path) for path in samples},
        ablation=pd.read_csv(table, **text) if table else None,
        resolutions=settings["resolutions"],
    )
    report(f"{len(settings['runs'])} runs: {to.page}")
