"""An enhanced map and its model -> their correlation around every voxel."""

import json
from pathlib import Path

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.density.structure_factors import model_density, structure_factors
from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.files.models import read_model
from cryoready.metrics.local_correlation import local_correlation
from step import step

with step(snakemake):
    files, radius = snakemake.input, snakemake.params.settings["radius"]
    resolution = json.loads(Path(files.card).read_text())["resolution"]
    if not files.get("model") or resolution is None:
        raise CryoreadyError(
            "a local correlation needs a model and a resolution: give both in the sheet"
        )
    volume = read_map(files.map)
    factors = structure_factors(read_model(files.model), volume.grid)
    model = Volume.on(volume.grid, model_density(factors, volume.grid, resolution=resolution))
    result = Volume.on(volume.grid, local_correlation(volume, model, radius=radius))
    label = f"cryoready: local correlation with the model, radius {radius:g} A"
    write_map(snakemake.output.map, result, layout=read_layout(files.map), label=label)
