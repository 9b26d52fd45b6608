"""Tables and volumes turned into figures."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cryoready.core.volume import FloatArray, Volume
from cryoready.core.whole_files import written_whole

mpl.rcParams["svg.hashsalt"] = "cryoready"  # the same figure gives the same file


def plot_history(history: pd.DataFrame, path: Path) -> None:
    """Training and validation loss and the learning rate against the epoch (history.tsv)."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(history["epoch"], history["train_loss"], label="training")
    axes.plot(history["epoch"], history["validation_loss"], label="validation")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend(frameon=False)
    rate = axes.twinx()
    rate.plot(history["epoch"], history["learning_rate"], color="0.7", lw=1)
    rate.set(ylabel="learning rate (grey)", yscale="log")
    with written_whole(path) as part:
        figure.savefig(part, metadata={"Date": None} if path.suffix == ".svg" else None)


def plot_before_after(
    before: Volume, after: Volume, *, contours: tuple[float, float], title: str, path: Path
) -> None:
    """The same three central slices of two maps on one grid, outlined at the same contour.

    Parameters
    ----------
    before, after
        maps on the same grid.
    contours
        display level of each; the same contour means the same enclosed volume.
    title
        over the figure.
    path
        PNG or SVG.
    """
    if before.data.shape != after.data.shape:
        raise ValueError(f"maps of {before.data.shape} and {after.data.shape} voxels")
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    figure.suptitle(title)
    centre, corner, size = _region(after, contours[1])
    for row, volume, contour, name in zip(
        figure.subplots(2, 3), (before, after), contours, ("before", "after"), strict=True
    ):
        shown = volume.data[volume.data >= contour]
        bright = float(np.percentile(shown, 98) if shown.size else volume.data.max())
        for axis, panel in enumerate(row):
            plane, extent = _slice(volume, axis, centre[axis], corner, size)
            panel.imshow(plane, cmap="gray", origin="lower", extent=extent, vmin=0, vmax=bright)
            if plane.min() < contour < plane.max():
                style = {"colors": "tab:orange", "linewidths": 0.8, "extent": extent}
                style["origin"] = "lower"  # samples at the centres of pixels, as in imshow
                panel.contour(plane, levels=[contour], **style)
            vertical, horizontal = (name for k, name in enumerate("zyx") if k != axis)
            place = centre[axis] * volume.voxel_size[axis]
            panel.set(xlabel=f"{horizontal} (Å)   [slice at {'zyx'[axis]} = {place:.0f} Å]")
            panel.set(ylabel=f"{vertical} (Å)")
        row[0].set_title(f"{name}: contour {contour:.3g}", loc="left")
    with written_whole(path) as part:
        figure.savefig(part, dpi=110)


def _region(volume: Volume, contour: float) -> tuple[list[int], list[int], int]:
    """Where to look: the slices that cut most density, and a cube around all of it, in voxels."""
    inside = volume.data >= contour
    sums = [inside.sum(axis=tuple({0, 1, 2} - {k})) for k in range(3)]
    ends = [np.flatnonzero(total)[[0, -1]] if total.any() else [0, len(total)] for total in sums]
    size = max(int(last - first) for first, last in ends) + 12
    corner = [int(first + last - size) // 2 for first, last in ends]
    return [int(total.argmax()) for total in sums], corner, size


def _slice(
    volume: Volume, axis: int, index: int, corner: list[int], size: int
) -> tuple[FloatArray, tuple[float, float, float, float]]:
    """A plane across ``axis`` cut to the region, and its extent in Å from the first voxel."""
    rest = [k for k in range(3) if k != axis]
    low = [max(corner[k], 0) for k in rest]
    high = [min(corner[k] + size, volume.data.shape[k]) for k in rest]
    plane = np.take(volume.data, index, axis=axis)[low[0] : high[0], low[1] : high[1]]
    bottom, left = (float((n - 0.5) * volume.voxel_size[k]) for n, k in zip(low, rest, strict=True))
    top, right = (float((n - 0.5) * volume.voxel_size[k]) for n, k in zip(high, rest, strict=True))
    return plane, (left, right, bottom, top)
