"""Runs of an ablation are what the configuration says, and only more than the spread counts."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from cryoready.core.errors import CryoreadyError
from cryoready.training.ablation import ablation_table, compared_with_base
from cryoready.training.record import HISTORY, SCORES, Record
from cryoready.training.variants import ablation_runs, run_config

CONFIG = {
    "network": {"width": 32, "norm": "voxel"},
    "train": {"run": "mine", "seed": 7, "minutes": None, "loss": {"smooth_l1": 1.0, "ssim": 1.0}},
    "ablation": {
        "seeds": [1, 2],
        "minutes": 4,
        "only": None,
        "base": {"network": {"width": 16}, "train": {"loss": {"ssim": 0.5}}},
        "variants": {"plain": {}, "frn": {"network": {"norm": "frn"}}, "l1": None},
    },
}


def record(scores, losses=(0.3,)):
    n = max(len(scores), len(losses))
    history = pd.DataFrame({name: np.resize([1.0], n) for name in HISTORY})
    history = history.assign(epoch=np.arange(n) + 1, validation_loss=losses)
    history["score"] = scores if len(scores) else np.nan
    return Record("x", history, pd.DataFrame(columns=["epoch", "id", *SCORES]), {})


def test_a_run_is_the_configuration_with_base_variant_and_seed():
    runs = ablation_runs(CONFIG["ablation"])
    assert runs["ablation-frn-2"] == ("frn", 2)
    assert len(runs) == 6
    merged = run_config("ablation-frn-2", CONFIG)
    assert merged["network"] == {"width": 16, "norm": "frn"}
    assert merged["train"] == {
        **{"run": "ablation-frn-2", "seed": 2, "minutes": 4},
        "loss": {"smooth_l1": 1.0, "ssim": 0.5},
    }
    assert run_config("ablation-l1-1", CONFIG)["network"] == {"width": 16, "norm": "voxel"}
    assert CONFIG["network"]["width"] == 32  # nothing was changed in place


def test_only_some_variants_can_be_asked_for():
    only = CONFIG["ablation"] | {"only": ["frn", "plain"]}
    runs = ablation_runs(only)
    assert [variant for variant, _ in runs.values()] == ["frn", "frn", "plain", "plain"]
    with pytest.raises(CryoreadyError, match="no variant is called 'fnr'; there are: plain, frn"):
        ablation_runs(only | {"only": ["fnr"]})


def test_the_configured_run_is_the_configuration():
    assert run_config("mine", CONFIG) == CONFIG


@pytest.mark.parametrize("run", ["ablation-frn-3", "ablation-none-1", "other"])
def test_an_unknown_run_is_named_with_those_that_there_are(run):
    with pytest.raises(CryoreadyError, match=f"no run is called '{run}'.*mine, ablation-plain-1"):
        run_config(run, CONFIG)


def test_a_variant_that_is_no_mapping_is_named():
    ablation = CONFIG["ablation"] | {"variants": {"x": {"network": "frn"}}}
    with pytest.raises(CryoreadyError, match="variant 'x': network = 'frn' must be keys"):
        run_config("ablation-x-1", CONFIG | {"ablation": ablation})


def test_the_table_has_mean_and_spread_over_the_seeds_the_best_first():
    """By hand: of 0.1 and 0.3 the mean is 0.2, the standard deviation √0.02."""
    runs = [("low", record([0.0]), 10), ("low", record([0.02]), 10)]
    runs += [("high", record([0.1]), 20), ("high", record([0.2, 0.3, 0.1], [0.5, 0.4, 0.1]), 20)]
    table = ablation_table(runs, base="low").set_index("variant")
    assert list(table.index) == ["high", "low"]
    assert table.loc["high", "score_mean"] == pytest.approx(0.2)
    assert table.loc["high", "score_sd"] == pytest.approx(np.sqrt(0.02))
    assert table.loc["high", "validation_loss_mean"] == pytest.approx((0.3 + 0.4) / 2)
    assert table.loc["high", "difference"] == pytest.approx(0.19)
    assert table.loc["high", ["parameters", "seeds", "crops"]].tolist() == [20, 2, 2]
    assert table.loc["low", "beyond_spread"] == ""


def test_without_scores_the_lower_loss_comes_first_and_nothing_is_compared():
    runs = [("a", record([], [0.5]), 1), ("b", record([], [0.2]), 1)]
    table = ablation_table(runs, base="a")
    assert list(table["variant"]) == ["b", "a"]
    assert list(table["beyond_spread"]) == ["", ""]
    assert table["difference"].isna().all()


def test_one_seed_each_gives_differences_without_a_verdict():
    table = compared_with_base({"base": [1.0], "other": [1.5]}, "base")
    assert table.loc["other", "difference"] == pytest.approx(0.5)
    assert table["p"].isna().all()
    assert list(table["beyond_spread"]) == ["", ""]


def test_a_missing_score_takes_its_variant_alone_out_of_the_comparison():
    samples = {"base": [1.0, 1.1], "other": [2.0, 2.1], "broken": [1.0, np.nan]}
    table = compared_with_base(samples, "base")
    whole = compared_with_base({name: samples[name] for name in ("base", "other")}, "base")
    pd.testing.assert_frame_equal(table.loc[["base", "other"]], whole)
    assert table.loc["other", "beyond_spread"] == "yes"
    assert table.loc["broken", ["difference", "p"]].isna().all()
    assert table.loc["broken", "beyond_spread"] == ""
    assert compared_with_base(samples, "broken")["difference"].isna().all()


def test_two_variants_are_compared_as_by_the_t_test():
    """Dunnett's test of one treatment is Student's t-test, which scipy has by itself."""
    samples = {"base": [1.0, 1.1, 1.3], "other": [1.2, 1.5, 1.6]}
    table = compared_with_base(samples, "base")
    expected = ttest_ind(samples["other"], samples["base"]).pvalue
    assert table.loc["other", "p"] == pytest.approx(expected, abs=1e-3)


def test_published_values_of_dunnetts_test():
    """The blood counts of Dunnett 1955 (section 3): at 5 % drug B differs, drug A does not."""
    samples = {
        "control": [7.40, 8.50, 7.20, 8.24, 9.84, 8.32],
        "A": [9.76, 8.80, 7.68, 9.36],
        "B": [12.80, 9.68, 12.16, 9.20, 10.55],
    }
    table = compared_with_base(samples, "control")
    assert table.loc["A", "difference"] == pytest.approx(0.65)
    assert list(table.loc[["control", "A", "B"], "beyond_spread"]) == ["", "no", "yes"]


def test_more_variants_need_a_larger_difference():
    """The chance of any false difference is 5 % in all."""
    rng = np.random.default_rng(0)
    same = {f"v{k}": list(rng.normal(size=2)) for k in range(12)}
    pair = {"base": [0.0, 0.1], "other": [1.0, 1.1]}
    alone = compared_with_base(pair, "base").loc["other", "p"]
    spread = {name: [0.05 + x / 1e9, 0.15 - x / 1e9] for name, (x, _) in same.items()}
    among = compared_with_base(pair | spread, "base").loc["other", "p"]
    assert alone < 0.05
    assert among < alone  # twelve more pairs tell the spread better
    noisy = compared_with_base(pair | same, "base").loc["other", "beyond_spread"]
    assert noisy == "no"


def test_an_ablation_without_its_base_is_named():
    with pytest.raises(CryoreadyError, match="no run of the variant 'plain'"):
        ablation_table([("x", record([0.1]), 1)], base="plain")
