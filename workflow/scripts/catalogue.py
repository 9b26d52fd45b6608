"""EMDB's search, page by page -> the table of its entries, and where it came from."""

import json
from pathlib import Path

from cryoready.core.whole_files import written_whole
from cryoready.dataset.catalogue import (
    fetch_pages,
    pages_folder,
    provenance,
    read_catalogue,
    write_catalogue,
)
from step import step

with step(snakemake) as report:
    query, to, config = snakemake.params.settings["query"], snakemake.output, snakemake.config
    archive, folder = config["archive"], pages_folder(Path(config["cache"]), query)
    limits = {"timeout": archive["timeout"], "retries": config["dataset"]["retries"]}
    pages = fetch_pages(query, archive["metadata"], folder, **limits)
    catalogue = read_catalogue(pages)
    write_catalogue(catalogue, Path(to.table))
    with written_whole(Path(to.provenance)) as part:
        known = provenance(query, pages, entries=len(catalogue))
        part.write_text(json.dumps(known, indent=2) + "\n")
    report(f"{to.table}: {len(catalogue)} entries, as of {known['date']}")
