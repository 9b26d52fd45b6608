"""Scores of maps before and after enhancement, computed by the programs of others.

FSC and correlations are those of `phenix.mtriage` and `phenix.map_model_cc` (from cctbx), Q-scores
those of MapQ (from jqscore, doi 10.1038/s41592-020-0731-1). Nothing of cryoready is imported: not
even a mistake in how it reads a map can flatter its results.

    .venv-peers/bin/python benchmarks/score_with_peers.py \
        --entry EMD-3488 5ni1.pdb.gz 3.2 emd_3488.map.gz EMD-3488_emready.mrc

`--entry` may be repeated; `make table` does so for all test entries. The table goes to stdout.
"""

# The order of these imports matters: cctbx crashes if gemmi, which jqscore imports, comes first.
import argparse
from pathlib import Path

import iotbx.pdb
import jqscore
import numpy as np
from cctbx import crystal
from mmtbx.maps import correlation, mtriage
from scitbx.array_family import flex

SIGMA = 0.6  # Å, width of MapQ's reference Gaussian
SCATTERING_TABLE = "electron"  # has neutral atoms only
# column -> format: two decimals of an Å are what FSC-0.5 resolves
COLUMNS = {
    "FSC-0.5 masked (Å)": ".2f",
    "FSC-0.5 unmasked (Å)": ".2f",
    "CC_mask": ".4f",
    "CC_box": ".4f",
    "mean Q": ".4f",
}


def read_model(path):
    """First model of a PDB or mmCIF file as a hierarchy of neutral atoms."""
    hierarchy = iotbx.pdb.input(file_name=path).construct_hierarchy()
    for other in hierarchy.models()[1:]:
        hierarchy.remove_model(other)
    for atom in hierarchy.atoms():
        atom.charge = "  "
    return hierarchy


def mean_q(atoms, density, origin, voxel_size):
    """Mean Q-score of the heavy atoms, on the map as it is.

    `mapq_compat` would add the resampling by which MapQ differs when run in several processes.
    """
    heavy = np.array([not atom.element_is_hydrogen() for atom in atoms])
    coords = atoms.extract_xyz().as_numpy_array()[heavy]  # (n, 3) xyz, Å
    every, residues = np.ones(len(coords), dtype=bool), np.arange(len(coords))  # for hydrogens only
    scores, _, _ = jqscore.qscores_from_arrays(
        *(coords, every, residues, density, origin, voxel_size), sigma=SIGMA, mapq_compat=False
    )
    return scores.mean()


def fsc_resolutions(density, structure, resolution):
    """Where the map-model FSC first falls below 0.5, in Å: masked, unmasked; None if nowhere."""
    params = mtriage.master_params().extract()
    params.scattering_table = SCATTERING_TABLE
    params.resolution = resolution
    params.radius_smooth_ratio = 2  # soft mask around the model: radius 2 x resolution
    params.compute.d_model = params.compute.d_model_b0 = False  # slow, and not shown
    results = mtriage.mtriage(density, xray_structure=structure, params=params).get_results()
    return results.masked.d_fsc_model_05, results.unmasked.d_fsc_model_05


def score(map_path, model_path, resolution):
    """One value per column of the table for a map and its model."""
    # density zyx; origin and voxel size xyz in Å. The origin field counts, nstart where it is 0
    density, origin, voxel_size = jqscore.read_mrc(map_path)
    hierarchy = read_model(model_path)
    atoms = hierarchy.atoms()
    q = mean_q(atoms, density, origin, voxel_size)

    # cctbx knows no origin: the box becomes a P1 cell, and the atoms move into it
    edges = voxel_size * density.shape[::-1]
    atoms.set_xyz(atoms.extract_xyz() - tuple(origin.tolist()))
    structure = hierarchy.extract_xray_structure(
        crystal_symmetry=crystal.symmetry((*edges.tolist(), 90, 90, 90), "P 1")
    )
    structure.scattering_type_registry(table=SCATTERING_TABLE)
    density_xyz = flex.double(np.ascontiguousarray(density.T, dtype=np.float64))
    wanted = {"compute_cc_box": True, "compute_cc_volume": False, "compute_cc_peaks": False}
    cc = correlation.five_cc(density_xyz, structure, d_min=resolution, **wanted).result
    return *fsc_resolutions(density_xyz, structure, resolution), cc.cc_mask, cc.cc_box, q


def parse_entries():
    """(name, model, resolution in Å, before, after) of each entry; all files are there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words = ("NAME", "MODEL", "RESOLUTION", "BEFORE", "AFTER")
    parser.add_argument("--entry", nargs=5, metavar=words, action="append", required=True)
    entries = []
    for name, model, resolution, before, after in parser.parse_args().entry:
        for path in (model, before, after):
            if not Path(path).is_file():
                parser.error(f"{name}: {path} is not there or not a file")
        try:
            entries.append((name, model, float(resolution), before, after))
        except ValueError:
            parser.error(f"{name}: resolution {resolution!r} is not a number of Å")
    return entries


def print_row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    entries = parse_entries()
    print_row("entry", "map", *COLUMNS)
    print_row("---", "---", *("---:" for _ in COLUMNS))
    for name, model, resolution, before, after in entries:
        for kind, path in (("deposited", before), ("enhanced", after)):
            values = zip(score(path, model, resolution), COLUMNS.values(), strict=True)
            print_row(name, kind, *("–" if v is None else format(v, f) for v, f in values))


if __name__ == "__main__":
    main()
