"""Entries of a local archive, with their faults."""

import gzip
from pathlib import Path

import pytest

from cryoready.dataset.fetch import fetch_entries
from emdb_server import closed_url

ROOT = Path(__file__).parents[2]
MAP = gzip.decompress((ROOT / "resources/small/EMD-5830-A.map.gz").read_bytes())
MMCIF = "data_3J63\n#\n_entry.id   3J63\n"


def metadata(resolution):
    reconstruction = {"final_reconstruction": {"resolution": {"valueOf_": resolution}}}
    determination = {"image_processing": [reconstruction]}
    return {"structure_determination_list": {"structure_determination": [determination]}}


@pytest.fixture
def archive(emdb_server):
    """Two whole entries and one without a model."""
    for number, pdb in (("1001", "3j63"), ("1002", "3j64"), ("1003", None)):
        emdb_server.add_map(f"EMD-{number}", MAP)
        emdb_server.add_metadata(f"EMD-{number}", {"emdb_id": f"EMD-{number}", **metadata("4.5")})
        if pdb:
            emdb_server.add_model(pdb, MMCIF)
    return emdb_server


def entry(cache, number, pdb, resolution=None):
    files = {
        "map": f"{cache}/EMD-{number}/emd_{number}.map.gz",
        "metadata": f"{cache}/EMD-{number}/metadata.json",
        "model": f"{cache}/models/{pdb.lower()}.cif.gz",
    }
    emdb = f"EMD-{number}"
    return {"id": emdb, "emdb": emdb, "pdb": pdb, "resolution": resolution, "files": files}


def fetched(entries, cache, server):
    archive = {"maps": [server.emdb_mirror], "metadata": [server.api_mirror]}
    archive |= {"models": [server.pdb_mirror], "timeout": 5, "retries": 0}
    return list(fetch_entries(entries, cache, archive))


def test_one_missing_entry_does_not_stop_the_rest(archive, tmp_path):
    cache = tmp_path / "downloads"
    wanted = [entry(cache, "1003", "3J65"), entry(cache, "1001", "3J63", 3.8)]
    missing, whole = fetched(wanted, cache, archive)
    assert "no such entry" in missing["reason"]
    assert "3j65.cif.gz" in missing["reason"]
    assert whole == {
        "id": "EMD-1001",
        "emdb": "EMD-1001",
        "pdb": "3J63",
        "resolution": 3.8,
        "reason": "",
    }
    for path in wanted[1]["files"].values():
        assert Path(path).is_file()


def test_the_resolution_may_be_that_of_the_metadata(archive, tmp_path):
    archive.add_metadata("EMD-1002", {"emdb_id": "EMD-1002"})
    wanted = [entry(tmp_path, "1001", "3J63"), entry(tmp_path, "1002", "3J64")]
    stated, unknown = fetched(wanted, tmp_path, archive)
    assert stated["resolution"] == 4.5
    assert unknown["reason"].startswith("no resolution")


def test_only_what_is_not_whole_is_fetched_again(archive, tmp_path):
    wanted = [entry(tmp_path, "1001", "3J63"), entry(tmp_path, "1002", "3J64")]
    fetched(wanted, tmp_path, archive)
    broken = Path(wanted[1]["files"]["map"])
    broken.write_bytes(broken.read_bytes()[:1000])
    archive.requests.clear()
    assert [row["reason"] for row in fetched(wanted, tmp_path, archive)] == ["", ""]
    assert [request.rpartition("/")[2] for request in archive.requests] == [broken.name]


def test_files_of_the_user_are_left_alone(archive, tmp_path):
    """A map in maps/ is not an archive's: nothing but the model is asked for."""
    own = tmp_path / "maps" / "EMD-1001.mrc"
    wanted = entry(tmp_path / "downloads", "1001", "3J63", 3.8)
    wanted["files"] = {"map": str(own), "model": wanted["files"]["model"]}
    (row,) = fetched([wanted], tmp_path / "downloads", archive)
    assert row["reason"] == ""
    assert len(archive.requests) == 1
    assert not own.exists()


def test_a_dead_network_is_waited_for_once(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("cryoready.dataset.download.time.sleep", pauses.append)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wanted = [entry(tmp_path, str(number), "3J63") for number in range(1001, 1006)]
    archive = {kind: [closed_url()] for kind in ("maps", "metadata", "models")}
    rows = list(fetch_entries(wanted, tmp_path, {**archive, "timeout": 5, "retries": 2}))
    assert all("are you offline?" in row["reason"] for row in rows)
    assert len(pauses) == 2
