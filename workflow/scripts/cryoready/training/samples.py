"""The same few validation crops for every run: input, prediction and target, cut in the middle."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray
from cryoready.core.whole_files import written_whole
from cryoready.density.normalise import NETWORK_SCALE
from cryoready.enhance.tiles import CROP_VOXELS
from cryoready.training.box_dataset import BoxDataset, BoxStack

MOST_SAMPLES = 4


class Slices(NamedTuple):
    """Central slices of crops, 0-1.

    Parameters
    ----------
    ids
        the entry of each.
    planes
        (n, 3, y, x) input, prediction, target.
    """

    ids: Sequence[str]
    planes: FloatArray

    def write(self, path: Path) -> None:
        """As ``.npz``."""
        with written_whole(path) as part:
            np.savez_compressed(part, ids=np.array(self.ids), planes=self.planes.astype(np.float16))

    @classmethod
    def read(cls, path: Path) -> "Slices":
        """What `write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["ids"].tolist(), file["planes"].astype(np.float32))


def sample_crops(stacks: Sequence[Path], most: int = MOST_SAMPLES) -> tuple[list[str], Tensor]:
    """The crop of most target density of each of the first ``most`` entries.

    Parameters
    ----------
    stacks
        ``…/<id>/boxes.npy`` of the validation entries.
    most
        entries shown.

    Returns
    -------
    The ids, and (n, 2, crop, crop, crop) map and target, 0-1.

    Raises
    ------
    CryoreadyError
        if there is no box.
    """
    filled = [path for path in stacks if BoxStack.open(path).boxes]
    if not filled:
        raise CryoreadyError("no entry with split 'val' has a box to look at: give at least one")
    crops = []
    for path in filled[:most]:
        dataset = BoxDataset([BoxStack.open(path)], CROP_VOXELS)
        crops.append(torch.cat(dataset[_fullest(path)]))
    return [path.parent.name for path in filled[:most]], torch.stack(crops)


def cut(network: nn.Module, ids: Sequence[str], crops: Tensor) -> Slices:
    """The middle z-slices of ``crops`` (`sample_crops`) and of what ``network`` makes of them."""
    density, target = crops[:, :1], crops[:, 1:]
    with torch.inference_mode():
        predicted = network(density * NETWORK_SCALE) / NETWORK_SCALE
    middle = crops.shape[2] // 2
    return Slices(ids, torch.cat([density, predicted, target], dim=1)[:, :, middle].numpy())


def _fullest(path: Path) -> int:
    """The box whose target has the largest mean."""
    targets: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)[:, 1]
    return int(targets.mean(axis=(1, 2, 3), dtype=np.float32).argmax())
