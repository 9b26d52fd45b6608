"""Rigid-body motions of coordinates."""

from dataclasses import dataclass

import numpy as np

from cryoready.core.volume import Vector


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
