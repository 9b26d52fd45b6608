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
#: Of the groups of pairs; "surplus" are good ones that were not needed.
COLOURS = {
    **{"train": "#0b5fc4", "val": "#b4470a", "test": "#2f8f4e"},
    **{"surplus": "#9db8d9", "left out": "0.5"},
}


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
    surplus = table["rejected_because"].str.startswith("not needed")
    table["group"] = table["split"].mask(table["split"] == "", "left out").mask(surplus, "surplus")
    order = table["group"].map({group: k for k, group in enumerate(COLOURS)})
    table = table.iloc[order.argsort(kind="stable")].astype(object).replace({np.nan: None})
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
        numbers=table["group"].value_counts().reindex(list(COLOURS), fill_value=0).to_dict(),
        missing=f"Fewer pairs than wanted: {'; '.join(short)}" if short else None,
        columns=COLUMNS,
        pairs=rows,
        figures={
            "filters": inline(_funnel(filters), "entries left after each filter"),
            "spread": inline(_spread(table), "resolution, correlation and size of the pairs"),
        },
    )


def _funnel(filters: pd.DataFrame) -> Figure:
    """Bars of what each filter left that rejected any, the first at the top."""
    entries = filters[["rejected", "left"]].iloc[0].sum()
    catalogue = pd.DataFrame([{"filter": "catalogue", "rejected": 0, "left": entries}])
    filters = pd.concat([catalogue, filters[filters["rejected"] > 0]], ignore_index=True)
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
        for group, colour in COLOURS.items():
            rows = table[table["group"] == group]
            name = f"{group} ({len(rows)})"
            points = rows[[x, y]].astype(float)
            axes.scatter(points[x], points[y], s=14, color=colour, label=name, alpha=0.8)
        axes.set(xlabel=labels.get(x, x), ylabel=labels.get(y, y))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    return figure
