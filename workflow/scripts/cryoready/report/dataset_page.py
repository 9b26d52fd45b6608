"""The page of the data set: how many entries each filter left, and every pair with its picture."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cryoready.report.page import inline, render

#: What is shown of each pair: heading and decimals.
COLUMNS = {
    "boxes": ("boxes", 0),
    "cc_mask": ("CC", 2),
    "cc_mask_1A": ("CC, 1\N{NO-BREAK SPACE}Å map", 2),
    "shift": ("shift\N{NO-BREAK SPACE}(Å)", 2),
    "overlap": ("overlap", 2),
    "residues": ("residues", 0),
    "copies": ("copies", 0),
}
SPLIT_COLOURS = {"train": "#0b5fc4", "val": "#b4470a", "test": "#2f8f4e", "": "0.7"}


def write_dataset_page(
    path: Path,
    entries: pd.DataFrame,
    pairs: pd.DataFrame,
    filters: pd.DataFrame,
    *,
    counts: Mapping[str, int],
    pictures: Mapping[str, Path],
) -> None:
    """Write the page.

    Parameters
    ----------
    path
        the page; pictures are linked, relative to it.
    entries
        columns id, pdb, split, rejected_because: the data set and what was left out of it.
    pairs
        what was measured, by id.
    filters
        rows (filter, rejected, left), of the metadata and of the pairs.
    counts
        pairs wanted in each split.
    pictures
        file by id.
    """
    table = entries.merge(pairs, on="id", suffixes=("", "_measured"))
    table["resolution"] = pd.to_numeric(table["resolution"])
    table["order"] = table["split"].map({"train": 0, "val": 1, "test": 2}).fillna(3)
    table = table.sort_values("order", kind="stable").astype(object).replace({np.nan: None})
    folder = path.parent
    rows = [
        {**row, "picture": Path(os.path.relpath(pictures[row["id"]], folder)).as_posix()}
        for row in table.to_dict("records")
    ]
    there = entries["split"].value_counts()
    found = {split: int(there.get(split, 0)) for split in counts}
    short = [f"{found[s]} of {counts[s]} {s}" for s in counts if found[s] < counts[s]]
    render(
        path,
        "dataset.html",
        numbers=found | {"left out": int((entries["split"] == "").sum())},
        missing=f"Fewer pairs than wanted: {'; '.join(short)}" if short else None,
        columns=COLUMNS,
        pairs=rows,
        figures={
            "filters": inline(_funnel(filters), "entries left after each filter"),
            "spread": inline(_spread(table), "resolution, correlation and size of the pairs"),
        },
    )


def _funnel(filters: pd.DataFrame) -> Figure:
    """Bars of what each filter left, the first at the top."""
    figure = Figure(figsize=(8, 0.6 + 0.26 * len(filters)), layout="constrained")
    axes = figure.subplots()
    left = filters["left"].to_numpy()
    bars = axes.barh(np.arange(len(left)), left, color="#9db8d9", height=0.75)
    told = [f"{row.left:,} (\N{MINUS SIGN}{row.rejected:,})" for row in filters.itertuples()]
    axes.bar_label(bars, labels=told, padding=3, fontsize=9)
    axes.set_yticks(np.arange(len(left)), filters["filter"])
    axes.invert_yaxis()
    axes.set(xlabel="entries left", xscale="symlog", xlim=(0, 3 * max(left.max(), 1)))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _spread(table: pd.DataFrame) -> Figure:
    """Correlation against resolution, and boxes against residues, coloured by split."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    names = [("resolution", "cc_mask"), ("residues", "boxes")]
    labels = {"resolution": "resolution (Å)", "cc_mask": "CC near the model"}
    for axes, (x, y) in zip(panels, names, strict=True):
        for split, colour in SPLIT_COLOURS.items():
            rows = table[table["split"] == split]
            name = f"{split or 'left out'} ({len(rows)})"
            points = rows[[x, y]].astype(float)
            axes.scatter(points[x], points[y], s=14, color=colour, label=name, alpha=0.8)
        axes.set(xlabel=labels.get(x, x), ylabel=labels.get(y, y))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    return figure
