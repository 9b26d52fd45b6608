"""Training pairs: map and target share a grid, masks do not give the model away, draws repeat."""

import json
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest
from test_assembly import GROUPS, grid, noisy_map, write_model

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid, Volume
from cryoready.core.whole_files import file_sha256
from cryoready.dataset.pairs import (
    Fitted,
    choose_boxes,
    cut_boxes,
    make_pair,
    prepare_entry,
    read_fitted,
    write_no_pair,
    write_pair,
    write_targets,
)
from cryoready.dataset.prepare import (
    entry_seed,
    prepare_pair,
    prepare_simulated_pair,
    residue_resolution,
)
from cryoready.density.normalise import intensity_scale
from cryoready.density.simulate import simulate_density
from cryoready.density.synthesis import RESOLUTIONS
from cryoready.files.maps import read_map, write_map
from cryoready.files.models import read_assembly, read_model
from cryoready.metrics.correlation import pearson

RESOURCES = Path(__file__).parents[2] / "resources"
BOXES = {"edge_voxels": 60, "stride_voxels": 30, "least_share": 0.02, "most": None}


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


@pytest.fixture
def to(tmp_path):
    """Paths of all that `write_pair` writes."""
    names = {"map": "m.mrc", "target": "t.mrc", "mask": "k.mrc"}
    names |= {"boxes": "b.npy", "index": "b.tsv", "card": "p.json"}
    return {role: str(tmp_path / name) for role, name in names.items()}


def settings(**changes):
    """What `prepare` is told of an entry with nothing but an id."""
    cells = dict.fromkeys(("resolution", "voxel_size", "mask_radius"))
    return {"seed": 7, "boxes": BOXES, "assembly": "auto", "archived": {}, **cells, **changes}


def card_of(to):
    return json.loads(Path(to["card"]).read_text())


def test_a_written_pair_can_be_read(to):
    atoms = chain()
    pair = prepare_pair(deposited(atoms), atoms, resolution=4.0, seed=1, minimum_voxels=60)
    boxes = {**BOXES, "stride_voxels": 8, "most": 3}
    corners = choose_boxes(pair.zone, entry_seed("mine", 7), **boxes)
    facts = {"assembly": "deposited", "quality": {"cc_mask": 0.7}}
    assert write_pair(pair, "mine", facts, to, settings(boxes=boxes)) == len(corners) == 3
    stack = np.load(to["boxes"], mmap_mode="r")
    np.testing.assert_array_equal(stack, cut_boxes(pair, corners, 60))
    z, y, x = corners[-1]
    there = pair.target.data[z : z + 60, y : y + 60, x : x + 60]
    np.testing.assert_allclose(stack[-1, 1], there, atol=5e-4)
    index = pd.read_csv(to["index"], sep="\t")
    assert list(index.columns) == ["box", "z", "y", "x"]
    assert list(index[["z", "y", "x"]].itertuples(index=False, name=None)) == corners
    card = card_of(to)
    assert card["boxes_sha256"] == file_sha256(to["boxes"])
    assert (card["id"], card["boxes"], card["resolution"]) == ("mine", 3, 4.0)
    assert card["correlation"] == pytest.approx(pair.correlation, abs=1e-4)
    assert card["quality"] == facts["quality"]
    written = read_map(to["map"], voxel_size=1.0)
    np.testing.assert_array_equal(written.data, pair.map.data)
    np.testing.assert_allclose(written.origin, pair.map.origin, atol=1e-4)


def test_only_boxes_are_written_where_no_volumes_are_wanted(to, tmp_path):
    atoms = chain()
    pair = prepare_pair(deposited(atoms), atoms, resolution=4.0, seed=1, minimum_voxels=60)
    write_pair(pair, "mine", {}, {k: to[k] for k in ("boxes", "index", "card")}, settings())
    assert {path.name for path in tmp_path.iterdir()} == {"b.npy", "b.tsv", "p.json"}


@pytest.mark.parametrize("kept", [("boxes", "index", "card"), None], ids=["boxes", "volumes"])
def test_an_entry_without_a_pair_has_no_boxes_and_a_reason(to, tmp_path, kept):
    """All that was asked for is there, the boxes of the shape that others count on."""
    wanted = {role: to[role] for role in kept or to}
    write_no_pair("EMD-1001", "no such entry", wanted, settings())
    assert {str(path) for path in tmp_path.iterdir()} == set(wanted.values())
    stack = np.load(to["boxes"])
    assert (stack.shape, stack.dtype) == ((0, 2, 60, 60, 60), np.float16)
    assert Path(to["index"]).read_text().splitlines() == ["box\tz\ty\tx"]
    card = card_of(to)
    assert (card["id"], card["failed"], card["boxes"]) == ("EMD-1001", "no such entry", 0)
    assert card["boxes_sha256"] == file_sha256(to["boxes"])


# an entry from its files


@pytest.fixture(scope="module")
def proteasome():
    """Files of a part of a real entry at 2.6 Å, and what the sheet says of it."""
    stem = RESOURCES / "small" / "EMD-6272-box"
    return {"map": f"{stem}.map.gz", "model": f"{stem}.pdb.gz"}


def test_the_card_of_an_entry_says_what_it_was_made_of(to, proteasome):
    archived = {"map": "EMD-6272", "model": "3j9s"}
    known = settings(resolution=2.6, archived=archived)
    pair, (line, times) = prepare_entry("EMD-6272", proteasome, to, known)
    card = card_of(to)
    assert card["sources"] == {role: file_sha256(path) for role, path in proteasome.items()}
    assert card["archived"] == archived
    assert (card["assembly"], card["resolution"]) == ("deposited", 2.6)
    assert card["boxes"] == len(np.load(to["boxes"], mmap_mode="r")) > 0
    quality = card["quality"]
    assert quality["shift"] < 0.3  # Å
    assert quality["overlap"] > 0.9
    assert abs(quality["cc_mask"] - quality["cc_mask_1A"]) < 0.1
    atoms = read_model(proteasome["model"])
    assert quality["atoms"] == len(atoms)
    assert "failed" not in card
    for part in ("EMD-6272: 2.60 Å", f"{card['boxes']} boxes", "deposited coordinates", "CC 0."):
        assert part in line
    for step in ("read", "resample and simulate", "measure", "cut and write"):
        assert f"{step} " in times
    np.testing.assert_array_equal(pair.zone, read_map(to["mask"], voxel_size=1.0).data.astype(bool))


def test_a_shifted_model_is_measured_to_be_shifted(to, proteasome, tmp_path):
    """By 2 Å along x: the card of the same entry says so."""
    structure = gemmi.read_structure(proteasome["model"])
    for site in structure[0].all():
        site.atom.pos += gemmi.Position(2, 0, 0)
    moved = tmp_path / "moved.pdb"
    structure.write_pdb(str(moved))
    known = settings(resolution=2.6)
    for model in (proteasome["model"], str(moved)):
        prepare_entry("EMD-6272", {**proteasome, "model": model}, to, known)
    shifted = card_of(to)["quality"]
    assert shifted["shift"] == pytest.approx(2, abs=0.3)
    assert shifted["cc_mask"] < 0.5


def test_the_boxes_of_an_entry_are_the_same_each_time(to, proteasome):
    sums = []
    for _ in range(2):
        prepare_entry("EMD-6272", proteasome, to, settings(resolution=2.6))
        sums.append(file_sha256(to["boxes"]))
    assert sums[0] == sums[1]


def test_a_simulated_entry_has_no_map_to_be_measured(to, proteasome):
    sources = {"model": proteasome["model"]}
    pair, (line, _) = prepare_entry("3j9s", sources, to, settings(resolution=4.0))
    card = card_of(to)
    assert (card["quality"], card["archived"]) == ({}, {})
    assert card["sources"] == {"model": file_sha256(proteasome["model"])}
    assert (card["resolution"], pair.resolution) == (4.0, 4.0)
    assert line.endswith("simulated")


def test_the_resolution_is_the_sheets_else_that_of_the_metadata(proteasome, tmp_path):
    metadata = tmp_path / "metadata.json"
    reconstruction = {"final_reconstruction": {"resolution": {"valueOf_": "2.8"}}}
    determination = {"structure_determination": {"image_processing": reconstruction}}
    metadata.write_text(json.dumps({"structure_determination_list": determination}))
    files = {**proteasome, "metadata": str(metadata)}
    assert read_fitted(files, settings()).resolution == 2.8
    assert read_fitted(files, settings(resolution=3.3)).resolution == 3.3
    unknown = read_fitted(proteasome, settings())
    with pytest.raises(CryoreadyError, match="resolution is unknown"):
        make_pair("EMD-6272", unknown, settings())


@pytest.fixture(scope="module")
def tetramer(tmp_path_factory):
    """A model of one chain, whose assembly has four, and maps of both."""
    folder = tmp_path_factory.mktemp("tetramer")
    model = folder / "model.cif"
    write_model(model, GROUPS["C4"])
    files = {}
    for name, atoms in (("deposited", read_model(model)), ("biological", read_assembly(model))):
        files[name] = {"map": str(folder / f"{name}.mrc"), "model": str(model)}
        write_map(files[name]["map"], noisy_map(atoms, grid()), label="test")
    return files


@pytest.mark.parametrize("there", ["deposited", "biological"])
@pytest.mark.parametrize("wanted", ["auto", "deposited", "biological"])
def test_the_coordinates_are_those_that_are_wanted_or_that_fit(tetramer, there, wanted):
    fitted = read_fitted(tetramer[there], settings(assembly=wanted))
    chosen = there if wanted == "auto" else wanted
    assert fitted.assembly == chosen
    assert len(fitted.atoms) == {"deposited": 80, "biological": 320}[chosen]
    assert fitted.volume.data.shape == grid().shape


@pytest.mark.parametrize("wanted", ["auto", "biological"])
def test_without_an_assembly_the_coordinates_are_the_deposited_ones(proteasome, wanted):
    assert read_assembly(proteasome["model"]) is None
    fitted = read_fitted(proteasome, settings(assembly=wanted))
    assert fitted.assembly == "deposited"
    assert len(fitted.atoms) == len(read_model(proteasome["model"]))


def test_all_chains_that_fit_are_in_the_target(tetramer):
    """Else three quarters of the density of the map would be taught to be noise."""
    fitted = read_fitted(tetramer["biological"], settings(assembly="auto", resolution=4.0))
    alone = Fitted(fitted.volume, read_model(tetramer["biological"]["model"]), "deposited", 4.0)
    whole, part = (make_pair("EMD-1001", f, settings()) for f in (fitted, alone))
    assert whole.zone.sum() > 3.5 * part.zone.sum()
    with_all, with_one = (
        pearson(whole.map.data.ravel(), pair.target.data.ravel()) for pair in (whole, part)
    )
    assert with_all > 1.7 * with_one  # of equal copies one explains a quarter of the variance


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
