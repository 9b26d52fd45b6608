"""From the archive to a training set, over real HTTP, on good and on bad networks."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from checkout import Checkout, copy_checkout, kill
from emdb_server import EmdbServer, closed_url
from local_archive import LOOSE, archive_settings, embedded, fill, metadata, shared

pytestmark = pytest.mark.workflow

SMALL = ("EMD-2566", "EMD-5830", "EMD-6272")
SETTINGS = {**LOOSE, "counts": {"train": 2, "val": 1, "test": 1}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture
def server(folder: Path) -> Iterator[EmdbServer]:
    with EmdbServer(folder) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def filled(folder: Path) -> None:
    """Small real entries; others that a filter or the server keeps from becoming pairs."""
    rows = [row for row in embedded() if row[0] in SMALL]
    (_, resolution, path, _, _), *_ = rows
    with EmdbServer(folder) as server:
        fill(server, rows)
        far = metadata("EMD-1001", 9.5, path, "1abc")
        tomogram = metadata("EMD-1002", resolution, path, "1abc")
        (determination,) = tomogram["structure_determination_list"]["structure_determination"]
        determination["method"] = "tomography"
        for entry in (
            far,
            tomogram,
            metadata("EMD-1003", resolution, path, "", crossreferences={}),
        ):
            server.add_metadata(entry["emdb_id"], entry)


def configured(checkout: Checkout, server: EmdbServer, **archive: Any) -> tuple[str, ...]:
    """Options that point to the server, with nothing in the sheet but what is held out."""
    own = {kind: f"resources/small/EMD-6272-box.{kind}.gz" for kind in ("map", "pdb")}
    rows = (
        {"id": "EMD-6272", "pdb": "3J9S", "resolution": 2.7, "split": "test"},
        {"id": "EMD-6272-own", "map": own["map"], "model": own["pdb"], "split": "test"},
    )
    sheet = checkout.sheet("held_out", *rows)
    settings = {"archive": archive_settings(server, **archive), "dataset": SETTINGS}
    return "--configfile", checkout.settings("archive", entries=sheet, **settings)


def table(checkout: Checkout, name: str) -> dict[str, dict[str, str]]:
    """Rows of a table of the data set by id."""
    with (checkout / f"results/dataset/{name}.tsv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}


def made(checkout: Checkout) -> dict[str, bytes]:
    """What must be the same however it was fetched."""
    names = checkout.files("results/work")
    stacks = {name: (checkout / "results/work" / name).read_bytes() for name in names}
    return stacks | {"entries": (checkout / "results/dataset/entries.tsv").read_bytes()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Checkout:
    """The data set on a good network."""
    checkout = copy_checkout(tmp_path_factory.mktemp("good"))
    with EmdbServer(folder) as server:
        checkout.made("dataset", *configured(checkout, server), cores=2)
    return checkout


def test_every_entry_is_taken_or_has_its_reason(finished: Checkout) -> None:
    candidates, entries = table(finished, "candidates"), table(finished, "entries")
    assert candidates["EMD-1001"]["rejected_because"].startswith("resolution: 9.5")
    assert candidates["EMD-1002"]["rejected_because"].startswith("method: tomography")
    assert candidates["EMD-1003"]["rejected_because"].startswith("model: ")
    assert set(entries) == set(SMALL)
    assert {row["rejected_because"] for row in entries.values()} == {""}
    assert entries["EMD-6272"]["split"] == "test"  # as the sheet says, which also has the last
    assert entries["EMD-6272"]["resolution"] == "2.7"  # word on what it says of the entry
    assert candidates.keys() == {*SMALL, "EMD-1001", "EMD-1002", "EMD-1003"}


def test_the_choice_can_be_traced_and_no_map_is_kept(finished: Checkout) -> None:
    known = json.loads((finished / "results/dataset/provenance.json").read_text())
    assert known["checksums"]["map"].keys() == set(SMALL)
    assert known["checksums"]["model"].keys() == {"3j6b", "3j63", "3j9s"}
    assert [row["left"] for row in known["filters"]][-1] == 3
    assert "singleParticle" in known["catalogue"]["query"]
    held = known["selection"]["held_out"]
    assert held["EMD-6272"] == {"split": "test", "pdb": "3J9S,EMD-6272-own"}
    assert held["EMD-23222"] == {"split": "test", "pdb": "7L85"}  # of the published benchmark
    assert set(known["selection"]["sha256"]) == {"pdb_seqres.txt.gz", "clusters-by-entity-30.txt"}
    fetched = [*finished.folder.glob("downloads/EMD*/*"), *finished.folder.glob("results/**/emd_*")]
    assert not fetched
    for entry in SMALL:
        boxes = np.load(finished / f"results/work/{entry}/boxes.npy", mmap_mode="r")
        card = json.loads((finished / f"results/work/{entry}/pair.json").read_text())
        assert len(boxes) == card["boxes"] > 0
        assert card["quality"]["shift"] < 0.5  # Å: map and target lie on each other
        assert card["assembly"] == "deposited"


def test_training_on_it_prepares_nothing_again(finished: Checkout) -> None:
    options = (
        "--configfile",
        "config/archive.yaml",
        "--config",
        "entries=results/dataset/entries.tsv",
    )
    stacks = [f"results/work/{entry}/boxes.npy" for entry in SMALL]
    assert finished.planned(*stacks, *options) == {}
    planned = finished.planned("train", *options)
    assert planned == {"train_network": 1, "loss_figure": 1, "train": 1}
    assert finished.planned("dataset", "--configfile", "config/archive.yaml") == {}


def test_the_order_of_settings_means_nothing(finished: Checkout) -> None:
    path = finished / "config/archive.yaml"
    turned = yaml.safe_load(path.read_text())
    turned["dataset"] = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(turned["dataset"].items())
    }
    (finished / "config/turned.yaml").write_text(yaml.safe_dump(turned, sort_keys=False))
    assert finished.planned("dataset", "--configfile", "config/turned.yaml") == {}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "dataset={metadata: {resolution: [6.0, 3.0]}}",
            "dataset.metadata.resolution = [6.0, 3.0]",
        ),
        ("archive={checksums: no.json}", "archive.checksums = no.json: the file is not there"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_line(
    finished: Checkout, setting: str, words: str
) -> None:
    assert (
        words
        in finished.snakemake("-n", "select", "--forcerun", "select", "--config", setting).error
    )


def test_another_limit_judges_again_but_fetches_nothing(finished: Checkout) -> None:
    changed = json.loads(json.dumps(SETTINGS)) | {"counts": {"train": 1, "val": 1, "test": 1}}
    changed["pair"]["cc_mask"] = 0.75
    archive = {name: [closed_url()] for name in ("maps", "metadata", "models", "sequences")}
    settings = {"entries": "config/held_out.tsv", "archive": archive, "dataset": changed}
    planned = finished.planned("dataset", "--configfile", finished.settings("stricter", **settings))
    assert "prepare" not in planned


def test_a_bad_network_gives_the_same_bytes(
    finished: Checkout, server: EmdbServer, tmp_path: Path
) -> None:
    server.random_faults(0.2, seed=3)
    other = copy_checkout(tmp_path)
    other.made("dataset", *configured(other, server), cores=2)
    assert made(other) == made(finished)


@pytest.mark.parametrize(("megabytes", "one"), [(180, True), (50_000, False)])
def test_no_more_maps_lie_on_the_disk_than_are_allowed(
    finished: Checkout, server: EmdbServer, tmp_path: Path, megabytes: int, one: bool
) -> None:
    """Of maps whose size is not known, 172 MB each; without the limit they lie there together."""
    server.faults[".map.gz"] = ["drip:0.002", "..."]
    other = copy_checkout(tmp_path)
    options = configured(other, server)
    entries = finished / "results/dataset/entries.tsv"
    (other / "config/chosen.tsv").write_bytes(entries.read_bytes())
    process = other.start(
        *(f"results/work/{entry}/boxes.npy" for entry in SMALL[:2]),
        *(*options, "--config", "entries=config/chosen.tsv", "--cores=2"),
        *("--resources", "gpu=1", "downloads=2", f"maps_mb={megabytes}"),
    )
    most = 0
    while process.poll() is None:
        most = max(most, len({path.parent for path in other.folder.glob("results/work/*/*emd_*")}))
        time.sleep(0.02)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert (most == 1) == one


def test_a_killed_run_goes_on_where_it_stopped(
    finished: Checkout, server: EmdbServer, tmp_path: Path
) -> None:
    path = "/pub/databases/emdb/structures/EMD-6272/map/emd_6272.map.gz"
    server.faults["emd_6272.map.gz"] = ["drip:0.01"]
    other = copy_checkout(tmp_path)
    process = other.start("dataset", *configured(other, server), "--cores=1")
    deadline = time.monotonic() + 120
    while server.bytes_served.get(path, 0) < 20_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(process)
    parts = list(other.folder.rglob(".emd_6272.map.gz.part"))
    assert [p.parent.name for p in parts] == ["EMD-6272"]
    there = parts[0].stat().st_size
    before = dict(server.bytes_served)
    other.made("--unlock", *configured(other, server))
    other.made("dataset", *configured(other, server), cores=2)
    whole = (server.folder / path[1:]).stat().st_size
    assert server.bytes_served[path] - before[path] == whole - there
    again = {name for name, n in server.bytes_served.items() if n > before.get(name, 0)}
    assert not any("search" in name or "seqres" in name for name in again)
    assert made(other) == made(finished)


def test_two_runs_share_a_cache(finished: Checkout, server: EmdbServer, tmp_path: Path) -> None:
    pair = [copy_checkout(tmp_path / name) for name in ("one", "two")]
    cache, running = tmp_path / "cache", []
    for checkout in pair:
        options = configured(checkout, server, connections=1)
        kept = "dataset={keep: downloads}"
        running.append(
            checkout.start("dataset", *options, "--config", f"cache={cache}", kept, "--cores=1")
        )
    for process in running:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert server.most_at_once <= 1
    maps = [path for path in server.requests if path.endswith(".map.gz")]
    assert len(maps) == len(set(maps)) == len(SMALL)
    for checkout in pair:
        stacks = {k: v for k, v in made(checkout).items() if not k.endswith(".mrc")}
        assert stacks == made(finished)


def test_what_cannot_be_had_is_left_out_and_the_rest_goes_on(
    server: EmdbServer, tmp_path: Path
) -> None:
    """One map is missing for good, one unpacks without end: reasons. A dead mirror is no matter."""
    server.faults |= {"emd_5830.map.gz": ["404", "..."], "emd_2566.map.gz": ["bomb", "..."]}
    checkout = copy_checkout(tmp_path)
    mirrors = {"maps": [closed_url() + "/emdb", server.emdb_mirror], "most_gigabytes": 0.1}
    limits = "--config", "dataset={retries: 1}"
    run = checkout.made("dataset", *configured(checkout, server, **mirrors), *limits, cores=2)
    reasons = {key: row["rejected_because"] for key, row in table(checkout, "entries").items()}
    assert reasons["EMD-6272"] == ""
    assert reasons["EMD-5830"].startswith("files: ")
    assert "larger than the limit of 100 MB" in reasons["EMD-2566"]
    assert "fewer than dataset.counts wants" in run.err


def test_what_may_be_had_later_is_no_reason(server: EmdbServer, tmp_path: Path) -> None:
    """A server that fails does not become a verdict on an entry: the next run asks again."""
    server.faults["emd_5830.map.gz"] = ["503", "..."]
    checkout = copy_checkout(tmp_path)
    options = configured(checkout, server)
    limits = "--config", "dataset={retries: 1}"
    run = checkout.snakemake("dataset", *options, *limits, cores=2)
    assert run.code != 0
    assert "HTTP 503" in run.err
    assert not (checkout / "results/dataset/entries.tsv").exists()
    assert (checkout / "results/work/EMD-6272/boxes.npy").exists()  # the others are there
    server.faults.clear()
    assert checkout.planned("dataset", *options) == {"prepare": 1, "dataset": 1}


def test_a_pinned_choice_refuses_other_files(
    finished: Checkout, server: EmdbServer, tmp_path: Path
) -> None:
    server.digest = None
    server.faults["emd_5830.map.gz"] = ["corrupt", "..."]  # whole, valid, and another map
    checkout = copy_checkout(tmp_path)
    pinned = finished / "results/dataset/provenance.json"
    entries = finished / "results/dataset/entries.tsv"
    (checkout / "config/chosen.tsv").write_bytes(entries.read_bytes())
    options = (
        *configured(checkout, server, checksums=str(pinned)),
        "--config",
        "dataset={retries: 1}",
    )
    target = "results/work/EMD-5830/boxes.npy"
    run = checkout.snakemake(target, *options, "entries=config/chosen.tsv")
    assert "not the file that was wanted: SHA-256" in run.error
    server.faults.clear()
    checkout.made(target, *options, "entries=config/chosen.tsv")
    assert (checkout / target).read_bytes() == (finished / target).read_bytes()


def test_a_sheet_is_not_made_from_itself(finished: Checkout) -> None:
    options = (
        "--configfile",
        "config/archive.yaml",
        "--config",
        "entries=results/dataset/entries.tsv",
    )
    error = finished.snakemake("dataset", *options, "--forcerun", "select").error
    assert "cannot be made from itself" in error


def test_a_dead_network_is_one_line(tmp_path: Path) -> None:
    dead = closed_url()
    checkout = copy_checkout(tmp_path)
    archive = {"metadata": [f"{dead}/api"], "timeout": 5, "retries": 1}
    settings = checkout.settings("dead", archive=archive, dataset={"retries": 1})
    error = checkout.snakemake("dataset", "--configfile", settings).error
    assert dead.removeprefix("http://") in error
    assert "are you offline?" in error
    assert not checkout.files()


def test_the_real_maps_of_the_development_set(shared_data: Path, tmp_path: Path) -> None:
    """At least ten real entries from the catalogue to the sheet."""
    checkout = copy_checkout(tmp_path / "clone")
    with EmdbServer(tmp_path / "archive") as server:
        fill(server, shared(shared_data))
        sheet = checkout.sheet("held_out", {"id": "EMD-3488", "pdb": "5NI1", "split": "test"})
        settings = {"archive": archive_settings(server), "dataset": LOOSE, "entries": sheet}
        checkout.made("dataset", "--configfile", checkout.settings("real", **settings), cores=2)
    entries = table(checkout, "entries")
    taken = [row for row in entries.values() if not row["rejected_because"]]
    assert len(entries) >= 15
    assert len(taken) >= 9
    assert entries["EMD-1044"]["rejected_because"].startswith("cc_mask: ")  # lies 2 Å beside
    assert entries["EMD-3488"]["split"] == "test"
