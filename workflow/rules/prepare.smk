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
        settings=lambda w: {
            **{key: config["dataset"][key] for key in ("seed", "boxes")},
            **cells_of(w, "resolution", "voxel_size", "mask_radius"),
        },
    message:
        "{wildcards.id}: resample the map to 1 Å, simulate its target from the model, cut boxes"
    script:
        "../scripts/prepare.py"
