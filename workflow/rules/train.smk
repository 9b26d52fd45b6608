# Training of the network on the entries of the sheet's `train` split, judged on `val`.


rule train:
    input:
        f"{RUN}/weights.safetensors",
        f"{RUN}/loss.svg",
    localrule: True


# Slurm's plugin starts a job's script on one node and with all GPUs, which only fits together when
# there is one node. Told that the script calls srun itself (as it does), it leaves that to it.
SEVERAL_NODES = (
    dict(mpi="srun", tasks=of_run(int, "nodes"), tasks_per_gpu=0)
    if config["train"]["nodes"] > 1
    else {}
)


rule train_network:
    input:
        init=of_run(initial_weights, "init"),
        training=of_run(lambda share: boxes_of(*real_pairs(share)), "real_share"),
        local_targets=of_run(local_targets, "target", "real_share"),
        structures=of_run(structures, "real_share"),
        validation=lambda _: boxes_of(*split("val")),
        cards=of_run(lambda share: cards_of(*real_pairs(share), *split("val")), "real_share"),
        validation_maps=of_run(lambda every: [str(x.map) for x in judged(every)], "validate_every"),
        validation_models=of_run(
            lambda every: [str(x.model) for x in judged(every)], "validate_every"
        ),
    output:
        weights="results/training/{run}/weights.safetensors",
        card="results/training/{run}/card.json",
        last="results/training/{run}/last.safetensors",
        last_card="results/training/{run}/last.json",
        history="results/training/{run}/history.tsv",
        validation="results/training/{run}/validation.tsv",
        events=directory("results/training/{run}/events"),
    log:
        "results/training/{run}/train.log",
    # What fails here fails again. Jobs that are taken from the machine are queued again by Slurm.
    retries: 0
    conda:
        "../../envs/cryoready.yaml"
    threads: lambda w: 1 if w.run in ABLATION else CORES
    resources:
        **SEVERAL_NODES,
        gpu=0,
        requeue=0,  # 1: a Slurm job whose time is up goes on in another one
        mem_mb=training_mem_mb,
        runtime=1440,
        nodes=of_run(int, "nodes"),
    params:
        science=science("train"),
        settings=train_settings,
    message:
        "train run {wildcards.run}; an interrupted run goes on where it stopped"
        " [{resources.mem_mb} MB, {resources.runtime} min, {resources.gpu} GPUs]"
    script:
        "../scripts/train.py"
