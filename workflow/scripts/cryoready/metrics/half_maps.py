"""What the half-maps say, and what they no longer say once a network has seen them."""

from typing import Any

import numpy as np
import pandas as pd

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray, Grid, Volume
from cryoready.density.resample import resample
from cryoready.metrics.fsc import Shells, fourier_shell_correlation

PRIOR = "shares a prior, not a resolution"

Pair = tuple[Volume, Volume]


def half_map_curves(
    half_maps: Pair, enhanced: Pair | None, soft: FloatArray, grid: Grid
) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    """FSC between the half-maps and between the enhanced ones, both in one mask.

    Two enhanced halves agree where the network puts the same prior into both, so their FSC is no
    resolution and is labelled so.

    Parameters
    ----------
    half_maps, enhanced
        pairs of maps; ``enhanced`` may lack.
    soft
        (nz, ny, nx) mask, 0-1.
    grid
        of the map, the half-maps and the mask.

    Returns
    -------
    resolutions (Å) at 0.143, and the curves as tables of map, mask, frequency (1/Å), fsc.

    Raises
    ------
    CryoreadyError
        if a half-map lies on another grid, or both are the same.
    """
    check_pair(*half_maps)
    if not half_maps[0].grid.same_as(grid):
        raise CryoreadyError(
            f"the half-maps have {half_maps[0].grid}, the map {grid}: they must lie on one grid; "
            "give those of this reconstruction"
        )
    shells = Shells.of(grid)
    row: dict[str, Any] = {"enhanced_note": PRIOR if enhanced else None}
    tables = []
    # the enhanced ones may lie on the grid of the network
    others = None if enhanced is None else tuple(resample(half, grid) for half in enhanced)
    for prefix, pair in (("", half_maps), ("enhanced_", others)):
        for mask, weight in (("masked", soft), ("unmasked", np.float32(1))):
            row[f"{prefix}d_fsc_0143_{mask}"] = None
            if pair is None:
                continue
            one, two = (shells.pick(half.data * weight) for half in pair)
            curve = fourier_shell_correlation(one, two, shells)
            row[f"{prefix}d_fsc_0143_{mask}"] = curve.resolution(0.143)
            tables.append(curve.table(f"{prefix}half_maps", mask))
    return row, tables


def mean_map(first: Volume, second: Volume) -> Volume:
    """The mean of two half-maps, which is the map that they are halves of."""
    check_pair(first, second)
    return Volume.on(first.grid, (first.data + second.data) / np.float32(2))


def check_pair(first: Volume, second: Volume) -> None:
    """Raise `CryoreadyError` unless two half-maps lie on one grid and differ."""
    if not first.grid.same_as(second.grid):
        raise CryoreadyError(
            f"one half-map has {first.grid}, the other {second.grid}: they must lie on one grid; "
            "give the two of one reconstruction"
        )
    if np.array_equal(first.data, second.data):
        raise CryoreadyError(
            "both half-maps hold the same density, their FSC would be 1 everywhere: give the two "
            "of one reconstruction"
        )
