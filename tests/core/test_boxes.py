"""Tiling proven with trivial predictors: whatever the shape, every voxel is seen and comes back."""

import numpy as np
import pytest

from cryoready.core.boxes import axis_starts, blend_boxes, box_starts, cut_box, offsets_within

SHAPES = [(48, 48, 48), (49, 60, 71), (100, 48, 53)]


@pytest.mark.parametrize(("length", "edge", "stride"), [(48, 48, 12), (49, 48, 12), (100, 48, 24)])
def test_boxes_cover_an_axis_and_end_at_its_border(length, edge, stride):
    starts = axis_starts(length, edge, stride)
    covered = np.zeros(length, dtype=bool)
    for start in starts:
        covered[start : start + edge] = True
    assert covered.all()
    assert starts[-1] + edge == length
    assert len(starts) == len(set(starts))


def test_stride_beyond_the_edge_would_leave_gaps():
    with pytest.raises(ValueError, match="stride 49"):
        axis_starts(100, 48, 49)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("edges", "strides"), [(48, 12), (48, 48), ((24, 72, 50), (12, 48, 50))])
def test_identity_predictor_returns_the_volume(shape, edges, strides):
    rng = np.random.default_rng(0)
    data = rng.normal(size=shape).astype(np.float32)
    boxes = ((c, cut_box(data, c, edges)) for c in box_starts(shape, edges, strides))
    weight = rng.uniform(0.1, 1, np.broadcast_to(edges, 3)).astype(np.float32)
    total = np.zeros(shape, dtype=np.float32)
    blend_boxes(boxes, weight, total)
    np.testing.assert_allclose(total, data, atol=2e-6)


def test_uncovered_voxels_are_zero():
    boxes = [((0, 0, 0), np.ones((2, 2, 2), dtype=np.float32))]
    total = np.zeros((3, 3, 3), dtype=np.float32)
    blend_boxes(boxes, np.full((2, 2, 2), 1e-9, dtype=np.float32), total)
    np.testing.assert_allclose(total[:2, :2, :2], 1)
    assert total.sum() == pytest.approx(8)


def test_a_box_that_hangs_over_the_end_is_filled_with_zeros():
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    box = cut_box(data, (1, 2, 3), (4, 2, 3))
    assert box.shape == (4, 2, 3)
    np.testing.assert_array_equal(box[:2, :, :2], data[1:, 2:, 3:])
    assert box.sum() == data[1:, 2:, 3:].sum()


@pytest.mark.parametrize("reach", [[0], [2], [1, 0, 2], [2, 3, 1]])
def test_offsets_within_a_reach(reach):
    """Each once, in C order, from -reach to +reach."""
    axes = [np.arange(-r, r + 1) for r in reach]
    expected = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(reach))
    np.testing.assert_array_equal(offsets_within(np.array(reach)), expected)
