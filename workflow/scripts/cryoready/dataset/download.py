"""Bring a file from the first mirror that gives a whole one.

A file appears under its final name only when it is complete and checked. A transfer that broke off
leaves a part beside it (``.<name>.part``), which the next attempt or the next run continues.
"""

import errno
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import BaseFileLock, FileLock, Timeout
from tqdm import tqdm

from cryoready.core.errors import CryoreadyError, TransientError
from cryoready.core.whole_files import file_sha256
from cryoready.dataset.sheet import ARCHIVE_PATTERN
from cryoready.dataset.transfer import MirrorError, NoSpaceError, Transfer, is_html

Check = Callable[[Path], None]

MOST_BYTES = 64e9  # of any file: a map of 2500³ voxels
WORTHWHILE = 1 << 16  # bytes: an address that gave so much more before it broke off is asked again
POLL_SECONDS = 0.1
WORTH_SAYING = 5.0  # s: a longer pause is announced
MOST_PAUSE = 300.0  # s between two rounds, before the randomness


class Unreachable(TransientError):
    """Not to be had now; trying again later may help."""


@dataclass(frozen=True)
class Download:
    """What `download` brought.

    Parameters
    ----------
    url
        address that gave the file, None if it was there already.
    fetched
        bytes that came over the network, those of failed attempts included.
    sha256
        of the file, in hexadecimal.
    """

    url: str | None
    fetched: int
    sha256: str


def download(
    urls: Sequence[str],
    destination: Path,
    *,
    check: Check,
    sha256: str | None = None,
    cache: Path | None = None,
    connections: int = 2,
    timeout: float = 60.0,
    retries: int = 3,
    pause: float = 2.0,
    slowest: float = 1000.0,
    most_bytes: float = MOST_BYTES,
) -> Download:
    """Bring one file to ``destination`` unless it is there, whole and valid.

    Processes that want the same file wait for the first of them.

    Parameters
    ----------
    urls
        addresses of the same file, asked in this order; first the one a part is from.
    destination
        final path; its folder is made.
    check
        raises `CryoreadyError` (without a path in it) if a file is not what was wanted.
    sha256
        that the file must have, in hexadecimal.
    cache, connections
        folder, and how many transfers run at a time in all processes that give the same folder;
        None: without such a limit.
    timeout
        seconds without a sign of the server before it is given up.
    retries
        rounds over all mirrors after the first. A mirror that broke off in mid-file is asked at
        once for the rest, as often as it gives more of it.
    pause
        seconds before the first further round, doubled before each next one (up to 5 min), ±50 %
        at random;
        longer if the servers ask for it (``Retry-After``).
    slowest
        bytes/s, averaged over ``timeout``; less counts as no answer.
    most_bytes
        of the file as it comes; a larger one is refused.

    Raises
    ------
    Unreachable
        if it may be had later: the network or a server fails, a transfer broke off, the disk is
        full.
    CryoreadyError
        if no mirror that can be reached has the entry, or what they have is not what was wanted.
    """
    if not urls:
        raise Unreachable(f"no mirror to fetch {destination.name} from: configure at least one")
    transfer = Transfer(destination, timeout=timeout, slowest=slowest, most_bytes=most_bytes)

    def valid(path: Path) -> str:
        check(path)
        found = file_sha256(path)
        if sha256 not in (None, found):
            raise CryoreadyError(f"not the file that was wanted: SHA-256 {found}, not {sha256}")
        return found

    slot = partial(_slot, cache, connections)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone(destination.with_name(f".{destination.name}.lock")):
            if found := _present(destination, valid):
                return Download(None, 0, found)
            return _bring(urls, destination, transfer, valid, slot, retries=retries, pause=pause)
    except NoSpaceError as error:
        raise Unreachable(str(error)) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            transfer.drop()
        place, reason = error.filename or destination.parent, error.strerror or error
        raise Unreachable(
            f"cannot write {destination}: {reason} ({place}); make room or give leave to write "
            "there, or choose another folder with the setting `cache`"
        ) from error


def _bring(
    urls: Sequence[str],
    destination: Path,
    transfer: Transfer,
    valid: Callable[[Path], str],
    slot: Callable[[], AbstractContextManager[None]],
    *,
    retries: int,
    pause: float,
) -> Download:
    """Ask one address after the other until one gives a valid file."""
    origin = transfer.origin[0] if transfer.origin else None
    failures: dict[str, MirrorError] = {}
    with requests.Session() as session:
        for url in _turns(sorted(urls, key=lambda u: u != origin), failures, retries, pause):
            before = transfer.size
            try:
                with slot():
                    transfer.bring(session, url)
                found = _accept(transfer, valid)
            except MirrorError as failure:
                failure.gained = transfer.size - before
                earlier = failures.get(url)
                # once may be an accident of the transfer; twice it is what this mirror has
                failure.final |= failure.kind == "unfit" == (earlier and earlier.kind)
                failures[url] = failure
            else:
                transfer.finish(destination)
                return Download(url, transfer.fetched, found)
    raise _explain(destination, failures, transfer.size)


def _turns(
    urls: Sequence[str], failures: Mapping[str, MirrorError], retries: int, pause: float
) -> Iterator[str]:
    """The next address to ask, round after round; waits between rounds and as long as asked to."""
    for attempt in range(retries + 1):
        hopeful = [url for url in urls if url not in failures or not failures[url].final]
        if attempt and hopeful:
            seconds = min(pause * 2 ** (attempt - 1), MOST_PAUSE) * random.uniform(0.5, 1.5)
            if seconds > WORTH_SAYING:
                said = "; ".join(dict.fromkeys(f"{_host(url)}: {failures[url]}" for url in hopeful))
                tqdm.write(
                    f"cryoready: {said}; try {attempt + 1} of {retries + 1} in {seconds:.0f} s",
                    file=sys.stderr,
                )
            time.sleep(seconds)
        for url in sorted(hopeful, key=lambda u: failures[u].ready if u in failures else 0.0):
            if url in failures and (wait := failures[url].ready - time.monotonic()) > 0:
                time.sleep(wait)
            yield url
            while failures[url].gained >= WORTHWHILE:
                time.sleep(pause * random.uniform(0.5, 1.5))
                yield url


def _accept(transfer: Transfer, valid: Callable[[Path], str]) -> str:
    """SHA-256 of a complete part; one that is not valid is removed, a fault of its mirror."""
    try:
        return valid(transfer.part)
    except CryoreadyError as error:
        # a page is one of a sign-in or of maintenance
        passing = is_html(transfer.part) or not transfer.length_known
        transfer.drop()
        raise MirrorError("broken" if passing else "unfit", str(error)) from error


def _present(path: Path, valid: Callable[[Path], str]) -> str | None:
    """SHA-256 of a file that is there and valid."""
    try:
        return valid(path) if path.is_file() else None
    except CryoreadyError:
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file, which a killed process lets go by itself."""
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # who waits for it notices, and makes a new one


@contextmanager
def _slot(cache: Path | None, connections: int) -> Iterator[None]:
    """One of ``connections`` lock files in the cache, as soon as one is free."""
    if cache is None:
        yield
        return
    locks = [FileLock(cache / ".slots" / f"{k}.lock") for k in range(connections)]
    while (held := _first_free(locks)) is None:
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        Path(held.lock_file).unlink(missing_ok=True)
        held.release()


def _first_free(locks: Iterable[BaseFileLock]) -> BaseFileLock | None:
    """The first lock that can be had at once, now held."""
    for lock in locks:
        with suppress(Timeout):
            lock.acquire(blocking=False)
            return lock
    return None


def _explain(destination: Path, failures: Mapping[str, MirrorError], kept: int) -> CryoreadyError:
    """One line on why no mirror gave the file, and what to do about it."""
    kinds = {failure.kind for failure in failures.values()}
    name = destination.name
    hosts = ", ".join(dict.fromkeys(map(_host, failures)))
    if kinds == {"missing"}:
        path = urlsplit(next(iter(failures))).path
        return CryoreadyError(
            f"no such entry: none of the mirrors ({hosts}) has {path} for {destination}; check the "
            "id (it may also be on hold or withdrawn) and the addresses of the setting `archive`"
        )
    if kinds == {"unreachable"}:
        return Unreachable(
            f"cannot reach {hosts} for {name}: are you offline? Check the network and the proxy "
            f"settings (HTTPS_PROXY, NO_PROXY), or bring {_by_hand(destination)}"
        )
    reasons = "; ".join(dict.fromkeys(f"{_host(url)}: {f}" for url, f in failures.items()))
    if kinds <= {"missing", "unfit", "unreachable"}:  # a mirror that is down does not keep it open
        return CryoreadyError(
            f"no mirror has {name} as it should be: {reasons}; leave the entry out, or bring "
            f"{_by_hand(destination)}"
        )
    rest = f" ({kept / 1e6:.1f} MB are kept, the rest is fetched then)" if kept else ""
    return Unreachable(
        f"cannot download {name}: {reasons}; try again later{rest}, or bring "
        f"{_by_hand(destination)}"
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
