"""Fetch what entries need: their files, many at once or for as long as a job uses them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.archive_files import fetch_file
from cryoready.dataset.download import Unreachable
from cryoready.dataset.metadata import read_metadata
from cryoready.dataset.sheet import archive_path

ROLES = {"map": "maps", "metadata": "metadata", "model": "models"}  # of a file -> kind of download

SMALLEST_FIRST = ("metadata", "model", "map")

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
