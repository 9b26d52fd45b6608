"""Shells of any array library are those of `core.fourier`."""

import numpy as np
import pytest
import torch
from scipy import fft

from cryoready.core.fourier import frequency_radius, shell_index
from cryoready.density.spectrum import Frequencies

SHAPES = [(24, 24, 24), (21, 24, 25), (9, 16, 30)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
def test_shell_means_are_means_over_shells(shape, library):
    density = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    power = np.abs(fft.rfftn(density)) ** 2
    frequencies = Frequencies.of(library(density), 1.3)
    radius = frequency_radius(shape, np.full(3, 1.3))
    shells = shell_index(radius + 1e-6, 1 / (max(shape) * 1.3)).ravel()
    expected = np.bincount(shells, power.ravel()) / np.bincount(shells)
    means = frequencies.shell_means(library(power))
    np.testing.assert_allclose(np.asarray(means), expected, rtol=1e-5)
    spread = np.asarray(frequencies.spread(means))
    np.testing.assert_allclose(spread.ravel(), expected[shells], rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_axes_and_radius_agree(shape):
    frequencies = Frequencies.of(np.zeros(shape, dtype=np.float32), 0.8)
    z, y, x = frequencies.axes
    np.testing.assert_allclose(np.sqrt(z**2 + y**2 + x**2), frequencies.radius, rtol=1e-5)
    along = frequencies.along(np.array([0.0, 0.6, 0.8]))
    assert along.max() <= frequencies.radius.max()
    np.testing.assert_allclose(along[0, 1, 2], 0.6 * y[0, 1, 0] + 0.8 * x[0, 0, 2], rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_positions_are_symmetric_about_the_centre_in_angstrom(shape):
    positions = Frequencies.of(np.zeros(shape, dtype=np.float32), 0.8).positions
    assert np.broadcast_shapes(*(axis.shape for axis in positions)) == shape
    for axis in positions:
        assert axis.dtype == np.float32
        np.testing.assert_allclose(axis.ravel(), -axis.ravel()[::-1], atol=1e-6)
        np.testing.assert_allclose(np.diff(axis.ravel()), 0.8, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(shape):
    density = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    back = Frequencies.of(density, 1.0).to_density(fft.rfftn(density))
    np.testing.assert_allclose(back, density, atol=1e-5)
