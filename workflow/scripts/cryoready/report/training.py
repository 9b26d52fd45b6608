"""All training runs on one page: their courses, what they make of the validation maps, samples."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd

from cryoready.core.volume import FloatArray
from cryoready.core.whole_files import written_whole
from cryoready.report.evaluation import jsonable
from cryoready.report.page import data_uri, inline, render
from cryoready.report.scores import BY_KEY
from cryoready.report.training_plots import (
    COURSES,
    STROKES,
    Style,
    line_styles,
    plot_course,
    plot_validation,
)
from cryoready.training.record import RATIOS, SCORES, Record
from cryoready.training.samples import Slices
from cryoready.training.variants import PREFIX

ABLATIONS = "runs of the ablation"
NO_METADATA: dict[str, Any] = {"Software": None}  # the same slice gives the same picture


def write_training_report(
    path: Path,
    runs: Sequence[Record],
    *,
    samples: Mapping[str, Slices],
    ablation: pd.DataFrame | None,
    resolutions: Mapping[str, float | None],
) -> None:
    """The page that compares ``runs``; it needs no other file.

    Parameters
    ----------
    path
        the page; what it shows in numbers goes to ``.json`` beside it.
    runs
        in the order in which they are to be shown; those of an ablation come last.
    samples
        by run.
    ablation
        `training.ablation.ablation_table`, if there is one.
    resolutions
        reported, in Å, of the validation maps: finer agreement does not count.
    """
    runs = sorted(runs, key=lambda run: run.name.startswith(PREFIX))
    styles = line_styles([run.name for run in runs])
    with written_whole(path.with_suffix(".json")) as part:
        part.write_text(json.dumps(numbers(runs), indent=1) + "\n", encoding="utf-8")
    drawn = [key for key in SCORES if any(run.validation[key].notna().any() for run in runs)]
    render(
        path,
        "training.html",
        runs=runs,
        own=[run for run in runs if not run.name.startswith(PREFIX)],
        rows={run.name: (run.summary, shares(run, resolutions)) for run in runs},
        tables={run.name: run.comparison.to_dict("records") for run in runs},
        keys=_legend(styles),
        courses=[
            inline(plot_course(runs, column, styles), label) for column, label in COURSES.items()
        ],
        multiples=[
            inline(plot_validation(runs, key, _label(key), styles), f"{_label(key)} by epoch")
            for key in drawn
        ],
        samples=_sample_rows(samples),
        ablation=[] if ablation is None else ablation.to_dict("records"),
        resolutions=resolutions,
        scores=[BY_KEY[key] for key in SCORES],
        ratios=RATIOS,
    )


def numbers(runs: Sequence[Record]) -> list[dict[str, Any]]:
    """What the page shows of each run, ready for JSON: unknown values are None."""
    return [
        jsonable({"run": run.name, **run.summary, "entries": run.comparison.to_dict("records")})
        for run in runs
    ]


def shares(run: Record, resolutions: Mapping[str, float | None]) -> dict[str, tuple[int, int, int]]:
    """Of each score: in how many maps the best epoch is better, worse, and how many are known."""
    found = {}
    for key in SCORES:
        judged = [
            BY_KEY[key].judge(
                _number(row[f"{key}_deposited"]),
                _number(row[f"{key}_enhanced"]),
                resolutions.get(row["id"]),
            )
            for row in run.comparison.to_dict("records")
        ]
        known = len(judged) - judged.count("")
        found[key] = (judged.count("better"), judged.count("worse"), known)
    return found


def _legend(styles: Mapping[str, Style]) -> list[tuple[str, str, str]]:
    """Colour, stroke in CSS, and name of each kind of line."""
    names = {PREFIX if name.startswith(PREFIX) else name: name for name in styles}
    return [
        (styles[name]["color"], STROKES[styles[name]["ls"]], ABLATIONS if kind == PREFIX else name)
        for kind, name in names.items()
    ]


def _label(key: str) -> str:
    score = BY_KEY[key]
    return f"{score.label} (Å)" if score.unit else score.label


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _sample_rows(samples: Mapping[str, Slices]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each crop: the input, what every run makes of it, and the target, as pictures."""
    crops: dict[str, list[tuple[str, str]]] = {}
    targets: dict[str, str] = {}
    for run, of_run in samples.items():
        for entry, (density, prediction, target) in zip(*of_run, strict=True):
            row = crops.setdefault(entry, [("input", _picture(density, density))])
            row.append((run, _picture(prediction, target)))
            targets[entry] = _picture(target, target)
    return [(entry, [*row, ("target", targets[entry])]) for entry, row in crops.items()]


def _picture(plane: FloatArray, white: FloatArray) -> str:
    """A slice as it is, a pixel a voxel: 0 is black, the 99.5th percentile of ``white`` white."""
    bright = max(float(np.percentile(white, 99.5)), 1e-6)
    file = io.BytesIO()
    style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": bright, "origin": "lower"}
    matplotlib.image.imsave(file, plane, format="png", **style, metadata=NO_METADATA)
    return data_uri(file.getvalue())
