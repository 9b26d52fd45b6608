"""Columns of atoms."""

import numpy as np

from cryoready.core.atoms import Atoms


def atoms(element):
    n = len(element)
    text, zero = np.array([""] * n), np.zeros(n)
    columns = (zero, zero, text, text, text, np.arange(n), text, text, text)
    return Atoms(np.arange(3.0 * n).reshape(n, 3), np.array(element), *columns)


def test_displacements_are_isotropic_by_default():
    assert atoms(["C", "N"]).u_aniso.tolist() == np.zeros((2, 3, 3)).tolist()


def test_heavy_atoms():
    """Neither hydrogen nor deuterium; mercury and dysprosium are no such thing."""
    assert atoms(["C", "H", "D", "HG", "DY"]).heavy.tolist() == [True, False, False, True, True]


def test_atoms_taken_keep_all_their_columns():
    every = atoms(["C", "H", "O", "N"])
    for index in (np.array([3, 1]), np.array([False, True, False, True])):
        some = every.take(index)
        for column, values in vars(every).items():
            np.testing.assert_array_equal(getattr(some, column), values[index])


def test_no_atoms_taken():
    none = atoms(["C", "N"]).take(np.zeros(2, dtype=bool))
    assert len(none) == 0
    assert none.u_aniso.shape == (0, 3, 3)
