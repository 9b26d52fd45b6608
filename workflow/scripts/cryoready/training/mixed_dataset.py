"""What a network is trained on: real and synthetic crops, mixed at random, drawn for ever."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cryoready.training.box_dataset import Pair

Key = tuple[int, int]
"""Epoch and number of a sample in it."""


class Source(Protocol):
    """Where crops come from."""

    def __len__(self) -> int:
        """How many boxes or structures there are."""

    def sample(self, rng: np.random.Generator) -> Pair:
        """Map and target of a random crop, each (crop, crop, crop) float32, 0-1."""


class MixedDataset(Dataset[tuple[Tensor, Tensor]]):
    """Samples of two sources, without an end.

    Sample ``i`` of epoch ``e`` follows from (``seed``, ``e``, ``i``) alone: a resumed run sees the
    crops that an uninterrupted one would have seen, with any number of workers and devices.

    Parameters
    ----------
    real, synthetic
        experimental maps with their models; maps made from structures.
    real_share
        the probability that a crop is real; 0 and 1 need one source only.
    seed
        of all draws.
    """

    def __init__(
        self, real: Source | None, synthetic: Source | None, *, real_share: float, seed: int
    ) -> None:
        self.sources = (real, synthetic)
        self.real_share = real_share
        self.seed = seed

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Map and target, each (1, crop, crop, crop), 0-1."""
        rng = np.random.default_rng((self.seed, *key))
        source = self.sources[rng.random() >= self.real_share]
        if source is None:
            raise ValueError(f"real_share is {self.real_share}, but one of the sources is missing")
        density, target = source.sample(rng)
        return torch.from_numpy(density[None]), torch.from_numpy(target[None])
