"""Our evaluations beside the published figures of other methods on the same maps.

The published figures are those of Selvaraj, Wang & Cheng, doi 10.1093/bioinformatics/btaf092. Two
questions in this order: do we measure the deposited maps as they did (`reproduce`), and how does
our enhanced map compare with theirs, map by map (`compare`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

from cryoready.core.errors import CryoreadyError

PUBLISHED = ("deposited", "EMReady", "DeepEMhancer", "CryoTEN")
MEASURED = {"deposited_measured": "deposited", "cryoready": "enhanced"}  # column -> of the JSON
MASKS = ("unmasked", "masked")
LEAST_SHARE = 0.9  # of the maps within the tolerance: then a column counts as reproduced
LEAST_MAPS = 6  # below, no order statistics enclose a median with 95 %: 2 · 0.5⁵ > 0.05
LEVEL = 0.95
RESAMPLES = 9999
SEED = 1


@dataclass(frozen=True)
class Metric:
    """How a figure is read.

    Parameters
    ----------
    tolerance
        in its unit: closer than this, two programs measured the same.
    unit
        "Å" or "".
    lower_is_better
        as for a resolution.
    """

    tolerance: float
    unit: str = ""
    lower_is_better: bool = False

    @property
    def masks(self) -> tuple[str, ...]:
        """The ways to measure it: resolutions with and without a mask around the model."""
        return MASKS if self.unit else ("",)


METRICS = {
    "d_fsc_model_05": Metric(0.1, "Å", lower_is_better=True),
    "d_fsc_model_0143": Metric(0.1, "Å", lower_is_better=True),
    "cc_box": Metric(0.02),
    "cc_mask": Metric(0.02),
    "cc_peaks": Metric(0.02),
    "q_mean": Metric(0.01),
}


def join(yardstick: pd.DataFrame, evaluations: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a map that both have.

    Parameters
    ----------
    yardstick
        ``emdb``, ``pdb``, ``resolution`` and ``<method>_<metric>`` of the published methods.
    evaluations
        each with ``id`` and the objects ``deposited`` and ``enhanced`` of values by metric, None
        where a value is not computable.

    Returns
    -------
    the columns of the yardstick, then ``deposited_measured_…`` and ``cryoready_…``, those of
    resolutions with the endings ``_unmasked`` and ``_masked``.

    Raises
    ------
    CryoreadyError
        if no evaluated map is in the yardstick.
    """
    rows = [
        {"emdb": evaluation["id"]}
        | {
            f"{method}_{name}": (evaluation.get(source) or {}).get(name)
            for method, source in MEASURED.items()
            for name in (_named(metric, mask) for metric, mask in _variants())
        }
        for evaluation in evaluations
    ]
    measured = pd.DataFrame(rows).set_index("emdb").astype(float)
    maps = yardstick.join(measured, on="emdb", how="inner")
    if maps.empty:
        raise CryoreadyError(f"none of the {len(rows)} evaluated maps is in the benchmark")
    return maps


def reproduce(maps: pd.DataFrame) -> pd.DataFrame:
    """Whether the published values of the deposited maps are those that we measure.

    Parameters
    ----------
    maps
        from `join`.

    Returns
    -------
    one row a metric and mask ("" where none is involved): n maps with both values, the median of
    |ours - published|, the tolerance, the share of maps within it, and a verdict in words.
    """
    rows = []
    for metric, mask in _variants():
        ours = maps[f"deposited_measured_{_named(metric, mask)}"]
        difference = (ours - maps[f"deposited_{metric}"]).abs().dropna()
        tolerance, unit = METRICS[metric].tolerance, METRICS[metric].unit
        # decimal figures: one on the edge is inside
        share = float((difference <= tolerance * (1 + 1e-9)).mean()) if len(difference) else np.nan
        row = {"metric": metric, "mask": mask, "n": len(difference)}
        row |= {"median_abs_difference": difference.median(), "tolerance": tolerance, "unit": unit}
        rows.append({**row, "share_within": share, "verdict": _verdict(row, share)})
    return pd.DataFrame(rows)


def published_mask(reproduction: pd.DataFrame) -> str:
    """The mask with which more of the published resolutions are reproduced; unmasked if equal."""
    share = reproduction.groupby("mask")["share_within"].sum()
    return max(MASKS, key=lambda mask: share[mask])  # the first of equals


def compare(maps: pd.DataFrame, reproduction: pd.DataFrame) -> pd.DataFrame:
    """One row a metric and method, over the evaluated maps that the method has.

    Parameters
    ----------
    maps, reproduction
        from `join` and `reproduce`. Our resolutions are measured with `published_mask`.

    Returns
    -------
    n maps; their median; share_improved, the share better than deposited as the same authors
    measured it; and n_pairs maps that ours has too, with the median of (cryoready - method) and
    its interval of 95 % from a bootstrap over maps. Empty where not defined; ``note`` says why.
    """
    verdicts = reproduction.set_index(["metric", "mask"])["verdict"]
    rows = []
    for metric, how in METRICS.items():
        mask = published_mask(reproduction) if how.unit else ""
        measured = {method: maps[f"{method}_{_named(metric, mask)}"] for method in MEASURED}
        values = {method: maps[f"{method}_{metric}"] for method in PUBLISHED} | measured
        row = {"metric": metric, "unit": how.unit, "mask": mask}
        row |= {"better": "lower" if how.lower_is_better else "higher"}
        for method in values:
            cells = _compare(method, values, how)
            if method == "deposited_measured":
                cells["note"] = f"deposited column {verdicts[metric, mask]}"
            rows.append({**row, "method": method, **cells})
    return pd.DataFrame(rows).astype({"n_pairs": "Int64"})


def _compare(method: str, values: Mapping[str, pd.Series], how: Metric) -> dict[str, Any]:
    """The cells of one metric and method; ``values`` of all methods are (maps,), NaN where none."""
    before = "deposited" if method in PUBLISHED else "deposited_measured"
    share = share_improved(values[before], values[method], how.lower_is_better)
    cells: dict[str, Any] = {"n": values[method].count(), "median": values[method].median()}
    cells |= {"share_improved": np.nan if method == before else share}
    if method == "cryoready":
        return {**cells, "note": ""}
    pairs = (values["cryoready"] - values[method]).dropna()
    low, high = median_interval(pairs)
    cells |= {"n_pairs": len(pairs), "difference": pairs.median()}
    cells |= {"difference_low": low, "difference_high": high}
    note = "" if len(pairs) >= LEAST_MAPS else f"no interval from fewer than {LEAST_MAPS} maps"
    return {**cells, "note": note}


def share_improved(before: pd.Series, after: pd.Series, lower_is_better: bool) -> float:
    """Share of the maps with both values whose second is the better one; NaN if there is none."""
    gain = (before - after if lower_is_better else after - before).dropna()
    return float((gain > 0).mean()) if len(gain) else np.nan


def median_interval(differences: ArrayLike) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of the median of paired differences, (n,) one a map.

    The maps are drawn, so both values of a pair stay together. Always the same random numbers;
    (NaN, NaN) below ``LEAST_MAPS``.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < LEAST_MAPS:
        return np.nan, np.nan
    drawn = bootstrap(
        (values,),
        np.median,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _variants() -> list[tuple[str, str]]:
    """Every metric with each of its masks."""
    return [(metric, mask) for metric, how in METRICS.items() for mask in how.masks]


def _named(metric: str, mask: str) -> str:
    """The metric's name in an evaluation."""
    return f"{metric}_{mask}" if mask else metric


def _verdict(row: Mapping[str, Any], share: float) -> str:
    """In words, whether a published column is reproduced."""
    if not row["n"]:
        return "not reproduced: no map has both values"
    if share >= LEAST_SHARE:
        return f"reproduced ({row['mask']})" if row["mask"] else "reproduced"
    limit, median = (
        f"{row[key]:.3g} {row['unit']}".rstrip() for key in ("tolerance", "median_abs_difference")
    )
    return (
        f"not reproduced: {share:.0%} of {row['n']} maps within {limit} of the published value, "
        f"median |difference| {median}"
    )
