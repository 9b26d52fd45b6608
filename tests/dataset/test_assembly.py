"""Made assemblies of point groups: the map decides between their copies and the coordinates."""

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from cryoready.core.atoms import Atoms
from cryoready.core.volume import Grid, Volume
from cryoready.dataset.assembly import fitting_atoms
from cryoready.density.simulate import simulate_density
from cryoready.files.maps import read_map
from cryoready.files.models import read_assembly, read_model

AXIS = np.array([70.0, 60.0, 50.0])  # xyz, Å: a point on all symmetry axes
C4 = [np.diag([1, 1, 1]), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.diag([-1, -1, 1])]
GROUPS = {
    "C4": [*C4, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]],
    "D2": [np.diag(signs) for signs in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])],
}
SHAPE = (84, 100, 116)  # of voxels of 1.2 Å


def write_model(path: Path, rotations: list) -> None:
    """One chain of 80 amino acids in a corner of the box; `rotations` about `AXIS` in the file."""
    chain, residues = gemmi.Chain("A"), range(1, 81)
    places = np.random.default_rng(0).normal(AXIS + np.array([26, 22, 20]), 7, (80, 3))
    for number, place in zip(residues, places, strict=True):
        residue, atom = gemmi.Residue(), gemmi.Atom()
        residue.name, residue.seqid, residue.subchain = "LEU", gemmi.SeqId(str(number)), "A"
        atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*place)
        residue.add_atom(atom)
        chain.add_residue(residue)
    structure, model = gemmi.Structure(), gemmi.Model(1)
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    generator, assembly = gemmi.Assembly.Gen(), gemmi.Assembly("1")
    generator.subchains = [model[0][0].subchain]
    for rotation in rotations:
        operator = gemmi.Assembly.Operator()
        matrix = np.array(rotation, dtype=float)
        shift = gemmi.Vec3(*(AXIS - matrix @ AXIS))
        operator.transform = gemmi.Transform(gemmi.Mat33(matrix.tolist()), shift)
        generator.operators.append(operator)
    assembly.generators.append(generator)
    structure.assemblies.append(assembly)
    structure.make_mmcif_document().write_file(str(path))


def noisy_map(atoms: Atoms, grid: Grid) -> Volume:
    """Noise has as much variance as the density of one copy."""
    density = simulate_density(atoms.coords, np.full(len(atoms), 6.0), 1.5, grid).data
    noise = np.random.default_rng(1).normal(0, density.std(), grid.shape)
    return Volume.on(grid, density + noise.astype(np.float32))


@pytest.fixture(params=["C4", "D2"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Atoms, Atoms]:
    path = tmp_path / "model.cif"
    write_model(path, GROUPS[request.param])
    assert "_pdbx_struct_oper_list" in path.read_text()
    assembly = read_assembly(path)
    assert assembly is not None
    return read_model(path), assembly


def grid(origin: tuple[float, float, float] = (0, 0, 0), shape: tuple = SHAPE) -> Grid:
    return Grid(shape, np.full(3, 1.2), np.array(origin))


def test_a_map_of_all_copies_gets_all_copies(models: tuple[Atoms, Atoms]) -> None:
    deposited, assembly = models
    atoms, coordinates, correlation = fitting_atoms(noisy_map(assembly, grid()), *models)
    assert coordinates == "biological"
    assert atoms is assembly
    assert len(atoms) == 4 * len(deposited)
    # four separate copies of equal density: one explains a quarter of the variance
    ratio = correlation["deposited"] / correlation["biological"]
    assert ratio == pytest.approx(0.5, abs=0.08)


def test_a_map_of_one_copy_keeps_the_coordinates(models: tuple[Atoms, Atoms]) -> None:
    deposited, _ = models
    atoms, coordinates, correlation = fitting_atoms(noisy_map(deposited, grid()), *models)
    assert (atoms, coordinates) == (deposited, "deposited")
    assert correlation["biological"] < 0.6 * correlation["deposited"]


def test_copies_outside_of_the_box_change_nothing(models: tuple[Atoms, Atoms]) -> None:
    """The box is cut around one copy: both fit alike."""
    deposited, _ = models
    volume = noisy_map(deposited, grid()).around(deposited.coords, 2.0)
    atoms, coordinates, correlation = fitting_atoms(volume, *models)
    assert (atoms, coordinates) == (deposited, "deposited")
    assert correlation["biological"] == pytest.approx(correlation["deposited"], abs=0.01)


def test_coordinates_elsewhere_fit_by_their_copies_alone(models: tuple[Atoms, Atoms]) -> None:
    """What was deposited lies outside of the box, one of the copies inside."""
    _, assembly = models
    copy = assembly.take(assembly.chain == "A4")
    volume = noisy_map(copy, grid()).around(copy.coords, 2.0)
    _, coordinates, correlation = fitting_atoms(volume, *models)
    assert coordinates == "biological"
    assert correlation["deposited"] < 0.1


def test_no_choice_where_the_file_describes_no_assembly(models: tuple[Atoms, Atoms]) -> None:
    deposited, _ = models
    volume = noisy_map(deposited, grid())
    assert fitting_atoms(volume, deposited, None) == (deposited, "deposited", {})


def test_a_place_off_the_origin_is_kept(models: tuple[Atoms, Atoms]) -> None:
    """Box and atoms moved together by a fraction of a voxel and more."""
    shift = np.array([-31.3, 17.9, 203.4])
    moved = [replace(atoms, coords=atoms.coords + shift) for atoms in models]
    volume = noisy_map(moved[1], Grid(SHAPE, np.full(3, 1.2), shift))
    assert fitting_atoms(volume, *moved)[1] == "biological"


def test_a_subunit_cut_out_of_its_map_keeps_its_coordinates(shared_data: Path) -> None:
    """EMD-8410-A is one chain of four, kept in a zone of 4 Å; its file has REMARK 350 for four."""
    model = shared_data / "maps" / "EMD-8410-A.pdb.gz"
    deposited, assembly = read_model(model), read_assembly(model)
    assert assembly is not None
    assert len(assembly) == 4 * len(deposited)
    volume = read_map(shared_data / "maps" / "EMD-8410-A.map.gz")
    assert fitting_atoms(volume, deposited, assembly)[1] == "deposited"
