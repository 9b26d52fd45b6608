"""What the half-maps say, and what they no longer say once a network has seen them."""

from typing import Any

import numpy as np
import pandas as pd

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray, Grid, Volume
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
        of the map and of everything here.

    Returns
    -------
    resolutions (Å) at 0.143, and the curves as tables of map, mask, frequency (1/Å), fsc.

    Raises
    ------
    CryoreadyError
        if a half-map lies on another grid.
    """
    shells = Shells.of(grid)
    row: dict[str, Any] = {"enhanced_note": PRIOR}
    tables = []
    for prefix, pair in (("", half_maps), ("enhanced_", enhanced)):
        for mask, weight in (("masked", soft), ("unmasked", np.float32(1))):
            row[f"{prefix}d_fsc_0143_{mask}"] = None
            if pair is None:
                continue
            one, two = (shells.pick(on_grid(grid, half) * weight) for half in pair)
            curve = fourier_shell_correlation(one, two, shells)
            row[f"{prefix}d_fsc_0143_{mask}"] = curve.resolution(0.143)
            tables.append(curve.table(f"{prefix}half_maps", mask))
    return row, tables


def on_grid(grid: Grid, half: Volume) -> FloatArray:
    """The density of a half-map that must lie on ``grid``; `CryoreadyError` if it does not."""
    if not half.grid.same_as(grid):
        raise CryoreadyError(
            f"a half-map has {half.grid}, but the map, or the other half-map, {grid}: they must "
            "lie on one grid; give those of one reconstruction"
        )
    return half.data
