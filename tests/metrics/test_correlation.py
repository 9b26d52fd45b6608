"""Real-space correlation: what it does not depend on, and brute force."""

import numpy as np
import pytest

from cryoready.core.volume import Grid
from cryoready.metrics.correlation import group_correlation, map_model_correlation, pearson

GRIDS = [
    Grid((20, 20, 20), 1.0, 0.0),
    Grid((21, 17, 24), (1.0, 1.3, 0.8), (-5.0, 300.0, 7.3)),
]
REGIONS = ("mask", "volume", "peaks", "box")


def maps(grid, seed=0):
    """A map, a model and the voxels of the model, unrelated to each other."""
    rng = np.random.default_rng(seed)
    density, model = rng.normal(size=(2, *grid.shape)).astype(np.float32)
    return density, model, rng.uniform(size=grid.shape) < 0.2


def values(correlation):
    return [getattr(correlation, region) for region in REGIONS]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (250, 3), (0.01, -5)])
def test_a_scaled_model_is_the_model(grid, scale, offset):
    _, model, inside = maps(grid)
    correlation = map_model_correlation(scale * model + offset, model, inside)
    assert values(correlation) == pytest.approx([1, 1, 1, 1], abs=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_model_turned_over(grid):
    _, model, inside = maps(grid)
    correlation = map_model_correlation(-model, model, inside)
    assert values(correlation) == pytest.approx([-1, -1, -1, -1], abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_regions(grid):
    """Sorted lists and `numpy.corrcoef`: the n highest of the model, those and of the map."""
    density, model, inside = maps(grid)
    n = inside.sum()
    volume, high = (x >= np.sort(x, axis=None)[-1 - n] for x in (model, density))
    expected = [
        np.corrcoef(density[region], model[region])[0, 1]
        for region in (inside, volume, volume | high, np.ones(grid.shape, dtype=bool))
    ]
    got = map_model_correlation(density, model, inside)
    assert values(got) == pytest.approx(expected, abs=1e-6)


def test_scale_and_offset_of_the_map_do_not_matter():
    density, model, inside = maps(GRIDS[0])
    expected = values(map_model_correlation(density, model, inside))
    got = values(map_model_correlation(40 * density - 7, model, inside))
    assert got == pytest.approx(expected, abs=1e-5)


def test_noise_added():
    """Correlation with signal + noise of k times its power: 1/√(1 + k)."""
    grid = Grid((48, 48, 48), 1.0, 0.0)
    noise, model, inside = maps(grid)
    for k in (0.25, 1.0, 4.0):
        got = map_model_correlation(model + np.sqrt(k) * noise, model, inside)
        assert got.box == pytest.approx((1 + k) ** -0.5, abs=0.01)
        assert got.mask == pytest.approx((1 + k) ** -0.5, abs=0.02)


@pytest.mark.parametrize("level", [0.0, 0.1, -1234.567])
def test_no_correlation_with_a_constant(level):
    density, model, inside = maps(GRIDS[1])
    density[inside] = level
    correlation = map_model_correlation(density, model, inside)
    assert correlation.mask is None
    assert correlation.box is not None
    assert pearson(np.full(1000, level, np.float32), model.ravel()[:1000]) is None


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_values(n):
    assert pearson(np.ones(n, np.float32), np.ones(n, np.float32)) is None


def test_a_mask_of_everything_or_nothing():
    density, model, _ = maps(GRIDS[0])
    everything = map_model_correlation(density, model, np.ones(density.shape, dtype=bool))
    assert values(everything) == pytest.approx([everything.box] * 4, abs=1e-6)
    nothing = map_model_correlation(density, model, np.zeros(density.shape, dtype=bool))
    assert nothing.mask is None
    assert nothing.volume is None


def residues(grid, n=30, m=7):
    """Atoms in and around the box, in residues that are not in order."""
    rng = np.random.default_rng(4)
    places = rng.uniform(-0.2, 1.2, (n, 3)) * grid.voxel_size * grid.shape
    return grid.origin + places, rng.permutation(np.resize(np.arange(m), n))


def one_by_one(density, model, grid, coords, group, radius):
    """The definition, a loop over residues, each against all voxels."""
    axes = np.meshgrid(*(grid.axis(k) for k in range(3)), indexing="ij")
    voxels = np.stack(axes, axis=-1)
    result = []
    for number in range(group.max() + 1):
        near = np.zeros(grid.shape, dtype=bool)
        for centre in coords[group == number]:
            near |= ((voxels - centre) ** 2).sum(axis=-1) <= radius**2
        result.append(np.corrcoef(density[near], model[near])[0, 1])
    return result


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("radius", [3.0, 4.7])
def test_residues_one_by_one(grid, radius):
    density, model, _ = maps(grid)
    coords, group = residues(grid)
    expected = one_by_one(density, model, grid, coords, group, radius)
    got = group_correlation([density, -density], model, grid, coords, group, radius=radius)
    np.testing.assert_allclose(got, [expected, np.negative(expected)], atol=1e-6)


@pytest.mark.parametrize("size", [1, 5000, 20_000])
def test_chunks_do_not_matter(monkeypatch, size):
    grid = GRIDS[1]
    density, model, _ = maps(grid)
    around = (grid, *residues(grid))
    expected = group_correlation([density], model, *around, radius=3.0)
    monkeypatch.setattr("cryoready.metrics.correlation.CHUNK_VOXELS", size)
    np.testing.assert_allclose(group_correlation([density], model, *around, radius=3.0), expected)


@pytest.mark.parametrize("level", [0.0, 0.1, -1234.567])
def test_a_residue_without_variance_has_none(level):
    """One outside of the box, one where the map is constant, one as it should be."""
    grid = GRIDS[0]
    density, model, _ = maps(grid)
    density[:10] = level
    coords = np.array([[500.0, 0, 0], [4.0, 10, 10], [15.0, 10, 10]])
    (got,) = group_correlation([density], model, grid, coords, np.arange(3), radius=3.0)
    assert np.isnan(got).tolist() == [True, True, False]
