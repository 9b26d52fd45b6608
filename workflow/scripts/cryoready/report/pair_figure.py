"""A picture of a training pair: does the target lie where the map has density?"""

import io
import textwrap
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from cryoready.core.volume import Volume
from cryoready.core.whole_files import written_whole
from cryoready.report.plots import brightness, draw_outline, draw_slice, label_axes, shown_region

OUTLINE = 0.15  # of the target, which runs from 0 to 1: about its molecular surface
LINE_CHARACTERS = 130  # of a title
COLOURS = 64


def plot_pair(pair_map: Volume, target: Volume, *, title: str, path: Path) -> None:
    """Three slices of the map in grey, where they cut most of the target, and its outline on them.

    Parameters
    ----------
    pair_map, target
        `dataset.prepare.Pair`: intensities 0-1 on one grid.
    title
        over the figure; broken into lines.
    path
        PNG.
    """
    region = shown_region(pair_map, target, OUTLINE)
    bright = brightness(pair_map, OUTLINE)
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    figure.suptitle(textwrap.fill(title, LINE_CHARACTERS), fontsize=10)
    for axis, panel in enumerate(figure.subplots(1, 3)):
        draw_slice(panel, pair_map, axis, region, bright=bright)
        draw_outline(panel, target, axis, region, contour=OUTLINE)
        label_axes(panel, target, axis, region)
    _write(figure, path)


def plot_no_pair(entry_id: str, reason: str, *, path: Path) -> None:
    """In place of the picture of a pair that could not be made: why."""
    figure = Figure(figsize=(10.5, 1.2))
    told = textwrap.fill(f"{entry_id}: {reason}", LINE_CHARACTERS)
    figure.text(0.02, 0.5, told, va="center", fontsize=10)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    """As PNG of few colours: a third of the size, for there are hundreds."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    with written_whole(path) as part:
        Image.open(file).convert("RGB").quantize(COLOURS).save(part, optimize=True)
