"""Boxes of the validation entries and the weights of a run -> what it makes of a few crops."""

from pathlib import Path

from cryoready.network.checkpoint import load_network
from cryoready.training.samples import cut, sample_crops
from step import step

with step(snakemake):
    ids, crops = sample_crops([Path(path) for path in snakemake.input.boxes])
    network, _ = load_network(Path(snakemake.params.settings["weights"]))
    cut(network, ids, crops).write(Path(snakemake.output.samples))
