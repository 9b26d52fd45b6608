"""Rank correlations: planted monotone relations, and intervals that know about neighbours."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from cryoready.metrics.support import rank_correlations, weighted_spearman


def table(n=300, *, seed=0, chains=3):
    """After enhancement, correlation falls monotonically with B, in a curve."""
    rng = np.random.default_rng(seed)
    b_iso = rng.uniform(20, 200, n)
    before = rng.uniform(0.3, 0.7, n)
    return pd.DataFrame(
        {
            "chain": np.sort(rng.choice(list("ABCDEFGH"[:chains]), n)),
            "local_cc_deposited": before,
            "local_cc_enhanced": 0.5 + np.exp(-b_iso / 40),
            "b_iso": b_iso,
            "q_deposited": before + rng.normal(0, 0.1, n),
        }
    )


def rows(residues, **options):
    found = rank_correlations(residues, **options)
    return {(row.outcome, row.predictor): row for row in found}


def test_any_monotone_relation_is_full_correlation():
    found = rows(table())
    assert found["after", "b_iso"].rho == pytest.approx(-1)
    assert found["after", "b_iso"].high == pytest.approx(-1)
    assert found["after", "b_iso"].n == 300


def test_an_absent_predictor_gives_no_row_and_the_others_two():
    assert set(rows(table())) == {
        (outcome, predictor)
        for outcome in ("gain", "after")
        for predictor in ("q_deposited", "b_iso")
    }


def test_missing_values_are_left_out_pair_by_pair():
    residues = table()
    residues.loc[:99, "q_deposited"] = np.nan
    residues.loc[290:, "local_cc_deposited"] = None
    found = rows(residues)
    assert found["after", "q_deposited"].n == 200
    assert found["gain", "q_deposited"].n == 190
    assert found["after", "b_iso"].n == 300
    kept = residues.iloc[100:290]
    rho, p = spearmanr(kept["local_cc_enhanced"] - kept["local_cc_deposited"], kept["q_deposited"])
    assert found["gain", "q_deposited"].rho == pytest.approx(rho)
    assert found["gain", "q_deposited"].p == pytest.approx(p)


def test_repeated_rows_are_what_the_weights_mean():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 12, (2, 80))  # with ties
    times = rng.integers(0, 4, 80)
    codes = [np.unique(values, return_inverse=True)[1] for values in (x, y)]
    expected = spearmanr(np.repeat(x, times), np.repeat(y, times)).statistic
    assert weighted_spearman(*codes, times) == pytest.approx(expected)
    assert np.isnan(weighted_spearman(*codes, np.eye(80, dtype=int)[0]))


def unrelated(n, neighbours, seed):
    """Two unrelated properties, each equal among ``neighbours`` along the chain."""
    rng = np.random.default_rng(seed)
    x, y = np.repeat(rng.normal(size=(2, n // neighbours)), neighbours, axis=1)
    return pd.DataFrame(
        {"chain": "A", "local_cc_deposited": 0.0, "local_cc_enhanced": y, "b_iso": x}
    )


@pytest.mark.parametrize(("neighbours", "independent"), [(1, 600), (10, 60)])
def test_interval_counts_segments_not_residues(neighbours, independent):
    """Half width 1.96/√(independent values); p, which counts residues, would be 1.96/√600."""
    widths = []
    for seed in range(5):
        found = rows(unrelated(600, neighbours, seed))["after", "b_iso"]
        assert found.low < found.rho < found.high
        widths.append((found.high - found.low) / 2)
    assert np.mean(widths) == pytest.approx(1.96 / np.sqrt(independent), rel=0.2)


def test_segments_do_not_join_chains():
    """Two chains of five residues are two segments, one chain of ten is one: no interval."""
    residues = table(10)
    residues["chain"] = ["A"] * 5 + ["B"] * 5
    assert rows(residues)["after", "q_deposited"].low is not None
    residues["chain"] = "A"
    found = rows(residues)["after", "q_deposited"]
    assert found.rho is not None
    assert found.low is None
    assert found.high is None


def test_too_few_residues_and_constants_say_why():
    few = rows(table(9))["gain", "b_iso"]
    assert few.rho is None
    assert few.reason == "9 residues have both values, at least 10 are needed"
    constant = rows(table().assign(b_iso=20.0))["after", "b_iso"]
    assert constant.rho is None
    assert constant.reason == "b_iso is the same, 20, in all residues"
    missing = rows(table().assign(b_iso=np.nan))["after", "b_iso"]
    assert (missing.n, missing.rho) == (0, None)
    assert rank_correlations(table().iloc[:0])[0].n == 0


def test_the_same_seed_gives_the_same_interval():
    assert rank_correlations(table(), seed=3) == rank_correlations(table(), seed=3)
    assert rank_correlations(table(), seed=3) != rank_correlations(table(), seed=4)
