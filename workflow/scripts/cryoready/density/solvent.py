"""Solvent: where a depositor's mask took it away, and how it is put back."""

import numpy as np
from scipy.ndimage import gaussian_filter

from cryoready.core.volume import FloatArray, Volume
from cryoready.density.masks import BoolArray, soften


def empty_region(density: FloatArray, *, least_share: float = 0.3) -> BoolArray:
    """Voxels that a depositor's mask set to one constant; none if they are a minor share."""
    values, counts = np.unique(density, return_counts=True)
    most = int(counts.argmax())
    if counts[most] < least_share * density.size:
        return np.zeros(density.shape, dtype=bool)
    return np.asarray(density == values[most])


def fill_solvent(
    volume: Volume, empty: BoolArray, *, sigma: float, resolution: float, rng: np.random.Generator
) -> Volume:
    """Put band-limited noise of standard deviation ``sigma`` where a mask left nothing.

    A map masked around its model shows the network where the model is; solvent hides it again.

    Parameters
    ----------
    volume
        the masked map.
    empty
        (nz, ny, nx) what the mask removed.
    sigma
        in units of the map.
    resolution
        Å; the noise is smoothed to about this.
    rng
        seeded generator of the noise.
    """
    width = 0.25 * resolution / volume.voxel_size
    noise = gaussian_filter(rng.standard_normal(volume.data.shape).astype(np.float32), width)
    noise *= sigma / noise.std()
    share = soften(empty, volume.voxel_size, edge=3.0)
    return Volume.on(volume.grid, volume.data + share * noise)
