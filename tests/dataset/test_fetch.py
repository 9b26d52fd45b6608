"""Entries of a local archive, with their faults."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.archive_files import check_map_file
from cryoready.dataset.download import Unreachable
from cryoready.dataset.fetch import fetch_entries, fetched
from emdb_server import closed_url

ROOT = Path(__file__).parents[2]
MAP = gzip.decompress((ROOT / "resources/small/EMD-5830-A.map.gz").read_bytes())
MMCIF = "data_3J63\n#\n_entry.id   3J63\n"
LIMITS = {"timeout": 5, "retries": 0, "connections": 2, "most_gigabytes": 1.0}


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


def brought(entries, cache, server):
    archive = {"maps": [server.emdb_mirror], "metadata": [server.api_mirror]}
    archive |= {"models": [server.pdb_mirror]}
    return list(fetch_entries(entries, cache, archive | LIMITS))


def test_one_missing_entry_does_not_stop_the_rest(archive, tmp_path):
    cache = tmp_path / "downloads"
    wanted = [entry(cache, "1003", "3J65"), entry(cache, "1001", "3J63", 3.8)]
    missing, whole = brought(wanted, cache, archive)
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
    stated, unknown = brought(wanted, tmp_path, archive)
    assert stated["resolution"] == 4.5
    assert unknown["reason"].startswith("no resolution")


def test_only_what_is_not_whole_is_fetched_again(archive, tmp_path):
    wanted = [entry(tmp_path, "1001", "3J63"), entry(tmp_path, "1002", "3J64")]
    brought(wanted, tmp_path, archive)
    broken = Path(wanted[1]["files"]["map"])
    broken.write_bytes(broken.read_bytes()[:1000])
    archive.requests.clear()
    assert [row["reason"] for row in brought(wanted, tmp_path, archive)] == ["", ""]
    assert [request.rpartition("/")[2] for request in archive.requests] == [broken.name]


def test_files_of_the_user_are_left_alone(archive, tmp_path):
    """A map in maps/ is not an archive's: nothing but the model is asked for."""
    own = tmp_path / "maps" / "EMD-1001.mrc"
    wanted = entry(tmp_path / "downloads", "1001", "3J63", 3.8)
    wanted["files"] = {"map": str(own), "model": wanted["files"]["model"]}
    (row,) = brought([wanted], tmp_path / "downloads", archive)
    assert row["reason"] == ""
    assert len(archive.requests) == 1
    assert not own.exists()


def test_a_dead_network_is_waited_for_once(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("cryoready.dataset.download.time.sleep", pauses.append)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wanted = [entry(tmp_path, str(number), "3J63") for number in range(1001, 1006)]
    archive = {kind: [closed_url()] for kind in ("maps", "metadata", "models")}
    rows = list(fetch_entries(wanted, tmp_path, {**archive, **LIMITS, "retries": 2}))
    assert all("are you offline?" in row["reason"] for row in rows)
    assert len(pauses) == 2


def test_a_damaged_entry_costs_the_others_no_retries(archive, tmp_path, monkeypatch):
    """What the archive itself has wrong says nothing of the network."""
    monkeypatch.setattr("cryoready.dataset.download.time.sleep", lambda _: None)
    archive.faults.update({"emd_1001.map.gz": ["incomplete", "..."], "emd_1002.map.gz": ["503"]})
    wanted = [entry(tmp_path, "1001", "3J63", 3.8), entry(tmp_path, "1002", "3J64", 3.8)]
    settings = {"maps": [archive.emdb_mirror], "metadata": [archive.api_mirror]}
    settings |= {"models": [archive.pdb_mirror], **LIMITS, "retries": 1}
    damaged, whole = fetch_entries(wanted, tmp_path, settings)
    assert "no mirror has emd_1001.map.gz as it should be" in damaged["reason"]
    assert whole["reason"] == ""


# for as long as a job uses them

ARCHIVED = {"map": "EMD-1001", "metadata": "EMD-1001", "model": "3j63"}
MAP_NAME, PART = "emd_1001.map.gz", ".emd_1001.map.gz.part"


@pytest.fixture
def job(archive, tmp_path, monkeypatch):
    """`fetched` into the folder of a job; ``server``, ``cache``, ``folder``, ``told`` beside it."""
    monkeypatch.setattr("cryoready.dataset.download.time.sleep", lambda _: None)

    def fetch(*, keep="boxes", checksums=None, archived=ARCHIVED, retries=0):
        mirrors = {"maps": [archive.emdb_mirror], "metadata": [archive.api_mirror]}
        mirrors |= {"models": [archive.pdb_mirror], "checksums": checksums}
        dataset = {"keep": keep, "retries": retries}
        config = {"cache": str(fetch.cache), "archive": mirrors | LIMITS, "dataset": dataset}
        return fetched(archived, fetch.folder, config, fetch.told.append)

    fetch.server, fetch.told = archive, []
    fetch.cache, fetch.folder = tmp_path / "downloads", tmp_path / "work" / "EMD-1001"
    fetch.folder.mkdir(parents=True)
    return fetch


def left(job):
    """What is in the folder of the job."""
    return {path.name for path in job.folder.iterdir()}


def asked(server):
    return [path.rpartition("/")[2] for path in server.requests]


def test_a_map_lies_on_the_disk_only_while_it_is_used(job):
    with job() as files:
        assert files.keys() == ARCHIVED.keys()
        assert Path(files["map"]) == job.folder / MAP_NAME
        check_map_file(job.folder / MAP_NAME)
        assert Path(files["model"]) == job.cache / "models" / "3j63.cif.gz"
        assert asked(job.server) == ["EMD-1001", "3j63.cif.gz", MAP_NAME]  # smallest first
    assert left(job) == set()
    kept = {path.name for path in job.cache.rglob("[!.]*") if path.is_file()}
    assert kept == {"metadata.json", "3j63.cif.gz"}
    assert [line.partition(":")[0] for line in job.told] == [
        str(job.cache / "EMD-1001" / "metadata.json"),
        files["model"],
        files["map"],
    ]


def test_a_map_that_is_in_the_cache_is_taken_from_there(job):
    whole = job.cache / "EMD-1001" / MAP_NAME
    whole.parent.mkdir(parents=True)
    whole.write_bytes(gzip.compress(MAP))
    with job() as files:
        assert Path(files["map"]) == whole
        assert left(job) == set()
    assert whole.is_file()
    assert MAP_NAME not in asked(job.server)


def test_downloads_are_kept_if_they_are_to_be(job):
    for _ in range(2):
        with job(keep="downloads") as files:
            assert Path(files["map"]) == job.cache / "EMD-1001" / MAP_NAME
    assert Path(files["map"]).is_file()
    assert left(job) == set()
    assert len(asked(job.server)) == 3  # the second time there is nothing to fetch


def test_only_what_is_wanted_is_fetched(job):
    with job(archived={"model": "3j63"}) as files:
        assert files.keys() == {"model"}
    with job(archived={}) as files:
        assert files == {}
    assert asked(job.server) == ["3j63.cif.gz"]


def test_a_transfer_that_broke_off_is_continued(job):
    """The part survives the run that failed; the next asks for the rest only."""
    job.server.faults[MAP_NAME] = ["truncated"]
    with pytest.raises(Unreachable), job():
        pass
    assert PART in left(job)
    there = (job.folder / PART).stat().st_size
    job.server.bytes_served.clear()
    with job():
        size = (job.folder / MAP_NAME).stat().st_size
    (served,) = (n for path, n in job.server.bytes_served.items() if path.endswith(MAP_NAME))
    assert 0 < there == size - served
    assert left(job) == set()


def test_a_part_waits_for_the_network_to_come_back(job):
    job.server.faults[MAP_NAME] = ["truncated"]
    with pytest.raises(Unreachable), job():
        pass
    before = left(job)
    (job.cache / "models" / "3j63.cif.gz").unlink()
    job.server.faults["3j63.cif.gz"] = ["503"]
    with pytest.raises(Unreachable), job():
        pass
    assert left(job) == before


@pytest.mark.parametrize("missing", ["3j63.cif.gz", MAP_NAME])
def test_nothing_is_left_of_an_entry_that_can_never_be_whole(job, missing):
    """Neither what a killed job left: a part, or the whole map."""
    (job.folder / PART).write_bytes(b"half")
    (job.folder / f"{PART}.json").write_text("{}")
    if missing != MAP_NAME:
        (job.folder / MAP_NAME).write_bytes(gzip.compress(MAP))
    job.server.faults[missing] = ["404"]
    with pytest.raises(CryoreadyError, match="no such entry") as error, job():
        pass
    assert not isinstance(error.value, Unreachable)
    assert left(job) == set()


@pytest.mark.parametrize("problem", [CryoreadyError("no model in the map"), ValueError("a bug")])
def test_a_failure_of_the_work_removes_the_map(job, problem):
    def work():
        with job():
            assert left(job) == {MAP_NAME}
            raise problem

    with pytest.raises(type(problem), match=str(problem)):
        work()
    assert left(job) == set()


def pinned(tmp_path, sums):
    path = tmp_path / "provenance.json"
    path.write_text(json.dumps({"checksums": sums}))
    return str(path)


def test_a_pinned_choice_demands_the_same_files(job, tmp_path):
    with job() as files:
        served = hashlib.sha256(Path(files["map"]).read_bytes()).hexdigest()
    with job(checksums=pinned(tmp_path, {"map": {"EMD-1001": served}, "model": {}})):
        pass
    other = pinned(tmp_path, {"map": {"EMD-1001": "0" * 64}})
    with (
        pytest.raises(CryoreadyError, match=f"SHA-256 {served}, not {'0' * 64}"),
        job(checksums=other),
    ):
        pass
    assert left(job) == set()
    model = pinned(tmp_path, {"model": {"3j63": "1" * 64}})
    with (
        pytest.raises(CryoreadyError, match=r"3j63\.cif\.gz.*not the file that was wanted"),
        job(checksums=model),
    ):
        pass


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"checksums": 3}', '{"checksums": {"metadata": "x"}}', "ä"]
)
def test_what_is_no_provenance_is_one_line(job, tmp_path, content):
    path = tmp_path / "provenance.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(CryoreadyError, match=f"^archive.checksums: {path} is not the") as error:
        job(checksums=str(path)).__enter__()
    assert len(str(error.value).splitlines()) == 1
    assert not job.server.requests
