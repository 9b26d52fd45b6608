"""Boxes of prepared entries, from stacks on disk: random crops to train, central ones to judge."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cryoready.core.errors import CryoreadyError
from cryoready.core.rotations import PROPER_ROTATIONS

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Map and target, each (crop, crop, crop), 0-1."""


@dataclass(frozen=True)
class BoxStack:
    """Boxes of one entry: (n, 2, edge, edge, edge) half precision on disk, map then target, 0-1.

    ``targets`` (n, edge, edge, edge) may stand in for the targets.
    """

    path: Path
    boxes: int
    edge_voxels: int
    targets: Path | None = None

    @classmethod
    def open(cls, path: Path, targets: Path | None = None) -> "BoxStack":
        """Read shape and type of the stack at ``path`` (.npy).

        Raises
        ------
        CryoreadyError
            if the file is no stack of boxes, or cut off.
        """
        try:
            stack = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CryoreadyError(
                f"{path}: not a stack of boxes ({error}); delete it and run again"
            ) from error
        if stack.ndim != 5 or stack.shape[1] != 2 or len(set(stack.shape[2:])) != 1:
            raise CryoreadyError(f"{path}: shape {stack.shape}, expected (n, 2, edge, edge, edge)")
        if stack.dtype != np.float16:
            raise CryoreadyError(
                f"{path}: type {stack.dtype}, expected float16; delete it and run again"
            )
        return cls(path, len(stack), stack.shape[-1], targets)

    def read(self, index: int) -> NDArray[np.float32]:
        """Box ``index``, (2, edge, edge, edge).

        Raises
        ------
        CryoreadyError
            if the file is gone or damaged since it was opened, or the box has values that are not
            finite.
        """
        try:
            box = np.load(self.path, mmap_mode="r", allow_pickle=False)[index].astype(np.float32)
            if self.targets is not None:
                box[1] = np.load(self.targets, mmap_mode="r", allow_pickle=False)[index]
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise CryoreadyError(
                f"{self.path}: box {index} cannot be read ({error}); delete the file and run again"
            ) from error
        if not np.isfinite(box).all():
            raise CryoreadyError(
                f"{self.path}: box {index} has values that are not finite; "
                "delete the file and run again"
            )
        return box


class BoxDataset(Dataset[tuple[Tensor, Tensor]]):
    """Crops of ``crop_voxels``³: the central one of box ``i``, or a random one of a random box.

    Parameters
    ----------
    stacks
        the entries.
    crop_voxels
        edge of the crops.
    """

    def __init__(self, stacks: list[BoxStack], crop_voxels: int) -> None:
        small = [stack for stack in stacks if stack.edge_voxels < crop_voxels]
        if small:
            raise CryoreadyError(
                f"{small[0].path}: boxes of {small[0].edge_voxels} voxels cannot hold a crop of "
                f"{crop_voxels}; raise dataset.boxes.edge_voxels or lower train.crop_voxels"
            )
        self.crop_voxels = crop_voxels
        self.stacks = [stack for stack in stacks if stack.boxes]
        if not self.stacks:
            raise CryoreadyError(
                f"none of {len(stacks)} stacks holds a box; lower dataset.boxes.least_share"
            )
        self.index = [(stack, k) for stack in self.stacks for k in range(stack.boxes)]
        # between equal entries and equal boxes: a large map counts more, but does not drown others
        chances = np.sqrt([stack.boxes for stack in self.stacks])
        self.chances = chances / chances.sum()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Map and target of the centre of box ``i``, each (1, crop, crop, crop), 0-1."""
        stack, k = self.index[i]
        middle = (stack.edge_voxels - self.crop_voxels) // 2
        density, target = self._cut(stack.read(k), middle, middle, middle)
        return torch.from_numpy(density[None]), torch.from_numpy(target[None])

    def sample(self, rng: np.random.Generator) -> Pair:
        """A random crop of a box in one of the 24 orientations.

        The entry is drawn with a probability ∝ √(number of its boxes), then one of its boxes.
        """
        stack = self.stacks[rng.choice(len(self.stacks), p=self.chances)]
        box = stack.read(int(rng.integers(stack.boxes)))
        turned = PROPER_ROTATIONS[rng.integers(len(PROPER_ROTATIONS))].apply(box)
        z, y, x = rng.integers(0, stack.edge_voxels - self.crop_voxels + 1, 3)
        return self._cut(turned, z, y, x)

    def _cut(self, box: NDArray[np.float32], z: int, y: int, x: int) -> Pair:
        crop = self.crop_voxels
        density, target = np.ascontiguousarray(box[:, z : z + crop, y : y + crop, x : x + crop])
        return density, target
