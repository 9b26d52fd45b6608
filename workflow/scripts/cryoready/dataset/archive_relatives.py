"""Sequences and clusters of the PDB as they are today: fetched, or made where there are none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.archive_files import fetch_file
from cryoready.dataset.relatives import (
    Clusters,
    mmseqs_clusters,
    read_clusters,
    read_seqres,
    with_nucleic_clusters,
)
from cryoready.files.models import read_model
from cryoready.files.sequences import Polymer, sequences

PUBLISHED_IDENTITY = 0.3  # of RCSB's clusters that the settings name


@dataclass(frozen=True)
class Relatives:
    """Clusters and chains of entries, who made the clusters, and the SHA-256 of fetched files."""

    clusters: Clusters
    chains: dict[Polymer, dict[str, str]]
    origin: str
    sha256: dict[str, str]


def fetch_relatives(
    pdb_ids: Collection[str],
    models: Mapping[str, str],
    config: Mapping[str, Any],
    *,
    threads: int,
) -> Relatives:
    """Sequences of the PDB, and RCSB's clusters of them or, where these will not do, MMseqs2's.

    What was fetched on the same day (UTC) is used again.

    Parameters
    ----------
    pdb_ids
        lower case.
    models
        files of the user's own entries by id; their chains have its name in lower case.
    config
        the settings: ``cache``, ``archive``, and of ``dataset`` ``retries`` and ``relatives``.
    threads
        of MMseqs2.

    Raises
    ------
    CryoreadyError
        if the sequences cannot be had.
    """
    cache, settings = Path(config["cache"]), config["dataset"]["relatives"]
    archive = {**config["archive"], "retries": config["dataset"]["retries"]}
    folder = cache / "sequences" / datetime.now(UTC).date().isoformat()
    path = folder / "pdb_seqres.txt.gz"
    sums = {path.name: fetch_file("sequences", "", path, archive, cache=cache).sha256}
    chains = {polymer: dict(found) for polymer, found in read_seqres(path, pdb_ids).items()}
    for entry, model in models.items():
        atoms = read_model(model)
        for polymer, labelled in chains.items():
            own = sequences(atoms, polymer)
            labelled |= {f"{entry.lower()}_{chain}": text for chain, text in own.items()}
    path, origin = folder / "clusters-by-entity-30.txt", "RCSB at 0.3 identity"
    try:
        _check_published(archive, settings, models)
        sums[path.name] = fetch_file("clusters", "", path, config["archive"], cache=cache).sha256
        clusters: Clusters = read_clusters(path, pdb_ids)
    except CryoreadyError as error:
        origin = f"MMseqs2 at {settings['identity']:g} identity ({error})"
        clusters = mmseqs_clusters(chains, identity=settings["identity"], threads=threads)
    clusters = with_nucleic_clusters(clusters, chains, threads=threads)
    return Relatives(clusters, chains, origin, sums)


def _check_published(
    archive: Mapping[str, Any], settings: Mapping[str, Any], models: Mapping[str, str]
) -> None:
    """`CryoreadyError` if RCSB's clusters are not those that are wanted."""
    if not archive["clusters"]:
        raise CryoreadyError("archive.clusters names no address")
    if settings["identity"] != PUBLISHED_IDENTITY:
        raise CryoreadyError(f"RCSB's have {PUBLISHED_IDENTITY:g}")
    if models and settings["e_value"] is None:  # no search would find their relatives
        raise CryoreadyError("RCSB's do not have the models of the sheet")
