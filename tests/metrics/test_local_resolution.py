"""Local resolution of half-maps whose local FSC is known, because it was put in.

In a region of FSC F(s), each half-map is √F · signal + √(1-F) · noise, all white: their correlation
at s is F. F is a logistic fall that crosses 0.143 at the resolution of the region.
"""

import numpy as np
import pytest
from scipy import fft

from cryoready.core.errors import CryoreadyError
from cryoready.core.fourier import frequency_radius, shell_index
from cryoready.core.volume import Grid, Volume
from cryoready.metrics.local_resolution import (
    first_crossing,
    least_correlation,
    local_resolution,
)

CUBE = Grid((72, 72, 72), 1.0, 0.0)
WINDOW = 20.0
COARSEST = np.pi * WINDOW / np.sqrt(8 * np.log(2))


def logistic_fsc(radius, resolution, slope):
    middle = 1 / resolution - slope * np.log(1 / 0.143 - 1)
    return 1 / (1 + np.exp(np.clip((radius - middle) / slope, -30, 30)))


def half_maps(grid, regions, *, slope=0.02, b_factor=0.0, seed=0):
    """Half-maps with each (mask, resolution in Å or None for pure noise) of ``regions``."""
    rng = np.random.default_rng(seed)
    radius = frequency_radius(grid.shape, grid.voxel_size)
    signal, *noises = (fft.rfftn(rng.standard_normal(grid.shape)) for _ in range(3))
    halves = []
    for noise in noises:
        data = np.zeros(grid.shape)
        for mask, resolution in regions:
            fsc = 0 if resolution is None else logistic_fsc(radius, resolution, slope)
            mixed = np.sqrt(fsc) * signal + np.sqrt(1 - fsc) * noise
            data[mask] = fft.irfftn(mixed, s=grid.shape)[mask]
        blurred = fft.rfftn(data) * np.exp(-b_factor * radius**2 / 4)
        halves.append(Volume.on(grid, fft.irfftn(blurred, s=grid.shape).astype(np.float32)))
    return halves


def everywhere(grid):
    return np.ones(grid.shape, dtype=bool)


def distance(grid, centre):
    axes = np.meshgrid(*(grid.axis(k) for k in range(3)), indexing="ij", sparse=True)
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)))


@pytest.mark.parametrize(
    ("shape", "voxel_size", "axis"),
    [
        ((112, 64, 72), 1.0, 0),
        ((65, 63, 97), (1.0, 1.1, 1.2), 2),
    ],
)
@pytest.mark.parametrize("b_factor", [0.0, 200.0])
def test_two_regions_have_the_resolutions_they_were_made_with(shape, voxel_size, axis, b_factor):
    grid = Grid(shape, voxel_size, (-30.0, 12.5, 100.0))
    share = np.moveaxis(
        np.broadcast_to(np.arange(shape[axis]) / shape[axis], np.roll(shape, 2 - axis)), 2, axis
    )
    near = np.broadcast_to(share < 0.5, shape)
    halves = half_maps(grid, [(near, 3.5), (~near, 7.0)], b_factor=b_factor)
    local = local_resolution(*halves, window=WINDOW)
    assert local.grid.shape == grid.shape
    np.testing.assert_array_equal(local.origin, grid.origin)
    for middle, resolution in ((0.25, 3.5), (0.75, 7.0)):
        interior = local.data[np.abs(share - middle) < 0.06]
        assert np.median(interior) == pytest.approx(resolution, rel=0.08)
        assert np.percentile(interior, [5, 95]) == pytest.approx(resolution, rel=0.2)


def test_uniform_half_maps_are_flat_at_their_global_fsc():
    a, b = half_maps(CUBE, [(everywhere(CUBE), 4.0)])
    local = local_resolution(a, b, window=WINDOW).data
    assert np.median(local) == pytest.approx(global_resolution(a, b), rel=0.03)
    assert np.std(local) < 0.04 * np.mean(local)


def global_resolution(a, b):
    """1/s of the first shell of 0.02 1/Å with FSC < 0.143, interpolated."""
    f, g = fft.rfftn(a.data), fft.rfftn(b.data)
    shells = shell_index(frequency_radius(a.data.shape, a.voxel_size), 0.02).ravel()
    cross, power_f, power_g = (
        np.bincount(shells, values.ravel())
        for values in ((f * g.conj()).real, np.abs(f) ** 2, np.abs(g) ** 2)
    )
    fsc = cross / np.sqrt(power_f * power_g)
    below = int(np.argmax(fsc < 0.143))
    part = (fsc[below - 1] - 0.143) / (fsc[below - 1] - fsc[below])
    return 1 / (0.02 * (below - 0.5 + part))


@pytest.mark.parametrize("voxel_size", [1.3, (1.0, 1.2, 1.1)])
def test_identical_half_maps_agree_to_nyquist(voxel_size):
    grid = Grid((40, 41, 50), voxel_size, 0.0)
    a, _ = half_maps(grid, [(everywhere(grid), 4.0)])
    local = local_resolution(a, a).data
    np.testing.assert_allclose(local, 2 * np.max(voxel_size), rtol=1e-5)


def test_noise_has_no_resolution():
    local = local_resolution(*half_maps(CUBE, [(everywhere(CUBE), None)]), window=WINDOW).data
    assert np.isfinite(local).all()
    assert local.max() == pytest.approx(COARSEST, rel=1e-3)
    assert np.mean(local > 0.95 * COARSEST) > 0.9
    assert local.min() > 10


def test_standard_error_of_the_correlation_of_noise():
    """1/√N of 24 independent half-map pairs at the centre of the box, where N was derived."""
    sigma = WINDOW / np.sqrt(8 * np.log(2))
    frequency = np.array([0.1, 0.2])
    grid = Grid((48, 48, 48), 1.0, 0.0)
    radius = frequency_radius(grid.shape, grid.voxel_size)
    weight = np.exp(-0.5 * (distance(grid, (24, 24, 24)) / sigma) ** 2)
    rng = np.random.default_rng(3)
    found = []
    for _ in range(24):
        spectra = [fft.rfftn(rng.standard_normal(grid.shape)) for _ in range(2)]
        for s in frequency:
            band = np.exp(-0.5 * ((radius - s) * 2 * np.pi * sigma) ** 2)
            a, b = (fft.irfftn(f * band, s=grid.shape) for f in spectra)
            products, squares = weight * a * b, (weight * a * a, weight * b * b)
            found.append(products.sum() / np.sqrt(squares[0].sum() * squares[1].sum()))
    error = np.std(np.reshape(found, (-1, 2)), axis=0)
    np.testing.assert_allclose(error, least_correlation(frequency, sigma) / 2, rtol=0.35)


def test_mask_keeps_solvent_out_of_the_windows():
    particle = distance(CUBE, (36.0, 36.0, 36.0)) < 20
    halves = half_maps(CUBE, [(particle, 4.0), (~particle, None)])
    surface = particle & (distance(CUBE, (36.0, 36.0, 36.0)) > 17)
    diluted = np.median(local_resolution(*halves, window=WINDOW).data[surface])
    masked = local_resolution(*halves, window=WINDOW, mask=particle).data
    assert np.median(masked[surface]) == pytest.approx(4.0, rel=0.05)
    assert diluted > 1.02 * np.median(masked[surface])
    assert np.isfinite(masked).all()


def test_nothing_in_the_window_is_no_resolution():
    grid = Grid((120, 40, 40), 1.0, 0.0)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[:20] = True
    local = local_resolution(*half_maps(grid, [(everywhere(grid), 4.0)]), window=12.0, mask=mask)
    coarsest = np.pi * 12.0 / np.sqrt(8 * np.log(2))
    np.testing.assert_allclose(local.data[80:], coarsest, rtol=1e-3)


def test_scale_and_offset_of_a_half_map_do_not_matter():
    a, b = half_maps(CUBE, [(everywhere(CUBE), 5.0)])
    changed = Volume.on(b.grid, 7 * b.data + 3)
    np.testing.assert_allclose(
        local_resolution(a, changed).data, local_resolution(a, b).data, rtol=1e-3
    )


def test_stricter_threshold_gives_the_resolution_of_its_own_crossing():
    halves = half_maps(CUBE, [(everywhere(CUBE), 4.0)])
    local = local_resolution(*halves, window=WINDOW, threshold=0.5).data
    s_half = 1 / 4.0 - 0.02 * np.log(1 / 0.143 - 1)
    assert np.median(local) == pytest.approx(1 / s_half, rel=0.05)


def test_first_crossing_is_the_first_and_interpolated():
    frequency = np.array([0.1, 0.2, 0.3, 0.4])
    curves = np.array(
        [
            [0.9, 0.6, 0.1, 0.8],  # falls, rises again
            [0.9, 0.8, 0.7, 0.6],  # never
            [0.1, 0.9, 0.9, 0.9],  # starts below
            [0.9, 0.9, 0.9, 0.3],  # in the last interval
        ]
    ).T
    limit = np.array([0.5, 0.5, 0.2, 0.2])
    limit_everywhere = np.full(4, 0.5)
    np.testing.assert_allclose(
        first_crossing(frequency, curves, limit_everywhere), [0.22, 0.4, 0.1, 0.4 - 0.1 / 3]
    )
    # the limit falls from 0.5 to 0.2 where the first curve falls from 0.6 to 0.1
    np.testing.assert_allclose(first_crossing(frequency, curves, limit)[0], 0.25)


def test_half_maps_on_different_grids_are_refused():
    a, b = Volume(np.zeros((9, 9, 9)), 1.0, 0.0), Volume(np.zeros((9, 9, 9)), 1.1, 0.0)
    with pytest.raises(
        CryoreadyError, match=r"different grids: .*1×1×1 Å.*1\.1×1\.1×1\.1 Å.*reconstruction$"
    ):
        local_resolution(a, b)


def test_window_of_a_few_voxels_is_refused():
    a, b = half_maps(CUBE, [(everywhere(CUBE), 4.0)])
    with pytest.raises(CryoreadyError, match=r"is 5 Å, it must be at least 8 voxels \(8 Å\)"):
        local_resolution(a, b, window=5.0)
