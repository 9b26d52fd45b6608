"""Training pairs: map and target share a grid, masks do not give the model away, draws repeat."""

import json

import numpy as np
import pytest

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid, Volume
from cryoready.core.whole_files import file_sha256
from cryoready.dataset.pairs import choose_boxes, cut_boxes, write_pair, write_targets
from cryoready.dataset.prepare import (
    entry_seed,
    prepare_pair,
    prepare_simulated_pair,
    residue_resolution,
)
from cryoready.density.normalise import intensity_scale
from cryoready.density.simulate import simulate_density
from cryoready.density.synthesis import RESOLUTIONS
from cryoready.files.maps import read_map


def chain(n=400, spread=9.0, centre=(30.0, 28.0, 33.0), seed=0):
    """A cloud of carbons."""
    coords = np.random.default_rng(seed).normal(0, spread, (n, 3)) + centre
    text = np.full(n, "")
    return Atoms(
        coords=coords,
        element=np.full(n, "C"),
        b_iso=np.full(n, 30.0),
        occupancy=np.ones(n),
        name=np.full(n, "CA"),
        residue_name=np.full(n, "ALA"),
        chain=np.full(n, "A"),
        residue_number=np.arange(n),
        insertion_code=text,
        altloc=text,
        polymer=np.full(n, "protein"),
    )


def deposited(atoms, voxel=1.2, shape=(52, 50, 55)):
    grid = Grid(shape, np.full(3, voxel), np.array([0.3, -0.7, 1.1]))
    return simulate_density(atoms.coords, np.full(len(atoms), 6.0), 1.5, grid)


def test_map_and_target_lie_on_one_grid_of_1_angstrom_and_agree():
    atoms = chain()
    pair = prepare_pair(deposited(atoms), atoms, resolution=4.0, seed=1)
    for volume in (pair.map, pair.target):
        np.testing.assert_array_equal(volume.voxel_size, 1.0)
        assert volume.data.shape == pair.zone.shape
        assert volume.data.min() >= 0
        assert volume.data.max() <= 1
    np.testing.assert_array_equal(pair.map.origin, pair.target.origin)
    assert pair.correlation > 0.6


def test_a_shifted_model_lowers_the_correlation():
    """The pair is sensitive to 2 Å: what is trained on must be where it is said to be."""
    atoms = chain()
    volume = deposited(atoms)
    moved = Atoms(**{**vars(atoms), "coords": atoms.coords + np.array([0.0, 0.0, 2.0])})
    right, wrong = (prepare_pair(volume, a, resolution=4.0, seed=1) for a in (atoms, moved))
    assert wrong.correlation < right.correlation - 0.2


def test_what_a_mask_removed_is_filled_with_solvent_and_the_rest_is_kept():
    atoms = chain()
    volume = deposited(atoms)
    data = np.where(volume.data > 0.02 * volume.data.max(), volume.data, 0)
    pair = prepare_pair(Volume.on(volume.grid, data), atoms, resolution=4.0, seed=1)
    far = ~pair.zone
    assert pair.map.data[far].std() > 0.005
    assert pair.correlation > 0.6


def test_a_mask_radius_removes_neighbours():
    atoms, neighbour = chain(), chain(centre=(30.0, 28.0, 5.0), spread=2.0, seed=1)
    both = deposited(atoms).data + deposited(neighbour).data
    volume = Volume.on(deposited(atoms).grid, both)
    with_it = prepare_pair(volume, atoms, resolution=4.0, seed=1)
    without = prepare_pair(volume, atoms, resolution=4.0, seed=1, mask_radius=3.0)
    z, y, x = (np.rint([30, 28, 5] - with_it.map.origin)).astype(int)
    assert with_it.map.data[z, y, x] > 0.5
    assert without.map.data[z, y, x] < 0.3


def test_small_maps_are_extended_to_one_box():
    atoms = chain(100, 4.0, (20.0, 20.0, 20.0))
    volume = deposited(atoms, shape=(33, 36, 34))
    pair = prepare_pair(volume, atoms, resolution=4.0, seed=1, minimum_voxels=60)
    assert pair.map.data.shape == (60, 60, 60)


def test_unknown_resolution_and_displaced_model_are_errors():
    atoms = chain()
    with pytest.raises(CryoreadyError, match="resolution is unknown"):
        prepare_pair(deposited(atoms), atoms, resolution=None, seed=1)
    far = Atoms(**{**vars(atoms), "coords": atoms.coords + 1000})
    with pytest.raises(CryoreadyError, match="no voxel lies within"):
        prepare_pair(deposited(atoms), far, resolution=4.0, seed=1)


def test_simulated_pairs_repeat_by_seed_and_span_the_resolutions():
    atoms = chain()
    first, second = (prepare_simulated_pair(atoms, resolution=4.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.map.data, second.map.data)
    drawn = {prepare_simulated_pair(atoms, resolution=None, seed=s).resolution for s in range(5)}
    assert len(drawn) == 5
    low, high = RESOLUTIONS
    assert all(low <= resolution <= high for resolution in drawn)
    assert first.correlation > 0.3


def test_simulated_maps_have_the_scale_of_inference():
    """They are whole maps: normalising them again changes nothing."""
    atoms = chain(100, 4.0)
    for seed in range(4):
        pair = prepare_simulated_pair(atoms, resolution=4.0, seed=seed)
        assert intensity_scale(pair.map.data) == pytest.approx(1, abs=0.03)  # less: clipped at 1


def test_the_seed_of_an_entry_depends_on_its_name_and_the_run():
    assert entry_seed("EMD-1", 1) == entry_seed("EMD-1", 1)
    assert len({entry_seed("EMD-1", 1), entry_seed("EMD-2", 1), entry_seed("EMD-1", 2)}) == 3


def test_boxes_without_model_are_left_out():
    zone = np.zeros((60, 60, 150), dtype=bool)
    zone[20:40, 20:40, 0:30] = True
    limits = {"edge_voxels": 60, "stride_voxels": 30, "least_share": 0.02}
    assert choose_boxes(zone, 1, **limits, most=None) == [(0, 0, 0)]
    everywhere = np.ones_like(zone)
    assert choose_boxes(everywhere, 1, **limits, most=None) == [(0, 0, x) for x in (0, 30, 60, 90)]
    drawn = {tuple(choose_boxes(everywhere, seed, **limits, most=2)) for seed in range(30)}
    assert len(drawn) == 6  # every pair of the four is possible
    assert all(first < second for first, second in drawn)
    with pytest.raises(CryoreadyError, match="no box of 60³ voxels"):
        choose_boxes(np.zeros_like(zone), 1, **limits, most=None)


def test_a_written_pair_can_be_read_and_traced_back(tmp_path):
    atoms = chain()
    pair = prepare_pair(deposited(atoms), atoms, resolution=4.0, seed=1, minimum_voxels=60)
    names = {"map": "m.mrc", "target": "t.mrc", "mask": "k.mrc"}
    names |= {"boxes": "b.npy", "index": "b.tsv", "card": "p.json"}
    to = {role: tmp_path / name for role, name in names.items()}
    source = tmp_path / "source"
    source.write_text("model")
    boxes = {"edge_voxels": 60, "stride_voxels": 30, "least_share": 0.02, "most": None}
    line = write_pair(pair, "mine", {"model": str(source)}, to, {"seed": 7, "boxes": boxes})
    stack = np.load(to["boxes"], mmap_mode="r")
    corners = choose_boxes(pair.zone, 7, **boxes)
    np.testing.assert_array_equal(stack, cut_boxes(pair, corners, 60))
    z, y, x = corners[-1]
    there = pair.target.data[z : z + 60, y : y + 60, x : x + 60]
    np.testing.assert_allclose(stack[-1, 1], there, atol=5e-4)
    assert to["index"].read_text().splitlines()[0] == "box\tz\ty\tx"
    card = json.loads(to["card"].read_text())
    assert card["boxes_sha256"] == file_sha256(to["boxes"])
    assert card["sources"] == {"model": file_sha256(source)}
    written = read_map(to["map"], voxel_size=1.0)
    np.testing.assert_array_equal(written.data, pair.map.data)
    np.testing.assert_allclose(written.origin, pair.map.origin, atol=1e-4)
    assert f"{len(corners)} boxes" in line


def test_a_local_target_is_softer_where_the_map_is_blurred():
    """Two residues, one in sharp density and one in soft: only the second loses its peak."""
    atoms = chain(n=20, spread=4.0)
    near, far = atoms.coords, atoms.coords + np.array([0.0, 0.0, 40.0])
    both = Atoms(**{name: np.concatenate([v, v]) for name, v in vars(atoms).items()})
    both = Atoms(
        **{
            **vars(both),
            "coords": np.concatenate([near, far]),
            "residue_number": np.repeat([1, 2], 20),
        }
    )
    grid = Grid((64, 60, 100), np.ones(3), np.zeros(3))
    sharp, soft = (
        simulate_density(c, np.full(20, 6.0), s, grid) for c, s in ((near, 0.7), (far, 4))
    )
    volume = Volume.on(grid, sharp.data + soft.data)
    resolution = residue_resolution(volume, both)
    assert resolution[:20].max() < 4 < resolution[20:].min()
    uniform, local = (
        prepare_pair(volume, both, resolution=3.0, seed=1, local_target=how).target.data
        for how in (False, True)
    )
    half = 52  # between the two, along x
    loss = [
        local[..., part].max() / uniform[..., part].max()
        for part in (slice(half), slice(half, None))
    ]
    assert loss[1] < 0.7 * loss[0]


def test_local_targets_lie_in_the_same_boxes(tmp_path):
    atoms = chain()
    pair = prepare_pair(deposited(atoms), atoms, resolution=4.0, seed=1, minimum_voxels=60)
    (tmp_path / "index.tsv").write_text("box\tz\ty\tx\n0\t0\t1\t2\n")
    write_targets(pair, str(tmp_path / "index.tsv"), str(tmp_path / "targets.npy"), 48)
    (box,) = np.load(tmp_path / "targets.npy")
    np.testing.assert_allclose(box, pair.target.data[0:48, 1:49, 2:50], atol=5e-4)
