"""What the archives offer: where a file is, and how to tell that it is whole.

Layout of EMDB and of the PDB: see the functions; sequences are wwPDB's bulk FASTA, clusters RCSB's
(one cluster a line, its entities separated by spaces).
"""

import gzip
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.download import MOST_BYTES, Download, download
from cryoready.dataset.metadata import parse_metadata
from cryoready.dataset.sheet import ARCHIVE_PATTERN, PDB_PATTERN
from cryoready.dataset.transfer import CHUNK_BYTES, is_html

HEAD_BYTES = 1 << 16  # of a file's content: enough for an MRC header or the start of an mmCIF
MRC_HEADER_BYTES = 1024
MRC_MODE_BYTES = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2}  # MRC2014, bytes per voxel


def map_urls(emdb_id: str, mirrors: Sequence[str]) -> list[str]:
    """Addresses of the primary map below roots that hold EMDB's ``structures/``."""
    name = f"{_stem(emdb_id)}.map.gz"
    return [f"{root.rstrip('/')}/structures/{emdb_id}/map/{name}" for root in mirrors]


def half_map_urls(emdb_id: str, mirrors: Sequence[str], *, number: int) -> list[str]:
    """Addresses of half-map 1 or 2 below the same roots."""
    name = f"{_stem(emdb_id)}_half_map_{number}.map.gz"
    return [f"{root.rstrip('/')}/structures/{emdb_id}/other/{name}" for root in mirrors]


def metadata_urls(emdb_id: str, mirrors: Sequence[str]) -> list[str]:
    """Addresses of the per-entry JSON below roots of EMDB's REST interface (``…/emdb/api``)."""
    _stem(emdb_id)
    return [f"{root.rstrip('/')}/entry/{emdb_id}" for root in mirrors]


def model_urls(pdb_id: str, mirrors: Sequence[str]) -> list[str]:
    """Addresses of the mmCIF file of a PDB entry.

    A mirror is a root that holds the PDB's ``divided/mmCIF/`` or, where files lie otherwise, an
    address with ``{id}`` in the place of the lower-case PDB id.
    """
    if not PDB_PATTERN.fullmatch(pdb_id):
        raise CryoreadyError(f"{pdb_id!r} is not a PDB id: a digit and 3 letters or digits (5NI1)")
    key = pdb_id.lower()
    divided = f"divided/mmCIF/{key[1:3]}/{key}.cif.gz"
    return [
        root.replace("{id}", key) if "{id}" in root else f"{root.rstrip('/')}/{divided}"
        for root in mirrors
    ]


def bulk_urls(_: str, mirrors: Sequence[str]) -> list[str]:
    """Addresses of a file that there is once: the mirrors themselves."""
    return list(mirrors)


def _stem(emdb_id: str) -> str:
    """How the names of an entry's files begin; the id has been compared with its pattern."""
    if not ARCHIVE_PATTERN.fullmatch(emdb_id):
        raise CryoreadyError(f"{emdb_id!r} is not an archive id: EMD- and 4 or 5 digits")
    return emdb_id.lower().replace("-", "_")


def check_map_file(path: Path, *, most_bytes: float = MOST_BYTES) -> None:
    """A whole gzip file whose content is a whole MRC/CCP4 map; `CryoreadyError` otherwise."""
    head, size = _read_gzip(path, "a map", most_bytes)
    needed = _mrc_bytes(head)
    if needed is None:
        raise CryoreadyError("not a map: its content does not start with an MRC header")
    if size < needed:
        raise CryoreadyError(f"an incomplete map: {size} of {needed} bytes")


def check_model_file(path: Path, *, most_bytes: float = MOST_BYTES) -> None:
    """A whole gzip file whose content is mmCIF; `CryoreadyError` otherwise."""
    head, _ = _read_gzip(path, "a model", most_bytes)
    lines = (line.strip() for line in head.splitlines())
    first = next((line for line in lines if line and not line.startswith(b"#")), b"")
    if not first.lower().startswith(b"data_"):
        raise CryoreadyError("not an mmCIF model: its content does not start with 'data_'")


def check_sequences_file(path: Path, *, most_bytes: float = MOST_BYTES) -> None:
    """A whole gzip file whose content is FASTA; `CryoreadyError` otherwise."""
    head, _ = _read_gzip(path, "sequences", most_bytes)
    if not head.startswith(b">"):
        raise CryoreadyError("not FASTA: its content does not start with '>'")


def check_clusters_file(path: Path, *, most_bytes: float = MOST_BYTES) -> None:
    """Clusters of entities, one a line (``1ABC_1 2DEF_2``); `CryoreadyError` otherwise."""
    lines = _read_text(path, "clusters", most_bytes).splitlines()
    for number, line in enumerate(lines, start=1):
        entities = line.split()
        if not entities or not all(b"_" in entity for entity in entities):
            raise CryoreadyError(f"no clusters: line {number} is no list such as '1ABC_1 2DEF_2'")


def check_metadata_file(path: Path, *, most_bytes: float = MOST_BYTES) -> None:
    """EMDB's JSON of one entry; `CryoreadyError` otherwise."""
    content = _read_text(path, "the metadata", most_bytes)
    if parse_metadata(content).emdb_id is None:
        raise CryoreadyError("not EMDB's JSON of an entry: 'emdb_id' is missing")


def _read_text(path: Path, what: str, most_bytes: float) -> bytes:
    """The content of a plain file."""
    _check_answer(path, what)
    _check_size(path.stat().st_size, most_bytes)
    return path.read_bytes()


def _read_gzip(path: Path, what: str, most_bytes: float) -> tuple[bytes, int]:
    """The start of a gzip file's content and its length in bytes, read to the last checksum.

    What unpacks to more than ``most_bytes`` is read no further.
    """
    _check_answer(path, what)
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            raise CryoreadyError(f"not gzip-compressed, as {what} of the archive would be")
    try:
        with gzip.open(path, "rb") as content:
            head = content.read(HEAD_BYTES)
            size = len(head)
            while chunk := content.read(CHUNK_BYTES):
                size += len(chunk)
                _check_size(size, most_bytes)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CryoreadyError(f"a damaged or incomplete gzip file ({error})") from error
    return head, size


def _check_answer(path: Path, what: str) -> None:
    if not path.stat().st_size:
        raise CryoreadyError(f"an empty file instead of {what}")
    if is_html(path):
        raise CryoreadyError(f"an HTML page instead of {what}")


def _check_size(size: int, most_bytes: float) -> None:
    if size > most_bytes:
        raise CryoreadyError(f"its content is larger than the limit of {most_bytes / 1e6:g} MB")


def _mrc_bytes(head: bytes) -> int | None:
    """Bytes that an MRC file with this header has at least, None if it is no such header.

    Header and voxels; the extended header is left out, old files do not always state it truly.
    Without the word MAP at byte 208 (files before MRC2000) the sizes alone must be plausible.
    """
    if len(head) < MRC_HEADER_BYTES:
        return None
    for order in "<>":
        nx, ny, nz, mode = struct.unpack(f"{order}4i", head[:16])
        if all(0 < n <= 100_000 for n in (nx, ny, nz)) and mode in MRC_MODE_BYTES:
            return MRC_HEADER_BYTES + nx * ny * nz * MRC_MODE_BYTES[mode]
    return MRC_HEADER_BYTES if head[208:212] in (b"MAP ", b"MAP\0") else None


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Parameters
    ----------
    mirrors
        key of the setting ``archive`` that lists where it is had.
    urls
        its addresses, from an id and the mirrors.
    check
        raises `CryoreadyError` if a file is not one of the kind.
    """

    mirrors: str
    urls: Callable[[str, Sequence[str]], list[str]]
    check: Callable[..., None]


KINDS = {
    "maps": Kind("maps", map_urls, check_map_file),
    "half_map_1": Kind("maps", partial(half_map_urls, number=1), check_map_file),
    "half_map_2": Kind("maps", partial(half_map_urls, number=2), check_map_file),
    "metadata": Kind("metadata", metadata_urls, check_metadata_file),
    "models": Kind("models", model_urls, check_model_file),
    "sequences": Kind("sequences", bulk_urls, check_sequences_file),
    "clusters": Kind("clusters", bulk_urls, check_clusters_file),
}


def fetch_file(
    kind: str,
    key: str,
    destination: Path,
    archive: Mapping[str, Any],
    *,
    cache: Path,
    sha256: str | None = None,
) -> Download:
    """Bring a file of the archives unless it is there, whole and valid.

    Parameters
    ----------
    kind
        one of `KINDS`.
    key
        EMDB or PDB id; "" for sequences and clusters.
    destination
        final path.
    archive
        the settings: mirrors by kind, ``timeout`` (s), ``retries``, ``connections``,
        ``most_gigabytes`` of a decompressed file.
    cache, sha256
        as in `download`, which also says what is raised.
    """
    wanted = KINDS[kind]
    most_bytes = archive["most_gigabytes"] * 1e9
    limits = {name: archive[name] for name in ("timeout", "retries", "connections")}
    return download(
        wanted.urls(key, archive[wanted.mirrors]),
        destination,
        check=partial(wanted.check, most_bytes=most_bytes),
        sha256=sha256,
        cache=cache,
        most_bytes=most_bytes,
        **limits,
    )
