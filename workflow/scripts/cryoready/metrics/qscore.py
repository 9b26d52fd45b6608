"""Q-score: how resolved each atom is (Pintilie et al. 2020, doi 10.1038/s41592-020-0731-1).

The values around an atom are correlated with a Gaussian of width σ, at points on shells around it
that are nearer to it than to its neighbours. Details as in MapQ 2.9.7 run in one process; with
several it resamples the map first and differs from itself.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from cryoready.core.volume import FloatArray, Vector, Volume

SIGMA = 0.6  # Å, of the publication; EMDB's validation reports take 0.4, which gives lower values
RADII = 0.1 * np.arange(1, 21)  # Å
POINTS = 8  # at least, on each shell
TRIES = 50  # sets of directions, each two larger than the one before
OWN = 0.9  # a point belongs to its atom if no other heavy atom is nearer than this × the radius
CHUNK_ATOMS = 2000


@dataclass(frozen=True, eq=False)
class Probes:
    """Where a map is looked at around each atom; one set serves all maps of a model.

    Parameters
    ----------
    points
        (m, 3) zyx, Å.
    atom
        (m,) number of the atom of each point, 0…n-1, every atom with its centre 8 times.
    radius
        (m,) Å, distance from the atom.
    """

    points: Vector
    atom: NDArray[np.int64]
    radius: Vector


def qscore(volume: Volume, probes: Probes, *, sigma: float = SIGMA) -> Vector:
    """Q of every atom: the correlation of the map at its probes with exp(-r²/2σ²), about the mean.

    Parameters
    ----------
    volume
        the map; linear interpolation, 0 outside.
    probes
        of the heavy atoms of the model (`place_probes`).
    sigma
        Å.

    Returns
    -------
    (n,) -1 to 1; 0 for an atom around which the map is constant.
    """
    place = (probes.points - volume.origin) / volume.voxel_size
    values = map_coordinates(volume.data, place.T, order=1, output=np.float64)
    scale = np.abs(values).max()
    values -= values.mean()  # against cancellation in the sums below
    ideal = np.exp(-0.5 * (probes.radius / sigma) ** 2)
    count = np.bincount(probes.atom)

    def mean(x: Vector) -> Vector:
        return np.asarray(np.bincount(probes.atom, x) / count)

    v, g = mean(values), mean(ideal)
    covariance = mean(values * ideal) - v * g
    power = (mean(values**2) - v**2) * (mean(ideal**2) - g**2)
    constant = power <= 1e-12 * scale**2
    return np.asarray(np.where(constant, 0, covariance / np.sqrt(np.where(constant, 1, power))))


def expected_q(resolution: float) -> float | None:
    """Q that maps of this resolution (Å) have on average, for σ = 0.6 Å (MapQ 2.9.7).

    None outside of 1-10 Å, where the polynomial was not fitted.
    """
    if not 1 <= resolution <= 10:
        return None
    coefficients = (1.5361860733, -0.4513945578, 0.0499875375, -0.0019064058)
    return float(np.polynomial.polynomial.polyval(resolution, coefficients))


def place_probes(coords: Vector) -> Probes:
    """Points around atoms for the Q-score.

    On each shell the first set of at least 8 directions counts of which at least 8 are clear of
    the other atoms; a shell without one is left out.

    Parameters
    ----------
    coords
        (n, 3) zyx, Å: all heavy atoms, alternative locations, waters and ligands included.
    """
    n = len(coords)
    numbers = [np.repeat(np.arange(n), POINTS)]
    offsets, radii = [np.zeros((n * POINTS, 3))], [np.zeros(n * POINTS)]
    tree = cKDTree(coords)
    for first in range(0, n, CHUNK_ATOMS):
        part = np.arange(first, min(first + CHUNK_ATOMS, n))
        neighbours = _neighbours(tree, coords, part)
        for radius in RADII:
            atom, direction = _clear_directions(neighbours, radius)
            numbers.append(part[atom])
            offsets.append(direction * radius)
            radii.append(np.full(len(atom), radius))
    atom = np.concatenate(numbers)
    return Probes(coords[atom] + np.concatenate(offsets), atom, np.concatenate(radii))


@cache
def directions(count: int) -> Vector:
    """(count, 3) unit vectors zyx on a spiral (Saff & Kuijlaars 1997, doi 10.1007/BF03024331)."""
    h = np.linspace(-1, 1, count)
    steps = np.zeros(count)
    steps[1:-1] = 3.6 / np.sqrt(count * (1 - h[1:-1] ** 2))
    theta = np.cumsum(steps)
    theta[-1] = 0
    across = np.sqrt(1 - h**2)
    return np.stack([h, across * np.sin(theta), across * np.cos(theta)], axis=1)


def _neighbours(tree: cKDTree, coords: Vector, part: NDArray[np.int64]) -> FloatArray:
    """(k, most, 3) offsets from each atom to those that can reach its shells, nearest first.

    Rows with fewer neighbours end in infinities.
    """
    reach = (1 + OWN) * RADII[-1]
    pairs = cKDTree(coords[part]).sparse_distance_matrix(tree, reach, output_type="coo_matrix")
    row, column, distance = pairs.row, pairs.col, pairs.data
    other = part[row] != column
    row, column, distance = row[other], column[other], distance[other]
    order = np.lexsort((distance, row))
    row, column = row[order], column[order]
    counts = np.bincount(row, minlength=len(part))
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = np.full((len(part), max(counts.max(), 1), 3), np.inf, dtype=np.float32)
    offsets[row, rank] = coords[column] - coords[part[row]]
    return offsets


def _clear_directions(neighbours: FloatArray, radius: float) -> tuple[NDArray[np.int64], Vector]:
    """Row of ``neighbours`` and direction of every point of one shell that is kept."""
    squared = (neighbours**2).sum(axis=2)
    near = squared < ((1 + OWN) * radius) ** 2
    vectors = np.where(near[:, :, None], neighbours, 0)
    # |r·u - d| < 0.9 r is u·d > limit
    limit = np.where(near, (squared + (1 - OWN**2) * radius**2) / (2 * radius), np.inf)
    width = int(near.sum(axis=1).max())
    vectors, limit = vectors[:, :width], limit[:, :width]
    waiting = np.arange(len(neighbours))
    atoms, kept = [], []
    for k in range(TRIES):
        units = directions(POINTS + 2 * k)
        along = vectors[waiting] @ units.T.astype(np.float32)
        clear = ~np.any(along > limit[waiting, :, None], axis=1)
        enough = clear.sum(axis=1) >= POINTS
        row, column = np.nonzero(clear[enough])
        atoms.append(waiting[enough][row])
        kept.append(units[column])
        waiting = waiting[~enough]
        if len(waiting) == 0:
            break
    return np.concatenate(atoms), np.concatenate(kept)
