"""Sequences of the PDB's entries, and which entries are related by them.

Polymer chains have labels "1abc_A": the entry, in lower case, and the chain. An entry may be one
of the user's own, by another id.

Sources: the archive's `pdb_seqres.txt.gz`_, one FASTA record a chain::

    >101m_A mol:protein length:154  MYOGLOBIN
    MVLSEGEWQLVLHVWAKVEADVAGHGQDILIRLFKSHPETLEKFDRFKHLKTEAEMKASEDLKKHGVTVLTALGAILKKKGHHEAELKPLAQSHATKHK…

and RCSB's `clusters-by-entity-30.txt`_, one cluster of proteins a line, made every week by MMseqs2
at 30 % identity; "2W72_1" is the first entity of 2W72, predicted models are among them::

    2W72_1 2W72_3 AF_AFP69905F1_1

.. _pdb_seqres.txt.gz: https://files.wwpdb.org/pub/pdb/derived_data/
.. _clusters-by-entity-30.txt: https://www.rcsb.org/docs/programmatic-access/file-download-services
"""

import gzip
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pandas as pd

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.homologues import clusters, hits, nucleic_clusters
from cryoready.files.sequences import Polymer

#: Sequences by label, of each kind of polymer.
Chains = Mapping[Polymer, Mapping[str, str]]
#: Names of the clusters of which an entry has a chain.
Clusters = Mapping[str, frozenset[str]]

KINDS: dict[str, Polymer] = {"mol:protein": "protein", "mol:na": "nucleic"}


def entry_of(label: str) -> str:
    """The entry of a chain or entity: "1abc" of "1abc_A", "2w72" of "2W72_1"."""
    return label.rpartition("_")[0].lower()


def sequenced(chains: Chains) -> set[str]:
    """Entries of which there is a sequence."""
    return {entry_of(label) for labelled in chains.values() for label in labelled}


def read_seqres(path: Path, entries: Collection[str]) -> Chains:
    """Sequences of the chains of some entries, from the PDB's ``pdb_seqres.txt.gz``.

    Parameters
    ----------
    path
        of the compressed file.
    entries
        PDB ids, lower case.

    Raises
    ------
    CryoreadyError
        if the file cannot be read to its end or is another one.
    """
    wanted = frozenset(entries)
    chains: dict[Polymer, dict[str, str]] = {polymer: {} for polymer in get_args(Polymer)}
    records = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for header, sequence in pairwise(lines):
                if not header.startswith(">"):
                    continue
                label, kind, *_ = [*header[1:].split(maxsplit=2), "", ""]
                records += kind in KINDS
                if kind in KINDS and entry_of(label) in wanted:
                    chains[KINDS[kind]][label] = sequence.strip()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CryoreadyError(
            f"{path}: cannot be read as the PDB's sequences: {error}; delete it to fetch it again"
        ) from error
    if not records:
        raise CryoreadyError(
            f"{path}: not the PDB's sequences: no record like '>101m_A mol:protein length:154'; "
            "delete it to fetch it again"
        )
    return chains


def read_clusters(path: Path, entries: Collection[str]) -> dict[str, frozenset[str]]:
    """Clusters of some entries' proteins, from RCSB's ``clusters-by-entity-30.txt``.

    A cluster has the name of its first member. What consists of nucleic acids is in none.

    Parameters
    ----------
    path
        of the file.
    entries
        PDB ids, lower case.

    Raises
    ------
    CryoreadyError
        if the file cannot be read, or has none of the entries.
    """
    wanted, found = frozenset(entries), defaultdict(set)
    try:
        with path.open(encoding="utf-8") as lines:
            for members in map(str.split, lines):
                for entry in wanted.intersection(map(entry_of, members)):
                    found[entry].add(members[0])
    except (OSError, UnicodeDecodeError) as error:
        raise CryoreadyError(f"{path}: cannot be read as RCSB's clusters: {error}") from error
    if wanted and not found:
        raise CryoreadyError(
            f"{path}: not RCSB's clusters of entities: has none of the {len(wanted)} entries, "
            f"such as {min(wanted)}; delete it to fetch it again"
        )
    return {entry: frozenset(names) for entry, names in found.items()}


def mmseqs_clusters(chains: Chains, *, identity: float = 0.3, threads: int = 1) -> Clusters:
    """Clusters of all entries' proteins, as those of RCSB, by MMseqs2."""
    once, first = _distinct(chains["protein"])
    heads = clusters(once, identity=identity, threads=threads)
    return _by_entry({label: heads[first[label]] for label in first})


def with_nucleic_clusters(proteins: Clusters, chains: Chains, *, threads: int = 1) -> Clusters:
    """Clusters of proteins, and of the nucleic acids of those entries that have no protein.

    Entries with proteins are told apart by these: all ribosomes would else be compared base by
    base, and complexes with the same designed DNA be one.
    """
    others = {entry_of(label) for label in chains["protein"]} | set(proteins)
    lone = {k: v for k, v in chains["nucleic"].items() if entry_of(k) not in others}
    once, first = _distinct(lone)
    heads = nucleic_clusters(once, threads=threads)
    return {**proteins, **_by_entry({label: heads[first[label]] for label in first})}


def homologues(
    query: Collection[str],
    target: Collection[str],
    chains: Chains,
    *,
    e_value: float,
    threads: int = 1,
) -> pd.DataFrame:
    """The best alignment of each entry of ``query`` that is related to any of ``target``.

    Tags and linkers of constructs count, as they are in the PDB's sequences.

    Parameters
    ----------
    query, target
        entries.
    chains
        of all of them; those not needed are left alone.
    e_value
        limit, see `cryoready.dataset.homologues.hits`.
    threads
        of MMseqs2.

    Returns
    -------
    ``query`` and ``target`` (labels of chains) and ``e_value`` by entry.
    """
    rows = []
    for polymer, labelled in chains.items():
        (one, heads), (other, _) = (
            _distinct({k: v for k, v in labelled.items() if entry_of(k) in entries})
            for entries in (frozenset(query), frozenset(target))
        )
        found = hits(one, other, polymer=polymer, e_value=e_value, threads=threads)
        best = found.sort_values(["e_value", "target"]).drop_duplicates("query").set_index("query")
        rows += [
            (entry_of(label), label, *best.loc[head, ["target", "e_value"]])
            for label, head in heads.items()
            if head in best.index
        ]
    table = pd.DataFrame(rows, columns=["entry", "query", "target", "e_value"])
    return table.sort_values(["e_value", "query"]).drop_duplicates("entry").set_index("entry")


def _distinct(labelled: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Each sequence once, under its first label; the first label of the sequence of each label."""
    first: dict[str, str] = {}
    for label in sorted(labelled):
        first.setdefault(labelled[label], label)
    return {v: k for k, v in first.items()}, {k: first[v] for k, v in labelled.items()}


def _by_entry(heads: Mapping[str, str]) -> dict[str, frozenset[str]]:
    found = defaultdict(set)
    for label, head in heads.items():
        found[entry_of(label)].add(head)
    return {entry: frozenset(names) for entry, names in found.items()}
