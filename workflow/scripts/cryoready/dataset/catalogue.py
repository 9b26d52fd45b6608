"""Which entries EMDB has: its search, page by page, and the table of what it says of each.

EMDB's search (REST, see https://www.ebi.ac.uk/emdb/api/) is ::

    <api>/search/<query, URL-quoted>?rows=1000&page=1&fl=emdb_id,admin,map

with pages counted from 1. It answers a JSON array of entries in the shape of the JSON of one entry
(`cryoready.dataset.metadata`), of which ``fl`` keeps the named sections. There is no word on how
many pages there are: the last has fewer entries than the first, perhaps none. The query is
Lucene's, over fields of the index, not of the JSON; in public use are::

    current_status:"REL" AND structure_determination_method:"singleParticle"
    AND fitted_pdbs:[* TO *] AND resolution:[3 TO 6]
    AND release_date:[2002-01-01T00:00:00Z TO 2025-06-30T23:59:59Z]

EMDB's own client (PyPI ``emdb`` 0.1.12, github.com/emdb-empiar/emdb-api-wrapper) is not used: it
asks one fixed address for all rows at once, without cache, mirrors or retries (but for time-outs),
and needs pydantic.
"""

import csv
import hashlib
import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from tqdm import tqdm

from cryoready import __version__
from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.dataset.download import download
from cryoready.dataset.metadata import extract_metadata

#: Sections of an entry that hold what the columns say.
FIELDS = "emdb_id,admin,crossreferences,map,interpretation,structure_determination_list"
ROWS = 500  # a page, some MB
MOST_ROWS = 1000  # a page, as public clients ask for
FIRST_RETRIES = 2
LONGEST_SEARCH = timedelta(days=7)  # from its first page to its last

TEXTS = ("id", "emdb", "pdb", "pdbs", "title", "method", "status", "released")
NUMBERS = ("resolution", "contour", "half_maps", "box", "voxels", "voxel_size")
COLUMNS = (
    *("id", "emdb", "pdb", "pdbs", "title", "method", "status", "resolution", "released"),
    *("contour", "half_maps", "box", "voxels", "voxel_size"),
)

_ID = re.compile(r"EMD-[0-9]{4,9}")  # longer than today's, lest the first such id stop everything


def search_urls(query: str, mirrors: Sequence[str], *, rows: int, page: int) -> list[str]:
    """Addresses of one page of a search below roots of EMDB's REST interface (``…/emdb/api``)."""
    tail = f"search/{quote(query, safe='')}?rows={rows}&page={page}&fl={FIELDS}"
    return [f"{root.rstrip('/')}/{tail}" for root in mirrors]


def query_key(query: str, rows: int) -> str:
    """16 hexadecimal digits that name the folder of a query's pages: other pages, another name."""
    return hashlib.sha256(json.dumps([query, rows, FIELDS]).encode()).hexdigest()[:16]


def pages_folder(cache: Path, query: str, *, rows: int = ROWS) -> Path:
    """Where the pages of a query are, or go: ``<cache>/catalogue/<key>/<day>``.

    A search that was broken off, on whatever day, is the one to go on with; a complete one is used
    on the day (UTC) on which it was made, and asked anew later.
    """
    top = cache / "catalogue" / query_key(query, rows)
    now = datetime.now(UTC).date()
    today, oldest = (top / day.isoformat() for day in (now, now - LONGEST_SEARCH))
    last = max((folder for folder in top.glob("????-??-??") if folder >= oldest), default=today)
    return today if _is_complete(sorted(last.glob("page_*.json"))) else last


def _is_complete(pages: Sequence[Path]) -> bool:
    """Whether no page follows; one that is damaged is to be fetched again."""
    try:
        first, *_, last = [len(read_page(page)) for page in (*pages[:1], *pages[-1:])]
    except (CryoreadyError, ValueError):
        return False
    return last < first or first == 0


def fetch_pages(
    query: str,
    mirrors: Sequence[str],
    folder: Path,
    *,
    rows: int = ROWS,
    timeout: float = 60.0,
    retries: int = 3,
    pause: float = 2.0,
) -> list[Path]:
    """Bring the pages of a search into a folder and return them in order.

    A whole page is never asked for again, so a run that was stopped goes on where it was, and a
    finished one needs no network. To ask anew, give a new folder.

    Parameters
    ----------
    query
        in the language of EMDB's search.
    mirrors
        roots of EMDB's REST interface, asked in this order.
    folder
        of ``page_0001.json`` and so on, of this query and number of rows only (`query_key`).
    rows
        entries of a page, 1 to 1000.
    timeout, retries, pause
        as in `cryoready.dataset.download.download`.

    Raises
    ------
    CryoreadyError
        if a page cannot be had, or is the first again. The pages before it are kept.
    """
    if not 1 <= rows <= MOST_ROWS:
        raise CryoreadyError(f"{rows} entries of the catalogue a page: choose 1 to {MOST_ROWS}")
    pages: list[Path] = []
    first: list[str] = []
    known: set[str] = set()
    found = full = rows
    with tqdm(desc="catalogue of EMDB", unit="page") as bar:
        while found == full:
            number = len(pages) + 1
            page = folder / f"page_{number:04d}.json"
            urls = search_urls(query, mirrors, rows=rows, page=number)
            # without a network the first page says so soon; later ones are waited for
            tries = retries if pages else min(retries, FIRST_RETRIES)
            download(urls, page, check=check_page, timeout=timeout, retries=tries, pause=pause)
            ids = [entry["emdb_id"] for entry in read_page(page)]
            if pages and ids == first:  # a server that ignores `page` would never end
                raise CryoreadyError(
                    f"{page}: the entries of page 1 again: the archive does not turn the page; "
                    f"try again later with an empty {folder}"
                )
            first = first or ids
            known.update(ids)
            found = len(ids)
            full = full if pages else max(found, 1)  # a server may give fewer than it is asked for
            pages.append(page)
            bar.set_postfix(entries=len(known), refresh=False)
            bar.update()
    return pages


def check_page(path: Path) -> None:
    """A JSON array of entries that have an id; `CryoreadyError` (without a path) otherwise."""
    read_page(path)


def read_page(path: Path) -> list[dict[str, Any]]:
    """Entries of one page; `CryoreadyError` (without a path) if it is no such page."""
    content = path.read_bytes()
    if content.lstrip().startswith(b"<"):
        raise CryoreadyError("an HTML page instead of a page of entries")
    try:
        entries = json.loads(content)
    except ValueError as error:  # not JSON, or not text at all
        reason = " ".join(str(error).split())
        raise CryoreadyError(f"not a page of entries, which is JSON: {reason}") from error
    if not isinstance(entries, list):
        said = textwrap.shorten(content.decode(errors="replace"), 100, placeholder=" …")
        raise CryoreadyError(f"not a page of entries, which is a JSON array, but {said}")
    for number, entry in enumerate(entries, start=1):
        emdb_id = entry.get("emdb_id") if isinstance(entry, dict) else None
        if not isinstance(emdb_id, str) or not _ID.fullmatch(emdb_id):
            raise CryoreadyError(f"not a page of entries: number {number} has no 'emdb_id'")
    return entries


def read_catalogue(pages: Sequence[Path]) -> pd.DataFrame:
    """What EMDB says of each entry, one row an entry, by number.

    An entry released while the pages were fetched pushes others from one page to the next; such an
    entry is taken from the later page.

    Returns
    -------
    Texts, "" if unknown: ``id`` and ``emdb`` (the same); ``pdb`` (the model that fits best by
    EMDB's word) and ``pdbs`` (all that overlap with the map, with commas between); ``title``,
    ``method``, ``status``, ``released`` (ISO). Numbers, NaN if unknown: ``resolution`` and
    ``voxel_size`` (Å), ``contour`` (units of the map), ``half_maps`` (0 or 2), ``box`` (the longest
    edge) and ``voxels`` (of the whole map).
    """
    rows: dict[str, dict[str, Any]] = {}
    for page in pages:
        try:
            entries = read_page(page)
        except CryoreadyError as error:
            raise CryoreadyError(f"{page}: {error}; delete it to download it again") from error
        rows.update({entry["emdb_id"]: _row(entry) for entry in entries})
    ordered = [rows[emdb_id] for emdb_id in sorted(rows, key=lambda text: int(text[4:]))]
    return _typed(pd.DataFrame(ordered, columns=list(COLUMNS)))


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One entry as a row; what it does not say is "" or None."""
    facts = extract_metadata(entry)
    return {
        "id": facts.emdb_id,
        "emdb": facts.emdb_id,
        "pdb": next(iter(facts.pdb_ids), ""),
        "pdbs": ",".join(facts.pdb_ids),
        "title": _cell(facts.title),
        "method": _cell(facts.method),
        "status": _cell(facts.status),
        "resolution": facts.resolution,
        "released": facts.released or "",
        "contour": facts.contour,
        "half_maps": 2 if len(facts.half_map_names) == 2 else 0,
        "box": max(facts.box) if facts.box else None,
        "voxels": math.prod(facts.box) if facts.box else None,
        "voxel_size": facts.voxel_size,
    }


def _cell(text: str | None) -> str:
    """A text on one line, without what a table of UTF-8 cannot hold."""
    return "".join(filter(str.isprintable, " ".join((text or "").split())))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `TEXTS` as text and `NUMBERS` as float64; ValueError if one is no number."""
    return table.astype(dict.fromkeys(TEXTS, str) | dict.fromkeys(NUMBERS, float))


def write_catalogue(catalogue: pd.DataFrame, path: Path) -> None:
    """Write the table as TSV; what is unknown is an empty cell."""
    with written_whole(path) as part:
        catalogue.to_csv(part, sep="\t", index=False, float_format="%.15g", quoting=csv.QUOTE_NONE)


def load_catalogue(path: Path) -> pd.DataFrame:
    """The table that `write_catalogue` wrote (a row may be added or changed by hand).

    Raises
    ------
    CryoreadyError
        if the file cannot be read, lacks a column, or a number is none.
    """
    try:
        table = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE
        )
        lacking = [column for column in COLUMNS if column not in table]
        if lacking:
            raise CryoreadyError(f"{path}: no column {', '.join(lacking)}; is it the catalogue?")
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes what is too much for names
            raise ValueError("a row has more cells than the header")
        return _typed(table.replace(dict.fromkeys(NUMBERS, ""), "nan"))
    except OSError as error:
        raise CryoreadyError(f"{path}: cannot read the catalogue: {error.strerror}") from error
    except ValueError as error:  # not a table, not UTF-8, or a word in the place of a number
        reason = " ".join(str(error).split())
        raise CryoreadyError(f"{path}: not a catalogue: {reason}; make it again") from error


def provenance(query: str, pages: Sequence[Path], *, entries: int) -> dict[str, Any]:
    """What the catalogue was made from.

    ``date`` is when the oldest page was fetched: entries released later may be missing.
    """
    oldest = min(page.stat().st_mtime for page in pages)
    return {
        "date": datetime.fromtimestamp(oldest, UTC).isoformat(timespec="seconds"),
        "query": query,
        "fields": FIELDS,
        "entries": entries,
        "pages": len(pages),
        "sha256": {page.name: file_sha256(page) for page in pages},
        "version": __version__,
    }
