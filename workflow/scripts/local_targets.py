"""Map and model of one entry -> targets of its boxes that are as sharp as the map is locally."""

from pathlib import Path

from cryoready.dataset.fetch import fetched
from cryoready.dataset.pairs import make_pair, read_fitted, write_targets
from step import step

with step(snakemake) as report:
    entry_id, settings = snakemake.wildcards.id, snakemake.params.settings
    own = {role: path for role, path in snakemake.input.items() if role != "index"}
    folder = Path(snakemake.output.targets).parent
    with fetched(settings["archived"], folder, snakemake.config, report) as files:
        fitted = read_fitted(own | files, settings)
    pair = make_pair(entry_id, fitted, settings, local_target=True)
    edge = settings["boxes"]["edge_voxels"]
    write_targets(pair, snakemake.input.index, snakemake.output.targets, edge)
    report(f"{entry_id}: targets of its boxes by the Q-score of each residue")
