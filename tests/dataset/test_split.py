"""Draws that depend on nothing but the seed and the id, and who goes when two are related."""

from collections import Counter

import pytest
from kin import AMINO_ACIDS, drawn, mutated, needs_mmseqs

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.split import fill, preference, redundant, related, split_of

COUNTS = {"train": 256, "val": 70, "test": 110}
HELD_OUT = {"T": {"split": "test", "pdb": None}, "V": {"split": "val", "pdb": "1abc"}}


def nobody(entries, others):
    return {}


def test_the_draw_is_a_hash_of_seed_and_id():
    """Of ``printf '1 split EMD-3488' | sha256sum`` the first digits are 609d: 0.377 of 0xffff.

    Of EMD-0001 3077 (0.189), of EMD-12345 7c01 (0.484); test ends at 110/436 = 0.252, val at 0.413.
    """
    ids = ("EMD-3488", "EMD-0001", "EMD-12345")
    assert [split_of(e, COUNTS, {}, 1) for e in ids] == ["val", "test", "train"]
    turned = dict(reversed(COUNTS.items()))
    assert [split_of(e, turned, {}, 1) for e in ids] == ["val", "test", "train"]
    # printf '1 EMD-3488' | sha256sum: 1bbf; of EMD-0001 851b, of EMD-12345 32d9
    assert preference(ids, {}, 1) == ["EMD-3488", "EMD-12345", "EMD-0001"]


def test_splits_have_the_proportions_of_the_counts():
    ids = [f"EMD-{k:04d}" for k in range(20_000)]
    drawn = Counter(split_of(e, COUNTS, {}, 1) for e in ids)
    for split, number in COUNTS.items():
        assert drawn[split] / 20_000 == pytest.approx(number / 436, abs=0.01)  # 3 sigma
    others = [split_of(e, COUNTS, {}, 2) for e in ids]
    assert sum(split_of(e, COUNTS, {}, 1) != s for e, s in zip(ids, others, strict=True)) > 5000
    assert {split_of(e, {"train": 1, "val": 0, "test": 2}, {}, 1) for e in ids} == {"train", "test"}


def test_order_and_split_are_drawn_apart():
    ids = [f"EMD-{k:04d}" for k in range(4000)]
    first = Counter(split_of(e, COUNTS, {}, 1) for e in preference(ids, {}, 1)[:1000])
    assert first["train"] / 1000 == pytest.approx(256 / 436, abs=0.05)


def test_no_pairs_are_wanted():
    with pytest.raises(CryoreadyError, match=r"counts .*'train': 0.*no pairs are wanted"):
        split_of("EMD-0001", dict.fromkeys(COUNTS, 0), {}, 1)


def test_held_out_entries_come_first_and_stay_where_they_are():
    ids = [*(f"EMD-{k:04d}" for k in range(50)), "V", "T"]
    assert preference(ids, HELD_OUT, 1)[:2] == ["T", "V"]
    assert {split_of("T", COUNTS, HELD_OUT, seed) for seed in range(20)} == {"test"}
    assert {split_of("V", COUNTS, HELD_OUT, seed) for seed in range(20)} == {"val"}


def test_who_shares_a_cluster_with_one_before_goes():
    member = {
        "a": frozenset("12"),
        "b": frozenset("23"),  # shares 2 with a
        "c": frozenset("3"),  # b is gone
        "d": frozenset("45"),
        "e": frozenset("5"),  # held out T has 5, as has d
    }
    assert redundant("abcde", member, {}) == {
        "b": "redundant: shares cluster 2 with a",
        "e": "redundant: shares cluster 5 with d",
    }
    assert redundant("cba", member, {}) == {
        "b": "redundant: shares cluster 3 with c",
    }
    held = {"T": {"split": "test", "pdb": None}}
    assert redundant("abcde", member | {"T": frozenset("59")}, held) == {
        "b": "redundant: shares cluster 2 with a",
        "d": "redundant: shares cluster 5 with T (held out)",
        "e": "redundant: shares cluster 5 with T (held out)",
    }


def test_a_held_out_entry_goes_only_for_one_taken_or_of_more_precedence():
    """T of test and V of val are related, U of test to T, W of val to V; some are not there."""
    held = {e: {"split": "test" if e in "TU" else "val", "pdb": None} for e in "TUVW"}
    member = {"T": frozenset("12"), "U": frozenset("2"), "V": frozenset("13"), "W": frozenset("3")}
    assert redundant("U", member, held) == {}
    assert redundant("TU", member, held) == {"U": "redundant: shares cluster 2 with T"}
    assert redundant("V", member, held) == {"V": "redundant: shares cluster 1 with T (held out)"}
    assert redundant("TW", member, held) == {}


def test_a_split_is_filled_in_order_and_the_rest_is_not_needed():
    splits = {f"{split}{k}": split for k in range(4) for split in COUNTS}
    ranks, reasons = fill(splits, {"train": 2, "val": 5, "test": 0}, {}, nobody)
    assert ranks == {"train0": 1, "train1": 2, **{f"val{k}": k + 1 for k in range(4)}}
    assert set(reasons) == {"train2", "train3", *(f"test{k}" for k in range(4))}
    assert reasons["train3"] == "not needed: the train split has its 2 candidates"


def test_who_is_related_to_another_split_goes_and_the_next_steps_in():
    """Entries are related to their neighbours by number."""
    number = {"T": 0, "V": 6, "test1": 1, "test5": 5, "test9": 9, "val2": 2, "val12": 12}
    number |= {"train3": 3, "train7": 7, "train13": 13, "train20": 20, "train21": 21}
    splits = {e: e.rstrip("0123456789") for e in number} | {"T": "test", "V": "val"}
    asked = []

    def relatives_of(entries, others):
        asked.extend((e, o) for e in entries for o in others)
        near = {e: [o for o in others if abs(number[e] - number[o]) == 1] for e in entries}
        return {e: f"homologue: of {o[0]} ({others[o[0]]})" for e, o in near.items() if o}

    ranks, reasons = fill(splits, {"train": 2, "val": 2, "test": 3}, HELD_OUT, relatives_of)
    assert ranks == {
        **{"T": 1, "test1": 2, "test9": 3},  # T and test1 are related, but in one split
        **{"V": 1, "val12": 2},
        **{"train3": 1, "train20": 2},  # train3 is related to val2, which is gone
    }
    assert reasons == {
        "test5": "homologue: of V (val)",  # held-out entries stay
        "val2": "homologue: of test1 (test)",
        "train7": "homologue: of V (val)",
        "train13": "homologue: of val12 (val)",
        "train21": "not needed: the train split has its 2 candidates",
    }
    assert not [pair for pair in asked if splits[pair[0]] == splits[pair[1]]]


def test_only_as_many_are_searched_as_are_needed():
    splits = {f"EMD-{k:04d}": "train" for k in range(5000)}
    batches = []

    def every_second(entries, others):
        batches.append(len(entries))
        return dict.fromkeys(entries[::2], "homologue: ...")

    ranks, _ = fill(splits, {"train": 200, "val": 0, "test": 0}, HELD_OUT, every_second)
    assert list(ranks)[:3] == ["EMD-0001", "EMD-0003", "EMD-0005"]
    assert len(ranks) == 200
    assert sum(batches) < 500


@needs_mmseqs
def test_every_entry_with_a_related_model_is_named():
    """Two maps may have one model fitted into both."""
    protein = drawn(AMINO_ACIDS, 200, 1)
    chains = {
        "protein": {"1abc_A": protein, "2abc_A": mutated(protein, 0.3, AMINO_ACIDS)},
        "nucleic": {},
    }
    models = {"EMD-1": ["1abc"], "EMD-2": ["1abc"], "EMD-3": ["2abc"]}
    found = related(
        ["EMD-1", "EMD-2"], {"EMD-3": "test"}, models=models, chains=chains, e_value=1e-3, threads=1
    )
    assert set(found) == {"EMD-1", "EMD-2"}
    assert "chain A of 2abc of EMD-3 (test)" in found["EMD-2"]
