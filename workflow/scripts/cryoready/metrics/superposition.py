"""A structure laid on another of the same molecule, by what the two have in common."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import trace
from cryoready.core.rigid import RigidBody
from cryoready.core.volume import Vector
from cryoready.files.sequences import align_sequences

CLOSE = 3.0  # Å between superposed CA or P that match
LEAST_MATCHED = 20  # residues
LEAST_EQUAL, LEAST_SHARE = 12, 0.35  # equal residues that coincide; of all that are equal
MOST_SEEDS = 64  # chain pairs tried, those with most equal residues first
ROUNDS = 30

Index = NDArray[np.int64]


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
    here, there = trace(moving), trace(fixed)
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
