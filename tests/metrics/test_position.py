"""Is the model in the map, and if not, where is it?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.density.structure_factors import structure_factors
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.position import best_shift, check_position

SMALL = Path(__file__).parents[2] / "resources" / "small"
RESOLUTION = 3.8


@pytest.fixture(scope="module")
def volume() -> Volume:
    return read_map(SMALL / "EMD-5830-A.map.gz")


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    atoms = read_model(SMALL / "EMD-5830-A.pdb.gz")
    return atoms.take(atoms.heavy)


def moved(atoms: Atoms, *shift: float) -> Atoms:
    return replace(atoms, coords=atoms.coords + np.array(shift))


def check(atoms: Atoms, volume: Volume) -> list[str]:
    factors = structure_factors(atoms, volume.grid)
    return check_position(atoms, volume, factors, resolution=RESOLUTION)


def test_a_well_placed_model_gives_no_warning(atoms: Atoms, volume: Volume) -> None:
    assert check(atoms, volume) == []


@pytest.mark.parametrize("shift", [(0, 0, 0), (8, -5, 3), (-200, 90, 300), (0.4, 0, -0.4)])
def test_the_way_back_is_found(
    atoms: Atoms, volume: Volume, shift: tuple[float, float, float]
) -> None:
    away = moved(atoms, *shift)
    factors = structure_factors(away, volume.grid)
    back, before, after = best_shift(away, volume, factors, resolution=RESOLUTION)
    # whole voxels
    np.testing.assert_allclose(back, -np.array(shift), atol=0.51 * volume.voxel_size.max())
    assert after >= before
    assert after == pytest.approx(0.90, abs=0.02)


def test_the_reported_correlation_is_that_of_the_moved_model(atoms: Atoms, volume: Volume) -> None:
    away = moved(atoms, 6, 6, 6)
    back, _, promised = best_shift(
        away, volume, structure_factors(away, volume.grid), resolution=RESOLUTION
    )
    home = moved(away, *back)
    _, kept, _ = best_shift(
        home, volume, structure_factors(home, volume.grid), resolution=RESOLUTION
    )
    assert kept == pytest.approx(promised, abs=1e-3)


def test_another_frame_says_by_how_much(atoms: Atoms, volume: Volume) -> None:
    with pytest.raises(CryoreadyError) as caught:
        check(moved(atoms, 100, 200, 300), volume)
    line = str(caught.value)
    assert f"{len(atoms)} of its {len(atoms)} heavy atoms lie outside" in line
    assert "map spans (0.0, 0.0, 0.0)" in line
    # x first, as in the files
    shift = [
        float(number) for number in line.partition("moved by (")[2].partition(")")[0].split(",")
    ]
    np.testing.assert_allclose(shift, (-300, -200, -100), atol=1.08)


def test_a_shifted_model_is_pointed_out(atoms: Atoms, volume: Volume) -> None:
    outside, misplaced = check(moved(atoms, 0, 10.8, 0), volume)
    assert "heavy atoms of the model lie outside of the map" in outside
    assert "oved by (0.0, -10.8, 0.0) Å" in misplaced


def test_where_the_map_is_empty(atoms: Atoms, volume: Volume) -> None:
    density = np.zeros_like(volume.data)
    density[0, 0, 0] = 1  # far from all atoms
    with pytest.raises(CryoreadyError, match="the map is 0 at all 706 heavy atoms"):
        check(atoms, Volume.on(volume.grid, density))
