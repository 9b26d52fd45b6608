"""How much of a deposited model was built again: completeness, RMSD, sequence, chain direction.

The definition of ``phenix.chain_comparison`` (`mmtbx.validation.chain_comparison` in cctbx, doi
10.1107/S0021889801017824), without symmetry. A residue is where its CA (protein) or P (nucleic
acid) is. Deviations:

- Protein and nucleic acid are compared in one call, CA with CA and P with P; there in two.
- Modified residues inside a chain (MSE, written as HETATM) count; there no HETATM does.
- Completeness refers to the whole deposited model. The program of Phenix also tries one copy of
  each of its chains, and reports whichever gives the larger fraction.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import trace

Index = NDArray[np.int64]

APART = 1e6  # Å, keeps CA and P out of each other's reach


@dataclass(frozen=True)
class ChainComparison:
    """A built model against a deposited one; in brackets the name in Phenix's table.

    Parameters
    ----------
    residues_deposited, residues_built
        residues with a CA or P.
    close, far
        built residues that have, or have not, a deposited one of their own within reach.
    completeness
        ``close / residues_deposited`` [% FOUND].
    rmsd
        Å, of the close residues; None if there are none.
    sequence_match
        share of the close residues that have the same residue name [SEQ MATCH]; None as above.
    forward, reverse, unaligned
        close residues in stretches that follow the deposited chain, follow it backwards, or do
        neither [MIXED].
    """

    residues_deposited: int
    residues_built: int
    close: int
    far: int
    completeness: float
    rmsd: float | None
    sequence_match: float | None
    forward: int
    reverse: int
    unaligned: int


def chain_comparison(
    built: Atoms, deposited: Atoms, *, max_distance: float = 3.0
) -> ChainComparison:
    """Compare a built model with the deposited one in the same frame.

    Parameters
    ----------
    built, deposited
        whole models; only their CA and P atoms are looked at.
    max_distance
        Å, up to which two residues are the same place.

    Raises
    ------
    CryoreadyError
        if the deposited model has neither CA nor P.
    """
    built, deposited = trace(built), trace(deposited)
    if not len(deposited):
        raise CryoreadyError(
            "the deposited model has no CA of a protein and no P of a nucleic acid: a built model "
            "cannot be compared with it"
        )
    i, j, distance = _match(built, deposited, max_distance)
    direction = _direction(i, j)
    same = built.residue_name[i] == deposited.residue_name[j]
    return ChainComparison(
        residues_deposited=len(deposited),
        residues_built=len(built),
        close=len(i),
        far=len(built) - len(i),
        completeness=len(i) / len(deposited),
        rmsd=float(np.sqrt(np.mean(distance**2))) if len(i) else None,
        sequence_match=float(same.mean()) if len(i) else None,
        forward=int((direction > 0).sum()),
        reverse=int((direction < 0).sum()),
        unaligned=int((direction == 0).sum()),
    )


def _points(trace: Atoms) -> NDArray[np.float64]:
    """(n, 4): zyx in Å, and a fourth coordinate for the kind of polymer."""
    return np.column_stack([trace.coords, APART * (trace.polymer == "nucleic")])


def _match(
    built: Atoms, deposited: Atoms, max_distance: float
) -> tuple[Index, Index, NDArray[np.float64]]:
    """Close pairs in the order of ``built``: its index, that in ``deposited``, distance (Å).

    Built residues choose in turn: the nearest deposited one, or the second nearest if the nearest
    is taken.
    """
    distance, nearest = cKDTree(_points(deposited)).query(
        _points(built), k=2, distance_upper_bound=np.nextafter(max_distance, np.inf)
    )
    chosen = _choose(nearest, len(deposited))
    i = np.flatnonzero(chosen < len(deposited))
    second = chosen[i] != nearest[i, 0]
    return i, chosen[i], distance[i, second.astype(int)]


def _choose(nearest: Index, none: int) -> Index:
    """(n,) choice of each row among its columns in (n, 2), ``none`` if earlier rows took both.

    A row depends on earlier rows only, so rounds in which all choose at once settle, one row or
    more a round, on what choosing one by one gives.
    """
    turn = np.arange(len(nearest))
    chosen = nearest[:, 0]
    while True:
        first_turn = np.full(none + 1, len(turn))
        np.minimum.at(first_turn, chosen, turn)
        free = first_turn[nearest] >= turn[:, None]
        again = np.where(free[:, 0], nearest[:, 0], np.where(free[:, 1], nearest[:, 1], none))
        if np.array_equal(again, chosen):
            return chosen
        chosen = again


def _direction(i: Index, j: Index) -> Index:
    """(n,) 1 forward, -1 reverse, 0 unaligned, of close pairs (built i, deposited j).

    A stretch is one of successive pairs whose residues are neighbours in both models. Its first
    pair has the direction of the step that follows, any other that of the step before. As in the
    program of Phenix, the first pair counts as unaligned where the previous stretch ended aligned.
    """
    step = np.where((np.diff(i) == 1) & (np.abs(np.diff(j)) == 1), np.diff(j), 0)
    to_next, from_previous = np.append(step, 0)[: len(i)], np.append(0, step)[: len(i)]
    starts = np.flatnonzero(from_previous == 0)
    lengths = np.diff(starts, append=len(i)).tolist()
    lost = accumulate(lengths, lambda lost, length: length - lost >= 2, initial=False)
    first = starts + np.fromiter(lost, dtype=np.int64)[:-1]
    first = first[first < len(i)]
    direction = from_previous
    direction[first] = to_next[first]
    return direction
