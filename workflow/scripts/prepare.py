"""Map and model of one entry -> 1 Å map, target, zone of the model, and boxes for training."""

from cryoready.dataset.pairs import make_pair, write_pair
from step import step

with step(snakemake) as report:
    entry_id, settings = snakemake.wildcards.id, snakemake.params.settings
    sources = dict(snakemake.input)
    pair = make_pair(entry_id, sources, settings)
    report(write_pair(pair, entry_id, sources, dict(snakemake.output), settings))
