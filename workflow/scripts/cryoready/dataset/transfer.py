"""One file on its way from an archive: a part beside its destination, continued where it broke off.

HTTP as in RFC 9110: a part is continued (``Range``) only if the same address still has the same
version (``If-Range``). Digests that the server states are compared: RFC 9530, 3230 and 1864.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Literal

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError as TransferError
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from cryoready import __version__
from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import force_to_disk

Kind = Literal["missing", "refused", "unfit", "unreachable", "broken"]

CONNECT_SECONDS = 10.0  # at most, to connect: a firewall that swallows packets costs this each time
MOST_WAIT = 600.0  # s, however long a busy server asks to wait
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 10
# "identity": what arrives is the file itself, so its length can be compared with Content-Length.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"cryoready/{__version__}"}

_SHA256 = re.compile(r"sha-256=:?([A-Za-z0-9+/]{43}=)", re.IGNORECASE)
_MD5 = re.compile(r"([A-Za-z0-9+/]{22}==)")


class MirrorError(Exception):
    """One address did not give the file: asking it again is useless if ``final``.

    Parameters
    ----------
    kind
        missing (it has no such file), refused, unfit (whole, but not what is wanted), unreachable,
        broken (it was there, but did not give all).
    reason
        for the user, without the address.
    wait
        seconds that the server asks to be left alone.
    """

    def __init__(self, kind: Kind, reason: str, *, wait: float = 0.0):
        super().__init__(reason)
        self.kind = kind
        self.final = kind in ("missing", "refused")
        self.ready = time.monotonic() + min(wait, MOST_WAIT)
        self.gained = 0  # bytes by which the part grew


class NoSpaceError(CryoreadyError):
    """The disk is too small for what is announced."""


class Transfer:
    """A file on its way to ``destination``.

    ``fetched`` counts the bytes that the network brought; ``length_known`` is false if the last
    server did not say how many there are, so that a shorter file may have been cut on the way.

    Parameters
    ----------
    destination
        final path; the part is ``.<name>.part`` beside it, where that came from ``….part.json``.
    timeout
        seconds without a sign of the server before it is given up.
    slowest
        bytes/s, averaged over ``timeout``; less counts as no answer.
    most_bytes
        of the file as it comes; a larger one is refused.
    """

    def __init__(self, destination: Path, *, timeout: float, slowest: float, most_bytes: float):
        self.part = destination.with_name(f".{destination.name}.part")
        self._record = destination.with_name(f".{destination.name}.part.json")
        self._name = destination.name
        self._timeout, self._slowest, self._most_bytes = timeout, slowest, most_bytes
        self.fetched = 0
        self.length_known = True

    @property
    def size(self) -> int:
        """Bytes of the part."""
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def origin(self) -> tuple[str, str] | None:
        """Address and version of what the part is the start of, None if it cannot be continued."""
        try:
            record = json.loads(self._record.read_text())
            return str(record["url"]), str(record["version"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def drop(self) -> None:
        """Remove the part."""
        self.part.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        """Give the part its final name."""
        force_to_disk(self.part)
        self.part.replace(destination)
        self._record.unlink(missing_ok=True)

    def bring(self, session: requests.Session, url: str) -> None:
        """Complete the part from an address; `MirrorError` if that gives nothing or not all."""
        try:
            with _as_mirror_errors(self._timeout):
                with self._ask(session, url) as response:
                    if response.status_code != 416:
                        self._receive(response, url)
                        return
                    if self._is_complete(response):
                        return
                self.drop()  # what is there is not the start of what the server has
                with self._ask(session, url) as response:
                    self._receive(response, url)
        finally:
            if not self.size:
                self.drop()

    def _ask(self, session: requests.Session, url: str) -> requests.Response:
        """The answer of an address, asked for the rest only if the part came from there."""
        headers = dict(HEADERS)
        if self.size and self.origin and self.origin[0] == url:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self.origin[1]}
        limits = (min(self._timeout, CONNECT_SECONDS), self._timeout)
        return session.get(url, stream=True, timeout=limits, headers=headers)

    def _is_complete(self, response: requests.Response) -> bool:
        """Whether nothing is left to fetch: killed after the last byte, before the check."""
        return self.size > 0 and response.headers.get("Content-Range") == f"bytes */{self.size}"

    def _receive(self, response: requests.Response, url: str) -> None:
        """Stream a body into the part, and compare it with what the server says of it.

        A ``.gz`` file is kept as it comes, even if the server calls its compression an encoding.
        """
        _check_status(response)
        encoding = response.headers.get("Content-Encoding", "identity")
        decode = encoding != "identity" and not self._name.endswith(".gz")
        version = None if decode else _version(response)
        if response.status_code == 206:
            self._check_range(response, version)
        else:
            self.drop()
            if version:
                self._record.write_text(json.dumps({"url": url, "version": version}))
        self._save(response, decode=decode)
        if not decode:
            self._check_digests(response)

    def _check_range(self, response: requests.Response, version: str | None) -> None:
        """The rest must begin where the part ends, and be of the same version."""
        start = response.headers.get("Content-Range", "").partition("-")[0]
        known = self.origin
        if start != f"bytes {self.size}" or (version and known and version != known[1]):
            self.drop()
            raise MirrorError("broken", "not the rest of the file that was asked for")

    def _save(self, response: requests.Response, *, decode: bool) -> None:
        """Append the body to the part, having compared its length with limit and free space."""
        header = response.headers.get("Content-Length", "")
        length = int(header) if header.isdecimal() else None
        self.length_known = length is not None or bool(response.raw.chunked)
        self._check_size(self.size + (length or 0))
        free = shutil.disk_usage(self.part.parent).free
        if length is not None and length > free:
            raise NoSpaceError(
                f"not enough disk space in {self.part.parent}: {self._name} needs "
                f"{length / 1e6:.1f} MB, {free / 1e6:.1f} MB are free; make room"
            )
        start, total = self.size, self.size + length if length is not None else None
        every = 0.2 if sys.stderr.isatty() else 30.0  # s; a log needs fewer lines than a screen
        bar = tqdm(
            desc=self._name,
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            mininterval=every,
        )
        try:
            with bar, open(self.part, "ab") as file:
                for chunk in self._chunks(response, decode=decode):
                    file.write(chunk)
                    bar.update(len(chunk))
                    self._check_size(file.tell())
                file.flush()
                os.fsync(file.fileno())
        finally:
            received = response.raw.tell()
            self.fetched += received
        if length is not None and received != length:
            raise MirrorError("broken", f"the transfer broke off ({self.size} of {total} bytes)")

    def _chunks(self, response: requests.Response, *, decode: bool) -> Iterator[bytes]:
        """The body as it comes; `MirrorError` if it comes too slowly."""
        since, before = time.monotonic(), 0
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=decode):
            yield chunk
            elapsed, received = time.monotonic() - since, response.raw.tell()
            if elapsed > self._timeout:
                if received - before < self._slowest * elapsed:
                    raise MirrorError("broken", f"too slow: less than {self._slowest:g} bytes/s")
                since, before = time.monotonic(), received

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            self.drop()
            raise MirrorError("unfit", f"larger than the limit of {self._most_bytes / 1e6:g} MB")

    def _check_digests(self, response: requests.Response) -> None:
        """What the server states of the whole file must be so; else nothing of it is kept."""
        for name, stated in _stated_digests(response):
            with open(self.part, "rb") as file:
                found = hashlib.file_digest(file, partial(hashlib.new, name, usedforsecurity=False))
            if found.digest() != stated:
                self.drop()
                raise MirrorError("broken", f"damaged on the way: not the {name} the server states")


@contextlib.contextmanager
def _as_mirror_errors(timeout: float) -> Iterator[None]:
    """What `requests` raises, as `MirrorError` with a reason that a user understands."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise MirrorError("broken", "its TLS certificate is not accepted") from error
    except requests.exceptions.ProxyError as error:
        raise MirrorError("unreachable", "no connection through the proxy") from error
    except requests.exceptions.ConnectionError as error:
        if isinstance(next(iter(error.args), None), ProtocolError):
            raise MirrorError("broken", "it closed the connection without an answer") from error
        raise MirrorError("unreachable", "no connection") from error
    except (requests.exceptions.Timeout, ReadTimeoutError) as error:
        raise MirrorError("broken", f"no answer within {timeout:g} s") from error
    except requests.exceptions.RequestException as error:
        raise MirrorError("refused", " ".join(str(error).split())) from error
    except TransferError as error:
        raise MirrorError("broken", "the transfer broke off") from error


def _check_status(response: requests.Response) -> None:
    """Only 200 and 206 bring a file; 404 and 410 say that there is none."""
    status = response.status_code
    if status in (200, 206):
        return
    temporary = status >= 500 or status in (408, 425, 429)
    kind: Kind = "missing" if status in (404, 410) else "broken" if temporary else "refused"
    wait = _seconds(response.headers.get("Retry-After", ""))
    raise MirrorError(kind, f"HTTP {status} {response.reason or ''}".strip(), wait=wait)


def _seconds(retry_after: str) -> float:
    """Seconds that a server asks to wait, given as such or as a date."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date; one without a time zone
        return 0.0


def _version(response: requests.Response) -> str | None:
    """What tells this version from others byte for byte: a strong ETag, or the date of change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _stated_digests(response: requests.Response) -> Iterator[tuple[str, bytes]]:
    """Digests of the whole file by algorithm, as far as the server states them."""
    headers = response.headers
    for field in ("Repr-Digest", "Digest"):
        if stated := _SHA256.search(headers.get(field, "")):
            yield "sha256", base64.b64decode(stated[1])
    whole = response.status_code == 200  # this one is of what is sent, not of the whole file
    if whole and (stated := _MD5.fullmatch(headers.get("Content-MD5", ""))):
        yield "md5", base64.b64decode(stated[1])


def is_html(path: Path) -> bool:
    """Whether a file starts as a web page does (a sign-in, an error or a maintenance page)."""
    with open(path, "rb") as file:
        text = file.read(HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html"))
