"""Local correlation against its definition written out, and fields read at atoms."""

import numpy as np
import pytest

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid, Volume
from cryoready.metrics.local_correlation import local_correlation, residue_values

GRIDS = [
    Grid((28, 28, 28), 1.0, 0.0),
    Grid((25, 32, 27), (1.0, 0.8, 1.3), (-5.0, 100.0, 7.3)),
]


def noise(grid, seed):
    values = np.random.default_rng(seed).standard_normal(grid.shape)
    return Volume.on(grid, values.astype(np.float32))


@pytest.mark.parametrize("grid", GRIDS)
def test_weighted_pearson_written_out(grid):
    a, b = noise(grid, 0), noise(grid, 1)
    b = Volume.on(grid, b.data + 0.5 * a.data)
    radius = 3.0
    values = local_correlation(a, b, radius=radius)
    for voxel in [(12, 14, 13), (13, 15, 12)]:
        axes = np.meshgrid(
            *(grid.axis(k) - grid.axis(k)[voxel[k]] for k in range(3)), indexing="ij", sparse=True
        )
        weight = 0.5 ** (sum(x**2 for x in axes) / radius**2)  # half at the radius
        x, y = (v.data - np.average(v.data, weights=weight) for v in (a, b))
        expected = (weight * x * y).sum() / np.sqrt((weight * x * x).sum() * (weight * y * y).sum())
        assert values[voxel] == pytest.approx(expected, abs=0.01)  # cut at 3 σ


@pytest.mark.parametrize("grid", GRIDS)
def test_linear_maps_of_each_other_correlate_fully(grid):
    a = noise(grid, 2)
    for slope, sign in ((1e-6, 1), (2e4, 1), (-3.0, -1)):
        b = Volume.on(grid, slope * a.data + 5 * slope)
        np.testing.assert_allclose(local_correlation(a, b, radius=3), sign, atol=1e-4)


def test_agreement_is_found_where_it_is():
    grid = Grid((60, 40, 40), 1.0, 0.0)
    a, b = noise(grid, 3), noise(grid, 4)
    b.data[:30] = a.data[:30]
    values = local_correlation(a, b, radius=3)
    assert values[:20].min() > 0.999
    assert np.abs(values[40:].mean()) < 0.02
    assert values[29:31].mean() == pytest.approx(0.5, abs=0.05)


def test_a_constant_region_has_no_correlation():
    grid = Grid((40, 30, 30), 1.0, 0.0)
    a, b = noise(grid, 5), noise(grid, 6)
    a.data[:25] = 1e3
    values = local_correlation(a, b, radius=2)
    assert not values[:16].any()  # 3 σ are 5.1 voxels
    assert values[30:].any()
    assert not local_correlation(a, Volume.on(grid, np.zeros(grid.shape)), radius=2).any()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Grid((28, 28, 27), 1.0, 0.0), "resample"),
        (Grid((28, 28, 28), 1.01, 0.0), "resample"),
        (Grid((28, 28, 28), 1.0, (0.0, 0.0, 9.0)), r"at \(9, 0, 0\) \(x, y, z\); resample"),
    ],
)
def test_maps_on_different_grids_are_refused(other, message):
    with pytest.raises(CryoreadyError, match=message):
        local_correlation(noise(GRIDS[0], 0), noise(other, 0), radius=3)


def test_radius_below_a_voxel_is_refused():
    a = noise(GRIDS[0], 0)
    with pytest.raises(CryoreadyError, match=r"is 0.5 Å, it must be at least one voxel, 1 Å"):
        local_correlation(a, a, radius=0.5)


def atoms_at(coords, residue_number):
    n = len(coords)
    text = np.full(n, "C")
    return Atoms(
        coords=np.asarray(coords, dtype=np.float64),
        element=text,
        b_iso=np.zeros(n),
        occupancy=np.ones(n),
        name=text,
        residue_name=text,
        chain=text,
        residue_number=np.asarray(residue_number),
        insertion_code=np.full(n, ""),
        altloc=np.full(n, ""),
        polymer=np.full(n, "protein"),
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_a_linear_field_is_read_exactly_at_the_centroid_of_a_residue(grid):
    """Trilinear interpolation reproduces z + 10 y + 100 x; its mean is its value at the mean."""
    z, y, x = np.meshgrid(*(grid.axis(k) for k in range(3)), indexing="ij", sparse=True)
    field = (z + 10 * y + 100 * x).astype(np.float32)
    rng = np.random.default_rng(7)
    extent = (np.array(grid.shape) - 1) * grid.voxel_size
    coords = grid.origin + rng.random((60, 3)) * extent
    number = np.arange(60) // 6
    values = residue_values(field, grid, atoms_at(coords, number))
    centroids = coords.reshape(10, 6, 3).mean(axis=1)
    np.testing.assert_allclose(values, centroids @ [1, 10, 100], rtol=1e-5)


def test_a_residue_that_leaves_the_grid_has_no_value():
    grid = GRIDS[1]
    first, last = grid.origin, np.array([grid.axis(k)[-1] for k in range(3)])
    coords = [first, last - 1e-6, last + np.array([0, 0, 0.1]), first + 1]
    values = residue_values(np.ones(grid.shape, np.float32), grid, atoms_at(coords, [1, 2, 3, 3]))
    np.testing.assert_array_equal(values, [1, 1, np.nan])
