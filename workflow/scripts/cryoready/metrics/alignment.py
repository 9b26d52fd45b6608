"""Rigid-body alignment of a reference structure or map, before it is compared with a map."""

from dataclasses import dataclass, replace

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
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.fourier import frequency_radius
from cryoready.core.residues import residue_groups
from cryoready.core.volume import FloatArray, Grid, Vector, Volume
from cryoready.density.resample import resample, spaced_grid
from cryoready.files.sequences import align_sequences

CLOSE = 3.0  # Å between superposed CA or P that match
LEAST_MATCHED = 20  # residues
LEAST_EQUAL, LEAST_SHARE = 12, 0.35  # equal residues that coincide; of all that are equal
MOST_SEEDS = 64  # chain pairs tried, those with most equal residues first
ROUNDS = 30

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

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RigidBody:
    """The motion x -> rotation · x + translation.

    Parameters
    ----------
    rotation
        (3, 3), acts on zyx column vectors; determinant +1.
    translation
        (3,) zyx, Å.
    """

    rotation: Vector
    translation: Vector

    def apply(self, coords: Vector) -> Vector:
        """``coords`` (n, 3) zyx, Å, after the motion."""
        return coords @ self.rotation.T + self.translation

    def inverse(self) -> "RigidBody":
        """The motion that undoes this one."""
        return RigidBody(self.rotation.T, -self.rotation.T @ self.translation)


IDENTITY = RigidBody(np.eye(3), np.zeros(3))


@dataclass(frozen=True)
class Superposition:
    """A structure laid on another.

    Parameters
    ----------
    body
        from the moving structure to the fixed one.
    matched
        residues whose CA or P lie within 3 Å of each other.
    identity
        share of equal residue names among them.
    rmsd
        of their CA or P, Å.
    """

    body: RigidBody
    matched: int
    identity: float
    rmsd: float


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


def moved(atoms: Atoms, body: RigidBody) -> Atoms:
    """``atoms`` after the motion ``body``, their anisotropic displacements turned with them."""
    turned = body.rotation @ atoms.u_aniso @ body.rotation.T
    return replace(atoms, coords=body.apply(atoms.coords), u_aniso=turned)


def superpose(moving: Atoms, fixed: Atoms) -> Superposition:
    """Lay ``moving`` on ``fixed`` by the CA and P of what they have in common.

    Names of chains and residue numbers need not agree, and either may have more chains: pairs of
    chains are aligned by sequence and superposed without their outliers; the pair after which
    most residues of all chains coincide is taken, and refined over those residues.

    Raises
    ------
    CryoreadyError
        if the two have no molecule in common.
    """
    here, there = _trace(moving), _trace(fixed)
    pairs = _chain_pairs(here, there)
    if not pairs:
        raise CryoreadyError(
            f"the reference model has {len(here)} CA or P atoms and the model {len(there)}, but no "
            f"two chains of one kind with {LEAST_MATCHED} residues to align: give another "
            "reference_model"
        )
    bodies = [_core(here.coords[a], there.coords[b]) for a, b in pairs]
    best = int(np.argmax([_score(body, here, there) for body in bodies]))
    body, i, j = _settled(bodies[best], here, there)
    _check_same_molecule(body, *pairs[best], here, there)
    distance = np.linalg.norm(body.apply(here.coords[i]) - there.coords[j], axis=1)
    equal = here.residue_name[i] == there.residue_name[j]
    return Superposition(body, len(i), float(equal.mean()), float(np.sqrt((distance**2).mean())))


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


def _trace(atoms: Atoms) -> Atoms:
    """One CA for every amino acid, one P for every nucleotide."""
    protein = (atoms.polymer == "protein") & (atoms.name == "CA")
    trace = atoms.take(protein | ((atoms.polymer == "nucleic") & (atoms.name == "P")))
    _, first = residue_groups(trace)
    return trace.take(first)


def _chains(trace: Atoms) -> list[Index]:
    """Rows of every chain with enough residues, kinds of polymer apart."""
    key = np.stack([trace.chain, trace.polymer])
    _, chain = np.unique(key, axis=1, return_inverse=True)
    rows = (np.flatnonzero(chain == number) for number in range(chain.max(initial=-1) + 1))
    return [index for index in rows if len(index) >= LEAST_MATCHED]


def _chain_pairs(here: Atoms, there: Atoms) -> list[tuple[Index, Index]]:
    """Rows that face each other in the alignments of two chains, the best alignments first.

    Copies of a chain have one sequence, which is aligned once.
    """
    aligned: dict[tuple[tuple[str, ...], tuple[str, ...]], Index] = {}
    found = []
    for i in _chains(here):
        for j in _chains(there):
            if here.polymer[i[0]] != there.polymer[j[0]]:
                continue
            names = tuple(here.residue_name[i].tolist()), tuple(there.residue_name[j].tolist())
            if names not in aligned:
                aligned[names] = align_sequences(*names)
            a, b = i[aligned[names][:, 0]], j[aligned[names][:, 1]]
            if len(a) >= LEAST_MATCHED:
                found.append(((here.residue_name[a] == there.residue_name[b]).sum(), a, b))
    found.sort(key=lambda pair: pair[0], reverse=True)
    return [(a, b) for _, a, b in found[:MOST_SEEDS]]


def _kabsch(moving: Vector, fixed: Vector) -> RigidBody:
    """Least-squares motion of (n, 3) points onto (n, 3) points (doi 10.1107/S0567739476001873)."""
    a, b = moving.mean(axis=0), fixed.mean(axis=0)
    rotation = Rotation.align_vectors(fixed - b, moving - a)[0].as_matrix()
    return RigidBody(rotation, b - rotation @ a)


def _core(moving: Vector, fixed: Vector) -> RigidBody:
    """The motion that fits the points that can be fitted: the nearer half, or all within 3 Å."""
    kept = np.ones(len(moving), dtype=bool)
    for _ in range(ROUNDS):
        body = _kabsch(moving[kept], fixed[kept])
        distance = np.linalg.norm(body.apply(moving) - fixed, axis=1)
        near = distance <= max(CLOSE, np.median(distance))
        if (near == kept).all():
            break
        kept = near
    return body


def _coinciding(body: RigidBody, here: Atoms, there: Atoms) -> tuple[Index, Index]:
    """Rows of residues of one kind that, after the motion, are each other's nearest, in runs.

    A pair counts if the residues before or after it in the two chains are a pair too: elsewhere
    CA lie near each other by chance.
    """
    coords = body.apply(here.coords)
    distance, nearest = cKDTree(there.coords).query(coords, distance_upper_bound=CLOSE)
    _, back = cKDTree(coords).query(there.coords)
    i = np.flatnonzero(np.isfinite(distance))
    i = i[back[nearest[i]] == i]
    i = i[here.polymer[i] == there.polymer[nearest[i]]]
    j = nearest[i]
    follows = (np.diff(i) == 1) & (np.diff(j) == 1)
    in_run = np.append(False, follows) | np.append(follows, False)
    return i[in_run[: len(i)]], j[in_run[: len(i)]]


def _score(body: RigidBody, here: Atoms, there: Atoms) -> float:
    """Σ 1 - (d/3 Å)² over the coinciding residues: many of them, and near."""
    i, j = _coinciding(body, here, there)
    distance = np.linalg.norm(body.apply(here.coords[i]) - there.coords[j], axis=1)
    return float((1 - (distance / CLOSE) ** 2).sum())


def _settled(body: RigidBody, here: Atoms, there: Atoms) -> tuple[RigidBody, Index, Index]:
    """Refit over all coinciding residues until these stay the same."""
    i, j = _coinciding(body, here, there)
    for _ in range(ROUNDS):
        if len(i) < LEAST_MATCHED:
            break
        body = _kabsch(here.coords[i], there.coords[j])
        last_i, last_j = i, j
        i, j = _coinciding(body, here, there)
        if np.array_equal(i, last_i) and np.array_equal(j, last_j):
            break
    return body, i, j


def _check_same_molecule(body: RigidBody, a: Index, b: Index, here: Atoms, there: Atoms) -> None:
    """Raise unless residues that are equal in the alignment (rows ``a``, ``b``) coincide."""
    equal = here.residue_name[a] == there.residue_name[b]
    distance = np.linalg.norm(body.apply(here.coords[a]) - there.coords[b], axis=1)
    close = int((equal & (distance <= CLOSE)).sum())
    least = max(LEAST_EQUAL, int(LEAST_SHARE * equal.sum()))
    if close < least:
        raise CryoreadyError(
            f"the reference model is not the molecule of the model: in the best pair of chains, "
            f"{here.chain[a[0]]} on {there.chain[b[0]]}, {len(a)} residues align, {equal.sum()} of "
            f"them are equal and {close} of these lie within {CLOSE:g} Å of each other (at least "
            f"{least}): give another reference_model"
        )


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
