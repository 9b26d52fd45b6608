"""Empty space is found, and weak density is never taken for it."""

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from cryoready.core.volume import Grid
from cryoready.density.resample import resample, spaced_grid
from cryoready.density.signal import signal_cells
from cryoready.density.simulate import simulate_density
from cryoready.files.maps import read_map
from cryoready.files.models import read_model

EDGE, MIDDLE = 120, np.array([60.0, 60.0, 60.0])
UNMASKED = ["EMD-1461-box", "EMD-4413", "EMD-5995-part"]
MASKED = ["EMD-3488", "EMD-20755", "EMD-1044", "EMD-6187-K"]


def globule(centre, *, radius, sigma=1.2, height=1.0, edge=EDGE, seed=0):
    """Density of 0.05 atoms/Å³ within ``radius`` Å of ``centre``, of mean ``height`` there."""
    rng = np.random.default_rng(seed)
    n = int(0.05 * 4 / 3 * np.pi * radius**3)
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    coords = centre + directions * radius * rng.uniform(0, 1, (n, 1)) ** (1 / 3)
    grid = Grid((edge, edge, edge), np.ones(3), np.zeros(3))
    return simulate_density(coords, np.full(n, height / 0.05), sigma, grid).data


def solvent(shape, *, seed=1):
    """Noise of standard deviation 0.5, band-limited to about 4 Å."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.0)
    return (0.5 * noise / noise.std()).astype(np.float32)


@pytest.fixture(scope="module")
def molecule():
    return globule(MIDDLE, radius=18.0, height=5.0)


def voxels(cells, shape, edge=24):
    """The cells as a mask of voxels."""
    for axis in range(3):
        cells = cells.repeat(edge, axis)
    return cells[tuple(slice(n) for n in shape)]


@pytest.mark.parametrize("shape", [(48, 48, 48), (49, 25, 24), (97, 50, 23)])
def test_every_voxel_has_a_cell(shape):
    cells = signal_cells(np.ones(shape, dtype=np.float32))
    assert cells.shape == tuple(-(-n // 24) for n in shape)
    assert cells.all()
    assert signal_cells(np.ones(shape, dtype=np.float32), cell_voxels=8).shape[0] == -(
        -shape[0] // 8
    )


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_nothing_positive_is_empty(value):
    assert not signal_cells(np.full((50, 30, 26), value, dtype=np.float32)).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (30, 4, 7)])
def test_tiny_maps_are_kept(shape):
    density = np.zeros(shape, dtype=np.float32)
    density[tuple(n // 2 for n in shape)] = 1
    assert signal_cells(density).any()


@pytest.mark.parametrize("place", [(12, 12, 12), (23, 24, 60), (40, 71, 95), (0, 50, 95)])
@pytest.mark.parametrize("weak", [1.0, 0.01])
def test_without_noise_a_single_voxel_keeps_what_is_near_it_and_no_more(place, weak):
    """However weak beside a strong one far away."""
    density = np.zeros((96, 96, 144), dtype=np.float32)
    density[48, 48, 132] = 1
    density[place] = weak
    distance = np.abs(np.moveaxis(np.indices(density.shape), 0, -1) - place).max(axis=-1)
    kept = voxels(signal_cells(density), density.shape)[:, :, :120]
    assert kept[distance[:, :, :120] <= 8].all()
    assert not kept[distance[:, :, :120] > 11 + 24].any()


def test_noise_is_skipped_and_the_molecule_is_not(molecule):
    density = molecule + solvent(molecule.shape)
    cells = signal_cells(density)
    assert cells.mean() < 0.4
    assert voxels(cells, density.shape)[molecule > 0.01].all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("centre", [(16, 16, 16), (24, 60, 104), (103, 17, 61), (100, 100, 12)])
def test_a_domain_lower_than_the_noise_is_kept_everywhere(molecule, centre, seed):
    """A fifth of the molecule's density."""
    domain = globule(np.array(centre), radius=12.0, height=1.0, seed=seed)
    density = molecule + domain + solvent(molecule.shape, seed=seed)
    cells = signal_cells(density)
    assert cells.mean() < 0.7
    assert voxels(cells, density.shape)[domain > 0.2].all()


@pytest.mark.parametrize("factor", [1e-4, 740.0])
def test_the_unit_does_not_matter(molecule, factor):
    density = molecule + solvent(molecule.shape)
    scaled = density * np.float32(factor)
    np.testing.assert_array_equal(signal_cells(scaled), signal_cells(density))


def test_solvent_below_zero_is_noise_and_solvent_well_above_zero_is_kept(molecule):
    """Zero is where the network begins to see, so a constant is not taken off."""
    density = molecule + solvent(molecule.shape)
    below = signal_cells(density - density.mean())
    assert below.mean() < 0.4
    assert voxels(below, density.shape)[molecule > 0.01].all()
    assert signal_cells(density + 0.5).all()


def test_noise_within_a_soft_sphere_is_still_noise(molecule):
    z, y, x = np.meshgrid(*3 * [np.linspace(-1, 1, EDGE)], indexing="ij", sparse=True)
    sphere = np.clip((0.95 - np.sqrt(z**2 + y**2 + x**2)) * 20, 0, 1).astype(np.float32)
    cells = signal_cells((molecule + solvent(molecule.shape)) * sphere)
    assert cells.mean() < 0.4
    assert voxels(cells, molecule.shape)[molecule > 0.01].all()


@pytest.mark.parametrize(
    "make",
    [
        lambda molecule, noise: noise,
        lambda molecule, noise: np.maximum(molecule + noise, 0),
        lambda molecule, noise: molecule + 16 * noise,
        lambda molecule, noise: (molecule + noise)[40:80, 40:80, 40:80],
    ],
    ids=["noise alone", "clipped", "drowned", "no solvent"],
)
def test_what_cannot_be_told_from_noise_is_kept(molecule, make):
    assert signal_cells(make(molecule, solvent(molecule.shape))).all()


def test_a_cell_is_made_of_whole_blocks():
    with pytest.raises(ValueError, match="multiple of 4"):
        signal_cells(np.zeros((8, 8, 8), dtype=np.float32), cell_voxels=10)


def test_memory_is_a_fraction_of_the_map():
    density = solvent((128, 128, 128))
    tracemalloc.start()
    signal_cells(density)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.3 * density.nbytes


@pytest.mark.parametrize("name", UNMASKED + MASKED)
def test_no_atom_of_a_real_map_is_skipped(shared_data, name):
    entry = pd.read_csv(shared_data / "entries.tsv", sep="\t").set_index("name").loc[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # stamps, voxel sizes of 1 Å
        volume = read_map(shared_data / "maps" / entry["map"])
    volume = resample(volume, spaced_grid(volume.grid, 1.0))
    atoms = read_model(shared_data / "maps" / entry["model"]).coords - volume.origin
    kept = voxels(signal_cells(volume.data), volume.data.shape)
    assert kept[tuple(np.round(atoms).astype(int).T)].all()


def test_a_hot_voxel_does_not_make_the_molecule_look_weak():
    """One voxel of 5000 times the density: its ceiling, not its value, is the strongest."""
    grid = np.indices((96, 96, 96)) - 60
    density = np.exp(-(grid**2).sum(0) / (2 * 8.0**2)).astype(np.float32)
    expected = signal_cells(density, cell_voxels=4)
    density[4, 4, 4] = 5000
    found = signal_cells(density, cell_voxels=4, ceiling=1.0)
    assert found[expected].all()
    assert not signal_cells(density, cell_voxels=4)[expected].all()
