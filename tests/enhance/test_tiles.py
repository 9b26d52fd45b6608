"""Tiles cover what they should with as little work as they can."""

from itertools import product

import numpy as np
import pytest

from cryoready.core.boxes import extract_box
from cryoready.core.rotations import PROPER_ROTATIONS
from cryoready.enhance.tiles import (
    HALF_OVERLAP,
    PAPER,
    Signal,
    Tiling,
    cheapest_tiling,
    default_layout,
    paper_layout,
)
from cryoready.network.scunet import Architecture

VOXEL = Architecture(norm="voxel")
FRN = Architecture(norm="frn")
LARGE = 10**7  # voxels, of a tile


def full(shape):
    """Signal everywhere."""
    return Signal.of(np.ones(shape, dtype=np.float32), edge=24, skip_empty=False)


def in_cells(shape, *cells):
    """Signal in single cells of 24³."""
    inside = np.zeros([-(-n // 24) for n in shape], dtype=bool)
    inside[tuple(np.transpose(cells))] = True
    z, y, x = (slice(0, n) for n in shape)
    return Signal((z, y, x), inside, 24, shape)


def counts(shape, tiling, corners):
    """How many tiles cover each voxel."""
    total = np.zeros(shape, dtype=int)
    for corner in corners:
        extract_box(total, corner, tiling.shape)[...] += 1
    return total


SHAPES = [(20, 24, 25), (48, 49, 72), (100, 61, 193), (264, 24, 150)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [48**3, 96**3, LARGE])
@pytest.mark.parametrize("architecture", [VOXEL, FRN], ids=["voxel", "frn"])
def test_every_voxel_lies_in_a_tile(shape, most, architecture):
    layout = default_layout(full(shape), architecture, most)
    assert counts(shape, layout.tiling, layout.corners).min() > 0
    assert layout.skipped == 0
    assert layout.skipped_share(shape) == pytest.approx(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [48**3, 96**3, LARGE])
def test_windows_of_large_tiles_coincide_and_they_overlap_by_a_cell(shape, most):
    tiling = cheapest_tiling(full(shape), most)
    assert not np.any(np.array(tiling.shape) % 24)
    assert not np.any(np.array(tiling.corners(shape)) % 24)
    assert tiling.voxels <= most
    for starts, edge, step in zip(tiling.starts(shape), tiling.shape, tiling.stride, strict=True):
        assert len(starts) == 1 or edge - step == 24


@pytest.mark.parametrize(
    ("length", "edge", "number"),
    [(100, 120, 1), (144, 144, 1), (192, 192, 1), (193, 120, 2), (264, 144, 2), (150, 168, 1)],
)
def test_the_least_work_along_an_axis(length, edge, number):
    """By hand: 193 voxels are 9 cells, so 2 tiles of 5 cells (10) and not 3 of 4 or 1 of 9."""
    tiling = cheapest_tiling(full((24, 24, length)), LARGE)
    assert tiling.shape == (24, 24, edge)
    assert len(tiling.corners((24, 24, length))) == number


def test_tiles_without_signal_are_passed_over():
    """A diagonal of 8 cells is covered with small tiles rather than with one large one.

    By hand: of 7³ tiles of 2³ cells those whose starts differ by at most 1: 7 + 6·6.
    """
    signal = in_cells((192, 192, 192), *((k, k, k) for k in range(8)))
    layout = default_layout(signal, VOXEL, LARGE)
    assert layout.tiling.shape == (48, 48, 48)
    assert (len(layout.corners), layout.skipped) == (43, 300)
    covered = counts(signal.shape, layout.tiling, layout.corners)
    for k in range(8):
        assert extract_box(covered, (24 * k,) * 3, 24).min() > 0


@pytest.mark.parametrize(
    "tiling", [HALF_OVERLAP, PAPER, Tiling((72, 48, 24), (48, 24, 24), "smooth", hanging=True)]
)
def test_a_tile_is_seen_if_and_only_if_it_holds_signal(tiling):
    """Against a search in voxels; tiles that do not end with cells count what they touch."""
    shape = (72, 75, 96)
    cells = np.random.default_rng(0).random((3, 4, 4)) < 0.1
    signal = Signal(tuple(slice(0, n) for n in shape), cells, 24, shape)
    voxels = cells.repeat(24, 0).repeat(24, 1).repeat(24, 2)
    for corner, seen in zip(tiling.corners(shape), signal.in_tiles(tiling).flat, strict=True):
        low = np.array(corner) // 24 * 24
        high = -(-(np.array(corner) + tiling.shape) // 24) * 24
        assert seen == extract_box(voxels, tuple(low), tuple(high - low)).any()


def test_the_region_is_the_box_around_the_signal():
    density = np.zeros((100, 90, 80), dtype=np.float32)
    density[50:60, 88:, 30] = 1
    signal = Signal.of(density, edge=24, skip_empty=True)
    for part, low, high in zip(signal.region, (50, 88, 30), (60, 90, 31), strict=True):
        assert low - 12 - 24 < part.start <= low
        assert part.start % 24 == 0
        assert high <= part.stop <= high + 12
    assert signal.cells.any(axis=(1, 2))[[0, -1]].all()
    assert signal.shape == density[signal.region].shape
    assert np.prod(signal.shape) < density.size / 4


def test_behind_the_signal_tiles_see_the_map():
    """A signal of 30 voxels in tiles of 48: the map goes on for 18 voxels, or ends before."""
    for size, end in ((100, 68), (60, 60)):
        signal = Signal(
            (slice(20, 50), slice(0, 24), slice(0, 24)),
            np.ones((2, 1, 1), bool),
            24,
            (size, 24, 24),
        )
        layout = default_layout(signal, VOXEL, LARGE)
        assert layout.tiling.shape == (48, 24, 24)
        assert layout.region[0] == slice(20, end)


def test_the_paper_sees_a_box_with_any_positive_voxel():
    density = np.zeros((48, 48, 96), dtype=np.float32)
    density[5, 5, 95] = 1e-6
    layout = paper_layout(density)
    assert layout.corners == [(0, 0, 48)]
    assert layout.skipped == 4


@pytest.mark.parametrize(
    "tiling", [HALF_OVERLAP, Tiling((96, 72, 48), (72, 48, 24), "smooth", hanging=True)]
)
def test_smooth_weights_are_positive_and_add_up_to_one_between_the_ends(tiling):
    weight = tiling.weight()
    assert weight.shape == tiling.shape
    assert weight.min() > 0
    total = np.zeros([3 * n for n in tiling.shape])
    for corner in product(
        *(range(0, 2 * n, s) for n, s in zip(tiling.shape, tiling.stride, strict=True))
    ):
        inside = extract_box(total, corner, tiling.shape)
        inside += weight[tuple(slice(n) for n in inside.shape)]
    inner = tuple(slice(n, 2 * n) for n in tiling.shape)
    np.testing.assert_allclose(total[inner], 1, atol=1e-6)


def test_the_weights_of_cubes_are_those_of_half_overlapping_raised_cosines():
    weight = HALF_OVERLAP.weight()
    line = np.sin(np.pi * (np.arange(48) + 0.5) / 48) ** 2
    np.testing.assert_allclose(weight, line[:, None, None] * line[:, None] * line, rtol=1e-5)
    for rotation in PROPER_ROTATIONS:
        np.testing.assert_allclose(rotation.apply(weight), weight, rtol=1e-5)
