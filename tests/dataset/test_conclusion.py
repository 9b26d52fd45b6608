"""Which prepared pairs are taken: on made cards, each with a fault of its own."""

import json

import pandas as pd
import pytest

from cryoready.dataset.conclusion import SHEET_COLUMNS, conclude, provenance
from cryoready.dataset.filters import PAIR_FILTERS
from cryoready.dataset.select import COLUMNS
from cryoready.dataset.sheet import read_sheet

LIMITS = {
    **{"overlap": 0.9, "cc_mask": 0.65, "residues": 50, "backbone_only": 0.25, "unknown": 0.1},
    **{"nucleic_acid": "keep", "copies": 24},
}
GOOD = {
    **{"overlap": 0.99, "cc_mask": 0.75, "cc_mask_1A": 0.74, "shift": 0.1, "residues": 400},
    **{"backbone_only": 0.1, "unknown": 0.0, "nucleic_acid": 0.0, "copies": 2, "atoms": 3000},
}
COUNTS = {"train": 2, "val": 1, "test": 1}


def candidates_of(*rows):
    """A table as of `select`, every cell as text: (number, split, rank) of EMD-<number>."""
    table = [
        {
            **{"id": f"EMD-{number}", "emdb": f"EMD-{number}", "pdb": "1abc", "resolution": "3.5"},
            **{"contour": "0.02", "voxels": "1000", "voxel_size": "1.1", "cluster": "1ABC_1"},
            **{"split": split, "rank": str(rank), "rejected_because": ""},
        }
        for number, split, rank in rows
    ]
    return pd.DataFrame(table, columns=list(COLUMNS))


def card(number, **changes):
    known = {"id": f"EMD-{number}", "version": "0", "boxes": 9, "assembly": "deposited"}
    return known | {"correlation": 0.8, "quality": GOOD | changes}


def failed(number, reason):
    return {"id": f"EMD-{number}", "version": "0", "failed": reason, "boxes": 0}


def judged(candidates, cards, *, counts=COUNTS, **limits):
    return conclude(candidates, cards, limits=LIMITS | limits, counts=counts)


def reasons_of(found):
    return dict(zip(found.entries["id"], found.entries["rejected_because"], strict=True))


FAULTS = {  # what is beyond its limit, and the reason
    "overlap": (0.85, "overlap: 0.85, less than 0.9"),
    "cc_mask": (0.6, "cc_mask: 0.6, less than 0.65"),
    "residues": (49, "residues: 49, less than 50"),
    "backbone_only": (0.3, "backbone_only: 0.3, more than 0.25"),
    "unknown": (0.2, "unknown: 0.2, more than 0.1"),
    "nucleic_acid": (None, "nucleic_acid: unknown, the setting is keep"),
    "copies": (60, "copies: 60, more than 24"),
}


def test_every_filter_rejects_its_own_pair_and_no_other():
    numbers = range(1001, 1001 + len(FAULTS))
    cards = [card(n, **{name: FAULTS[name][0]}) for n, name in zip(numbers, FAULTS, strict=True)]
    rows = [(n, "train", n) for n in (*numbers, 2000)]
    found = judged(candidates_of(*rows), [*cards, card(2000)])
    words = [reason for _, reason in FAULTS.values()]
    assert list(reasons_of(found).values()) == [*words, ""]
    counted = found.filters.set_index("filter")
    assert list(counted.index) == ["files", *PAIR_FILTERS, "surplus"]
    assert counted["rejected"].to_dict() == {
        "files": 0,
        **dict.fromkeys(FAULTS, 1),
        "surplus": 0,
    }
    assert counted["left"].tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 1]
    assert set(found.entries["split"][:-1]) == {""}


def test_a_pair_counts_where_it_was_rejected_first():
    found = judged(candidates_of((1001, "train", 1)), [card(1001, overlap=0.1, copies=60)])
    assert reasons_of(found)["EMD-1001"].startswith("overlap: ")
    assert found.filters["rejected"].sum() == 1


def test_files_that_could_not_be_used_are_a_reason_by_themselves():
    """Nothing is known of such a pair, which must not look like a failure of the next filter."""
    cards = [failed(1001, "no such entry"), card(1002)]
    found = judged(candidates_of((1001, "train", 1), (1002, "train", 2)), cards)
    assert reasons_of(found) == {"EMD-1001": "files: no such entry", "EMD-1002": ""}
    assert found.filters.set_index("filter")["rejected"]["files"] == 1
    assert found.pairs.set_index("id")["cc_mask"].isna().tolist() == [True, False]


def test_ranks_fill_the_splits():
    """Not the order of the table, nor the text "10" before "9"."""
    ranks = {1001: 10, 1002: 9, 1003: 11, 1004: 1}
    rows = [(number, "train", rank) for number, rank in ranks.items()]
    cards = [card(1004, cc_mask=0.1), *(card(n) for n in (1003, 1002, 1001))]
    found = judged(candidates_of(*rows, (1005, "val", 3)), [*cards, card(1005)])
    assert dict(zip(found.entries["id"], found.entries["split"], strict=True)) == {
        **{"EMD-1001": "train", "EMD-1002": "train", "EMD-1003": "", "EMD-1004": ""},
        "EMD-1005": "val",
    }
    assert reasons_of(found)["EMD-1003"] == "not needed: the train split has its 2 pairs"


def test_one_rejected_pair_moves_no_other_to_another_split():
    rows = [(1000 + k, split, k) for k, split in enumerate(("train", "val", "test") * 3)]
    cards = [card(number) for number, _, _ in rows]
    counts = dict.fromkeys(COUNTS, 2)
    before = judged(candidates_of(*rows), cards, counts=counts).entries["split"]
    cards[0] = failed(1000, "no such entry")
    after = judged(candidates_of(*rows), cards, counts=counts).entries["split"]
    assert (before[0], after[0]) == ("train", "")
    assert (before[6], after[6]) == ("", "train")  # the reserve
    others = [k for k in range(9) if k not in (0, 6)]
    assert before[others].tolist() == after[others].tolist()


def test_a_candidate_without_a_card_is_not_taken():
    found = judged(candidates_of((1001, "train", 1), (1002, "val", 1)), [card(1001)])
    assert reasons_of(found) == {"EMD-1001": "", "EMD-1002": "files: no pair"}


def test_who_was_no_candidate_is_not_judged():
    candidates = candidates_of((1001, "train", 1), (1002, "", 0))
    candidates.loc[1, "rejected_because"] = "box: 700, not 48-640 voxels"
    found = judged(candidates, [card(1001)])
    assert found.entries["id"].tolist() == ["EMD-1001"]


@pytest.mark.parametrize(
    ("rows", "cards"),
    [
        ((), []),
        (((1001, "train", 1),), []),
        (((1001, "train", 1), (1002, "test", 1)), [failed(1001, "x"), failed(1002, "y")]),
    ],
    ids=["no candidates", "no cards", "nothing but failures"],
)
def test_nothing_is_taken_of_nothing(rows, cards):
    found = judged(candidates_of(*rows), cards)
    assert found.entries.columns.tolist() == SHEET_COLUMNS
    assert len(found.entries) == len(rows)
    assert set(found.entries["split"]) <= {""}
    assert set(found.filters["left"]) == {0}
    assert found.pairs.columns.tolist()[:2] == ["id", "boxes"]
    first, advice = found.lines(COUNTS)
    assert first == "0 train, 0 val, 0 test pairs"
    assert "train, val, test" in advice


def test_what_is_said_in_the_end():
    rows = [(1001, "train", 1), (1002, "train", 2), (1003, "val", 1), (1004, "test", 1)]
    whole = judged(candidates_of(*rows), [card(number) for number, _, _ in rows])
    assert whole.lines(COUNTS) == ["2 train, 1 val, 1 test pairs"]
    cards = [card(1001), card(1002), card(1003), card(1004, cc_mask=0.2)]
    told, advice = judged(candidates_of(*rows), cards).lines(COUNTS)
    assert told == "2 train, 1 val, 0 test pairs"
    assert advice.startswith("fewer than dataset.counts wants for test: raise dataset.reserve")


def test_the_table_is_a_sheet(tmp_path):
    """With a level below zero, as EMDB has some, and with all that a reason may be made of."""
    candidates = candidates_of((1001, "train", 1), (1002, "test", 1), (1003, "val", 1))
    candidates["contour"] = ["-0.5", "", "1e-05"]
    awkward = failed(1002, "emd_1002.map.gz: 'x' is no \"map\", but <html>; see https://a/b")
    found = judged(candidates, [card(1001), awkward, card(1003)])
    path = tmp_path / "entries.tsv"
    found.entries.to_csv(path, sep="\t", index=False)
    sheet = read_sheet(path)
    assert [(e.split, e.contour) for e in sheet.values()] == [
        *(("train", None), (None, None), ("val", 1e-5)),
    ]
    assert sheet["EMD-1002"].rejected_because.startswith('"files: emd_1002.map.gz: ')


# where it came from


def test_checksums_are_those_of_files_of_the_archive():
    """A model of the user has no name in the archive; metadata change with every remark."""
    archived = {"map": "EMD-1001", "model": "1abc", "metadata": "EMD-1001"}
    sources = {"map": "aa", "model": "bb", "metadata": "cc"}
    cards = [
        card(1002) | {"sources": {"map": "dd", "model": "ee"}, "archived": {"map": "EMD-1002"}},
        card(1001) | {"sources": sources, "archived": archived},
        failed(1003, "no such entry"),
    ]
    history = [{"query": "q"}, {"clusters": "c"}]
    found = judged(candidates_of((1001, "train", 1), (1002, "val", 1)), cards)
    known = provenance(history, found.filters, {"counts": COUNTS}, cards)
    assert known["checksums"] == {
        "map": {"EMD-1001": "aa", "EMD-1002": "dd"},
        "model": {"1abc": "bb"},
    }
    assert list(known["checksums"]["map"]) == ["EMD-1001", "EMD-1002"]
    assert (known["catalogue"], known["selection"]) == ({"query": "q"}, {"clusters": "c"})
    assert known["filters"][0] == {"filter": "files", "rejected": 1, "left": 2}
    assert json.loads(json.dumps(known)) == known
