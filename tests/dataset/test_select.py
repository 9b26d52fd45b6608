"""Choices that must not depend on what else there is, on made and on real entries."""

import json
import random

import numpy as np
import pandas as pd
import pytest
from kin import AMINO_ACIDS, BASES, drawn, mutated, needs_mmseqs
from made_up import made_up_catalogue

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.catalogue import read_catalogue
from cryoready.dataset.filters import FILTERS, judge
from cryoready.dataset.homologues import E_VALUE, hits
from cryoready.dataset.relatives import entry_of, mmseqs_clusters, with_nucleic_clusters
from cryoready.dataset.select import (
    models_to_compare,
    select,
    taken,
    told_counts,
    unknown_held_out,
    with_sheet,
)
from cryoready.files.models import read_model
from cryoready.files.sequences import sequences

SETTINGS = {
    "metadata": {
        "method": "singleParticle",
        "status": "REL",
        "resolution": [3.0, 6.0],
        "model": True,
        "box": [48, 640],
        "half_maps": True,
        "released": ["2015-01-01", "2024-12-31"],
    },
    "relatives": {"identity": 0.3, "e_value": None},
    "counts": {"train": 30, "val": 8, "test": 12},
    "reserve": 1.5,
    "seed": 1,
}
ALL = {"half_maps": False, "released": [None, None]}
GOOD = {
    **{"emdb": "", "pdb": "1abc", "pdbs": "1abc", "title": "", "method": "singleParticle"},
    **{"status": "REL", "resolution": 3.5, "released": "2020-02-29", "contour": 0.1},
    **{"half_maps": 2.0, "box": 300.0, "voxels": 2.7e7, "voxel_size": 1.1},
}
NO_CHAINS = {"protein": {}, "nucleic": {}}


def catalogue_of(rows):
    return pd.DataFrame([GOOD | {"id": entry, "emdb": entry} | row for entry, row in rows.items()])


def settings(**changed):
    return SETTINGS | changed | {"metadata": SETTINGS["metadata"] | changed.get("metadata", {})}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """1500 entries, and clusters such that a few families are large and many are alone."""
    page = tmp_path_factory.mktemp("pages") / "page_0001.json"
    page.write_text(json.dumps(made_up_catalogue(1500, seed=6)))
    table = read_catalogue([page])
    draw = random.Random(0)
    families = {
        pdb: frozenset(
            f"common{draw.randrange(20)}" if draw.random() < 0.15 else f"{draw.randrange(3000)}"
            for _ in range(draw.randint(1, 4))
        )
        for pdbs in table["pdbs"]
        for pdb in filter(None, pdbs.split(","))
    }
    return table, families


@pytest.fixture(scope="module")
def held_out(made_up):
    """Entries of the catalogue, an own one, and one that is not in the catalogue."""
    table, _ = made_up
    some = table[table["pdb"] != ""].sample(40, random_state=1)
    rows = {
        entry: {"split": "val" if k % 4 == 0 else "test", "pdb": pdb.upper() if k % 2 else None}
        for k, (entry, pdb) in enumerate(zip(some["id"], some["pdb"], strict=True))
    }
    other = table["pdb"][table["pdb"] != ""].iloc[7]
    return {
        **rows,
        "mine": {"split": "test", "pdb": None},
        "EMD-99": {"split": "test", "pdb": other},
    }


def chosen(table):
    passed = table[table["rejected_because"] == ""]
    return dict(zip(passed["id"], passed["split"], strict=True))


# filters


def test_each_filter_rejects_its_own_row_and_no_other():
    bad = {
        "method": {"method": "helical"},
        "status": {"status": "HPUB"},
        "resolution": {"resolution": 6.1},
        "model": {"pdb": "", "pdbs": ""},
        "box": {"box": 648.0},
        "half_maps": {"half_maps": 0.0},
        "released": {"released": "2025-01-01"},
    }
    assert list(bad) == list(FILTERS)
    table = catalogue_of({"good": {}, **bad, "good too": {}}).sample(frac=1, random_state=3)
    reasons, counts = judge(table, FILTERS, SETTINGS["metadata"])
    assert dict(zip(table["id"], reasons, strict=True)) == {
        "good": "",
        "good too": "",
        "method": "method: helical, not singleParticle",
        "status": "status: HPUB, not REL",
        "resolution": "resolution: 6.1, not 3-6 Å",
        "model": "model: none",
        "box": "box: 648, not 48-640 voxels",
        "half_maps": "half_maps: none",
        "released": "released: 2025-01-01, not from 2015-01-01 to 2024-12-31",
    }
    assert counts["filter"].tolist() == list(bad)
    assert counts["rejected"].tolist() == [1] * 7
    assert counts["left"].tolist() == [8, 7, 6, 5, 4, 3, 2]


@pytest.mark.parametrize(
    ("column", "passes", "fails"),
    [
        ("resolution", [3.0, 6.0, 4.2], [2.99, 6.01, np.nan]),
        ("box", [48.0, 640.0], [47.0, 641.0, np.nan]),
        ("released", ["2015-01-01", "2024-12-31"], ["2014-12-31", "2025-01-01", ""]),
        ("half_maps", [2.0], [0.0, np.nan]),
        ("method", ["singleParticle"], ["", "subtomogramAveraging"]),
        ("status", ["REL"], ["", "OBS"]),
        ("pdb", ["1abc"], [""]),
    ],
)
def test_limits_are_inside_and_what_is_unknown_is_outside(column, passes, fails):
    rows = {f"{k}": {column: value} for k, value in enumerate([*passes, *fails])}
    reasons, _ = judge(catalogue_of(rows), FILTERS, SETTINGS["metadata"])
    assert (reasons == "").tolist() == [True] * len(passes) + [False] * len(fails)
    name = {"pdb": "model"}.get(column, column)
    assert reasons[len(passes) :].str.startswith(f"{name}: ").all()


def test_filters_that_are_off_reject_nothing():
    rows = {"a": {"half_maps": 0.0}, "b": {"released": ""}, "c": {"pdb": "", "pdbs": ""}}
    off = SETTINGS["metadata"] | ALL | {"model": False}
    assert judge(catalogue_of(rows), FILTERS, off)[0].tolist() == [""] * 3
    since = SETTINGS["metadata"] | {"released": ["2020-03-01", None]}
    told = judge(catalogue_of({"a": {}}), FILTERS, since)[0].tolist()
    assert told == ["released: 2020-02-29, not from 2020-03-01 to any day"]


def test_the_first_filter_that_rejects_gives_the_reason():
    table = pd.DataFrame({"x": [1, 5, 9]}, index=["a", "b", "c"])
    above = {
        name: lambda table, limit, name=name: (f"{name}: " + table["x"].astype(str)).mask(
            table["x"] <= limit, ""
        )
        for name in ("low", "lower")
    }
    reasons, counts = judge(table, above, {"low": 5, "lower": 1})
    assert reasons.to_dict() == {"a": "", "b": "lower: 5", "c": "low: 9"}
    assert counts.to_numpy().tolist() == [["low", 1, 2], ["lower", 1, 1]]


# candidates


def check(table, held_out, families, wanted):
    """What must hold of any choice; returns the split of each candidate."""
    splits = chosen(table)
    assert (table["rejected_because"] == "").equals(table["split"] != "")
    assert (table["split"] != "").equals(table["rank"].notna())
    for split, most in wanted.items():
        ranks = sorted(table["rank"][table["split"] == split])
        assert ranks == list(range(1, len(ranks) + 1))
        assert len(ranks) <= most
    passed = table.loc[table["split"] != ""].set_index("id")["cluster"].str.split(",")
    clusters = [name for names in passed for name in names]
    assert len(clusters) == len(set(clusters)) > len(passed)  # no cluster twice in all splits
    for entry, row in held_out.items():
        assert splits.get(entry, row["split"]) == row["split"]
        theirs = families.get((row["pdb"] or entry).lower(), set())
        assert not theirs & {name for e in passed.index if e not in held_out for name in passed[e]}
    return splits


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_the_order_of_the_catalogue(made_up, held_out, seed):
    table, families = made_up
    with_seed = settings(seed=seed, metadata=ALL)
    once, counts = select(table, families, NO_CHAINS, held_out, with_seed)
    splits = check(once, held_out, families, {"train": 45, "val": 12, "test": 18})
    assert len(once) == 1500
    assert list(splits.values()).count("test") == 18
    assert counts["left"].iloc[-1] == len(splits)
    assert 1500 - counts["rejected"].sum() == len(splits)
    turned, again = select(
        table.sample(frac=1, random_state=seed), families, NO_CHAINS, held_out, with_seed
    )
    ordered = [t.sort_values("id", ignore_index=True) for t in (once, turned)]
    pd.testing.assert_frame_equal(*ordered)
    pd.testing.assert_frame_equal(counts, again)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_more_entries_move_none_between_splits(made_up, held_out, seed):
    table, families = made_up
    plenty = settings(seed=seed, metadata=ALL, reserve=100)
    everything = chosen(select(table, families, NO_CHAINS, held_out, plenty)[0])
    for share in (0.1, 0.5, 0.9):
        part = table.sample(frac=share, random_state=seed)
        fewer, _ = select(part, families, NO_CHAINS, held_out, plenty)
        splits = check(fewer, held_out, families, dict.fromkeys(("train", "val", "test"), 5000))
        both = splits.keys() & everything.keys()
        assert len(both) > 10
        assert {e: splits[e] for e in both} == {e: everything[e] for e in both}


def test_more_reserve_only_adds(made_up, held_out):
    table, families = made_up
    few, many = (
        select(table, families, NO_CHAINS, held_out, settings(metadata=ALL, reserve=reserve))[0]
        for reserve in (1.0, 2.0)
    )
    few, many = (t[t["split"] != ""].set_index("id")[["split", "rank"]] for t in (few, many))
    assert len(many) > len(few)
    pd.testing.assert_frame_equal(many.loc[few.index], few)


def test_the_choice_has_no_bias_in_resolution(made_up):
    table, families = made_up
    found, _ = select(table, families, NO_CHAINS, {}, settings(metadata=ALL))
    others = found[found["rejected_because"].str.startswith("not needed")]["resolution"]
    assert len(others) > 100
    spread = others.std() / np.sqrt(len(chosen(found)))
    assert abs(found[found["split"] != ""]["resolution"].mean() - others.mean()) < 3 * spread


def test_relatives_of_the_held_out_are_nowhere():
    rows = {
        "EMD-0001": {"pdb": "1aaa", "pdbs": "1aaa"},
        "EMD-0002": {"pdb": "1bbb", "pdbs": "1bbb,1xxx"},  # also fitted: one related to mine
        "EMD-0003": {"pdb": "1ccc", "pdbs": "1ccc"},
        "EMD-0004": {"pdb": "1ddd", "pdbs": "1ddd"},
        "EMD-0005": {"pdb": "1eee", "pdbs": "1eee"},
    }
    held = {
        "EMD-0003": {"split": "val", "pdb": "1CCC"},
        "EMD-0100": {"split": "test", "pdb": "9zzz"},
        "mine": {"split": "val", "pdb": None},
        "other": {"split": "test", "pdb": None},
    }
    clusters = {pdb: frozenset(names) for pdb, names in {
        "1aaa": "a", "1bbb": "b", "1xxx": "x", "1ccc": "c", "1eee": "ez", "9zzz": "z", "mine": "x",
    }.items()}  # fmt: skip
    table, counts = select(catalogue_of(rows), clusters, NO_CHAINS, held, SETTINGS)
    assert table["rejected_because"].tolist() == [
        "",
        "redundant: shares cluster x with mine (held out)",
        "",
        "clusters: no sequence known of 1ddd",
        "redundant: shares cluster z with EMD-0100 (held out)",
    ]
    assert table["split"][2] == "val"
    assert table["cluster"][1] == "b,x"
    assert counts.set_index("filter")["rejected"][["clusters", "redundant"]].tolist() == [1, 2]
    assert unknown_held_out(catalogue_of(rows), held, clusters, NO_CHAINS) == ["other"]
    assert models_to_compare(catalogue_of(rows), held, SETTINGS["metadata"]) == {
        *("1aaa", "1bbb", "1xxx", "1ccc", "1ddd", "1eee", "9zzz", "mine", "other")
    }
    narrow = SETTINGS["metadata"] | {"resolution": [5.0, 6.0]}
    assert models_to_compare(catalogue_of(rows), held, narrow) == {"1ccc", "9zzz", "mine", "other"}


def test_an_empty_catalogue_has_no_candidates(held_out):
    table, counts = select(
        read_catalogue([]), {}, NO_CHAINS, held_out, settings(relatives={"e_value": E_VALUE})
    )
    assert len(table) == 0
    assert set(counts["left"]) == {0}
    assert len(taken(table, pd.Series(dtype=object), SETTINGS["counts"])) == 0


def test_an_entry_that_is_there_twice():
    table = pd.concat([catalogue_of({"EMD-0001": {}})] * 2)
    with pytest.raises(CryoreadyError, match="catalogue: EMD-0001 is there twice"):
        select(table, {}, NO_CHAINS, {}, SETTINGS)


# the final choice


def candidates(made_up, held_out, *, seed=1):
    table, families = made_up
    found, _ = select(table, families, NO_CHAINS, held_out, settings(seed=seed, metadata=ALL))
    return found[found["rejected_because"] == ""].set_index("id", drop=False)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_later_rejection_moves_no_entry(made_up, held_out, seed):
    table = candidates(made_up, held_out, seed=seed)
    draw = random.Random(seed)
    earlier = None
    rejected = pd.Series("", index=table.index)
    for entry in draw.sample(list(table.index), 25):
        rejected[entry] = f"cc_mask: {draw.random():.2f}, less than 0.65"
        final = taken(table, rejected, SETTINGS["counts"])
        splits = chosen(final)
        assert all(table["split"][e] == split for e, split in splits.items())
        assert final["rejected_because"][entry].startswith("cc_mask: ")
        if earlier is not None:  # who was taken stays, but for the one rejected; one may follow
            assert earlier.keys() - splits.keys() <= {entry}
            assert len(splits.keys() - earlier.keys()) <= 1
        earlier = splits


def test_the_first_by_rank_are_taken_also_when_read_as_text():
    table = pd.DataFrame(
        {
            "id": list("abcde"),
            "split": ["train"] * 4 + ["val"],
            "rank": ["10", "9", "2", "1", "1"],
            "rejected_because": "",
        }
    )
    rejected = pd.Series(["", "", "", "cc_mask: 0.1, less than 0.65", ""])
    final = taken(table, rejected, {"train": 2, "val": 3, "test": 4})
    assert chosen(final) == {"b": "train", "c": "train", "e": "val"}
    assert final["rejected_because"].tolist() == [
        *("not needed: the train split has its 2 pairs", "", ""),
        *("cc_mask: 0.1, less than 0.65", ""),
    ]
    assert final["split"].tolist() == ["", "train", "train", "", "val"]


# real sequences


@pytest.fixture(scope="module")
def shared(shared_data):
    """Chains of the shared models by polymer, and the split of each."""
    rows = pd.read_csv(shared_data / "entries.tsv", sep="\t")
    chains = {"protein": {}, "nucleic": {}}
    for name, model in zip(rows["name"], rows["model"], strict=True):
        atoms = read_model(shared_data / "maps" / model)
        for polymer, labelled in chains.items():
            found = sequences(atoms, polymer)
            labelled.update({f"{name.lower()}_{c}": text for c, text in found.items()})
    return chains, dict(zip(rows["name"], rows["split"], strict=True))


@needs_mmseqs
def test_no_relative_of_the_shared_entries_is_in_two_splits(shared):
    """The shared test and val entries are held out; relatives of them are planted.

    Copies share a cluster, pieces and copies in a longer strand are found by the search only.
    """
    own, splits = shared
    held = {e: {"split": s, "pdb": None} for e, s in splits.items() if s in ("test", "val")}
    held["EMD-20755"] = {"split": "test", "pdb": None}  # an RNA
    copies, pieces, switch = {}, {}, own["nucleic"]["emd-20755_A"]
    for entry in held.keys() - {"EMD-20755"}:
        of_it = {k: v for k, v in own["protein"].items() if k.startswith(f"{entry.lower()}_")}
        longest = max(of_it.values(), key=len)
        copies[f"copy-of-{entry}"] = mutated(longest, 0.4, AMINO_ACIDS)
        pieces[f"part-of-{entry}"] = mutated(longest[: len(longest) // 2 + 20], 0.3, AMINO_ACIDS)
    strands = {
        f"{k}-part-of-EMD-20755": drawn(BASES, 100, k) + mutated(switch, 0.15, BASES, seed=k)
        for k in range(6)
    }
    planted = {f"{k.lower()}_A": v for k, v in (copies | pieces).items()}
    chains = {
        "protein": own["protein"] | planted,
        "nucleic": own["nucleic"] | {f"{k.lower()}_A": v for k, v in strands.items()},
    }
    entries = [*splits, *copies, *pieces, *strands]
    table = catalogue_of({e: {"pdb": e.lower(), "pdbs": e.lower()} for e in entries})
    clusters = with_nucleic_clusters(mmseqs_clusters(chains), chains)
    plenty = {"counts": dict.fromkeys(("train", "val", "test"), 40)}

    found, _ = select(
        table, clusters, chains, held, settings(**plenty, relatives={"e_value": E_VALUE})
    )
    picked, why = chosen(found), found.set_index("id")["rejected_because"]
    split = {e.lower(): s for e, s in picked.items()}
    for polymer, labelled in chains.items():
        kept = {k: v for k, v in labelled.items() if entry_of(k) in split}
        pairs = hits(kept, kept, polymer=polymer, e_value=E_VALUE)[["query", "target"]]
        assert len(pairs) > len(kept)  # in one split there are relatives
        theirs = pairs.map(entry_of).replace(split)
        assert theirs["query"].equals(theirs["target"])
    assert {e: picked[e] for e in held} == {e: row["split"] for e, row in held.items()}
    for entry in [*copies, *pieces, *strands]:
        original = entry.partition("of-")[2]
        assert picked.get(entry, held[original]["split"]) == held[original]["split"]
    assert all(why[e].startswith("redundant: ") for e in copies)
    assert {why[e].partition(": ")[0] for e in [*pieces, *strands]} == {"", "homologue"}
    assert len({picked.get(f"EMD-{e}") for e in ("1461-A", "6272-A", "6272-box")} - {None}) == 1
    assert {"EMD-1044", "EMD-2566-9", "EMD-5995-part"} <= picked.keys()  # related to none

    by_cluster, _ = select(table, clusters, chains, held, settings(**plenty))
    leaks = {e: s for e, s in chosen(by_cluster).items() if e not in picked}
    assert {"pieces": leaks.keys() & pieces.keys(), "strands": leaks.keys() & strands.keys()} == {
        "pieces": {e for e in pieces if why[e]},
        "strands": {e for e in strands if why[e]},
    }


def test_an_id_that_no_sheet_can_hold_is_left_out():
    table = catalogue_of({e: {"pdb": "1abc"} for e in ("EMD-99999", "EMD-100000")})
    clusters = {"1abc": frozenset({"c"})}
    found, counts = select(table, clusters, {"protein": {}, "nucleic": {}}, {}, settings())
    why = found.set_index("id")["rejected_because"]
    assert why["EMD-100000"] == "id: EMD-100000, more than 5 digits"
    assert not why["EMD-99999"].startswith("id")
    assert counts["filter"].iloc[0] == "id"


def test_models_of_a_held_out_entry_count_whatever_its_resolution():
    """Rejected by a filter, and without a model in the sheet: the catalogue knows it."""
    table = catalogue_of(
        {
            "EMD-1111": {"pdb": "1abc", "pdbs": "1abc"},
            "EMD-2222": {"pdb": "2abc", "pdbs": "2abc,3abc", "resolution": 2.0},
        }
    )
    held = {"EMD-2222": {"split": "test", "pdb": "4ABC,mine"}}
    compared = models_to_compare(table, held, settings()["metadata"])
    assert compared == {"1abc", "2abc", "3abc", "4abc", "mine"}
    clusters = {"1abc": frozenset({"c"}), "3abc": frozenset({"c"})}
    found, _ = select(table, clusters, {"protein": {}, "nucleic": {}}, held, settings())
    why = found.set_index("id")["rejected_because"]
    assert why["EMD-1111"].startswith("redundant: ")
    assert unknown_held_out(table, held, clusters, {"protein": {}, "nucleic": {}}) == []


def test_the_sheet_has_the_last_word():
    table = catalogue_of({"EMD-1111": {"pdb": "1abc", "resolution": 3.0}, "EMD-2222": {}})
    rows = {
        "EMD-1111": {"pdb": "2ABC", "resolution": None},
        "EMD-2222": {"pdb": None, "resolution": 4.0},
        "mine": {"pdb": "3abc", "resolution": 4.0},
    }
    found = with_sheet(table, rows).set_index("id")
    assert found.loc["EMD-1111", ["pdb", "resolution"]].tolist() == ["2abc", 3.0]
    assert found.loc["EMD-2222", "resolution"] == 4.0
    assert len(found) == 2


def test_what_is_left_is_told_and_nothing_is_an_error():
    table = catalogue_of({"EMD-1111": {"pdb": "1abc"}, "EMD-2222": {"resolution": 9.0}})
    clusters = {"1abc": frozenset({"c"})}
    chosen_ones, counts = select(table, clusters, NO_CHAINS, {}, settings())
    told = told_counts(chosen_ones, counts, settings()["counts"])
    assert told[0].startswith("resolution: 1 rejected, 1 left")
    assert told[-1].startswith("candidates: ")
    assert "too few for " in told[-1]
    rejected, counts = select(table.iloc[1:], clusters, NO_CHAINS, {}, settings())
    with pytest.raises(
        CryoreadyError, match="no candidate is left of 1 entries: resolution: 1 rej"
    ):
        told_counts(rejected, counts, settings()["counts"])
