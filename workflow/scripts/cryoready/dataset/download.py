"""Fetch a file of EMDB or the PDB from the first mirror that gives a whole one.

A file appears under its final name only when it is complete and checked; until then it has a
temporary name beside it, which does not outlive a failure.
"""

import contextlib
import gzip
import os
import random
import shutil
import struct
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError as TransferError

from cryoready import __version__
from cryoready.core.errors import CryoreadyError
from cryoready.dataset.metadata import parse_metadata
from cryoready.dataset.sheet import ARCHIVE_PATTERN, PDB_PATTERN

Check = Callable[[Path], None]
Kind = Literal["missing", "refused", "unreachable", "broken"]

CONNECT_SECONDS = 10.0  # at most, to connect: a firewall that swallows packets costs this each time
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16  # of a file's content: enough for an MRC header or the start of an mmCIF
MRC_HEADER_BYTES = 1024
MRC_MODE_BYTES = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2}  # MRC2014, bytes per voxel
# "identity": what arrives is the file itself, so its length can be compared with Content-Length.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"cryoready/{__version__}"}


class _MirrorError(Exception):
    """One mirror did not give the file; asking it again is useless if ``final``."""

    def __init__(self, kind: Kind, reason: str):
        super().__init__(reason)
        self.kind = kind
        self.final = kind in ("missing", "refused")


def map_urls(emdb_id: str, mirrors: Sequence[str]) -> list[str]:
    """Addresses of the primary map below roots that hold EMDB's ``structures/``."""
    if not ARCHIVE_PATTERN.fullmatch(emdb_id):
        raise CryoreadyError(f"{emdb_id!r} is not an archive id: EMD- and 4 or 5 digits")
    name = f"{emdb_id.lower().replace('-', '_')}.map.gz"
    return [f"{root.rstrip('/')}/structures/{emdb_id}/map/{name}" for root in mirrors]


def metadata_urls(emdb_id: str, mirrors: Sequence[str]) -> list[str]:
    """Addresses of the per-entry JSON below roots of EMDB's REST interface (``…/emdb/api``)."""
    if not ARCHIVE_PATTERN.fullmatch(emdb_id):
        raise CryoreadyError(f"{emdb_id!r} is not an archive id: EMD- and 4 or 5 digits")
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


def download(
    urls: Sequence[str],
    destination: Path,
    *,
    check: Check,
    timeout: float = 60.0,
    retries: int = 3,
    pause: float = 2.0,
) -> str:
    """Bring one file to ``destination`` and return the address that gave it.

    Parameters
    ----------
    urls
        addresses of the same file, asked in this order.
    destination
        final path; its folder is made.
    check
        raises `CryoreadyError` (without a path in it) if a file is not what was wanted.
    timeout
        seconds without a sign of the server before it is given up.
    retries
        rounds over all mirrors after the first.
    pause
        seconds before the first further round, doubled before each next one, ±50 % at random.

    Raises
    ------
    CryoreadyError
        if no mirror has the entry, none can be reached, none gives a whole and valid file, or the
        disk is full. Nothing is left behind.
    """
    if not urls:
        raise CryoreadyError(f"no mirror to fetch {destination.name} from: configure at least one")
    part = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    failures: dict[str, _MirrorError] = {}
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            for url in _turns(urls, failures, retries, pause):
                try:
                    _fetch(session, url, part, timeout)
                    _verify(part, check)
                except _MirrorError as failure:
                    failures[url] = failure
                else:
                    part.replace(destination)
                    return url
    except OSError as error:
        place = error.filename or destination.parent
        reason = error.strerror or error
        raise CryoreadyError(f"cannot write {destination}: {reason} ({place})") from error
    finally:
        with contextlib.suppress(OSError):  # it would hide the error that led here
            part.unlink()
    raise _explain(destination, failures)


def _turns(
    urls: Sequence[str], failures: Mapping[str, _MirrorError], retries: int, pause: float
) -> Iterator[str]:
    """The next address to ask, round after round; waits between rounds."""
    for attempt in range(retries + 1):
        hopeful = [url for url in urls if url not in failures or not failures[url].final]
        if attempt and hopeful:
            time.sleep(pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        yield from hopeful


def _fetch(session: requests.Session, url: str, part: Path, timeout: float) -> None:
    """Write what one address gives; `_MirrorError` if it gives nothing or not all of it."""
    limits = (min(timeout, CONNECT_SECONDS), timeout)
    try:
        with session.get(url, stream=True, timeout=limits, headers=HEADERS) as response:
            _check_status(response)
            _save(response, part, name=urlsplit(url).path.rpartition("/")[2])
    except requests.exceptions.SSLError as error:
        raise _MirrorError("broken", "its TLS certificate is not accepted") from error
    except requests.exceptions.ProxyError as error:
        raise _MirrorError("unreachable", "no connection through the proxy") from error
    except requests.exceptions.ConnectionError as error:
        raise _MirrorError("unreachable", "no connection") from error
    except requests.exceptions.Timeout as error:
        raise _MirrorError("broken", f"no answer within {timeout:g} s") from error
    except requests.exceptions.RequestException as error:
        raise _MirrorError("refused", " ".join(str(error).split())) from error
    except TransferError as error:
        raise _MirrorError("broken", "the transfer broke off") from error


def _check_status(response: requests.Response) -> None:
    """Only 200 brings a file; 404 and 410 say that there is none."""
    status = response.status_code
    if status == 200:
        return
    temporary = status >= 500 or status in (408, 425, 429)
    kind: Kind = "missing" if status in (404, 410) else "broken" if temporary else "refused"
    raise _MirrorError(kind, f"HTTP {status} {response.reason or ''}".strip())


def _save(response: requests.Response, part: Path, *, name: str) -> None:
    """Stream the body into ``part``, having compared its length with the free disk space.

    A ``.gz`` file is kept as it comes, even if the server calls its compression an encoding.
    """
    header = response.headers.get("Content-Length", "")
    length = int(header) if header.isdecimal() else None
    free = shutil.disk_usage(part.parent).free
    if length is not None and length > free:
        raise CryoreadyError(
            f"not enough disk space in {part.parent}: {name} has {length / 1e6:.1f} MB, "
            f"{free / 1e6:.1f} MB are free"
        )
    chunks = response.raw.stream(CHUNK_BYTES, decode_content=not name.endswith(".gz"))
    every = 0.2 if sys.stderr.isatty() else 30.0  # s; a log file needs fewer lines than a screen
    with (
        open(part, "wb") as file,
        tqdm(total=length, desc=name, unit="B", unit_scale=True, mininterval=every) as bar,
    ):
        for chunk in chunks:
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    received = response.raw.tell()
    if length is not None and received != length:
        raise _MirrorError("broken", f"the transfer broke off ({received} of {length} bytes)")


def _verify(part: Path, check: Check) -> None:
    """A file that fails its check is a fault of the mirror it came from."""
    try:
        check(part)
    except CryoreadyError as error:
        raise _MirrorError("broken", str(error)) from error


def _explain(destination: Path, failures: Mapping[str, _MirrorError]) -> CryoreadyError:
    """One line on why no mirror gave the file, and what to do about it."""
    kinds = {failure.kind for failure in failures.values()}
    name = destination.name
    hosts = ", ".join(dict.fromkeys(map(_host, failures)))
    if kinds == {"missing"}:
        path = urlsplit(next(iter(failures))).path
        return CryoreadyError(
            f"no such entry: none of the mirrors ({hosts}) has {path} for {destination}; check the "
            "id, the entry may also be on hold or withdrawn"
        )
    if kinds == {"unreachable"}:
        return CryoreadyError(
            f"cannot reach {hosts} for {name}: are you offline? Check the network and the proxy "
            f"settings (HTTPS_PROXY, NO_PROXY), or bring {_by_hand(destination)}"
        )
    reasons = "; ".join(dict.fromkeys(f"{_host(url)}: {f}" for url, f in failures.items()))
    return CryoreadyError(
        f"cannot download {name}: {reasons}; try again later, or bring {_by_hand(destination)}"
    )


def _by_hand(destination: Path) -> str:
    """Where a file that cannot be downloaded is put instead."""
    entry = destination.parent.name
    if ARCHIVE_PATTERN.fullmatch(entry):  # in maps/ a map is enough, its metadata are not asked for
        return f"the map yourself: maps/{entry}.map.gz"
    return f"the file yourself: {destination}"


def _host(url: str) -> str:
    """Host and port of an address, without a user's name and password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url


def check_map_file(path: Path) -> None:
    """A whole gzip file whose content is a whole MRC/CCP4 map; `CryoreadyError` otherwise."""
    head, size = _read_gzip(path, "a map")
    needed = _mrc_bytes(head)
    if needed is None:
        raise CryoreadyError("not a map: its content does not start with an MRC header")
    if size < needed:
        raise CryoreadyError(f"an incomplete map: {size} of {needed} bytes")


def check_model_file(path: Path) -> None:
    """A whole gzip file whose content is mmCIF; `CryoreadyError` otherwise."""
    head, _ = _read_gzip(path, "a model")
    lines = (line.strip() for line in head.splitlines())
    first = next((line for line in lines if line and not line.startswith(b"#")), b"")
    if not first.lower().startswith(b"data_"):
        raise CryoreadyError("not an mmCIF model: its content does not start with 'data_'")


def check_metadata_file(path: Path) -> None:
    """EMDB's JSON of one entry; `CryoreadyError` otherwise."""
    content = path.read_bytes()
    if _is_html(content[:HEAD_BYTES]):
        raise CryoreadyError("an HTML page instead of the metadata")
    if parse_metadata(content).emdb_id is None:
        raise CryoreadyError("not EMDB's JSON of an entry: 'emdb_id' is missing")


def _read_gzip(path: Path, what: str) -> tuple[bytes, int]:
    """The start of a gzip file's content and its length in bytes, read to the last checksum."""
    with open(path, "rb") as file:
        start = file.read(HEAD_BYTES)
    if not start:
        raise CryoreadyError(f"an empty file instead of {what}")
    if _is_html(start):
        raise CryoreadyError(f"an HTML page instead of {what}")
    if not start.startswith(b"\x1f\x8b"):
        raise CryoreadyError(f"not gzip-compressed, as {what} of the archive is")
    try:
        with gzip.open(path, "rb") as content:
            head = content.read(HEAD_BYTES)
            size = len(head)
            while chunk := content.read(CHUNK_BYTES):
                size += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CryoreadyError(f"a damaged or incomplete gzip file ({error})") from error
    return head, size


def _is_html(start: bytes) -> bool:
    """Whether a file starts as a web page does (a sign-in, an error or a maintenance page)."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html"))


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


#: What the archives offer: where a file is, and how to tell that it is whole.
KINDS: dict[str, tuple[Callable[[str, Sequence[str]], list[str]], Check]] = {
    "maps": (map_urls, check_map_file),
    "metadata": (metadata_urls, check_metadata_file),
    "models": (model_urls, check_model_file),
}
