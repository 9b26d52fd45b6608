"""Residues: which atoms belong together, in which order."""

import numpy as np

from cryoready.core.atoms import Atoms
from cryoready.core.residues import group_mean, residue_groups


def atoms_of(keys: list[tuple[str, int, str, str]]) -> Atoms:
    """Carbons with the given (chain, residue number, insertion code, altloc)."""
    n = len(keys)
    chain, number, insertion, altloc = (np.array(column) for column in zip(*keys, strict=True))
    text = np.full(n, "C")
    return Atoms(
        coords=np.zeros((n, 3)),
        element=text,
        b_iso=np.zeros(n),
        occupancy=np.ones(n),
        name=text,
        residue_name=np.full(n, "ALA"),
        chain=chain,
        residue_number=number,
        insertion_code=insertion,
        altloc=altloc,
        polymer=np.full(n, "protein"),
    )


def test_residues_are_numbered_as_they_appear_with_conformers_together():
    atoms = atoms_of(
        [
            ("B", 7, "", ""),
            ("B", 7, "", "A"),
            ("B", 7, "A", ""),  # inserted residue: another one
            ("A", 7, "", ""),  # same number, other chain
            ("B", -3, "", ""),
            ("B", 7, "", "B"),  # conformer listed apart
            ("A", 7, "", ""),
        ]
    )
    group, first = residue_groups(atoms)
    assert group.tolist() == [0, 0, 1, 2, 3, 0, 2]
    assert first.tolist() == [0, 2, 3, 4]


def test_order_of_the_atoms_does_not_change_which_belong_together():
    rng = np.random.default_rng(0)
    keys = [("ABC"[c], int(r), "", "") for c, r in rng.integers(0, 3, (200, 2))]
    group, first = residue_groups(atoms_of(keys))
    together = group[:, None] == group[None, :]
    assert np.array_equal(together, [[a == b for b in keys] for a in keys])
    assert np.array_equal(group[first], np.arange(len(first)))
    assert np.all(np.diff(first) > 0)


def test_a_structure_without_atoms_has_no_residues():
    group, first = residue_groups(atoms_of([("A", 1, "", "")]).take(np.zeros(1, dtype=bool)))
    assert len(group) == len(first) == 0
    assert len(group_mean([], group)) == 0


def test_mean_over_residues():
    assert group_mean([1.0, 5.0, 3.0, 2.0], np.array([0, 1, 0, 1])).tolist() == [2.0, 3.5]
