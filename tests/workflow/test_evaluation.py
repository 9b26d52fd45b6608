"""`snakemake evaluate`: a user's maps with a model, without one, and with half-maps only."""

import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pandas as pd
import pytest

from checkout import Checkout
from map_files import Array, read_map, write_map

pytestmark = pytest.mark.workflow

VOXEL, RESOLUTION = 1.08, 3.8  # Å, of EMD-5830
FSC_KEYS = [
    f"d_fsc_model_{limit}_{mask}" for limit in ("05", "0143") for mask in ("masked", "unmasked")
]
CC_KEYS = ["cc_mask", "cc_volume", "cc_peaks", "cc_box"]
Q_KEYS = ["q_mean", "q_mean_protein"]
KEYS = {*FSC_KEYS, *CC_KEYS, *Q_KEYS, "q_sigma", "d99_unmasked", "fsc_inside_resolution"}
TABLES = ("fsc", "atoms", "residues", "chains")


@pytest.fixture(scope="module")
def density(checkout: Checkout) -> Array:
    """(nz, ny, nx) of EMD-5830."""
    return read_map(checkout / "resources/small/EMD-5830-A.map.gz").density


@pytest.fixture(scope="module")
def sheet(checkout: Checkout, density: Array) -> str:
    """`mine` has a model, `blind` none, `halves` half-maps that are the map ± noise."""
    maps = checkout / "maps"
    write_map(maps / "mine.mrc", density, VOXEL)
    write_map(maps / "blind.mrc", density, VOXEL)
    model = gzip.decompress((checkout / "resources/small/EMD-5830-A.pdb.gz").read_bytes())
    for name in ("mine", "halves"):
        (maps / f"{name}.pdb").write_bytes(model)
    noise = 0.5 * density.std() * np.random.default_rng(3).standard_normal(density.shape)
    for number, half in ((1, density + noise), (2, density - noise)):
        write_map(maps / f"halves_half_map_{number}.mrc", half.astype(np.float32), VOXEL)
    common = {"resolution": RESOLUTION, "contour": 3.0}
    return checkout.sheet(
        "evaluated",
        {"id": "mine", **common, "split": "val"},
        {"id": "blind", **common, "split": ""},
        {"id": "halves", **common, "split": "test"},
    )


@pytest.fixture(scope="module")
def settings(checkout: Checkout, sheet: str) -> str:
    return checkout.settings(
        "evaluated", entries=sheet, evaluation={"enhanced_half_maps": True, "local_window": 12.0}
    )


@pytest.fixture(scope="module")
def evaluations(checkout: Checkout, settings: str) -> Mapping[str, Any]:
    """The JSON of every entry."""
    checkout.made("evaluate", "--configfile", settings, cores=2)
    return {
        name: json.loads((checkout / f"results/{name}_evaluation.json").read_text())
        for name in ("mine", "blind", "halves")
    }


def test_the_json_has_what_the_documentation_names(evaluations: Mapping[str, Any]) -> None:
    mine = evaluations["mine"]
    assert {"id", "resolution", "weights", "contour", "deposited", "enhanced"} <= set(mine)
    assert (mine["id"], mine["resolution"], mine["contour"]) == ("mine", RESOLUTION, 3.0)
    assert mine["weights"] == "v1"
    assert set(mine["deposited"]) >= KEYS
    assert set(mine["enhanced"]) >= KEYS
    assert "make peers" in mine["left_out"]["auto_sharpened"]
    assert "auto_sharpened" not in mine


def test_the_deposited_map_scores_as_with_phenix(evaluations: Mapping[str, Any]) -> None:
    """cctbx 2025.11 and jqscore 0.2.0: tests/data/reference/values.tsv, EMD-5830-A."""
    table = Path(__file__).parents[1] / "data" / "reference" / "values.tsv"
    expected = pd.read_csv(table, sep="\t", index_col="name").loc["EMD-5830-A"]
    row = evaluations["mine"]["deposited"]
    for keys, tolerance in ((FSC_KEYS, 0.02), (CC_KEYS, 0.005), (Q_KEYS, 1e-4)):
        for key in keys:
            assert row[key] == pytest.approx(expected[key], abs=tolerance), key
    assert row["d99_unmasked"] == pytest.approx(expected["d99_unmasked"], abs=1e-3)
    assert row["q_sigma"] == 0.6


def test_without_a_model_only_the_map_speaks(
    checkout: Checkout, evaluations: Mapping[str, Any]
) -> None:
    blind = evaluations["blind"]
    for name in ("deposited", "enhanced"):
        known = {key for key, value in blind[name].items() if value is not None}
        assert known == {"d99_unmasked", "contour"}
    assert blind["suppressed"]["share"] >= 0
    assert pd.read_csv(checkout / "results/blind_evaluation/residues.tsv", sep="\t").empty
    assert "no model" in (checkout / "results/blind_evaluation.html").read_text().lower()


def test_half_maps_alone_are_a_map(
    checkout: Checkout, evaluations: Mapping[str, Any], density: Array
) -> None:
    """Their noise cancels in the mean: the same scores as the map itself."""
    mean = read_map(checkout / "results/work/halves/mean_of_half_maps.mrc").density
    np.testing.assert_allclose(mean, density, atol=1e-4 * density.max())
    mine, halves = (evaluations[name]["deposited"] for name in ("mine", "halves"))
    for key in KEYS:
        assert halves[key] == pytest.approx(mine[key], rel=1e-3), key


def test_half_maps_are_compared(checkout: Checkout, evaluations: Mapping[str, Any]) -> None:
    part = evaluations["halves"]["half_maps"]
    assert 2.16 < part["d_fsc_0143_masked"] < 8
    assert part["enhanced_d_fsc_0143_masked"] is not None
    assert part["enhanced_note"] == "shares a prior, not a resolution"
    local = read_map(checkout / "results/halves_local_resolution.mrc").density
    assert local.shape == (36, 38, 41)
    low, middle, high = (
        part["local_resolution"][key] for key in ("percentile_10", "median", "percentile_90")
    )
    assert local.min() <= low <= middle <= high <= local.max()
    curves = pd.read_csv(checkout / "results/halves_evaluation/fsc.tsv", sep="\t")
    assert {"half_maps", "enhanced_half_maps"} <= set(curves["map"])
    residues = pd.read_csv(checkout / "results/halves_evaluation/residues.tsv", sep="\t")
    assert residues["local_resolution"].between(local.min(), local.max()).all()


def test_the_tables_hold_every_residue(checkout: Checkout, evaluations: Mapping[str, Any]) -> None:
    model = gemmi.read_structure(str(checkout / "maps/mine.pdb"))
    residues = pd.read_csv(checkout / "results/mine_evaluation/residues.tsv", sep="\t")
    assert len(residues) == sum(len(chain) for chain in model[0])
    atoms = pd.read_csv(checkout / "results/mine_evaluation/atoms.tsv", sep="\t")
    assert atoms["q_enhanced"].mean() == pytest.approx(
        evaluations["mine"]["enhanced"]["q_mean"], abs=1e-5
    )


def test_one_table_and_one_page_for_all(checkout: Checkout, evaluations: Mapping[str, Any]) -> None:
    table = pd.read_csv(checkout / "results/evaluation.tsv", sep="\t")
    assert list(table["id"]) == ["mine", "mine", "blind", "blind", "halves", "halves"]
    assert set(table["map"]) == {"deposited", "enhanced"}
    page = (checkout / "results/evaluation.html").read_text()
    assert "used for selection" in page
    for name in evaluations:
        assert f'href="{name}_evaluation.html"' in page


def test_a_bad_entry_does_not_keep_the_others_from_their_table(
    checkout: Checkout, settings: str, evaluations: Mapping[str, Any]
) -> None:
    (checkout / "maps/none.mrc").write_text("no map\n" * 1000)
    common = {"resolution": RESOLUTION, "contour": 3.0}
    sheet = checkout.sheet(
        "with_a_bad_one",
        {"id": "none", **common},
        {"id": "mine", **common, "split": "val"},
        {"id": "blind", **common},
    )
    checkout.made("evaluation_so_far", "--configfile", settings, "--config", f"entries={sheet}")
    table = pd.read_csv(checkout / "results/evaluation_so_far.tsv", sep="\t")
    assert list(table["id"].unique()) == ["mine", "blind"]
    assert (checkout / "results/evaluation_so_far.html").is_file()


def test_snakemakes_own_report_holds_the_pages(
    checkout: Checkout, settings: str, evaluations: Mapping[str, Any]
) -> None:
    checkout.made("evaluate", "--configfile", settings, "--report", "report.html")
    report = (checkout / "report.html").read_text()
    for name in evaluations:
        assert f"results/{name}_evaluation.html" in report
    assert "is the enhanced map really better, and where?" in report


def test_a_second_run_does_nothing(
    checkout: Checkout, settings: str, evaluations: Mapping[str, Any]
) -> None:
    assert checkout.planned("evaluate", "--configfile", settings) == {}


def test_another_sigma_scores_again_but_enhances_nothing(
    checkout: Checkout, sheet: str, evaluations: Mapping[str, Any]
) -> None:
    again = checkout.settings("sigma", entries=sheet, evaluation={"sigma": 0.4})
    plan = checkout.planned("results/mine_evaluation.html", "--configfile", again)
    assert plan == {"evaluate_entry": 1, "evaluation_page": 1}


def test_a_resolution_given_later_enhances_nothing(
    checkout: Checkout, evaluations: Mapping[str, Any]
) -> None:
    row = {"id": "mine", "resolution": 3.9, "contour": 3.0, "split": "val"}
    sheet = checkout.sheet("later", row)
    plan = checkout.planned("results/mine_evaluation.html", "--config", f"entries={sheet}")
    assert plan == {"evaluate_entry": 1, "evaluation_page": 1}


def test_the_local_correlation_is_a_map_for_chimerax(
    checkout: Checkout, settings: str, evaluations: Mapping[str, Any]
) -> None:
    checkout.made("results/mine_local_correlation.mrc", "--configfile", settings)
    values = read_map(checkout / "results/mine_local_correlation.mrc")
    assert values.place == read_map(checkout / "results/mine_emready.mrc").place
    assert -1 <= values.density.min() <= values.density.max() <= 1


def test_peers_given_in_the_sheet_stand_beside(
    checkout: Checkout, evaluations: Mapping[str, Any]
) -> None:
    """The deposited map in the place of another program's has the deposited scores."""
    row = {"id": "mine", "resolution": RESOLUTION, "contour": 3.0, "emready_map": "maps/mine.mrc"}
    reference = {"reference_map": "maps/mine.mrc", "reference_model": "maps/mine.pdb"}
    built = {"built_model": "maps/mine.pdb"}
    sheet = checkout.sheet("peers", {**row, **reference, **built})
    checkout.made("results/mine_evaluation.html", "--config", f"entries={sheet}")
    mine = json.loads((checkout / "results/mine_evaluation.json").read_text())
    assert mine["emready"] == pytest.approx(mine["deposited"], rel=1e-4)
    assert mine["built_model"]["completeness"] == 1
    assert mine["reference"]["rmsd"] == pytest.approx(0, abs=1e-3)
    assert mine["reference"]["deposited"]["q_mean"] == pytest.approx(mine["deposited"]["q_mean"])
    assert mine["reference"]["deposited"]["cc_reference_map"] == pytest.approx(1, abs=1e-3)
    assert "emready" in (checkout / "results/mine_evaluation.html").read_text().lower()


def shifted(checkout: Checkout, name: str) -> None:
    structure = gemmi.read_structure(str(checkout / "maps/mine.pdb"))
    for site in structure[0].all():
        site.atom.pos += gemmi.Position(300, 0, 0)
    structure.write_pdb(str(checkout / f"maps/{name}.pdb"))


def unreadable(checkout: Checkout, name: str) -> None:
    (checkout / f"maps/{name}.pdb").write_text("<html>not found</html>\n")


@pytest.mark.parametrize(
    ("spoil", "resolution", "part"),
    [
        (shifted, RESOLUTION, "the model is not in the map"),
        (unreadable, RESOLUTION, "has no atoms"),
        (None, 1.2, "resolution 1.2 Å is finer than the 2.16 Å"),
    ],
    ids=["elsewhere", "unreadable", "too-fine"],
)
def test_bad_input_is_one_line(
    checkout: Checkout, evaluations: Mapping[str, Any], spoil: Any, resolution: float, part: str
) -> None:
    """The enhanced map is there; nothing of the evaluation is."""
    name = "bad"
    shutil.copy(checkout / "maps/mine.mrc", checkout / f"maps/{name}.mrc")
    shutil.copy(checkout / "maps/mine.pdb", checkout / f"maps/{name}.pdb")
    if spoil is not None:
        spoil(checkout, name)
    sheet = checkout.sheet("bad", {"id": name, "resolution": resolution, "contour": 3.0})
    run = checkout.snakemake(f"results/{name}_evaluation.html", "--config", f"entries={sheet}")
    assert part in run.error
    assert not [file for file in checkout.files() if file.startswith(f"{name}_evaluation")]


def test_half_a_map_is_not_evaluated_by_itself(checkout: Checkout, settings: str) -> None:
    target = "results/halves_half_map_1_evaluation.json"
    error = checkout.snakemake("-n", target, "--configfile", settings).error
    assert "half a map: results/halves_evaluation.html compares both halves" in error
