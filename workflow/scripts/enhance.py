"""One map -> its enhanced map on the input's own grid, with a card of how it was made."""

from pathlib import Path

from cryoready.dataset.metadata import Metadata, read_metadata
from cryoready.enhance.inference import enhance_with
from cryoready.enhance.output import mask_of, write_card, write_maps
from cryoready.enhance.plan import Settings
from cryoready.files.maps import read_map
from cryoready.network.checkpoint import load_network
from step import step

with step(snakemake) as report:
    files, to, settings = snakemake.input, snakemake.output, snakemake.params.settings
    entry = settings["entry"]
    volume = read_map(files.map, voxel_size=entry["voxel_size"])
    network, card = load_network(Path(settings["weights"]), grid=settings["weights_grid"])
    metadata = read_metadata(Path(files.metadata)) if files.get("metadata") else Metadata()
    mask = mask_of(volume, dict(files), entry, settings["mask"])
    result = enhance_with(
        card,
        volume,
        network,
        settings=Settings(**snakemake.config["inference"]),
        mask=mask,
        threads=snakemake.threads,
        gpus=snakemake.resources.gpu,
        report=report,
    )
    write_maps(result, volume, mask, card, dict(files), dict(to), settings["output_grid"])
    report(write_card(result, volume, mask, card, metadata, dict(files), settings, Path(to.card)))
