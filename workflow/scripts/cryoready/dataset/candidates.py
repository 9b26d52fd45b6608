"""The candidates for training pairs: chosen from the catalogue, and what they cost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from cryoready.core.whole_files import written_whole
from cryoready.dataset.archive_relatives import fetch_relatives
from cryoready.dataset.budget import Cost, cost
from cryoready.dataset.select import models_to_compare, select, unknown_held_out, with_sheet


@dataclass(frozen=True, eq=False)
class Candidates:
    """The table of `select`, how it came about, and what the candidates cost."""

    table: pd.DataFrame
    filters: pd.DataFrame
    provenance: dict[str, Any]
    unknown: list[str]
    cost: Cost

    def lines(self, *, cores: int) -> list[str]:
        """What to tell the user of relatives and costs."""
        told = [f"clusters of sequences: {self.provenance['clusters']}"]
        if self.unknown:
            some = f"{', '.join(self.unknown[:5])}{', …' if self.unknown[5:] else ''}"
            told.append(
                f"warning: no sequence of {len(self.unknown)} held-out entries is known: {some}"
            )
        memory = psutil.virtual_memory().total / 1e6
        return told + self.cost.lines(cores=cores, memory=memory)

    def write(self, table: Path, provenance: Path) -> None:
        """Write both files, each whole."""
        with written_whole(table) as part:
            self.table.to_csv(part, sep="\t", index=False, float_format="%.15g")
        with written_whole(provenance) as part:
            part.write_text(json.dumps(self.provenance, indent=2) + "\n")


def choose_candidates(
    catalogue: pd.DataFrame,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    threads: int,
) -> Candidates:
    """Fetch what the catalogue has to be compared with, and select.

    Parameters
    ----------
    catalogue
        table of `cryoready.dataset.catalogue.read_catalogue`.
    settings
        of `select`; ``held_out``, ``models`` (files of held-out entries without a PDB id, by id)
        and ``rows`` (what the sheet says of entries of the catalogue).
    config
        the whole configuration: where to fetch, and ``dataset.boxes``.
    threads
        of MMseqs2.
    """
    held_out = settings["held_out"]
    catalogue = with_sheet(catalogue, settings["rows"])
    compared = models_to_compare(catalogue, held_out, settings["metadata"])
    relatives = fetch_relatives(compared, settings["models"], config, threads=threads)
    known = relatives.clusters, relatives.chains
    table, filters = select(catalogue, *known, held_out, settings, threads=threads)
    origin = {"clusters": relatives.origin, "sha256": relatives.sha256}
    chosen = table[table["rejected_because"] == ""].to_dict("records")
    return Candidates(
        table,
        filters,
        {**origin, "filters": filters.to_dict("records"), **settings},
        unknown_held_out(catalogue, held_out, *known),
        cost(chosen, config["dataset"]["boxes"]),
    )
