"""Which entries of the catalogue become training pairs: candidates first, then those that pass.

In this order: filters of what the catalogue says (`FILTERS`), one entry for each cluster of
sequences, no homologues in two splits, and as many candidates as are needed.
"""

import math
import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import pandas as pd

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.filters import FILTERS, count, judge
from cryoready.dataset.relatives import Chains, Clusters, sequenced
from cryoready.dataset.split import HeldOut, fill, preference, redundant, related, split_of

LONG_ID = re.compile(r"EMD-[0-9]{6,}")
COLUMNS = (
    *("id", "emdb", "pdb", "resolution", "contour", "voxels", "voxel_size"),
    *("split", "rank", "cluster", "rejected_because"),
)


def select(
    catalogue: pd.DataFrame,
    clusters: Clusters,
    chains: Chains,
    held_out: Mapping[str, HeldOut],
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candidates for training pairs.

    Parameters
    ----------
    catalogue
        table of `cryoready.dataset.catalogue.read_catalogue`.
    clusters
        of the PDB's entries (`cryoready.dataset.relatives`).
    chains
        sequences of these entries, of both kinds of polymer.
    held_out
        entries which, and whose relatives, are in no other split than their own. One without a PDB
        id has its sequences and clusters under its own id in lower case.
    settings
        ``metadata`` (a setting of each of `FILTERS`), ``relatives`` (``e_value``, see
        `cryoready.dataset.homologues.hits`, or None), ``counts`` (pairs wanted in each split),
        ``reserve`` (candidates for each pair wanted) and ``seed``.
    threads
        of MMseqs2.

    Returns
    -------
    All rows of the catalogue with `COLUMNS`, and rows (filter, rejected, left). Rejected ones are
    in no split; the others are tried by ``rank``, 1 first. ``cluster`` are names with commas
    between.

    Raises
    ------
    CryoreadyError
        if an entry is there twice, no pairs are wanted, or MMseqs2 fails.
    """
    e_value = settings["relatives"]["e_value"]
    table = catalogue.set_index("id", drop=False).rename_axis(None)
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise CryoreadyError(f"catalogue: {twice} is there twice; keep one of the rows")
    models = _models(table, held_out)
    member = {
        entry: frozenset[str]().union(*(clusters.get(pdb, ()) for pdb in pdbs))
        for entry, pdbs in models.items()
    }
    known = set(clusters) if e_value is None else set(clusters) & sequenced(chains)
    reasons, _ = judge(
        table,
        {"id": _ids, **FILTERS, "clusters": _clusters},
        {"id": LONG_ID, **settings["metadata"], "clusters": known},
    )
    counts, seed = settings["counts"], settings["seed"]
    order = preference(table.index[reasons == ""], held_out, seed)
    repeated = redundant(order, member, held_out)
    splits = {e: split_of(e, counts, held_out, seed) for e in order if e not in repeated}
    wanted = {split: math.ceil(n * settings["reserve"]) for split, n in counts.items()}
    search = partial(related, models=models, chains=chains, e_value=e_value, threads=threads)
    ranks, left_out = fill(splits, wanted, held_out, search)
    for entry, reason in {**repeated, **left_out}.items():
        reasons[entry] = reason
    table = table.assign(
        split=[splits[entry] if entry in ranks else "" for entry in table.index],
        rank=pd.array([ranks.get(entry) for entry in table.index], dtype="Int64"),
        cluster=[",".join(sorted(member[entry])) for entry in table.index],
        rejected_because=reasons,
    )
    steps = ["id", *FILTERS, "clusters", "redundant", "homologue", "not needed"]
    return table[list(COLUMNS)].reset_index(drop=True), count(reasons, steps)


def taken(
    candidates: pd.DataFrame, rejected: "pd.Series[str]", counts: Mapping[str, int]
) -> pd.DataFrame:
    """The final choice: of each split the first so many, by rank, that were not rejected.

    Parameters
    ----------
    candidates
        rows of a table of `select`.
    rejected
        why a candidate cannot be taken, by the index of ``candidates``; "" where it can.
    counts
        pairs wanted in each split.

    Returns
    -------
    The candidates with new ``rejected_because``; rejected ones are in no split.
    """
    earlier = candidates["rejected_because"]
    reasons = earlier.mask(earlier == "", rejected)
    for split, wanted in counts.items():
        passed = candidates[(reasons == "") & (candidates["split"] == split)]
        ranks = pd.to_numeric(passed["rank"]).sort_values()
        reasons[ranks.index[wanted:]] = f"not needed: the {split} split has its {wanted} pairs"
    splits = candidates["split"].where(reasons == "", "")
    return candidates.assign(split=splits, rejected_because=reasons)


def told_counts(table: pd.DataFrame, filters: pd.DataFrame, counts: Mapping[str, int]) -> list[str]:
    """What to tell the user of a choice: who rejected how many, and how many there are for a split.

    Raises
    ------
    CryoreadyError
        if nothing is left.
    """
    rejecting = filters[filters["rejected"] > 0]
    told = [
        f"{row.filter}: {row.rejected} rejected, {row.left} left" for row in rejecting.itertuples()
    ]
    found = table["split"].value_counts()
    if not (table["split"] != "").any():
        raise CryoreadyError(f"no candidate is left of {len(table)} entries: {'; '.join(told)}")
    there = ", ".join(f"{found.get(s, 0)} {s} ({n} wanted)" for s, n in counts.items())
    few = [split for split, n in counts.items() if found.get(split, 0) < n]
    advice = f"; too few for {', '.join(few)}: loosen what rejects most" if few else ""
    return [*told, f"candidates: {there}{advice}"]


def with_sheet(catalogue: pd.DataFrame, rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The catalogue with what the user's sheet says of some entries (``pdb``, ``resolution``)."""
    table = catalogue.set_index("id", drop=False).rename_axis(None)
    for entry, row in rows.items():
        if entry in table.index:
            for column, value in row.items():
                table.loc[entry, column] = value if value else table.loc[entry, column]
    table["pdb"] = table["pdb"].str.lower()
    return table.reset_index(drop=True)


def unknown_held_out(
    catalogue: pd.DataFrame,
    held_out: Mapping[str, HeldOut],
    clusters: Clusters,
    chains: Chains,
) -> list[str]:
    """Held-out entries of which no cluster and no sequence is known: no relative is found."""
    named = _models(catalogue[catalogue["id"].isin(list(held_out))].set_index("id"), held_out)
    known = set(clusters) | sequenced(chains)
    return [entry for entry, models in named.items() if not known & set(models)]


def models_to_compare(
    catalogue: pd.DataFrame, held_out: Mapping[str, HeldOut], settings: Mapping[str, Any]
) -> set[str]:
    """Entries whose clusters and sequences `select` needs: held-out ones and those of the PDB.

    ``settings`` are those of `FILTERS`.
    """
    reasons, _ = judge(catalogue, FILTERS, settings)
    compared = (reasons == "") | catalogue["id"].isin(list(held_out))
    models = _models(catalogue[compared].set_index("id"), held_out)
    return {pdb for pdbs in models.values() for pdb in pdbs}


def _models(table: pd.DataFrame, held_out: Mapping[str, HeldOut]) -> dict[str, tuple[str, ...]]:
    """All models fitted into each map of ``table``, by its index, and into each held-out one."""
    fitted = table["pdb"].fillna("") + "," + table["pdbs"].fillna("")
    models = {str(entry): text.lower().split(",") for entry, text in fitted.items()}
    for entry, row in held_out.items():
        models.setdefault(entry, []).extend((row["pdb"] or entry).lower().split(","))
    return {entry: tuple(dict.fromkeys(filter(None, pdbs))) for entry, pdbs in models.items()}


def _ids(table: pd.DataFrame, long: re.Pattern[str]) -> "pd.Series[str]":
    """EMDB will have such ids one day; the sheet does not know them."""
    return ("id: " + table["id"] + ", more than 5 digits").where(
        table["id"].str.fullmatch(long), ""
    )


def _clusters(table: pd.DataFrame, known: Collection[str]) -> "pd.Series[str]":
    """Whether it can be known to what the model is related."""
    return ("clusters: no sequence known of " + table["pdb"]).mask(table["pdb"].isin(known), "")
