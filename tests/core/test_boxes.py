"""Tiling proven with trivial predictors: whatever the shape, every voxel is seen and comes back."""

import numpy as np
import pytest

from cryoready.core.boxes import (
    axis_starts,
    blend_boxes,
    box_starts,
    extract_boxes,
    offsets_within,
    pad_to_edge,
)

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
@pytest.mark.parametrize("stride", [12, 24, 48])
def test_identity_predictor_returns_the_volume(shape, stride):
    rng = np.random.default_rng(0)
    data = rng.normal(size=shape).astype(np.float32)
    weight = rng.uniform(0.1, 1, (48, 48, 48)).astype(np.float32)
    corners = box_starts(shape, 48, stride)
    boxes = zip(corners, extract_boxes(data, corners, 48), strict=True)
    np.testing.assert_allclose(blend_boxes(boxes, shape, weight), data, atol=2e-6)


def test_uncovered_voxels_are_zero():
    boxes = [((0, 0, 0), np.ones((2, 2, 2), dtype=np.float32))]
    blended = blend_boxes(boxes, (3, 3, 3), np.ones((2, 2, 2), dtype=np.float32))
    assert blended[:2, :2, :2].min() == 1
    assert blended.sum() == 8


def test_padding_only_grows_short_axes():
    padded = pad_to_edge(np.ones((10, 60, 48), dtype=np.float32), 48)
    assert padded.shape == (48, 60, 48)
    assert padded[10:].max() == 0


@pytest.mark.parametrize("reach", [[0], [2], [1, 0, 2], [2, 3, 1]])
def test_offsets_within_a_reach(reach):
    """Each once, in C order, from -reach to +reach."""
    axes = [np.arange(-r, r + 1) for r in reach]
    expected = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(reach))
    np.testing.assert_array_equal(offsets_within(np.array(reach)), expected)
