"""Entries of the archive, from a local server with EMDB's layout and its faults."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
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
    assert len(run.errors) == len(BROKEN), run.err
    for entry, (_, reason) in BROKEN.items():
        name = f"{entry.lower().replace('-', '_')}.map.gz"
        (error,) = (line for line in run.errors if name in line)
        assert reason in error
    assert checkout.files() == {"failures.tsv"}
    (checkout / "results/failures.tsv").unlink()
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


# half-maps

HALVED, WHOLE = "EMD-2001", "EMD-2002"  # with half-maps in the archive, and without
WANTED = "--config", "evaluation={half_maps: true}"


def half_maps(entry: str) -> dict[str, object]:
    """The part of EMDB's JSON that names them."""
    names = [f"{entry.lower().replace('-', '_')}_half_map_{k}.map.gz" for k in (1, 2)]
    return {"interpretation": {"half_map_list": {"half_map": [{"file": name} for name in names]}}}


@pytest.fixture
def cached(checkout: Checkout, served: Path) -> Checkout:
    """Two entries whose maps and metadata are in the cache."""
    for entry, more in ((HALVED, half_maps(HALVED)), (WHOLE, {})):
        folder = checkout / f"downloads/{entry}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{entry.lower().replace('-', '_')}.map.gz"
        (folder / name).write_bytes(gzip.compress(served.read_bytes()))
        (folder / "metadata.json").write_text(json.dumps(metadata(entry) | more))
    return checkout


@pytest.mark.parametrize(
    ("entry", "options", "plan"),
    [
        (HALVED, WANTED, {"download_half_map": 2, "local_resolution": 1}),
        (HALVED, (), {}),
        (WHOLE, WANTED, {}),
    ],
    ids=["asked for", "not asked for", "not there"],
)
def test_half_maps_of_the_archive_are_fetched_if_they_are_asked_for(
    cached: Checkout, entry: str, options: tuple[str, ...], plan: dict[str, int]
) -> None:
    always = {"download_fitted_model": 1, "enhance": 1, "evaluate_entry": 1}
    assert cached.planned(f"results/{entry}_evaluation.json", *options) == always | plan


def test_half_maps_of_the_archive_can_be_enhanced(cached: Checkout) -> None:
    halves = [f"results/{HALVED}_half_map_{k}_emready.mrc" for k in (1, 2)]
    planned = cached.planned(*halves, *WANTED)
    assert planned == {"download_half_map": 2, "enhance": 2}
    both = "--config", "evaluation={half_maps: true, enhanced_half_maps: true}"
    planned = cached.planned(f"results/{HALVED}_evaluation.json", *both)
    assert (planned["download_half_map"], planned["enhance"]) == (2, 3)
    assert "set evaluation.half_maps" in cached.snakemake("-n", halves[0]).error


def test_half_maps_of_the_archive_are_evaluated(
    cached: Checkout, server: EmdbServer, served: Path
) -> None:
    """The map ± noise: they arrive as they are, and agree to less than the voxels allow."""
    whole = read_map(served).density
    noise = 0.5 * whole.std() * np.random.default_rng(3).standard_normal(whole.shape)
    files = [
        write_map(cached.folder / f"half_{k}.map", half.astype(np.float32), 1.023, nstart=(4, 4, 4))
        for k, half in enumerate((whole + noise, whole - noise))
    ]
    server.add_half_maps(HALVED, *(file.read_bytes() for file in files))
    archive = {"maps": [server.emdb_mirror], "timeout": 5, "retries": 1}
    evaluation = {"half_maps": True, "local_window": 12.0}
    settings = cached.settings("halved", archive=archive, evaluation=evaluation)
    cached.made(f"results/{HALVED}_evaluation.json", "--configfile", settings, cores=2)
    assert sorted(path.rpartition("/")[2] for path in server.requests) == [
        f"emd_2001_half_map_{k}.map.gz" for k in (1, 2)
    ]
    for file, k in zip(files, (1, 2), strict=True):
        fetched = cached / f"downloads/{HALVED}/emd_2001_half_map_{k}.map.gz"
        assert gzip.decompress(fetched.read_bytes()) == file.read_bytes()
    row = json.loads((cached / f"results/{HALVED}_evaluation.json").read_text())
    assert 2 * 1.023 < row["half_maps"]["d_fsc_0143_masked"] < 8


# candidates of a data set


@pytest.fixture
def candidate(checkout: Checkout) -> str:
    """The id of an entry that is in no sheet, but chosen by `select`."""
    entry = "EMD-1005"
    cells = {
        **{"id": entry, "emdb": entry, "pdb": "9zzz", "resolution": "3.5", "contour": ""},
        **{"voxels": "85184", "voxel_size": "1.0", "split": "train", "rejected_because": ""},
    }
    table = checkout / "results/dataset/candidates.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")
    return entry


def test_a_wrong_setting_is_no_verdict_on_a_candidate(
    checkout: Checkout, server: EmdbServer, candidate: str
) -> None:
    archive = {
        "maps": [server.emdb_mirror],
        "models": [server.pdb_mirror],
        "checksums": "empty.json",
    }
    (checkout / "empty.json").write_text("{}")
    settings = checkout.settings("unpinned", archive=archive)
    card = f"results/work/{candidate}/pair.json"
    error = checkout.snakemake(card, "--configfile", settings).error
    assert "archive.checksums: empty.json is not the provenance.json of a data set" in error
    assert not (checkout / card).exists()
    assert not server.requests


def test_a_candidate_that_cannot_be_had_has_all_its_files(
    checkout: Checkout, server: EmdbServer, candidate: str
) -> None:
    """A reason in the place of a pair; of an entry that only the sheet has it is an error."""
    server.add_metadata(candidate, metadata(candidate))  # no map, no model
    mirrors = {"maps": [server.emdb_mirror], "metadata": [server.api_mirror]}
    mirrors |= {"models": [server.pdb_mirror]}
    options = {"archive": mirrors, "dataset": {"keep": "volumes"}}
    settings = checkout.settings("kept", **options)
    card = checkout / f"results/work/{candidate}/pair.json"
    sheet = checkout.sheet("mine", {"id": candidate, "pdb": "9zzz"})
    target = str(card.relative_to(checkout.folder))
    table = checkout / "results/dataset/candidates.tsv"
    aside = table.rename(table.with_name("aside.tsv"))
    run = checkout.snakemake(target, "--configfile", settings, "--config", f"entries={sheet}")
    assert "no such entry" in run.error
    assert not card.exists()
    aside.rename(table)
    checkout.made(target, "--configfile", settings)
    known = json.loads(card.read_text())
    assert known["failed"].startswith("no such entry")
    assert known["boxes"] == 0
    assert {"boxes.npy", "map_1A.mrc", "pair.png"} <= {path.name for path in card.parent.iterdir()}
