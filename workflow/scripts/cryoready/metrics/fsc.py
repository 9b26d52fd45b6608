"""Fourier shell correlation as phenix.mtriage computes it, and the resolutions read off it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.fft
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from cryoready.core.volume import FloatArray, Grid, Vector
from cryoready.density.structure_factors import ComplexArray

LEAST = ((5.0, 500), (10.0, 250), (np.inf, 100))  # reflections of a bin that starts at d <= (Å)
WIDEST = 0.005  # Å
SMOOTHED_UP_TO = 15.0  # Å
FIT_BINS = 5  # on each side of the crossing
TRUSTED_SHIFT = 0.25  # Å, of the fitted crossing from the bin where the curve crosses


@dataclass(frozen=True)
class FscCurve:
    """Correlation against frequency, from low resolution to high.

    Parameters
    ----------
    frequency
        (m,) 1/Å, ascending.
    correlation
        (m,) -1 to 1.
    """

    frequency: Vector
    correlation: Vector

    def resolution(self, threshold: float) -> float | None:
        """Å where the curve first falls below ``threshold``; None if it never does.

        A quadratic through the bins around that place gives the crossing; where it has none nearby,
        the bin itself counts.
        """
        below = np.flatnonzero(self.correlation < threshold)
        if len(below) == 0:
            return None
        middle = below[0]
        own = 1 / float(self.frequency[middle])
        # the last bin never takes part, nor the last of the window: as in cctbx
        end = min(middle + FIT_BINS + 1, len(self.frequency) - 1)
        near = slice(max(middle - FIT_BINS, 0), end)
        if middle == 0 or end - near.start < 3:  # no crossing was seen, or too little of it
            return own
        frequency, centre = self.frequency[near], self.frequency[middle]
        fit = np.polynomial.Polynomial.fit(
            frequency - centre, self.correlation[near] - threshold, 2
        )
        roots = fit.trim(1e-9).roots()  # a straight line has one
        crossings = roots[np.isreal(roots)].real + centre
        fitted = 1 / crossings[crossings > 0]
        if len(fitted) == 0:
            return own
        nearest = float(fitted[np.abs(fitted - own).argmin()])
        # of two crossings the nearer one must be near, a single one among the bins of the fit
        single = len(fitted) == 1 and frequency[0] <= 1 / nearest <= frequency[-1]
        return nearest if single or abs(nearest - own) <= TRUSTED_SHIFT else own

    def table(self, name: str, mask: str) -> pd.DataFrame:
        """Rows of fsc.tsv: map, mask, frequency (1/Å), fsc."""
        return pd.DataFrame(
            {"map": name, "mask": mask, "frequency": self.frequency, "fsc": self.correlation}
        )

    def mean_inside(self, resolution: float) -> float | None:
        """Mean correlation of the shells with frequency up to 1/``resolution`` (Å)."""
        inside = self.correlation[self.frequency <= 1 / resolution]
        return float(inside.mean()) if np.isfinite(inside).any() else None


@dataclass(frozen=True, eq=False)
class Shells:
    """The reflections of a box, sorted from high resolution to low and cut into bins.

    One of each Friedel pair, up to the corner of the box, without 000 and without Nyquist
    frequencies.

    Parameters
    ----------
    order
        (n,) positions in a flattened `scipy.fft.rfftn` of the box.
    d
        (n,) spacing of each, Å, ascending.
    starts
        (m,) first reflection of each bin.
    weight
        (n,) of each in `d99`: cctbx counts the plane l = 0 half.
    """

    order: NDArray[np.int64]
    d: Vector
    starts: NDArray[np.int64]
    weight: FloatArray

    @classmethod
    def of(cls, grid: Grid) -> "Shells":
        """The reflections of a map on ``grid``."""
        z, y, x = (_frequencies(grid, k) for k in range(3))
        squared = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
        kept = np.isfinite(squared)
        kept[:, :, 0] &= (y > 0) | ((y == 0) & (z[:, None] > 0))
        positions = np.flatnonzero(kept)
        squared = squared.ravel()[positions]
        ranks = np.argsort(-squared)
        order, d = positions[ranks], 1 / np.sqrt(squared[ranks])
        plane = order < len(y) * len(x)
        weight = np.where(plane, np.float32(0.5), np.float32(1))
        return cls(order, d, _bin_starts(d), weight)

    def sums(self, values: NDArray[np.floating]) -> Vector:
        """Sum over each bin of one value a reflection, (n,) -> (m,)."""
        return np.asarray(np.add.reduceat(values, self.starts, dtype=np.float64))

    def pick(self, density: FloatArray) -> ComplexArray:
        """Fourier coefficients of a map of this box, (nz, ny, nx) -> (n,)."""
        return scipy.fft.rfftn(density).ravel()[self.order]


def fourier_shell_correlation(
    first: ComplexArray, second: ComplexArray, shells: Shells
) -> FscCurve:
    """FSC = Σ Re(F₁F₂*) / √(Σ|F₁|² Σ|F₂|²) in each bin (Harauz & van Heel 1986).

    Bins, smoothing (Savitzky-Golay over 21 bins up to 15 Å) and abscissa (mean d) are those of
    phenix.mtriage (Afonine et al. 2018, doi 10.1107/S2059798318009324).

    Parameters
    ----------
    first, second
        (n,) coefficients in the order of ``shells`` (`Shells.pick`).
    shells
        of the box of both.
    """
    cross = shells.sums((first * second.conj()).real)
    power = shells.sums(_power(first)) * shells.sums(_power(second))
    empty = np.full_like(cross, 0 if power.any() else np.nan)  # one of the maps is 0 everywhere
    correlation = np.divide(cross, np.sqrt(power), out=empty, where=power > 0)
    d = shells.sums(shells.d) / np.diff(np.append(shells.starts, len(shells.d)))
    if len(d) > 10:
        fine = d <= SMOOTHED_UP_TO
        window = 2 * 10 + 1
        smooth = savgol_filter(correlation[fine], window, 2, mode="mirror")
        correlation[fine] = np.clip(smooth, -1, 1)  # the parabola overshoots at steep ends
    return FscCurve(1 / d[::-1], correlation[::-1])


def d99(coefficients: ComplexArray, shells: Shells) -> float:
    """Resolution (Å) at which a map still correlates to 0.99 with itself.

    d grows from the finest spacing by 0.1 Å until what lies beyond matters, steps back by 0.2 Å
    and grows again by 0.01 Å (Afonine et al. 2018, doi 10.1107/S2059798318009324).
    """
    power = np.append(0, np.cumsum(_power(coefficients) * shells.weight, dtype=np.float64))

    def first_below(start: float, step: float) -> float:
        d = start + step * np.arange(1, int((shells.d[-1] - start) / step) + 2)
        kept = power[-1] - power[np.searchsorted(shells.d, d, side="right")]
        below = np.flatnonzero(np.sqrt(kept / power[-1]) < 0.99)
        return float(d[below[0]] if len(below) else d[-1])

    coarse = first_below(float(shells.d[0]), 0.1)
    return first_below(coarse - 0.2 - 0.01, 0.01)


def _power(coefficients: ComplexArray) -> FloatArray:
    """|F|² without the root of `numpy.abs`."""
    return coefficients.real**2 + coefficients.imag**2


def _frequencies(grid: Grid, axis: int) -> Vector:
    """1/Å along one axis of an rfftn; NaN at the Nyquist frequency of an even axis."""
    n = grid.shape[axis]
    spaced = np.fft.rfftfreq if axis == 2 else np.fft.fftfreq
    frequency = spaced(n, grid.voxel_size[axis])
    if n % 2 == 0:
        frequency[n // 2] = np.nan
    return frequency


def _bin_starts(d: Vector) -> NDArray[np.int64]:
    """First reflection of every bin of ascending ``d``; a short rest joins the last bin."""
    starts, first = [0], 0
    while True:
        least = next(count for limit, count in LEAST if d[first] <= limit)
        last = first + least - 1
        if last >= len(d):
            break
        first = last + (1 if d[last] - d[first] > WIDEST else 2)
        if len(d) - first < least:
            break
        starts.append(first)
    return np.array(starts)
