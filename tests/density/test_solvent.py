"""Solvent comes back where a mask removed it, and nowhere else."""

import numpy as np
import pytest

from cryoready.core.volume import Volume
from cryoready.density.solvent import empty_region, fill_solvent


def test_solvent_fills_only_what_was_masked():
    data = np.zeros((40, 40, 40), dtype=np.float32)
    data[10:30, 10:30, 10:30] = np.random.default_rng(0).uniform(1, 2, (20, 20, 20))
    volume = Volume(data, np.ones(3), np.zeros(3))
    empty = empty_region(volume.data)
    assert empty.sum() == 40**3 - 20**3
    rng = np.random.default_rng(3)
    filled = fill_solvent(volume, empty, sigma=0.3, resolution=4.0, rng=rng)
    outside = np.ones_like(empty)
    outside[8:32, 8:32, 8:32] = False
    assert filled.data[outside].std() == pytest.approx(0.3, rel=0.1)
    np.testing.assert_array_equal(filled.data[16:24, 16:24, 16:24], data[16:24, 16:24, 16:24])


def test_a_map_without_a_mask_has_no_empty_region():
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    assert not empty_region(noise).any()
