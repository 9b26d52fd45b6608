"""`snakemake benchmark` against a local archive: two entries are there, one is missing."""

import gzip
from collections.abc import Iterator

import gemmi
import pandas as pd
import pytest

from checkout import Checkout
from emdb_server import EmdbServer, closed_url

pytestmark = pytest.mark.workflow

STATED, UNSTATED, MISSING = (
    "EMD-9311",
    "EMD-35363",
    "EMD-7076",
)  # resolution in the yardstick or not
MODELS = {STATED: "6n06", UNSTATED: "8idc"}
RESOLUTION = 3.8  # Å, in the metadata


def metadata(entry: str) -> dict[str, object]:
    reconstruction = {"final_reconstruction": {"resolution": {"valueOf_": str(RESOLUTION)}}}
    determination = [{"method": "singleParticle", "image_processing": [reconstruction]}]
    return {
        "emdb_id": entry,
        "structure_determination_list": {"structure_determination": determination},
        "map": {"contour_list": {"contour": [{"level": 0.05, "primary": True}]}},
    }


@pytest.fixture(scope="module")
def server(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmdbServer]:
    """A small map and its model under the ids of two entries of the yardstick."""
    density = gzip.decompress((checkout / "resources/small/EMD-5830-A.map.gz").read_bytes())
    model = gemmi.read_structure(str(checkout / "resources/small/EMD-5830-A.pdb.gz"))
    mmcif = model.make_mmcif_document().as_string()
    with EmdbServer(tmp_path_factory.mktemp("archive")) as server:
        for entry, pdb in MODELS.items():
            server.add_map(entry, density)
            server.add_metadata(entry, metadata(entry))
            server.add_model(pdb, mmcif)
        yield server


def settings(checkout: Checkout, name: str, server: EmdbServer, *entries: str) -> str:
    mirrors = {
        "maps": [server.emdb_mirror],
        "metadata": [server.api_mirror],
        "models": [server.pdb_mirror],
    }
    return checkout.settings(
        name, archive={**mirrors, "timeout": 5, "retries": 1}, benchmark={"entries": list(entries)}
    )


def table(checkout: Checkout, name: str) -> pd.DataFrame:
    return pd.read_csv(checkout / f"results/{name}.tsv", sep="\t", keep_default_na=False)


def test_an_unknown_entry_is_one_line(checkout: Checkout, server: EmdbServer) -> None:
    config = settings(checkout, "unknown", server, "EMD-3488")
    error = checkout.snakemake("benchmark", "--configfile", config).error
    assert error.startswith("benchmark.entries: EMD-3488; known are the 150 ids")


def test_nothing_to_be_had_is_one_line(checkout: Checkout) -> None:
    dead = {key: [closed_url()] for key in ("maps", "metadata", "models")}
    config = checkout.settings(
        "dead",
        archive={**dead, "timeout": 5, "retries": 1},
        benchmark={"entries": [STATED, MISSING]},
    )
    error = checkout.snakemake("benchmark", "--configfile", config).error
    assert error.startswith(f"no map of the benchmark is to be had; {STATED}: cannot reach")
    assert not checkout.files()
    assert not checkout.files("downloads")


def test_what_is_there_is_listed(checkout: Checkout, server: EmdbServer) -> None:
    config = settings(checkout, "some", server, MISSING, STATED, UNSTATED)
    plan = checkout.planned("benchmark", "--configfile", config)
    assert plan == {"benchmark_fetch": 1, "benchmark": 1}
    available = "results/benchmark/available.tsv"
    run = checkout.made(available, "--configfile", config)
    assert "3 maps and models are sought: tens of GB" in run.err
    assert f"left out: {MISSING}: no such entry" in run.err
    assert "2 of 3 maps of the benchmark can be evaluated" in run.err
    rows = table(checkout, "benchmark/available").set_index("id")
    assert list(rows.index) == [MISSING, STATED, UNSTATED]
    assert rows.loc[UNSTATED, ["pdb", "resolution", "reason"]].tolist() == ["8IDC", RESOLUTION, ""]
    assert rows.loc[STATED, "resolution"] != RESOLUTION  # that of the yardstick
    assert "emd_7076.map.gz" in rows.loc[MISSING, "reason"]
    server.requests.clear()
    plan = checkout.planned("benchmark", "--configfile", config)
    assert plan.pop("benchmark") == 1
    assert not [rule for rule in plan if rule.startswith("download")]
    checkout.made(available, "--forcerun", "benchmark_fetch", "--configfile", config)
    assert {path.rpartition("/")[2] for path in server.requests} == {"emd_7076.map.gz"}


def test_our_column_stands_beside_theirs(checkout: Checkout, server: EmdbServer) -> None:
    """The figures of the published maps cannot be met by another: that is said."""
    config = settings(checkout, "some", server, MISSING, STATED, UNSTATED)
    run = checkout.made("benchmark", "--configfile", config)
    assert "measured again on 2 maps" in run.err
    assert "q_mean: not reproduced: 0% of 2 maps within 0.01" in run.err
    maps = table(checkout, "benchmark_maps")
    assert set(maps["emdb"]) == {STATED, UNSTATED}
    measured = maps.set_index("emdb")["deposited_measured_cc_box"].astype(float)
    assert measured[UNSTATED] == pytest.approx(0.745898, abs=0.005)  # five_cc of cctbx at 3.8 Å
    rows = table(checkout, "benchmark").set_index(["metric", "method"])
    assert len(rows) == 36
    assert rows.loc[("cc_box", "cryoready"), "n"] == 2
    assert rows.loc[("q_mean", "EMReady"), "note"] == "no interval from fewer than 6 maps"
    assert rows.loc[("q_mean", "EMReady"), "difference_low"] == ""
    assert checkout.planned("benchmark", "--configfile", config) == {}
