"""Runs of the variants, with several seeds each -> what each part of the method is worth."""

from pathlib import Path

from cryoready.core.whole_files import written_whole
from cryoready.network.checkpoint import load_network
from cryoready.training.ablation import ablation_table
from cryoready.training.memory import count_parameters
from cryoready.training.record import Record
from step import step

with step(snakemake) as report:
    settings, runs = snakemake.params.settings, []
    for weights, variant in zip(snakemake.input.weights, settings["variants"], strict=True):
        parameters = count_parameters(load_network(Path(weights))[0])
        runs.append((variant, Record.read(Path(weights).parent), parameters))
    table = ablation_table(runs, base=settings["variants"][0])
    with written_whole(Path(snakemake.output.table)) as part:
        table.to_csv(part, sep="\t", index=False, float_format="%.6g")
    for line in table.iloc[:, :7].to_string(index=False, float_format="%.4g").splitlines():
        report(line)
