"""The whole evaluation of one entry, and its bad input."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.density.resample import resample, spaced_grid
from cryoready.density.structure_factors import model_density, structure_factors
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.evaluate import Evaluation, Subject, evaluate
from cryoready.metrics.score import KEYS

SMALL = Path(__file__).parents[2] / "resources" / "small"
RESOLUTION, CONTOUR = 3.8, 3.0
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def deposited() -> Volume:
    return read_map(SMALL / "EMD-5830-A.map.gz")


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    return read_model(SMALL / "EMD-5830-A.pdb.gz")


@pytest.fixture(scope="module")
def subject(deposited: Volume, atoms: Atoms) -> Subject:
    """A blurred map in the place of the enhanced one, which is worse."""
    blurred = Volume.on(deposited.grid, gaussian_filter(deposited.data, 1.2))
    return Subject(
        maps={"deposited": deposited, "enhanced": blurred},
        contour=CONTOUR,
        resolution=RESOLUTION,
        atoms=atoms,
    )


@pytest.fixture(scope="module")
def evaluation(subject: Subject) -> Evaluation:
    return evaluate(subject)


def halves(volume: Volume, noise: float) -> tuple[Volume, Volume]:
    scale = noise * float(volume.data.std())
    one, two = (
        Volume.on(
            volume.grid,
            volume.data + scale * RNG.standard_normal(volume.data.shape).astype(np.float32),
        )
        for _ in range(2)
    )
    return one, two


def test_every_score_is_there(evaluation: Evaluation) -> None:
    for name in ("deposited", "enhanced"):
        row = evaluation.summary[name]
        assert set(KEYS) | {"contour"} == set(row)
        assert all(np.isfinite(value) for value in row.values())
    assert evaluation.summary["expected_q"] == pytest.approx(0.4380, abs=1e-3)
    assert evaluation.summary["half_maps"] is None
    assert evaluation.summary["reference"] is None
    assert evaluation.summary["built_model"] is None


def test_a_blurred_map_is_worse(evaluation: Evaluation) -> None:
    before, after = evaluation.summary["deposited"], evaluation.summary["enhanced"]
    assert after["q_mean"] < before["q_mean"] - 0.05
    assert after["fsc_inside_resolution"] <= before["fsc_inside_resolution"] + 1e-3


def test_fsc_does_not_see_a_filter(evaluation: Evaluation) -> None:
    """A Gaussian is one factor a shell: it cancels in the unmasked FSC, not in the masked one."""
    before, after = evaluation.summary["deposited"], evaluation.summary["enhanced"]
    for key in ("d_fsc_model_05_unmasked", "d_fsc_model_0143_unmasked"):
        assert after[key] == pytest.approx(before[key], abs=0.02)


def test_tables_agree_with_the_summary(evaluation: Evaluation, atoms: Atoms) -> None:
    table = evaluation.atoms
    assert len(table) == atoms.heavy.sum()
    assert table["q_deposited"].mean() == pytest.approx(evaluation.summary["deposited"]["q_mean"])
    weighted = (evaluation.residues["q_enhanced"] * evaluation.residues["n_atoms"]).sum()
    assert weighted / len(table) == pytest.approx(evaluation.summary["enhanced"]["q_mean"])
    assert evaluation.chains["n_atoms"].sum() == len(table)
    # one chain fills the map: its correlation is nearly that of the mask
    cc = evaluation.summary["deposited"]["cc_mask"]
    assert evaluation.chains["cc_deposited"].item() == pytest.approx(cc, abs=0.1)


def test_the_curve_is_that_of_the_summary(evaluation: Evaluation) -> None:
    curve = evaluation.curves.query("map == 'deposited' and mask == 'masked'")
    inside = curve[curve["frequency"] <= 1 / RESOLUTION]["fsc"].mean()
    assert inside == pytest.approx(evaluation.summary["deposited"]["fsc_inside_resolution"])


def test_support_is_told_for_what_there_is(evaluation: Evaluation) -> None:
    rows = pd.DataFrame(evaluation.summary["support"])
    assert set(rows["predictor"]) == {"q_deposited", "b_iso"}  # no half-maps
    assert rows["n"].between(80, 120).all()


@pytest.mark.parametrize("spacing", [0.9, 1.3])
def test_a_map_on_another_grid_scores_alike(subject: Subject, spacing: float) -> None:
    deposited = subject.maps["deposited"]
    other = resample(deposited, spaced_grid(deposited.grid, spacing))
    result = evaluate(replace(subject, maps={"deposited": deposited, "enhanced": other}))
    before, after = result.summary["deposited"], result.summary["enhanced"]
    assert after["q_mean"] == pytest.approx(before["q_mean"], abs=0.03)
    assert after["d_fsc_model_05_masked"] == pytest.approx(
        before["d_fsc_model_05_masked"], abs=0.15
    )


def test_without_a_model(subject: Subject) -> None:
    result = evaluate(replace(subject, atoms=None))
    row = result.summary["deposited"]
    assert {key for key, value in row.items() if value is not None} == {"d99_unmasked", "contour"}
    assert result.residues.empty
    assert result.curves.empty
    assert result.summary["support"] is None
    assert any("no model" in line for line in result.summary["warnings"])


def test_without_a_resolution(subject: Subject) -> None:
    result = evaluate(replace(subject, resolution=None))
    row = result.summary["enhanced"]
    missing = {key for key, value in row.items() if value is None}
    assert missing == {
        *("cc_mask", "cc_volume", "cc_peaks", "cc_box"),
        *("fsc_inside_resolution", "fsc_0143_ratio"),
    }
    assert result.summary["expected_q"] is None
    assert not any("prior knowledge" in line for line in result.summary["warnings"])
    assert any("resolution is not known" in line for line in result.summary["warnings"])


def test_another_sigma_is_told_and_has_no_expected_q(subject: Subject) -> None:
    result = evaluate(subject, sigma=0.4)
    assert result.summary["deposited"]["q_sigma"] == 0.4
    assert result.summary["expected_q"] is None
    # 0.366366: MapQ-exact, tests/data/reference/values.tsv
    assert result.summary["deposited"]["q_mean"] == pytest.approx(0.366366, abs=1e-4)


def test_half_maps(subject: Subject, deposited: Volume) -> None:
    """Less noise, higher resolution; enhanced halves are labelled."""
    noisy, clean = (
        evaluate(replace(subject, half_maps=halves(deposited, noise))).summary["half_maps"]
        for noise in (1.0, 0.2)
    )
    assert clean["d_fsc_0143_unmasked"] < noisy["d_fsc_0143_unmasked"]
    assert clean["enhanced_d_fsc_0143_masked"] is None
    assert clean["enhanced_note"] is None
    assert clean["mask"] == "model"


def test_half_maps_without_a_model(subject: Subject, deposited: Volume) -> None:
    pair = halves(deposited, 0.5)
    result = evaluate(replace(subject, atoms=None, half_maps=pair, enhanced_half_maps=pair))
    part = result.summary["half_maps"]
    assert part["mask"] == "contour"
    assert part["enhanced_d_fsc_0143_masked"] == part["d_fsc_0143_masked"]
    assert part["enhanced_note"] == "shares a prior, not a resolution"
    assert set(result.curves["map"]) == {"half_maps", "enhanced_half_maps"}


def test_against_the_same_structure_and_map(subject: Subject, atoms: Atoms) -> None:
    """A reference that is the entry itself, turned and moved, gives the entry's own scores."""
    turn = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    away = replace(atoms, coords=atoms.coords @ turn.T + 50, chain=np.full_like(atoms.chain, "Z"))
    result = evaluate(replace(subject, reference_atoms=away)).summary
    assert result["reference"]["rmsd"] == pytest.approx(0, abs=1e-3)
    for key in ("q_mean", "cc_mask"):
        assert result["reference"]["deposited"][key] == pytest.approx(
            result["deposited"][key], abs=2e-3
        )


def test_against_a_better_map(subject: Subject, deposited: Volume) -> None:
    result = evaluate(replace(subject, reference_map=deposited)).summary["reference"]
    assert result["correlation"] == pytest.approx(1, abs=1e-3)
    before, after = result["deposited"], result["enhanced"]
    assert before["cc_reference_map"] == pytest.approx(1, abs=1e-3)
    assert after["cc_reference_map"] < before["cc_reference_map"]


def test_a_built_model_is_compared(subject: Subject, atoms: Atoms) -> None:
    half = atoms.take(atoms.residue_number <= np.median(atoms.residue_number))
    built = evaluate(replace(subject, built=half)).summary["built_model"]
    assert built["completeness"] == pytest.approx(0.5, abs=0.02)
    assert built["sequence_match"] == 1


def test_a_model_of_something_else_is_not_scored(subject: Subject, atoms: Atoms) -> None:
    """The same atoms turned about the centre of the map: nothing fits, no score is worth a word."""
    centre = atoms.coords.mean(axis=0)
    turned = replace(atoms, coords=(atoms.coords - centre)[:, [1, 0, 2]] * (1, 1, -1) + centre)
    result = evaluate(replace(subject, atoms=turned)).summary
    assert result["model_fits"] is False
    assert any("does not fit the deposited map" in line for line in result["warnings"])
    assert evaluate(subject).summary["model_fits"] is True


def test_agreement_beyond_the_data_is_called_so(subject: Subject) -> None:
    """The same map reported at 6 Å agrees with its model at half of that."""
    warnings = evaluate(replace(subject, resolution=6.0)).summary["warnings"]
    assert any("prior knowledge of the network" in line for line in warnings)


def elsewhere(atoms: Atoms) -> Atoms:
    return replace(atoms, coords=atoms.coords + 500)


def hydrogens(atoms: Atoms) -> Atoms:
    return atoms.take(~atoms.heavy)


def unoccupied(atoms: Atoms) -> Atoms:
    return replace(atoms, occupancy=np.zeros(len(atoms)))


def unknown(atoms: Atoms) -> Atoms:
    element = atoms.element.copy()
    element[7] = "X"
    return replace(atoms, element=element)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"atoms": elsewhere}, r"the model is not in the map: 706 of its 706 .* moved by"),
        ({"atoms": hydrogens}, "no atoms left: none of its 730 is heavier than hydrogen"),
        ({"atoms": unoccupied}, "no atoms left: all 1436 have occupancy 0"),
        ({"atoms": unknown}, "1 atoms of no known element, the first is atom 8 with 'X'"),
        ({"resolution": 1.5}, r"resolution 1.5 Å is finer than the 2.16 Å that voxels of 1.08 Å"),
    ],
)
def test_bad_input(subject: Subject, change: Mapping[str, Any], line: str) -> None:
    changed = {
        key: value(getattr(subject, key)) if callable(value) else value
        for key, value in change.items()
    }
    with pytest.raises(CryoreadyError, match=line):
        evaluate(replace(subject, **changed))


def test_half_maps_on_another_grid(subject: Subject, deposited: Volume) -> None:
    one, two = (
        Volume(half.data[1:], deposited.voxel_size, deposited.origin)
        for half in halves(deposited, 0.5)
    )
    with pytest.raises(CryoreadyError, match=r"the half-maps have 41×38×35 .* map 41×38×36 voxels"):
        evaluate(replace(subject, half_maps=(one, two)))
    with pytest.raises(CryoreadyError, match=r"one half-map has 41×38×35 .* other 41×38×36"):
        evaluate(replace(subject, half_maps=(one, deposited)))


def test_one_half_map_for_both(subject: Subject, deposited: Volume) -> None:
    with pytest.raises(CryoreadyError, match="both half-maps hold the same density"):
        evaluate(replace(subject, half_maps=(deposited, deposited)))


@pytest.mark.parametrize("contour", [1e6, 0.0, -1.0])
def test_a_contour_that_shows_nothing_is_no_end(subject: Subject, contour: float) -> None:
    result = evaluate(replace(subject, contour=contour)).summary
    assert result["suppressed"] is None
    assert any("encloses nothing, or everything" in line for line in result["warnings"])
    assert result["enhanced"]["q_mean"] is not None


def test_a_map_that_is_the_model_is_suspected(subject: Subject, atoms: Atoms) -> None:
    """It never falls below 0.143: the strongest agreement beyond the data has no crossing."""
    deposited = subject.maps["deposited"]
    factors = structure_factors(atoms, deposited.grid)
    perfect = Volume.on(deposited.grid, model_density(factors, deposited.grid, resolution=1e-3))
    maps = {"deposited": deposited, "enhanced": perfect}
    result = evaluate(replace(subject, maps=maps)).summary
    assert result["enhanced"]["d_fsc_model_0143_masked"] is None
    assert any("to the finest spacing of its grid" in line for line in result["warnings"])


def test_conformers_count_by_their_occupancy(
    subject: Subject, evaluation: Evaluation, atoms: Atoms
) -> None:
    """Every atom twice with half the occupancy is the same density, and the same FSC and CC."""
    twice = atoms.take(np.repeat(np.arange(len(atoms)), 2))
    twice = replace(
        twice, occupancy=twice.occupancy / 2, altloc=np.tile(np.array(["A", "B"]), len(atoms))
    )
    before, after = (
        result.summary["deposited"]
        for result in (evaluation, evaluate(replace(subject, atoms=twice)))
    )
    for key in ("d_fsc_model_05_masked", "d99_unmasked", "cc_mask", "cc_peaks"):
        assert after[key] == pytest.approx(before[key], rel=1e-4), key


def test_what_does_not_matter(subject: Subject, evaluation: Evaluation, atoms: Atoms) -> None:
    """An atom of zero occupancy scatters nothing, but has its Q; hydrogens have none."""
    occupancy = atoms.occupancy.copy()
    occupancy[3] = 0
    result = evaluate(replace(subject, atoms=replace(atoms, occupancy=occupancy)))
    assert len(result.atoms) == len(evaluation.atoms)
    key = "d_fsc_model_05_masked"
    assert result.summary["deposited"][key] == pytest.approx(
        evaluation.summary["deposited"][key], abs=0.05
    )
