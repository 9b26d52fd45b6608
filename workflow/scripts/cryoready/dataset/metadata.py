"""What EMDB says about an entry: its per-entry JSON, reduced to what the workflow uses.

The JSON (``<api>/entry/EMD-nnnn``) has the shape of EMDB's XML schema 3. The names of its fields
are those read by EMDB's own client (github.com/emdb-empiar/emdb-api-wrapper, emdb/models/entry.py)
and seen in the answer for EMD-25107 that EMDB keeps in the tests of github.com/emdb-empiar/sfftk::

    emdb_id                                                  "EMD-25107"
    admin.title                                              text
    admin.current_status.code.valueOf_                       "REL"
    admin.key_dates.map_release                              "2022-10-12T00:00:00"
    structure_determination_list.structure_determination[]
        .method                                              "singleParticle"
        .image_processing[].final_reconstruction.resolution.valueOf_    "3.97" (Å, as text)
    map.contour_list.contour[]                               level (number), primary (true|false)
    map.dimensions.sec, .row, .col                           220 (voxels)
    map.pixel_spacing.x.valueOf_                             "1.03" (Å, as text)
    crossreferences.pdb_list.pdb_reference[].pdb_id          "7sgd"
        .relationship.in_frame                               "FULLOVERLAP"
    interpretation.half_map_list.half_map[].file             "emd_25107_half_map_1.map.gz"

A list of one is sometimes a bare object, and any level may be null or missing.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cryoready.core.errors import CryoreadyError

_PDB_ID = re.compile(r"[0-9][a-z0-9]{3}")
_HALF_MAP_NAME = re.compile(r"emd_[0-9]{4,5}_half_map_[12]\.map\.gz")


@dataclass(frozen=True)
class Metadata:
    """Facts of one EMDB entry; what the entry does not say is None or empty.

    Parameters
    ----------
    emdb_id
        "EMD-3488".
    title
        of the entry.
    method
        EMDB's word for it ("singleParticle", "helical", "tomography", ...).
    resolution
        Å, as reported by the authors.
    contour
        level recommended for display, in the units of the map.
    pdb_ids
        fitted models, lower case: those fully in the frame of the map first, else in the entry's
        order; models that do not overlap with the map are left out.
    half_map_names
        names of the half-maps' files below ``other/`` of the entry, sorted: 1, 2.
    status
        EMDB's word for it ("REL": released, "HPUB": held until it is published, "OBS": withdrawn).
    released
        day of the map's release, ISO: "2022-10-12".
    box
        (sections, rows, columns) of the map as filed, voxels.
    voxel_size
        Å, along x.
    """

    emdb_id: str | None = None
    title: str | None = None
    method: str | None = None
    resolution: float | None = None
    contour: float | None = None
    pdb_ids: tuple[str, ...] = ()
    half_map_names: tuple[str, ...] = ()
    status: str | None = None
    released: str | None = None
    box: tuple[int, int, int] | None = None
    voxel_size: float | None = None


def read_metadata(path: Path) -> Metadata:
    """Metadata from a file of EMDB's JSON; `CryoreadyError` if it cannot be read as such."""
    try:
        return parse_metadata(path.read_bytes())
    except OSError as error:
        raise CryoreadyError(f"{path}: cannot read the metadata: {error.strerror}") from error
    except CryoreadyError as error:
        raise CryoreadyError(f"{path}: {error}; delete it to download it again") from error


def reported_resolution(cell: float | None, path: str | None) -> float | None:
    """Å: what the row of the sheet says, else a file of metadata; None if neither does."""
    return cell or (read_metadata(Path(path)).resolution if path else None)


def parse_metadata(content: bytes) -> Metadata:
    """Metadata from EMDB's JSON; `CryoreadyError` (without a path) if it is no JSON object."""
    try:
        entry = json.loads(content)
    except ValueError as error:  # not JSON, or not text at all
        raise CryoreadyError(f"not EMDB's JSON: {' '.join(str(error).split())}") from error
    if not isinstance(entry, dict):
        raise CryoreadyError(f"not EMDB's JSON: a {type(entry).__name__} instead of an object")
    return extract_metadata(entry)


def extract_metadata(entry: Mapping[str, Any]) -> Metadata:
    """Metadata from an entry that is parsed already; whatever it holds, this is no error."""
    determination = ("structure_determination_list", "structure_determination")
    reconstruction = (*determination, "image_processing", "final_reconstruction")
    resolutions = _numbers(entry, *reconstruction, "resolution", "valueOf_")
    spacings = _numbers(entry, "map", "pixel_spacing", "x", "valueOf_")
    half_maps = _texts(entry, "interpretation", "half_map_list", "half_map", "file")
    return Metadata(
        emdb_id=next(_texts(entry, "emdb_id"), None),
        title=next(_texts(entry, "admin", "title"), None),
        method=next(_texts(entry, *determination, "method"), None),
        resolution=next((value for value in resolutions if value > 0), None),
        contour=_contour(entry),
        pdb_ids=_pdb_ids(entry),
        half_map_names=tuple(sorted(set(filter(_HALF_MAP_NAME.fullmatch, half_maps)))),
        status=next(_texts(entry, "admin", "current_status", "code", "valueOf_"), None),
        released=next(_days(entry, "admin", "key_dates", "map_release"), None),
        box=_box(entry),
        voxel_size=next((value for value in spacings if value > 0), None),
    )


def _pdb_ids(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Models in the frame of the map; a name that is no PDB id is left out.

    EMDB's words are FULLOVERLAP, PARTIALOVERLAP and NOOVERLAP; where it says none, the model may
    well fit, so it stands with the partial ones.
    """
    partial: dict[str, bool] = {}
    for reference in _values(entry, "crossreferences", "pdb_list", "pdb_reference"):
        pdb_id = next(_texts(reference, "pdb_id"), "").lower()
        frame = next(_texts(reference, "relationship", "in_frame"), "").upper()
        if _PDB_ID.fullmatch(pdb_id) and frame != "NOOVERLAP":
            partial[pdb_id] = partial.get(pdb_id, True) and frame != "FULLOVERLAP"
    return tuple(sorted(partial, key=partial.__getitem__))


def _box(entry: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Voxels along sections, rows and columns, if all three are stated."""
    sides = (
        next(_numbers(entry, "map", "dimensions", side), 0.0) for side in ("sec", "row", "col")
    )
    sections, rows, columns = (int(side) for side in sides)
    return (sections, rows, columns) if min(sections, rows, columns) > 0 else None


def _contour(entry: Mapping[str, Any]) -> float | None:
    """The primary contour level, else the first that has a level."""
    contours = [c for c in _values(entry, "map", "contour_list", "contour") if isinstance(c, dict)]
    contours.sort(key=lambda contour: str(contour.get("primary")).lower() != "true")
    return next(_numbers(contours, "level"), None)


def _values(node: Any, *keys: str) -> Iterator[Any]:
    """Everything at the end of a path: lists on the way are entered, gaps are left out."""
    if isinstance(node, list):
        for item in node:
            yield from _values(item, *keys)
    elif not keys:
        if node is not None:
            yield node
    elif isinstance(node, dict):
        yield from _values(node.get(keys[0]), *keys[1:])


def _texts(node: Any, *keys: str) -> Iterator[str]:
    """The texts among the values at the end of a path, without blanks around."""
    values = (value for value in _values(node, *keys) if isinstance(value, str))
    return (value.strip() for value in values if value.strip())


def _numbers(node: Any, *keys: str) -> Iterator[float]:
    """The finite numbers among the values at the end of a path, which may be written as text."""
    for value in _values(node, *keys):
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            number = float(value)
        except (ValueError, OverflowError):
            continue
        if math.isfinite(number):
            yield number


def _days(node: Any, *keys: str) -> Iterator[str]:
    """The dates among the values at the end of a path, without the time of the day."""
    for text in _texts(node, *keys):
        with contextlib.suppress(ValueError):
            yield date.fromisoformat(text.partition("T")[0]).isoformat()
