"""The HTML pages of an evaluation, one of an entry and one of all: each a single file."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from cryoready.core.volume import Volume
from cryoready.core.whole_files import written_whole
from cryoready.density.contour import matching_contour
from cryoready.metrics.evaluate import PEERS
from cryoready.report.evaluation_plots import (
    MAPS,
    OUTCOMES,
    PREDICTORS,
    chains_to_draw,
    plot_against_diagonal,
    plot_fsc,
    plot_gain_strip,
    plot_q_along_chain,
    plot_q_histogram,
    plot_support,
    to_svg,
)
from cryoready.report.plots import slice_pictures
from cryoready.report.scores import (
    BY_KEY,
    DRAWN_SCORES,
    KEY_SCORES,
    REFERENCE_SCORES,
    SCORES,
    write_number,
)

SPLIT_NOTES = {
    "test": "test: not used for training or selection",
    "val": "used for selection",
    "train": "used for training: not evidence",
}
UNFIT = ("Not judged: the model does not fit the deposited map", "none")
RESIDUE_STEP = 0.02  # of Q: a smaller change of a residue is not counted
STRIPS, CHAIN_PLOTS = 40, 12  # at most so many chains are drawn


def write_entry_page(
    path: Path,
    evaluation: Mapping[str, Any],
    *,
    curves: pd.DataFrame,
    residues: pd.DataFrame,
    chains: pd.DataFrame,
    maps: tuple[Volume, Volume],
) -> None:
    """The evaluation of one entry as pictures, then numbers; it needs no other file.

    Parameters
    ----------
    path
        the page.
    evaluation
        content of ``results/<id>_evaluation.json``.
    curves
        ``map``, ``mask``, ``frequency`` (1/Å), ``fsc``.
    residues, chains
        tables of the evaluation, without rows if there is no model.
    maps
        before and after, on one grid.
    """
    names = [name for name in ("deposited", "enhanced", *PEERS) if evaluation.get(name)]
    scores = {name: evaluation[name] for name in names}
    polymer = None if residues.empty else _polymer(residues)
    known = [s for s in SCORES if any(of.get(s.key) is not None for of in scores.values())]
    pictures: dict[str, Any] = {"fsc": _fsc_figures(evaluation, scores, curves)}
    if polymer is not None:
        expected = evaluation["expected_q"]
        histogram = plot_q_histogram(polymer, expected_q=expected)
        pictures |= {
            "where": _where(polymer, chains),
            "histogram": inline(histogram, "Histogram of Q"),
            "chains": _chain_figures(polymer, expected),
            "support": _support_figures(polymer, evaluation["support"] or []),
        }
    render(
        path,
        "entry.html",
        e=evaluation,
        scores=scores,
        names=[MAPS[name][0] for name in names],
        listed=known if polymer is None else SCORES,
        verdict=UNFIT
        if evaluation["model_fits"] is False
        else _verdict(scores["deposited"], scores["enhanced"], evaluation["resolution"]),
        dip=_dip(curves, scores["enhanced"].get("d_fsc_model_05_masked")),
        slices=_slices(evaluation["contour"], maps),
        settings=flat(evaluation["provenance"].get("settings", {})),
        built_model=flat(evaluation["built_model"] or {}),
        **dict.fromkeys(("where", "histogram", "chains", "support"), None) | pictures,
    )


def write_summary_page(path: Path, evaluations: Sequence[Mapping[str, Any]]) -> None:
    """All entries in one table, before against after, with links to their pages beside it.

    Parameters
    ----------
    path
        the page.
    evaluations
        contents of the JSON files. What was used for training or selection, and models that do
        not fit, count neither in the headline nor in the medians.
    """
    order = [None, "test", "val", "train"]
    entries = sorted(evaluations, key=lambda entry: max(order.index(entry["split"]), 1))
    evidence = [
        entry
        for entry in entries
        if entry["split"] in (None, "test") and entry["model_fits"] is not False
    ]
    medians = {name: _medians(evidence, name) for name in ("enhanced", *PEERS)}
    before, after = ({key: pair[k] for key, *pair in medians["enhanced"]} for k in (0, 1))
    render(
        path,
        "summary.html",
        entries=entries,
        evidence=evidence,
        verdict=_verdict(before, after),
        medians={name: rows for name, rows in medians.items() if any(row[3] for row in rows)},
        called={name: called for name, (called, _) in MAPS.items()},
        figures=[_diagonal(key, entries) for key in DRAWN_SCORES],
    )


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{write_number(100 * share, 0 if share >= 0.1 else 1)} %"


def render(path: Path, template: str, **content: Any) -> None:
    """Fill ``template`` and write it whole; text in HTML is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": write_number, "percent": _percent}
    environment.globals |= {"predictors": PREDICTORS, "outcomes": OUTCOMES}
    environment.globals |= {
        "reference_scores": REFERENCE_SCORES,
        "by_key": BY_KEY,
        "key_scores": KEY_SCORES,
    }
    environment.globals |= {"split_notes": SPLIT_NOTES, "residue_step": RESIDUE_STEP}
    page = environment.get_template(template).render(content)
    with written_whole(path) as part:
        part.write_text(page, encoding="utf-8")


def inline(figure: Figure, name: str) -> Markup:
    """A figure as part of a page; ``name`` says what it shows."""
    return Markup(to_svg(figure, name))  # made here; matplotlib and to_svg escape their text


def _verdict(
    before: Mapping[str, Any], after: Mapping[str, Any], resolution: float | None = None
) -> tuple[str, str]:
    """The headline and its class, from nothing but the judgements of the key scores."""
    judged = [BY_KEY[key].judge(before.get(key), after.get(key), resolution) for key in KEY_SCORES]
    better, worse, n = judged.count("better"), judged.count("worse"), len(judged) - judged.count("")
    if not n:
        return "Not judged: no key score could be computed", "none"
    if better and worse:
        return f"Mixed: better in {better} of {n} key scores, worse in {worse}", "mixed"
    if better:
        return f"Better in {better} of {n} key scores, worse in none", "better"
    if worse:
        return f"Worse in {worse} of {n} key scores, better in none", "worse"
    return f"Unchanged in all of {n} key scores", "none"


def _dip(curves: pd.DataFrame, crossing: float | None) -> str:
    """A word where the first crossing of the enhanced map's curve says too little."""
    curve = curves[(curves["map"] == "enhanced") & (curves["mask"] == "masked")]
    above = curve.loc[curve["fsc"] >= 0.5, "frequency"]
    if crossing is None and len(curve):
        return "after: never below 0.5"
    if crossing is None or above.empty or 1 / above.max() > 0.9 * crossing:
        return ""
    return f"after: a dip; below 0.5 for good at {1 / above.max():.2f} Å"


def _polymer(residues: pd.DataFrame) -> pd.DataFrame:
    """The residues of chains, or all if nothing is a chain; names of chains as text."""
    residues = residues.assign(chain=residues["chain"].fillna("").astype(str))
    chosen = residues[residues["polymer"].isin(["protein", "nucleic"])]
    return chosen if len(chosen) else residues


def _where(residues: pd.DataFrame, chains: pd.DataFrame) -> dict[str, Any]:
    """Where Q rose and fell: counts, one row per chain, the residues that changed most."""
    parts = (residues[k].astype(str) for k in ("chain", "residue_name", "residue_number"))
    names = [" ".join(part) for part in zip(*parts, strict=True)]
    gain = residues["q_enhanced"] - residues["q_deposited"]
    changed = residues.assign(gain=gain, residue=names).dropna(subset=["gain"])
    groups = dict(list(changed.groupby("chain", sort=False)))
    rows: list[dict[Any, Any]] = []
    for row in chains.assign(chain=chains["chain"].fillna("").astype(str)).to_dict("records"):
        of_chain = groups.get(row["chain"], changed[:0])
        strip = plot_gain_strip(of_chain) if len(of_chain) and len(rows) < STRIPS else None
        name = f"Change of Q along chain {row['chain']}"
        rows.append(row | _counts(of_chain) | {"strip": strip and inline(strip, name)})
    known = [row for row in rows if np.isfinite(row["q_enhanced"] - row["q_deposited"])]
    known.sort(key=lambda row: row["q_enhanced"] - row["q_deposited"])
    return _counts(changed) | {
        "chains": rows,
        "worst_and_best": (known[0], known[-1]) if len(known) > 1 else None,
        "least": changed[changed["gain"] < 0].nsmallest(5, "gain").to_dict("records"),
        "most": changed[changed["gain"] > 0].nlargest(5, "gain").to_dict("records"),
    }


def _counts(residues: pd.DataFrame) -> dict[str, int]:
    """How many residues there are, and of how many Q rose or fell."""
    gain = residues["gain"]
    up, down = int((gain > RESIDUE_STEP).sum()), int((gain < -RESIDUE_STEP).sum())
    return {"n": len(residues), "up": up, "down": down}


def _slices(contour: float, maps: tuple[Volume, Volume]) -> dict[str, Any]:
    """The slices as data URIs, and the contours of equal volume that outline them."""
    before, after = maps
    first, second = contour, matching_contour(before.data, contour, after.data)
    pictures = slice_pictures(before, after, contours=(first, second))
    return {
        "contours": (first, second),
        "pictures": [(place, data_uri(one), data_uri(two)) for place, one, two in pictures],
    }


def data_uri(png: bytes) -> str:
    """A picture as part of a page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _fsc_figures(
    evaluation: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], curves: pd.DataFrame
) -> dict[str, Markup]:
    """FSC of the maps with the model, masked and unmasked, and of the half-maps."""
    wanted: dict[str, dict[str, dict[float, Any]]] = {
        mask: {
            name: {
                0.5: of_map.get(f"d_fsc_model_05_{mask}"),
                0.143: of_map.get(f"d_fsc_model_0143_{mask}"),
            }
            for name, of_map in scores.items()
        }
        for mask in ("masked", "unmasked")
    }
    halves = evaluation["half_maps"] or {}
    wanted["half-maps"] = {
        "half_maps": {0.143: halves.get("d_fsc_0143_masked")},
        "enhanced_half_maps": {0.143: halves.get("enhanced_d_fsc_0143_masked")},
    }
    figures = {}
    for kind, crossings in wanted.items():
        mask = "masked" if kind == "half-maps" else kind
        drawn = set(curves.loc[curves["mask"] == mask, "map"])
        if present := {name: of_map for name, of_map in crossings.items() if name in drawn}:
            figure = plot_fsc(curves, present, mask=mask, resolution=evaluation["resolution"])
            figures[kind] = inline(figure, f"FSC, {kind}")
    return figures


def _chain_figures(residues: pd.DataFrame, expected_q: float | None) -> list[Markup]:
    groups = dict(list(residues.groupby("chain", sort=False)))
    return [
        inline(plot_q_along_chain(groups[chain], expected_q=expected_q), f"Q along chain {chain}")
        for chain in chains_to_draw(residues, CHAIN_PLOTS)
    ]


def _support_figures(
    residues: pd.DataFrame, support: Sequence[Mapping[str, Any]]
) -> dict[str, Markup]:
    """The gain against the local resolution, or the Q of the input without it, and the B-factor."""
    ranks = {row["predictor"]: row for row in support if row["outcome"] == "gain"}
    data = "local_resolution" if "local_resolution" in residues else "q_deposited"
    figures = {}
    for predictor in (data, "b_iso"):
        if ranks.get(predictor, {}).get("rho") is not None:
            figure = plot_support(residues, predictor, ranks[predictor])
            name = f"Gain in local correlation against {PREDICTORS[predictor]}"
            figures[predictor] = inline(figure, name)
    return figures


def flat(nested: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as pairs of a dotted name and a value."""
    pairs: list[tuple[str, str]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{before}{name}.")
        else:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            pairs.append((f"{before}{name}", "–" if value is None else text))
    return pairs


def _medians(
    entries: Iterable[Mapping[str, Any]], name: str
) -> list[tuple[str, float | None, float | None, int, int]]:
    """Key score, its medians in the deposited map and in map ``name``, entries, improved ones."""
    rows = []
    for key in KEY_SCORES:
        pairs = [
            tuple(
                BY_KEY[key].within((e.get(which) or {}).get(key), e["resolution"])
                for which in ("deposited", name)
            )
            for e in entries
        ]
        known = [pair for pair in pairs if None not in pair]
        better = sum(BY_KEY[key].judge(*pair) == "better" for pair in known)
        before, after = (median(x) for x in zip(*known, strict=True)) if known else (None, None)
        rows.append((key, before, after, len(known), better))
    return rows


def _diagonal(key: str, entries: Sequence[Mapping[str, Any]]) -> Markup:
    score = BY_KEY[key]
    columns = {
        "before": [entry["deposited"].get(key) for entry in entries],
        "after": [entry["enhanced"].get(key) for entry in entries],
        "split": [entry["split"] for entry in entries],
    }
    label = KEY_SCORES[key] + (f" ({score.unit})" if score.unit else "")
    lower = score.better == "lower"
    figure = plot_against_diagonal(pd.DataFrame(columns), label, lower_is_better=lower)
    return inline(figure, f"{label}, after against before")
