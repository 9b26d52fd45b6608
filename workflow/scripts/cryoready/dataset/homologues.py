"""Which sequences are related: MMseqs2 searches and clusters between polymer chains.

MMseqs2 (Steinegger & Söding 2017, doi 10.1038/nbt.3988) is a program of its own; the binary is
``mmseqs``, Debian's package ``mmseqs2``.
"""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import written_whole
from cryoready.files.sequences import Polymer

E_VALUE = 1e-3
SENSITIVITY = 7.5  # of a protein search: the highest that MMseqs2 names
NUCLEIC_WORD = 8  # bases alike that start an alignment; MMseqs2's own 15 miss related RNA
SHORTEST = 8  # residues; MMseqs2 aligns nothing shorter than a word

# MMseqs2's columns: ours.
COLUMNS = {
    "query": "query",
    "target": "target",
    "evalue": "e_value",
    "fident": "identity",
    "alnlen": "aligned",
    "qcov": "query_coverage",
    "tcov": "target_coverage",
}


def hits(
    query: Mapping[str, str],
    target: Mapping[str, str],
    *,
    polymer: Polymer = "protein",
    e_value: float = E_VALUE,
    threads: int = 1,
) -> pd.DataFrame:
    """Local alignments of ``query`` with ``target`` sequences, both by label, by MMseqs2.

    Of nucleic acids both strands are searched, and U is T.

    Parameters
    ----------
    query, target
        sequences by label.
    polymer
        what they are.
    e_value
        the limit: so many hits as good are expected by chance among all targets, for one query. It
        grows with the targets' residues: search the many in the few to be strict.
    threads
        of MMseqs2.

    Returns
    -------
    one row a hit: ``query``, ``target`` (labels), ``e_value``, ``identity``, ``aligned``
    (residues), ``query_coverage``, ``target_coverage`` (shares 0-1 of the sequences).

    Raises
    ------
    CryoreadyError
        if MMseqs2 is missing or fails.
    """
    of_kind = {
        "protein": ["-s", SENSITIVITY, "--dbtype", 1],
        "nucleic": ["-k", NUCLEIC_WORD, "--dbtype", 2, "--search-type", 3, "--strand", 2],
    }
    with tempfile.TemporaryDirectory(prefix="mmseqs_") as name:
        folder = Path(name)
        queries = _write_numbered(folder / "query.fasta", query)
        targets = _write_numbered(folder / "target.fasta", target)
        if not queries or not targets:
            return pd.DataFrame(columns=list(COLUMNS.values()))
        found = folder / "hits.tsv"
        _mmseqs(
            *("easy-search", folder / "query.fasta", folder / "target.fasta"),
            *(found, folder / "tmp"),
            *("--max-seqs", max(300, len(targets)), "-e", e_value, "--threads", threads),
            *("--format-mode", 4, "--format-output", ",".join(COLUMNS), *of_kind[polymer]),
        )
        table = pd.read_csv(found, sep="\t").rename(columns=COLUMNS)
    table["query"] = [queries[k] for k in table["query"]]
    table["target"] = [targets[k] for k in table["target"]]
    return table


def clusters(
    labelled: Mapping[str, str],
    *,
    identity: float = 0.3,
    coverage: float = 0.8,
    threads: int = 1,
) -> dict[str, str]:
    """The representative of each protein sequence, by label; unrelated ones represent themselves.

    Parameters
    ----------
    labelled
        sequences by label.
    identity
        share of equal residues in an alignment from which two sequences are redundant.
    coverage
        share of either sequence that the alignment must cover.
    threads
        of MMseqs2.

    Raises
    ------
    CryoreadyError
        if MMseqs2 is missing or fails.
    """
    found = {}
    with tempfile.TemporaryDirectory(prefix="mmseqs_") as name:
        folder = Path(name)
        labels = _write_numbered(folder / "all.fasta", labelled)
        if labels:
            _mmseqs(
                *("easy-cluster", folder / "all.fasta", folder / "out", folder / "tmp"),
                *("--min-seq-id", identity, "-c", coverage, "-s", SENSITIVITY),
                *("--single-step-clustering", 1, "--dbtype", 1, "--threads", threads),
            )
            table = pd.read_csv(folder / "out_cluster.tsv", sep="\t", header=None)
            found = {labels[member]: labels[head] for head, member in table.to_numpy().tolist()}
    return {label: found.get(label, label) for label in labelled}


def nucleic_clusters(
    labelled: Mapping[str, str], *, coverage: float = 0.8, threads: int = 1
) -> dict[str, str]:
    """The first relative of each nucleic acid, by label; unrelated ones represent themselves.

    Clusters are the connected components of all `hits`, on either strand: MMseqs2's own clustering
    of nucleic acids leaves some of what its search finds apart.

    Parameters
    ----------
    labelled
        sequences by label.
    coverage
        share of either sequence that an alignment must cover.
    threads
        of MMseqs2.

    Raises
    ------
    CryoreadyError
        if MMseqs2 is missing or fails.
    """
    labels = sorted(labelled)
    found = hits(labelled, labelled, polymer="nucleic", threads=threads)
    near = found[found[["query_coverage", "target_coverage"]].min(axis=1) >= coverage]
    pairs = tuple(np.searchsorted(labels, near[side].tolist()) for side in ("query", "target"))
    graph = scipy.sparse.coo_array((np.ones(len(near)), pairs), shape=(len(labels),) * 2)
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return {label: labels[first[k]] for label, k in zip(labels, component, strict=True)}


def read_fasta(path: Path) -> dict[str, str]:
    """Sequences by label, in the order of the file.

    Raises
    ------
    CryoreadyError
        if the file cannot be read, is not FASTA, or a label is there twice.
    """
    try:
        head, *records = ("\n" + path.read_text(encoding="utf-8")).split("\n>")
    except (OSError, UnicodeDecodeError) as error:
        raise CryoreadyError(f"sequences {path} cannot be read: {error}") from error
    parts = [record.partition("\n") for record in records]
    labelled = {label.strip(): "".join(lines.split()) for label, _, lines in parts}
    if head.strip() or len(labelled) != len(records):
        raise CryoreadyError(
            f"sequences {path}: not FASTA with a label of its own for each sequence "
            f"({len(records)} records, {len(labelled)} labels)"
        )
    return labelled


def write_fasta(path: Path, labelled: Mapping[str, str]) -> None:
    """Write sequences by label, each in one line."""
    with written_whole(path) as part:
        part.write_text("".join(f">{label}\n{text}\n" for label, text in labelled.items()))


def _write_numbered(path: Path, labelled: Mapping[str, str]) -> list[str]:
    """Write what MMseqs2 can align; returns the labels by number, as MMseqs2 cuts labels."""
    labels = [label for label, sequence in labelled.items() if len(sequence) >= SHORTEST]
    write_fasta(path, {str(k): labelled[label] for k, label in enumerate(labels)})
    return labels


def _mmseqs(*arguments: object) -> None:
    try:
        run = subprocess.run(
            ["mmseqs", *map(str, arguments)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise CryoreadyError(
            "mmseqs is not on the PATH: install MMseqs2 (on Debian: make system-packages)"
        ) from error
    if run.returncode:
        said = (run.stderr.strip() or run.stdout.strip() or "nothing").splitlines()[-1]
        raise CryoreadyError(
            f"mmseqs {arguments[0]} failed with status {run.returncode}; it said: {said}"
        )
