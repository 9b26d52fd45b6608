"""What is measured of a pair, and that each filter rejects its own row and no other."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import shift as moved

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Grid, Volume
from cryoready.dataset.filters import PAIR_FILTERS
from cryoready.dataset.prepare import prepare_pair
from cryoready.dataset.quality import (
    best_shift,
    cc_mask,
    composition,
    copies,
    measure,
    overlap,
)
from cryoready.density.simulate import simulate_density
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from reference_values import EMBEDDED, VALUES, read_pair

BACKBONE = {"N": (0.0, 0.0, 1.4), "CA": (0.0, 0.0, 0.0), "C": (0.0, 1.4, 0.0), "O": (1.2, 1.4, 0.0)}
SIDE = {"CB": (-1.5, 0.0, 0.0), "CG": (-2.6, 1.0, 0.0)}
BASE = {"P": (0.0, 0.0, 0.0), "C1'": (2.0, 0.0, 0.0), "N1": (3.5, 0.0, 0.0)}


def residue(name: str, atoms: dict[str, tuple[float, float, float]], polymer: str) -> list[tuple]:
    return [(name, atom, place, polymer) for atom, place in atoms.items()]


LEU = residue("LEU", BACKBONE | SIDE, "protein")
SER = residue("SER", BACKBONE | SIDE, "protein")
STUB = residue("LEU", BACKBONE | {"CB": SIDE["CB"]}, "protein")
TRACE = residue("SER", {"CA": (0.0, 0.0, 0.0)}, "protein")
GLY = residue("GLY", BACKBONE, "protein")
UNK = residue("UNK", BACKBONE | SIDE, "protein")
BASES = residue("A", BASE, "nucleic")
WATER = residue("HOH", {"O": (0.0, 0.0, 0.0)}, "")


def model(**chains: list) -> Atoms:
    """Residues of each chain 4 Å apart along x, chains 12 Å apart along y."""
    rows = [
        (name, atom, np.add(place, (40, 20 + 12 * j, 10 + 4 * i)), polymer, chain, i)
        for j, (chain, residues) in enumerate(chains.items())
        for i, one in enumerate(residues)
        for name, atom, place, polymer in one
    ]
    names, atoms, places, polymers, labels, numbers = zip(*rows, strict=True)
    text = np.full(len(rows), "")
    return Atoms(
        coords=np.array(places, dtype=float),
        element=np.array([atom[0] for atom in atoms]),
        b_iso=np.full(len(rows), 30.0),
        occupancy=np.ones(len(rows)),
        name=np.array(atoms),
        residue_name=np.array(names),
        chain=np.array(labels),
        residue_number=np.array(numbers),
        insertion_code=text,
        altloc=text,
        polymer=np.array(polymers),
    )


def test_shares_of_residues_counted_by_hand() -> None:
    """10 amino acids, 2 of them glycine: a stub, a trace and an unknown one; 6 nucleotides."""
    atoms = model(A=[LEU] * 5 + [GLY, GLY, STUB, TRACE, UNK], B=[BASES] * 6, W=[WATER] * 9)
    assert composition(atoms) == {
        "residues": 16,
        "backbone_only": pytest.approx(2 / 8),
        "unknown": pytest.approx(1 / 16),
        "nucleic_acid": pytest.approx(6 / 16),
    }


def test_hydrogens_are_no_side_chain() -> None:
    stub = [*STUB, ("LEU", "HB1", (-2.0, 0.5, 0.0), "protein")]
    assert composition(model(A=[LEU, stub]))["backbone_only"] == 0.5


def test_a_trace_of_alanines_is_backbone_only() -> None:
    alanine = residue("ALA", BACKBONE | {"CB": SIDE["CB"]}, "protein")
    assert composition(model(A=[alanine] * 60))["backbone_only"] == 1.0


def test_a_nucleic_acid_has_no_backbone_of_protein() -> None:
    assert composition(model(A=[BASES] * 5)) == {
        "residues": 5,
        "backbone_only": 0.0,
        "unknown": 0.0,
        "nucleic_acid": 1.0,
    }


def test_ligands_alone_are_no_residues() -> None:
    assert composition(model(W=[WATER] * 3))["residues"] == 0


def test_copies_are_of_one_sequence_longer_than_ten() -> None:
    dimer, other, peptide = [LEU, SER] * 6, [SER, LEU] * 6, [LEU] * 10
    atoms = model(A=dimer, B=other, C=dimer, D=peptide, E=peptide, F=peptide)
    assert copies(atoms) == 2
    assert copies(model(A=peptide, B=peptide)) == 0
    assert copies(model(A=[BASES] * 11, B=[BASES] * 11, C=[BASES] * 11)) == 3


def density(atoms: Atoms, *, voxel: float = 1.2, shape: tuple = (64, 60, 71)) -> Volume:
    grid = Grid(shape, np.full(3, voxel), np.array([0.3, -0.7, 1.1]))
    return simulate_density(atoms.coords, np.full(len(atoms), 6.0), 1.2, grid)


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    return model(A=[LEU, SER] * 7, B=[SER, LEU] * 7)


def test_overlap_counts_atoms_outside_and_where_the_map_is_empty(atoms: Atoms) -> None:
    """A quarter of the atoms outside of the box, another quarter under a mask."""
    volume = density(atoms)
    assert overlap(volume, atoms) == 1.0
    away = atoms.coords.copy()
    away[::4] += [200.0, 0.0, 0.0]
    data = volume.data.copy()
    masked = (np.arange(len(atoms)) % 4) == 1
    z, y, x = np.rint((atoms.coords[masked] - volume.origin) / volume.voxel_size).astype(int).T
    mask = np.zeros(data.shape, dtype=bool)
    mask[z, y, x] = True
    noise = np.random.default_rng(0).normal(1, 0.1, data.shape)
    half = np.arange(data.shape[0])[:, None, None] > 38  # empty, and no atom in it
    masked_map = Volume.on(volume.grid, np.where(half | mask, 0, noise).astype(np.float32))
    share = np.isin(np.arange(len(atoms)) % 4, (2, 3)).mean()
    assert overlap(masked_map, replace(atoms, coords=away)) == pytest.approx(share, abs=0.05)


def test_atoms_of_no_weight_do_not_count_for_overlap(atoms: Atoms) -> None:
    volume = density(atoms)
    away = replace(
        atoms,
        coords=atoms.coords + np.where(np.arange(len(atoms)) < 5, 500.0, 0.0)[:, None],
        occupancy=np.where(np.arange(len(atoms)) < 5, 0.0, 1.0),
    )
    assert overlap(volume, away) == 1.0
    with pytest.raises(CryoreadyError, match="no occupied heavy atom among its 168 atoms"):
        overlap(volume, replace(atoms, occupancy=np.zeros(len(atoms))))


@pytest.mark.parametrize("shape", [(50, 48, 53), (51, 49, 52)])
@pytest.mark.parametrize("way", [(0.0, 0.0, 0.0), (0.3, -0.7, 1.6), (-2.5, 3.2, -0.1)])
def test_the_shift_is_found_to_a_tenth_of_a_voxel(shape: tuple, way: tuple) -> None:
    """Of a noisy map, whose density was moved by Fourier's theorem of shift (here: Gaussians)."""
    coords = np.random.default_rng(0).normal(25, 6, (300, 3))
    grid = Grid(shape, np.ones(3), np.array([-3.0, 8.0, 0.5]))
    target = simulate_density(coords + grid.origin, np.ones(300), 1.0, grid)
    volume = simulate_density(coords + grid.origin + way, np.ones(300), 1.4, grid)
    noise = np.random.default_rng(1).normal(0, volume.data.std(), shape)
    noisy = Volume.on(grid, volume.data + noise.astype(np.float32))
    np.testing.assert_allclose(best_shift(noisy, target), way, atol=0.1)


def test_a_better_place_far_away_is_not_looked_for() -> None:
    """The neighbour of a symmetric map, 12 Å off, is as good: the shift stays within 4 voxels."""
    rng = np.random.default_rng(0)
    target = Volume(rng.random((40, 40, 40), dtype=np.float32), np.ones(3), np.zeros(3))
    volume = Volume.on(target.grid, np.roll(target.data, 12, axis=1).astype(np.float32))
    assert np.abs(best_shift(volume, target)).max() <= 4.5


@pytest.mark.parametrize("name", VALUES.index)
def test_cc_mask_of_the_cut_map_is_that_of_cctbx(name: str, request: pytest.FixtureRequest) -> None:
    """`mmtbx.maps.correlation.five_cc` of the whole map: 0.005 (`tests/data/reference`)."""
    folder = None if name == EMBEDDED.name else request.getfixturevalue("shared_data")
    volume, atoms = read_pair(name, folder)
    found = cc_mask(volume, atoms, resolution=float(VALUES.resolution_A[name]))
    assert found == pytest.approx(VALUES.cc_mask[name], abs=0.005)


def test_measures_of_a_real_pair() -> None:
    """EMD-3488 with 5NI1, haemoglobin, two α and two β chains; it fits, at 1 Å too."""
    volume = read_map(EMBEDDED / "emd_3488.map.gz")
    atoms = read_model(EMBEDDED / "5ni1.pdb.gz")
    pair = prepare_pair(volume, atoms, resolution=3.2, seed=1)
    row = measure(volume, atoms, pair).as_row()
    assert row["copies"] == 2
    assert row["atoms"] == VALUES.n_heavy["EMD-3488"]
    assert row["residues"] == 574  # SEQRES of 5NI1: 2 × 141 + 2 × 146
    assert row["overlap"] == 1.0
    assert row["cc_mask_1A"] == pytest.approx(row["cc_mask"], abs=0.02)
    assert row["shift"] < 0.1
    away = replace(pair, target=Volume.on(pair.target.grid, moved(pair.target.data, 2.0, order=1)))
    assert measure(volume, atoms, away).shift == pytest.approx(2 * 3**0.5, abs=0.1)


GOOD = {
    "overlap": 0.95,
    "cc_mask": 0.7,
    "residues": 200,
    "backbone_only": 0.1,
    "unknown": 0.0,
    "nucleic_acid": 0.0,
    "copies": 4,
}
BAD = {
    "overlap": 0.89,
    "cc_mask": 0.64,
    "residues": 49,
    "backbone_only": 0.21,
    "unknown": 0.11,
    "nucleic_acid": 0.01,
    "copies": 25,
}
LIMITS = {
    "overlap": 0.9,
    "cc_mask": 0.65,
    "residues": 50,
    "backbone_only": 0.2,
    "unknown": 0.1,
    "nucleic_acid": "exclude",
    "copies": 24,
}


def judged(table: pd.DataFrame, limits: dict) -> pd.DataFrame:
    """Reasons by row, one column for each filter."""
    return pd.DataFrame({name: PAIR_FILTERS[name](table, limits[name]) for name in PAIR_FILTERS})


def test_each_filter_rejects_its_own_row_and_no_other() -> None:
    table = pd.DataFrame([GOOD, *({**GOOD, name: BAD[name]} for name in BAD)], index=["", *BAD])
    assert list(PAIR_FILTERS) == list(BAD)
    rejected = judged(table, LIMITS) != ""
    assert [(row, name) for name in rejected for row in rejected.index[rejected[name]]] == [
        (name, name) for name in BAD
    ]


def test_a_value_at_the_limit_passes() -> None:
    table = pd.DataFrame([{**LIMITS, "nucleic_acid": 0.0}])
    assert (judged(table, LIMITS) == "").all(axis=None)


def test_an_unknown_value_is_rejected() -> None:
    """A file that was never measured has none; nor has a constant map a correlation."""
    table = pd.DataFrame([dict.fromkeys(GOOD, np.nan)] * 2)
    reasons = judged(table, LIMITS)
    for name in PAIR_FILTERS:
        assert reasons[name].str.startswith(f"{name}: unknown, ").all()


def test_reasons_say_filter_value_and_limit() -> None:
    reasons = judged(pd.DataFrame([BAD]), LIMITS).iloc[0]
    assert reasons["cc_mask"] == "cc_mask: 0.64, less than 0.65"
    assert reasons["copies"] == "copies: 25, more than 24"
    assert reasons["nucleic_acid"] == "nucleic_acid: 0.01, the setting is exclude"


@pytest.mark.parametrize(
    ("setting", "passing"),
    [("keep", [0.0, 0.4, 1.0]), ("exclude", [0.0]), ("only", [1.0])],
)
def test_nucleic_acids_are_kept_excluded_or_wanted_alone(setting: str, passing: list) -> None:
    table = pd.DataFrame({"nucleic_acid": [0.0, 0.4, 1.0]})
    reasons = PAIR_FILTERS["nucleic_acid"](table, setting)
    assert table["nucleic_acid"][reasons == ""].tolist() == passing
