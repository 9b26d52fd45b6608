"""Training crops of maps that never were: drawn from structures, each one once."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cryoready.dataset.structures import Structures
from cryoready.density.synthesis import draw_recipe, random_view, synthesise

RESOLUTIONS = (2.8, 6.0)  # Å, between which the resolution is drawn
MARGIN = 8  # voxels at every face that the periodic filters spoil


class SyntheticBoxes:
    """Crops of simulated maps with their targets, at 1 Å.

    Parameters
    ----------
    structures
        from which to draw; large ones more often, by the root of their size.
    crop_voxels
        edge of the crops.
    local_target
        whether the target is as sharp as the map at each atom, or as sharp everywhere.
    """

    def __init__(
        self, structures: Structures, crop_voxels: int, *, local_target: bool = False
    ) -> None:
        self.structures, self.crop_voxels = structures, crop_voxels
        self.target_resolution: Literal["local"] | None = "local" if local_target else None
        size = np.sqrt(structures.table["atoms"].to_numpy(dtype=np.float64))
        self.share = size / size.sum()

    def __len__(self) -> int:
        return len(self.structures)

    def sample(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Map and target of one crop, each (crop, crop, crop), 0-1; follows from ``rng`` alone."""
        k = int(rng.choice(len(self.structures), p=self.share))
        atoms = self.structures[k]
        given = float(self.structures.table["resolution"].iloc[k])
        resolution = float(rng.uniform(*RESOLUTIONS)) if np.isnan(given) else given
        edge = self.crop_voxels + 2 * MARGIN
        recipe = draw_recipe(rng, resolution)
        coords, near = random_view(np.asarray(atoms["coords"]), rng, edge=float(edge))
        weight = (atoms["number"] * atoms["occupancy"])[near].astype(np.float32)
        pair = synthesise(
            *(coords, weight, recipe, rng),
            shape=(edge, edge, edge),
            target_resolution=self.target_resolution,
        )
        inner = (slice(MARGIN, -MARGIN),) * 3
        density, target = (np.ascontiguousarray(values[inner], np.float32) for values in pair)
        return density, target
