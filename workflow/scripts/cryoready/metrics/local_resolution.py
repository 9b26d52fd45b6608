"""Resolution around every point of a map, from the local agreement of its half-maps."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoready.core.errors import CryoreadyError
from cryoready.core.fourier import frequency_radius, shell_index
from cryoready.core.volume import FloatArray, Grid, Volume
from cryoready.density.masks import BoolArray
from cryoready.density.resample import resample, spaced_grid

POINTS_PER_WINDOW = 4
FWHM = np.sqrt(8 * np.log(2))  # of a Gaussian, in units of its σ
LEAST_POWER = 1e-6  # of the largest in the band: less is an empty window


def local_resolution(
    half_map_1: Volume,
    half_map_2: Volume,
    *,
    mask: BoolArray | None = None,
    window: float = 20.0,
    threshold: float = 0.143,
) -> Volume:
    """Local resolution: where the windowed FSC of the half-maps first falls below ``threshold``.

    The idea is that of Cardone, Heymann & Steven (2013, doi 10.1016/j.jsb.2013.08.002), turned
    round: they cut out a window and compare its Fourier shells; here each Fourier band is cut out
    and compared within Gaussian windows, FSC_b(x) = Σ w a_b b_b / √(Σ w a_b² Σ w b_b²). Window and
    band of a Gaussian are matched (σ_s = 1/(2πσ_x)), so neither is sharper than the other allows.
    A correlation below twice its standard error is none: coarser than about half a window,
    more than ``threshold`` is asked for (`least_correlation`).

    Parameters
    ----------
    half_map_1, half_map_2
        unfiltered, unmasked half-maps on one grid.
    mask
        (nz, ny, nx) voxels that count in the windows; all by default. It weights the bands, not
        the maps before the Fourier transform, so its edge adds no correlation.
    window
        Å, full width at half maximum.
    threshold
        of the FSC.

    Returns
    -------
    resolution in Å on the grid of the half-maps, finite everywhere, between twice the voxel size
    and the coarsest band, π·window/2.355; the latter also means "none" and "nothing of the mask
    in the window".

    Raises
    ------
    CryoreadyError
        if the half-maps have different grids or the window is too small for the voxels.
    """
    grid = half_map_1.grid
    _check(grid, half_map_2.grid, window)
    sigma = window / FWHM
    nyquist = 0.5 / float(grid.voxel_size.max())
    coarsest = 1 / (np.pi * sigma)
    width = coarsest / 2  # 1/(2πσ)
    bands = np.linspace(coarsest, nyquist, 1 + int(np.ceil((nyquist - coarsest) / width)))
    points = spaced_grid(grid, window / POINTS_PER_WINDOW)
    windows = [
        np.exp(-0.5 * ((points.axis(k)[:, None] - grid.axis(k)) / sigma) ** 2).astype(np.float32)
        for k in range(3)
    ]
    curves = np.stack(
        [
            _windowed_correlation(a, b, mask, windows)
            for a, b in _band_passed(half_map_1, half_map_2, bands, width)
        ]
    )
    limit = np.maximum(threshold, least_correlation(bands, sigma))
    frequency = first_crossing(bands, curves, limit)
    smooth = resample(Volume.on(points, frequency.astype(np.float32)), grid)
    return Volume.on(grid, 1 / np.clip(smooth.data, coarsest, nyquist, dtype=np.float32))


def least_correlation(frequency: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Two standard errors of the windowed correlation of pure noise, one per band.

    N = (4π)^1.5 σ³ · 4πs²·√(2π)/(2πσ) independent values: the volume of the window (∫w)²/∫w²
    times that of the band (∫|H|²)²/∫|H|⁴.

    Parameters
    ----------
    frequency
        (bands,) 1/Å.
    sigma
        of the window, Å.
    """
    independent = (4 * np.pi) ** 2.5 / np.sqrt(2 * np.pi) * (frequency * sigma) ** 2
    return np.asarray(2 / np.sqrt(independent))


def first_crossing(
    frequency: NDArray[np.float64], curves: FloatArray, limit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Frequency at which each curve first falls below ``limit``, by linear interpolation.

    Parameters
    ----------
    frequency, limit
        (bands,) ascending 1/Å, and what is asked for there.
    curves
        (bands, ...).

    Returns
    -------
    (...): the first frequency if a curve starts below, the last if it never falls below.
    """
    above = curves - limit.reshape(-1, *(1 for _ in curves.shape[1:]))
    below = above < 0
    after = np.where(below.any(axis=0), below.argmax(axis=0), len(frequency) - 1)
    before = np.maximum(after - 1, 0)
    high, low = (np.take_along_axis(above, k[None], axis=0)[0] for k in (before, after))
    drop = np.where(high > low, high - low, 1)
    share = np.where(low < 0, np.clip(high / drop, 0, 1), 1)
    return np.asarray(frequency[before] + share * (frequency[after] - frequency[before]))


def _check(grid: Grid, other: Grid, window: float) -> None:
    if not grid.same_as(other):
        raise CryoreadyError(
            f"the half-maps have different grids: {grid} and {other}; both must come from one "
            "reconstruction"
        )
    least = 8 * float(grid.voxel_size.max())
    if not window >= least:
        raise CryoreadyError(
            f"the window of local resolution is {window:g} Å, it must be at least 8 voxels "
            f"({least:g} Å)"
        )


def _band_passed(
    half_map_1: Volume, half_map_2: Volume, bands: NDArray[np.float64], width: float
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Both half-maps in one Gaussian band (σ = ``width``) after the other.

    Their spectra are made flat first: a steep one would fill each band from its low side.
    """
    shape = half_map_1.data.shape
    radius = frequency_radius(shape, half_map_1.voxel_size)
    extent = np.array(shape) * half_map_1.voxel_size
    shells = shell_index(radius, 1 / float(extent.max()))
    spectra = [_whitened(volume.data, shells) for volume in (half_map_1, half_map_2)]
    for centre in bands:
        band = np.exp(-0.5 * ((radius - np.float32(centre)) / np.float32(width)) ** 2)
        a, b = (fft.irfftn(spectrum * band, s=shape) for spectrum in spectra)
        yield a, b


def _whitened(data: FloatArray, shells: NDArray[np.int64]) -> NDArray[np.complex64]:
    """Fourier transform of ``data`` with mean power 1 in every shell and no mean."""
    spectrum = fft.rfftn(data)
    spectrum[0, 0, 0] = 0
    flat = shells.ravel()
    power = np.bincount(flat, np.abs(spectrum.ravel()) ** 2) / np.maximum(np.bincount(flat), 1)
    gain = np.divide(1, np.sqrt(power), out=np.zeros_like(power), where=power > 0)
    return np.asarray(spectrum * gain.astype(np.float32)[shells])


def _windowed_correlation(
    a: FloatArray,
    b: FloatArray,
    mask: BoolArray | None,
    windows: list[FloatArray],
) -> FloatArray:
    """Correlation of ``a`` and ``b`` in the window around each point; 0 where there is nothing.

    ``windows`` are the three factors of the windows, each (points, voxels) along one axis.
    """

    def window_sums(values: FloatArray) -> FloatArray:
        if mask is not None:
            values *= mask
        for k, window in enumerate(windows):
            values = np.moveaxis(np.tensordot(window, values, axes=(1, k)), 0, k)
        return values

    product = window_sums(a * b)
    norm = np.sqrt(window_sums(a * a) * window_sums(b * b))
    full = norm > LEAST_POWER * norm.max()
    return np.divide(product, norm, out=np.zeros_like(product), where=full)
