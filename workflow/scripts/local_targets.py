"""Map and model of one entry -> targets of its boxes that are as sharp as the map is locally."""

from cryoready.dataset.pairs import make_pair, write_targets
from step import step

with step(snakemake) as report:
    entry_id, settings = snakemake.wildcards.id, snakemake.params.settings
    sources = {role: path for role, path in snakemake.input.items() if role != "index"}
    pair = make_pair(entry_id, sources, settings, local_target=True)
    edge = settings["boxes"]["edge_voxels"]
    write_targets(pair, snakemake.input.index, snakemake.output.targets, edge)
    report(f"{entry_id}: targets of its boxes by the Q-score of each residue")
