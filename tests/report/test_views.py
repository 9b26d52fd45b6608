"""Views follow the geometry of the chain, are no mirror images, and put surfaces in place."""

import numpy as np
import pytest
from matplotlib import image

from cryoready.core.atoms import Atoms
from cryoready.core.volume import Grid, Volume
from cryoready.density.simulate import simulate_density
from cryoready.report.views import (
    AFTER,
    MARGIN,
    PIXEL,
    View,
    cast_surface,
    helix_view,
    plot_sections,
    plot_views,
    side_chain_view,
    strand_view,
    usual_views,
)


def model(*chains, names="CA", residue="ALA", polymer="protein"):
    """Each chain (n, 3) xyz, one atom a residue."""
    coords = np.concatenate(chains)[:, ::-1]
    n = len(coords)
    return Atoms(
        coords=coords,
        element=np.full(n, "C"),
        b_iso=np.zeros(n),
        occupancy=np.ones(n),
        name=np.broadcast_to(names, n),
        residue_name=np.full(n, residue),
        chain=np.repeat([chr(65 + k) for k in range(len(chains))], [len(c) for c in chains]),
        residue_number=np.concatenate([np.arange(len(c)) + 1 for c in chains]),
        insertion_code=np.full(n, ""),
        altloc=np.full(n, ""),
        polymer=np.full(n, polymer),
    )


def alpha_helix(n):
    """CA of a right-handed helix along z: 3.6 residues a turn, 1.5 Å each, radius 2.3 Å; xyz."""
    turn = np.radians(100) * np.arange(n)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(n)], axis=1)


def strand(n, x):
    """CA of an extended chain along z, pleated by ±0.9 Å; xyz."""
    k = np.arange(n)
    return np.stack([np.full(n, x), 0.9 * (-1.0) ** k, 3.35 * k], axis=1)


def test_a_helix_is_found_and_its_mirror_image_is_not():
    helix = alpha_helix(12)
    found = helix_view(model(strand(20, 30.0), helix))
    assert found.title == "helix B 1-12"
    assert found.drawn.sum() == 12
    assert helix_view(model(helix * [-1, 1, 1])) is None
    assert helix_view(model(alpha_helix(7))) is None


def test_a_long_helix_is_shown_by_its_middle():
    assert helix_view(model(alpha_helix(30))).title == "helix A 7-24"


def test_a_gap_in_the_chain_ends_a_helix():
    helix = alpha_helix(22)
    helix[12:, 0] += 8
    assert helix_view(model(helix)).title == "helix A 1-12"


def test_the_longest_pair_of_strands_is_found():
    chains = [strand(9, 0.0), strand(6, 4.8), strand(8, -4.8), strand(9, 15.0)]
    found = strand_view(model(*chains))
    assert found.title == "strands A 1-8 and C 1-8"  # A 9 is 5.9 Å from C 8
    assert strand_view(model(strand(9, 0.0), strand(9, 15.0))) is None


def test_of_aromatic_side_chains_the_buried_one_is_shown():
    crowd = np.random.default_rng(0).uniform(-4, 4, (40, 3)) + np.array([30, 0, 0])
    atoms = model(np.array([[0.0, 0, 0], [30, 0, 0]]), crowd, names="CG")
    residue = atoms.residue_name.copy()
    residue[:2] = "PHE"
    found = side_chain_view(Atoms(**{**vars(atoms), "residue_name": residue}))
    assert found.title == "side chain PHE A 2"


def test_nothing_to_see_in_what_is_no_protein():
    assert usual_views(model(alpha_helix(12), polymer="nucleic")) == []


@pytest.mark.parametrize("seed", range(4))
def test_no_view_is_a_mirror_image(seed):
    """Right, up and towards the viewer, as (x, y, z), are a right-handed system."""
    coords = np.random.default_rng(seed).normal(size=(30, 3)) * [9, 4, 1]
    atoms = model(coords)
    view = View.of("x", atoms, np.ones(30, dtype=bool), atoms.coords)
    right, up, towards = view.axes[:, ::-1]
    np.testing.assert_allclose(np.cross(right, up), towards, atol=1e-9)
    flat = (atoms.coords - view.centre) @ view.axes.T
    assert (np.abs(flat) <= view.half - MARGIN + 1e-9).all()
    assert np.ptp(flat[:, 1]) > np.ptp(flat[:, 0]) > np.ptp(flat[:, 2])


@pytest.fixture
def ball():
    """One Gaussian atom and a frame that looks at it: right, up, towards = x, y, z."""
    grid = Grid((40, 44, 48), np.array([0.5, 0.55, 0.6]), np.array([-10.0, -12, -14]))
    atoms = model(np.array([[0.3, 0.1, -0.2]]))
    volume = simulate_density(atoms.coords, np.array([6.0]), 1.0, grid)
    axes = np.eye(3)[::-1]
    return volume, atoms, View("x", np.ones(1, dtype=bool), np.zeros(3), axes, np.full(3, 4.0))


@pytest.mark.parametrize("radius", [1.3, 1.7])
def test_a_ball_has_the_outline_of_its_contour(ball, radius):
    """ρ(r) of a Gaussian of σ = 1 Å is the contour at r: the outline is a disc of r at the atom."""
    volume, atoms, view = ball
    contour = 6 * (2 * np.pi) ** -1.5 * np.exp(-(radius**2) / 2)
    seen = cast_surface(volume, contour, view, atoms.coords, AFTER)[..., 3] > 0
    assert seen.sum() * PIXEL**2 == pytest.approx(np.pi * radius**2, rel=0.06)
    up, right = np.argwhere(seen).mean(axis=0) * PIXEL - 4.0
    assert (right, up) == pytest.approx((0.3, 0.1), abs=PIXEL)


def test_light_falls_from_the_upper_left(ball):
    volume, atoms, view = ball
    picture = cast_surface(volume, 0.05, view, atoms.coords, AFTER)
    bright = picture[..., :3].sum(axis=2) * (picture[..., 3] > 0)
    middle = np.array(bright.shape) // 2
    step = int(0.9 / PIXEL)
    upper_left = bright[middle[0] + step, middle[1] - step]
    assert upper_left > 1.3 * bright[middle[0] - step, middle[1] + step]


def test_density_far_from_what_is_drawn_is_hidden(ball):
    volume, atoms, view = ball
    picture = cast_surface(volume, 0.05, view, atoms.coords + 8.0, AFTER)
    assert not picture[..., 3].any()


def test_the_unit_of_the_map_does_not_matter(ball):
    volume, atoms, view = ball
    times = Volume.on(volume.grid, volume.data * 50)
    one = cast_surface(volume, 0.05, view, atoms.coords, AFTER)
    np.testing.assert_allclose(one, cast_surface(times, 2.5, view, atoms.coords, AFTER), atol=1e-3)


def test_pictures_are_written(ball, tmp_path):
    volume, atoms, view = ball
    path = tmp_path / "view.png"
    plot_views([(view, atoms, (volume, volume), (0.05, 0.05))] * 2, title="x", path=path)
    assert np.ptp(image.imread(path)[..., :3]) > 0.5
    path = tmp_path / "sections.png"
    column = ("x", (volume, volume), (0.05, np.inf), (0.3, 0.3))
    plot_sections([column] * 2, title="x", path=path)
    assert np.ptp(image.imread(path)[..., :3]) > 0.5
