"""Crops drawn from structures: they repeat with their seed, and show what they are targets of."""

import numpy as np
import pytest
import torch

from cryoready.dataset.structures import pack
from cryoready.training.synthetic_dataset import SyntheticBoxes


@pytest.fixture(scope="module")
def crops():
    models = {"a": "resources/small/EMD-2566-9.pdb.gz", "b": "resources/EMD-3488/5ni1.pdb.gz"}
    return SyntheticBoxes(pack(models, {"a": 3.2, "b": None}), 24)


def test_a_crop_follows_from_its_seed(crops):
    first, again, other = (crops.sample(np.random.default_rng(seed)) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.shape == (24, 24, 24)
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.1


def test_pytorch_makes_the_same_targets_and_repeats_its_own_noise(crops):
    there = SyntheticBoxes(crops.structures, 24, device=torch.device("cpu"))
    (density, target), again = (there.sample(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(density, again[0])
    own_density, own_target = crops.sample(np.random.default_rng(5))
    np.testing.assert_allclose(target, own_target, atol=1e-4)
    assert np.corrcoef(density.ravel(), own_density.ravel())[0, 1] > 0.5  # other noise


def test_maps_show_their_targets(crops):
    pairs = [crops.sample(np.random.default_rng(seed)) for seed in range(12)]
    correlations = [np.corrcoef(density.ravel(), target.ravel())[0, 1] for density, target in pairs]
    assert np.median(correlations) > 0.5
    assert all(values.min() >= 0 and values.max() <= 1 for pair in pairs for values in pair)


def test_large_structures_come_more_often(crops):
    sizes = crops.structures.table["atoms"].to_numpy()
    np.testing.assert_allclose(crops.share[1] / crops.share[0], np.sqrt(sizes[1] / sizes[0]))


def test_local_targets_are_as_sharp_as_the_map_only_where_it_is(crops):
    local = SyntheticBoxes(crops.structures, 24, local_target=True)
    for seed in range(4):
        (map_a, uniform), (map_b, own) = (
            source.sample(np.random.default_rng(seed)) for source in (crops, local)
        )
        np.testing.assert_array_equal(map_a, map_b)
        assert np.abs(uniform - own).max() > 0.02
        assert np.corrcoef(uniform.ravel(), own.ravel())[0, 1] > 0.6
