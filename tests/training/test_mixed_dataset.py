"""Which source a sample is of, and that it follows from seed, epoch and number alone."""

import numpy as np
import pytest

from cryoready.training.mixed_dataset import MixedDataset


class Uniform:
    """Noise between ``low`` and ``low`` + 1."""

    def __init__(self, low):
        self.low = low

    def __len__(self):
        return 1

    def sample(self, rng):
        density = (self.low + rng.random((4, 4, 4))).astype(np.float32)
        return density, -density


def mixed(share, seed=0):
    return MixedDataset(Uniform(0), Uniform(1), real_share=share, seed=seed)


def test_a_sample_is_a_map_and_its_target_with_a_channel():
    density, target = mixed(0.5)[0, 0]
    assert density.shape == (1, 4, 4, 4)
    np.testing.assert_array_equal(target, -density)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_real_samples_is_the_one_asked_for(share):
    """Within 4 standard deviations of a binomial of 1000 draws."""
    samples = mixed(share)
    real = sum(float(samples[0, i][0].max()) <= 1 for i in range(1000))
    assert abs(real - 1000 * share) <= 4 * np.sqrt(1000 * share * (1 - share))


def test_a_sample_repeats_for_the_same_seed_epoch_and_number_and_for_no_others():
    first = mixed(0.5)[1, 2][0]
    np.testing.assert_array_equal(first, mixed(0.5)[1, 2][0])
    others = [mixed(0.5)[2, 1][0], mixed(0.5)[1, 1][0], mixed(0.5, seed=1)[1, 2][0]]
    assert not any(np.array_equal(first, other) for other in others)


def test_a_share_without_its_source_is_an_error():
    with pytest.raises(ValueError, match="one of the sources is missing"):
        MixedDataset(None, Uniform(0), real_share=1.0, seed=0)[0, 0]
