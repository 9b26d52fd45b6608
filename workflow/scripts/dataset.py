"""Candidates and the cards of their pairs -> the sheet of the data set, and where it came from."""

import json
from pathlib import Path

import pandas as pd

from cryoready.core.whole_files import written_whole
from cryoready.dataset.conclusion import conclude, provenance
from cryoready.report.dataset_page import write_dataset_page
from step import step

with step(snakemake) as report:
    settings, to = snakemake.params.settings, snakemake.output
    candidates = pd.read_csv(snakemake.input.candidates, sep="\t", dtype=str, keep_default_na=False)
    cards = [json.loads(Path(path).read_text()) for path in snakemake.input.cards]
    history = [json.loads(Path(path).read_text()) for path in snakemake.input.provenance]
    counts = settings["counts"]
    found = conclude(candidates, cards, limits=settings["pair"], counts=counts)
    filters = pd.concat([pd.DataFrame(history[1]["filters"]), found.filters], ignore_index=True)
    for table, path in ((found.entries, to.entries), (found.pairs, to.pairs)):
        with written_whole(Path(path)) as part:
            table.convert_dtypes().to_csv(part, sep="\t", index=False)
    with written_whole(Path(to.provenance)) as part:
        part.write_text(json.dumps(provenance(history, filters, settings, cards), indent=2) + "\n")
    pictures = {card["id"]: Path(f"results/work/{card['id']}/pair.png") for card in cards}
    page = Path(to.page)
    write_dataset_page(page, found.entries, found.pairs, filters, counts=counts, pictures=pictures)
    for line in found.lines(counts):
        report(line)
    report(f"train on it, with the same settings: --config entries={to.entries}")
