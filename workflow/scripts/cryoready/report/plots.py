"""Tables and volumes turned into figures."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
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
    region = shown_region(before, after, contours[1])
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    figure.suptitle(title)
    for row, volume, contour, name in zip(
        figure.subplots(2, 3), (before, after), contours, ("before", "after"), strict=True
    ):
        bright = brightness(volume, contour)
        for axis, panel in enumerate(row):
            draw_slice(panel, volume, axis, region, bright=bright)
            draw_outline(panel, volume, axis, region, contour=contour)
            label_axes(panel, volume, axis, region)
        row[0].set_title(f"{name}: contour {contour:.3g}", loc="left")
    with written_whole(path) as part:
        figure.savefig(part, dpi=110)


def slice_pictures(
    before: Volume, after: Volume, *, contours: tuple[float, float]
) -> list[tuple[str, bytes, bytes]]:
    """The slices of `plot_before_after` one by one: (place, PNG before, PNG after) for z, y, x."""
    region = shown_region(before, after, contours[1])
    maps = zip((before, after), contours, strict=True)
    shown = [(volume, contour, brightness(volume, contour)) for volume, contour in maps]
    pictures = []
    for axis, name in enumerate("zyx"):
        place = f"{name} = {region.centre[axis] * after.voxel_size[axis]:.0f} Å"
        first, second = (_picture(volume, axis, region, *levels) for volume, *levels in shown)
        pictures.append((place, first, second))
    return pictures


class Region(NamedTuple):
    """Slices to show, and the cube to be shown of them, in voxels."""

    centre: list[int]
    corner: list[int]
    size: int


def shown_region(before: Volume, after: Volume, contour: float) -> Region:
    """The slices that cut most density of ``after``, and a cube around all of it."""
    if before.data.shape != after.data.shape:
        raise ValueError(f"maps of {before.data.shape} and {after.data.shape} voxels")
    inside = after.data >= contour
    sums = [inside.sum(axis=tuple({0, 1, 2} - {k})) for k in range(3)]
    ends = [np.flatnonzero(total)[[0, -1]] if total.any() else [0, len(total)] for total in sums]
    size = max(int(last - first) for first, last in ends) + 12
    corner = [int(first + last - size) // 2 for first, last in ends]
    return Region([int(total.argmax()) for total in sums], corner, size)


def brightness(volume: Volume, contour: float) -> float:
    """The density drawn white."""
    shown = volume.data[volume.data >= contour]
    return float(np.percentile(shown, 98) if shown.size else volume.data.max())


def draw_slice(panel: Axes, volume: Volume, axis: int, region: Region, *, bright: float) -> None:
    """A slice in grey: ``bright`` and more is white."""
    plane, extent = _slice(volume, axis, region)
    panel.imshow(plane, cmap="gray", origin="lower", extent=extent, vmin=0, vmax=bright)


def draw_outline(
    panel: Axes, volume: Volume, axis: int, region: Region, *, contour: float, width: float = 0.8
) -> None:
    """The contour of a slice, where it has one."""
    plane, extent = _slice(volume, axis, region)
    if plane.min() < contour < plane.max():
        style: dict[str, Any] = {"colors": "tab:orange", "linewidths": width, "extent": extent}
        style["origin"] = "lower"  # samples at the centres of pixels, as in imshow
        panel.contour(plane, levels=[contour], **style)


def label_axes(panel: Axes, volume: Volume, axis: int, region: Region) -> None:
    """Name the axes of a slice across ``axis`` and say where it lies, in Å from the first voxel."""
    vertical, horizontal = (name for k, name in enumerate("zyx") if k != axis)
    place = region.centre[axis] * volume.voxel_size[axis]
    panel.set(xlabel=f"{horizontal} (Å)   [slice at {'zyx'[axis]} = {place:.0f} Å]")
    panel.set(ylabel=f"{vertical} (Å)")


def _picture(volume: Volume, axis: int, region: Region, contour: float, bright: float) -> bytes:
    """One square slice with a scale bar in place of axes, as PNG."""
    figure = Figure(figsize=(3, 3), facecolor="black")
    panel = figure.add_axes((0, 0, 1, 1), facecolor="black")
    draw_slice(panel, volume, axis, region, bright=bright)
    draw_outline(panel, volume, axis, region, contour=contour)
    vertical, horizontal = (k for k in range(3) if k != axis)
    for k, limit in ((horizontal, panel.set_xlim), (vertical, panel.set_ylim)):
        first = (region.corner[k] - 0.5) * volume.voxel_size[k]
        limit(first, first + region.size * volume.voxel_size[k])
    panel.set_axis_off()
    width = region.size * volume.voxel_size[horizontal]
    bar = max((n for n in (1, 2, 5, 10, 20, 50, 100, 200) if n < width / 3), default=1)
    across: dict[str, Any] = {"transform": panel.transAxes, "color": "white"}
    panel.plot([0.05, 0.05 + bar / width], [0.05, 0.05], lw=2.5, **across)
    panel.text(0.05, 0.07, f"{bar} Å", fontsize=12, **across)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _slice(
    volume: Volume, axis: int, region: Region
) -> tuple[FloatArray, tuple[float, float, float, float]]:
    """A plane across ``axis`` cut to the region, and its extent in Å from the first voxel."""
    rest = [k for k in range(3) if k != axis]
    low = [max(region.corner[k], 0) for k in rest]
    high = [min(region.corner[k] + region.size, volume.data.shape[k]) for k in rest]
    plane = np.take(volume.data, region.centre[axis], axis=axis)[low[0] : high[0], low[1] : high[1]]
    bottom, left = (float((n - 0.5) * volume.voxel_size[k]) for n, k in zip(low, rest, strict=True))
    top, right = (float((n - 0.5) * volume.voxel_size[k]) for n, k in zip(high, rest, strict=True))
    return plane, (left, right, bottom, top)
