"""Fetch the files of many entries; what cannot be had is listed with its reason."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.download import KINDS, Check, download
from cryoready.dataset.metadata import read_metadata

ROLES = {"map": "maps", "metadata": "metadata", "model": "models"}  # of a file -> kind of download

Row = dict[str, Any]


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
        mirrors of each kind, ``timeout`` in seconds, ``retries``.

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
                    _fetch(ROLES[role], key, Path(path), {**archive, "retries": retries})
            row["resolution"] = entry["resolution"] or _reported(entry["files"])
            retries = archive["retries"]
        except CryoreadyError as error:
            row["reason"] = str(error)
            retries = 0  # a dead network is not waited for 150 times
        yield row


def _fetch(kind: str, key: str, path: Path, archive: Mapping[str, Any]) -> None:
    """Download a file unless it is there, whole and valid."""
    urls, check = KINDS[kind]
    if not _is_valid(path, check):
        limits = {name: archive[name] for name in ("timeout", "retries")}
        download(urls(key, archive[kind]), path, check=check, **limits)


def _is_valid(path: Path, check: Check) -> bool:
    """Whether a file is there and passes its check."""
    try:
        check(path)
    except (CryoreadyError, FileNotFoundError):
        return False
    return True


def _reported(files: Mapping[str, str]) -> float:
    """Resolution in EMDB's metadata, Å."""
    metadata = files.get("metadata")
    resolution = read_metadata(Path(metadata)).resolution if metadata else None
    if resolution is None:
        raise CryoreadyError("no resolution: neither the yardstick nor the metadata state one")
    return resolution
