"""Map and model of one entry -> 1 Å map, target, zone of the model, and boxes for training."""

from pathlib import Path

from cryoready.dataset.files import write_pair
from cryoready.dataset.metadata import read_metadata
from cryoready.dataset.prepare import entry_seed, prepare_pair, prepare_simulated_pair
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from step import step

with step(snakemake) as report:
    files, settings, entry_id = snakemake.input, snakemake.params.settings, snakemake.wildcards.id
    atoms = read_model(files.model)
    resolution = settings["resolution"]
    if resolution is None and files.get("metadata"):
        resolution = read_metadata(Path(files.metadata)).resolution
    seed = entry_seed(entry_id, settings["seed"])
    common = {
        "resolution": resolution,
        "seed": seed,
        "minimum_voxels": settings["boxes"]["edge_voxels"],
    }
    if files.get("map"):
        volume = read_map(files.map, voxel_size=settings["voxel_size"])
        pair = prepare_pair(volume, atoms, mask_radius=settings["mask_radius"], **common)
    else:
        pair = prepare_simulated_pair(atoms, **common)
    report(write_pair(pair, entry_id, seed, dict(files), snakemake.output, settings["boxes"]))
