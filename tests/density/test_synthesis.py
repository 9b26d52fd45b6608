"""Synthetic pairs: reproducible, in place, and one from the other."""

import dataclasses

import numpy as np
import pytest
import torch

from cryoready.density.normalise import intensity_scale
from cryoready.density.simulate import target_sigma
from cryoready.density.synthesis import (
    brightest,
    draw_recipe,
    random_view,
    synthesise,
)

SHAPE = (40, 40, 40)


def protein(n=900, seed=0):
    """Atoms of about protein density around the middle of the box: (coords, weight)."""
    coords = np.random.default_rng(seed).uniform(8, 32, (n, 3)).astype(np.float32)
    return coords, np.full(n, 6.7, dtype=np.float32)


def pair(seed, columns=None, **options):
    rng = np.random.default_rng(seed)
    recipe = draw_recipe(rng, 3.5)
    return synthesise(*(columns or protein()), recipe, rng, shape=SHAPE, **options)


def test_pairs_follow_from_the_seed_and_lie_between_0_and_1():
    for first, second in zip(pair(1), pair(1), strict=True):
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.float32
        assert first.min() >= 0
        assert first.max() <= 1
    assert np.abs(pair(1)[0] - pair(2)[0]).max() > 0.1


def test_the_map_is_where_the_target_is():
    """The correlation of map and target is highest without a shift, over ten recipes."""
    total = np.zeros(3)
    for seed in range(10):
        density, target = pair(seed)
        total += [
            np.corrcoef(np.roll(density, k, 2).ravel(), target.ravel())[0, 1] for k in (-1, 0, 1)
        ]
    assert total.argmax() == 1
    assert total[1] > 10 * 0.5
    assert total[0] == pytest.approx(total[2], abs=0.5)


def test_what_degrades_the_map_does_not_change_the_target():
    """Two recipes that differ in everything but the geometry have one target."""
    recipes = [draw_recipe(np.random.default_rng(seed), 4.0) for seed in (3, 4)]
    still = {"dropped_occupancy": 1.0}
    targets = []
    for recipe in recipes:
        flexibility = dataclasses.replace(recipe.flexibility, **still)
        recipe = dataclasses.replace(recipe, flexibility=flexibility)
        rng = np.random.default_rng(0)
        targets.append(synthesise(*protein(), recipe, rng, shape=SHAPE)[1])
    np.testing.assert_array_equal(*targets)


def test_the_target_of_one_atom_has_the_width_of_its_resolution():
    one = np.array([[20.0, 20.0, 20.0]], dtype=np.float32), np.array([8.0], dtype=np.float32)
    target = pair(0, one, target_resolution=np.array([5.0]))[1]
    assert target[20, 20, 22] / target[20, 20, 21] == pytest.approx(
        np.exp(-(4 - 1) / (2 * target_sigma(5.0) ** 2)), rel=1e-4
    )


def test_a_sharper_atom_is_brighter_in_a_target_of_own_resolutions():
    two = np.array([[20.0, 20.0, 12.0], [20.0, 20.0, 28.0]], dtype=np.float32)
    columns = two, np.full(2, 8.0, dtype=np.float32)
    recipe = draw_recipe(np.random.default_rng(0), 4.0)
    flexibility = dataclasses.replace(recipe.flexibility, dropped_occupancy=1.0)
    recipe = dataclasses.replace(recipe, flexibility=flexibility)
    resolution = np.array([3.0, 6.0])
    rng = np.random.default_rng(0)
    target = synthesise(*columns, recipe, rng, shape=SHAPE, target_resolution=resolution)[1]
    sharp, soft = (float(s) for s in target_sigma(resolution))
    expected = (sharp / soft) ** 3 * np.exp(0.5 / sharp**2 - 0.5 / soft**2)  # 1 Å from the centres
    assert target[20, 21, 28] / target[20, 21, 12] == pytest.approx(expected, rel=1e-3)


def test_the_scale_is_that_of_the_intensity_normalisation():
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=(50, 51, 52)), rng.uniform(-1, 0.01, (9, 30, 7))):
        density = values.astype(np.float32)
        assert brightest(density) == pytest.approx(intensity_scale(density), rel=1e-5)
        assert float(brightest(torch.from_numpy(density))) == pytest.approx(
            intensity_scale(density), rel=1e-5
        )


def test_tensors_give_what_arrays_give():
    columns = protein()
    for seed in (0, 5):
        here = pair(seed, columns)
        there = pair(seed, tuple(torch.from_numpy(c) for c in columns))
        for a, b in zip(here, there, strict=True):
            np.testing.assert_allclose(b.numpy(), a, atol=5e-3)


def test_a_view_is_turned_not_mirrored_and_complete():
    coords = np.random.default_rng(0).normal(0, 25, (4000, 3))
    seen, near = random_view(coords, np.random.default_rng(1), edge=40.0)
    before, after = coords[near], seen
    before, after = before - before.mean(axis=0), after - after.mean(axis=0)
    turn = np.linalg.lstsq(before, after, rcond=None)[0]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert seen.min() > -10
    assert seen.max() < 50
    assert ((seen > 0) & (seen < 40)).all(axis=1).any()


@pytest.mark.parametrize("quantisation", ["float32", "float16", "int8"])
@pytest.mark.parametrize("atoms", [1, 3])
def test_a_few_atoms_survive_a_wide_mask(atoms, quantisation):
    """Blurred for a mask of 13 Å they are below its threshold: the mask is empty, the map not."""
    recipe = draw_recipe(np.random.default_rng(0), 4.0)
    flexibility = dataclasses.replace(recipe.flexibility, second_occupancy=0.3)
    deposition = dataclasses.replace(
        recipe.deposition, mask_radius=13.0, mask_edge=3.0, quantisation=quantisation
    )
    recipe = dataclasses.replace(recipe, flexibility=flexibility, deposition=deposition)
    coords, weight = protein(atoms)
    values = synthesise(coords, weight, recipe, np.random.default_rng(0), shape=SHAPE)
    for density in values:
        assert np.isfinite(density).all()
        assert density.max() > 0.5


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
def test_nothing_gives_zeros(library):
    coords, weight = protein()
    for density in pair(0, (library(coords), library(0 * weight))):
        np.testing.assert_array_equal(np.asarray(density), 0)


@pytest.mark.parametrize("shape", [(33, 50, 41), (40, 36, 64)])
def test_whole_structures_have_any_shape(shape):
    rng = np.random.default_rng(2)
    recipe = draw_recipe(rng, 5.0)
    density, target = synthesise(*protein(), recipe, rng, shape=shape)
    assert density.shape == target.shape == shape
    assert np.isfinite(density).all()
