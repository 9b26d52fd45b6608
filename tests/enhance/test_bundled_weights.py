"""The shipped weights on a shipped map that they were not trained on."""

from pathlib import Path

import numpy as np
import torch

from cryoready.density.masks import mask_from_atoms
from cryoready.density.simulate import simulate_density, target_sigma
from cryoready.enhance.inference import enhance
from cryoready.enhance.tiles import PRESETS
from cryoready.files.maps import read_map
from cryoready.files.models import atomic_numbers, read_model
from cryoready.network.checkpoint import load_network

RESOURCES = Path(__file__).parents[2] / "resources"


def test_they_bring_a_map_nearer_to_its_model():
    """EMD-5830 is in the validation split: it chose the epoch, but was not trained on.

    On the test entry EMD-3488 the starter weights fail this (0.704 before, 0.675 after in a part of
    it; README, Results): better weights should pass there too.
    """
    network, _ = load_network(RESOURCES / "weights" / "starter" / "weights.safetensors")
    volume = read_map(RESOURCES / "small" / "EMD-5830-A.map.gz")
    atoms = read_model(RESOURCES / "small" / "EMD-5830-A.pdb.gz")
    weight = atomic_numbers(atoms.element) * atoms.occupancy
    target = simulate_density(atoms.coords, weight, target_sigma(3.8), volume.grid).data
    zone = mask_from_atoms(atoms.coords, volume.grid, 4.0)
    cpu = torch.device("cpu")
    after = enhance(volume, network, tiling=PRESETS["default"], device=cpu, batch_size=4).volume

    def correlation(values):
        return np.corrcoef(values[zone], target[zone])[0, 1]

    assert correlation(after.data) > correlation(volume.data) + 0.02
