"""Chain comparison against mmtbx on real models, and against chains one can count on one's fingers.

The values of mmtbx are those of cctbx-base 2025.11 for CA or P atoms written to PDB files, with
``target`` the deposited and ``query`` the built model::

    run(args=["unique_part_of_target_only=False", "chain_type=PROTEIN"],  # RNA for the last case
        target_hierarchy=target, chain_hierarchy=query, max_dist=3.0, quiet=True,
        crystal_symmetry=crystal.symmetry((500, 500, 500, 90, 90, 90), "P1"))

where `run` is that of ``mmtbx.validation.chain_comparison``.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.files.models import read_model
from cryoready.metrics.chain_comparison import chain_comparison

RESOURCES = Path(__file__).parents[2] / "resources"
MODELS = {
    "5ni1": RESOURCES / "EMD-3488" / "5ni1.pdb.gz",
    "3j63": RESOURCES / "small" / "EMD-5830-A.pdb.gz",
    "3j6b": RESOURCES / "small" / "EMD-2566-9.pdb.gz",
}


def trace(path: Path) -> Atoms:
    atoms = read_model(path)
    ca = (atoms.name == "CA") & (atoms.polymer == "protein")
    return atoms.take(ca | ((atoms.name == "P") & (atoms.polymer == "nucleic")))


def moved(atoms: Atoms, by) -> Atoms:
    return replace(atoms, coords=np.round(atoms.coords + by, 3))  # as in a PDB file


def jittered(atoms: Atoms, sigma: float, seed: int = 0) -> Atoms:
    return moved(atoms, np.random.default_rng(seed).normal(0, sigma, (len(atoms), 3)))


def renamed(atoms: Atoms, residues: slice) -> Atoms:
    names = atoms.residue_name.copy()
    names[residues] = "ALA"
    return replace(atoms, residue_name=names)


def in_pieces(atoms: Atoms, length: int = 7) -> Atoms:
    """Pieces in another order, every other one backwards."""
    pieces = np.split(np.arange(len(atoms)), range(length, len(atoms), length))
    pieces = [piece[::-1] if k % 2 else piece for k, piece in enumerate(pieces)]
    order = np.random.default_rng(1).permutation(len(pieces))
    return atoms.take(np.concatenate([pieces[k] for k in order]))


def overbuilt(atoms: Atoms) -> Atoms:
    """Three residues, along the lines between CA atoms, for every two."""
    place = np.arange(0, len(atoms) - 1, 2 / 3)
    before = place.astype(int)
    step = atoms.coords[before + 1] - atoms.coords[before]
    built = replace(atoms.take(before), residue_number=np.arange(len(place)) % 9999)
    return moved(built, (place - before)[:, None] * step)


CASES = {
    "1 Å aside": ("5ni1", lambda ca: moved(ca, [1.0, 0.0, 0.0])),
    "half of it": ("5ni1", lambda ca: jittered(ca.take(np.arange(300)), 0.5)),
    "backwards": ("5ni1", lambda ca: jittered(ca.take(np.arange(len(ca))[::-1]), 1.0)),
    "wrong names": ("5ni1", lambda ca: jittered(renamed(ca, slice(100, 200)), 0.8)),
    "uncertain": ("5ni1", lambda ca: jittered(ca, 1.5)),
    "noise": ("3j63", lambda ca: jittered(ca, 3.0)),
    "in pieces": ("5ni1", lambda ca: jittered(in_pieces(ca), 0.8)),
    "in small pieces": ("3j6b", lambda ca: jittered(in_pieces(ca, 2), 0.5)),
    "overbuilt": ("3j6b", lambda ca: jittered(overbuilt(ca), 1.0)),
}
# close, far, RMSD (Å), sequence match (%), forward, reverse, unaligned
MMTBX = {
    "1 Å aside": (574, 0, 1.0000000, 100.0, 574, 0, 0),
    "half of it": (300, 0, 0.8436892, 100.0, 300, 0, 0),
    "backwards": (551, 23, 1.6745393, 94.9183, 0, 510, 41),
    "wrong names": (569, 5, 1.3706861, 84.0070, 564, 0, 5),
    "uncertain": (437, 137, 2.0240093, 81.6934, 271, 18, 148),
    "noise": (40, 51, 2.2427324, 22.5, 2, 4, 34),
    "in pieces": (568, 6, 1.3723688, 98.5915, 245, 235, 88),
    "in small pieces": (195, 0, 0.8645354, 100.0, 54, 44, 97),
    "overbuilt": (192, 99, 1.9387345, 36.9792, 112, 4, 76),
}
MMTBX_RNA = (88, 30, 2.0527622, 100.0, 66, 0, 22)


@pytest.mark.parametrize("case", CASES)
def test_real_models_as_in_mmtbx(case):
    name, build = CASES[case]
    deposited = trace(MODELS[name])
    check(chain_comparison(build(deposited), deposited), len(deposited), MMTBX[case])


def test_rna_as_in_mmtbx(shared_data):
    deposited = trace(shared_data / "maps" / "EMD-20755.pdb.gz")
    check(chain_comparison(jittered(deposited, 1.5), deposited), 118, MMTBX_RNA)


def check(result, residues, expected):
    close, far, rmsd, sequence_match, *direction = expected
    assert (result.close, result.far, result.residues_deposited) == (close, far, residues)
    assert (result.forward, result.reverse, result.unaligned) == tuple(direction)
    assert result.completeness == close / residues
    assert result.rmsd == pytest.approx(rmsd, abs=1e-6)
    assert result.sequence_match == pytest.approx(sequence_match / 100, abs=1e-6)


def straight_chain(n: int, *, polymer: str = "protein", names=("ALA", "GLY")) -> Atoms:
    """Residues 3.8 Å apart along x, names in turn."""
    return Atoms(
        coords=np.outer(np.arange(n), [0.0, 0.0, 3.8]),
        element=np.full(n, "C" if polymer == "protein" else "P"),
        b_iso=np.full(n, 20.0),
        occupancy=np.ones(n),
        name=np.full(n, "CA" if polymer == "protein" else "P"),
        residue_name=np.resize(names, n),
        chain=np.full(n, "A"),
        residue_number=np.arange(n),
        insertion_code=np.full(n, ""),
        altloc=np.full(n, ""),
        polymer=np.full(n, polymer),
    )


def joined(*parts: Atoms) -> Atoms:
    return Atoms(**{key: np.concatenate([vars(p)[key] for p in parts]) for key in vars(parts[0])})


def test_a_model_is_like_itself():
    atoms = read_model(MODELS["5ni1"])
    result = chain_comparison(atoms, atoms)
    assert (result.completeness, result.rmsd, result.sequence_match) == (1.0, 0.0, 1.0)
    assert (result.forward, result.residues_built) == (574, 574)
    assert json.loads(json.dumps(asdict(result)))["unaligned"] == 0


def test_the_two_ways_of_being_4_angstrom_off():
    """Across the chain nothing is near; along it the next residue is, 0.2 Å away."""
    chain = straight_chain(20)
    across = chain_comparison(moved(chain, [4.0, 0, 0]), chain)
    assert (across.close, across.far, across.completeness) == (0, 20, 0.0)
    assert across.rmsd is across.sequence_match is None
    along = chain_comparison(moved(chain, [0, 0, 4.0]), chain)
    assert (along.close, along.forward, along.sequence_match) == (19, 19, 0.0)
    assert along.rmsd == pytest.approx(0.2)


def test_the_limit_belongs_to_close():
    chain = straight_chain(5)
    assert chain_comparison(moved(chain, [3.0, 0, 0]), chain).close == 5
    assert chain_comparison(moved(chain, [3.001, 0, 0]), chain).close == 0
    assert chain_comparison(moved(chain, [3.9, 0, 0]), chain, max_distance=4.0).close == 5


def test_backwards_is_reverse_and_of_the_same_completeness():
    chain = straight_chain(20)
    result = chain_comparison(chain.take(np.arange(20)[::-1]), chain)
    assert (result.reverse, result.forward, result.completeness) == (20, 0, 1.0)


def test_a_deposited_residue_is_found_once():
    """Of three residues at one place the second gets the neighbour, the third nothing."""
    chain = straight_chain(4)
    crowd = moved(chain.take(np.array([1, 1, 1])), [0.0, 0.0, 1.5])
    result = chain_comparison(replace(crowd, residue_number=np.arange(3)), chain)
    assert (result.close, result.far, result.completeness) == (2, 1, 0.5)
    assert result.rmsd == pytest.approx(np.sqrt((1.5**2 + 2.3**2) / 2))


def test_only_the_relative_position_matters():
    deposited = trace(MODELS["3j6b"])
    built = jittered(deposited, 1.5)
    turn = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    there = [replace(a, coords=a.coords @ turn + [90.0, -7.0, 1e3]) for a in (built, deposited)]
    before, after = asdict(chain_comparison(built, deposited)), asdict(chain_comparison(*there))
    assert after == pytest.approx(before)


def test_protein_and_nucleic_acid_are_compared_each_with_its_own():
    protein = straight_chain(6)
    rna = replace(straight_chain(4, polymer="nucleic", names=("A",)), chain=np.full(4, "B"))
    assert chain_comparison(protein, rna).close == 0
    both = chain_comparison(joined(protein, rna), joined(rna, protein))
    assert (both.close, both.sequence_match, both.forward) == (10, 1.0, 9)  # one more chain start


def test_calcium_is_no_alpha_carbon():
    chain = straight_chain(5)
    ion = replace(chain.take(np.array([0])), element=np.array(["CA"]), polymer=np.array([""]))
    assert chain_comparison(joined(chain, ion), chain).residues_built == 5


def test_of_alternative_locations_the_most_occupied_counts():
    chain = straight_chain(5)
    third = chain.take(np.array([2, 2]))
    third = replace(third, altloc=np.array(["A", "B"]), occupancy=np.array([0.3, 0.7]))
    third = replace(third, coords=third.coords + np.array([[2.0, 0, 0], [1.0, 0, 0]]))
    built = joined(chain.take(np.arange(2)), third, chain.take(np.arange(3, 5)))
    result = chain_comparison(built, chain)
    assert (result.residues_built, result.completeness, result.forward) == (5, 1.0, 5)
    assert result.rmsd == pytest.approx(np.sqrt(1 / 5))


def test_nothing_built_is_a_result_and_nothing_deposited_an_error():
    chain = straight_chain(5)
    nothing = chain.take(np.zeros(5, dtype=bool))
    result = chain_comparison(nothing, chain)
    assert (result.completeness, result.residues_built, result.rmsd) == (0.0, 0, None)
    with pytest.raises(
        CryoreadyError, match=r"^the deposited model has no CA .* compared with it$"
    ):
        chain_comparison(chain, nothing)
