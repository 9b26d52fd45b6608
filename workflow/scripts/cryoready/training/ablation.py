"""What each part of the method is worth: variants compared over several seeds."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import dunnett

from cryoready.core.errors import CryoreadyError
from cryoready.training.record import RATIOS, Record

COMPARED = (
    *("validation_loss", "score"),
    *("fsc_inside_resolution_gain", "cc_mask_gain", "q_mean_gain"),
    *(f"{key}_ratio" for key in RATIOS),
)
SIGNIFICANT = 0.05
SEED = 1  # of the integration inside Dunnett's test


def ablation_table(runs: Iterable[tuple[str, Record, int]], *, base: str) -> pd.DataFrame:
    """One row a variant, the best first.

    Parameters
    ----------
    runs
        variant, record and number of parameters of every run.
    base
        the variant that the others are compared with.

    Returns
    -------
    ``variant``, ``parameters``, ``seeds`` (their number), ``crops`` and ``minutes`` (means over
    the seeds), then ``<value>_mean`` and ``<value>_sd`` of `COMPARED`: those of the best epoch of
    each run; the standard deviation is NaN for a single seed. Then, of the score:
    ``difference`` to the base, ``p`` and ``beyond_spread`` (`compared_with_base`). Validation
    losses are not compared: those of variants with another loss mean something else. They only
    give the order of variants without a score, which come last.

    Raises
    ------
    CryoreadyError
        if no run is of the base.
    """
    rows = [
        {"variant": variant, "parameters": parameters, **record.summary}
        for variant, record, parameters in runs
    ]
    if all(row["variant"] != base for row in rows):
        raise CryoreadyError(f"ablation: no run of the variant {base!r} to compare with")
    table = pd.DataFrame(rows)
    groups = table.groupby("variant", sort=False)
    summary = groups[["parameters", "crops", "minutes"]].mean()
    summary.insert(1, "seeds", groups.size())
    for key in COMPARED:
        summary[f"{key}_mean"], summary[f"{key}_sd"] = groups[key].mean(), groups[key].std()
    scores = {str(variant): list(values) for variant, values in groups["score"]}
    summary = summary.join(compared_with_base(scores, base))
    order = summary.sort_values(["score_mean", "validation_loss_mean"], ascending=[False, True])
    return order.reset_index().astype({"parameters": int})


def compared_with_base(samples: Mapping[str, Sequence[float]], base: str) -> pd.DataFrame:
    """Whether variants differ from the base by more than seeds do.

    Dunnett's test (doi 10.1080/01621459.1955.10501294): all are compared with one, so the chance
    of any false difference is `SIGNIFICANT` in all; the spread is that of all variants together,
    for two seeds alone tell little about theirs.

    Parameters
    ----------
    samples
        a value for each seed, by variant; NaN where it is missing.
    base
        one of the variants.

    Returns
    -------
    ``difference``, ``p`` and ``beyond_spread`` (yes or no) by variant; nothing for the base, for a
    variant that lacks a value, for all if the base does; without a spread, only differences.
    """
    known = {
        name: np.array(values) for name, values in samples.items() if np.isfinite(values).all()
    }
    control = known.pop(base, None)
    table = pd.DataFrame(np.nan, index=[*samples], columns=["difference", "p"])
    if control is not None and known:
        table.loc[[*known], "difference"] = [v.mean() - control.mean() for v in known.values()]
        if any(np.ptp(values) > 0 for values in (control, *known.values())):
            test = dunnett(*known.values(), control=control, rng=np.random.default_rng(SEED))
            table.loc[[*known], "p"] = test.pvalue
    verdict = np.where(table["p"] < SIGNIFICANT, "yes", "no")
    table["beyond_spread"] = np.where(table["p"].notna(), verdict, "")
    return table
