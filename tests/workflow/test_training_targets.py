"""What a user does with trainings: several kinds of data, an ablation, a comparison, a release."""

import json

import pandas as pd
import pytest
from safetensors.torch import load_file

from checkout import Checkout

pytestmark = pytest.mark.workflow

SHEET = [
    {"id": "real", "map": "resources/small/EMD-2566-9.map.gz", "resolution": "3.2"},
    {"id": "atoms", "map": "simulated", "model": "resources/EMD-3488/5ni1.pdb.gz"},
    {"id": "val", "map": "resources/small/EMD-5830-A.map.gz", "resolution": "3.8"},
]
TINY = {
    "network": {"width": 4, "blocks": 1, "head_dim": 2},
    "train": {
        **{"run": "tiny", "epochs": 2, "crop_voxels": 24, "batch_size": 2, "boxes_per_epoch": 4},
        **{"real_share": 0.5, "target": "local", "validate_every": 1, "ema": 0.9, "warmup": 2},
    },
    "ablation": {
        "seeds": [1, 2],
        "minutes": 1.0,
        "only": ["scunet", "convolution"],
        "base": {"train": {"epochs": 1, "boxes_per_epoch": 2, "validate_every": 1}},
    },
}


@pytest.fixture(scope="module")
def tiny(checkout: Checkout) -> tuple[str, ...]:
    """The settings of a run on a real map and on a structure, local targets, scored maps."""
    rows = [
        {"split": "val" if row["id"] == "val" else "train"}
        | {"model": row["map"].replace(".map.", ".pdb."), **row}
        for row in SHEET
    ]
    sheet = checkout.sheet("mixed", *rows)
    return ("--configfile", checkout.settings("tiny", entries=sheet, **TINY))


def test_real_and_synthetic_crops_train_together(checkout: Checkout, tiny) -> None:
    run = checkout.made("train", *tiny)
    assert "1 structures to train" in run.err
    assert "1 structures, " in run.err  # packed
    scores = pd.read_csv(checkout / "results/training/tiny/validation.tsv", sep="\t")
    assert list(scores["epoch"]) == [0, 1, 2]
    history = pd.read_csv(checkout / "results/training/tiny/history.tsv", sep="\t")
    assert history["score"].notna().all()
    assert (checkout / "results/work/real/local_targets.npy").is_file()
    assert not (checkout / "results/work/atoms").exists()  # drawn on the fly


def test_an_ablation_compares_its_variants(checkout: Checkout, tiny) -> None:
    checkout.made("ablation", *tiny)
    table = pd.read_csv(checkout / "results/ablation.tsv", sep="\t")
    assert set(table["variant"]) == {"scunet", "convolution"}
    assert (table["seeds"] == 2).all()
    both, convolution = (table.set_index("variant").loc[name] for name in ("scunet", "convolution"))
    assert both["parameters"] != convolution["parameters"]


def test_the_report_compares_what_was_trained(checkout: Checkout, tiny) -> None:
    checkout.made("training_report", *tiny)
    page = (checkout / "results/training_report.html").read_text()
    assert all(name in page for name in ("tiny", "ablation-scunet-1", "convolution"))
    assert checkout.planned("training_report", *tiny) == {}


def test_a_release_has_half_the_size_and_says_what_it_is(checkout: Checkout, tiny) -> None:
    checkout.made("release", *tiny)
    folder = checkout / "results/release/tiny"
    released = load_file(folder / "weights.safetensors")
    assert {str(values.dtype) for values in released.values()} == {"torch.float16"}
    card = json.loads((folder / "card.json").read_text())
    assert card["architecture"]["skip"] is True
    assert "\n| val |" in (folder / "README.md").read_text()  # its scores
    checkout.made(
        *("results/val_emready.mrc", *tiny),
        *("--config", "weights=results/release/tiny/weights.safetensors"),
    )


def test_what_is_missing_is_one_line(checkout: Checkout, tiny) -> None:
    error = checkout.snakemake("release", *tiny, "--config", "train={run: never}").error
    assert "no run of that name has ended" in error
    error = checkout.snakemake("ablation", *tiny, "--config", "ablation={only: [other]}").error
    assert "no variant is called 'other'" in error
    lonely = checkout.sheet("lonely", SHEET[1] | {"split": "train"})
    error = checkout.snakemake("train", "--config", f"entries={lonely}").error
    assert "no entry with split 'train' and a map" in error
