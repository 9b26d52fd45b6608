"""What a dry run says on a fresh clone, offline."""

import pytest

from checkout import Checkout

pytestmark = pytest.mark.workflow


def test_a_map_is_explained(checkout: Checkout) -> None:
    """The profile gives the cores; parsing makes no file."""
    run = checkout.snakemake("-n", "results/EMD-3488_emready.mrc", cores=None)
    assert run.plan == {"enhance": 1}
    for part in (
        "resources/EMD-3488/emd_3488.map.gz",
        "starter",
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
