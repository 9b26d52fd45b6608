"""Known motions of a structure are found again; other molecules are refused."""

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.rigid import IDENTITY, RigidBody
from cryoready.files.models import read_model
from cryoready.metrics.superposition import moved, superpose
from rigid_motions import after, difference, motion

RESOURCES = Path(__file__).parents[2] / "resources"
HAEMOGLOBIN = RESOURCES / "EMD-3488" / "5ni1.pdb.gz"
SMALL = RESOURCES / "small"


@pytest.fixture(scope="module")
def haemoglobin():
    return read_model(HAEMOGLOBIN)


def test_a_motion_and_its_inverse_cancel(haemoglobin):
    body = motion(0)
    back = moved(moved(haemoglobin, body), body.inverse())
    np.testing.assert_allclose(back.coords, haemoglobin.coords, atol=1e-9)
    np.testing.assert_array_equal(back.name, haemoglobin.name)


def test_anisotropic_displacements_turn_with_the_atoms(haemoglobin):
    """The mean square displacement along a direction that turns with the molecule stays."""
    root = np.random.default_rng(0).normal(size=(len(haemoglobin), 3, 3))
    atoms = replace(haemoglobin, u_aniso=root @ root.transpose(0, 2, 1))
    body, along = motion(6), np.array([0.2, -0.5, 1.0])
    turned = body.rotation @ along
    np.testing.assert_allclose(
        turned @ moved(atoms, body).u_aniso @ turned, along @ atoms.u_aniso @ along, rtol=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_structure_is_found_in_another_frame(haemoglobin, seed):
    body = motion(seed)
    found = superpose(moved(haemoglobin, body.inverse()), haemoglobin)
    np.testing.assert_allclose(found.body.rotation, body.rotation, atol=1e-6)
    assert max(difference(found.body, body, haemoglobin.coords.mean(axis=0))) < 1e-4
    assert np.linalg.det(found.body.rotation) == pytest.approx(1)
    assert (found.matched, found.identity) == (574, 1)  # zcat 5ni1.pdb.gz | grep -c "  CA  "
    assert found.rmsd < 1e-4


#: Haemoglobin is C2 symmetric about the z axis through the middle of its box of 105 Å.
TWOFOLD = RigidBody(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 105.0, 105.0]))


def renamed(atoms):
    """Chains and residue numbers of another author, in another order."""
    order = np.argsort(-np.unique(atoms.chain, return_inverse=True)[1], kind="stable")
    chain = np.char.add(np.char.translate(atoms.chain, str.maketrans("ABCD", "zQaR")), "x")
    return replace(atoms, chain=chain, residue_number=atoms.residue_number + 1000).take(order)


def mutated(atoms):
    """Six residues of ten renamed to alanine, side chains gone."""
    change = (atoms.polymer == "protein") & (atoms.residue_number % 10 < 6)
    names = np.where(change, "ALA", atoms.residue_name)
    return replace(atoms, residue_name=names).take(
        ~change | np.isin(atoms.name, ("N", "CA", "C", "O", "CB"))
    )


def without_loops(atoms):
    return atoms.take(atoms.residue_number % 40 > 7)


def two_chains(atoms):
    return atoms.take(np.isin(atoms.chain, ("B", "C")))


@pytest.mark.parametrize("change", [renamed, mutated, without_loops, two_chains])
def test_other_names_mutations_gaps_and_fewer_chains(haemoglobin, change):
    """Errors of 0.3 Å in every coordinate, as between two structures of one molecule."""
    body = motion(5)
    other = change(moved(haemoglobin, body.inverse()))
    noise = np.random.default_rng(0).normal(scale=0.3, size=other.coords.shape)
    other = replace(other, coords=other.coords + noise)
    middle = haemoglobin.coords.mean(axis=0)
    for found in (superpose(other, haemoglobin).body, superpose(haemoglobin, other).body.inverse()):
        mates = [difference(found, after(body, mate), middle) for mate in (IDENTITY, TWOFOLD)]
        turn, apart = min(mates)
        assert turn < 0.2
        assert apart < 0.05


def test_homologous_chains_as_gemmi_superposes_them(haemoglobin):
    """Chain A on B, alpha on beta: their sequences agree in 43 % (UniProt P69905, P68871).

    gemmi trims at another distance (2 Å here), so the motions agree only roughly.
    """
    alpha, beta = (haemoglobin.take(haemoglobin.chain == chain) for chain in "AB")
    found = superpose(alpha, beta)
    model = gemmi.read_structure(str(HAEMOGLOBIN))
    model.setup_entities()
    fixed, moving = model[0]["B"].get_polymer(), model[0]["A"].get_polymer()
    kind = gemmi.PolymerType.PeptideL
    theirs = gemmi.calculate_superposition(
        fixed, moving, kind, gemmi.SupSelect.CaP, trim_cycles=10, trim_cutoff=2.0
    )
    flip = np.eye(3)[::-1]  # xyz -> zyx
    body = RigidBody(
        flip @ np.array(theirs.transform.mat.tolist()) @ flip,
        np.array(theirs.transform.vec.tolist())[::-1],
    )
    turn, apart = difference(found.body, body, alpha.coords.mean(axis=0))
    assert turn < 2
    assert apart < 0.3
    assert found.identity == pytest.approx(0.45, abs=0.05)
    assert 110 < found.matched <= 141
    assert found.rmsd < 1.6


def test_a_moved_domain_does_not_spoil_the_rest(haemoglobin):
    chain = haemoglobin.take(haemoglobin.chain == "A")
    hinged = np.where((chain.residue_number > 100)[:, None], chain.coords + 12, chain.coords)
    found = superpose(replace(chain, coords=hinged), chain)
    assert found.rmsd < 1e-4
    assert max(difference(found.body, IDENTITY, chain.coords.mean(axis=0))) < 1e-4


def test_alternate_locations_count_once(haemoglobin):
    twice = haemoglobin.take(np.repeat(np.arange(len(haemoglobin)), 2))
    twice = replace(twice, altloc=np.tile(np.array(["A", "B"]), len(haemoglobin)))
    assert superpose(twice, haemoglobin).matched == 574


def test_the_mirror_image_does_not_fit(haemoglobin):
    """Helices of the other hand: no motion lays them on each other."""
    mirrored = replace(haemoglobin, coords=haemoglobin.coords * [1, 1, -1])
    with pytest.raises(CryoreadyError, match="is not the molecule of the model"):
        superpose(mirrored, haemoglobin)


def test_another_molecule_is_refused_in_one_line(haemoglobin):
    with pytest.raises(
        CryoreadyError, match=r"residues align, \d+ of them are equal and \d of these"
    ) as error:
        superpose(read_model(SMALL / "EMD-2566-9.pdb.gz"), haemoglobin)
    assert "\n" not in str(error.value)


def test_a_model_without_a_chain_is_refused_in_one_line(haemoglobin):
    haem = haemoglobin.take(haemoglobin.residue_name == "HEM")
    with pytest.raises(CryoreadyError, match="0 CA or P atoms and the model 574") as error:
        superpose(haem, haemoglobin)
    assert "\n" not in str(error.value)


def test_real_structures_of_one_molecule(shared_data):
    """Tobacco mosaic virus coat protein: 6I5A (EMD-4413) on 3J06 (EMD-5185), other frames."""
    moving, fixed = (read_model(shared_data / "maps" / f"EMD-{n}.pdb.gz") for n in (4413, 5185))
    found = superpose(moving, fixed)
    assert found.matched > 145
    assert found.identity > 0.95
    assert found.rmsd < 1
