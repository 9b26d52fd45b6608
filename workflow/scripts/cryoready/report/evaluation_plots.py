"""Tables of an evaluation turned into figures, narrow enough for a phone, and into inline SVG."""

import html
import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

#: How each map is called, drawn and told apart without colour.
MAPS: dict[str, tuple[str, dict[str, Any]]] = {
    "deposited": ("before", {"color": "#57606a", "ls": "--", "lw": 1.4, "zorder": 2.5}),
    "enhanced": ("after", {"color": "#0b5fc4", "ls": "-", "lw": 1.8, "zorder": 3}),
    "auto_sharpened": ("auto-sharpened", {"color": "#7a3e9d", "ls": ":", "lw": 1.4}),
    "deepemhancer": ("DeepEMhancer", {"color": "#1b7f5c", "ls": "-.", "lw": 1.1}),
    "locscale": ("LocScale", {"color": "#a8780b", "ls": (0, (6, 2)), "lw": 1.1}),
    "emready": ("EMReady", {"color": "#c2185b", "ls": (0, (3, 1, 1, 1, 1, 1)), "lw": 1.1}),
    "half_maps": ("half-maps", {"color": "#57606a", "ls": "--", "lw": 1.4}),
    "enhanced_half_maps": ("enhanced halves*", {"color": "#0b5fc4", "ls": "-", "lw": 1.8}),
}
#: What the gain is drawn against: predictor -> (column of the residues, label of the axis).
PREDICTORS = {
    "local_resolution": "local resolution (Å)",
    "q_deposited": "Q before",
    "b_iso": "B-factor of the model (Å²)",
}
OUTCOMES = {"gain": "gain in local correlation", "after": "local correlation after"}
SPLITS = {None: ("D", "in no split"), "test": ("o", "test")} | {
    "val": ("s", "used for selection"),
    "train": ("^", "used for training"),
}
BETTER, WORSE = "#0b5fc4", "#c8500a"  # apart for every kind of colour vision
SIZE = (4.2, 3.0)  # inches: on a phone the text is as large as that of the page
DRAWN_POINTS = 600  # of a line; more are averaged
VECTOR_POINTS = 1000  # of a scatter plot; more are drawn as pixels
STYLE: dict[Any, Any] = {  # rcParams
    "svg.fonttype": "none",
    "svg.hashsalt": "cryoready",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "legend.borderaxespad": 0,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
styled = mpl.rc_context(STYLE)
RESOLUTION_TICKS = np.array([50, 20, 10, 7, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.4, 1.2, 1])


def to_svg(figure: Figure, name: str) -> str:
    """An SVG element to be put into HTML.

    Parameters
    ----------
    figure
        drawn by a function of this module.
    name
        what the picture shows, for screen readers; it also keeps the ids of two figures of one
        page apart.
    """
    file = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing, transparent=True, dpi=150)
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # patch_1 is in every figure; no one asks
    svg = re.sub(r' (?:d|x|y)="[^"]*"', _two_decimals, svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


@styled
def plot_fsc(
    curves: pd.DataFrame,
    crossings: Mapping[str, Mapping[float, float | None]],
    *,
    mask: str,
    resolution: float | None,
) -> Figure:
    """FSC of some maps against the frequency, the crossings marked, beyond the data shaded.

    Parameters
    ----------
    curves
        ``map``, ``mask``, ``frequency`` (1/Å), ``fsc``.
    crossings
        for each map to be drawn: threshold -> resolution in Å where its curve crosses it.
    mask
        "masked" or "unmasked".
    resolution
        of the map in Å; frequencies above its inverse are beyond the data.
    """
    figure, axes = _figure((SIZE[0], SIZE[1] + 0.5))
    end = _last_frequency(curves, crossings, resolution)
    if resolution is not None and 1 / resolution < end:
        axes.axvspan(1 / resolution, end, facecolor="0.93", edgecolor="0.85", hatch="//", lw=0)
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
        place = (1 / resolution + 0.01 * end, 1.03)
        axes.text(*place, "beyond the data", va="center", fontsize=9, color="0.3", bbox=white)
    for threshold in sorted({t for of_map in crossings.values() for t in of_map}):
        axes.axhline(threshold, color="0.6", lw=0.7)
    shown = curves[(curves["mask"] == mask) & (curves["frequency"] <= end)]
    for name, of_map in crossings.items():
        _draw_curve(axes, shown[shown["map"] == name], name, of_map)
    ticks = _spaced(1 / RESOLUTION_TICKS, end)
    axes.set_xticks(ticks, [f"{1 / tick:.3g}" for tick in ticks])
    axes.set(xlim=(0, end), ylim=(-0.15, 1.1), xlabel="resolution (Å)", ylabel="FSC")
    thresholds = " / ".join(f"{t:g}" for t in next(iter(crossings.values())))
    figure.legend(loc="outside lower left", title=f"falls below {thresholds} at", alignment="left")
    return figure


@styled
def plot_q_along_chain(residues: pd.DataFrame, *, expected_q: float | None) -> Figure:
    """Q of the residues of one chain before and after; what lies between is filled.

    Parameters
    ----------
    residues
        of one chain, in order: ``chain``, ``residue_number``, ``q_deposited``, ``q_enhanced``.
    expected_q
        the Q usual at the resolution of the map, or None.
    """
    figure, axes = _figure((SIZE[0], 2.0))
    step = -(-len(residues) // DRAWN_POINTS)
    number, before, after = (
        _averaged(residues[column], step)
        for column in ("residue_number", "q_deposited", "q_enhanced")
    )
    breaks = np.flatnonzero(np.diff(number) > 1.5 * step) + 1  # residues that were not built
    number, before, after = (np.insert(x, breaks, np.nan) for x in (number, before, after))
    for better, color, hatch in ((after >= before, BETTER, None), (after < before, WORSE, "////")):
        filled: dict[str, Any] = {"where": better, "interpolate": True, "lw": 0, "alpha": 0.35}
        axes.fill_between(number, before, after, color=color, hatch=hatch, **filled)
    axes.plot(number, before, **MAPS["deposited"][1] | {"lw": 1})
    axes.plot(number, after, **MAPS["enhanced"][1] | {"lw": 1.3})
    if expected_q is not None:
        axes.axhline(expected_q, color="0.2", lw=0.8, ls=":")
    low = min(0.0, float(np.nanmin([before, after], initial=0)))
    title = f"chain {plain(residues['chain'].iloc[0])}"
    axes.set(ylim=(low, 1), xlabel="residue", ylabel="Q", title=title)
    axes.margins(x=0.01)
    return figure


@styled
def plot_gain_strip(residues: pd.DataFrame, *, limit: float = 0.4) -> Figure:
    """The gain in Q along one chain as a strip without axes: up is better, down is worse.

    Parameters
    ----------
    residues
        of one chain, in order: ``q_deposited``, ``q_enhanced``.
    limit
        gain at the upper edge of the strip.
    """
    figure = Figure(figsize=(5, 0.36))
    axes = figure.add_axes((0, 0, 1, 1))
    step = -(-len(residues) // (DRAWN_POINTS // 3))
    gain = _averaged(residues["q_enhanced"] - residues["q_deposited"], step).clip(-limit, limit)
    for part, color in ((gain.clip(0, None), BETTER), (gain.clip(None, 0), WORSE)):
        axes.stairs(np.nan_to_num(part), fill=True, color=color, lw=0)
    axes.axhline(0, color="0.35", lw=0.6)
    axes.set(xlim=(0, len(gain)), ylim=(-limit, limit))
    axes.set_axis_off()
    return figure


@styled
def plot_q_histogram(residues: pd.DataFrame, *, expected_q: float | None) -> Figure:
    """Residues per interval of Q, before and after, and the Q usual at the resolution."""
    figure, axes = _figure((SIZE[0], SIZE[1] + 0.5))
    values = {name: residues[f"q_{name}"].dropna() for name in ("deposited", "enhanced")}
    lowest = min((float(v.min()) for v in values.values() if len(v)), default=0.0)
    bins = np.arange(np.floor(min(lowest, 0) * 20), 21) / 20
    for name, fill in (("deposited", 0.25), ("enhanced", 0.15)):
        label, style = MAPS[name]
        line = {"color": style["color"], "ls": style["ls"], "lw": style["lw"]}
        counts, mean = np.histogram(values[name], bins)[0], values[name].mean()
        axes.stairs(counts, bins, fill=True, color=style["color"], alpha=fill, lw=0)
        axes.stairs(counts, bins, label=f"{label}: mean {mean:.2f}", **line)
    if expected_q is not None:
        label = f"expected at this resolution: {expected_q:.2f}"
        axes.axvline(expected_q, color="0.2", ls=":", label=label)
    axes.set(xlabel="Q of a residue", ylabel="residues")
    figure.legend(loc="outside lower left")
    return figure


@styled
def plot_support(residues: pd.DataFrame, predictor: str, rank: Mapping[str, Any] | None) -> Figure:
    """The gain in local correlation of each residue against what the data promised there.

    Parameters
    ----------
    residues
        ``local_cc_deposited``, ``local_cc_enhanced`` and the column of the predictor.
    predictor
        a key of `PREDICTORS`.
    rank
        ``rho`` and its interval ``low``, ``high``, for the title; None or null values: no number.
    """
    gain = residues["local_cc_enhanced"] - residues["local_cc_deposited"]
    drawn = pd.DataFrame({"x": residues[predictor], "gain": gain}).dropna()
    figure, axes = _figure()
    style: dict[str, Any] = {
        "s": 9,
        "alpha": 0.45,
        "lw": 0,
        "rasterized": len(drawn) > VECTOR_POINTS,
    }
    axes.scatter(drawn["x"], drawn["gain"], color=BETTER, **style)
    axes.axhline(0, color="0.35", lw=0.8)
    if drawn["x"].nunique() >= 10 and len(drawn) >= 50:
        tenths = drawn.groupby(pd.qcut(drawn["x"], 10, duplicates="drop"), observed=True).median()
        axes.plot(tenths["x"], tenths["gain"], color="black", lw=1.6, marker="o", ms=3)
    axes.set(
        xlabel=PREDICTORS[predictor], ylabel="gain in local correlation", title=_rank_title(rank)
    )
    return figure


@styled
def plot_against_diagonal(entries: pd.DataFrame, label: str, *, lower_is_better: bool) -> Figure:
    """One score of all entries, after against before; the better side of the diagonal is tinted.

    Parameters
    ----------
    entries
        ``before``, ``after`` and ``split`` ("test", "val", "train" or None).
    label
        of both axes, with the unit.
    lower_is_better
        a score in Å: the axes are logarithmic, and the better side lies below the diagonal.
    """
    figure, axes = _figure((SIZE[0], SIZE[0]))
    known = entries.dropna(subset=["before", "after"])
    low, high = _limits(known[["before", "after"]].to_numpy(dtype=np.float64), log=lower_is_better)
    best = low if lower_is_better else high
    axes.fill_between([low, high], [low, high], [best, best], color=BETTER, alpha=0.08, lw=0)
    axes.plot([low, high], [low, high], color="0.4", lw=0.8)
    for split, (marker, name) in SPLITS.items():
        some = known[known["split"].isna() if split is None else known["split"] == split]
        if len(some):
            color = BETTER if split in (None, "test") else "0.4"
            axes.scatter(some["before"], some["after"], marker=marker, color=color, label=name)
    if lower_is_better:
        axes.set(xscale="log", yscale="log")
        ticks = [tick for tick in (1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50) if low < tick < high]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    place = (0.66, 0.05) if lower_is_better else (0.03, 0.92)
    axes.text(*place, "better after", transform=axes.transAxes, color=BETTER)
    axes.set(xlabel=f"{label}, before", ylabel=f"{label}, after")
    if len(known):
        figure.legend(loc="outside lower left", ncols=2)
    return figure


def chains_to_draw(residues: pd.DataFrame, most: int) -> list[str]:
    """Chains whose pictures tell most: one of each sequence before its copies, long ones first."""
    chains = residues.groupby("chain", sort=False)["residue_name"].agg(["size", tuple])
    copy = chains.groupby("tuple", sort=False).cumcount().to_numpy()
    order = np.lexsort((np.arange(len(chains)), -chains["size"].to_numpy(), copy))[:most]
    return list(chains.index[np.sort(order)])


def _figure(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _draw_curve(
    axes: Axes, curve: pd.DataFrame, name: str, crossings: Mapping[float, float | None]
) -> None:
    """One FSC curve, its crossings as points and in the legend."""
    called, style = MAPS[name]
    read = [f"{d:.2f} Å" if d else "–" for d in crossings.values()]
    axes.plot(curve["frequency"], curve["fsc"], label=f"{called}: {' / '.join(read)}", **style)
    for threshold, d in crossings.items():
        if d:
            axes.plot(
                1 / d,
                threshold,
                "o",
                ms=6,
                mfc="white",
                mec=style["color"],
                mew=1.6,
                zorder=style.get("zorder", 2) + 2,
            )


def _last_frequency(
    curves: pd.DataFrame,
    crossings: Mapping[str, Mapping[float, float | None]],
    resolution: float | None,
) -> float:
    """Where the axis ends: twice the frequency of the data, but never before a crossing."""
    ends = [1.1 / d for of_map in crossings.values() for d in of_map.values() if d]
    if resolution is not None:
        ends.append(2 / resolution)
    last = float(curves["frequency"].max()) if len(curves) else 1.0
    return min(last, max(ends, default=last))


def _limits(values: NDArray[np.float64], *, log: bool) -> tuple[float, float]:
    """Ends of an axis around all values."""
    low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 2.0)
    if log:
        pad = 1.05 * (high / low) ** 0.1
        return low / pad, high * pad
    pad = 0.02 + 0.08 * (high - low)
    return low - pad, high + pad


def _spaced(ticks: NDArray[np.float64], end: float) -> list[float]:
    """Those ticks up to ``end`` that leave room for their labels."""
    kept: list[float] = []
    for tick in ticks[ticks <= end]:
        if not kept or tick - kept[-1] > 0.085 * end:
            kept.append(float(tick))
    return kept


def _averaged(values: "pd.Series[Any]", step: int) -> NDArray[np.float64]:
    """Means of ``step`` neighbours, so that no line has more points than can be seen."""
    numbers = values.to_numpy(dtype=np.float64)
    if step <= 1:
        return numbers
    starts = np.arange(0, len(numbers), step)
    known = np.isfinite(numbers)
    sums = np.add.reduceat(np.where(known, numbers, 0), starts)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    return np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)


def _rank_title(rank: Mapping[str, Any] | None) -> str:
    if rank is None or rank["rho"] is None:
        return "rank correlation: –"
    known = rank["low"] is not None
    between = f" ({rank['low']:.2f} to {rank['high']:.2f})" if known else ""
    return f"rank correlation {rank['rho']:.2f}{between}".replace("-", "−")


def _two_decimals(attribute: re.Match[str]) -> str:
    """Coordinates of 1/100 of a point, which is less than can be seen."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return str(text).replace("$", r"\$")
