"""Entries of the archive, from a local server with EMDB's layout and its faults."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import Checkout
from emdb_server import EmdbServer, closed_url
from map_files import read_map, write_map

pytestmark = pytest.mark.workflow

ENTRY = "EMD-6272"
CONTOUR = 2.5
BROKEN = {  # id -> fault of its map, what the line says
    "EMD-1001": (["404"], "no such entry"),
    "EMD-1002": (["truncated", "..."], "broke off"),
    "EMD-1003": (["cut", "..."], "damaged or incomplete gzip"),
    "EMD-1004": (["html", "..."], "HTML page"),
}


def metadata(entry: str) -> dict[str, object]:
    """The fields of EMDB's JSON that are used."""
    resolution = {"final_reconstruction": {"resolution": {"valueOf_": "2.6"}}}
    method = [{"method": "singleParticle", "image_processing": [resolution]}]
    return {
        "emdb_id": entry,
        "admin": {"title": "20S proteasome"},
        "structure_determination_list": {"structure_determination": method},
        "map": {"contour_list": {"contour": [{"level": CONTOUR, "primary": True}]}},
    }


@pytest.fixture
def served(checkout: Checkout, tmp_path: Path) -> Path:
    """The map that the server has: one box of the network."""
    whole = read_map(checkout / "resources/small/EMD-6272-box.map.gz").density
    return write_map(tmp_path / "served.map", whole[4:48, 4:48, 4:48], 1.023, nstart=(4, 4, 4))


@pytest.fixture
def server(tmp_path: Path, served: Path) -> Iterator[EmdbServer]:
    with EmdbServer(tmp_path / "archive") as server:
        for entry in (ENTRY, *BROKEN):
            server.add_map(entry, served.read_bytes())
            server.add_metadata(entry, metadata(entry))
        yield server


def mirrors(checkout: Checkout, name: str, maps: str, api: str) -> str:
    archive = {"maps": [maps], "metadata": [api], "timeout": 5, "retries": 1}
    return checkout.settings(name, archive=archive)


def test_a_dead_network_is_one_line(checkout: Checkout) -> None:
    """Map and metadata cannot be had, but the user has one problem."""
    dead = closed_url()
    settings = mirrors(checkout, "dead", f"{dead}/emdb", f"{dead}/api")
    target = f"results/{ENTRY}_emready.mrc"
    error = checkout.snakemake(target, "--configfile", settings, cores=4).error
    assert dead.removeprefix("http://") in error
    assert "are you offline?" in error
    assert not checkout.files()
    assert not checkout.files("downloads")


def test_broken_answers_leave_nothing(checkout: Checkout, server: EmdbServer) -> None:
    server.faults.update({entry: faults for entry, (faults, _) in BROKEN.items()})
    settings = mirrors(checkout, "broken", server.emdb_mirror, server.api_mirror)
    targets = [f"results/{entry}_emready.mrc" for entry in BROKEN]
    run = checkout.snakemake(*targets, "--keep-going", "--configfile", settings, cores=4)
    assert run.code != 0
    assert "Traceback" not in run.out + run.err
    assert len(run.errors) == len(BROKEN)
    for entry, (_, reason) in BROKEN.items():
        name = f"{entry.lower().replace('-', '_')}.map.gz"
        (error,) = (line for line in run.errors if name in line)
        assert reason in error
    assert not checkout.files()
    assert not checkout.files("downloads")


def test_an_entry_is_fetched_once_and_enhanced(
    checkout: Checkout, server: EmdbServer, served: Path
) -> None:
    settings = mirrors(checkout, "local", server.emdb_mirror, server.api_mirror)
    target = f"results/{ENTRY}_emready.mrc"
    run = checkout.made(target, "--configfile", settings)
    assert len(server.requests) == 2
    assert checkout.files() == {f"{ENTRY}_emready.mrc", f"{ENTRY}_emready.json"}
    assert checkout.files("downloads") == {f"{ENTRY}/emd_6272.map.gz", f"{ENTRY}/metadata.json"}
    fetched = checkout / f"downloads/{ENTRY}/emd_6272.map.gz"
    assert gzip.decompress(fetched.read_bytes()) == served.read_bytes()
    assert read_map(checkout / target).place == read_map(served).place
    assert f"the input's contour {CONTOUR:g}" in run.err
    assert "meant for 3-6 Å, this map has 2.6 Å" in run.err
    assert checkout.planned(target) == {}  # other mirrors fetch nothing again


def test_a_map_put_there_by_hand_stays(checkout: Checkout, served: Path) -> None:
    """To run a download rule again would first delete its output."""
    by_hand = checkout / "downloads/EMD-1234/emd_1234.map.gz"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(gzip.compress(served.read_bytes()))
    planned = checkout.planned("results/EMD-1234_emready.mrc")
    assert planned == {"download_metadata": 1, "enhance": 1}
