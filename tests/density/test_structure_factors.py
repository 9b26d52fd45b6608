"""Structure factors against direct summation over the atoms, and the density they make."""

from dataclasses import replace

import numpy as np
import pytest

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid
from cryoready.density.structure_factors import model_density, structure_factors
from direct_summation import direct_summation, frequencies

GRIDS = [
    Grid((24, 24, 24), 1.0, 0.0),
    Grid((21, 27, 23), 1.3, (-13.3, 7.1, 101.2)),
    Grid((24, 31, 20), (1.0, 1.1, 0.95), (5.5, -60.0, 0.25)),
    Grid((16, 18, 20), 3.0, (0.0, 0.0, -7.0)),
]
ELEMENTS = ["C", "N", "O", "S", "P", "H", "ZN", "D"]


def some_atoms(grid, b_iso, *, n=16, seed=0):
    """Atoms of many elements anywhere in the box."""
    rng = np.random.default_rng(seed)
    coords = grid.origin + rng.uniform(0, 1, (n, 3)) * grid.voxel_size * grid.shape
    text = np.array([""] * n)
    element = np.resize(ELEMENTS, n)
    occupancy = rng.uniform(0.2, 1, n)
    number = np.arange(n)
    b_iso = np.resize(np.asarray(b_iso, dtype=float), n)
    columns = (text, text, text, number, text, text, text)
    return Atoms(coords, element, b_iso, occupancy, *columns)


def with_displacements(atoms, *, seed=1):
    """Every other atom displaced along random axes, by 0.1-1 Å."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(len(atoms), 3, 3)))
    u = axes * rng.uniform(0.01, 1, (len(atoms), 1, 3)) @ np.swapaxes(axes, 1, 2)
    u[::2] = 0
    return replace(atoms, u_aniso=u)


def unambiguous(grid):
    """Flat positions of all coefficients below the Nyquist frequency of each axis."""
    nz, ny, nx = grid.shape
    s = frequencies(grid, np.arange(nz * ny * (nx // 2 + 1)))
    return np.flatnonzero((np.abs(s) * grid.voxel_size < 0.5 - 1e-9).all(axis=1))


def deviation(atoms, grid):
    """Error of 2000 random coefficients up to the corner: largest of ten ranges of |s|, of F there.

    Each is a root mean square, for F falls by orders of magnitude and has zeros.
    """
    chosen = np.random.default_rng(2).choice(unambiguous(grid), 2000)
    s = frequencies(grid, chosen)
    expected = direct_summation(atoms, s, grid.origin)
    error = structure_factors(atoms, grid).ravel()[chosen] - expected
    ranges = np.argsort((s**2).sum(axis=1)).reshape(10, 200)
    return max(np.linalg.norm(error[k]) / np.linalg.norm(expected[k]) for k in ranges)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("b_iso", [-20.0, 0.0, 20.0, 300.0])
def test_direct_summation(grid, b_iso):
    assert deviation(some_atoms(grid, b_iso), grid) < 0.007


@pytest.mark.parametrize("grid", GRIDS)
def test_sharp_and_wide_atoms_together(grid):
    assert deviation(some_atoms(grid, (0, 5, 30, 120, 500)), grid) < 0.015


@pytest.mark.parametrize("grid", GRIDS)
def test_anisotropic_displacements(grid):
    """exp(-2π² sᵀUs); an atom without U keeps its B."""
    assert deviation(with_displacements(some_atoms(grid, 40.0)), grid) < 0.03


def test_the_box_is_a_period():
    """Atoms outside of the box are those inside; moving box and atoms together changes nothing."""
    grid = GRIDS[2]
    atoms = with_displacements(some_atoms(grid, 30.0))
    expected = structure_factors(atoms, grid)
    turns = np.random.default_rng(3).integers(-2, 3, (len(atoms), 3))
    wrapped = replace(atoms, coords=atoms.coords + turns * grid.voxel_size * grid.shape)
    moved = replace(atoms, coords=atoms.coords + 1000.5)
    far = Grid(grid.shape, grid.voxel_size, grid.origin + 1000.5)
    for got in (structure_factors(wrapped, grid), structure_factors(moved, far)):
        np.testing.assert_allclose(got, expected, atol=1e-4 * abs(expected).max())


def test_conformers_add_up():
    grid = GRIDS[1]
    both = some_atoms(grid, (20, 40))
    parts = [both.take(np.arange(16) % 2 == k) for k in range(2)]
    total = sum(structure_factors(part, grid) for part in parts)
    np.testing.assert_allclose(total, structure_factors(both, grid), atol=0.003)


def test_the_first_coefficient_is_the_weight():
    """F(000) = Σ occupancy · f(0), f(0) = 2.5107 Å for carbon (sum of its five amplitudes)."""
    atoms = replace(some_atoms(GRIDS[0], 50.0), element=np.full(16, "C"))
    expected = 2.5107 * atoms.occupancy.sum()
    assert structure_factors(atoms, GRIDS[0])[0, 0, 0] == pytest.approx(expected, rel=1e-3)


def test_nothing_at_the_nyquist_frequency():
    grid = GRIDS[2]  # axes of 24, 31, 20 voxels
    factors = structure_factors(some_atoms(grid, 5.0), grid)
    assert not factors[12].any()
    assert not factors[:, :, 10].any()
    assert factors[:12, :, :10].all()


def test_unknown_element():
    atoms = replace(some_atoms(GRIDS[0], 20.0), element=np.full(16, "X"))
    with pytest.raises(CryoreadyError, match="16 atoms of no known element"):
        structure_factors(atoms, GRIDS[0])


@pytest.mark.parametrize("grid", [Grid((10, 12, 11), (1.0, 1.1, 0.9), (3.0, -8.0, 0.4))])
def test_density_is_the_inverse_sum(grid):
    """ρ(x) = 1/V Σ F(s) exp(2πi s·x) over 0 < |s| < 1/d, both Friedel mates."""
    atoms = some_atoms(grid, 25.0)
    s = frequencies(grid, unambiguous(grid))
    radius = np.linalg.norm(s, axis=1)
    s = s[(radius > 0) & (radius < 1 / 3.0)]
    twice = np.where(s[:, 2] > 0, 2, 1)  # the plane x = 0 holds both mates
    x = np.stack(np.meshgrid(*(grid.axis(k) for k in range(3)), indexing="ij"), axis=-1)
    waves = np.exp(2j * np.pi * (x - grid.origin) @ s.T)
    expected = (waves @ (twice * direct_summation(atoms, s, grid.origin))).real
    expected /= np.prod(grid.voxel_size * grid.shape)
    got = model_density(structure_factors(atoms, grid), grid, resolution=3.0)
    np.testing.assert_allclose(got, expected, atol=1e-3 * expected.max())


def test_density_has_no_mean_and_no_detail_beyond_the_resolution():
    grid = GRIDS[2]
    density = model_density(structure_factors(some_atoms(grid, 10.0), grid), grid, resolution=4.0)
    assert density.dtype == np.float32
    assert abs(density.mean()) < 1e-6 * density.max()
    spectrum = abs(np.fft.rfftn(density)).ravel()
    radius = np.linalg.norm(frequencies(grid, np.arange(spectrum.size)), axis=1)
    assert spectrum[radius >= 1 / 4.0].max() < 1e-5 * spectrum.max()
    assert np.median(spectrum[(radius > 0) & (radius < 1 / 4.0)]) > 1e-2 * spectrum.max()
