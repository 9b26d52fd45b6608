"""Q-scores of Gaussians in closed form, and against the definition written out atom by atom."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from cryoready.core.volume import Grid, Volume
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.qscore import directions, expected_q, place_probes, qscore

EMBEDDED = Path(__file__).parents[2] / "resources" / "EMD-3488"
FINE = Grid((50, 52, 48), (0.2, 0.19, 0.21), (-3.0, 12.0, 0.7))
CENTRE = FINE.origin + FINE.voxel_size * [24.3, 26.1, 23.8]
R = np.concatenate([np.zeros(8), np.repeat(0.1 * np.arange(1, 21), 8)])  # Å, of one atom's points


def gaussian(width, *, grid=FINE, centre=CENTRE):
    offsets = np.meshgrid(*(grid.axis(k) - centre[k] for k in range(3)), indexing="ij")
    return Volume.on(grid, np.exp(-0.5 * sum(x**2 for x in offsets) / width**2).astype("f4"))


def pearson(x, y):
    return np.corrcoef(x, y)[0, 1]


@pytest.mark.parametrize("sigma", [0.4, 0.6, 1.0])
def test_an_atom_as_sharp_as_the_reference_scores_one(sigma):
    (q,) = qscore(gaussian(sigma), place_probes(CENTRE[None]), sigma=sigma)
    assert q == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("sigma", [0.4, 0.6])
def test_an_atom_of_another_width(sigma):
    """Pearson of two Gaussians of r at 8 points on each of 21 shells; less, the wider."""
    probes = place_probes(CENTRE[None])
    got = [qscore(gaussian(width), probes, sigma=sigma)[0] for width in (0.6, 0.9, 1.3, 2.0)]
    ideal = np.exp(-0.5 * (R / sigma) ** 2)
    expected = [pearson(np.exp(-0.5 * (R / w) ** 2), ideal) for w in (0.6, 0.9, 1.3, 2.0)]
    assert got == pytest.approx(expected, abs=2e-3)
    assert (np.diff(got) < 0).all()


def test_noise_lowers_q():
    """The more, the stronger it is; means over 50 draws."""
    signal = gaussian(0.6)
    probes = place_probes(CENTRE[None])
    white = np.random.default_rng(0).normal(size=(50, *FINE.shape)).astype("f4")
    previous = 1.0
    for level in (0.1, 0.3, 1.0):
        q = np.mean([qscore(replace(signal, data=signal.data + level * w), probes) for w in white])
        assert q < previous - 0.01
        previous = q


def test_points_of_an_isolated_atom():
    probes = place_probes(CENTRE[None])
    assert len(probes.points) == 8 * 21
    distance = np.linalg.norm(probes.points - CENTRE, axis=1)
    np.testing.assert_allclose(distance, probes.radius, atol=1e-9)
    np.testing.assert_allclose(np.sort(probes.radius), R, atol=1e-9)


@pytest.mark.parametrize("count", [8, 10, 56, 106])
def test_directions(count):
    """h = -1 … 1 in even steps along z; from one to the next 3.6/√(N(1-h²)) about it."""
    units = directions(count)
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1)
    np.testing.assert_allclose(units[:, 0], -1 + 2 * np.arange(count) / (count - 1), atol=1e-12)
    theta = np.arctan2(units[1:-1, 1], units[1:-1, 2])
    h = units[2:-1, 0]
    steps = np.exp(1j * 3.6 / np.sqrt(count * (1 - h**2)))
    np.testing.assert_allclose(np.exp(1j * np.diff(theta)), steps, atol=1e-9)


def test_points_belong_to_their_atom():
    """None nearer than 0.9 × its distance to another atom; bonded atoms keep fewer points."""
    coords = np.array([[0.0, 0, 0], [1.5, 0, 0], [0, 1.4, 0.3], [0, 0, 30.0]])
    probes = place_probes(coords)
    for k in range(4):
        mine = probes.atom == k
        others = np.delete(coords, k, axis=0)
        nearest = np.linalg.norm(probes.points[mine, None] - others, axis=2).min(axis=1)
        assert (nearest >= 0.9 * probes.radius[mine] - 1e-6).all()
        counts = np.bincount(np.rint(10 * probes.radius[mine]).astype(int), minlength=21)
        assert np.all((counts >= 8) | (counts == 0))
        assert counts[0] == 8
    assert np.bincount(probes.atom)[3] == 168


def test_a_buried_atom_leaves_out_shells():
    """Inside of a cage of radius 1 Å no point at 2 Å is its own; at 0.5 Å all are."""
    cage = directions(100)
    probes = place_probes(np.concatenate([np.zeros((1, 3)), cage]))
    mine = np.rint(10 * probes.radius[probes.atom == 0]).astype(int)
    counts = np.bincount(mine, minlength=21)
    assert counts[5] == 8
    assert counts[20] == 0


def spiral(count):
    """Unit vectors zyx of Saff & Kuijlaars, point by point."""
    points, theta = [], 0.0
    for i in range(count):
        h = -1 + 2 * i / (count - 1)
        theta = 0.0 if i in (0, count - 1) else theta + 3.6 / np.sqrt(count * (1 - h * h))
        sine = np.sin(np.arccos(h))
        points.append([h, sine * np.sin(theta), sine * np.cos(theta)])
    return np.array(points)


def by_the_definition(volume, coords, number, sigma):
    """Q of one atom, shell after shell (`docs/metrics.md`)."""
    axes = tuple(volume.grid.axis(k) for k in range(3))
    look_up = RegularGridInterpolator(
        axes, volume.data.astype(float), bounds_error=False, fill_value=0.0
    )
    others = np.delete(coords, number, axis=0)
    points, radii = [coords[number]] * 8, [0.0] * 8
    for radius in [0.1 * k for k in range(1, 21)]:
        for k in range(50):
            shell = coords[number] + radius * spiral(8 + 2 * k)
            distance = np.linalg.norm(shell[:, None] - others, axis=2).min(axis=1)
            kept = shell[distance >= 0.9 * radius]
            if len(kept) >= 8:
                points += list(kept)
                radii += [radius] * len(kept)
                break
    return pearson(look_up(points), np.exp(-0.5 * (np.array(radii) / sigma) ** 2))


@pytest.fixture(scope="module")
def haemoglobin():
    """The embedded map and the heavy atoms of 8 residues and of a haem group (with its iron)."""
    atoms = read_model(EMBEDDED / "5ni1.pdb.gz")
    atoms = atoms.take(atoms.heavy)
    near = (atoms.residue_name == "HEM") | (abs(atoms.residue_number - 87) < 4)
    return read_map(EMBEDDED / "emd_3488.map.gz"), atoms.coords[near & (atoms.chain == "A")]


@pytest.mark.parametrize("sigma", [0.4, 0.6])
def test_the_definition_atom_by_atom(haemoglobin, sigma):
    volume, coords = haemoglobin
    got = qscore(volume, place_probes(coords), sigma=sigma)
    chosen = range(0, len(coords), 4)
    expected = [by_the_definition(volume, coords, k, sigma) for k in chosen]
    np.testing.assert_allclose(got[chosen], expected, atol=1e-5)


@pytest.mark.parametrize(("scale", "offset"), [(1000, 0), (1e-3, 0), (1, 40), (-1, 0)])
def test_scale_and_offset_of_the_map(haemoglobin, scale, offset):
    volume, coords = haemoglobin
    probes = place_probes(coords)
    expected = np.sign(scale) * qscore(volume, probes)
    changed = replace(volume, data=scale * volume.data + offset)
    np.testing.assert_allclose(qscore(changed, probes), expected, atol=1e-4)


def test_map_and_model_moved_together(haemoglobin):
    volume, coords = haemoglobin
    shift = np.array([100.0, -7.3, 0.4])
    moved = replace(volume, origin=volume.origin + shift)
    got = qscore(moved, place_probes(coords + shift))
    np.testing.assert_allclose(got, qscore(volume, place_probes(coords)), atol=1e-4)


def test_map_and_model_turned_together():
    """The points do not turn with them: single atoms change (by 0.05 on average), the mean not."""
    volume, atoms = read_map(EMBEDDED / "emd_3488.map.gz"), read_model(EMBEDDED / "5ni1.pdb.gz")
    coords = atoms.coords[atoms.heavy]
    turned = Volume(np.rot90(volume.data, axes=(0, 1)), volume.voxel_size, 0.0)
    last = volume.voxel_size[0] * (volume.data.shape[1] - 1)
    z, y, x = (coords - volume.origin).T
    change = qscore(turned, place_probes(np.stack([last - y, z, x], axis=1)))
    change -= qscore(volume, place_probes(coords))
    assert change.std() < 0.06
    assert abs(change.mean()) < 0.001


def test_the_order_of_the_atoms_and_chunks_do_not_matter(haemoglobin, monkeypatch):
    volume, coords = haemoglobin
    expected = qscore(volume, place_probes(coords))
    order = np.random.default_rng(0).permutation(len(coords))
    monkeypatch.setattr("cryoready.metrics.qscore.CHUNK_ATOMS", 7)
    got = qscore(volume, place_probes(coords[order]))
    np.testing.assert_allclose(got, expected[order], atol=1e-6)


def test_conformers_at_one_place(haemoglobin):
    """A second atom at the same place is no nearer than 0.9 r: it takes no point away."""
    volume, coords = haemoglobin
    expected = qscore(volume, place_probes(coords))
    doubled = qscore(volume, place_probes(np.concatenate([coords, coords[5:6]])))
    np.testing.assert_allclose(doubled, [*expected, expected[5]], atol=1e-6)


def test_outside_of_the_map_and_in_its_empty_part(haemoglobin):
    volume, coords = haemoglobin
    assert volume.data[0, 0, 0] == 0
    three = np.array([[-50.0, 0, 0], [4.0, 4.0, 4.0], coords[0]])
    q = qscore(volume, place_probes(three))
    assert q[:2].tolist() == [0, 0]
    assert q[2] > 0.3
    constant = replace(volume, data=np.full_like(volume.data, 0.1))
    assert not qscore(constant, place_probes(coords)).any()


def test_half_outside_of_the_map():
    """Points beyond the first voxel see 0, those inside the density."""
    flat = Volume(np.ones((20, 20, 20), dtype="f4"), 1.0, 0.0)
    centre = np.array([[0.0, 10.0, 10.0]])
    probes = place_probes(centre)
    values = (probes.points[:, 0] >= 0).astype(float)
    expected = pearson(values, np.exp(-0.5 * (probes.radius / 0.6) ** 2))
    assert qscore(flat, probes)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("resolution", "q"), [(2, 0.8181), (3, 0.5804), (4, 0.4084), (6, 0.2156)])
def test_expected_q(resolution, q):
    """-0.0019064058 R³ + 0.0499875375 R² - 0.4513945578 R + 1.5361860733, by hand."""
    assert expected_q(resolution) == pytest.approx(q, abs=1e-4)
