"""How far our metrics are from those of cctbx and MapQ, on all entries with reference values.

    python benchmarks/reference_deviations.py                       # a table, in Markdown
    python benchmarks/reference_deviations.py --figure docs/fsc_exceptions.svg

Needs the shared data (`data/`, or CRYOREADY_DATA); numbers and functions are those of
`tests/metrics/test_reference_values.py`.
"""

import argparse
import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow" / "scripts"), str(ROOT / "tests")]

from reference_values import (  # noqa: E402
    CC,
    FSC,
    ILL_CONDITIONED,
    REFERENCE,
    VALUES,
    Q,
    computed,
    reference_curve,
    tolerance,
)

WINDOWS = {  # 1/Å, what to show of each exception
    "EMD-20755": (0.235, 0.285),
    "EMD-1044": (0.13, 0.18),
    "EMD-1461-A": (0.0, 0.15),
}
THRESHOLDS = {"05": 0.5, "0143": 0.143}


def table(folder: Path) -> str:
    """Largest and mean deviation of each metric over all entries but the exceptions."""
    lines = [
        "| metric | entries | largest | mean | tolerance |",
        "|---|---|---|---|---|",
    ]
    exceptions = []
    for metric in (*FSC, "d99_unmasked", *CC, *Q):
        reference = VALUES[metric].dropna()
        ours = pd.Series({name: computed(name, folder)[0][metric] for name in reference.index})
        off = (ours.astype(float) - reference).abs()
        odd = [name for name in reference.index if (name, metric) in ILL_CONDITIONED]
        exceptions += [
            f"| {name} | {metric} | {ours[name]:.3f} | {reference[name]:.3f} |" for name in odd
        ]
        off = off.drop(odd)
        limit = tolerance(metric, 0)
        lines.append(
            f"| `{metric}` | {len(off)} | {off.max():.3g} | {off.mean():.2g} | {limit:g} |"
        )
    lines += ["", "| exception | metric | ours | reference |", "|---|---|---|---|", *exceptions]
    return "\n".join([*lines, "", q_of_atoms(folder)])


def q_of_atoms(folder: Path) -> str:
    """Deviations atom by atom, where there is a file of them."""
    name = "EMD-30342-A"
    golden = pd.read_csv(REFERENCE / f"{name}_qscore.tsv", sep="\t", keep_default_na=False)
    q = computed(name, folder)[2]
    off = {p: np.abs(q - golden[f"q_{p}_sigma0.6"]).max() for p in ("jqscore", "mapq_2.9.7")}
    return f"Largest of {len(q)} atoms of {name}: " + ", ".join(
        f"{value:.1e} ({program})" for program, value in off.items()
    )


def draw(folder: Path, path: Path) -> None:
    """Both curves where a resolution cannot be read off to 0.02 Å, both read-offs dashed."""
    matplotlib.rcParams.update({"svg.hashsalt": "cryoready", "svg.fonttype": "none"})
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axis, (name, metric) in zip(figure.subplots(1, 3), ILL_CONDITIONED, strict=True):
        _, level, mask = metric.rsplit("_", 2)
        row, curves, _ = computed(name, folder)
        theirs, ours = reference_curve(name, mask), curves[mask]
        low, high = WINDOWS[name]
        shown = theirs[theirs.frequency.between(low - 0.01, high + 0.01)]
        kept = slice(shown.index[0], shown.index[-1] + 1)
        axis.plot(shown.frequency, shown.fsc, "o", ms=5, mfc="none", color="C0", label="cctbx")
        axis.plot(ours.frequency[kept], ours.correlation[kept], ".-C1", lw=0.8, label="cryoready")
        axis.axvline(1 / VALUES.loc[name, metric], color="C0", lw=0.8, ls="--")
        axis.axvline(1 / row[metric], color="C1", lw=0.8, ls="--")
        axis.axhline(THRESHOLDS[level], color="0.6", lw=0.8)
        axis.set(title=f"{name}, {mask}", xlabel="frequency (1/Å)", xlim=(low, high))
        axis.set_ylabel("map-model FSC")
        axis.locator_params(nbins=6)
        axis.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path, help="draw the exceptions into this file instead")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("CRYOREADY_DATA", ROOT / "data"))
    if arguments.figure:
        draw(folder, arguments.figure)
    else:
        print(table(folder))


if __name__ == "__main__":
    main()
