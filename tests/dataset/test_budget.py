"""What a data set costs: the closed forms of the estimate, and what it is compared with."""

import subprocess
import sys

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.dataset.budget import cost, passing_megabytes
from cryoready.dataset.pairs import cut_boxes
from cryoready.dataset.prepare import Pair

BOXES = {"edge_voxels": 60, "stride_voxels": 30, "least_share": 0.02, "most": None}
BYTES_A_BOX = 60**3 * 2 * 2  # map and target, 16 bit each


def candidate(edge, voxel_size=1.0):
    return {"id": "EMD-1001", "voxels": float(edge**3), "voxel_size": voxel_size}


@pytest.mark.parametrize("edge", [48, 120, 350, 640])
def test_the_disk_holds_the_largest_map_of_so_many_voxels(edge):
    """32-bit floats and a header, which no compression makes smaller; not much more."""
    needed = 4 * edge**3 + 1024
    assert 0 <= passing_megabytes(edge**3) * 1e6 - needed < 2e6


def test_memory_is_that_of_the_largest_map():
    """At least the map, what it is resampled to, target and zone, all of 32 bits."""
    edges = (1, 48, 100, 200, 350, 640)
    memory = [cost([candidate(edge), candidate(1)], BOXES).memory for edge in edges]
    assert memory == sorted(set(memory))
    assert (memory[-1] - memory[0]) * 1e6 > 4 * 4 * 640**3


@pytest.mark.parametrize(
    ("edge", "voxel_size", "number"),
    [(300, 1.0, 6**3), (150, 2.0, 6**3), (600, 0.5, 6**3), (600, 1.0, 11**3), (60, 1.0, 2**3)],
)
def test_boxes_cover_half_of_the_edge(edge, voxel_size, number):
    """Every 30 Å from 0 to half of the edge in Å, along three axes."""
    kept = cost([candidate(edge, voxel_size)], BOXES).kept
    assert kept == pytest.approx(number * BYTES_A_BOX)


@pytest.mark.parametrize(("most", "number"), [(8, 8), (1, 1), (10**6, 6**3)])
def test_no_more_boxes_are_kept_than_are_allowed(most, number):
    kept = cost([candidate(300)], {**BOXES, "most": most}).kept
    assert kept == pytest.approx(number * BYTES_A_BOX)


def test_boxes_have_the_size_on_the_disk_that_is_counted_on():
    data = np.zeros((60, 60, 60), dtype=np.float32)
    volume = Volume(data, np.ones(3), np.zeros(3))
    pair = Pair(volume, volume, data > 0, 4.0)
    stack = cut_boxes(pair, [(0, 0, 0), (0, 0, 0)], 60)
    assert stack.nbytes == 2 * BYTES_A_BOX


def test_costs_add_up():
    some, others = [candidate(100), candidate(333, 0.83)], [candidate(512, 1.4)]
    first, second, both = (cost(rows, BOXES) for rows in (some, others, some + others))
    for name in ("pairs", "fetched", "kept", "seconds"):
        assert getattr(both, name) == pytest.approx(getattr(first, name) + getattr(second, name))
    assert both.pairs == 3
    assert second.fetched == 4 * 512**3
    assert both.memory == max(first.memory, second.memory)


def test_numbers_may_be_the_text_of_a_table():
    text = {"voxels": "27000000", "voxel_size": "1.00"}
    assert cost([text], BOXES) == cost([candidate(300)], BOXES)


def test_the_user_is_told_gigabytes_and_hours():
    """436 maps of 400³ voxels: 112 GB, 3.1 h at 10 MB/s; 436 boxes of 0.864 MB: 0.4 GB."""
    total = cost([candidate(400)] * 436, {**BOXES, "most": 1})
    fetched, kept, computed, warning = total.lines(cores=4, memory=8000)
    assert fetched == "436 pairs to fetch, up to 111.6 GB: 3.1 h at 10 MB/s"
    assert kept.startswith("about 0.4 GB of boxes stay (dataset.boxes.most ")
    hours, memory = total.seconds / 3600 / 4, total.memory / 1e3
    assert computed == (
        f"about {hours:.1f} h of computing on 4 cores, up to {memory:.1f} GB of memory a job"
    )
    assert "4 such jobs do not fit into 8 GB" in warning
    assert "mem_mb=6400" in warning
    assert len(total.lines(cores=4, memory=64_000)) == 3


def test_more_boxes_than_the_disk_may_hold_are_refused():
    total = cost([candidate(300)] * 100, BOXES)  # 216 boxes of 0.864 MB each: 18.7 GB
    total.check(most_gigabytes=19)
    with pytest.raises(CryoreadyError, match=r"about 19 GB .*gigabytes = 10: .* 54% of them"):
        total.check(most_gigabytes=10)


def test_nothing_costs_nothing():
    nothing = cost([], BOXES)
    assert (nothing.pairs, nothing.fetched, nothing.kept, nothing.seconds) == (0, 0, 0, 0)
    assert nothing.lines(cores=1, memory=1000)[0].startswith("0 pairs to fetch")


def test_the_module_is_light_enough_for_the_snakefile():
    code = (
        "import sys; before = set(sys.modules); import cryoready.dataset.budget;"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert loaded.stdout.split() == ["cryoready"]
