"""Does enhancement help where the data support it? Rank correlations over residues."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

BEFORE, AFTER = "local_cc_deposited", "local_cc_enhanced"
PREDICTORS = ("local_resolution", "q_deposited", "b_iso")
LEAST_RESIDUES = 10
SEGMENT = 10  # residues drawn together by the bootstrap


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ of one outcome with one predictor over the residues.

    Parameters
    ----------
    outcome
        "gain" (after - before) or "after".
    predictor
        column of the table.
    n
        residues that have both.
    rho
        -1 to 1; None if not computable.
    low, high
        95 % interval of ρ from the bootstrap over chain segments; None with fewer than two.
    p
        two-sided, as if residues were independent: too small, the interval is the honest figure.
    reason
        why ρ is None, else "".
    """

    outcome: str
    predictor: str
    n: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""


def rank_correlations(
    residues: pd.DataFrame,
    *,
    predictors: Sequence[str] = PREDICTORS,
    samples: int = 1000,
    seed: int = 0,
) -> list[RankCorrelation]:
    """Rank correlation of the local correlation, and of its gain, with what the data support.

    EMReady's validation (doi 10.1038/s41467-023-39031-1): local map-model correlation before and
    after enhancement against local resolution and B-factors. Neighbours along a chain resemble
    each other, so disjoint segments of 10 consecutive residues are resampled instead of single
    residues (block bootstrap, after Künsch 1989, doi 10.1214/aos/1176347265).

    The gain contains the value before: against anything measured on the deposited map
    (``q_deposited``) it falls even if enhancement only adds chance, by regression to the mean.

    Parameters
    ----------
    residues
        one row per residue in the order of the chains: ``chain``, ``local_cc_deposited``,
        ``local_cc_enhanced`` and predictors; missing values are left out pair by pair.
    predictors
        columns; one that is absent from the table gives no row.
    samples
        of the bootstrap.
    seed
        of the bootstrap.
    """
    place = residues.groupby("chain", sort=False).cumcount() // SEGMENT
    segment = residues.groupby(["chain", place], sort=False).ngroup().to_numpy()
    outcomes = {"gain": residues[AFTER] - residues[BEFORE], "after": residues[AFTER]}
    return [
        _rank_correlation(outcome, y, predictor, residues[predictor], segment, samples, seed)
        for outcome, y in outcomes.items()
        for predictor in predictors
        if predictor in residues
    ]


def _rank_correlation(
    outcome: str,
    y: "pd.Series[float]",
    predictor: str,
    x: "pd.Series[float]",
    segment: NDArray[np.int64],
    samples: int,
    seed: int,
) -> RankCorrelation:
    """One row of `rank_correlations`."""
    known = (x.notna() & y.notna()).to_numpy()
    x_known, y_known = x.to_numpy(float)[known], y.to_numpy(float)[known]
    n = int(known.sum())
    if n < LEAST_RESIDUES:
        reason = f"{n} residues have both values, at least {LEAST_RESIDUES} are needed"
        return RankCorrelation(outcome, predictor, n, reason=reason)
    for name, values in ((outcome, y_known), (predictor, x_known)):
        if np.ptp(values) == 0:
            reason = f"{name} is the same, {values[0]:g}, in all residues"
            return RankCorrelation(outcome, predictor, n, reason=reason)
    rho, p = spearmanr(x_known, y_known)
    low, high = _interval(x_known, y_known, segment[known], samples, seed)
    return RankCorrelation(outcome, predictor, n, float(rho), low, high, float(p))


def _interval(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    segment: NDArray[np.int64],
    samples: int,
    seed: int,
) -> tuple[float | None, float | None]:
    """2.5 and 97.5 percentile of ρ when whole segments are drawn with replacement."""
    _, block = np.unique(segment, return_inverse=True)
    blocks = int(block.max()) + 1
    if blocks < 2:
        return None, None
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=samples)
    _, x_code = np.unique(x, return_inverse=True)
    _, y_code = np.unique(y, return_inverse=True)
    rhos = [weighted_spearman(x_code, y_code, times[block]) for times in draws]
    low, high = np.nanpercentile(rhos, [2.5, 97.5])
    return float(low), float(high)


def weighted_spearman(
    x_code: NDArray[np.int64], y_code: NDArray[np.int64], times: NDArray[np.int64]
) -> float:
    """Spearman's ρ of a sample in which row i occurs ``times[i]`` times; NaN if constant.

    Parameters
    ----------
    x_code, y_code
        (n,) order of each value among the distinct ones, as of `numpy.unique`.
    times
        (n,) counts.
    """
    ranks = []
    for code in (x_code, y_code):
        count = np.bincount(code, times)
        middle = (np.cumsum(count) - count / 2)[code]  # mid-rank of the ties
        ranks.append(middle - times.sum() / 2)
    x, y = ranks
    norm = np.sqrt((times * x * x).sum() * (times * y * y).sum())
    return float((times * x * y).sum() / norm) if norm > 0 else float("nan")
