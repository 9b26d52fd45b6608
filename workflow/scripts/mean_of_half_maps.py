"""Two half-maps -> their mean, which is the map where no other is given."""

from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.metrics.half_maps import mean_map
from step import step

with step(snakemake):
    files, options = snakemake.input, snakemake.params.settings
    mean = mean_map(*(read_map(path, **options) for path in (files.half_map_1, files.half_map_2)))
    layout = read_layout(files.half_map_1)
    write_map(snakemake.output.map, mean, layout=layout, label="cryoready: mean of half-maps")
