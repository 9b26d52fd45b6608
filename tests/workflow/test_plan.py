"""What a dry run says on a fresh clone, offline."""

import shutil

import pytest

from checkout import Checkout

pytestmark = pytest.mark.workflow


def test_a_map_is_explained(checkout: Checkout) -> None:
    """The profile gives the cores; parsing makes no file."""
    run = checkout.snakemake("-n", "results/EMD-3488_emready.mrc", cores=None)
    assert run.plan == {"enhance": 1}
    for part in (
        "resources/EMD-3488/emd_3488.map.gz",
        "resources/weights/v1",
        "preset default",
        "grid of the input",
    ):
        assert part in run.out
    assert not checkout.files()


def test_an_archive_entry_is_explained_offline(checkout: Checkout) -> None:
    paper = checkout.settings("paper", inference={"preset": "paper"}, output_grid="network")
    run = checkout.snakemake(
        "-n", "results/EMD-11638_emready.mrc", "--configfile", paper, cores=None
    )
    assert run.plan == {"download_map": 1, "download_metadata": 1, "enhance": 1}
    assert "EMD-11638: download the map from EMDB" in run.out
    assert "preset paper" in run.out
    assert "grid of the network" in run.out


def test_a_training_is_explained(checkout: Checkout) -> None:
    run = checkout.snakemake("-n", "train", "--configfile", "config/small.yaml", cores=None)
    assert run.plan == {"prepare": 3, "train_network": 1, "loss_figure": 1, "train": 1}
    for entry in ("EMD-2566-9", "EMD-6272-box", "EMD-5830-A"):
        assert f"{entry}: resample the map to 1 Å, simulate its target" in run.out


def test_an_archive_entry_without_pdb_waits_for_its_metadata(checkout: Checkout) -> None:
    """Which model was fitted is known only then; the plan says what it can, offline."""
    run = checkout.snakemake("-n", "results/EMD-11638_evaluation.html", cores=None)
    assert run.plan["download_metadata"] == 1
    assert "EMD-11638: compare the deposited and the enhanced map" in run.out


def test_an_entry_of_the_yardstick_has_its_model(checkout: Checkout) -> None:
    plan = checkout.planned("results/EMD-23222_evaluation.html")
    assert plan == {
        **{"download_map": 1, "download_metadata": 1, "download_model": 1},
        **{"enhance": 1, "evaluate_entry": 1, "evaluation_page": 1},
    }


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("results/EMD-3488_local_resolution.mrc", "EMD-3488 has no half map 1: give the column"),
        ("results/work/EMD-3488/mean_of_half_maps.mrc", "EMD-3488 has no half map 1"),
        ("results/EMD-3488_half_map_1_emready.mrc", "EMD-3488 has no half-maps"),
        ("results/made_emready.mrc", "made has no map: give the column map"),
        ("results/made_evaluation.html", "made has no map"),
        ("results/bare_local_correlation.mrc", "bare has no model: give the column pdb or model"),
        ("evaluate", "has no entry with a map"),
    ],
)
def test_what_lacks_is_named(checkout: Checkout, target: str, part: str) -> None:
    shutil.copy(checkout / "resources/small/EMD-5830-A.map.gz", checkout / "maps/bare.map.gz")
    model = "resources/EMD-3488/5ni1.pdb.gz"
    sheet = checkout.sheet("made", {"id": "made", "map": "simulated", "model": model})
    assert part in checkout.snakemake("-n", target, "--config", f"entries={sheet}").error
