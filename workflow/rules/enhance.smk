# The main job: a map -> its enhanced map, on its own grid.
#
# Its priority, and the higher ones of what follows: one entry is finished before the next is begun,
# or all maps would be downloaded before the first was enhanced.


rule enhance:
    input:
        unpack(enhance_input),
    output:
        **enhance_output(),
    log:
        "results/work/{id}/enhance.log",
    priority: 1
    conda:
        "../../envs/cryoready.yaml"
    threads: CORES
    resources:
        gpu=0,
        mem_mb=mem_mb("enhance", size_of("map"), network_parameters),
        runtime=runtime("enhance", size_of("map"), times=enhance_times),
    params:
        science=science("enhance"),
        settings=enhance_settings,
    message:
        "{wildcards.id}: enhance {input.map} with {params.settings[weights]} (preset "
        "{params.settings[inference][preset]}), on the grid of the {params.settings[output_grid]}: "
        "{output.map} [{resources.mem_mb} MB, {resources.runtime} min, {resources.gpu} GPUs]"
    script:
        "../scripts/enhance.py"


# Of all entries of the sheet.
rule enhance_all:
    input:
        lambda _: [f"results/{entry}_emready.mrc" for entry in with_maps()],
    localrule: True
