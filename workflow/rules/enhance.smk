# The main job: a map -> its enhanced map, on its own grid.


rule enhance:
    input:
        unpack(enhance_input),
    output:
        **enhance_output(),
    log:
        "results/work/{id}/enhance.log",
    conda:
        "../../envs/cryoready.yaml"
    threads: workflow.cores or 1
    resources:
        gpu=0,
        mem_mb=8000,
    params:
        science=science("enhance"),
        settings=enhance_settings,
    message:
        "{wildcards.id}: enhance {input.map} with {params.settings[weights]} (preset "
        "{params.settings[inference][preset]}), on the grid of the {params.settings[output_grid]}: "
        "{output.map}"
    script:
        "../scripts/enhance.py"
