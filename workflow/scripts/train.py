"""Boxes of the training and validation entries -> weights, card and history."""

from pathlib import Path

from cryoready.network.checkpoint import save_weights
from cryoready.training.loop import train
from cryoready.training.run import describe_epoch, set_up, state_folder, write_history
from step import step

with step(snakemake) as report:
    files, to, settings = snakemake.input, snakemake.output, snakemake.params.settings
    run = set_up(
        training=files.training,
        validation=files.validation,
        pair_cards=files.cards,
        initial_weights=files.init or None,
        architecture=settings["network"],
        settings=snakemake.config["train"],
        definition=settings,
        threads=snakemake.threads,
    )
    report(run.summary)
    with state_folder(Path("results/training/state"), run.key(snakemake.params.science)) as folder:
        state = folder / "state.pt"
        report(f"goes on from {state}" if state.exists() else f"starts anew, saves in {state}")
        history, last = train(
            *(run.network, run.training, run.validation, run.plan),
            state_file=state,
            device=run.device,
            on_epoch=lambda rows: report(describe_epoch(rows, run.plan)),
        )
        write_history(Path(to.history), history)
        save_weights(Path(to.weights), run.network, run.card(history))
        run.network.load_state_dict(last)
        save_weights(Path(to.last), run.network, run.card(history[-1:]))
    report(f"to use the weights: snakemake results/<id>_emready.mrc --config weights={to.weights}")
