"""The entries of the benchmark: maps on which others have published what they measured.

The Snakefile reads this module while it is parsed: nothing heavier than the standard library.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.sheet import Entry


def read_yardstick(path: Path) -> dict[str, Entry]:
    """Entries of ``yardstick.tsv`` by archive id; a resolution that is not known is None."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row["emdb"]: Entry(
            id=row["emdb"],
            emdb=row["emdb"],
            pdb=row["pdb"],
            resolution=float(row["resolution"]) if row["resolution"] else None,
            where=f"{path}, {row['emdb']}",
        )
        for row in rows
    }


def completed(sheet: Mapping[str, Entry], yardstick: Mapping[str, Entry]) -> dict[str, Entry]:
    """The sheet, its empty cells `pdb` and `resolution` filled, and the entries that it lacks."""
    filled = {
        entry.id: replace(
            entry,
            pdb=entry.pdb or yardstick[entry.id].pdb,
            resolution=entry.resolution or yardstick[entry.id].resolution,
        )
        for entry in sheet.values()
        if entry.id in yardstick
    }
    return {**yardstick, **sheet, **filled}


def chosen(yardstick: Mapping[str, Entry], ids: Sequence[str] | None) -> list[str]:
    """The ids to evaluate: all, or those of the configuration (`benchmark.entries`)."""
    unknown = [entry for entry in ids or () if entry not in yardstick]
    if unknown or (ids is not None and not ids):
        raise CryoreadyError(
            f"benchmark.entries: {', '.join(unknown) or 'an empty list'}; known are the "
            f"{len(yardstick)} ids in resources/benchmark/yardstick.tsv, null means all"
        )
    return list(dict.fromkeys(yardstick if ids is None else ids))
