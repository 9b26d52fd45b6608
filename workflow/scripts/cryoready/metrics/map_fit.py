"""A map laid on another of the same molecule, as a rigid body."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfftn, rfftn
from scipy.ndimage import (
    affine_transform,
    binary_dilation,
    gaussian_filter,
    map_coordinates,
    spline_filter,
)
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from cryoready.core.errors import CryoreadyError
from cryoready.core.fourier import frequency_radius
from cryoready.core.rigid import IDENTITY, RigidBody
from cryoready.core.volume import FloatArray, Grid, Vector, Volume
from cryoready.density.resample import resample, spaced_grid

SHIFT_LIMIT = 10.0  # Å
TURN_LIMIT = 20.0  # degrees
COARSE = 2.0  # the first fit is at this multiple of the resolution: a wider basin
#: Seen: up to 0.5 for other molecules; 0.57-0.9 for the same one in part or masked otherwise.
LEAST_CORRELATION = 0.6
MOST_POINTS = 20_000
MOST_STEPS = 50
AT_REST = np.zeros(6)  # rotation vector, shift
DERIVATIVE_STEPS = np.repeat([1e-4, 1e-2], 3)  # radians, Å
SPLINE_ORDER = 5


@dataclass(frozen=True)
class MapFit:
    """A map laid on another.

    Parameters
    ----------
    body
        from the moving map to the fixed one.
    correlation, correlation_before
        Pearson, where both maps have a molecule, at ``resolution``; after and before.
    resolution
        Å, of the low-pass.
    """

    body: RigidBody
    correlation: float
    correlation_before: float
    resolution: float


def refine_rigid(
    moving: Volume, fixed: Volume, start: RigidBody = IDENTITY, *, resolution: float = 7.0
) -> MapFit:
    """Fit ``moving`` into ``fixed`` by their correlation, within 10 Å and 20° of ``start``.

    Least squares between the two densities, each without its mean and of unit norm (2 - 2 CC), at
    a low-pass of 2 ``resolution`` and then of ``resolution`` (Å), where both have a molecule: one
    may hold a part of the other, or neighbours that the other lacks.

    Raises
    ------
    CryoreadyError
        if the correlation stays below 0.6.
    """
    blurred = _smooth(moving, COARSE * resolution), _smooth(fixed, COARSE * resolution)
    coarse, _ = _fit(_Misfit(*blurred, start, AT_REST), AT_REST)
    maps = _smooth(moving, resolution), _smooth(fixed, resolution)
    first, second = (_Misfit(*maps, start, motion) for motion in (AT_REST, coarse))
    fits = [(first, *_fit(first, AT_REST)), (second, *_fit(second, coarse))]
    misfit, motion, correlation = max(fits, key=lambda fit: fit[2])
    if correlation < LEAST_CORRELATION:
        raise CryoreadyError(
            f"the reference map does not fit: its correlation at {resolution:g} Å is at best "
            f"{correlation:.2f} (at least {LEAST_CORRELATION:g}) within {SHIFT_LIMIT:g} Å and "
            f"{TURN_LIMIT:g}° of where it lies: move it there, or give its reference_model"
        )
    return MapFit(misfit.body(motion), correlation, first.correlation(AT_REST), resolution)


def resample_rigid(volume: Volume, body: RigidBody, target: Grid) -> Volume:
    """``volume`` after the motion ``body``, on the grid ``target``; zero outside the volume.

    Spline interpolation of order 5: at 0.8 of the Nyquist frequency a map turned forth and back
    has an FSC of 0.998 with itself (order 3: 0.93). What a coarser target cannot hold is removed
    first.
    """
    data = volume.data
    coarsest = float(target.voxel_size.max())
    if coarsest > volume.voxel_size.min() * (1 + 1e-6):
        data = _cut_frequencies(volume, 1 / (2 * coarsest))
    back = body.inverse()
    matrix = back.rotation * target.voxel_size / volume.voxel_size[:, None]
    offset = (back.apply(target.origin[None])[0] - volume.origin) / volume.voxel_size
    resampled = affine_transform(
        data, matrix, offset, output_shape=target.shape, order=SPLINE_ORDER, mode="constant"
    )
    return Volume.on(target, resampled)


def _smooth(volume: Volume, resolution: float) -> Volume:
    """Low-pass by a Gaussian that falls to 1/e at 1/``resolution``, on a grid of a quarter of it.

    exp(-2π²σ²/R²) = 1/e for σ = R/(π√2).
    """
    sigma = resolution / (np.pi * np.sqrt(2)) / volume.voxel_size
    smooth = Volume.on(volume.grid, gaussian_filter(volume.data, sigma, mode="nearest"))
    return resample(smooth, spaced_grid(volume.grid, resolution / 4))


def _near_molecule(smooth: Volume) -> NDArray[np.bool_]:
    """(nz, ny, nx): the density above mean + 1 σ, and four voxels (one low-pass) around it."""
    inside = smooth.data > smooth.data.mean() + smooth.data.std()
    return np.asarray(binary_dilation(inside, iterations=4), dtype=np.bool_)


def _unit(values: Vector) -> Vector:
    """Without the mean, of norm 1."""
    centred = values - values.mean() if values.size else values
    return centred / max(float(np.linalg.norm(centred)), np.finfo(np.float64).tiny)


class _Misfit:
    """Differences between two low-passed densities as a function of a motion beyond ``start``.

    The motion is a rotation vector (radians) about the centre of the fixed map ``there`` and a
    shift (Å); the first one, ``motion``, decides at which points both maps have a molecule.
    """

    def __init__(self, here: Volume, there: Volume, start: RigidBody, motion: Vector) -> None:
        self.grid, self.start = here.grid, start
        self.centre = there.origin + there.voxel_size * (np.array(there.data.shape) - 1) / 2
        index = np.argwhere(_near_molecule(there))
        points = there.origin + index * there.voxel_size
        near = _near_molecule(here).astype(np.uint8)
        both = map_coordinates(near, self._index(points, motion), order=0) > 0
        index = np.random.default_rng(0).permutation(index[both])[:MOST_POINTS]
        self.points = there.origin + index * there.voxel_size
        self.target = _unit(there.data[tuple(index.T)].astype(np.float64))
        self.coefficients = spline_filter(here.data.astype(np.float64))

    def body(self, motion: Vector) -> RigidBody:
        """``start``, then the motion."""
        rotation = Rotation.from_rotvec(motion[:3]).as_matrix()
        shift = rotation @ (self.start.translation - self.centre) + self.centre + motion[3:]
        return RigidBody(rotation @ self.start.rotation, shift)

    def _index(self, points: Vector, motion: Vector) -> Vector:
        """(3, n) voxels of the moving map that the motion brings to ``points``."""
        coords = self.body(motion).inverse().apply(points)
        return np.asarray((coords - self.grid.origin) / self.grid.voxel_size).T

    def __call__(self, motion: Vector) -> Vector:
        """(n,) differences; their sum of squares is 2 - 2 CC."""
        index = self._index(self.points, motion)
        return _unit(map_coordinates(self.coefficients, index, prefilter=False)) - self.target

    def jacobian(self, motion: Vector) -> Vector:
        """(n, 6) central differences; scipy's own steps vanish with the motion."""
        steps = np.diag(DERIVATIVE_STEPS)
        return np.stack([(self(motion + s) - self(motion - s)) / (2 * s.sum()) for s in steps], 1)

    def correlation(self, motion: Vector) -> float:
        """CC after the motion."""
        return float((self(motion) + self.target) @ self.target)


def _fit(misfit: _Misfit, motion: Vector) -> tuple[Vector, float]:
    """The best motion near ``motion`` within the limits, and its correlation; 0: no overlap."""
    if not len(misfit.points):
        return motion, 0.0
    limits = np.repeat([np.deg2rad(TURN_LIMIT), SHIFT_LIMIT], 3)
    best = least_squares(
        misfit,
        motion,
        misfit.jacobian,
        bounds=(-limits, limits),
        x_scale=limits,
        max_nfev=MOST_STEPS,
    ).x
    return best, misfit.correlation(best)


def _cut_frequencies(volume: Volume, frequency: float) -> FloatArray:
    """The density without its Fourier coefficients beyond ``frequency`` (1/Å)."""
    radius = frequency_radius(volume.data.shape, volume.voxel_size)
    kept = rfftn(volume.data) * (radius <= frequency)
    return np.asarray(irfftn(kept, s=volume.data.shape), dtype=np.float32)
