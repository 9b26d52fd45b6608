"""Per-atom resolutions invert the curves they are read from."""

import numpy as np
import pytest

from cryoready.density.atom_resolution import resolution_from_b_factor, resolution_from_qscore
from cryoready.metrics.qscore import expected_q


def test_the_expected_q_of_a_resolution_gives_that_resolution():
    resolutions = np.array([2.0, 3.1, 4.0, 6.7])
    q = [expected_q(r) for r in resolutions]
    np.testing.assert_allclose(resolution_from_qscore(q, expected_q), resolutions, atol=0.005)


def test_resolutions_of_impossible_q_stay_within_the_limits():
    np.testing.assert_allclose(resolution_from_qscore([1.0, -0.5], expected_q), [1.5, 8.0])


def test_the_signal_of_each_atom_has_the_same_power_at_its_own_resolution():
    """exp(-B s²/2) at s = 1/R is one value for all atoms: that of the median atom at 4 Å."""
    b = np.array([30.0, 60.0, 90.0, 150.0, 120.0])
    r = resolution_from_b_factor(b, 4.0)
    np.testing.assert_allclose(np.exp(-b / (2 * r**2)), np.exp(-90 / (2 * 4.0**2)))
    assert r[2] == 4.0


@pytest.mark.parametrize("b", [0.0, 50.0])
def test_equal_b_factors_leave_the_resolution_of_the_map(b):
    np.testing.assert_array_equal(resolution_from_b_factor(np.full(3, b), 3.3), 3.3)
