"""How much of the input a release should keep: scores of validation maps over a grid of shares.

    python benchmarks/calibration.py --weights results/training/v1/weights.safetensors \\
        --entries resources/weights/v1/entries.tsv

Each map is enhanced once; its mixtures with the input (`release.input_share`) and with the input's
negative density (`release.negatives`) are scored like the maps of a training. Only entries with
split `val` are looked at. The last columns are the mean gain with losses counted twice
(`training.validation.gain`) and how many maps lose in mean FSC up to 1/R, CC_mask or Q.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cryoready.core.volume import Volume
from cryoready.dataset.sheet import read_sheet
from cryoready.density.normalise import intensity_scale
from cryoready.density.resample import resample, spaced_grid
from cryoready.enhance.inference import enhance
from cryoready.enhance.plan import Settings
from cryoready.network.checkpoint import load_network
from cryoready.training.validation import GAINS, Judged, gain, scores_of

INPUT_SHARES = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75)
NEGATIVES = (0.0, 0.25, 0.5, 0.75, 1.0)


def parts(judged, network, precision):
    """Output of the network, positive and negative part of the input: on 1 Å, 0-100."""
    grid = spaced_grid(judged.volume.grid, 1.0)
    density = resample(judged.volume, grid).data
    scaled = 100 * density / intensity_scale(density)
    done = enhance(judged.volume, network, settings=Settings(precision=precision, skip_empty=False))
    return done.network_volume, scaled.clip(0, 100), scaled.clip(-100, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--entries", type=Path, required=True)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--to", type=Path, help="also write every score of every map (TSV)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network, _ = load_network(arguments.weights, grid=1.0)
    sheet = read_sheet(arguments.entries).values()
    entries = [e for e in sheet if e.split == "val" and e.map != "simulated"]
    rows = []
    for entry in entries:
        judged = Judged.read(
            entry.id,
            {"map": entry.map, "model": entry.model},
            resolution=entry.resolution,
            voxel_size=entry.voxel_size,
        )
        rows.append({"id": entry.id, "map": "deposited", **judged.deposited})
        made, positive, negative = parts(judged, network, arguments.precision)
        for share, kept in product(INPUT_SHARES, NEGATIVES):
            mixed = (1 - share) * made.data + share * positive + kept * negative
            volume = resample(Volume.on(made.grid, mixed.astype(np.float32)), judged.volume.grid)
            row = scores_of(volume, judged.placed)
            worse = [key for key in GAINS if row[key] < judged.deposited[key]]
            rows.append(
                {"id": entry.id, "map": "enhanced", "input_share": share, "negatives": kept}
                | row
                | {"gain": gain(judged.deposited, row), "worse": " ".join(worse)}
            )
    table = pd.DataFrame(rows)
    if arguments.to:
        table.to_csv(arguments.to, sep="\t", index=False)
    groups = table[table["map"] == "enhanced"].groupby(["input_share", "negatives"])
    summary = groups[[*GAINS, "d_fsc_model_05_masked", "gain"]].mean()
    summary["maps that lose"] = groups["worse"].apply(lambda worse: int((worse != "").sum()))
    print(summary.round(4).to_string())


if __name__ == "__main__":
    main()
