"""Against a better known structure, or a better map, of the same molecule."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cryoready.core.atoms import Atoms
from cryoready.core.rigid import IDENTITY, RigidBody
from cryoready.core.volume import FloatArray, Volume
from cryoready.density.resample import resample
from cryoready.metrics.correlation import pearson
from cryoready.metrics.fsc import Shells, fourier_shell_correlation
from cryoready.metrics.map_fit import refine_rigid, resample_rigid
from cryoready.metrics.score import Model, Placements, score
from cryoready.metrics.superposition import moved, superpose


def against_structure(
    maps: Mapping[str, Volume],
    reference: Atoms,
    atoms: Atoms | None,
    *,
    resolution: float | None,
    mask_radius: float,
    sigma: float,
    local_radius: float,
) -> tuple[dict[str, Any], RigidBody]:
    """Scores of ``maps`` against ``reference`` laid on ``atoms``, and the motion that did so.

    Without ``atoms`` the reference is taken where it lies. Options are those of `score.place` and
    `score.score`. Raises `CryoreadyError` if the two structures have no molecule in common.
    """
    facts: dict[str, Any] = {}
    body = IDENTITY
    if atoms is not None:
        laid = superpose(reference, atoms)
        body = laid.body
        facts = {"rmsd": laid.rmsd, "n_matched": laid.matched, "identity": laid.identity}
    placements = Placements(Model.of(moved(reference, body)), resolution, mask_radius)
    for name, volume in maps.items():
        placed = placements.on(volume.grid)
        facts[name] = score(volume, placed, sigma=sigma, local_radius=local_radius).row
    return facts, body


def against_map(
    maps: Mapping[str, Volume],
    reference: Volume,
    before: Volume,
    soft: FloatArray | None,
    *,
    start: RigidBody = IDENTITY,
) -> dict[str, Any]:
    """FSC and correlation of ``maps`` with ``reference`` fitted into ``before``.

    Parameters
    ----------
    maps
        by name.
    reference
        on any grid, roughly where ``start`` brings it to its place.
    before
        the map into which it is fitted; everything is compared on its grid.
    soft
        (nz, ny, nx) mask, 0-1; None: the whole box.
    start
        motion from which the fit starts.

    Raises
    ------
    CryoreadyError
        if the reference map does not fit.
    """
    fit = refine_rigid(reference, before, start)
    fitted = resample_rigid(reference, fit.body, before.grid)
    shells = Shells.of(before.grid)
    weight = np.ones(before.data.shape, np.float32) if soft is None else soft
    inside = weight > weight.max() / 2
    theirs = shells.pick(fitted.data * weight)
    result: dict[str, Any] = {"correlation": fit.correlation}
    for name, volume in maps.items():
        density = resample(volume, before.grid).data
        curve = fourier_shell_correlation(shells.pick(density * weight), theirs, shells)
        result[name] = {
            "d_fsc_reference_map_05": curve.resolution(0.5),
            "d_fsc_reference_map_0143": curve.resolution(0.143),
            "cc_reference_map": pearson(density[inside], fitted.data[inside]),
        }
    return result
