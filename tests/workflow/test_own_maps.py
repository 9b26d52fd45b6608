"""A user's own maps: every file comes back on its own grid, better, with or without a mask."""

import io
import json

import gemmi
import mrcfile
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from checkout import Checkout
from map_files import Array, read_map, write_map

pytestmark = pytest.mark.workflow

VOXEL = 1.05  # Å, of EMD-3488
START = np.array((40, 40, 20))  # zyx, of the cuts from it: half protein, half solvent
SHAPE = np.array((44, 40, 42))  # one box of the network
CONTOUR = 0.09  # the authors'
RESOLUTION = 3.2  # Å
RADIUS = 3.0  # Å
EDGE = 4.0  # Å


@pytest.fixture(scope="module")
def density(checkout: Checkout) -> Array:
    """(nz, ny, nx) what all maps here hold, in their several ways."""
    return read_map(checkout / "resources/EMD-3488/emd_3488.map.gz").density[
        tuple(slice(a, a + n) for a, n in zip(START, SHAPE, strict=True))
    ]


@pytest.fixture(scope="module")
def stored(checkout: Checkout, density: Array) -> dict[str, str]:
    """Map files by id, all enhanced; the sheet knows the last, which is in another place."""
    files = {"mine": "maps/mine.mrc", "zipped": "maps/zipped.map.gz", "row": "elsewhere/bare.ccp4"}
    mine, zipped, bare = (checkout / name for name in files.values())
    # sections of x, rows of y, columns of z; so nstart is in the order z, y, x
    write_map(mine, density, VOXEL, axes=(3, 2, 1), nstart=START)
    write_map(zipped, density, VOXEL, axes=(2, 3, 1), origin_xyz=VOXEL * START[::-1])
    write_map(bare, density, 0.0, nstart=START[::-1])  # no voxel size, as some programs leave it
    row = {"id": "row", "map": bare, "voxel_size": VOXEL}
    sheet = checkout.sheet("my", {**row, "contour": CONTOUR, "resolution": RESOLUTION})
    targets = [f"results/{entry}_emready.mrc" for entry in files]
    # a lower precision makes 0.2 of 100 of what the float32 of headers rounds
    exact = checkout.settings("exact", inference={"precision": "fp32"})
    checkout.made(*targets, "--configfile", exact, "--config", f"entries={sheet}")
    return files


@pytest.fixture(scope="module")
def model(checkout: Checkout) -> gemmi.Structure:
    return gemmi.read_structure(str(checkout / "resources/EMD-3488/5ni1.pdb.gz"))


@pytest.fixture(scope="module")
def atoms_zyx(model: gemmi.Structure) -> np.ndarray:
    """(n, 3) Å from voxel [0, 0, 0] of the cut."""
    xyz = np.array([site.atom.pos.tolist() for site in model[0].all()])
    return xyz[:, ::-1] - VOXEL * START


@pytest.mark.parametrize("entry", ["mine", "zipped"])
def test_the_map_comes_back_on_its_own_grid(
    checkout: Checkout, stored: dict[str, str], entry: str
) -> None:
    before = read_map(checkout / stored[entry])
    after = read_map(checkout / f"results/{entry}_emready.mrc")
    assert after.place == before.place
    assert after.density.shape == before.density.shape
    assert any("modified by a network" in label and "v1" in label for label in after.labels)


def test_a_missing_voxel_size_is_that_of_the_sheet(
    checkout: Checkout, stored: dict[str, str]
) -> None:
    with mrcfile.open(checkout / "results/row_emready.mrc") as mrc:
        np.testing.assert_allclose(mrc.voxel_size.item(), VOXEL, rtol=1e-6)
        assert mrc.nstart.item() == tuple(START[::-1])


def test_another_way_to_store_a_map_does_not_change_it(
    checkout: Checkout, stored: dict[str, str]
) -> None:
    first, *others = (read_map(checkout / f"results/{x}_emready.mrc").density for x in stored)
    for other in others:
        np.testing.assert_allclose(other, first, atol=0.01)


def test_values_are_network_units_and_statistics_are_theirs(
    checkout: Checkout, stored: dict[str, str]
) -> None:
    for entry in stored:
        path = checkout / f"results/{entry}_emready.mrc"
        after = read_map(path)
        low, high, mean, rms = after.statistics
        values = after.density.astype(np.float64)
        expected = values.min(), values.max(), values.mean(), values.std()
        np.testing.assert_allclose((low, high, mean, rms), expected, rtol=1e-4)
        assert -50 <= low <= 0  # the shipped weights keep half of the negative density
        assert 20 < high <= 100
        complaints = io.StringIO()
        assert mrcfile.validate(path, print_file=complaints), complaints.getvalue()


def test_both_contours_enclose_the_same_volume(
    checkout: Checkout, stored: dict[str, str], density: Array
) -> None:
    card = json.loads((checkout / "results/row_emready.json").read_text())
    after = read_map(checkout / "results/row_emready.mrc").density
    assert card["contour"]["input"] == CONTOUR
    enclosed = np.count_nonzero(after >= np.float32(card["contour"]["enhanced"]))
    assert enclosed == np.count_nonzero(density >= CONTOUR)
    assert card["weights"]["name"] == "v1"
    assert set(card["sources"]) == {"map"}


# masks


def distances(atoms_zyx: Array) -> Array:
    """(nz, ny, nx) Å from every voxel of the cut to the nearest atom."""
    voxels = VOXEL * np.stack(np.indices(tuple(SHAPE)), axis=-1)
    return cKDTree(atoms_zyx).query(voxels)[0]


@pytest.fixture(scope="module")
def lower_half() -> np.ndarray:
    """(nz, ny, nx) where a mask of its own file lets the map through."""
    return np.indices(tuple(SHAPE))[0] < SHAPE[0] // 2


@pytest.fixture(scope="module")
def masked(checkout: Checkout, stored: dict[str, str], lower_half: np.ndarray) -> None:
    """Entry ``half`` has a mask file, ``near`` one around a model, ``outside`` its own contour."""
    half = checkout / "elsewhere/half.mrc"
    write_map(half, lower_half.astype(np.float32), VOXEL, nstart=START[::-1])
    mine = stored["mine"]
    model = "resources/EMD-3488/5ni1.pdb.gz"
    masks = checkout.sheet(
        "masks",
        {"id": "half", "map": mine, "mask": half, "mask_contour": 0.5},
        {"id": "near", "map": mine, "mask_model": model, "mask_radius": RADIUS},
        {"id": "outside", "map": mine, "mask_contour": CONTOUR},
    )
    soft = checkout.settings("soft", entries=masks, mask={"write": True, "edge": EDGE})
    mask = {"write": True, "edge": 0, "invert": True}
    hard = checkout.settings("hard", entries=masks, mask=mask, output_grid="network")
    targets = [f"results/{entry}_emready.mrc" for entry in ("half", "near")]
    checkout.made(*targets, "--configfile", soft)
    checkout.made("results/outside_emready.mrc", "--configfile", hard)


def mask_of(checkout: Checkout, entry: str) -> Array:
    written = read_map(checkout / f"results/{entry}_emready_mask.mrc")
    assert written.place == read_map(checkout / "maps/mine.mrc").place
    return written.density


def test_a_soft_mask_falls_over_its_edge(
    checkout: Checkout, masked: None, lower_half: np.ndarray, atoms_zyx: Array
) -> None:
    for entry, inside in (("half", lower_half), ("near", distances(atoms_zyx) <= RADIUS)):
        mask = mask_of(checkout, entry)
        distance = VOXEL * distance_transform_edt(~inside)
        edge = (distance > 0) & (distance < EDGE)
        assert (mask[inside] == 1).all()
        assert (mask[distance >= EDGE] == 0).all()
        np.testing.assert_allclose(
            mask[edge], np.cos(np.pi * distance[edge] / EDGE / 2) ** 2, atol=1e-6
        )


def test_a_hard_inverted_mask_is_the_rest(checkout: Checkout, masked: None, density: Array) -> None:
    np.testing.assert_array_equal(mask_of(checkout, "outside"), density < np.float32(CONTOUR))


def test_what_a_mask_takes_away_is_not_invented(
    checkout: Checkout, masked: None, lower_half: np.ndarray
) -> None:
    without = read_map(checkout / "results/mine_emready.mrc").density
    masked_map = read_map(checkout / "results/half_emready.mrc").density
    away = VOXEL * distance_transform_edt(~lower_half) > 2 * EDGE
    kept = VOXEL * distance_transform_edt(lower_half) > 2 * EDGE
    assert np.abs(masked_map[away]).mean() < 0.1 * np.abs(without[away]).mean()
    assert np.corrcoef(masked_map[kept], without[kept])[0, 1] > 0.9


def test_the_grid_of_the_network_covers_the_map_in_steps_of_1(
    checkout: Checkout, masked: None
) -> None:
    with mrcfile.open(checkout / "results/outside_emready.mrc") as mrc:
        np.testing.assert_allclose(mrc.voxel_size.item(), 1, rtol=1e-6)
        np.testing.assert_allclose(mrc.header.origin.item(), VOXEL * START[::-1], rtol=1e-6)
        assert mrc.data.shape == tuple(np.ceil((SHAPE - 1) * VOXEL).astype(int) + 1)
