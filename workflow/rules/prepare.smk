# Training pairs: 1 Å map, simulated target, zone of the model, boxes.


rule prepare:
    input:
        unpack(prepare_input),
    output:
        map="results/work/{id}/map_1A.mrc",
        target="results/work/{id}/target.mrc",
        mask="results/work/{id}/mask.mrc",
        boxes="results/work/{id}/boxes.npy",
        index="results/work/{id}/boxes.tsv",
        card="results/work/{id}/pair.json",
    log:
        "results/work/{id}/prepare.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=4000,
    params:
        science=science("prepare"),
        settings=prepare_settings,
    message:
        "{wildcards.id}: resample the map to 1 Å, simulate its target from the model, cut boxes"
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
        mem_mb=4000,
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
    params:
        science=science("pack_structures"),
        settings=structure_settings,
    message:
        "pack the atoms of the structures whose maps are simulated in training"
    script:
        "../scripts/pack_structures.py"
