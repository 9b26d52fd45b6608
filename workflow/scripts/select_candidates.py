"""Catalogue, sequences and clusters -> candidates with their splits, and why others are none."""

import json
from pathlib import Path

import psutil

from cryoready.core.whole_files import written_whole
from cryoready.dataset.archive_relatives import fetch_relatives
from cryoready.dataset.budget import cost
from cryoready.dataset.catalogue import load_catalogue
from cryoready.dataset.select import (
    models_to_compare,
    select,
    told_counts,
    unknown_held_out,
    with_sheet,
)
from step import step

with step(snakemake) as report:
    settings, to, config = snakemake.params.settings, snakemake.output, snakemake.config
    held_out = settings["held_out"]
    catalogue = with_sheet(load_catalogue(Path(snakemake.input.table)), settings["rows"])
    relatives = fetch_relatives(
        models_to_compare(catalogue, held_out, settings["metadata"]),
        settings["models"],
        config,
        threads=snakemake.threads,
    )
    report(f"clusters of sequences: {relatives.origin}")
    known = relatives.clusters, relatives.chains
    if unknown := unknown_held_out(catalogue, held_out, *known):
        some = f"{', '.join(unknown[:5])}{', …' if unknown[5:] else ''}"
        report(f"warning: no sequence of {len(unknown)} held-out entries is known: {some}")
    table, filters = select(catalogue, *known, held_out, settings, threads=snakemake.threads)
    with written_whole(Path(to.table)) as part:
        table.to_csv(part, sep="\t", index=False, float_format="%.15g")
    origin = {"clusters": relatives.origin, "sha256": relatives.sha256}
    with written_whole(Path(to.provenance)) as part:
        rows = filters.to_dict("records")
        part.write_text(json.dumps({**origin, "filters": rows, **settings}, indent=2) + "\n")
    for line in told_counts(table, filters, settings["counts"]):
        report(line)
    boxes = config["dataset"]["boxes"]
    chosen = table[table["rejected_because"] == ""].to_dict("records")
    memory = psutil.virtual_memory().total / 1e6
    total = cost(chosen, boxes)
    for line in total.lines(cores=snakemake.threads, memory=memory):
        report(line)
    total.check(most_gigabytes=config["dataset"]["most_gigabytes"])
