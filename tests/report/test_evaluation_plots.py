"""The figures of the report say what the tables say."""

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from cryoready.report import evaluation_plots as plots

RESOLUTION = 4.0


@pytest.fixture
def curves():
    """Straight lines 1 - 2s (crossing 0.5 at 4 Å) and 1 - s (0.5 at 2 Å, 0.143 at 1.17 Å)."""
    frequency = np.arange(0.005, 1, 0.005)
    tables = [
        pd.DataFrame(
            {"map": name, "mask": "masked", "frequency": frequency, "fsc": 1 - slope * frequency}
        )
        for name, slope in (("deposited", 2), ("enhanced", 1))
    ]
    return pd.concat(tables)


def residues(n=50, *, chain="A", gain=0.1, seed=0):
    q = np.random.default_rng(seed).uniform(-0.2, 0.85, n)
    return pd.DataFrame(
        {
            "chain": chain,
            "residue_number": np.arange(n) + 1,
            "residue_name": "ALA",
            "b_iso": np.linspace(10, 90, n),
            "q_deposited": q,
            "q_enhanced": q + gain,
            "local_cc_deposited": q,
            "local_cc_enhanced": q + gain,
        }
    )


def test_rings_lie_on_the_curves(curves):
    crossings = {"deposited": {0.5: 4.0, 0.143: 2 / 0.857}, "enhanced": {0.5: 2.0, 0.143: None}}
    figure = plots.plot_fsc(curves, crossings, mask="masked", resolution=RESOLUTION)
    rings = [line.get_xydata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len(rings) == 3
    for (frequency, fsc), slope in zip(rings, (2, 2, 1), strict=True):
        assert fsc == pytest.approx(1 - slope * frequency, abs=1e-9)
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "before: 4.00 Å / 2.33 Å",
        "after: 2.00 Å / –",
    ]


def test_the_shade_begins_where_the_data_end(curves):
    figure = plots.plot_fsc(curves, {"enhanced": {0.5: 2.0}}, mask="masked", resolution=RESOLUTION)
    axes = figure.axes[0]
    shade = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert shade.x0 == pytest.approx(1 / RESOLUTION)
    assert shade.x1 == pytest.approx(axes.get_xlim()[1])
    assert "beyond the data" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(("crossing", "end"), [(4.0, 2 / RESOLUTION), (1.25, 1.1 / 1.25)])
def test_the_axis_reaches_twice_the_data_and_every_crossing(curves, crossing, end):
    figure = plots.plot_fsc(
        curves, {"enhanced": {0.5: crossing}}, mask="masked", resolution=RESOLUTION
    )
    assert figure.axes[0].get_xlim()[1] == pytest.approx(end)


def test_without_a_resolution_nothing_is_shaded(curves):
    figure = plots.plot_fsc(curves, {"enhanced": {0.5: None}}, mask="masked", resolution=None)
    assert not figure.axes[0].patches
    assert figure.axes[0].get_xlim()[1] == pytest.approx(0.995)


def test_labels_of_the_frequency_axis_are_resolutions(curves):
    axes = plots.plot_fsc(
        curves, {"enhanced": {0.5: 2.0}}, mask="masked", resolution=RESOLUTION
    ).axes[0]
    labels = [float(label.get_text()) for label in axes.get_xticklabels()]
    assert 1 / np.array(labels) == pytest.approx(axes.get_xticks(), rel=2e-3)
    assert np.diff(axes.get_xticks()).min() > 0.08 * axes.get_xlim()[1]


def test_long_chains_are_averaged_and_gaps_are_kept():
    long = residues(6001)
    figure = plots.plot_q_along_chain(long, expected_q=None)
    drawn = figure.axes[0].lines[0].get_ydata()
    assert len(drawn) <= plots.DRAWN_POINTS
    assert drawn[:-1].mean() == pytest.approx(long["q_deposited"][: 11 * 545].mean(), abs=1e-3)
    gap = residues(50).drop(index=range(20, 30))
    x = plots.plot_q_along_chain(gap, expected_q=0.5).axes[0].lines[0].get_xdata()
    assert np.flatnonzero(np.isnan(x)).tolist() == [20]


def test_means_of_neighbours_leave_out_what_is_not_known():
    values = pd.Series([1, 3, np.nan, 5, np.nan, np.nan, 7])
    assert plots._averaged(values, 2) == pytest.approx([2, 5, np.nan, 7], nan_ok=True)


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_the_strip_points_up_where_it_is_better(gain):
    up, down = plots.plot_gain_strip(residues(gain=gain)).axes[0].patches
    heights = [np.abs(patch.get_data().values).max() for patch in (up, down)]
    assert heights == pytest.approx([0.1, 0] if gain > 0 else [0, 0.1])
    assert up.get_data().values.min() >= 0 >= down.get_data().values.max()


@pytest.mark.parametrize("lowest", [-0.2, -0.15, 0.0, 0.3, -1.0])
def test_no_residue_is_missing_in_the_histogram(lowest):
    table = residues(100)
    table["q_deposited"] = np.linspace(lowest, 1, 100)  # both ends lie on edges of bins
    table.loc[:9, "q_enhanced"] = np.nan
    axes = plots.plot_q_histogram(table, expected_q=0.54).axes[0]
    counts = [patch.get_data().values.sum() for patch in axes.patches]
    assert counts == [100, 100, 90, 90]
    assert axes.lines[0].get_xdata()[0] == 0.54


def test_the_gain_is_drawn_against_the_predictor():
    axes = plots.plot_support(residues(), "b_iso", {"rho": -0.35, "low": -0.4, "high": -0.3}).axes[
        0
    ]
    points = np.asarray(axes.collections[0].get_offsets())
    assert points[:, 0] == pytest.approx(np.linspace(10, 90, 50))
    assert points[:, 1] == pytest.approx(np.full(50, 0.1))
    assert axes.get_title() == "rank correlation −0.35 (−0.40 to −0.30)"


def test_an_unknown_rank_correlation_is_no_number():
    nothing = {"rho": None, "low": None, "high": None}
    for rank in (nothing, None):
        axes = plots.plot_support(residues(), "q_deposited", rank).axes[0]
        assert axes.get_title() == "rank correlation: –"


@pytest.mark.parametrize("lower", [True, False])
def test_the_better_side_of_the_diagonal(lower):
    entries = pd.DataFrame(
        {"before": [3.0, 4.0, None], "after": [2.5, 20.0, 1.0], "split": ["test", "val", None]}
    )
    axes = plots.plot_against_diagonal(entries, "score", lower_is_better=lower).axes[0]
    low, high = axes.get_xlim()
    assert axes.get_ylim() == (low, high)
    assert low < 2.5 < 20 < high
    corners = axes.collections[0].get_paths()[0].vertices
    beyond = corners[:, 1] - corners[:, 0]  # of the diagonal
    assert (beyond.max() <= 1e-9) if lower else (beyond.min() >= -1e-9)
    assert [len(points.get_offsets()) for points in axes.collections[1:]] == [1, 1]


def test_one_chain_of_each_sequence_is_drawn_first():
    kinds = {
        "A": ("ALA", 10),
        "B": ("ALA", 10),
        "C": ("GLY", 5),
        "D": ("ALA", 10),
        "E": ("SER", 20),
    }
    table = pd.concat(
        [residues(n, chain=c).assign(residue_name=name) for c, (name, n) in kinds.items()]
    )
    assert plots.chains_to_draw(table, 3) == ["A", "C", "E"]
    assert plots.chains_to_draw(table, 2) == ["A", "E"]
    assert plots.chains_to_draw(table, 9) == list(kinds)


def ids(svg):
    return set(re.findall(r' id="([^"]+)"', svg))


def test_figures_of_one_page_share_no_ids(curves):
    crossings = {"enhanced": {0.5: 2.0}}
    figures = [
        plots.plot_fsc(curves, crossings, mask="masked", resolution=RESOLUTION) for _ in range(2)
    ]
    first, second = (plots.to_svg(f, name) for f, name in zip(figures, "ab", strict=True))
    assert ids(first)
    assert not ids(first) & ids(second)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", first))
    assert used <= ids(first)


def test_an_inline_figure_is_small_reproducible_and_has_text():
    figures = [plots.plot_q_along_chain(residues(chain="<b>$x"), expected_q=0.5) for _ in range(2)]
    first, second = (plots.to_svg(figure, 'chain "<b>"') for figure in figures)
    assert first == second
    root = ElementTree.fromstring(first)
    assert root.attrib["aria-label"] == 'chain "<b>"'
    assert "chain <b>$x" in "".join(root.itertext())
    assert "metadata" not in first
    assert len(first) < 25_000


def test_many_points_become_pixels():
    small, large = (plots.plot_support(residues(n), "b_iso", None) for n in (500, 20_000))
    assert "<image" not in plots.to_svg(small, "small")
    svg = plots.to_svg(large, "large")
    assert "<image" in svg
    assert len(svg) < 200_000
