"""Random rigid-body motions, and how far two of them are apart."""

import numpy as np
from scipy.spatial.transform import Rotation

from cryoready.core.rigid import RigidBody


def motion(seed, *, turn=None, shift=80.0, about=(0.0, 0.0, 0.0)):
    """A random rotation (of ``turn`` degrees) about a point, then a shift of ``shift`` Å."""
    rng = np.random.default_rng(seed)
    axis, way = rng.normal(size=(2, 3))
    angle = rng.uniform(0, 180) if turn is None else turn
    rotation = Rotation.from_rotvec(np.deg2rad(angle) * axis / np.linalg.norm(axis)).as_matrix()
    about = np.asarray(about)
    return RigidBody(rotation, about - rotation @ about + shift * way / np.linalg.norm(way))


def after(body, other):
    """First ``body``, then ``other``."""
    return RigidBody(other.rotation @ body.rotation, other.apply(body.translation[None])[0])


def difference(body, other, point):
    """Degrees, and Å at ``point`` of the fixed frame, between two motions."""
    turn = Rotation.from_matrix(body.rotation @ other.rotation.T).magnitude()
    apart = body.apply(other.inverse().apply(point[None])) - point
    return np.rad2deg(turn), np.linalg.norm(apart)
