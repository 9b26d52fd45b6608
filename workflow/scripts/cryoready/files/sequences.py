"""Sequences and their alignment: beside `files.models` the only importer of gemmi."""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import gemmi
import numpy as np
from numpy.typing import NDArray

from cryoready.core.atoms import Atoms
from cryoready.core.residues import residue_groups

Polymer = Literal["protein", "nucleic"]

BLOSUM62 = gemmi.AlignmentScoring("b")


def sequences(atoms: Atoms, polymer: Polymer = "protein") -> dict[str, str]:
    """Modelled sequence of each chain of one kind of polymer, by the name of the chain.

    Residues stand in the order of the file; gaps of the model are closed; X is a residue without a
    letter of its own.
    """
    chosen = atoms.take(atoms.polymer == polymer)
    _, first = residue_groups(chosen)
    chain, names = chosen.chain[first], chosen.residue_name[first]
    return {
        str(name): one_letter_codes(names[chain == name].tolist()) for name in dict.fromkeys(chain)
    }


def one_letter_codes(names: Sequence[str]) -> str:
    """Sequence of residue names ("ALA", "DG", "U"); modified ones as their parents, others X."""
    codes = (gemmi.find_tabulated_residue(name).one_letter_code for name in names)
    return "".join(code.upper() if code.strip() else "X" for code in codes)


def align_sequences(a: Sequence[str], b: Sequence[str]) -> NDArray[np.int64]:
    """Global alignment of two sequences of residue names ("ALA", "DG", "U").

    Scores are BLOSUM62 between amino acids, 1 for any other equal pair, -4 for an unequal one,
    -10 to open a gap, -1 to extend it.

    Returns
    -------
    (n, 2) positions in ``a`` and ``b`` that face each other, ascending, equal or not.
    """
    if not len(a) or not len(b):
        return np.empty((0, 2), dtype=np.int64)
    aligned = gemmi.align_string_sequences(list(a), list(b), [], BLOSUM62)
    steps = _operations(aligned.cigar_str())
    position = np.stack([np.cumsum(steps != "D"), np.cumsum(steps != "I")], axis=1) - 1
    return np.asarray(position[steps == "M"], dtype=np.int64)


def _operations(cigar: str) -> NDArray[np.str_]:
    """One letter per column of the alignment: "2M1I" -> M M I."""
    parts = ["".join(part) for _, part in groupby(cigar, str.isdigit)]
    counts, letters = np.array(parts[::2], dtype=np.int64), np.array(parts[1::2])
    return np.repeat(letters, counts)
