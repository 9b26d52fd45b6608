"""Searches whose answer is known: globins, made copies, and the lists of the released weights."""

from pathlib import Path

import pytest
from kin import AMINO_ACIDS, BASES, OPPOSITE, drawn, mutated, needs_mmseqs, shuffled

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.homologues import (
    E_VALUE,
    clusters,
    hits,
    nucleic_clusters,
    read_fasta,
    write_fasta,
)
from cryoready.dataset.sheet import read_sheet
from cryoready.dataset.yardstick import read_yardstick
from cryoready.files.models import read_model
from cryoready.files.sequences import sequences

ROOT = Path(__file__).parents[2]
LISTS = ROOT / "resources/weights/v1"
BENCHMARK = read_sheet(ROOT / "benchmarks/entries.tsv")
SHEET = read_sheet(LISTS / "entries.tsv")
HELD_OUT = set(BENCHMARK) | {entry.id for entry in SHEET.values() if entry.split == "val"}
TRAIN = {entry.id for entry in SHEET.values() if entry.split == "train"}

# UniProt P69905 (HBA_HUMAN), without the first methionine.
ALPHA_GLOBIN = (
    "VLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSALSDLHAHK"
    "LRVDPVNFKLLSHCLLVTLAAHLPAEFTPAVHASLDKFLASVSTVLTSKYR"
)


@pytest.fixture(scope="module")
def globins():
    return sequences(read_model(ROOT / "resources/EMD-3488/5ni1.pdb.gz"))


def shipped(polymer, ids):
    """Sequences of these entries by label, each once."""
    labels = {}
    for label, sequence in read_fasta(LISTS / "sequences.fasta").items():
        entry, kind, _ = label.split(maxsplit=2)
        if kind == polymer and entry in ids:
            labels.setdefault(sequence, label)
    return {label: sequence for sequence, label in labels.items()}


def test_the_chains_of_haemoglobin(globins):
    assert list(globins) == ["A", "B", "C", "D"]
    assert globins["A"] == globins["C"] == ALPHA_GLOBIN
    assert globins["B"] == globins["D"]
    assert globins["B"].startswith("VHLTPEEKSAVTALWGKV")


@needs_mmseqs
def test_relatives_are_found_and_strangers_are_not(globins):
    alpha, beta = globins["A"], globins["B"]
    query = {
        "alpha": alpha,
        "piece, by label": mutated(alpha, 0.4, AMINO_ACIDS)[20:120],
        "stranger": shuffled(alpha),
        "short": alpha[:5],
    }
    table = hits(query, {"A": alpha, "B": beta}).set_index(["query", "target"])
    assert set(table.index.get_level_values("query")) == {"alpha", "piece, by label"}
    # human alpha and beta globin are 43 % identical
    assert table.loc[("alpha", "B"), "identity"] == pytest.approx(0.43, abs=0.03)
    piece = table.loc[("piece, by label", "A")]
    assert piece["e_value"] < 1e-10
    assert piece["identity"] == pytest.approx(0.6, abs=0.05)
    assert piece["target_coverage"] == pytest.approx(piece["aligned"] / len(alpha), abs=0.02)


def test_too_short_to_be_searched(globins):
    assert len(hits({"short": "VLSP"}, globins)) == 0
    assert clusters({"short": "VLSP"}) == {"short": "short"}
    assert nucleic_clusters({"short": "ACGU"}) == {"short": "short"}
    assert nucleic_clusters({}) == {}


@needs_mmseqs
def test_nucleic_acids_are_compared_as_rna_and_dna_on_both_strands():
    rna = drawn(BASES, 150, seed=1)
    query = {
        "mutated": mutated(rna, 0.15, BASES)[30:110],
        "other strand, DNA": rna[::-1].translate(OPPOSITE)[20:80],
        "stranger": shuffled(rna),
    }
    table = hits(query, {"rna": rna}, polymer="nucleic")
    assert set(table["query"]) == {"mutated", "other strand, DNA"}


@needs_mmseqs
def test_clusters_depend_on_the_identity(globins):
    chains = {**globins, "stranger": shuffled(ALPHA_GLOBIN), "short": "ACDEF"}
    families = clusters(chains)
    assert len({families[chain] for chain in "ABCD"}) == 1
    assert (families["stranger"], families["short"]) == ("stranger", "short")
    strict = clusters(chains, identity=0.9)
    assert strict["A"] == strict["C"] != strict["B"] == strict["D"]


@needs_mmseqs
def test_no_chain_of_the_training_is_related_to_one_held_out():
    """Also a mutated piece of every long chain held out is found among the training chains.

    The many are the targets, which is fast; the limit is that of a search among the few.
    """
    train, held_out = shipped("protein", TRAIN), shipped("protein", HELD_OUT)
    assert len(train) > 600
    ratio = sum(map(len, train.values())) / sum(map(len, held_out.values()))
    copies = {
        f"copy of {label}": mutated(sequence, 0.4, AMINO_ACIDS)[len(sequence) // 5 :]
        for label, sequence in held_out.items()
        if len(sequence.replace("X", "")) >= 90
    }
    table = hits(held_out, train | copies, e_value=E_VALUE * ratio)
    found = set(table["target"])
    assert found & set(copies) == set(copies)
    assert found - set(copies) == set()


@needs_mmseqs
def test_no_nucleic_acid_of_the_training_is_related_to_one_held_out():
    train, held_out = shipped("nucleic", TRAIN), shipped("nucleic", HELD_OUT)
    assert len(train) > 40
    label, longest = max(train.items(), key=lambda item: len(item[1]))
    control = {"control": mutated(longest, 0.15, BASES)[10:]}
    found = hits(train, held_out | control, polymer="nucleic")
    assert label in set(found["query"])
    assert set(found["target"]) == {"control"}


def test_nothing_of_the_yardstick_is_trained_on():
    published = read_yardstick(ROOT / "resources/benchmark/yardstick.tsv").values()
    test = [
        entry for entry in read_sheet(ROOT / "config/entries.tsv").values() if entry.split == "test"
    ]
    held_out = [*published, *test]
    train = [SHEET[entry] for entry in TRAIN]
    for column in ("emdb", "pdb"):
        ids = {getattr(entry, column) for entry in held_out}
        assert {getattr(entry, column) for entry in train} & ids <= {None}
    assert {entry.id.upper()[:4] for entry in train} & {entry.pdb for entry in held_out} == set()


def test_every_entry_of_the_list_has_its_sequences():
    shipped_ids = {label.split()[0] for label in read_fasta(LISTS / "sequences.fasta")}
    assert shipped_ids == set(SHEET) | set(BENCHMARK)


@pytest.mark.parametrize(
    "entry", ["1n2c", "6bqn", "7n00", "6_solution_0_rpr", "EMD-30342-A", "6o1k"]
)
def test_the_sequences_are_those_of_the_models(shared_data, entry):
    model = (SHEET.get(entry) or BENCHMARK[entry]).model
    atoms = read_model(shared_data / Path(model).relative_to("data"))
    for polymer in ("protein", "nucleic"):
        modelled = set(sequences(atoms, polymer).values())
        labels = read_fasta(LISTS / "sequences.fasta").items()
        assert {s for label, s in labels if label.startswith(f"{entry} {polymer} ")} == modelled


def test_fasta_there_and_back(tmp_path):
    labelled = {"3j96 protein A": "MKV", "b": "", "c d": "ACGU"}
    write_fasta(tmp_path / "a.fasta", labelled)
    assert read_fasta(tmp_path / "a.fasta") == labelled
    (tmp_path / "wrapped.fasta").write_text(">x y\nMK\nV\n\n>z\nA\n")
    assert read_fasta(tmp_path / "wrapped.fasta") == {"x y": "MKV", "z": "A"}


@pytest.mark.parametrize("text", ["MKV\n", ">a\nMK\n>a\nV\n"])
def test_what_is_not_fasta(tmp_path, text):
    (tmp_path / "a.fasta").write_text(text)
    with pytest.raises(CryoreadyError, match=r"a\.fasta: not FASTA"):
        read_fasta(tmp_path / "a.fasta")
    with pytest.raises(CryoreadyError, match=r"b\.fasta cannot be read"):
        read_fasta(tmp_path / "b.fasta")


def test_mmseqs_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CryoreadyError, match=r"mmseqs is not on the PATH: install MMseqs2"):
        hits({"a": ALPHA_GLOBIN}, {"b": ALPHA_GLOBIN})


def test_mmseqs_fails(monkeypatch, tmp_path):
    program = tmp_path / "mmseqs"
    program.write_text("#!/bin/sh\necho first\necho 'No space left' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CryoreadyError, match=r"easy-search failed with status 3.*No space left$"):
        hits({"a": ALPHA_GLOBIN}, {"b": ALPHA_GLOBIN})
