"""The rotation group of the cube, without its mirrors."""

import numpy as np

from cryoready.core.rotations import PROPER_ROTATIONS

CORNERS = np.arange(2 * 3 * 8, dtype=np.float32).reshape(6, 2, 2, 2)


def as_matrix(rotation):
    """Where the rotation sends the three unit vectors, found by moving marked voxels."""
    columns = []
    for axis in range(3):
        cube = np.zeros((3, 3, 3), dtype=np.float32)
        cube[tuple(2 if k == axis else 1 for k in range(3))] = 1
        columns.append(np.argwhere(rotation.apply(cube))[0] - 1)
    return np.array(columns).T


def test_there_are_24_and_they_differ():
    matrices = {tuple(as_matrix(rotation).ravel()) for rotation in PROPER_ROTATIONS}
    assert len(PROPER_ROTATIONS) == len(matrices) == 24


def test_none_is_a_mirror():
    for rotation in PROPER_ROTATIONS:
        assert round(np.linalg.det(as_matrix(rotation))) == 1


def test_undo_is_the_inverse_also_with_leading_axes():
    data = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    for rotation in PROPER_ROTATIONS:
        np.testing.assert_array_equal(rotation.undo(rotation.apply(data)), data)


def test_a_left_handed_helix_stays_left_handed():
    turns = np.linspace(0, 4 * np.pi, 60)
    helix = np.stack([turns, np.sin(turns), np.cos(turns)], axis=1)  # zyx
    for rotation in PROPER_ROTATIONS:
        turned = helix @ as_matrix(rotation).T
        steps = np.diff(turned, axis=0)
        triple = np.einsum("ij,ij->i", steps[:-2], np.cross(steps[1:-1], steps[2:]))
        original = np.diff(helix, axis=0)
        reference = np.einsum("ij,ij->i", original[:-2], np.cross(original[1:-1], original[2:]))
        assert np.sign(triple.mean()) == np.sign(reference.mean())
