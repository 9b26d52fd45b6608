"""The mask of a model against brute force, and its smooth form against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoready.core.atoms import Atoms
from cryoready.core.volume import Grid
from cryoready.density.model_mask import model_mask, smooth_mask, spheres

GRIDS = [
    Grid((24, 24, 24), 0.5, 0.0),
    Grid((25, 22, 31), (0.5, 0.6, 0.4), (-3.1, 40.0, 7.77)),
]
# cctbx 2025.11, cctbx.eltbx.van_der_waals_radii.vdw.table
RADII = {
    **{"H": 1.2, "C": 1.775, "N": 1.5, "O": 1.45, "S": 1.8, "P": 1.9, "MG": 1.73, "ZN": 1.39},
    **{"FE": 1.26, "CA": 1.95, "NA": 2.27, "CL": 1.75, "K": 2.75, "MN": 1.19, "SE": 1.9},
}


def atoms_at(coords, element):
    n = len(coords)
    text, zero = np.array([""] * n), np.zeros(n)
    columns = (text, text, text, np.arange(n), text, text, text)
    return Atoms(np.asarray(coords, dtype=float), np.asarray(element), zero, zero, *columns)


def random_atoms(grid, n):
    """Some of them outside of the box."""
    places = np.random.default_rng(0).uniform(-0.3, 1.3, (n, 3)) * grid.voxel_size * grid.shape
    return atoms_at(grid.origin + places, np.resize(list(RADII), n))


def centres(grid):
    """(nz, ny, nx, 3) positions of the voxels, relative to the first."""
    return np.moveaxis(np.indices(grid.shape), 0, -1) * grid.voxel_size


def brute_force(coords, radii, grid):
    """Voxels within a radius of an atom or of one of its images in the 26 cells around."""
    cell = grid.voxel_size * grid.shape
    inside = np.zeros(grid.shape, dtype=bool)
    for centre, radius in zip((coords - grid.origin) % cell, radii, strict=True):
        for turn in np.ndindex(3, 3, 3):
            offset = centres(grid) - centre - (np.array(turn) - 1) * cell
            inside |= (offset**2).sum(axis=-1) <= radius**2
    return inside


@pytest.mark.parametrize("grid", GRIDS)
def test_spheres(grid):
    coords = random_atoms(grid, 12).coords
    radii = np.linspace(0.3, 5.0, 12)
    np.testing.assert_array_equal(spheres(coords, radii, grid), brute_force(coords, radii, grid))


def test_volume_of_a_sphere():
    grid = Grid((60, 61, 59), (0.2, 0.21, 0.19), 0.0)
    inside = spheres(np.array([[6.03, 6.41, 5.6]]), np.array([4.0]), grid)
    volume = np.count_nonzero(inside) * np.prod(grid.voxel_size)
    assert volume == pytest.approx(4 / 3 * np.pi * 4.0**3, rel=2e-3)


def test_a_sphere_larger_than_the_box_fills_it():
    grid = GRIDS[1]
    assert spheres(grid.origin[None], np.array([20.0]), grid).all()


def test_many_atoms_in_small_chunks(monkeypatch):
    grid = GRIDS[0]
    atoms = random_atoms(grid, 40)
    expected = model_mask(atoms, grid)
    monkeypatch.setattr("cryoready.density.model_mask.CHUNK_ROWS", 300)
    np.testing.assert_array_equal(model_mask(atoms, grid), expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("extra", [0.0, 0.7])
def test_the_definition(grid, extra):
    """Within r of an atom; or within r + 1.1 Å with no voxel beyond all r + 1.1 nearer than 0.9."""
    atoms = random_atoms(grid, 15)
    radii = np.array([RADII[e] for e in atoms.element]) + extra
    solvent = ~brute_force(atoms.coords, radii + 1.1, grid)
    tree = cKDTree(centres(grid)[solvent], boxsize=grid.voxel_size * grid.shape)
    distance, _ = tree.query(centres(grid))
    expected = brute_force(atoms.coords, radii, grid) | (~solvent & (distance >= 0.9))
    assert 0.2 < expected.mean() < 0.95
    np.testing.assert_array_equal(model_mask(atoms, grid, extra=extra), expected)


def test_a_gap_between_atoms_is_closed():
    """Two carbons 4 Å apart leave no room for a solvent molecule, at 8 Å they do."""
    grid = Grid((20, 20, 40), 0.5, 0.0)
    for distance, closed in ((4.0, True), (8.0, False)):
        coords = [[5.0, 5.0, 10.0 - distance / 2], [5.0, 5.0, 10.0 + distance / 2]]
        assert model_mask(atoms_at(coords, ["C", "C"]), grid)[10, 10, 20] == closed


@pytest.mark.parametrize("grid", GRIDS)
def test_moving_by_voxels_moves_the_mask_round(grid):
    atoms = random_atoms(grid, 3)
    shift = np.array([5, -7, 11])
    moved = replace(atoms, coords=atoms.coords + shift * grid.voxel_size + 1e-9)
    expected = np.roll(model_mask(atoms, grid), shift, axis=(0, 1, 2))
    np.testing.assert_array_equal(model_mask(moved, grid), expected)


def test_smoothing_is_a_gaussian_of_the_radius():
    """Variances add: along each axis that of the sphere and that of the Gaussian."""
    grid = Grid((64, 61, 72), (1.0, 1.05, 0.9), (7.0, -5.0, 0.0))
    centre = grid.origin + grid.voxel_size * np.array(grid.shape) / 2
    atoms, radius = atoms_at(centre[None], ["C"]), 4.0
    sharp = model_mask(atoms, grid, extra=radius)
    smooth = smooth_mask(atoms, grid, radius=radius)
    assert smooth.mean() == pytest.approx(sharp.mean(), rel=1e-3)
    assert smooth.min() >= 0
    assert smooth.max() <= 1
    for axis in range(3):
        x = (grid.axis(axis) - centre[axis]) ** 2
        others = tuple(k for k in range(3) if k != axis)
        before, after = (
            np.average(x, weights=mask.sum(axis=others, dtype=float)) for mask in (sharp, smooth)
        )
        assert after - before == pytest.approx(radius**2, rel=0.02)


def test_smoothing_of_a_full_box_changes_nothing():
    grid = GRIDS[0]
    np.testing.assert_allclose(smooth_mask(random_atoms(grid, 40), grid, radius=8.0), 1, atol=1e-5)
