"""Boxes of prepared entries as training samples; every draw follows from seed, epoch and index."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cryoready.core.errors import CryoreadyError
from cryoready.core.rotations import PROPER_ROTATIONS


@dataclass(frozen=True)
class BoxStack:
    """Boxes of one entry: (n, 2, edge, edge, edge) half precision on disk, map then target, 0-1."""

    path: Path
    boxes: int
    edge_voxels: int

    @classmethod
    def open(cls, path: Path) -> "BoxStack":
        """Read shape and type of the stack at ``path`` (.npy).

        Raises
        ------
        CryoreadyError
            if the file is no stack of boxes.
        """
        try:
            stack = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CryoreadyError(
                f"{path}: not a stack of boxes ({error}); delete it and run again"
            ) from error
        if stack.ndim != 5 or stack.shape[1] != 2:
            raise CryoreadyError(f"{path}: shape {stack.shape}, expected (n, 2, edge, edge, edge)")
        return cls(path, len(stack), stack.shape[-1])

    def read(self, index: int) -> NDArray[np.float32]:
        """Box ``index``, (2, edge, edge, edge)."""
        return np.load(self.path, mmap_mode="r")[index].astype(np.float32)


class BoxDataset(Dataset[tuple[Tensor, Tensor]]):
    """Crops of ``crop_voxels``³: randomly placed and rotated for training, central otherwise.

    The sample ``i`` of epoch ``e`` depends only on (``seed``, ``e``, ``i``): a resumed run sees the
    crops that an uninterrupted one would have seen, with any number of workers.

    Parameters
    ----------
    stacks
        the entries.
    crop_voxels
        edge of the crops.
    seed
        None: no augmentation, the central crop (validation).
    """

    def __init__(self, stacks: list[BoxStack], crop_voxels: int, seed: int | None) -> None:
        small = [stack for stack in stacks if stack.edge_voxels < crop_voxels]
        if small:
            raise CryoreadyError(
                f"{small[0].path}: boxes of {small[0].edge_voxels} voxels cannot hold a crop of "
                f"{crop_voxels}; raise dataset.boxes.edge_voxels or lower train.crop_voxels"
            )
        self.crop_voxels = crop_voxels
        self.seed = seed
        self.epoch = 0
        self.index = [(stack, k) for stack in stacks for k in range(stack.boxes)]

    def __len__(self) -> int:
        return len(self.index)

    def order(self, epoch: int) -> list[int]:
        """The permutation of the samples in ``epoch``, which also seeds their augmentation."""
        self.epoch = epoch
        if self.seed is None:
            return list(range(len(self)))
        return [int(i) for i in np.random.default_rng((self.seed, epoch)).permutation(len(self))]

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Map and target, each (1, crop, crop, crop), 0-1."""
        stack, k = self.index[i]
        boxes = stack.read(k)
        room = stack.edge_voxels - self.crop_voxels
        if self.seed is None:
            z = y = x = room // 2
        else:
            rng = np.random.default_rng((self.seed, self.epoch, i))
            boxes = PROPER_ROTATIONS[rng.integers(len(PROPER_ROTATIONS))].apply(boxes)
            z, y, x = rng.integers(0, room + 1, 3)
        crop = self.crop_voxels
        cut = np.ascontiguousarray(boxes[:, z : z + crop, y : y + crop, x : x + crop])
        return torch.from_numpy(cut[:1]), torch.from_numpy(cut[1:])
