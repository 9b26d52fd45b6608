"""The published table, and the statistics that put our column beside it."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from cryoready.core.errors import CryoreadyError
from cryoready.metrics.benchmark import (
    LEAST_MAPS,
    METRICS,
    PUBLISHED,
    compare,
    join,
    median_interval,
    published_mask,
    reproduce,
    share_improved,
)

ROOT = Path(__file__).parents[2]
YARDSTICK = pd.read_csv(ROOT / "resources" / "benchmark" / "yardstick.tsv", sep="\t")
RESOLUTIONS = ("d_fsc_model_05", "d_fsc_model_0143")


def evaluation(row, *, shift, masks=("unmasked",), gain=0.0):
    """An evaluation whose deposited map is off the published one by ``shift``.

    Resolutions measured with another mask than those in ``masks`` are 5 Å off. The enhanced map is
    better than the deposited one by ``gain``.
    """
    deposited, enhanced = {}, {}
    for metric, how in METRICS.items():
        for mask in how.masks:
            name = f"{metric}_{mask}" if mask else metric
            off = shift if not mask or mask in masks else 5.0
            deposited[name] = row[f"deposited_{metric}"] + off
            enhanced[name] = deposited[name] + (-gain if how.lower_is_better else gain)
    return {"id": row["emdb"], "deposited": deposited, "enhanced": enhanced}


def evaluations(n, **how):
    return [evaluation(row, **how) for _, row in YARDSTICK.head(n).iterrows()]


def cell(table, metric, method, column):
    return table.set_index(["metric", "method"]).loc[(metric, method), column]


# the table


def test_the_table_is_whole():
    assert len(YARDSTICK) == YARDSTICK["emdb"].nunique() == YARDSTICK["pdb"].nunique() == 150
    assert YARDSTICK["emdb"].str.fullmatch(r"EMD-\d{4,5}").all()
    columns = [f"{method}_{metric}" for method in PUBLISHED for metric in METRICS]
    assert set(YARDSTICK) == {"emdb", "pdb", "resolution", *columns}
    missing = {column: 19 if "DeepEMhancer" in column else 0 for column in columns}
    assert YARDSTICK.isna().sum().to_dict() == {"emdb": 0, "pdb": 0, "resolution": 28, **missing}


@pytest.mark.parametrize(
    ("method", "among", "means"),
    [  # as the publication's text and tables 1 and 5 state them
        ("deposited", 150, {"d_fsc_model_05": 6.38, "cc_box": 0.7231, "cc_peaks": 0.6439}),
        ("CryoTEN", 150, {"d_fsc_model_05": 3.73, "cc_box": 0.8508, "cc_peaks": 0.7475}),
        ("CryoTEN", 131, {"d_fsc_model_0143": 2.44, "cc_box": 0.8499, "cc_mask": 0.7669}),
        ("DeepEMhancer", 131, {"d_fsc_model_0143": 3.52, "cc_box": 0.6309}),
        ("EMReady", 131, {"cc_mask": 0.7913}),
        ("deposited", 131, {"cc_mask": 0.784}),
    ],
)
def test_the_table_has_the_means_of_its_publication(method, among, means):
    rows = YARDSTICK if among == 150 else YARDSTICK.dropna(subset="DeepEMhancer_cc_box")
    assert len(rows) == among
    for metric, mean in means.items():
        half_a_digit = 0.0051 if metric in RESOLUTIONS else 0.000051
        assert rows[f"{method}_{metric}"].mean() == pytest.approx(mean, abs=half_a_digit)


@pytest.mark.parametrize(
    ("method", "medians", "shares"),  # of FSC-0.5, Q, CC_mask, CC_box, CC_peaks
    [
        ("deposited", (4.01, 0.559, 0.788, 0.716, 0.644), None),
        ("EMReady", (2.85, 0.622, 0.806, 0.883, 0.792), (99, 97, 62, 93, 91)),
        ("CryoTEN", (3.35, 0.571, 0.778, 0.862, 0.755), (96, 60, 35, 95, 90)),
        ("DeepEMhancer", (3.59, 0.471, 0.656, 0.675, 0.627), (70, 0, 0, 35, 47)),
    ],
)
def test_medians_and_shares_are_those_that_the_project_quotes(method, medians, shares):
    metrics = ("d_fsc_model_05", "q_mean", "cc_mask", "cc_box", "cc_peaks")
    found = [YARDSTICK[f"{method}_{metric}"].median() for metric in metrics]
    np.testing.assert_allclose(found, medians, rtol=0, atol=0.0051)
    np.testing.assert_allclose(found[1:], medians[1:], rtol=0, atol=0.00051)
    if shares:
        improved = [
            share_improved(
                YARDSTICK[f"deposited_{metric}"],
                YARDSTICK[f"{method}_{metric}"],
                METRICS[metric].lower_is_better,
            )
            for metric in metrics
        ]
        np.testing.assert_allclose(improved, np.divide(shares, 100), rtol=0, atol=0.0051)


@pytest.mark.parametrize("weights", ["starter", "v1"])
def test_the_shipped_weights_were_not_trained_on_it(weights):
    """Neither on a map of the benchmark nor on one of its models."""
    path = ROOT / "resources" / "weights" / weights / "entries.tsv"
    lines = (line for line in path.read_text().splitlines() if not line.startswith("#"))
    trained = "\n".join("\t".join(row.values()) for row in csv.DictReader(lines, delimiter="\t"))
    assert "EMD-6272" in trained
    assert "7yc8" in trained
    for row in YARDSTICK.itertuples():
        assert f"{row.emdb}-" not in trained
        assert f"{row.emdb}." not in trained
        assert row.pdb.lower() not in trained.lower()


# join


def test_maps_that_only_one_side_has_are_left_out():
    known = evaluations(3, shift=0.0)
    maps = join(YARDSTICK, [known[2], {**known[0], "id": "EMD-0001"}, known[0]])
    assert maps["emdb"].tolist() == [known[0]["id"], known[2]["id"]]  # in the yardstick's order
    assert maps["cryoready_q_mean"].tolist() == [e["enhanced"]["q_mean"] for e in known[::2]]


def test_what_could_not_be_computed_is_missing():
    first, second = evaluations(2, shift=0.0)
    first["enhanced"]["q_mean"] = None
    second["enhanced"] = None
    maps = join(YARDSTICK, [first, second])
    assert maps["cryoready_q_mean"].isna().all()
    assert maps["cryoready_cc_box"].isna().tolist() == [False, True]
    assert maps["deposited_measured_q_mean"].notna().all()


def test_other_maps_are_one_line():
    (other,) = evaluations(1, shift=0.0)
    with pytest.raises(CryoreadyError, match="none of the 1 evaluated maps is in the benchmark"):
        join(YARDSTICK, [{**other, "id": "EMD-3488"}])


# reproduce


@pytest.mark.parametrize("mask", ["unmasked", "masked"])
def test_the_mask_of_the_publication_is_found(mask):
    reproduction = reproduce(join(YARDSTICK, evaluations(20, shift=0.009, masks=(mask,))))
    assert published_mask(reproduction) == mask
    for row in reproduction.itertuples():
        if row.mask in ("", mask):
            assert row.verdict == (f"reproduced ({mask})" if row.mask else "reproduced")
            assert row.median_abs_difference == pytest.approx(0.009)
            assert (row.n, row.share_within) == (20, 1)
        else:
            assert row.verdict.startswith("not reproduced: 0% of 20 maps within 0.1 Å")
            assert row.verdict.endswith("median |difference| 5 Å")


def test_nine_of_ten_maps_within_the_tolerance_are_needed():
    """0.02 is still within 0.02; one of 10 maps may be off, two may not."""
    rows = evaluations(10, shift=0.02, masks=("masked", "unmasked"))
    for off, verdict in ((1, "reproduced"), (2, "not reproduced: 80% of 10 maps within 0.02")):
        for row in rows[:off]:
            row["deposited"]["cc_box"] += 0.3
        reproduction = reproduce(join(YARDSTICK, rows)).set_index("metric")
        assert reproduction.loc["cc_box", "verdict"].startswith(verdict)
        assert reproduction.loc["cc_box", "median_abs_difference"] == pytest.approx(0.02)
        rows[0]["deposited"]["cc_box"] -= 0.3


def test_without_a_value_nothing_is_reproduced():
    rows = evaluations(2, shift=0.0)
    for row in rows:
        row["deposited"] = {}
    reproduction = reproduce(join(YARDSTICK, rows))
    assert set(reproduction["verdict"]) == {"not reproduced: no map has both values"}
    assert published_mask(reproduction) == "unmasked"


# compare


def test_a_constant_gain_is_found_exactly():
    maps = join(YARDSTICK, evaluations(12, shift=0.003, gain=0.25))
    table = compare(maps, reproduce(maps))
    for metric, how in METRICS.items():
        gain = -0.25 if how.lower_is_better else 0.25
        columns = ["difference", "difference_low", "difference_high"]
        same_program = cell(table, metric, "deposited_measured", columns).to_list()
        assert same_program == pytest.approx([gain] * 3)
        assert cell(table, metric, "deposited", "difference") == pytest.approx(gain + 0.003)
        assert cell(table, metric, "cryoready", "share_improved") == 1
        assert cell(table, metric, "deposited_measured", "note").startswith("deposited column")


def test_differences_are_taken_map_by_map():
    """Not between medians: a method that lacks maps is compared on those that it has."""
    maps = join(YARDSTICK, evaluations(40, shift=0.0, gain=0.1))
    table = compare(maps, reproduce(maps))
    ours, theirs = maps["cryoready_cc_box"], maps["DeepEMhancer_cc_box"]
    both = theirs.notna()
    assert 30 < both.sum() < 40
    for column in ("n", "n_pairs"):
        assert cell(table, "cc_box", "DeepEMhancer", column) == both.sum()
    found = cell(table, "cc_box", "DeepEMhancer", "difference")
    assert found == pytest.approx(np.median((ours - theirs)[both]))
    assert abs(found - (ours.median() - theirs.median())) > 0.002


def test_too_few_maps_give_no_interval_but_a_reason():
    maps = join(
        YARDSTICK, evaluations(LEAST_MAPS, shift=0.0, gain=0.1)
    )  # the first has no DeepEMhancer
    table = compare(maps, reproduce(maps))
    assert np.isnan(cell(table, "q_mean", "DeepEMhancer", "difference_low"))
    assert cell(table, "q_mean", "DeepEMhancer", "note") == "no interval from fewer than 6 maps"
    assert np.isfinite(cell(table, "q_mean", "EMReady", "difference_low"))
    assert cell(table, "q_mean", "EMReady", "note") == ""


@pytest.mark.parametrize("n", [7, 25, 101])
def test_the_interval_is_that_of_all_resamples(n):
    """In closed form: for odd n, P(median of a resample ≤ x_k) = P(Binomial(n, k/n) > n/2).

    9999 resamples may miss its ends by one order statistic.
    """
    ranks = np.arange(1, n + 1)
    below = binom.sf(n // 2, n, ranks / n)
    exact = [ranks[below >= 0.025][0], ranks[below >= 0.975][0]]
    np.testing.assert_allclose(median_interval(ranks), exact, rtol=0, atol=1)


def test_the_interval_turns_with_the_sign_and_repeats():
    differences = np.random.default_rng(0).normal(size=30)
    low, high = median_interval(differences)
    assert low < np.median(differences) < high
    assert median_interval(-differences) == pytest.approx((-high, -low))
    assert median_interval(differences) == (low, high)


def test_the_interval_covers_the_true_median():
    rng = np.random.default_rng(0)
    intervals = np.array([median_interval(rng.normal(1.0, size=25)) for _ in range(100)])
    covered = np.mean((intervals[:, 0] <= 1.0) & (intervals[:, 1] >= 1.0))
    assert covered >= 0.9  # 95 %, give or take 2 standard deviations
