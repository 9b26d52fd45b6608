"""Weights of a run -> the same in half precision, card, README, and the sheet behind them."""

import shutil
from pathlib import Path

from cryoready.core.whole_files import written_whole
from cryoready.dataset.sheet import read_sheet
from cryoready.report.model_card import write_model_card
from cryoready.training.record import Record
from cryoready.training.release import check_sheet, release
from cryoready.training.samples import sample_crops
from step import step

with step(snakemake) as report:
    settings, to = snakemake.params.settings, snakemake.output
    weights, entries = Path(settings["weights"]), snakemake.input.entries
    ids, crops = sample_crops([Path(path) for path in snakemake.input.boxes])
    limits = settings["release"]
    released = release(weights, Path(to.weights), crops[:, :1], **limits)
    sheet = read_sheet(Path(entries))
    check_sheet(released.card, sheet, entries)
    run = Record.read(weights.parent)
    write_model_card(Path(to.readme), released, run, sheet=sheet, crops=ids)
    with written_whole(Path(to.entries)) as part:
        shutil.copyfile(entries, part)
    report(f"{to.weights}: {released.megabytes:.2f} MB; differs by {released.deviation:.2g} of 100")
