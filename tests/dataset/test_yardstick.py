from pathlib import Path

import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.sheet import ARCHIVE_PATTERN, PDB_PATTERN, Entry
from cryoready.dataset.yardstick import chosen, completed, read_yardstick

YARDSTICK = read_yardstick(Path(__file__).parents[2] / "resources/benchmark/yardstick.tsv")


def test_every_row_is_an_entry_of_the_archive():
    assert len(YARDSTICK) == 150
    for entry in YARDSTICK.values():
        assert ARCHIVE_PATTERN.fullmatch(entry.id)
        assert PDB_PATTERN.fullmatch(entry.pdb)
        assert entry.resolution is None or 2 < entry.resolution < 8
    assert YARDSTICK["EMD-0723"].pdb == "6KNB"  # the leading zero is kept
    assert YARDSTICK["EMD-23222"].resolution == 2.9
    assert YARDSTICK["EMD-35363"].resolution is None


def test_the_sheet_comes_first_and_its_gaps_are_filled():
    sheet = {
        "EMD-23222": Entry("EMD-23222", resolution=3.0, contour=0.5),
        "EMD-35363": Entry("EMD-35363", pdb="1ABC"),
        "mine": Entry("mine", map="mine.mrc"),
    }
    both = completed(sheet, YARDSTICK)
    assert both["EMD-23222"] == Entry("EMD-23222", pdb="7L85", resolution=3.0, contour=0.5)
    assert both["EMD-35363"] == sheet["EMD-35363"]
    assert both["mine"] is sheet["mine"]
    assert both["EMD-0723"] is YARDSTICK["EMD-0723"]


def test_all_or_some_are_chosen():
    assert chosen(YARDSTICK, None) == list(YARDSTICK)
    assert chosen(YARDSTICK, ["EMD-0723", "EMD-23222"]) == ["EMD-0723", "EMD-23222"]


@pytest.mark.parametrize("ids", [["EMD-23222", "EMD-3488"], []])
def test_a_wrong_choice_is_one_line(ids):
    with pytest.raises(
        CryoreadyError, match=r"benchmark\.entries: (EMD-3488|an empty list); known"
    ):
        chosen(YARDSTICK, ids)
