"""Belts, glycans and neighbours: where they are, and how coarse."""

import numpy as np
import pytest
from scipy import fft

from cryoready.density.spectrum import Frequencies
from cryoready.density.surroundings import (
    PARTICLE_DENSITY,
    belt,
    blur,
    draw_surroundings,
    gaussian_lowpass,
    glycans,
    particle_mask,
    surround,
)

SHAPE = (48, 48, 48)


@pytest.fixture(scope="module")
def slab():
    """Protein density for 16 ≤ z < 32 Å, its coefficients and frequencies."""
    density = np.zeros(SHAPE, dtype=np.float32)
    density[16:32] = PARTICLE_DENSITY
    return density, fft.rfftn(density), Frequencies.of(density, 1.0)


def changed(**changes):
    how = draw_surroundings(np.random.default_rng(0))
    none = {"belt_level": 0.0, "glycans": 0, "neighbour_level": 0.0}
    return type(how)(**{**vars(how), **none, **changes})


def no_noise(shape):
    return np.zeros(shape, dtype=np.float32)


@pytest.mark.parametrize("radius", [0.0, 3.0, 5.0])
def test_the_mask_ends_its_radius_from_a_plane_surface(slab, radius):
    _, coefficients, frequencies = slab
    mask = particle_mask(coefficients, frequencies, radius, edge=0)
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert mask[:, 20, 20].sum() == pytest.approx(16 + 2 * radius, abs=1.01)
    soft = particle_mask(coefficients, frequencies, radius, edge=6.0)
    assert soft[:, 20, 20].sum() == pytest.approx(mask[:, 20, 20].sum(), abs=0.1)
    between = ((soft > 0.03) & (soft < 0.97))[:24, 20, 20].sum()
    assert between == pytest.approx(6, abs=1)


def test_lowpass_and_blur_at_one_frequency(slab):
    frequencies = slab[2]
    assert gaussian_lowpass(frequencies, 12.0)[4, 0, 0] == pytest.approx(0.5)  # s = 4/48
    assert blur(frequencies, 2.0)[4, 0, 0] == pytest.approx(np.exp(-2 * (np.pi * 2 / 12) ** 2))


def test_a_belt_is_a_slab_of_its_thickness_across_its_normal(slab):
    how = changed(
        belt_level=0.5, belt_thickness=20.0, belt_offset=5.0, belt_normal=np.array([0, 1.0, 0])
    )
    density = belt(slab[2], how, no_noise)
    assert (density[10, :, 10] > 0).sum() == 20
    assert np.flatnonzero(density[10, :, 10]).mean() == pytest.approx(23.5 + 5, abs=0.51)
    assert density.max() == pytest.approx(0.5 * PARTICLE_DENSITY)


def test_surroundings_are_coarse_and_leave_the_particle_alone(slab):
    density, coefficients, frequencies = slab
    how = changed(neighbour_level=0.8, neighbour_shift=(24, 0, 0), resolution=10.0)
    extra = surround(density, coefficients, frequencies, how, no_noise) - density
    assert np.abs(extra[20:28]).max() < 0.05 * PARTICLE_DENSITY
    assert extra[0, 20, 20] == pytest.approx(0.8 * PARTICLE_DENSITY, rel=0.15)
    power = np.abs(fft.rfftn(extra)) ** 2
    assert power[frequencies.radius > 1 / 4].sum() < 1e-3 * power[frequencies.radius > 0].sum()


def test_without_surroundings_nothing_changes(slab):
    assert surround(slab[0], slab[1], slab[2], changed(), no_noise) is slab[0]


def test_glycans_sit_at_the_surface_with_their_electrons():
    points = np.random.default_rng(1).uniform(-14, 14, (3000, 3))
    ball = points[np.linalg.norm(points, axis=1) < 14].astype(np.float32) + np.float32(24)
    how = changed(glycans=2, glycan_sigma=3.0, glycan_electrons=150.0)
    rng = np.random.default_rng(5)
    density = glycans(ball, how, rng, shape=SHAPE, spacing=1.0)
    assert density.sum() == pytest.approx(300, rel=0.03)
    peak = np.array(np.unravel_index(density.argmax(), SHAPE)) - 24
    assert 8 < np.linalg.norm(peak) < 20


def test_most_particles_stand_alone():
    drawn = [draw_surroundings(np.random.default_rng(seed)) for seed in range(200)]
    alone = [not (d.belt_level or d.glycans or d.neighbour_level) for d in drawn]
    assert np.mean(alone) > 0.5
