"""Maps, metadata and models of the benchmark -> which of its entries can be evaluated."""

from pathlib import Path

import pandas as pd

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import written_whole
from cryoready.dataset.fetch import fetch_entries
from step import step

with step(snakemake) as report:
    config, entries = snakemake.config, snakemake.params.entries
    report(f"{len(entries)} maps and models are sought: tens of GB on disk, as much for results")
    rows = list(fetch_entries(entries, Path(config["cache"]), config["archive"]))
    missing = [row for row in rows if row["reason"]]
    for row in missing:
        report(f"left out: {row['id']}: {row['reason']}")
    if len(missing) == len(rows):
        first = missing[0]
        raise CryoreadyError(
            f"no map of the benchmark is to be had; {first['id']}: {first['reason']}"
        )
    report(f"{len(rows) - len(missing)} of {len(rows)} maps of the benchmark can be evaluated")
    with written_whole(Path(snakemake.output.available)) as part:
        pd.DataFrame(rows).to_csv(part, sep="\t", index=False)
