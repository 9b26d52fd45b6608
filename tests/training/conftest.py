"""Pairs to train on."""

import numpy as np
import pytest

from cryoready.training.box_dataset import BoxStack


@pytest.fixture
def stack(tmp_path):
    """Six pairs: noisy blurred points and themselves."""
    rng = np.random.default_rng(0)
    boxes = np.zeros((6, 2, 14, 14, 14))
    for pair in boxes:
        for z, y, x in rng.integers(2, 12, (4, 3)):
            pair[1, z, y, x] = 1
            pair[0, z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] += 0.3
        pair[0] += rng.normal(0, 0.05, pair[0].shape)
    np.save(tmp_path / "boxes.npy", boxes.astype(np.float16))
    return BoxStack.open(tmp_path / "boxes.npy")
