"""Where the archives keep their files, and what is one of them."""

import gzip

import mrcfile
import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.archive_files import (
    KINDS,
    check_clusters_file,
    check_map_file,
    check_metadata_file,
    check_model_file,
    check_sequences_file,
    fetch_file,
    half_map_urls,
    map_urls,
    metadata_urls,
    model_urls,
)

MMCIF = "data_5NI1\n#\n_entry.id   5NI1\n"
FASTA = ">5ni1_A mol:protein length:5  Hemoglobin subunit alpha\nVLSPA\n"
CLUSTERS = "5NI1_1 1ABC_2 AF_AFP12345F1_1\n2DEF_1\n"
LIMITS = {"timeout": 5, "retries": 0, "connections": 2, "most_gigabytes": 0.01}


@pytest.fixture(scope="module")
def map_bytes(tmp_path_factory):
    """An MRC file of noise."""
    path = tmp_path_factory.mktemp("map") / "map.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.random.default_rng(0).normal(size=(12, 14, 17)).astype(np.float32))
    return path.read_bytes()


# addresses


def test_addresses_follow_the_archives_layout():
    assert map_urls("EMD-3488", ["https://a/pub/emdb", "https://b/emdb/"]) == [
        "https://a/pub/emdb/structures/EMD-3488/map/emd_3488.map.gz",
        "https://b/emdb/structures/EMD-3488/map/emd_3488.map.gz",
    ]
    assert half_map_urls("EMD-3488", ["https://a/emdb"], number=2) == [
        "https://a/emdb/structures/EMD-3488/other/emd_3488_half_map_2.map.gz"
    ]
    assert metadata_urls("EMD-3488", ["https://a/emdb/api/"]) == [
        "https://a/emdb/api/entry/EMD-3488"
    ]
    assert model_urls("5NI1", ["https://a/structures", "https://b/download/{id}.cif.gz"]) == [
        "https://a/structures/divided/mmCIF/ni/5ni1.cif.gz",
        "https://b/download/5ni1.cif.gz",
    ]


@pytest.mark.parametrize("urls", [kind.urls for kind in KINDS.values()][:5])
@pytest.mark.parametrize("key", ["../../x", "EMD-12/../3", "EMD-3488\n", "5ni1/", "", "EMD-123"])
def test_ids_are_matched_before_they_reach_an_address(urls, key):
    with pytest.raises(CryoreadyError, match=r"is not (an archive|a PDB) id"):
        urls(key, ["https://a"])


# every kind, from a server with the archives' paths


def test_every_kind_arrives(emdb_server, map_bytes, tmp_path):
    served = {
        "maps": emdb_server.add_map("EMD-3488", map_bytes),
        "metadata": emdb_server.add_metadata("EMD-3488", {"emdb_id": "EMD-3488"}),
        "models": emdb_server.add_model("5ni1", MMCIF),
        "sequences": emdb_server.add_sequences(FASTA),
        "clusters": emdb_server.add_clusters(CLUSTERS),
    }
    halves = emdb_server.add_half_maps("EMD-3488", map_bytes, map_bytes)
    served |= dict(zip(("half_map_1", "half_map_2"), halves, strict=True))
    archive = LIMITS | {
        "maps": [emdb_server.emdb_mirror],
        "metadata": [emdb_server.api_mirror],
        "models": [emdb_server.pdb_mirror],
        "sequences": [emdb_server.sequences_mirror],
        "clusters": [emdb_server.clusters_mirror],
    }
    keys = dict.fromkeys(KINDS, "EMD-3488") | {"models": "5NI1", "sequences": "", "clusters": ""}
    assert served.keys() == KINDS.keys()
    for kind, content in served.items():
        path = tmp_path / "cache" / kind
        brought = fetch_file(kind, keys[kind], path, archive, cache=tmp_path / "cache")
        assert path.read_bytes() == content
        assert brought.fetched == len(content)
    assert len(emdb_server.requests) == len(KINDS)


def test_what_unpacks_to_too_much_is_refused(emdb_server, map_bytes, tmp_path):
    """A quarter of a GB from a quarter of a MB."""
    packed = emdb_server.add_map("EMD-3488", map_bytes)
    emdb_server.faults["map.gz"] = ["bomb"]
    archive = LIMITS | {"maps": [emdb_server.emdb_mirror]}
    with pytest.raises(CryoreadyError, match="larger than the limit of 10 MB") as error:
        fetch_file("maps", "EMD-3488", tmp_path / "map.gz", archive, cache=tmp_path)
    assert len(str(error.value).splitlines()) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    fetch_file("maps", "EMD-3488", tmp_path / "map.gz", archive, cache=tmp_path)
    assert (tmp_path / "map.gz").read_bytes() == packed


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
        (b"", "an empty file instead of the metadata"),
        (b'{"emdb_id": "EMD-34', "not EMDB's JSON"),
        (b'{"error": "no such entry"}', "'emdb_id' is missing"),
    ],
)
def test_what_is_no_metadata(tmp_path, content, reason):
    path = tmp_path / "metadata.json"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=reason):
        check_metadata_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (FASTA.encode(), "not gzip-compressed"),
        (gzip.compress(b"\n" + FASTA.encode()), "not FASTA"),
        (gzip.compress(FASTA.encode())[:-1], "a damaged or incomplete gzip file"),
        (b"<html>", "an HTML page instead of sequences"),
    ],
)
def test_what_is_no_fasta(tmp_path, content, reason):
    path = tmp_path / "pdb_seqres.txt.gz"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=reason):
        check_sequences_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file instead of clusters"),
        (b" <!doctype html>", "an HTML page instead of clusters"),
        (b"1ABC_1\n\n2DEF_1\n", "line 2 is no list"),
        (b"1ABC_1 2DEF\n", "line 1 is no list"),
    ],
)
def test_what_is_no_list_of_clusters(tmp_path, content, reason):
    path = tmp_path / "clusters.txt"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=reason):
        check_clusters_file(path)


def test_a_bomb_is_not_read_to_its_end(tmp_path):
    """Its damaged end is not seen: what is too large is refused before."""
    path = tmp_path / "map.gz"
    path.write_bytes(gzip.compress(header(3, 4, 5, 2) + bytes(1 << 23))[:-8])
    with pytest.raises(CryoreadyError, match="larger than the limit of 4 MB"):
        check_map_file(path, most_bytes=4e6)
    with pytest.raises(CryoreadyError, match="damaged or incomplete"):
        check_map_file(path)


def test_plain_files_have_the_same_limit(tmp_path):
    path = tmp_path / "clusters.txt"
    path.write_text(CLUSTERS)
    check_clusters_file(path, most_bytes=len(CLUSTERS))
    with pytest.raises(CryoreadyError, match="larger than the limit"):
        check_clusters_file(path, most_bytes=len(CLUSTERS) - 1)
