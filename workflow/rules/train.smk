# Training of the network on the entries of the sheet's `train` split, judged on `val`.


rule train:
    input:
        f"{RUN}/weights.safetensors",
        f"{RUN}/loss.svg",
    localrule: True


rule train_network:
    input:
        init=initial_weights,
        training=boxes_of("train"),
        validation=boxes_of("val"),
        cards=cards_of("train", "val"),
    output:
        weights=f"{RUN}/weights.safetensors",
        card=f"{RUN}/card.json",
        last=f"{RUN}/last.safetensors",
        last_card=f"{RUN}/last.json",
        history=f"{RUN}/history.tsv",
    log:
        f"{RUN}/train.log",
    conda:
        "../../envs/cryoready.yaml"
    threads: workflow.cores or 1
    resources:
        gpu=0,
        mem_mb=8000,
    params:
        science=science("train"),
        settings=train_settings(),
    message:
        f"train run {RUN_NAME} on {{threads}} threads; an interrupted run goes on where it stopped"
    script:
        "../scripts/train.py"
