"""Fetch what entries need: their files, many at once or for as long as a job uses them."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.archive_files import fetch_file
from cryoready.dataset.download import Unreachable
from cryoready.dataset.homologues import Polymer, sequences
from cryoready.dataset.metadata import read_metadata
from cryoready.dataset.relatives import (
    Clusters,
    mmseqs_clusters,
    read_clusters,
    read_seqres,
    with_nucleic_clusters,
)
from cryoready.dataset.sheet import archive_path
from cryoready.files.models import read_model

ROLES = {"map": "maps", "metadata": "metadata", "model": "models"}  # of a file -> kind of download

SMALLEST_FIRST = ("metadata", "model", "map")
PUBLISHED_IDENTITY = 0.3  # of RCSB's clusters that the settings name

Row = dict[str, Any]
Report = Callable[[str], None]


@contextmanager
def fetched(
    archived: Mapping[str, str], folder: Path, config: Mapping[str, Any], report: Report
) -> Iterator[dict[str, str]]:
    """Files of the archive by role, for as long as they are used.

    What is whole and valid in the cache is taken from there. What is not is fetched, a map into
    ``folder``, from where it goes at the end, unless ``dataset.keep`` is "downloads". A transfer
    that broke off stays, to be continued.

    Parameters
    ----------
    archived
        id in the archive by role: map, metadata, model.
    folder
        of the job.
    config
        the settings: ``cache``, ``archive``, and of ``dataset`` ``keep`` and ``retries``.
    report
        is told what came over the network.

    Raises
    ------
    CryoreadyError
        as `fetch_file`.
    """
    cache, keep = Path(config["cache"]), config["dataset"]["keep"] == "downloads"
    archive = {**config["archive"], "retries": config["dataset"]["retries"]}
    paths = {role: archive_path(cache, role, archived[role]) for role in archived}
    passing: list[Path] = []
    if "map" in paths and not (keep or paths["map"].is_file()):
        paths["map"] = folder / paths["map"].name
        passing.append(paths["map"])
    try:
        for role in sorted(archived, key=SMALLEST_FIRST.index):
            key, path = archived[role], paths[role]
            sha256 = known_checksum(archive["checksums"], role, key)
            brought = fetch_file(ROLES[role], key, path, archive, cache=cache, sha256=sha256)
            if brought.url:
                report(f"{path}: {brought.fetched / 1e6:.1f} MB from {brought.url}")
        yield {role: str(path) for role, path in paths.items()}
    except Unreachable:
        passing.clear()
        raise
    except CryoreadyError:
        # nobody will continue it
        passing += [part for path in passing for part in folder.glob(f".{path.name}.part*")]
        raise
    finally:
        for path in passing:
            path.unlink(missing_ok=True)


def known_checksum(provenance: str | None, role: str, key: str) -> str | None:
    """SHA-256 that ``archive.checksums`` demands of a file; None where it says nothing.

    Raises
    ------
    CryoreadyError
        if ``provenance`` is not the provenance.json of a data set.
    """
    if provenance is None:
        return None
    try:
        sums = json.loads(Path(provenance).read_text(encoding="utf-8"))["checksums"]
        found = sums.get(role, {}).get(key)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CryoreadyError(
            f"archive.checksums: {provenance} is not the provenance.json of a data set: {error!r}"
        ) from error
    return str(found) if found else None


@dataclass(frozen=True)
class Relatives:
    """Clusters and chains of entries of the PDB, and who made the clusters."""

    clusters: Clusters
    chains: dict[Polymer, dict[str, str]]
    origin: str


def fetch_relatives(
    pdb_ids: Collection[str],
    models: Mapping[str, str],
    config: Mapping[str, Any],
    *,
    threads: int,
    report: Report,
) -> Relatives:
    """Sequences of the PDB, and RCSB's clusters of them or, where these cannot be had, MMseqs2's.

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
    report
        is told where the clusters come from.
    """
    cache = Path(config["cache"])
    archive = {**config["archive"], "retries": config["dataset"]["retries"]}
    path = cache / "pdb_seqres.txt.gz"
    fetch_file("sequences", "", path, archive, cache=cache)
    chains = {polymer: dict(found) for polymer, found in read_seqres(path, pdb_ids).items()}
    for entry, model in models.items():
        atoms = read_model(model)
        for polymer, labelled in chains.items():
            own = sequences(atoms, polymer)
            labelled |= {f"{entry.lower()}_{chain}": text for chain, text in own.items()}
    identity = config["dataset"]["relatives"]["identity"]
    clusters, origin = _published_clusters(pdb_ids, cache, config["archive"], identity, report)
    if clusters is None:
        clusters = mmseqs_clusters(chains, identity=identity, threads=threads)
    return Relatives(with_nucleic_clusters(clusters, chains, threads=threads), chains, origin)


def _published_clusters(
    pdb_ids: Collection[str],
    cache: Path,
    archive: Mapping[str, Any],
    identity: float,
    report: Report,
) -> tuple[Clusters | None, str]:
    """RCSB's clusters and their name; None and MMseqs2's where there are none."""
    own = f"MMseqs2 at {identity:g} identity"
    if identity != PUBLISHED_IDENTITY or not archive["clusters"]:
        report(f"clusters of sequences: {own}")
        return None, own
    path = cache / "clusters-by-entity-30.txt"
    try:
        fetch_file("clusters", "", path, archive, cache=cache)
        clusters = read_clusters(path, pdb_ids)
    except CryoreadyError as error:
        report(f"clusters of sequences: {own}, for RCSB's cannot be had: {error}")
        return None, own
    report("clusters of sequences: RCSB's at 30 % identity")
    return clusters, "RCSB at 0.3 identity"


def fetch_entries(
    entries: Iterable[Mapping[str, Any]], cache: Path, archive: Mapping[str, Any]
) -> Iterator[Row]:
    """Bring the files of every entry into the cache; one row an entry, in their order.

    Parameters
    ----------
    entries
        each with ``id``, ``emdb``, ``pdb``, ``resolution`` (Å or None) and ``files`` (path by
        role: map, metadata, model). Files elsewhere than in ``cache`` are the user's own.
    cache
        folder of the downloads. A whole and valid file there is not fetched again.
    archive
        the settings, as in `fetch_file`.

    Yields
    ------
    id, emdb, pdb, resolution (that of the metadata if the entry has none) and reason: why the entry
    cannot be evaluated, "" if it can.
    """
    retries = archive["retries"]
    for entry in tqdm(list(entries), desc="maps of the benchmark", unit="map"):
        row = {key: entry[key] for key in ("id", "emdb", "pdb", "resolution")} | {"reason": ""}
        try:
            for role, path in entry["files"].items():
                if Path(path).is_relative_to(cache):
                    key = entry["pdb"] if role == "model" else entry["emdb"]
                    settings = {**archive, "retries": retries}
                    fetch_file(ROLES[role], key, Path(path), settings, cache=cache)
            row["resolution"] = entry["resolution"] or _reported(entry["files"])
            retries = archive["retries"]
        except CryoreadyError as error:
            row["reason"] = str(error)
            if isinstance(error, Unreachable):
                retries = 0  # a dead network is not waited for 150 times
        yield row


def _reported(files: Mapping[str, str]) -> float:
    """Resolution in EMDB's metadata, Å."""
    metadata = files.get("metadata")
    resolution = read_metadata(Path(metadata)).resolution if metadata else None
    if resolution is None:
        raise CryoreadyError("no resolution: neither the yardstick nor the metadata state one")
    return resolution
