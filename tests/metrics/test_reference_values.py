"""Our metrics of real maps against those of cctbx and MapQ (`tests/data/reference`)."""

import numpy as np
import pandas as pd
import pytest

from cryoready.density.model_mask import smooth_mask
from cryoready.density.structure_factors import structure_factors
from cryoready.metrics.fsc import FscCurve, Shells, d99, fourier_shell_correlation
from cryoready.metrics.score import Model, place, score
from direct_summation import direct_summation, frequencies
from reference_values import (
    CC,
    EMBEDDED,
    FSC,
    ILL_CONDITIONED,
    REFERENCE,
    VALUES,
    Q,
    computed,
    read_pair,
    reference_curve,
    tolerance,
)

CROP = pd.read_csv(REFERENCE / "crop_5A.tsv", sep="\t", index_col="name")


@pytest.fixture
def entry(request):
    """Name of an entry and the folder it is in; one that does not ship needs the shared data."""
    name = request.param
    return name, None if name == EMBEDDED.name else request.getfixturevalue("shared_data")


def deviations(entry, metrics):
    """What is beyond its tolerance: metric -> ours and the reference."""
    name, folder = entry
    row, _, _ = computed(name, folder)
    pairs = {
        metric: (row[metric], float(VALUES.loc[name, metric]))
        for metric in metrics
        if (name, metric) not in ILL_CONDITIONED and not pd.isna(VALUES.loc[name, metric])
    }
    return {
        metric: (ours, reference)
        for metric, (ours, reference) in pairs.items()
        if not abs(ours - reference) <= tolerance(metric, reference)
    }


@pytest.mark.parametrize("entry", VALUES.index, indirect=True)
def test_map_model_fsc(entry):
    """`mmtbx.maps.mtriage`: 0.02 Å (0.5 % beyond 8 Å), d99 0.001 Å."""
    assert deviations(entry, [*FSC, "d99_unmasked"]) == {}


@pytest.mark.parametrize("entry", VALUES.index, indirect=True)
def test_correlation(entry):
    """`mmtbx.maps.correlation.five_cc`: 0.005."""
    assert deviations(entry, CC) == {}


@pytest.mark.parametrize("entry", VALUES.index, indirect=True)
def test_mean_q(entry):
    """`jqscore.qscores_from_arrays(mapq_compat=False)`: 1e-4; RNA has no protein atoms."""
    assert deviations(entry, Q) == {}
    row, _, q = computed(*entry)
    assert len(q) == VALUES.n_heavy[entry[0]]
    assert (row["q_mean_protein"] is None) == pd.isna(VALUES.q_mean_protein[entry[0]])


@pytest.mark.parametrize("entry", ["EMD-30342-A"], indirect=True)
@pytest.mark.parametrize("program", ["jqscore", "mapq_2.9.7"])
def test_q_of_every_atom(entry, program):
    """Within 0.002 of MapQ 2.9.7 itself, which rounds to 0.001, and of jqscore."""
    golden = pd.read_csv(REFERENCE / f"{entry[0]}_qscore.tsv", sep="\t", keep_default_na=False)
    _, _, q = computed(*entry)
    np.testing.assert_allclose(q, golden[f"q_{program}_sigma0.6"], atol=0.002, rtol=0)


@pytest.mark.parametrize(
    ("entry", "metric"), ILL_CONDITIONED, indirect=["entry"], ids=[n for n, _ in ILL_CONDITIONED]
)
def test_curves_where_resolutions_differ(entry, metric):
    """The curves agree; what is read off them does not (`docs/metrics.md`)."""
    name, folder = entry
    _, threshold, mask = metric.rsplit("_", 2)
    theirs = reference_curve(name, mask)
    ours = computed(name, folder)[1][mask]
    np.testing.assert_allclose(ours.frequency, theirs.frequency, atol=1e-5)
    apart = np.abs(ours.correlation - theirs.fsc)
    assert apart.max() < ILL_CONDITIONED[name, metric]
    assert apart.mean() < 3e-4
    threshold = {"05": 0.5, "0143": 0.143}[threshold]
    curve = FscCurve(theirs.frequency.to_numpy(), theirs.fsc.to_numpy())
    if name == "EMD-1461-A":  # a dip, which one curve touches in an earlier bin
        assert curve.resolution(threshold) == pytest.approx(VALUES.loc[name, metric], abs=0.01)
    else:  # the fit of cctbx stops before its minimum
        assert curve.resolution(threshold) == pytest.approx(ours.resolution(threshold), abs=0.002)


@pytest.mark.parametrize("entry", ["EMD-1461-A"], indirect=True)
def test_the_dip_is_that_of_direct_summation(entry):
    """FSC at 17 Å of EMD-1461-A: 0.4906 by summing over the atoms, 0.5058 by cctbx."""
    volume, atoms = read_pair(*entry)
    shells = Shells.of(volume.grid)
    coarse = slice(shells.starts[-5], None)
    s = frequencies(volume.grid, shells.order[coarse])
    summed = direct_summation(atoms, s, volume.origin)
    factors = structure_factors(atoms, volume.grid).ravel()[shells.order]
    assert np.linalg.norm(factors[coarse] - summed) < 5e-4 * np.linalg.norm(summed)
    factors[coarse] = summed
    exact = fourier_shell_correlation(shells.pick(volume.data), factors, shells)
    ours = computed(*entry)[1]["unmasked"]
    np.testing.assert_allclose(ours.correlation[:5], exact.correlation[:5], atol=1e-5)
    assert exact.correlation[3] == pytest.approx(0.4906, abs=1e-4)


@pytest.mark.parametrize("entry", CROP.index, indirect=True)
def test_crop_around_the_model(entry):
    """mtriage of map and model in the box of the atoms ± 5 Å."""
    volume, atoms = read_pair(*entry)
    expected = CROP.loc[entry[0]]
    resolution = float(VALUES.resolution_A[entry[0]])
    part = volume.around(atoms.coords, 5.0)
    assert "x".join(map(str, part.data.shape)) == expected.shape_zyx
    placed = place(Model.of(atoms), part.grid, resolution=resolution, mask_radius=2 * resolution)
    row = score(part, placed, sigma=0.6, local_radius=6.0).row
    for metric in (*FSC, "d99_unmasked"):
        limit = tolerance(metric, expected[metric])
        assert row[metric] == pytest.approx(expected[metric], abs=limit), metric


@pytest.mark.parametrize(("masked", "expected"), [(False, 3.11653), (True, 3.04516)])
def test_half_map_fsc(masked, expected):
    """`d_fsc` of mtriage (0.143) of EMD-3488 with white noise of the map's own deviation added.

    ref_mtriage.py EMD-3488.map.gz EMD-3488.pdb.gz 3.2 --no-d-model --half1 H1 --half2 H2
    with the half-maps of this test, cctbx-base 2025.11.
    """
    volume, atoms = read_pair(EMBEDDED.name, None)
    rng = np.random.default_rng(3488)
    noise = [rng.normal(0, volume.data.std(), volume.data.shape) for _ in range(2)]
    mask = smooth_mask(atoms, volume.grid, radius=6.4) if masked else 1
    shells = Shells.of(volume.grid)
    halves = [shells.pick((volume.data + n).astype("f4") * mask) for n in noise]
    curve = fourier_shell_correlation(*halves, shells)
    assert curve.resolution(0.143) == pytest.approx(expected, abs=0.02)
    d99s = [d99(half, shells) for half in halves]
    assert d99s == pytest.approx([1.70718, 1.71718] if masked else [1.51718] * 2, abs=1e-3)
