"""Training crops of maps that never were: drawn from structures, each one once."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cryoready.dataset.structures import Structures
from cryoready.density.synthesis import (
    RESOLUTIONS,
    Recipe,
    draw_recipe,
    random_view,
    synthesise,
)

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
    device
        where PyTorch simulates the maps (a GPU; other noise than without); None: NumPy does, which
        several workers can do at a time.
    """

    def __init__(
        self,
        structures: Structures,
        crop_voxels: int,
        *,
        local_target: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.structures, self.crop_voxels = structures, crop_voxels
        self.device = device
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
        options: dict[str, Any] = {
            "shape": (edge, edge, edge),
            "target_resolution": self.target_resolution,
        }
        if self.device is None:
            pair = synthesise(coords, weight, recipe, rng, **options)
        else:
            pair = self._on_device(coords, weight, recipe, rng, options)
        inner = (slice(MARGIN, -MARGIN),) * 3
        density, target = (np.ascontiguousarray(values[inner], np.float32) for values in pair)
        return density, target

    def _on_device(
        self,
        coords: NDArray[np.float32],
        weight: NDArray[np.float32],
        recipe: Recipe,
        rng: np.random.Generator,
        options: dict[str, Any],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`synthesise` by PyTorch, noise included."""
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        at, electrons = (torch.from_numpy(values).to(self.device) for values in (coords, weight))

        def normal(shape: tuple[int, ...]) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=self.device)

        density, target = synthesise(at, electrons, recipe, rng, normal=normal, **options)
        return density.cpu().numpy(), target.cpu().numpy()
