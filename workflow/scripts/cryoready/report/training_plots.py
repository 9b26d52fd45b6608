"""The course of training runs turned into figures, narrow enough for a phone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryoready.report.evaluation_plots import MAPS, SIZE, plain, styled
from cryoready.training.record import Record
from cryoready.training.variants import PREFIX

COLOURS = ("#0b5fc4", "#c8500a", "#1b7f5c", "#7a3e9d", "#a8780b", "#c2185b")
STROKES = {"-": "solid", "--": "dashed", ":": "dotted"}  # of matplotlib: of CSS
ABLATION = "#aab2bb"
COURSES = {
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "score": "score on the validation maps",
    "learning_rate": "learning rate",
    "crops_per_second": "crops per second",
}
COLUMNS = 2  # of small multiples

Style = Mapping[str, Any]


def line_styles(names: Sequence[str]) -> dict[str, Style]:
    """How each run is drawn: runs apart without colour, those of an ablation all grey."""
    own = [name for name in names if not name.startswith(PREFIX)]
    styles: dict[str, Style] = {
        name: {"color": ABLATION, "ls": "-", "lw": 0.8, "zorder": 1.5} for name in names
    }
    strokes = list(STROKES)
    for k, name in enumerate(own):
        stroke = strokes[k // len(COLOURS) % len(strokes)]
        styles[name] = {"color": COLOURS[k % len(COLOURS)], "ls": stroke, "lw": 1.5, "zorder": 2.5}
    return styles


@styled
def plot_course(runs: Sequence[Record], column: str, styles: Mapping[str, Style]) -> Figure:
    """A column of the histories against the epoch, a ring at the best epoch of each run."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for run in runs:
        history = run.history
        history = history.assign(crops_per_second=history["samples"] / history["seconds"])
        _draw(axes, history[["epoch", column]], run.best, styles[run.name])
    axes.set(xlabel="epoch", title=COURSES[column])
    if column == "learning_rate":
        axes.set_yscale("log")
    return figure


@styled
def plot_validation(
    runs: Sequence[Record], key: str, label: str, styles: Mapping[str, Style]
) -> Figure:
    """A score of every validation map against the epoch: the deposited map is the level line."""
    ids = sorted({entry for run in runs for entry in run.validation["id"]})
    columns = min(COLUMNS, len(ids))
    rows = math.ceil(len(ids) / columns)
    figure = Figure(figsize=(SIZE[0], 1.6 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel, entry in zip(panels, ids, strict=False):
        for run in runs:
            of_entry = run.validation[run.validation["id"] == entry]
            deposited = of_entry.loc[of_entry["epoch"] == 0, key]
            if deposited.notna().any():
                panel.axhline(deposited.iloc[0], **MAPS["deposited"][1])
            course = of_entry.loc[of_entry["epoch"] > 0, ["epoch", key]]
            _draw(panel, course, run.best, styles[run.name])
        panel.set_title(plain(entry), fontsize=9)
    for panel in list(figure.axes)[len(ids) :]:
        panel.set_axis_off()
    figure.suptitle(label, fontsize=10)
    figure.supxlabel("epoch", fontsize=9)
    return figure


def _draw(axes: Axes, course: pd.DataFrame, best: int, style: Style) -> None:
    """A line through the known values, and a ring at the best epoch."""
    known = course.dropna()
    epochs, values = known["epoch"].to_numpy(), known.iloc[:, 1].to_numpy(dtype=float)
    axes.plot(epochs, values, marker="." if len(known) < 3 else "", **style)
    at = epochs == best
    axes.plot(epochs[at], values[at], "o", mfc="none", ms=6, color=style["color"])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
