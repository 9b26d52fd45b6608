"""Which files an id names, and where they come from.

A map is sought in this order: the sheet's row, a file dropped into ``maps/``, the embedded entries,
the archive (EMDB); where there are only half-maps, their mean is the map. The Snakefile reads this
module while it is parsed, so nothing heavier than the standard library is imported here.
"""

import csv
import difflib
import math
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from cryoready.core.errors import CryoreadyError

ID_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
ARCHIVE_PATTERN = re.compile(r"^EMD-[0-9]{4,5}$")
PDB_PATTERN = re.compile(r"^[0-9][A-Za-z0-9]{3}$")
HALF_MAP_ID = re.compile(r"(?P<id>.+)_(?P<role>half_map_[12])")
RESERVED_ENDINGS = ("_emready", "_evaluation", "_half_map_1", "_half_map_2")
SIMULATED = "simulated"  # in column `map`: a pair simulated and degraded from `model`
SPLITS = ("train", "val", "test")
CANDIDATES = Path("results/dataset/candidates.tsv")

LENGTHS = ("resolution", "voxel_size", "mask_radius")  # Å, above 0
LEVELS = ("mask_contour", "contour")  # map units, not negative
FILES = (
    *("map", "model", "half_map_1", "half_map_2", "mask", "mask_model"),
    *("built_model", "reference_map", "reference_model"),
    *("deepemhancer_map", "locscale_map", "emready_map"),
)
MAP_SUFFIXES = tuple(s + z for s in (".mrc", ".map", ".ccp4") for z in ("", ".gz"))
MODEL_SUFFIXES = tuple(s + z for s in (".pdb", ".cif", ".ent", ".mmcif") for z in ("", ".gz"))

# A near miss of an archive id: emd-3488, EMD_3488, EMD 3488, 3488, emd_3488.map.gz
_NEAR_ARCHIVE = re.compile(
    r"\s*(?:emd)?[\s_-]*([0-9]{4,5})(?:\.(?:map|mrc|ccp4)(?:\.gz)?)?\s*", re.I
)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

Origin = Literal["sheet", "maps", "embedded", "archive", "half_maps"]


@dataclass(frozen=True)
class Entry:
    """One row of the sheet; empty cells are None.

    Lengths are in Å, levels in the units of the map. ``where`` says which line of which file the
    row was read from; it is no column.
    """

    id: str
    emdb: str | None = None
    pdb: str | None = None
    map: str | None = None
    model: str | None = None
    resolution: float | None = None
    voxel_size: float | None = None
    half_map_1: str | None = None
    half_map_2: str | None = None
    mask: str | None = None
    mask_contour: float | None = None
    mask_model: str | None = None
    mask_radius: float | None = None
    contour: float | None = None
    split: str | None = None
    built_model: str | None = None
    reference_map: str | None = None
    reference_model: str | None = None
    deepemhancer_map: str | None = None
    locscale_map: str | None = None
    emready_map: str | None = None
    rejected_because: str | None = None
    where: str = field(default="", compare=False)


COLUMNS = tuple(column.name for column in fields(Entry) if column.name != "where")


@dataclass(frozen=True)
class Source:
    """The files of one id.

    ``origin`` says where the map comes from. Files of the archive need not exist yet: they lie in
    the downloads folder, where the download rules put them. ``map`` is None for a simulated pair
    and where only half-maps are there (origin "half_maps").
    Half-maps of the archive are None: only its metadata say whether there are any. ``archived`` has
    the archive's id of each file that is, or is to be, downloaded, by role.
    """

    id: str
    origin: Origin
    entry: Entry
    map: Path | None
    model: Path | None = None
    half_map_1: Path | None = None
    half_map_2: Path | None = None
    mask: Path | None = None
    mask_model: Path | None = None
    built_model: Path | None = None
    reference_map: Path | None = None
    reference_model: Path | None = None
    deepemhancer_map: Path | None = None
    locscale_map: Path | None = None
    emready_map: Path | None = None
    metadata: Path | None = None
    archived: Mapping[str, str] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the pair is to be simulated from the model."""
        return self.entry.map == SIMULATED


def check_id(entry_id: str) -> str:
    """The id itself, if it may stand in file names and wildcards; else `CryoreadyError`."""
    if not ID_PATTERN.fullmatch(entry_id):
        raise CryoreadyError(
            f"{entry_id!r} is not a valid id{_archive_hint(entry_id)}: use 1 to 64 letters, "
            "digits, '.', '_' or '-', starting with a letter or digit (mine, EMD-3488)"
        )
    for ending in RESERVED_ENDINGS:
        if entry_id.endswith(ending):
            raise CryoreadyError(
                f"{entry_id!r} is not a valid id: the ending {ending!r} is kept for files of the "
                "workflow; rename the map or the row"
            )
    return entry_id


def read_sheet(path: Path) -> dict[str, Entry]:
    """Rows of a tab-separated sheet by id, in the order of the file.

    Blank lines and lines that start with ``#`` are skipped. Anything else that cannot be
    understood raises `CryoreadyError` with file, line and column.
    """
    lines = [
        (number, line)
        for number, line in enumerate(_read_text(path).split("\n"), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise CryoreadyError(f"{path}: no header; the first line must name the columns, as in 'id'")
    (first, header), *rows = lines
    columns = _read_header(header, f"{path}, line {first}")
    entries: dict[str, Entry] = {}
    for number, line in rows:
        entry = _read_row(line, columns, f"{path}, line {number}")
        if entry.id in entries:
            raise CryoreadyError(
                f"{entry.where}, column 'id': {entry.id!r} is there already: "
                f"{entries[entry.id].where}; keep one of the rows"
            )
        entries[entry.id] = entry
    return entries


@dataclass(frozen=True)
class Candidate(Entry):
    """An entry of the archive that may become a training pair, with the size of its map.

    ``sampling`` is the voxel size that EMDB states, Å; ``voxel_size`` would replace the header's.
    """

    voxels: int = 0
    sampling: float = 1.0


def read_candidates(path: Path) -> dict[str, Candidate]:
    """Entries by id of a table that `select` wrote, without those that it left out."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if not row["rejected_because"]]
    return {
        row["id"]: Candidate(
            id=row["id"],
            emdb=row["emdb"],
            pdb=row["pdb"],
            resolution=float(row["resolution"]),
            contour=float(row["contour"]) if row["contour"] else None,
            split=row["split"],
            voxels=int(float(row["voxels"])),
            sampling=float(row["voxel_size"] or 1),
            where=f"{path}, {row['id']}",
        )
        for row in rows
    }


def locate(
    entry_id: str,
    sheet: Mapping[str, Entry],
    *,
    maps_folder: Path,
    embedded_folder: Path,
    downloads_folder: Path,
) -> Source:
    """The files of an id, from the first place that has its map.

    Model and half-maps are sought in the row, then in ``maps/``, then where the map comes from; a
    model that is nowhere else is the embedded or archived one of the row's ``pdb``. Raises
    `CryoreadyError` if the id is nowhere, if two files claim one role, if one half-map is alone or
    if a file of the row does not exist.
    """
    entry = sheet.get(check_id(entry_id), Entry(entry_id))
    archived = {}
    emdb = entry.emdb or (entry_id if ARCHIVE_PATTERN.fullmatch(entry_id) else None)
    row = _row_files(entry)
    dropped = _dropped_files(maps_folder, entry_id)
    embedded = _embedded_files(embedded_folder, emdb, entry.pdb)
    origin: Origin
    if entry.map is not None:
        origin, files = "sheet", dropped | row
    elif "map" in dropped:
        origin, files = "maps", dropped | row
    elif "map" in embedded:
        origin, files = "embedded", embedded | dropped | row
    elif emdb is not None:
        archived = {"map": emdb, "metadata": emdb}
        kept = {role: archive_path(downloads_folder, role, emdb) for role in archived}
        origin, files = "archive", kept | dropped | row
    elif "half_map_1" in dropped | row:
        origin, files = "half_maps", dropped | row
    else:
        raise _nowhere(entry, sheet, maps_folder, embedded_folder)
    if entry.pdb is not None and "model" not in files:
        pdb = entry.pdb.lower()
        files["model"] = embedded.get("model", archive_path(downloads_folder, "model", pdb))
        archived |= {} if "model" in embedded else {"model": pdb}
    _check_pair(entry_id, files)
    if entry.map == SIMULATED:
        files.pop("map", None)
    return Source(entry_id, origin, entry, **{"map": None, **files}, archived=archived)


def archive_path(folder: Path, role: str, key: str) -> Path:
    """Where a file of the archive lies in the downloads folder.

    ``role`` is map, half_map_1, half_map_2, metadata, or model, ``key`` the id in EMDB or the PDB.
    """
    stem = _archive_map_name(key).removesuffix(".map.gz")
    names = {
        "map": f"{key}/{stem}.map.gz",
        "half_map_1": f"{key}/{stem}_half_map_1.map.gz",
        "half_map_2": f"{key}/{stem}_half_map_2.map.gz",
        "metadata": f"{key}/metadata.json",
        "model": f"models/{key}.cif.gz",
    }
    return folder / names[role]


def _archive_hint(text: str) -> str:
    """' (did you mean EMD-3488?)' if the text is nearly an archive id, else ''."""
    match = _NEAR_ARCHIVE.fullmatch(text)
    return f" (did you mean EMD-{match[1]}?)" if match else ""


def _nearest_hint(word: str, known: Iterable[str], count: int = 1) -> str:
    """' (did you mean 'mine'?)' with the most similar known words, else ''; ignores case."""
    spelling = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), spelling, n=count)
    return f" (did you mean {' or '.join(repr(spelling[name]) for name in near)}?)" if near else ""


def _read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark, with any line ends."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CryoreadyError(
            f"{path}: not UTF-8 text (byte {error.start}); save the sheet as UTF-8, tab-separated"
        ) from error
    except OSError as error:
        raise CryoreadyError(f"{path}: cannot read the sheet: {error.strerror}") from error


def _read_header(line: str, place: str) -> list[str]:
    """The names of the columns, each known and once, ``id`` among them."""
    columns = [cell.strip() for cell in line.split("\t")]
    if len(columns) == 1 and columns[0] not in COLUMNS:
        for separator, name in ((",", "commas"), (";", "semicolons"), (None, "spaces")):
            if len(columns[0].split(separator)) > 1:
                raise CryoreadyError(
                    f"{place}: the columns are separated by {name} instead of tabs; "
                    "save the sheet as tab-separated text (.tsv)"
                )
    if "id" not in columns:
        raise CryoreadyError(
            f"{place}: no header; the first line must name the columns, among them 'id', "
            f"but reads {line.strip()!r}"
        )
    for k, column in enumerate(columns, start=1):
        if column not in COLUMNS:
            raise CryoreadyError(
                f"{place}, column {k}: unknown column {column!r}{_nearest_hint(column, COLUMNS)}; "
                f"known are {', '.join(COLUMNS)}"
            )
        if column in columns[: k - 1]:
            raise CryoreadyError(
                f"{place}, column {k}: column {column!r} is there already: "
                f"column {columns.index(column) + 1}"
            )
    return columns


def _read_row(line: str, columns: list[str], where: str) -> Entry:
    """One line as an entry, each cell checked against what its column may hold."""
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) != len(columns):
        other = re.search("[,; ]", line.strip()) if len(cells) < len(columns) else None
        cause = f"; is a {other[0]!r} in place of a tab?" if other else ""
        raise CryoreadyError(
            f"{where}: expected {len(columns)} cells, found {len(cells)}{cause} "
            "(cells are separated by tabs, an empty cell still needs its tab)"
        )
    row: dict[str, Any] = {c: cell for c, cell in zip(columns, cells, strict=True) if cell}
    for column in (*LENGTHS, *LEVELS):
        if column in row:
            row[column] = _read_number(row[column], column, f"{where}, column {column!r}")
    _check_row(row, where)
    return Entry(**row, where=where)


def _read_number(text: str, column: str, place: str) -> float:
    """A finite number: above 0 for a length, not below 0 for a level."""
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise CryoreadyError(f"{place}: {text!r} is not a number (as in 3.2, without a unit)")
    value = float(text)
    if value < 0 or (value == 0 and column in LENGTHS):
        limit = "above 0 Å" if column in LENGTHS else "0 or above"
        raise CryoreadyError(f"{place}: {text} is out of range, it must be {limit}")
    return value


def _check_row(row: Mapping[str, str], where: str) -> None:
    """Ids match their patterns, the split is known, and the cells do not contradict each other."""
    if "id" not in row:
        raise CryoreadyError(f"{where}, column 'id': empty; every row needs an id")
    try:
        check_id(row["id"])
    except CryoreadyError as error:
        raise CryoreadyError(f"{where}, column 'id': {error}") from error
    emdb, pdb, split = (row.get(column) for column in ("emdb", "pdb", "split"))
    if emdb is not None and not ARCHIVE_PATTERN.fullmatch(emdb):
        raise CryoreadyError(
            f"{where}, column 'emdb': {emdb!r} is not an archive id{_archive_hint(emdb)}: "
            "EMD- and 4 or 5 digits"
        )
    if emdb is not None and ARCHIVE_PATTERN.fullmatch(row["id"]) and emdb != row["id"]:
        raise CryoreadyError(
            f"{where}, column 'emdb': {emdb} contradicts the id {row['id']}; "
            "another map under an archive's id would mislead: choose another id"
        )
    if pdb is not None and not PDB_PATTERN.fullmatch(pdb):
        raise CryoreadyError(
            f"{where}, column 'pdb': {pdb!r} is not a PDB id: a digit and 3 letters or "
            "digits (5NI1)"
        )
    if split is not None and split not in SPLITS:
        raise CryoreadyError(
            f"{where}, column 'split': {split!r} is not one of {', '.join(SPLITS)} "
            "(leave the cell empty if the entry is in none)"
        )
    if row.get("map") == SIMULATED and "model" not in row:
        raise CryoreadyError(
            f"{where}, column 'model': empty; a simulated map needs the model it is simulated from"
        )


def _row_files(entry: Entry) -> dict[str, Path]:
    """The row's files by column, each of which must exist."""
    files = {}
    for column in FILES:
        text = getattr(entry, column)
        if text is None or (column == "map" and text == SIMULATED):
            continue
        files[column] = Path(text)
        if not files[column].is_file():
            raise CryoreadyError(
                f"{entry.where}, column {column!r}: {text!r} is not there or not a file "
                f"(relative paths start at {Path.cwd()})"
            )
    return files


def _stem(name: str, suffixes: tuple[str, ...]) -> str | None:
    """The file's name without its suffix (whose case does not matter), None if it has another."""
    suffix = next((s for s in suffixes if name.lower().endswith(s)), None)
    return name[: -len(suffix)] if suffix else None


def _names(folder: Path, start: str = "") -> list[str]:
    """Sorted names in a folder that begin with ``start``, none if the folder does not exist."""
    if not folder.is_dir():
        return []
    names = _listing(folder, folder.stat().st_mtime_ns)
    return names[bisect_left(names, start) : bisect_left(names, f"{start}\U0010ffff")]


@lru_cache  # a folder of thousands of maps is read once, not for every row of the sheet
def _listing(folder: Path, _changed: int) -> list[str]:
    """Sorted names in a folder that changed last at that time."""
    with os.scandir(folder) as items:  # 4 times faster than `iterdir`
        return sorted(item.name for item in items)


def _dropped_files(folder: Path, entry_id: str) -> dict[str, Path]:
    """Map, model and half-maps dropped under the name of the entry."""
    names = _names(folder, entry_id)
    wanted = {
        "map": (entry_id, MAP_SUFFIXES),
        "model": (entry_id, MODEL_SUFFIXES),
        "half_map_1": (f"{entry_id}_half_map_1", MAP_SUFFIXES),
        "half_map_2": (f"{entry_id}_half_map_2", MAP_SUFFIXES),
    }
    files = {}
    for role, (stem, suffixes) in wanted.items():
        found = [folder / name for name in names if _stem(name, suffixes) == stem]
        if len(found) > 1:
            raise CryoreadyError(
                f"{' and '.join(map(str, found))} both claim to be the {role} of {entry_id!r}: "
                "keep one of them"
            )
        if found:
            files[role] = found[0]
            if not found[0].is_file():
                raise CryoreadyError(f"{found[0]} is a broken link or not a file")
    return files


def _embedded_files(folder: Path, emdb: str | None, pdb: str | None) -> dict[str, Path]:
    """What ships for an entry of the archive: its map, its metadata, one model (that of `pdb`)."""
    if emdb is None:
        return {}
    home = folder / emdb
    files = {"map": home / _archive_map_name(emdb), "metadata": home / "metadata.json"}
    models = [name for name in _names(home) if _stem(name, MODEL_SUFFIXES) is not None]
    if pdb is not None:
        models = [name for name in models if _stem(name, MODEL_SUFFIXES) == pdb.lower()]
    if len(models) == 1:
        files["model"] = home / models[0]
    return {role: path for role, path in files.items() if path.is_file()}


def _archive_map_name(emdb: str) -> str:
    """EMDB's own name of the map: ``emd_3488.map.gz``."""
    return f"{emdb.lower().replace('-', '_')}.map.gz"


def _check_pair(entry_id: str, files: Mapping[str, Path]) -> None:
    """Half-maps are there both or not at all."""
    halves = [files[column] for column in ("half_map_1", "half_map_2") if column in files]
    if len(halves) == 1:
        raise CryoreadyError(
            f"{halves[0]} is the only half-map of {entry_id!r}: give both or neither"
        )


def _nowhere(
    entry: Entry, sheet: Mapping[str, Entry], maps_folder: Path, embedded_folder: Path
) -> CryoreadyError:
    """The error for an id that has no map anywhere: what to do, and what may have been meant."""
    dropped = filter(None, (_stem(name, MAP_SUFFIXES) for name in _names(maps_folder)))
    embedded = filter(ARCHIVE_PATTERN.fullmatch, _names(embedded_folder))
    names = {*sheet, *dropped, *embedded} - {entry.id}
    known = {name for name in names if not name.endswith(RESERVED_ENDINGS)}
    hint = _archive_hint(entry.id) or _nearest_hint(entry.id, known, count=3)
    row = f" ({entry.where} gives neither map nor emdb)" if entry.where else ""
    return CryoreadyError(
        f"no map for {entry.id!r}{row}{hint}: put it at {maps_folder / entry.id}.mrc (.map, .ccp4, "
        ".gz), give its path in a row of the sheet, or use an archive id (EMD- and 4 or 5 digits)"
    )
