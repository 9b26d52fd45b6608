# Training pairs: 1 Å map, simulated target, zone of the model, boxes.
#
# What an entry lacks is fetched within the job and, unless dataset.keep says so, not kept: a map lies
# on the disk only while it is used, and a file that is gone again reruns nothing.


rule prepare:
    input:
        unpack(prepare_input),
    output:
        **prepare_output(),
    log:
        "results/work/{id}/prepare.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        maps_mb=passing_maps_mb,
        mem_mb=mem_mb("prepare", pair_size),
        runtime=pair_runtime("prepare"),
    params:
        science=science("prepare"),
        settings=prepare_settings,
    message:
        "{wildcards.id}: resample the map to 1 Å, simulate its target from the model, cut boxes"
        " [{resources.mem_mb} MB, {resources.runtime} min]"
    script:
        "../scripts/prepare.py"


rule local_targets:
    input:
        unpack(prepare_input),
        index="results/work/{id}/boxes.tsv",
    output:
        targets="results/work/{id}/local_targets.npy",
    log:
        "results/work/{id}/local_targets.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        maps_mb=passing_maps_mb,
        mem_mb=mem_mb("local_targets", pair_size),
        runtime=pair_runtime("local_targets"),
    params:
        science=science("local_targets"),
        settings=prepare_settings,
    message:
        "{wildcards.id}: simulate targets that are as sharp as the map is at each residue"
    script:
        "../scripts/local_targets.py"


rule pack_structures:
    input:
        structures_to_pack,
    output:
        atoms="results/work/structures.npy",
        table="results/work/structures.tsv",
    log:
        "results/work/structures.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("pack_structures", models_size),
        runtime=runtime("pack_structures", models_size),
    params:
        science=science("pack_structures"),
        settings=structure_settings,
    message:
        "pack the atoms of the structures whose maps are simulated in training"
    script:
        "../scripts/pack_structures.py"
