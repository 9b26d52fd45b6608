"""Files that are whole or not there at all, and their checksums."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it when the block ends without an error."""
    # of no other process, nor one of another computer; with the suffix, which some writers heed
    part = path.with_name(f".{socket.gethostname()}.{os.getpid()}.{path.name}")
    try:
        yield part
        force_to_disk(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Wait until its bytes are there: a power cut after a renaming could leave the name alone."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def file_sha256(path: str | Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
