"""The whole evaluation of one entry: scores of every map, and what they are worth."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import group_mean
from cryoready.core.rigid import IDENTITY
from cryoready.core.volume import Grid, Volume
from cryoready.density.contour import matching_contour
from cryoready.density.masks import mask_from_contour, soften
from cryoready.density.resample import resample
from cryoready.metrics.chain_comparison import chain_comparison
from cryoready.metrics.half_maps import half_map_curves
from cryoready.metrics.local_correlation import residue_values
from cryoready.metrics.position import check_position
from cryoready.metrics.qscore import SIGMA, expected_q
from cryoready.metrics.reference import against_map, against_structure
from cryoready.metrics.score import (
    MASK_RADIUS_RATIO,
    MapScores,
    Model,
    Placements,
    map_d99,
    score,
    unscored,
)
from cryoready.metrics.support import rank_correlations
from cryoready.metrics.suppressed import Suppressed, suppressed_density

BEFORE, AFTER = "deposited", "enhanced"
PEERS = ("auto_sharpened", "deepemhancer", "locscale", "emready")
NYQUIST_TOLERANCE = 0.97  # reported resolutions are rounded
LEAST_Q, LEAST_CC = 0.05, 0.2  # of the deposited map; a wrong model has about 0 and 0.1
MOSTLY = 0.5  # share of the atoms of a ligand that lost their density
FAR_BEYOND = 0.8  # FSC-0.143 / resolution from which agreement is called prior, not data


@dataclass(frozen=True, eq=False)
class Subject:
    """What there is of an entry.

    Parameters
    ----------
    maps
        by name: "deposited" and "enhanced", and peers if there are any.
    contour
        display level of the deposited map.
    resolution
        Å, as reported.
    atoms
        the model.
    half_maps, enhanced_half_maps
        pairs.
    local_resolution
        Å, from the half-maps.
    reference_map, reference_atoms
        of the same molecule, better known.
    built
        what another program built into the enhanced map.
    """

    maps: Mapping[str, Volume]
    contour: float
    resolution: float | None = None
    atoms: Atoms | None = None
    half_maps: tuple[Volume, Volume] | None = None
    enhanced_half_maps: tuple[Volume, Volume] | None = None
    local_resolution: Volume | None = None
    reference_map: Volume | None = None
    reference_atoms: Atoms | None = None
    built: Atoms | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of it.

    Parameters
    ----------
    summary
        for the JSON: plain values, None where something cannot be computed.
    curves
        FSC: map, mask, frequency (1/Å), fsc.
    atoms, residues, chains
        tables of the heavy atoms; without rows if there is no model.
    """

    summary: dict[str, Any]
    curves: pd.DataFrame
    atoms: pd.DataFrame
    residues: pd.DataFrame
    chains: pd.DataFrame


def evaluate(
    subject: Subject,
    *,
    sigma: float = SIGMA,
    local_radius: float = 5.0,
    report: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate the maps of an entry, each on the grid on which it lies.

    Parameters
    ----------
    subject
        maps and what else there is.
    sigma
        Å, of the Q-score.
    local_radius
        Å, of the window of the local correlation.
    report
        receives a line about each part.

    Raises
    ------
    CryoreadyError
        if the model is elsewhere, has no heavy atoms or an unknown element; if the resolution is
        finer than the voxels can hold; if half-maps lie on another grid, or a reference does not
        fit.
    """
    before, resolution = subject.maps[BEFORE], subject.resolution
    _check_resolution(resolution, before.grid)
    options: dict[str, Any] = {"sigma": sigma, "local_radius": local_radius}
    mask_radius = MASK_RADIUS_RATIO * (resolution or map_d99(before))
    placements, warnings = None, []
    if subject.atoms is not None:
        placements = Placements(Model.of(subject.atoms), resolution, mask_radius)
        factors = placements.on(before.grid).factors
        heavy = placements.model.heavy
        warnings += check_position(heavy, before, factors, resolution=resolution)

    scores: dict[str, MapScores] = {}
    rows: dict[str, dict[str, float | None]] = {}
    for name, volume in subject.maps.items():
        report(f"score the map: {name.replace('_', ' ')}")
        if placements is not None:
            scores[name] = score(volume, placements.on(volume.grid), **options)
        row = scores[name].row if placements is not None else unscored(volume)
        rows[name] = row | {"contour": _contour(subject, volume)}
    curves = [
        curve.table(name, mask) for name, of in scores.items() for mask, curve in of.curves.items()
    ]
    residues, chains, atoms = _tables(scores, placements, subject.local_resolution)
    half_maps, halves = _half_maps(subject, placements, mask_radius)
    suppressed = _suppressed(subject)
    known = resolution is not None and np.isclose(sigma, SIGMA)
    summary: dict[str, Any] = {
        "model_fits": _fits(rows[BEFORE]),
        "expected_q": expected_q(resolution) if resolution is not None and known else None,
        **rows,
        "half_maps": half_maps,
        "support": _support(residues),
        "reference": _reference(subject, placements, mask_radius, options),
        "built_model": _built_model(subject),
        "suppressed": None if suppressed is None else asdict(suppressed),
    }
    summary["warnings"] = warnings + _warnings(subject, summary, scores)
    tables = [*curves, *halves] or [pd.DataFrame(columns=["map", "mask", "frequency", "fsc"])]
    table = pd.concat(tables, ignore_index=True)
    return Evaluation(summary, table, atoms, residues, chains)


def _check_resolution(resolution: float | None, grid: Grid) -> None:
    voxel_size = float(grid.voxel_size.max())
    if resolution is not None and resolution < NYQUIST_TOLERANCE * 2 * voxel_size:
        raise CryoreadyError(
            f"resolution {resolution:g} Å is finer than the {2 * voxel_size:g} Å that voxels of "
            f"{voxel_size:g} Å can hold: put the column resolution or voxel_size of the sheet right"
        )


def _fits(row: Mapping[str, float | None]) -> bool | None:
    """Whether the deposited map knows anything of the model; None without one."""
    q, cc = row["q_mean"], row["cc_mask"]
    return None if q is None else q >= LEAST_Q and (cc is None or cc >= LEAST_CC)


def _contour(subject: Subject, volume: Volume) -> float:
    """The level of ``volume`` that encloses the volume of the contour of the deposited map."""
    before = subject.maps[BEFORE]
    if volume is before:
        return subject.contour
    return matching_contour(before.data, subject.contour, resample(volume, before.grid).data)


def _tables(
    scores: Mapping[str, MapScores], placements: Placements | None, resolution: Volume | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Residues, chains and atoms with one column for each map and score."""
    place = ("chain", "residue_number", "insertion_code", "residue_name")
    if placements is None:
        return (pd.DataFrame(columns=place),) * 3
    model = placements.model
    heavy, first = model.heavy, model.first
    atoms = pd.DataFrame(
        {column: getattr(heavy, column) for column in (*place, "name", "altloc", "element")}
    )
    residues = pd.DataFrame({c: getattr(heavy, c)[first] for c in (*place, "polymer")})
    residues["b_iso"] = group_mean(heavy.b_iso, model.residue)
    residues["n_atoms"] = np.bincount(model.residue)
    chains = pd.DataFrame({"chain": np.unique(heavy.chain), "n_atoms": np.bincount(model.chain)})
    for name, of in scores.items():
        atoms[f"q_{name}"] = of.q
        residues[f"q_{name}"] = group_mean(of.q, model.residue)
        chains[f"q_{name}"] = group_mean(of.q, model.chain)
        if of.residue_cc is not None:
            residues[f"cc_{name}"] = of.residue_cc
            residues[f"local_cc_{name}"] = of.local_cc
            chains[f"cc_{name}"] = of.chain_cc
    if resolution is not None:
        residues["local_resolution"] = residue_values(resolution.data, resolution.grid, heavy)
    return residues, chains, atoms


def _half_maps(
    subject: Subject, placements: Placements | None, mask_radius: float
) -> tuple[dict[str, Any] | None, list[pd.DataFrame]]:
    """The part of the half-maps; without a model the mask is the contour with a soft edge."""
    if subject.half_maps is None:
        return None, []
    before = subject.maps[BEFORE]
    if placements is not None:
        soft = placements.on(before.grid).soft
    else:
        inside = mask_from_contour(before, subject.contour)
        soft = soften(inside, before.voxel_size, mask_radius)
    row, tables = half_map_curves(subject.half_maps, subject.enhanced_half_maps, soft, before.grid)
    row["mask"] = "contour" if placements is None else "model"
    row["local_resolution"] = None
    if subject.local_resolution is not None:
        inside = soft > soft.max() / 2
        low, median, high = np.percentile(subject.local_resolution.data[inside], (10, 50, 90))
        row["local_resolution"] = {
            "percentile_10": float(low),
            "median": float(median),
            "percentile_90": float(high),
        }
    return row, tables


def _reference(
    subject: Subject,
    placements: Placements | None,
    mask_radius: float,
    options: Mapping[str, float],
) -> dict[str, Any] | None:
    """The part of the better known structure and map."""
    atoms, volume = subject.reference_atoms, subject.reference_map
    maps = {name: subject.maps[name] for name in (BEFORE, AFTER)}
    before = maps[BEFORE]
    result: dict[str, Any] = {}
    start = IDENTITY
    if atoms is not None:
        result, start = against_structure(
            maps,
            atoms,
            subject.atoms,
            resolution=subject.resolution,
            mask_radius=mask_radius,
            **options,
        )
    if volume is not None:
        soft = None if placements is None else placements.on(before.grid).soft
        found = against_map(maps, volume, before, soft, start=start)
        rows = {name: result.get(name, {}) | found[name] for name in maps}
        result |= found | rows
    return result or None


def _support(residues: pd.DataFrame) -> list[dict[str, Any]] | None:
    """Rank correlations of the local correlation with what the data support."""
    if f"local_cc_{AFTER}" not in residues:
        return None
    polymer = residues[residues["polymer"] != ""]
    return [asdict(row) for row in rank_correlations(polymer)]


def _built_model(subject: Subject) -> dict[str, Any] | None:
    """How much of the deposited model another program built."""
    if subject.built is None or subject.atoms is None:
        return None
    return asdict(chain_comparison(subject.built, subject.atoms))


def _suppressed(subject: Subject) -> Suppressed | None:
    """What the enhanced map lost; None where the contour shows nothing, or everything."""
    before = subject.maps[BEFORE]
    if not 0 < subject.contour <= before.data.max():
        return None
    after = resample(subject.maps[AFTER], before.grid)
    contours = subject.contour, matching_contour(before.data, subject.contour, after.data)
    return suppressed_density(before, after, contours=contours, atoms=subject.atoms)


def _warnings(
    subject: Subject, summary: Mapping[str, Any], scores: Mapping[str, MapScores]
) -> list[str]:
    """What a reader of the scores has to know."""
    lines = []
    if subject.atoms is None:
        lines.append("there is no model: what needs one is left out")
    if subject.resolution is None:
        lines.append(
            "the resolution is not known: correlations, the FSC inside it and the expected Q are "
            "left out; give it in the column resolution of the sheet"
        )
    if summary["model_fits"] is False:
        lines.append(
            "the model does not fit the deposited map: no score against it says anything about "
            "the maps; is it the model of this map?"
        )
    ratio = summary[AFTER]["fsc_0143_ratio"]
    if ratio is not None and ratio < FAR_BEYOND:
        lines.append(
            f"the enhanced map agrees with the model to {ratio:.2f} × the reported resolution: "
            "what lies beyond the data is prior knowledge of the network, not measurement"
        )
    never_falls = AFTER in scores and summary[AFTER]["d_fsc_model_0143_masked"] is None
    if never_falls and np.isfinite(scores[AFTER].curves["masked"].correlation).all():
        lines.append(
            "the enhanced map agrees with the model to the finest spacing of its grid: what lies "
            "beyond the data is prior knowledge of the network, not measurement"
        )
    if summary["suppressed"] is None:
        lines.append(
            f"the contour {subject.contour:g} encloses nothing, or everything: what the network "
            "suppressed is left out; give a positive contour in the sheet"
        )
        return lines
    molecules = summary["suppressed"]["small_molecules"]
    lost = [item["residue"] for item in molecules if item["suppressed"] > MOSTLY]
    if lost:
        names = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        lines.append(
            f"the enhanced map lost most of {len(lost)} of {len(molecules)} ligands, glycans or "
            f"ions: {names}"
        )
    return lines
