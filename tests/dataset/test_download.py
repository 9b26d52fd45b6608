import gzip
import re
import shutil
import socket
import stat
from collections import namedtuple

import mrcfile
import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.download import (
    check_map_file,
    check_metadata_file,
    check_model_file,
    download,
    map_urls,
    metadata_urls,
    model_urls,
)
from emdb_server import EmdbServer, closed_url

MMCIF = "data_5NI1\n#\n_entry.id   5NI1\n"
ENTRY = {"emdb_id": "EMD-3488", "admin": {"title": "haemoglobin"}}


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
    emdb_server.add_metadata("EMD-3488", ENTRY)
    emdb_server.add_model("5ni1", MMCIF)
    return emdb_server


@pytest.fixture
def fetch(tmp_path):
    """`download` of a map, quick to retry; ``fetch.folder`` is the destination's."""

    def fetch_map(urls, *, check=check_map_file, timeout=5.0, retries=1):
        target = tmp_path / "downloads" / "EMD-3488" / "emd_3488.map.gz"
        return download(urls, target, check=check, timeout=timeout, retries=retries, pause=0.01)

    fetch_map.folder = tmp_path / "downloads" / "EMD-3488"
    return fetch_map


def refuse(fetch, urls, **options):
    """The one line of a download that must fail and leave nothing behind."""
    with pytest.raises(CryoreadyError) as error:
        fetch(urls, **options)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert "emd_3488.map.gz" in message
    assert not any(fetch.folder.iterdir())
    return message


def urls_of(*servers):
    return map_urls("EMD-3488", [getattr(server, "emdb_mirror", server) for server in servers])


# addresses


def test_addresses_follow_the_archives_layout():
    assert map_urls("EMD-3488", ["https://a/pub/emdb", "https://b/emdb/"]) == [
        "https://a/pub/emdb/structures/EMD-3488/map/emd_3488.map.gz",
        "https://b/emdb/structures/EMD-3488/map/emd_3488.map.gz",
    ]
    assert metadata_urls("EMD-3488", ["https://a/emdb/api/"]) == [
        "https://a/emdb/api/entry/EMD-3488"
    ]
    assert model_urls("5NI1", ["https://a/structures", "https://b/download/{id}.cif.gz"]) == [
        "https://a/structures/divided/mmCIF/ni/5ni1.cif.gz",
        "https://b/download/5ni1.cif.gz",
    ]


@pytest.mark.parametrize("urls", [map_urls, metadata_urls, model_urls])
@pytest.mark.parametrize("key", ["../../x", "EMD-12/../3", "EMD-3488\n", "5ni1/", "", "EMD-123"])
def test_ids_are_matched_before_they_reach_an_address(urls, key):
    with pytest.raises(CryoreadyError, match=r"is not (an archive|a PDB) id"):
        urls(key, ["https://a"])


# whole downloads


def test_a_map_arrives_byte_for_byte(archive, fetch):
    (url,) = urls_of(archive)
    assert fetch([url]) == url
    (file,) = fetch.folder.iterdir()
    assert (file.name, file.read_bytes()) == ("emd_3488.map.gz", archive.packed)


def test_metadata_and_models_arrive(archive, tmp_path):
    (url,) = metadata_urls("EMD-3488", [archive.api_mirror])
    download([url], tmp_path / "metadata.json", check=check_metadata_file)
    (url,) = model_urls("5NI1", [archive.pdb_mirror])
    download([url], tmp_path / "5ni1.cif.gz", check=check_model_file)
    assert gzip.decompress((tmp_path / "5ni1.cif.gz").read_bytes()).decode() == MMCIF


def test_a_gz_file_is_not_unpacked_if_the_server_calls_it_encoded(archive, fetch):
    archive.faults["map.gz"] = ["encoded"]
    fetch(urls_of(archive))
    assert (fetch.folder / "emd_3488.map.gz").read_bytes() == archive.packed


def test_others_may_read_the_file(archive, fetch):
    """As any new file: by the umask, not by the privacy of temporary files."""
    fetch(urls_of(archive))
    beside = fetch.folder / "beside"
    beside.touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in fetch.folder.iterdir()}
    assert len(modes) == 1


def test_an_older_file_is_replaced_only_by_a_good_one(archive, fetch):
    fetch.folder.mkdir(parents=True)
    target = fetch.folder / "emd_3488.map.gz"
    target.write_bytes(b"old")
    archive.faults["map.gz"] = ["html", "..."]
    with pytest.raises(CryoreadyError):
        fetch(urls_of(archive))
    assert [path.read_bytes() for path in fetch.folder.iterdir()] == [b"old"]
    archive.faults.clear()
    fetch(urls_of(archive))
    assert [path.read_bytes() for path in fetch.folder.iterdir()] == [archive.packed]


# faults that pass


@pytest.mark.parametrize("fault", ["500", "503", "429", "truncated", "cut", "html", "slow"])
def test_a_passing_fault_is_tried_again(archive, fetch, fault):
    archive.faults["map.gz"] = [fault]
    fetch(urls_of(archive), timeout=0.5)
    assert (fetch.folder / "emd_3488.map.gz").read_bytes() == archive.packed
    assert len(archive.requests) == 2
    assert [path.name for path in fetch.folder.iterdir()] == ["emd_3488.map.gz"]


@pytest.mark.parametrize("fault", ["404", "403", "500", "truncated", "html"])
def test_the_next_mirror_is_asked_before_waiting(archive, fetch, tmp_path, fault):
    archive.faults["map.gz"] = [fault]
    with EmdbServer(archive.folder) as second:
        used = fetch(urls_of(archive, second), retries=0)
        assert used == urls_of(second)[0]
    assert len(archive.requests) == 1


def test_a_closed_port_is_passed_over(archive, fetch):
    assert fetch(urls_of(closed_url(), archive), retries=0) == urls_of(archive)[0]


def test_a_mirror_without_the_entry_is_asked_once(archive, fetch):
    archive.faults["map.gz"] = ["404", "..."]
    with EmdbServer(archive.folder) as second:
        second.faults["map.gz"] = ["500", "500"]
        fetch(urls_of(archive, second), retries=3)
        assert (len(archive.requests), len(second.requests)) == (1, 3)


def test_pauses_grow_and_vary(archive, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("cryoready.dataset.download.time.sleep", pauses.append)
    archive.faults["map.gz"] = ["500", "..."]
    with pytest.raises(CryoreadyError):
        download(urls_of(archive), tmp_path / "x.gz", check=check_map_file, retries=5, pause=2.0)
    assert len(archive.requests) == 6
    assert all(0.5 <= p / (2 * 2**k) <= 1.5 for k, p in enumerate(pauses))
    assert len({round(p / 2**k, 6) for k, p in enumerate(pauses)}) == 5


# faults that stay


def test_no_mirror_has_the_entry(archive, fetch):
    archive.faults["map.gz"] = ["404", "410"]
    with EmdbServer(archive.folder) as second:
        second.faults["map.gz"] = ["404"]
        message = refuse(fetch, urls_of(archive, second), retries=3)
    assert message.startswith("no such entry")
    assert "/structures/EMD-3488/map/emd_3488.map.gz" in message
    assert len(archive.requests) == 1  # nothing to wait for


def test_the_network_is_dead(fetch):
    message = refuse(fetch, urls_of(closed_url(), closed_url()))
    assert re.match(r"cannot reach 127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+ for .* are you off", message)


def test_the_proxy_is_dead(fetch, monkeypatch):
    monkeypatch.setenv("http_proxy", closed_url())
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    message = refuse(fetch, urls_of("http://archive.invalid"))
    assert message.startswith("cannot reach archive.invalid")
    assert "proxy" in message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "HTTP 500 Internal Server Error"),
        ("403", "HTTP 403 Forbidden"),
        ("truncated", "the transfer broke off"),
        ("cut", "a damaged or incomplete gzip file"),
        ("html", "an HTML page instead of a map"),
        ("slow", "the transfer broke off"),
    ],
)
def test_the_reason_is_said_for_each_mirror(archive, fetch, fault, reason):
    archive.faults["map.gz"] = [fault, "..."]
    closed = closed_url()
    message = refuse(fetch, urls_of(archive, closed), timeout=0.3)
    assert f"{archive.url[7:]}: {reason}" in message
    assert f"{closed[7:]}: no connection" in message


def test_a_server_that_does_not_answer(fetch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        message = refuse(fetch, urls_of(url), timeout=0.2, retries=0)
    assert "no answer within 0.2 s" in message


def test_a_short_body_is_noticed_even_if_the_http_library_does_not(archive, fetch, monkeypatch):
    def lax_stream(self, amount, decode_content):
        self.length_remaining = self.enforce_content_length = None
        yield self.read(amount, decode_content=decode_content)

    monkeypatch.setattr("urllib3.response.HTTPResponse.stream", lax_stream)
    archive.faults["map.gz"] = ["truncated", "..."]
    size = len(archive.packed)
    message = refuse(fetch, urls_of(archive), check=lambda _: None)
    assert f"({size // 2} of {size} bytes)" in message


def test_a_full_disk_is_noticed_before_writing(archive, fetch):
    archive.faults["map.gz"] = ["huge"]
    message = refuse(fetch, urls_of(archive), retries=3)
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

    monkeypatch.setattr("cryoready.dataset.download.os.fsync", fail)
    message = refuse(fetch, urls_of(archive))
    assert message.startswith("cannot write")
    assert "No space left on device" in message


def test_a_folder_that_cannot_be_made(archive, tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "emd_3488.map.gz"
    with pytest.raises(CryoreadyError, match=r"cannot write .*: File exists \(.*/file\)"):
        download(urls_of(archive), target, check=check_map_file)


def test_an_interrupted_download_leaves_nothing(archive, fetch):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(urls_of(archive), check=interrupt)
    assert not any(fetch.folder.iterdir())


@pytest.mark.parametrize("url", ["ftp://a/emd_3488.map.gz", "a/b", "http://"])
def test_an_address_that_is_none(fetch, url):
    assert refuse(fetch, [url], retries=5).startswith("cannot download")


def test_no_mirror_at_all(tmp_path):
    with pytest.raises(CryoreadyError, match="no mirror to fetch x from"):
        download([], tmp_path / "x", check=check_map_file)


def test_passwords_of_a_mirror_are_not_shown(fetch):
    url = closed_url().replace("http://", "http://me:secret@")
    assert "secret" not in refuse(fetch, urls_of(url))


# checks


def header(nx, ny, nz, mode, order="<", word=b"MAP "):
    fields = np.array([nx, ny, nz, mode], dtype=f"{order}i4").tobytes()
    return fields.ljust(208, b"\0") + word.ljust(816, b"\0")


def packed(path, content):
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("word", [b"MAP ", b"\0\0\0\0"])
@pytest.mark.parametrize(("mode", "size"), [(0, 1), (1, 2), (2, 4), (6, 2), (12, 2)])
def test_whole_maps_of_every_kind(tmp_path, order, word, mode, size):
    content = header(3, 4, 5, mode, order, word) + bytes(60 * size)
    check_map_file(packed(tmp_path / "map.gz", content))
    with pytest.raises(CryoreadyError, match="an incomplete map"):
        check_map_file(packed(tmp_path / "map.gz", content[:-1]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file instead of a map"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML><html></html>", "an HTML page instead of a map"),
        (header(1, 1, 1, 2) + bytes(4), "not gzip-compressed"),
        (gzip.compress(b""), "not a map"),
        (gzip.compress(bytes(5000)), "not a map"),
        (gzip.compress(b"data_5NI1\n" * 500), "not a map"),
        (gzip.compress(header(1, 1, 1, 2) + bytes(4))[:-1], "a damaged or incomplete gzip file"),
        (gzip.compress(header(1, 1, 1, 2)), "an incomplete map: 1024 of 1028 bytes"),
    ],
)
def test_what_is_no_map(tmp_path, content, reason):
    path = tmp_path / "emd_3488.map.gz"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=reason):
        check_map_file(path)


def test_a_single_changed_byte_is_noticed(tmp_path, map_bytes):
    path = packed(tmp_path / "map.gz", map_bytes)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CryoreadyError, match="a damaged or incomplete gzip file"):
        check_map_file(path)


@pytest.mark.parametrize("start", ["", "\n# a comment\n", "#\n" * 100])
def test_models(tmp_path, start):
    check_model_file(packed(tmp_path / "5ni1.cif.gz", (start + MMCIF).encode()))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (MMCIF.encode(), "not gzip-compressed"),
        (gzip.compress(b"HEADER    OXYGEN TRANSPORT\n"), "not an mmCIF model"),
        (gzip.compress(b""), "not an mmCIF model"),
        (gzip.compress(MMCIF.encode())[:-4], "a damaged or incomplete gzip file"),
        (b"<html>data_</html>", "an HTML page instead of a model"),
    ],
)
def test_what_is_no_model(tmp_path, content, reason):
    path = tmp_path / "5ni1.cif.gz"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=reason):
        check_model_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!doctype html>", "an HTML page instead of the metadata"),
        (b"", "not EMDB's JSON"),
        (b'{"emdb_id": "EMD-34', "not EMDB's JSON"),
        (b'{"error": "no such entry"}', "'emdb_id' is missing"),
    ],
)
def test_what_is_no_metadata(tmp_path, content, reason):
    path = tmp_path / "metadata.json"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=reason):
        check_metadata_file(path)
