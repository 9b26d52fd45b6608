"""Files of an entry -> what is evaluated; the evaluation -> JSON and tables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cryoready import __version__
from cryoready.core.atoms import Atoms
from cryoready.core.volume import Volume
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.dataset.metadata import Metadata, read_metadata, reported_resolution
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.evaluate import AFTER, BEFORE, PEERS, Evaluation, Subject

TABLES = ("atoms", "residues", "chains")
TEXT = dict.fromkeys(("chain", "insertion_code", "residue_name", "name", "altloc"), str)
# Of Python with its libraries, a voxel and an atom; measured by benchmarks/evaluation.py sizes
BYTES, BYTES_PER_VOXEL, BYTES_PER_ATOM = 0.2e9, 120, 15_000
SECONDS_PER_VOXEL, SECONDS_PER_ATOM = 7e-7, 2.6e-4  # of one map on two cores


@dataclass(frozen=True)
class Facts:
    """What the files say about an entry besides maps and models.

    Parameters
    ----------
    card
        of the enhanced map.
    metadata
        of the archive.
    built
        what came of building a model, if that was asked for.
    """

    card: Mapping[str, Any]
    metadata: Metadata
    built: Mapping[str, Any]


def read_subject(files: Mapping[str, str], settings: Mapping[str, Any]) -> tuple[Subject, Facts]:
    """Read everything of an entry that is evaluated.

    Parameters
    ----------
    files
        paths by role: ``map``, ``enhanced``, ``card``; optional ``model``, ``metadata``,
        ``half_map_1``, ``half_map_2``, ``enhanced_half_map_1``, ``enhanced_half_map_2``,
        ``local_resolution``, ``reference_map``, ``reference_model``, ``built_model``,
        ``built_card`` and ``<peer>_map``.
    settings
        ``entry`` (cells of the sheet: ``resolution``, ``voxel_size``), ``crop`` (Å or None).

    Raises
    ------
    CryoreadyError
        if a file cannot be read.
    """
    entry = settings["entry"]
    card = json.loads(Path(files["card"]).read_text(encoding="utf-8"))
    metadata = read_metadata(Path(files["metadata"])) if "metadata" in files else Metadata()
    built = json.loads(Path(files["built_card"]).read_text()) if "built_card" in files else {}
    atoms = _model(files.get("model"))

    def volume(role: str) -> Volume | None:
        """The deposited map and its halves share the voxel size of the sheet."""
        if role not in files:
            return None
        own = role == "map" or role.startswith("half_map")
        read = read_map(files[role], voxel_size=entry["voxel_size"] if own else None)
        crop = settings["crop"] if atoms is not None else None
        return read if crop is None or atoms is None else read.around(atoms.coords, crop)

    roles = {BEFORE: "map", AFTER: "enhanced", **{peer: f"{peer}_map" for peer in PEERS}}
    maps = {name: found for name, role in roles.items() if (found := volume(role)) is not None}
    subject = Subject(
        maps=maps,
        contour=card["contour"]["input"],
        resolution=reported_resolution(entry["resolution"], files.get("metadata")),
        atoms=atoms,
        half_maps=_pair(volume("half_map_1"), volume("half_map_2")),
        enhanced_half_maps=_pair(volume("enhanced_half_map_1"), volume("enhanced_half_map_2")),
        local_resolution=volume("local_resolution"),
        reference_map=volume("reference_map"),
        reference_atoms=_model(files.get("reference_model")),
        built=_model(files.get("built_model") or built.get("model")),
    )
    return subject, Facts(card, metadata, built)


def estimate(subject: Subject) -> str:
    """What the evaluation needs, as one line."""
    before = subject.maps[BEFORE]
    atoms = 0 if subject.atoms is None else len(subject.atoms)
    size = BYTES + before.data.size * BYTES_PER_VOXEL + atoms * BYTES_PER_ATOM
    seconds = before.data.size * SECONDS_PER_VOXEL + atoms * SECONDS_PER_ATOM
    return (
        f"{'×'.join(map(str, before.data.shape[::-1]))} voxels, {atoms} atoms, "
        f"{len(subject.maps)} maps; needs about {size / 1e9:.1f} GB and "
        f"{max(1, len(subject.maps) * seconds):.0f} s"
    )


def write_evaluation(
    evaluation: Evaluation,
    subject: Subject,
    facts: Facts,
    files: Mapping[str, str],
    settings: Mapping[str, Any],
    to: Mapping[str, str],
) -> str:
    """Write JSON (``to["summary"]``) and tables; returns the line that sums them up.

    The keys are described in docs/metrics.md; what cannot be computed is null.
    """
    before = subject.maps[BEFORE]
    contour = facts.card["contour"]
    summary = {
        "id": settings["id"],
        "title": facts.metadata.title,
        "split": settings["split"],
        "resolution": subject.resolution,
        "resolution_from": None if subject.resolution is None else settings["resolution_from"],
        "weights": facts.card["weights"]["name"],
        "contour": subject.contour,
        "contour_from": contour["from"],
        "shape": list(before.data.shape),
        "voxel_size": before.voxel_size.tolist(),
        **evaluation.summary,
        "left_out": settings["left_out"],
        "provenance": {
            "version": __version__,
            "weights_sha256": facts.card["weights"]["sha256"],
            "inputs": {
                role: {"file": file, "sha256": file_sha256(file)}
                for role, file in sorted(files.items())
            },
            "settings": settings,
        },
    }
    if summary["reference"]:
        names = {role: files.get(f"reference_{role}") for role in ("map", "model")}
        unknown = dict.fromkeys(("rmsd", "n_matched", "identity", "correlation"))
        summary["reference"] = names | unknown | summary["reference"]
    if facts.built:
        told = {key: facts.built[key] for key in ("program", "version", "reason", "seconds")}
        summary["built_model"] = told | (summary["built_model"] or {})
    _write_tables(evaluation, to)
    with written_whole(Path(to["summary"])) as part:
        text = json.dumps(jsonable(summary), indent=2, ensure_ascii=False, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")
    return _headline(summary)


def read_table(path: str | Path) -> pd.DataFrame:
    """A table of an evaluation, without rows if there is no model. A chain may be called NA."""
    table = pd.read_csv(path, sep="\t", dtype=TEXT, keep_default_na=False, na_values=[""])
    texts = [column for column in TEXT if column in table]
    table[texts] = table[texts].fillna("")
    return table


def summary_table(evaluations: list[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each entry and map: id, split, resolution, map and all its scores."""
    rows = [
        {"id": e["id"], "split": e["split"], "resolution": e["resolution"], "map": name, **e[name]}
        for e in evaluations
        for name in (BEFORE, AFTER, *PEERS)
        if name in e
    ]
    return pd.DataFrame(rows)


def _model(path: str | None) -> Atoms | None:
    return None if path is None else read_model(path)


def _pair(one: Volume | None, two: Volume | None) -> tuple[Volume, Volume] | None:
    return None if one is None or two is None else (one, two)


def _write_tables(evaluation: Evaluation, to: Mapping[str, str]) -> None:
    tables = {"curves": evaluation.curves} | {name: getattr(evaluation, name) for name in TABLES}
    for name, table in tables.items():
        with written_whole(Path(to[name])) as part:
            table.to_csv(part, sep="\t", index=False, float_format="%.6g")


def jsonable(value: Any) -> Any:
    """The same with what JSON knows: NaN is null, numbers of NumPy are numbers."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _headline(summary: Mapping[str, Any]) -> str:
    """Before -> after in one line."""
    shown = {
        "FSC-0.5 masked": ("d_fsc_model_05_masked", ".2f"),
        "CC_mask": ("cc_mask", ".3f"),
        f"mean Q (sigma {summary[BEFORE]['q_sigma']})": ("q_mean", ".3f"),
    }
    parts = []
    for label, (key, style) in shown.items():
        before, after = summary[BEFORE][key], summary[AFTER][key]
        if before is not None and after is not None:
            parts.append(f"{label} {before:{style}} -> {after:{style}}")
    return "; ".join(parts) or "without a model there is nothing to compare with"
