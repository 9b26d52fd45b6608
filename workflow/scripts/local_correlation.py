"""An enhanced map and its model -> their correlation around every voxel."""

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.dataset.fitted import with_fitted_model
from cryoready.dataset.metadata import reported_resolution
from cryoready.density.structure_factors import model_density, structure_factors
from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.files.models import read_model
from cryoready.metrics.local_correlation import local_correlation
from step import step

with step(snakemake):
    files, settings = with_fitted_model(dict(snakemake.input)), snakemake.params.settings
    radius = settings["radius"]
    resolution = reported_resolution(settings["resolution"], files.get("metadata"))
    if resolution is None:
        raise CryoreadyError("the archive does not say the resolution: give it in the sheet")
    if "model" not in files:
        raise CryoreadyError("the archive names no fitted model: give the column pdb or model")
    volume = read_map(files["map"])
    factors = structure_factors(read_model(files["model"]), volume.grid)
    model = Volume.on(volume.grid, model_density(factors, volume.grid, resolution=resolution))
    result = Volume.on(volume.grid, local_correlation(volume, model, radius=radius))
    label = f"cryoready: local correlation with the model, radius {radius:g} A"
    write_map(snakemake.output.map, result, layout=read_layout(files["map"]), label=label)
