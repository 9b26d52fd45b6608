"""Packed structures: what a density needs of a model survives, and files that lie are refused."""

import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid
from cryoready.dataset.structures import Structures, pack, packed
from cryoready.density.simulate import simulate_density
from cryoready.files.models import atomic_numbers, read_model

MODELS = {
    "a": "resources/small/EMD-2566-9.pdb.gz",
    "b": "resources/small/EMD-5830-A.pdb.gz",
}


@pytest.fixture(scope="module")
def structures():
    return pack(MODELS, {"a": 3.2, "b": None})


def test_the_packed_atoms_give_the_density_of_the_model(structures):
    atoms = read_model(MODELS["b"])
    atoms = atoms.take(atoms.heavy)
    grid = Grid((48, 48, 48), np.ones(3), atoms.coords.mean(axis=0) - 24)
    weight = atomic_numbers(atoms.element) * atoms.occupancy
    expected = simulate_density(atoms.coords, weight, 0.7, grid).data
    part = structures[1]
    centred = Grid(grid.shape, grid.voxel_size, np.full(3, -24.0))
    weight = part["number"] * part["occupancy"]
    found = simulate_density(part["coords"].astype(float), weight, 0.7, centred).data
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_hydrogens_and_unoccupied_atoms_are_left_out():
    atoms = read_model(MODELS["a"])
    occupancy = atoms.occupancy.copy()
    occupancy[:7] = 0
    object.__setattr__(atoms, "occupancy", occupancy)
    assert len(packed(atoms)) == (atoms.heavy & (occupancy > 0)).sum() < len(atoms)


def test_files_come_back(structures, tmp_path):
    files = tmp_path / "structures.npy", tmp_path / "structures.tsv"
    structures.write(*files)
    again = Structures.open(*files)
    assert len(again) == 2
    for k in range(2):
        np.testing.assert_array_equal(again[k], structures[k])
    assert again.table["resolution"].tolist()[0] == 3.2
    assert np.isnan(again.table["resolution"][1])


def test_files_that_do_not_belong_together_are_refused(structures, tmp_path):
    files = tmp_path / "structures.npy", tmp_path / "structures.tsv"
    structures.write(*files)
    np.save(files[0], structures.atoms[:-1])
    with pytest.raises(CryoreadyError, match="do not belong together"):
        Structures.open(*files)
    files[0].write_bytes(b"nothing")
    with pytest.raises(CryoreadyError, match="not packed structures"):
        Structures.open(*files)
