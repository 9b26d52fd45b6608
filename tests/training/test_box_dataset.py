"""Crops of boxes: what is drawn, and that it stays a right-handed pair."""

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.rotations import PROPER_ROTATIONS
from cryoready.training.box_dataset import BoxDataset, BoxStack


def stack_of(path, n, edge=16, seed=0):
    """``n`` boxes; the target is half of the map."""
    boxes = np.random.default_rng(seed).random((n, 2, edge, edge, edge)).astype(np.float16)
    boxes[:, 1] = boxes[:, 0] / 2
    np.save(path, boxes)
    return BoxStack.open(path)


@pytest.fixture
def stack(tmp_path):
    return stack_of(tmp_path / "boxes.npy", 2)


def test_map_and_target_are_turned_and_cut_together(stack):
    dataset = BoxDataset([stack], 12)
    for seed in range(5):
        density, target = dataset.sample(np.random.default_rng(seed))
        assert density.shape == (12, 12, 12)
        np.testing.assert_allclose(target, density / 2, atol=1e-3)


def test_a_crop_is_a_properly_rotated_part_of_a_box(stack):
    density, _ = BoxDataset([stack], 12).sample(np.random.default_rng(7))
    found = [
        np.array_equal(turn.apply(stack.read(k)[0])[z : z + 12, y : y + 12, x : x + 12], density)
        for k in range(2)
        for turn in PROPER_ROTATIONS
        for z, y, x in np.ndindex(5, 5, 5)
    ]
    assert sum(found) == 1


def test_a_corner_of_a_box_comes_to_every_corner_of_a_crop_or_is_cut_off(stack):
    boxes = np.zeros((1, 2, 16, 16, 16), np.float16)
    boxes[0, :, 0, 0, 0] = 1
    np.save(stack.path, boxes)
    dataset = BoxDataset([BoxStack.open(stack.path)], 15)
    rng = np.random.default_rng(0)
    seen = {tuple(map(tuple, np.argwhere(dataset.sample(rng)[0]))) for _ in range(400)}
    corners = {((z, y, x),) for z in (0, 14) for y in (0, 14) for x in (0, 14)}
    assert seen == corners | {()}


def test_an_entry_is_drawn_by_the_root_of_its_boxes(tmp_path):
    """Of 9 and 1 boxes, chances 3 to 1: 750 of 1000 within 4 standard deviations of 13.7."""
    stacks = [stack_of(tmp_path / f"{n}.npy", n, edge=4) for n in (9, 1)]
    np.save(stacks[1].path, np.zeros((1, 2, 4, 4, 4), np.float16))
    dataset = BoxDataset(stacks, 4)
    rng = np.random.default_rng(0)
    large = sum(bool(dataset.sample(rng)[0].any()) for _ in range(1000))
    assert abs(large - 750) < 55


def test_by_index_comes_the_central_crop(stack):
    density, target = BoxDataset([stack], 12)[1]
    np.testing.assert_array_equal(density[0], stack.read(1)[0][2:14, 2:14, 2:14])
    np.testing.assert_array_equal(target[0], stack.read(1)[1][2:14, 2:14, 2:14])


def test_boxes_smaller_than_the_crop_are_refused(stack):
    with pytest.raises(CryoreadyError, match="boxes of 16 voxels cannot hold a crop of 48"):
        BoxDataset([stack], 48)


def test_stacks_without_any_box_are_refused(tmp_path):
    empty = stack_of(tmp_path / "boxes.npy", 0)
    with pytest.raises(CryoreadyError, match=r"none of 1 stacks .* dataset.boxes.least_share"):
        BoxDataset([empty], 12)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x93NUMPY\x01\x00"])
def test_a_broken_stack_is_one_line(tmp_path, content):
    path = tmp_path / "boxes.npy"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match="not a stack of boxes") as caught:
        BoxStack.open(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_a_stack_cut_off_is_named(stack, keep):
    content = stack.path.read_bytes()
    stack.path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CryoreadyError, match=r"boxes.npy: not a stack of boxes \(.*\); delete it"):
        BoxStack.open(stack.path)
    with pytest.raises(CryoreadyError, match=r"boxes.npy: box 1 cannot be read \(.*\); delete"):
        stack.read(1)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((3, 6, 6, 6), np.float16), "shape .3, 6, 6, 6., expected"),
        (
            np.zeros((3, 2, 6, 6, 5), np.float16),
            "shape .3, 2, 6, 6, 5., expected .n, 2, edge, edge, edge.",
        ),
        (np.zeros((3, 2, 6, 6, 6), np.float64), "type float64, expected float16"),
    ],
)
def test_another_shape_or_type_is_refused(tmp_path, boxes, message):
    np.save(tmp_path / "boxes.npy", boxes)
    with pytest.raises(CryoreadyError, match=f"boxes.npy: {message}"):
        BoxStack.open(tmp_path / "boxes.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_box_that_is_not_finite_is_named(stack, value):
    boxes = np.load(stack.path)
    boxes[1, 0, 3, 2, 1] = value
    np.save(stack.path, boxes)
    stack.read(0)
    with pytest.raises(CryoreadyError, match=r"boxes.npy: box 1 has values that are not finite"):
        stack.read(1)


def test_other_targets_may_stand_in(tmp_path):
    rng = np.random.default_rng(0)
    boxes = rng.random((2, 2, 24, 24, 24)).astype(np.float16)
    np.save(tmp_path / "boxes.npy", boxes)
    np.save(tmp_path / "local.npy", boxes[:, 1] / 2)
    stack = BoxStack.open(tmp_path / "boxes.npy", tmp_path / "local.npy")
    density, target = stack.read(1)
    np.testing.assert_array_equal(density, boxes[1, 0])
    np.testing.assert_array_equal(target, boxes[1, 1] / 2)
    np.save(tmp_path / "local.npy", boxes[:1, 1])
    with pytest.raises(CryoreadyError, match="box 1 cannot be read"):
        stack.read(1)
