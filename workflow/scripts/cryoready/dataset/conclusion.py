"""From prepared pairs to the data set: which were taken, which were left out, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from cryoready import __version__
from cryoready.dataset.filters import PAIR_FILTERS, judge
from cryoready.dataset.quality import Quality
from cryoready.dataset.select import taken

SHEET_COLUMNS = ["id", "emdb", "pdb", "resolution", "contour", "split", "rejected_because"]
CARD_COLUMNS = ("id", "boxes", "assembly", "correlation", "failed")
PAIR_COLUMNS = (*CARD_COLUMNS, *(field.name for field in fields(Quality)))


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What came of the candidates.

    Parameters
    ----------
    entries
        a sheet of all candidates, with ``rejected_because``; who was rejected is in no split.
    pairs
        what was measured of each, by id.
    filters
        rows (filter, rejected, left) in the order in which they applied.
    """

    entries: pd.DataFrame
    pairs: pd.DataFrame
    filters: pd.DataFrame

    def lines(self, wanted: Mapping[str, int]) -> list[str]:
        """Pairs in each split, with advice where there are too few."""
        found = self.entries["split"].value_counts()
        told = [", ".join(f"{found.get(split, 0)} {split}" for split in wanted) + " pairs"]
        few = [split for split, number in wanted.items() if found.get(split, 0) < number]
        if few:
            told.append(
                f"fewer than dataset.counts wants for {', '.join(few)}: raise dataset.reserve, or "
                "loosen what rejected most (results/dataset/entries.tsv has each reason)"
            )
        return told


def conclude(
    candidates: pd.DataFrame,
    cards: Sequence[Mapping[str, Any]],
    *,
    limits: Mapping[str, Any],
    counts: Mapping[str, int],
) -> Conclusion:
    """Judge the pairs and fill the splits.

    Parameters
    ----------
    candidates
        table of `cryoready.dataset.select.select`, every cell as text.
    cards
        of the prepared pairs (`cryoready.dataset.pairs`), one of each candidate.
    limits
        of the filters in `PAIR_FILTERS`, by name.
    counts
        pairs wanted in each split.
    """
    measured = [{**card, **card.get("quality", {})} for card in cards]
    pairs = pd.DataFrame(measured, columns=list(PAIR_COLUMNS))
    reasons, filters = judge(pairs, {"files": _files, **PAIR_FILTERS}, {"files": None, **limits})
    chosen = candidates[candidates["rejected_because"] == ""].set_index("id", drop=False)
    rejected = reasons.set_axis(pairs["id"]).reindex(chosen.index, fill_value="files: no pair")
    entries = taken(chosen, rejected, counts).reset_index(drop=True)[SHEET_COLUMNS]
    # a sheet has no negative levels
    entries["contour"] = entries["contour"].mask(entries["contour"].str.startswith("-"), "")
    surplus = int(entries["rejected_because"].str.startswith("not needed").sum())
    left = int((entries["rejected_because"] == "").sum())
    last = pd.DataFrame([{"filter": "surplus", "rejected": surplus, "left": left}])
    return Conclusion(entries, pairs, pd.concat([filters, last], ignore_index=True))


def provenance(
    history: Sequence[Mapping[str, Any]],
    filters: pd.DataFrame,
    settings: Mapping[str, Any],
    cards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """All that it takes to make the same choice again: queries, counts, settings, checksums.

    ``checksums`` has the SHA-256 of every map by its EMDB id and of every model by its PDB id; as
    ``archive.checksums`` of another run it makes sure that the same files arrive.
    """
    files: dict[str, dict[str, str]] = {"map": {}, "model": {}}
    for card in cards:
        for role, key in card.get("archived", {}).items():
            if role in files:
                files[role][key] = card["sources"][role]
    catalogue, selection = history
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "catalogue": catalogue,
        "selection": selection,
        "settings": settings,
        "filters": filters.to_dict("records"),
        "checksums": {role: dict(sorted(sums.items())) for role, sums in files.items()},
    }


def _files(table: pd.DataFrame, _: Any) -> "pd.Series[str]":
    """Files that could not be had or read, or gave no boxes."""
    return (
        table["failed"].fillna("").map(lambda why: f"files: {' '.join(why.split())}" if why else "")
    )
