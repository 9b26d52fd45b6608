"""Two half-maps -> the resolution around every voxel, Å."""

from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.metrics.local_resolution import local_resolution
from step import step

with step(snakemake):
    files, settings = snakemake.input, snakemake.params.settings
    halves = [
        read_map(path, voxel_size=settings["voxel_size"])
        for path in (files.half_map_1, files.half_map_2)
    ]
    result = local_resolution(*halves, window=settings["window"])
    label = f"cryoready: local resolution in A, window {settings['window']:g} A"
    write_map(snakemake.output.map, result, layout=read_layout(files.half_map_1), label=label)
