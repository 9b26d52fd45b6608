"""Two half-maps -> the resolution around every voxel, Å."""

from cryoready.density.contour import default_contour
from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.metrics.half_maps import mean_map
from cryoready.metrics.local_resolution import local_resolution
from step import step

with step(snakemake):
    files, settings = snakemake.input, snakemake.params.settings
    halves = [
        read_map(path, voxel_size=settings["voxel_size"])
        for path in (files.half_map_1, files.half_map_2)
    ]
    density = mean_map(*halves).data
    # without it solvent in the window would make every surface look worse than it is
    inside = density >= (settings["contour"] or default_contour(density))
    result = local_resolution(*halves, mask=inside, window=settings["window"])
    layout = read_layout(files.half_map_1)
    label = f"cryoready: local resolution in A, window {settings['window']:g} A"
    write_map(snakemake.output.map, result, layout=layout, label=label)
