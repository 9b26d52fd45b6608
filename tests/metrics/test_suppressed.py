"""Density taken away by hand is found; density that is only sharper, shifted or scaled is not."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid, Volume
from cryoready.density.contour import matching_contour
from cryoready.density.masks import mask_from_atoms
from cryoready.density.simulate import simulate_density
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.suppressed import suppressed_density

ENTRY = Path(__file__).parents[2] / "resources" / "EMD-3488"
GRIDS = [
    Grid((40, 41, 60), np.ones(3), np.zeros(3)),
    Grid((47, 36, 50), np.array([0.8, 1.1, 1.3]), np.array([-20.0, 15.0, 7.5])),
]
SPOTS = np.array([[0.5, 0.5, 0.25], [0.5, 0.5, 0.5], [0.5, 0.5, 0.75]])  # of the box


def spots(grid, weights, *, sigma=2.0, shift=0.0):
    """Three Gaussians 13 Å or more apart."""
    extent = (np.array(grid.shape) - 1) * grid.voxel_size
    coords = grid.origin + SPOTS * extent + shift
    return coords, simulate_density(coords, np.array(weights), sigma, grid)


def compare(before, after, contour, **kwargs):
    level = matching_contour(before.data, contour, after.data)
    return suppressed_density(before, after, contours=(contour, level), **kwargs)


def atoms_at(coords, *residues):
    """One atom a row; residues are (chain, name, number, element, polymer)."""
    chain, name, number, element, polymer = (np.array(c) for c in zip(*residues, strict=True))
    n, none = len(coords), np.full(len(coords), "")
    ones = np.ones(n)
    return Atoms(
        coords, element, ones, ones, element, name, chain, number.astype(int), none, none, polymer
    )


@pytest.mark.parametrize(
    "change",
    [lambda x: x, lambda x: 37.5 * x, lambda x: np.sign(x) * x**2, lambda x: np.sqrt(np.abs(x))],
    ids=["same", "scaled", "squared", "root"],
)
def test_a_monotone_change_of_values_suppresses_nothing(change):
    volume = read_map(ENTRY / "emd_3488.map.gz")
    before = replace(volume, data=np.maximum(volume.data, 0))
    found = compare(before, replace(before, data=change(before.data)), 0.09)
    assert (found.share, found.share_of_volume, found.blob_count, found.blobs) == (0, 0, 0, ())
    assert (found.share_of_model, found.small_molecules) == (None, ())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("sigma", "shift"), [(1.5, 0.0), (2.5, 0.0), (2.0, 0.4)])
def test_what_is_only_sharper_blurred_or_shifted_is_not_suppressed(grid, sigma, shift):
    _, before = spots(grid, [1, 1, 1])
    _, after = spots(grid, [5, 5, 5], sigma=sigma, shift=shift)
    assert compare(before, after, 0.3 * before.data.max()).share == 0


@pytest.mark.parametrize("grid", GRIDS)
def test_a_removed_gaussian_is_found_with_its_mass_volume_and_place(grid):
    """Above its contour c a Gaussian fills a ball of radius σ√(2 ln(peak/c))."""
    coords, before = spots(grid, [1.0, 2.0, 2.0])
    _, after = spots(grid, [0.0, 2.0, 2.0])
    peak = 1 / (2 * np.pi * 4) ** 1.5
    contour = 0.4 * peak
    own = spots(grid, [1.0, 0.0, 0.0])[1].data
    found = compare(before, after, contour)
    (blob,) = found.blobs
    share = own[own >= contour].sum() / before.data[before.data >= contour].sum()
    assert found.share == pytest.approx(share, rel=1e-3)
    assert blob.share == found.share
    assert found.share_of_volume == pytest.approx(
        (own >= contour).sum() / (before.data >= contour).sum()
    )
    radius = 2 * np.sqrt(2 * np.log(1 / 0.4))
    assert blob.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.08)
    assert blob.peak == pytest.approx(2.5, rel=0.06)
    np.testing.assert_allclose(blob.centre_xyz, coords[0, ::-1], atol=0.1)


def test_a_weaker_feature_is_suppressed_below_half_the_matching_contour():
    """The contour is half the peak: with 0.6 of its density a feature is weak, with 0.2 gone."""
    _, before = spots(GRIDS[0], [1, 1, 1])
    contour = 0.5 * float(before.data.max())
    share = []
    for weight in (0.6, 0.2):
        _, after = spots(GRIDS[0], [weight, 1, 1])
        share.append(suppressed_density(before, after, contours=(contour, contour)).share)
    assert share == [0, pytest.approx(1 / 3, rel=0.02)]


def test_specks_count_in_the_share_but_are_no_blobs():
    data = np.zeros((20, 20, 20), dtype=np.float32)
    data[5:10, 5:10, 5:10] = 2
    data[15, 15, 15] = 2
    before = Volume(data, np.ones(3), np.zeros(3))
    after = replace(before, data=np.where(np.indices(data.shape)[0] == 15, 0, data))
    found = suppressed_density(before, after, contours=(1.0, 1.0))
    assert found.share == pytest.approx(1 / 126)
    assert found.blob_count == 0


def test_an_empty_output_suppresses_everything():
    _, before = spots(GRIDS[0], [1, 2, 3])
    found = compare(before, replace(before, data=0 * before.data), 0.5 * float(before.data.max()))
    assert (found.share, found.share_of_volume) == (1, 1)
    assert sum(blob.share for blob in found.blobs) == pytest.approx(1)


def test_most_limits_the_list_not_the_count():
    _, before = spots(GRIDS[0], [1, 2, 3])
    contour = 0.2 * float(before.data.max())
    found = compare(before, replace(before, data=0 * before.data), contour, most=2)
    assert (len(found.blobs), found.blob_count) == (2, 3)
    assert found.blobs[0].share > found.blobs[1].share


def test_small_molecules_and_where_they_went():
    """Zinc kept, a sugar lost, a ligand never seen; protein and water are none of them."""
    grid = GRIDS[1]
    coords, before = spots(grid, [1, 1, 0])
    _, after = spots(grid, [1, 0, 0])
    model = atoms_at(
        np.vstack([coords, coords[2] + 0.5, coords[1] + 0.5, coords[1] + 1, coords[:2]]),
        *[("A", "ZN", 1, "ZN", ""), ("B", "NAG", 2, "C", ""), ("C", "ATP", 3, "P", "")],
        *[("C", "ATP", 3, "O", ""), ("B", "NAG", 2, "O", ""), ("B", "NAG", 2, "H", "")],
        *[("A", "GLY", 4, "C", "protein"), ("A", "HOH", 5, "O", "")],
    )
    found = compare(before, after, 0.3 * float(before.data.max()), atoms=model)
    rows = [
        (row.residue, row.kind, row.atoms, row.kept, row.suppressed, row.not_seen)
        for row in found.small_molecules
    ]
    assert rows == [
        ("B/NAG 2", "glycan", 2, 0, 1, 0),
        ("A/ZN 1", "ion", 1, 1, 0, 0),
        ("C/ATP 3", "ligand", 2, 0, 0, 1),
    ]
    (blob,) = found.blobs
    assert blob.small_molecules == ("B/NAG 2",)
    assert blob.nearest in ("B/NAG 2", "A/HOH 5")
    assert blob.distance < 0.2
    assert blob.residues == 2
    assert 0.3 < found.share_of_model < 0.7
    json.dumps(asdict(found))


def test_real_haems_erased_by_hand():
    """Of the four haems of haemoglobin, two lose all density within 2 Å of their atoms."""
    before, model = read_map(ENTRY / "emd_3488.map.gz"), read_model(ENTRY / "5ni1.pdb.gz")
    haem = (model.residue_name == "HEM") & np.isin(model.chain, ("A", "D"))
    erased = mask_from_atoms(model.coords[haem], before.grid, 2.0)
    after = replace(before, data=np.where(erased, 0, before.data))
    found = compare(before, after, 0.09, atoms=model)
    fates = {row.residue: row for row in found.small_molecules}
    assert set(fates) == {f"{chain}/HEM 201" for chain in "ABCD"}
    for name, fate in fates.items():
        assert (fate.kind, fate.atoms) == ("ligand", 43)
        assert fate.kept == pytest.approx(1 - fate.not_seen if name[0] in "BC" else 0)
    assert {blob.small_molecules for blob in found.blobs} == {("A/HEM 201",), ("D/HEM 201",)}
    assert [blob.nearest for blob in found.blobs[:2]] == [
        b.small_molecules[0] for b in found.blobs[:2]
    ]
    above = before.data >= 0.09
    true_share = before.data[erased & above].sum() / before.data[above].sum()
    assert 0.9 * true_share < found.share <= true_share
    assert found.share_of_model == pytest.approx(found.share, rel=0.2)


@pytest.mark.parametrize("contour", [-0.1, 0.0, 9.0])
def test_a_contour_that_shows_nothing_gets_one_line(contour):
    _, before = spots(GRIDS[0], [1, 1, 1])
    with pytest.raises(CryoreadyError, match=r"contour .* must be positive and at most") as error:
        suppressed_density(before, before, contours=(contour, 1.0))
    assert "\n" not in str(error.value)


def test_other_grids_are_refused():
    _, before = spots(GRIDS[0], [1, 1, 1])
    with pytest.raises(ValueError, match="not on one grid"):
        suppressed_density(before, replace(before, origin=np.ones(3)), contours=(0.01, 0.01))
