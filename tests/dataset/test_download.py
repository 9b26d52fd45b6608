"""Downloads from a real HTTP server that misbehaves on demand."""

import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import file_sha256
from cryoready.dataset.archive_files import check_map_file, map_urls
from cryoready.dataset.download import WORTHWHILE, Unreachable, download
from emdb_server import EMDB, EmdbServer, closed_url

PACKAGE = Path(__file__).parents[2] / "workflow" / "scripts"
PATH = f"/{EMDB}/structures/EMD-3488/map/emd_3488.map.gz"
NAME = "emd_3488.map.gz"
ANOTHER_PROCESS = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(PACKAGE)!r})
from cryoready.dataset.archive_files import check_map_file
from cryoready.dataset.download import download
print(download(sys.argv[2:], Path(sys.argv[1]), check=check_map_file).fetched)
"""


@pytest.fixture(scope="module")
def map_bytes(tmp_path_factory):
    """An MRC file of noise (noise, so that half of its gzip file is half of the map)."""
    path = tmp_path_factory.mktemp("map") / "map.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.random.default_rng(0).normal(size=(12, 14, 17)).astype(np.float32))
    return path.read_bytes()


@pytest.fixture
def archive(emdb_server, map_bytes):
    """A server with one entry; ``packed`` is its map as served."""
    emdb_server.packed = emdb_server.add_map("EMD-3488", map_bytes)
    return emdb_server


@pytest.fixture
def fetch(tmp_path):
    """`download` of a map, quick to retry; ``fetch.folder`` is the destination's."""

    def fetch_map(urls, *, check=check_map_file, timeout=5.0, retries=1, **options):
        limits = {"timeout": timeout, "retries": retries, "pause": 0.01}
        return download(urls, fetch_map.target, check=check, **limits, **options)

    fetch_map.folder = tmp_path / "downloads" / "EMD-3488"
    fetch_map.target = fetch_map.folder / NAME
    return fetch_map


def names(folder):
    return {path.name for path in folder.iterdir()}


def refuse(fetch, urls, *, kept=False, temporary=True, **options):
    """The one line of a download that must fail; no file but a part that can be continued stays."""
    with pytest.raises(CryoreadyError) as error:
        fetch(urls, **options)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert NAME in message
    assert names(fetch.folder) == ({f".{NAME}.part", f".{NAME}.part.json"} if kept else set())
    assert isinstance(error.value, Unreachable) == temporary
    return message


def urls_of(*servers):
    return map_urls("EMD-3488", [getattr(server, "emdb_mirror", server) for server in servers])


# whole downloads


def test_a_map_arrives_byte_for_byte(archive, fetch):
    (url,) = urls_of(archive)
    brought = fetch([url])
    (file,) = fetch.folder.iterdir()
    assert (file.name, file.read_bytes()) == (NAME, archive.packed)
    assert (brought.url, brought.fetched) == (url, len(archive.packed))
    assert brought.sha256 == file_sha256(file)


def test_a_valid_file_is_not_fetched_again(archive, fetch):
    first = fetch(urls_of(archive))
    again = fetch(urls_of(closed_url()), sha256=first.sha256)
    assert (again.url, again.fetched, again.sha256) == (None, 0, first.sha256)
    assert len(archive.requests) == 1


@pytest.mark.parametrize("content", [b"", b"half a map"])
def test_an_invalid_file_is(archive, fetch, content):
    fetch.folder.mkdir(parents=True)
    fetch.target.write_bytes(content)
    assert fetch(urls_of(archive)).fetched == len(archive.packed)


def test_a_gz_file_is_not_unpacked_if_the_server_calls_it_encoded(archive, fetch):
    archive.faults[NAME] = ["encoded"]
    fetch(urls_of(archive))
    assert fetch.target.read_bytes() == archive.packed


def test_a_compression_nobody_asked_for_is_undone(archive, tmp_path):
    content = archive.add("clusters.txt", b"1ABC_1\n" * 1000)
    archive.faults["clusters"] = ["zipped"]
    archive.digest = "Repr-Digest"
    brought = download([f"{archive.url}/clusters.txt"], tmp_path / "x.txt", check=lambda _: None)
    assert (tmp_path / "x.txt").read_bytes() == content
    assert 0 < brought.fetched < len(content)


def test_others_may_read_the_file(archive, fetch):
    """As any new file: by the umask, not by the privacy of temporary files."""
    fetch(urls_of(archive))
    beside = fetch.folder / "beside"
    beside.touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in fetch.folder.iterdir()}
    assert len(modes) == 1


def test_an_older_file_is_replaced_only_by_a_good_one(archive, fetch):
    fetch.folder.mkdir(parents=True)
    fetch.target.write_bytes(b"old")
    archive.faults[NAME] = ["html", "..."]
    with pytest.raises(CryoreadyError):
        fetch(urls_of(archive))
    assert [path.read_bytes() for path in fetch.folder.iterdir()] == [b"old"]
    archive.faults.clear()
    fetch(urls_of(archive))
    assert [path.read_bytes() for path in fetch.folder.iterdir()] == [archive.packed]


# faults that pass

PASSING = ["500", "503", "429", "truncated", "reset", "hangup", "stall", "slow", "drip:0.1"]
PASSING += ["cut", "incomplete", "longer", "html"]


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_tried_again(archive, fetch, fault):
    archive.faults[NAME] = [fault]
    fetch(urls_of(archive), timeout=0.3, slowest=1e5)
    assert fetch.target.read_bytes() == archive.packed
    assert len(archive.requests) == 2
    assert names(fetch.folder) == {NAME}


@pytest.mark.parametrize("fault", ["404", "403", "500", "truncated", "reset", "html", "corrupt"])
def test_the_next_mirror_is_asked_before_waiting(archive, fetch, fault):
    archive.faults[NAME] = [fault]
    archive.digest = "Repr-Digest"
    with EmdbServer(archive.folder) as second:
        used = fetch(urls_of(archive, second), retries=0)
        assert used.url == urls_of(second)[0]
    assert len(archive.requests) == 1
    assert fetch.target.read_bytes() == archive.packed


def test_a_closed_port_is_passed_over(archive, fetch):
    assert fetch(urls_of(closed_url(), archive), retries=0).url == urls_of(archive)[0]


def test_a_mirror_without_the_entry_is_asked_once(archive, fetch):
    archive.faults[NAME] = ["404", "..."]
    with EmdbServer(archive.folder) as second:
        second.faults[NAME] = ["500", "500"]
        fetch(urls_of(archive, second), retries=3)
        assert (len(archive.requests), len(second.requests)) == (1, 3)


def test_a_redirect_is_followed(archive, fetch):
    archive.faults[NAME] = ["redirect", "redirect"]
    assert fetch(urls_of(archive), retries=0).url == urls_of(archive)[0]
    assert len(archive.requests) == 3


def test_a_bad_network_brings_the_same_bytes(emdb_server, map_bytes, tmp_path):
    """One in five requests fails, at random."""
    emdb_server.random_faults(0.2, seed=1)
    count = 40
    for number in range(1001, 1001 + count):
        packed = emdb_server.add_map(f"EMD-{number}", map_bytes + bytes([number % 256]))
        urls = map_urls(f"EMD-{number}", [emdb_server.emdb_mirror])
        target = tmp_path / "cache" / f"{number}.map.gz"
        download(urls, target, check=check_map_file, retries=5, pause=0.001, cache=tmp_path)
        assert target.read_bytes() == packed
    assert len(emdb_server.requests) >= count + 5
    assert len(names(tmp_path / "cache")) == count


# waiting


@pytest.fixture
def pauses(monkeypatch):
    """What is waited for, without waiting."""
    pauses = []
    monkeypatch.setattr("cryoready.dataset.download.time.sleep", pauses.append)
    return pauses


def test_pauses_grow_and_vary(archive, tmp_path, pauses):
    archive.faults[NAME] = ["500", "..."]
    with pytest.raises(Unreachable):
        download(urls_of(archive), tmp_path / "x.gz", check=check_map_file, retries=5, pause=2.0)
    assert len(archive.requests) == 6
    assert all(0.5 <= p / (2 * 2**k) <= 1.5 for k, p in enumerate(pauses))
    assert len({round(p / 2**k, 6) for k, p in enumerate(pauses)}) == 5


@pytest.mark.parametrize("fault", ["503", "429"])
@pytest.mark.parametrize(("asked", "waited"), [("20", 20), ("86400", 600), ("soon", 0), ("", 0)])
def test_a_busy_server_is_given_the_time_it_asks_for(archive, fetch, pauses, fault, asked, waited):
    archive.faults[NAME] = [f"{fault}:{asked}"]
    fetch(urls_of(archive))
    assert waited - 1 < sum(pauses) < waited + 0.1


@pytest.mark.parametrize(("delay", "waited"), [(30, 30), (-30, 0)])
def test_that_time_may_be_a_date(archive, fetch, pauses, delay, waited):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=delay), usegmt=True)
    archive.faults[NAME] = [f"503:{date}"]
    fetch(urls_of(archive))
    assert waited - 2 < sum(pauses) < waited + 0.1


def test_meanwhile_another_mirror_is_asked(archive, fetch, pauses):
    archive.faults[NAME] = ["503:20"]
    with EmdbServer(archive.folder) as second:
        second.faults[NAME] = ["500"]
        assert fetch(urls_of(archive, second)).url == urls_of(second)[0]
    assert sum(pauses) < 0.1


# continued transfers


def test_a_broken_transfer_is_continued(archive, fetch):
    archive.faults[NAME] = ["truncated"]
    half, size = len(archive.packed) // 2, len(archive.packed)
    refuse(fetch, urls_of(archive), retries=0, kept=True)
    assert (fetch.folder / f".{NAME}.part").read_bytes() == archive.packed[:half]
    archive.bytes_served.clear()
    assert fetch(urls_of(archive)).fetched == size - half
    assert archive.bytes_served[PATH] == size - half
    assert fetch.target.read_bytes() == archive.packed
    assert names(fetch.folder) == {NAME}


def test_after_a_kill_only_the_rest_is_fetched(archive, fetch):
    """A process is killed in mid-transfer; its lock is free, its part is continued."""
    archive.faults[NAME] = ["stall"]
    part, half = fetch.folder / f".{NAME}.part", len(archive.packed) // 2
    with another_process(fetch.target, urls_of(archive)) as process:
        wait_for(lambda: part.exists() and part.stat().st_size >= half - 8192)
        process.send_signal(signal.SIGKILL)
    there = part.stat().st_size
    assert archive.bytes_served[PATH] == half
    assert not fetch.target.exists()
    archive.bytes_served.clear()
    assert fetch(urls_of(archive)).fetched == len(archive.packed) - there
    assert archive.bytes_served[PATH] == len(archive.packed) - there
    assert fetch.target.read_bytes() == archive.packed
    assert names(fetch.folder) == {NAME}


def test_a_file_whole_but_not_yet_checked_is_not_fetched_again(archive, fetch):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(urls_of(archive), check=interrupt)
    assert not fetch.target.exists()
    assert fetch(urls_of(archive)).fetched == 0
    assert fetch.target.read_bytes() == archive.packed


@pytest.mark.parametrize("fault", ["rangeless", "nothing", "shifted"])
def test_a_server_without_ranges_starts_again(archive, fetch, fault):
    archive.faults[NAME] = ["truncated", fault]
    fetch(urls_of(archive), retries=3)
    assert fetch.target.read_bytes() == archive.packed


@pytest.mark.parametrize("tag", [True, False])
def test_another_version_starts_again(archive, fetch, map_bytes, tag):
    """The new file would fit as the rest of the old one: same length."""
    archive.tags = tag
    archive.faults[NAME] = ["truncated"]
    refuse(fetch, urls_of(archive), retries=0, kept=True)
    time.sleep(0 if tag else 1.1)  # dates of change are in whole seconds
    newer = archive.add_map("EMD-3488", map_bytes[:-1] + bytes([map_bytes[-1] ^ 1]))
    assert fetch(urls_of(archive)).fetched == len(newer)
    assert fetch.target.read_bytes() == newer


def test_a_part_of_unknown_version_is_not_continued(archive, fetch):
    archive.faults[NAME] = ["truncated"]
    refuse(fetch, urls_of(archive), retries=0, kept=True)
    (fetch.folder / f".{NAME}.part.json").write_text("{}")
    assert fetch(urls_of(archive)).fetched == len(archive.packed)


def test_the_mirror_of_a_part_is_asked_first(archive, fetch):
    with EmdbServer(archive.folder) as second:
        second.faults[NAME] = ["truncated"]
        refuse(fetch, urls_of(second), retries=0, kept=True)
        brought = fetch(urls_of(archive, second))
        assert brought.url == urls_of(second)[0]
    assert brought.fetched == len(archive.packed) - len(archive.packed) // 2


def test_a_mirror_that_gives_more_each_time_is_asked_as_often(emdb_server, fetch):
    """Without a limit of attempts: each brings half of what is missing."""
    noise = np.random.default_rng(0).bytes(20 * WORTHWHILE)
    content = emdb_server.add(PATH[1:], noise)
    emdb_server.faults[NAME] = ["reset"] * 4
    urls = urls_of(emdb_server)
    brought = fetch([*urls, f"{closed_url()}/x"], retries=0, check=lambda _: None)
    assert fetch.target.read_bytes() == content
    assert brought.fetched == len(content)
    assert len(emdb_server.requests) == 5


# several processes


def another_process(target, urls):
    command = [sys.executable, "-c", ANOTHER_PROCESS, str(target), *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_two_processes_fetch_a_file_once(archive, fetch):
    archive.faults[NAME] = ["drip:0.01"]
    both = [another_process(fetch.target, urls_of(archive)) for _ in range(2)]
    fetched = sorted(int(process.communicate(timeout=30)[0]) for process in both)
    assert fetched == [0, len(archive.packed)]
    assert archive.bytes_served[PATH] == len(archive.packed)
    assert fetch.target.read_bytes() == archive.packed
    assert names(fetch.folder) == {NAME}


def test_few_transfers_run_at_a_time(archive, map_bytes, tmp_path):
    ids = [f"EMD-{number}" for number in range(1001, 1009)]
    for key in ids:
        archive.add_map(key, map_bytes)
    archive.faults["/map/"] = ["drip:0.0005", "..."]

    def bring(key):
        urls = map_urls(key, [archive.emdb_mirror])
        cache = tmp_path / "cache"
        download(urls, cache / key, check=check_map_file, cache=cache, connections=3)

    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(bring, ids))
    assert archive.most_at_once == 3
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} == set(ids)


def test_a_waiting_slot_is_not_held_between_attempts(archive, fetch, tmp_path, monkeypatch):
    """Who waits for a second attempt lets others go on."""
    others = partial(download, urls_of(archive), tmp_path / "other.gz", check=check_map_file)

    def sleep(_):
        archive.faults.clear()
        others(cache=tmp_path, connections=1)

    archive.faults[NAME] = ["500", "..."]
    monkeypatch.setattr("cryoready.dataset.download.time.sleep", sleep)
    fetch(urls_of(archive), cache=tmp_path, connections=1)
    assert (tmp_path / "other.gz").read_bytes() == archive.packed


# faults that stay


def test_no_mirror_has_the_entry(archive, fetch):
    archive.faults[NAME] = ["404", "410"]
    with EmdbServer(archive.folder) as second:
        second.faults[NAME] = ["404"]
        message = refuse(fetch, urls_of(archive, second), retries=3, temporary=False)
    assert message.startswith("no such entry")
    assert "/structures/EMD-3488/map/emd_3488.map.gz" in message
    assert len(archive.requests) == 1  # nothing to wait for


def test_the_network_is_dead(fetch):
    message = refuse(fetch, urls_of(closed_url(), closed_url()))
    assert re.match(r"cannot reach 127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+ for .* are you off", message)


LASTING = [
    ("500", "HTTP 500 Internal Server Error"),
    ("403", "HTTP 403 Forbidden"),
    ("hangup", "it closed the connection without an answer"),
    ("cut", "a damaged or incomplete gzip file"),
    ("html", "an HTML page instead of a map"),
    ("slow", "no answer within 0.3 s"),
    ("redirect", "Exceeded 30 redirects."),
    ("truncated", "the transfer broke off"),
    ("reset", "the transfer broke off"),
    ("stall", "no answer within 0.3 s"),
    ("drip:0.01", "too slow: less than 100000 bytes/s"),
]


@pytest.mark.parametrize(("fault", "reason"), LASTING)
def test_the_reason_is_said_for_each_mirror(archive, fetch, fault, reason):
    archive.faults[NAME] = [fault, "..."]
    closed = closed_url()
    kept = fault.partition(":")[0] in ("truncated", "reset", "stall", "drip")
    limits = {"timeout": 0.3, "slowest": 1e5}
    message = refuse(fetch, urls_of(archive, closed), kept=kept, **limits)
    assert f"{archive.url[7:]}: {reason}" in message
    assert f"{closed[7:]}: no connection" in message
    assert ("MB are kept" in message) == kept


@pytest.mark.parametrize(
    ("fault", "options", "reason"),
    [
        ("incomplete", {}, "a damaged or incomplete gzip file"),
        ("corrupt", {"sha256": "0" * 64}, "not the file that was wanted: SHA-256 [0-9a-f]{64}"),
        ("ok", {"most_bytes": 1e4}, "larger than the limit of 0.01 MB"),
        ("cut", {"most_bytes": 1e3}, "larger than the limit of 0.001 MB"),
    ],
)
def test_an_unfit_file_is_a_lasting_reason(archive, fetch, fault, options, reason):
    archive.faults[NAME] = [fault, "..."]
    with EmdbServer(archive.folder) as second:
        second.faults[NAME] = ["404"]
        message = refuse(fetch, urls_of(archive, second), temporary=False, **options)
    assert re.search(f"no mirror has {NAME} as it should be: {archive.url[7:]}: {reason}", message)


@pytest.mark.parametrize("field", ["Repr-Digest", "Digest", "Content-MD5"])
def test_a_silent_corruption_is_noticed_by_the_stated_digest(archive, fetch, field):
    """A whole gzip file of a whole map, but another one."""
    archive.faults[NAME] = ["corrupt", "..."]
    fetch(urls_of(archive))
    assert fetch.target.read_bytes() != archive.packed  # nobody can tell without a digest
    fetch.target.unlink()
    archive.digest = field
    assert "damaged on the way" in refuse(fetch, urls_of(archive))
    archive.faults[NAME] = ["truncated"]  # the digest is of the whole file, not of the rest
    fetch(urls_of(archive))
    assert fetch.target.read_bytes() == archive.packed


def test_a_server_that_does_not_answer(fetch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        message = refuse(fetch, urls_of(url), timeout=0.2, retries=0)
    assert "no answer within 0.2 s" in message


def test_a_short_body_is_noticed_even_if_the_http_library_does_not(archive, fetch, monkeypatch):
    def lax_read(self, amount, decode_content):
        self.length_remaining = self.enforce_content_length = None
        return self.read(amount, decode_content=decode_content)

    monkeypatch.setattr("urllib3.response.HTTPResponse.read1", lax_read)
    archive.faults[NAME] = ["truncated", "..."]
    size = len(archive.packed)
    message = refuse(fetch, urls_of(archive), check=lambda _: None, retries=0, kept=True)
    assert f"({size // 2} of {size} bytes)" in message


# proxies


@pytest.fixture
def proxied(monkeypatch):
    """Sets the proxy of the environment; by default nothing is excepted from it."""

    def use(url, no_proxy=""):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NO_PROXY", no_proxy)

    return use


def test_the_proxy_is_dead(fetch, proxied):
    proxied(closed_url())
    message = refuse(fetch, urls_of("http://archive.invalid"))
    assert message.startswith("cannot reach archive.invalid")
    assert "proxy" in message


def test_a_proxy_is_used(archive, fetch, proxied):
    proxied(archive.url)
    fetch(urls_of(f"http://archive.invalid/{EMDB}"))
    assert fetch.target.read_bytes() == archive.packed


def test_a_dead_proxy_is_not_asked_for_what_is_excepted(archive, fetch, proxied):
    proxied(closed_url(), no_proxy="127.0.0.1")
    fetch(urls_of(archive))
    assert fetch.target.read_bytes() == archive.packed


# the disk


def test_a_full_disk_is_noticed_before_writing(archive, fetch):
    archive.faults[NAME] = ["huge"]
    message = refuse(fetch, urls_of(archive), retries=3, most_bytes=1e30)
    assert message.startswith("not enough disk space in")
    assert len(archive.requests) == 1


def test_the_free_space_is_that_of_the_destination(archive, fetch, monkeypatch):
    free = len(archive.packed) - 1
    usage = namedtuple("usage", "total used free")
    asked = []

    def disk_usage(path):
        asked.append(path)
        return usage(0, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert "not enough disk space" in refuse(fetch, urls_of(archive))
    assert asked == [fetch.folder]
    free += 1
    fetch(urls_of(archive))


def test_a_disk_that_fills_up_meanwhile(archive, fetch, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cryoready.dataset.transfer.os.fsync", fail)
    message = refuse(fetch, urls_of(archive))
    assert message.startswith("cannot write")
    assert "No space left on device" in message


def test_a_folder_that_cannot_be_made(archive, tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / NAME
    with pytest.raises(Unreachable, match=r"cannot write .*: File exists \(.*/file\)"):
        download(urls_of(archive), target, check=check_map_file)


# what was configured


@pytest.mark.parametrize("url", ["ftp://a/emd_3488.map.gz", "a/b", "http://"])
def test_an_address_that_is_none(fetch, url):
    assert refuse(fetch, [url], retries=5).startswith("cannot download")


def test_no_mirror_at_all(tmp_path):
    with pytest.raises(Unreachable, match="no mirror to fetch x from"):
        download([], tmp_path / "x", check=check_map_file)


def test_passwords_of_a_mirror_are_not_shown(fetch):
    url = closed_url().replace("http://", "http://me:secret@")
    assert "secret" not in refuse(fetch, urls_of(url))


def test_another_file_than_wanted_is_fetched_twice_at_most(archive, fetch):
    """Once may be an accident; more rounds would bring the same again."""
    message = refuse(fetch, urls_of(archive), sha256="0" * 64, retries=8, temporary=False)
    assert "not the file that was wanted" in message
    assert len(archive.requests) == 2
