"""Sequences and clusters in the archive's own formats, and relatives whose kinship is known."""

import gzip
from pathlib import Path

import pytest
from kin import AMINO_ACIDS, BASES, OPPOSITE, drawn, mutated, needs_mmseqs, shuffled

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.relatives import (
    entry_of,
    homologues,
    mmseqs_clusters,
    read_clusters,
    read_seqres,
    sequenced,
    with_nucleic_clusters,
)
from cryoready.files.models import read_model
from cryoready.files.sequences import sequences

ROOT = Path(__file__).parents[2]

# As in wwPDB's file: one line a sequence, chains named in either case, nucleic acids as mol:na.
SEQRES = """\
>100d_A mol:na length:10  DNA/RNA (5'-R(*CP*)-D(*CP*GP*GP*CP*GP*CP*CP*GP*)-R(*G)-3')
CCGGCGCCGG
>101m_A mol:protein length:154  MYOGLOBIN
MVLSEGEWQLVLHVWAKVEADVAGHGQDILIRLFKSHPETLEKFDRFKHLKTEAEMKASEDLKKHG
>6xyz_A mol:protein length:8  PEPTIDE > WITH AN ARROW
MKVLAAGI
>6xyz_a mol:protein length:5  PEPTIDE
ACDEF
>6xyz_AA mol:na length:4  RNA
ACGU
>6xyz_B mol:saccharide length:2  SUGAR
XX
"""


@pytest.fixture(scope="module")
def globins():
    return sequences(read_model(ROOT / "resources/EMD-3488/5ni1.pdb.gz"))


def packed(path, text):
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("label", ["2W72_1", "2w72_AA", "EMD-30342-A_B", "pdb_00002w72_A"])
def test_the_entry_is_all_before_the_chain(label):
    expected = {"E": "emd-30342-a", "p": "pdb_00002w72"}.get(label[0], "2w72")
    assert entry_of(label) == expected


def test_sequences_of_the_wanted_entries_by_polymer(tmp_path):
    path = packed(tmp_path / "pdb_seqres.txt.gz", SEQRES)
    assert read_seqres(path, {"100d", "6xyz", "9zzz"}) == {
        "protein": {"6xyz_A": "MKVLAAGI", "6xyz_a": "ACDEF"},
        "nucleic": {"100d_A": "CCGGCGCCGG", "6xyz_AA": "ACGU"},
    }
    assert sequenced(read_seqres(path, {"100d", "101m", "9zzz"})) == {"100d", "101m"}
    assert sequenced(read_seqres(path, set())) == set()


def test_what_is_not_the_file_of_sequences(tmp_path):
    page = packed(tmp_path / "page.gz", "<html>\n<body>503</body>\n</html>\n")
    with pytest.raises(CryoreadyError, match=r"page\.gz: not the PDB's sequences: no record like"):
        read_seqres(page, {"101m"})
    whole = packed(tmp_path / "a.gz", SEQRES * 50).read_bytes()
    damaged = {"short": whole[:-20], "plain": SEQRES.encode(), "bad": whole[:40] + b"\xff" * 200}
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CryoreadyError, match=rf"{name}: cannot be read as the PDB's seq"):
            read_seqres(tmp_path / name, {"101m"})
    with pytest.raises(CryoreadyError, match=r"nowhere\.gz: cannot be read"):
        read_seqres(tmp_path / "nowhere.gz", {"101m"})


def test_published_clusters_of_the_wanted_entries(tmp_path):
    path = tmp_path / "clusters-by-entity-30.txt"
    path.write_text("AF_AFP69905F1_1 2W72_1 2W72_3 1A3N_1\n101M_1\n1A3N_2 6XYZ_12 6XYZ_3\n")
    assert read_clusters(path, {"2w72", "6xyz", "1a3n", "100d"}) == {
        "2w72": {"AF_AFP69905F1_1"},
        "1a3n": {"AF_AFP69905F1_1", "1A3N_2"},
        "6xyz": {"1A3N_2"},
    }
    assert read_clusters(path, set()) == {}
    with pytest.raises(CryoreadyError, match=r"30\.txt: not RCSB's clusters.*none of the 2 .*8abc"):
        read_clusters(path, {"9zzz", "8abc"})
    with pytest.raises(CryoreadyError, match=r"nowhere: cannot be read as RCSB's clusters"):
        read_clusters(tmp_path / "nowhere", {"2w72"})


@needs_mmseqs
def test_clusters_of_proteins(globins):
    alpha, beta = globins["A"], globins["B"]
    chains = {
        "protein": {
            **{"1aaa_A": alpha, "1aaa_B": beta, "2bbb_A": mutated(alpha, 0.5, AMINO_ACIDS)},
            **{"3ccc_A": shuffled(alpha), "3ccc_B": "ACDEF", "4ddd_A": "ACDEF", "5eee_A": "ACDEH"},
        },
        "nucleic": {"6fff_A": "ACGUACGUACGU"},
    }
    found = mmseqs_clusters(chains)
    assert found["1aaa"] & found["2bbb"]
    assert found["3ccc"] & found["4ddd"] == {"3ccc_B"}  # too short to be aligned, but the same
    assert not found["3ccc"] & found["1aaa"]
    assert found["5eee"] == {"5eee_A"}
    assert "6fff" not in found
    assert (
        mmseqs_clusters({**chains, "protein": dict(reversed(chains["protein"].items()))}) == found
    )


@needs_mmseqs
def test_clusters_of_entries_without_protein():
    riboswitch, scaffold = drawn(BASES, 120, seed=1), drawn(BASES, 150, seed=2)
    nucleic = {
        "1rna_A": riboswitch,
        "2rna_A": mutated(riboswitch, 0.25, BASES),
        "3dna_A": riboswitch[::-1].translate(OPPOSITE),
        "4rna_A": drawn(BASES, 120, seed=3),
        "5rna_A": riboswitch[:60],
        "6cpx_B": scaffold,
        "7dna_A": scaffold.replace("U", "T"),
        "8cpx_A": riboswitch,
    }
    found = with_nucleic_clusters(
        {"6cpx": frozenset({"P"})}, {"protein": {"8cpx_B": "MKV"}, "nucleic": nucleic}
    )
    assert found["1rna"] == found["2rna"] == found["3dna"] == {"1rna_A"}
    assert found["4rna"] == {"4rna_A"}
    assert found["5rna"] == {"5rna_A"}  # half of it
    assert found["6cpx"] == {"P"}  # told apart by its protein
    assert found["7dna"] == {"7dna_A"}
    assert "8cpx" not in found  # has a protein, which was not clustered


@needs_mmseqs
def test_every_related_entry_with_its_nearest_relative(globins):
    alpha, beta, switch = globins["A"], globins["B"], drawn(BASES, 120, seed=1)
    chains = {
        "protein": {
            **{
                "1tra_A": alpha,
                "2tra_A": shuffled(alpha),
                "2tra_B": alpha,
                "3tra_A": shuffled(beta),
            },
            **{
                "5tst_A": mutated(alpha, 0.5, AMINO_ACIDS),
                "6tst_A": mutated(beta, 0.1, AMINO_ACIDS),
            },
            **{"6tst_B": mutated(alpha, 0.1, AMINO_ACIDS), "7not_A": alpha},
        },
        "nucleic": {"4tra_A": mutated(switch, 0.1, BASES), "5tst_R": switch, "7not_R": switch},
    }
    train = ["1tra", "2tra", "3tra", "4tra"]
    found = homologues(train, ["5tst", "6tst"], chains, e_value=1e-3)
    assert dict(zip(found["query"], found["target"], strict=True)) == {
        "1tra_A": "6tst_B",
        "2tra_B": "6tst_B",  # the same sequence as that of 1tra
        "4tra_A": "5tst_R",
    }
    assert set(found.index) == {"1tra", "2tra", "4tra"}
    assert (found["e_value"] < 1e-10).all()
    assert homologues(["3tra"], ["5tst", "6tst"], chains, e_value=1e-3).empty
    assert homologues([], ["5tst"], chains, e_value=1e-3).empty
