"""history.tsv of a run -> its loss figure."""

from pathlib import Path

import pandas as pd

from cryoready.report.plots import plot_history
from step import step

with step(snakemake):
    history = pd.read_csv(snakemake.input.history, sep="\t")
    plot_history(history, Path(snakemake.output.figure))
