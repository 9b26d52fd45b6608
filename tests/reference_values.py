"""Our values of the entries with reference values, once each for all tests and the benchmark."""

import warnings
from functools import cache
from pathlib import Path

import pandas as pd

from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.qscore import qscore
from cryoready.metrics.score import MASK_RADIUS_RATIO, Model, place, score

TESTS = Path(__file__).parent
REFERENCE = TESTS / "data" / "reference"
EMBEDDED = TESTS.parent / "resources" / "EMD-3488"
VALUES = pd.read_csv(REFERENCE / "values.tsv", sep="\t", index_col="name")

FSC = [f"d_fsc_model_{t}_{mask}" for t in ("05", "0143") for mask in ("masked", "unmasked")]
CC = [f"cc_{region}" for region in ("mask", "volume", "peaks", "box")]
Q = ["q_mean", "q_mean_protein", "q_mean_sigma0.4"]
#: Where a resolution cannot be read off to 0.02 Å, and how far the two curves are apart there.
ILL_CONDITIONED = {
    ("EMD-20755", "d_fsc_model_05_masked"): 0.002,
    ("EMD-1044", "d_fsc_model_0143_masked"): 0.002,
    ("EMD-1461-A", "d_fsc_model_05_unmasked"): 0.02,
}


def tolerance(metric: str, value: float) -> float:
    """How far from the reference ``value`` we may be."""
    if metric in FSC:
        return 0.02 if value <= 8 else 0.005 * value
    return 1e-3 if metric == "d99_unmasked" else 0.005 if metric in CC else 1e-4


def read_pair(name: str, folder: Path | None):
    """Map and model of an entry of ``folder``, the shared data; the embedded one needs none."""
    if name == EMBEDDED.name:
        return read_map(EMBEDDED / "emd_3488.map.gz"), read_model(EMBEDDED / "5ni1.pdb.gz")
    (model,) = [p for p in (folder / "maps").glob(f"{name}.*") if ".map" not in p.name]
    with warnings.catch_warnings():  # an old header; a voxel of 1 Å, which is right here
        warnings.simplefilter("ignore", UserWarning)
        return read_map(folder / "maps" / f"{name}.map.gz"), read_model(model)


@cache
def computed(name: str, folder: Path | None):
    """Row of all metrics (as `VALUES` has them), FSC curves and Q of every atom."""
    volume, atoms = read_pair(name, folder)
    resolution = float(VALUES.resolution_A[name])
    model = Model.of(atoms)
    radius = MASK_RADIUS_RATIO * resolution
    placed = place(model, volume.grid, resolution=resolution, mask_radius=radius)
    scores = score(volume, placed, sigma=0.6, local_radius=6.0)
    at_04 = qscore(volume, model.probes, sigma=0.4).mean()
    return {**scores.row, "q_mean_sigma0.4": float(at_04)}, scores.curves, scores.q


def reference_curve(name: str, mask: str) -> pd.DataFrame:
    """FSC curve of cctbx: ``frequency`` (1/Å) and ``fsc``."""
    return pd.read_csv(REFERENCE / "curves" / f"{name}_{mask}.tsv", sep="\t")
