"""Catalogue, sequences and clusters -> candidates with their splits, and why others are none."""

import json
from pathlib import Path

from cryoready.core.whole_files import written_whole
from cryoready.dataset.budget import cost
from cryoready.dataset.catalogue import load_catalogue
from cryoready.dataset.fetch import fetch_relatives
from cryoready.dataset.select import models_to_compare, select, unknown_held_out
from step import step

with step(snakemake) as report:
    settings, to, config = snakemake.params.settings, snakemake.output, snakemake.config
    catalogue, held_out = load_catalogue(Path(snakemake.input.table)), settings["held_out"]
    relatives = fetch_relatives(
        models_to_compare(catalogue, held_out, settings["metadata"]),
        settings["models"],
        config,
        threads=snakemake.threads,
        report=report,
    )
    if unknown := unknown_held_out(held_out, relatives.clusters, relatives.chains):
        report(f"warning: no sequence, so no relative is known of {', '.join(unknown)}")
    known = relatives.clusters, relatives.chains
    table, filters = select(catalogue, *known, held_out, settings, threads=snakemake.threads)
    with written_whole(Path(to.table)) as part:
        table.to_csv(part, sep="\t", index=False, float_format="%.15g")
    origin = {"clusters": relatives.origin, "filters": filters.to_dict("records"), **settings}
    with written_whole(Path(to.provenance)) as part:
        part.write_text(json.dumps(origin, indent=2) + "\n")
    for row in filters.itertuples():
        report(f"{row.filter}: {row.rejected} rejected, {row.left} left")
    chosen = table[table["rejected_because"] == ""].to_dict("records")
    for line in cost(chosen, config["dataset"]["boxes"]).lines(cores=snakemake.threads):
        report(line)
