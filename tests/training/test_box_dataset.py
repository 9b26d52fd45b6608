"""Training samples: what is drawn, that it repeats, and that it stays a right-handed pair."""

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.rotations import PROPER_ROTATIONS
from cryoready.training.box_dataset import BoxDataset, BoxStack


@pytest.fixture
def stack(tmp_path):
    """Two boxes of 30³; the target is half of the map."""
    boxes = np.random.default_rng(0).random((2, 2, 30, 30, 30)).astype(np.float16)
    boxes[:, 1] = boxes[:, 0] / 2
    np.save(tmp_path / "boxes.npy", boxes)
    return BoxStack.open(tmp_path / "boxes.npy")


def sample(dataset, epoch, index):
    dataset.order(epoch)
    return [values.numpy()[0] for values in dataset[index]]


def test_map_and_target_are_turned_and_cut_together(stack):
    dataset = BoxDataset([stack], 24, seed=5)
    for epoch in range(5):
        density, target = sample(dataset, epoch, 1)
        assert density.shape == (24, 24, 24)
        np.testing.assert_allclose(target, density / 2, atol=1e-3)


def test_a_crop_is_a_properly_rotated_part_of_its_box(stack):
    density, _ = sample(BoxDataset([stack], 24, seed=1), 3, 0)
    box = stack.read(0)[0]
    found = [
        any(
            np.array_equal(turn.apply(box)[z : z + 24, y : y + 24, x : x + 24], density)
            for z in range(7)
            for y in range(7)
            for x in range(7)
        )
        for turn in PROPER_ROTATIONS
    ]
    assert sum(found) == 1


def test_samples_repeat_for_the_same_seed_and_epoch_and_change_otherwise(stack):
    first = sample(BoxDataset([stack], 24, seed=1), 0, 0)[0]
    np.testing.assert_array_equal(first, sample(BoxDataset([stack], 24, seed=1), 0, 0)[0])
    assert not np.array_equal(first, sample(BoxDataset([stack], 24, seed=1), 1, 0)[0])
    assert not np.array_equal(first, sample(BoxDataset([stack], 24, seed=2), 0, 0)[0])


def test_every_epoch_sees_every_box_in_another_order(stack):
    dataset = BoxDataset([stack] * 20, 24, seed=1)
    orders = [dataset.order(epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert orders[0] != orders[1]


def test_validation_takes_the_central_crop(stack):
    density, _ = sample(BoxDataset([stack], 24, seed=None), 0, 1)
    np.testing.assert_array_equal(density, stack.read(1)[0][3:27, 3:27, 3:27])


def test_boxes_smaller_than_the_crop_are_refused(stack):
    with pytest.raises(CryoreadyError, match="boxes of 30 voxels cannot hold a crop of 48"):
        BoxDataset([stack], 48, seed=0)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x93NUMPY\x01\x00"])
def test_a_broken_stack_is_one_line(tmp_path, content):
    path = tmp_path / "boxes.npy"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match="not a stack of boxes") as caught:
        BoxStack.open(path)
    assert "\n" not in str(caught.value)


def test_a_stack_of_another_shape_is_refused(tmp_path):
    np.save(tmp_path / "boxes.npy", np.zeros((3, 30, 30, 30), dtype=np.float16))
    with pytest.raises(CryoreadyError, match="expected"):
        BoxStack.open(tmp_path / "boxes.npy")
