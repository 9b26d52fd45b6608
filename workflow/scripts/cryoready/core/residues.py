"""Which atoms make a residue, and means over residues."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoready.core.atoms import Atoms


def residue_groups(atoms: Atoms) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the residues in order of first appearance; conformers share their residue.

    Returns
    -------
    group
        (n,) number of each atom's residue: same chain, residue number and insertion code.
    first
        (m,) index of the first atom of each residue.
    """
    key = np.zeros(len(atoms), dtype=np.int64)
    for column in (atoms.chain, atoms.residue_number, atoms.insertion_code):
        values, rank = np.unique(column, return_inverse=True)
        _, key = np.unique(key * len(values) + rank, return_inverse=True)
    _, first = np.unique(key, return_index=True)
    position = np.empty(len(first), dtype=np.int64)
    position[np.argsort(first)] = np.arange(len(first))
    return position[key], np.sort(first)


def group_mean(values: ArrayLike, group: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) mean of ``values`` (n,) over each ``group`` (n,) numbered 0…m-1, none empty."""
    return np.asarray(np.bincount(group, np.asarray(values)) / np.bincount(group))


def trace(atoms: Atoms) -> Atoms:
    """The CA of every amino acid and the P of every nucleotide, in the order of the file.

    Of alternative locations the most occupied. An atom without one always stays: in models made of
    fragments residue numbers repeat.
    """
    ca = (atoms.polymer == "protein") & (atoms.name == "CA")
    p = (atoms.polymer == "nucleic") & (atoms.name == "P")
    chosen = atoms.take(ca | p)
    residue, _ = residue_groups(chosen)
    order = np.lexsort((-chosen.occupancy, residue))
    _, first = np.unique(residue[order], return_index=True)
    keep = chosen.altloc == ""
    keep[order[first]] = True
    return chosen.take(keep)
