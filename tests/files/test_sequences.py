"""Alignments that can be done by hand."""

import numpy as np
import pytest

from cryoready.files.sequences import align_sequences, one_letter_codes

PEPTIDE = ["MET", "ALA", "TRP", "LYS", "PRO", "GLY", "SER", "HIS", "PHE", "ASP"]


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        (PEPTIDE, PEPTIDE, [(k, k) for k in range(10)]),
        (PEPTIDE, PEPTIDE[3:], [(k + 3, k) for k in range(7)]),
        (PEPTIDE[3:], PEPTIDE, [(k, k + 3) for k in range(7)]),
        (PEPTIDE, PEPTIDE[:-2], [(k, k) for k in range(8)]),
        (["TRP", "GLY"], ["TYR", "GLY"], [(0, 0), (1, 1)]),
        (list("GCAUUCG"), list("CAUUCG"), [(k + 1, k) for k in range(6)]),
        (PEPTIDE, [], []),
        ([], PEPTIDE, []),
    ],
)
def test_residues_that_face_each_other(a, b, pairs):
    np.testing.assert_array_equal(align_sequences(a, b), np.reshape(pairs, (-1, 2)))


def test_a_missing_loop():
    chain = PEPTIDE * 3
    without = chain[:8] + chain[16:]
    pairs = align_sequences(chain, without)
    expected = [(k, k if k < 8 else k - 8) for k in range(30) if not 8 <= k < 16]
    np.testing.assert_array_equal(pairs, expected)


def test_amino_acids_are_compared_by_blosum62():
    """Ile-Val scores 3 and Trp-Gly -2: the one residue more than in b is Gly, not Val."""
    a = ["TRP", "LYS", "VAL", "GLY", "HIS"]
    b = ["TRP", "LYS", "ILE", "HIS"]
    assert [2, 2] in align_sequences(a, b).tolist()


def test_one_letter_codes():
    """Selenomethionine is methionine (MSE), pseudouridine uridine; a haem and UNK are nothing."""
    assert one_letter_codes(["ALA", "MSE", "UNK", "HEM", "DG", "DT", "U", "PSU"]) == "AMXXGTUU"
    assert one_letter_codes([]) == ""
