"""What the search for empty space leaves out, and that no density is among it.

    python benchmarks/empty_space.py [--only NAME ...] [--picture FILE]

Every shared map (`data/`, or CRYOREADY_DATA) as it is, on the 1 Å grid, and, since most of them are
cut out around their model, also in the middle of a larger box with a weak domain beside it: a copy
of the density around 300 atoms at 20 % of its height. To that comes solvent noise, band-limited to
the resolution and stronger at low frequency, of 5-30 % of the mean density at the atoms, plain or
within a soft sphere, and with the mean of the box subtracted. The table says how many cells are
skipped (%), and of what must not be lost how much lies in them: atoms of the model and of the weak
domain (those where the map has density), voxels that are above mean + 3 σ before noise is added,
and voxels above a third of that in pieces of more than 50. All but the skipped share should be 0.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import fft
from scipy.ndimage import label

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from cryoready.core.fourier import frequency_radius  # noqa: E402
from cryoready.core.volume import Grid  # noqa: E402
from cryoready.density.contour import default_contour  # noqa: E402
from cryoready.density.masks import mask_from_atoms, soften  # noqa: E402
from cryoready.density.resample import resample, spaced_grid  # noqa: E402
from cryoready.density.signal import signal_cells  # noqa: E402
from cryoready.files.maps import read_map  # noqa: E402
from cryoready.files.models import read_model  # noqa: E402

DATA = Path(os.environ.get("CRYOREADY_DATA", ROOT / "data"))
ENTRIES = pd.read_csv(DATA / "entries.tsv", sep="\t", keep_default_na=False).set_index("name")
CELL = 24  # voxels
LARGER = 2.2  # edge of the box / longest edge of the map
WEAK, WEAK_ATOMS, WEAK_PLACE = 0.2, 300, 0.14  # height, size, and place along z in the box
NOISE = (0.05, 0.1, 0.2, 0.3)  # standard deviation / mean density at the atoms
HUMP, HUMP_WIDTH = 2.0, 0.05  # of the noise amplitude at low frequency; 1/Å
LEAST_PIECE = 50  # voxels


def in_larger_box(volume, coords):
    """(n, n, n) density with the map in its middle, and where the atoms are, in voxels."""
    edge = int(LARGER * max(volume.data.shape))
    start = [(edge - n) // 2 for n in volume.data.shape]
    box = np.zeros((edge, edge, edge), dtype=np.float32)
    box[tuple(slice(a, a + n) for a, n in zip(start, volume.data.shape, strict=True))] = volume.data
    return box, coords - volume.origin + start


def heights(density, atoms):
    """Density at the voxel of every atom, (n,)."""
    return density[tuple(np.round(atoms).astype(int).T)]


def weak_domain(box, coords):
    """Density of the outermost atoms, lowered and moved away; those atoms that have density."""
    height = heights(box, coords)
    coords = coords[height > height.mean() / 2]
    outermost = coords[np.linalg.norm(coords - coords.mean(axis=0), axis=1).argmax()]
    chosen = coords[np.linalg.norm(coords - outermost, axis=1).argsort()[:WEAK_ATOMS]]
    around = soften(mask_from_atoms(chosen, Grid(box.shape, 1, 0), 2.5), 1, edge=2.0)
    place = np.array([WEAK_PLACE, 0.5, 0.5]) * len(box)
    shift = np.round(place - chosen.mean(axis=0)).astype(int)
    moved = np.roll(WEAK * box * around, shift, axis=(0, 1, 2))
    atoms = (chosen + shift) % (len(box) - 1)
    height = heights(moved, atoms)
    return moved, atoms[height > height.mean() / 4]


def solvent(edge, resolution, rng):
    """(edge, edge, edge) noise of standard deviation 1."""
    frequency = frequency_radius((edge, edge, edge), np.ones(3))
    amplitude = 1 / (1 + np.exp(np.clip((frequency - 1 / resolution) / 0.02, -30, 30)))
    amplitude *= np.sqrt(1 + (HUMP**2 - 1) * np.exp(-((frequency / HUMP_WIDTH) ** 2)))
    white = rng.standard_normal((edge, edge, edge), dtype=np.float32)
    noise = fft.irfftn(fft.rfftn(white) * amplitude.astype(np.float32), s=white.shape)
    return noise / noise.std()


def soft_sphere(edge):
    """(edge, edge, edge) 1 within a sphere that nearly touches the faces, 0 outside."""
    z, y, x = np.meshgrid(*3 * [np.linspace(-1, 1, edge)], indexing="ij", sparse=True)
    return np.clip((0.97 - np.sqrt(z**2 + y**2 + x**2)) * edge / 10, 0, 1).astype(np.float32)


def lost(density, clean, atoms, weak):
    """One row of the table; ``clean`` is the density without noise."""
    cells = signal_cells(density, cell_voxels=CELL)
    skipped = ~cells
    for axis in range(3):
        skipped = skipped.repeat(CELL, axis)
    skipped = skipped[tuple(slice(n) for n in density.shape)]
    contour = default_contour(clean)
    pieces, _ = label(clean > contour / 3)
    large = np.bincount(pieces.ravel()) > LEAST_PIECE
    large[0] = False
    row = {"cells": cells.size, "skipped (%)": 100 * (1 - cells.mean())}
    for name, coords in (("atoms", atoms), ("weak domain", weak)):
        here = coords[heights(clean, coords) > 0]
        row[name] = int(heights(skipped, here).sum())
    row["contour"] = int((clean[skipped] > contour).sum())
    row["third"] = int(large[pieces[skipped]].sum())
    return row


def forms(volume, coords, resolution, rng):
    """Name, density with and without noise, atoms, weak atoms of a map in all surroundings."""
    none = np.zeros((0, 3))
    yield "as it is", volume.data, volume.data, coords - volume.origin, none
    box, atoms = in_larger_box(volume, coords)
    moved, weak = weak_domain(box, atoms)
    here = box + moved
    yield "larger box", here, here, atoms, weak
    noise = heights(box, atoms).mean() * solvent(len(box), resolution, rng)
    for share in NOISE:
        yield f"noise {share:g}", here + np.float32(share) * noise, here, atoms, weak
    noisy = here + np.float32(0.1) * noise
    yield "noise 0.1, sphere", noisy * soft_sphere(len(box)), here, atoms, weak
    yield "noise 0.1, mean 0", noisy - noisy.mean(), here, atoms, weak


def draw(density, cells, file):
    """The middle section: what is skipped is shaded."""
    k = len(density) // 2
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    low, high = np.percentile(density[k], [1, 99.5])
    axes.imshow(density[k], cmap="gray", vmin=low, vmax=high, origin="lower")
    skipped = (~cells[k // CELL]).repeat(CELL, 0).repeat(CELL, 1)[: len(density), : len(density)]
    axes.imshow(np.where(skipped, 1.0, np.nan), cmap="Blues", alpha=0.35, vmin=0, origin="lower")
    axes.set(xlabel="x (Å)", ylabel="y (Å)", title="shaded: never seen by the network")
    figure.savefig(file, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(ENTRIES.index))
    parser.add_argument("--picture", type=Path, help="of the first map with noise of 0.1")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # stamps and voxel sizes of the shared maps
    rows = []
    for name in arguments.only:
        entry = ENTRIES.loc[name]
        volume = read_map(DATA / "maps" / entry["map"])
        volume = resample(volume, spaced_grid(volume.grid, 1.0))
        coords = read_model(DATA / "maps" / entry["model"]).coords
        rng = np.random.default_rng(0)
        for form, *case in forms(volume, coords, float(entry["resolution_A"]), rng):
            rows.append({"map": name, "form": form} | lost(*case))
            if form == "noise 0.1" and arguments.picture and name == arguments.only[0]:
                draw(case[0], signal_cells(case[0], cell_voxels=CELL), arguments.picture)
        print(pd.DataFrame(rows[-8:]).round(1).to_string(index=False, header=len(rows) == 8))
    table = pd.DataFrame(rows).drop(columns=["map", "cells"]).groupby("form", sort=False)
    print("\nmedian skipped (%), and sums of what was lost:")
    summary = table.agg(
        {c: "median" if c == "skipped (%)" else "sum" for c in table.obj.columns if c != "form"}
    )
    print(summary.round(1).to_string())


if __name__ == "__main__":
    main()
