"""What stands in the way of a better score: of maps without negative density, and of the target.

    python benchmarks/limits.py data/entries.tsv EMD-5830-A EMD-5137-A EMD-3488

For each map the scores as deposited, with its negative density set to 0 (what is left of it where a
network with output from 0 changes nothing), and of the target simulated from the model (what a
perfect network would return).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cryoready.core.volume import Volume
from cryoready.density.simulate import simulate_density, target_sigma
from cryoready.files.models import atomic_numbers
from cryoready.training.validation import GAINS, Judged, scores_of


def main():
    table, *names = sys.argv[1:]
    rows, folder = pd.read_csv(table, sep="\t").set_index("name"), Path(table).parent / "maps"
    for name in names:
        files = {role: str(folder / rows.at[name, role]) for role in ("map", "model")}
        entry = Judged.read(name, files, resolution=float(rows.at[name, "resolution_A"]))
        grid, atoms = entry.volume.grid, entry.placed.model.atoms
        weight = atomic_numbers(atoms.element) * atoms.occupancy
        sigma = target_sigma(entry.placed.resolution)
        maps = {
            "deposited": entry.volume,
            "from 0": Volume.on(grid, np.clip(entry.volume.data, 0, None)),
            "target": simulate_density(atoms.coords, weight, sigma, grid),
        }
        for kind, volume in maps.items():
            scores = scores_of(volume, entry.placed)
            print(f"{name:12} {kind:10}", *(f"{key} {scores[key]:.3f}" for key in GAINS))


if __name__ == "__main__":
    main()
