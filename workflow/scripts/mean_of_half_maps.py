"""Two half-maps -> their mean, which is the map where no other is given."""

from cryoready.core.volume import Volume
from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.metrics.half_maps import on_grid
from step import step

with step(snakemake):
    files = snakemake.input
    first, second = read_map(files.half_map_1), read_map(files.half_map_2)
    mean = Volume.on(first.grid, (first.data + on_grid(first.grid, second)) / 2)
    layout = read_layout(files.half_map_1)
    write_map(snakemake.output.map, mean, layout=layout, label="cryoready: mean of half-maps")
