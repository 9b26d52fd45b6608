"""The catalogue: pages of EMDB's search over real HTTP, and the table that is made from them."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from made_up import bare, made_up_catalogue

import cryoready
from cryoready.core.errors import CryoreadyError
from cryoready.dataset.catalogue import (
    COLUMNS,
    FIELDS,
    NUMBERS,
    TEXTS,
    check_page,
    fetch_pages,
    load_catalogue,
    pages_folder,
    provenance,
    query_key,
    read_catalogue,
    search_urls,
    write_catalogue,
)

PACKAGE = Path(cryoready.__file__).parents[1]
SEARCH = Path(__file__).parents[1] / "data" / "emdb" / "search.json"
QUERY = 'current_status:"REL" AND resolution:[3 TO 6] AND fitted_pdbs:[* TO *]'


def page_of(tmp_path, entries, name="page_0001.json"):
    path = tmp_path / name
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def table_of(tmp_path, entries):
    return read_catalogue([page_of(tmp_path, entries)])


def row_of(tmp_path, entry):
    return table_of(tmp_path, [{"emdb_id": "EMD-1234"} | entry]).loc[0].to_dict()


@pytest.fixture
def archive(emdb_server):
    """A server with 7 entries, of which 3 fit on a page."""
    for number in (1461, 2513, 3240, 3488, 5137, 8410, 30342):
        emdb_server.add_metadata(f"EMD-{number}", {"emdb_id": f"EMD-{number}"})
    return emdb_server


@pytest.fixture
def fetch(archive, tmp_path):
    def fetch_all(*, mirrors=None, rows=3, retries=0):
        mirrors = mirrors or [archive.api_mirror]
        return fetch_pages(QUERY, mirrors, tmp_path / "pages", rows=rows, retries=retries, pause=0)

    fetch_all.folder = tmp_path / "pages"
    return fetch_all


def pages_asked(server):
    return [int(parse_qs(urlsplit(path).query)["page"][0]) for path in server.requests]


def ids_on(page):
    return [entry["emdb_id"] for entry in json.loads(page.read_bytes())]


# addresses


def test_the_address_of_a_page():
    (url, other) = search_urls(QUERY, ["https://a/emdb/api/", "https://b"], rows=100, page=7)
    assert url == (
        "https://a/emdb/api/search/current_status%3A%22REL%22%20AND%20resolution%3A%5B3%20TO%206%5D"
        "%20AND%20fitted_pdbs%3A%5B%2A%20TO%20%2A%5D?rows=100&page=7&fl=emdb_id,admin,"
        "crossreferences,map,interpretation,structure_determination_list"
    )
    assert other.startswith("https://b/search/current_status")


@pytest.mark.parametrize("query", ["a/../../b", "a?page=9", "a#b", "title:β-lactamase", 'x:"50%"'])
def test_nothing_in_a_query_leaves_its_place(query):
    (url,) = search_urls(query, ["https://a/api"], rows=5, page=2)
    parts = urlsplit(url)
    assert unquote(parts.path.rpartition("/")[2]) == query
    assert parts.path.startswith("/api/search/")
    assert parse_qs(parts.query) == {"rows": ["5"], "page": ["2"], "fl": [FIELDS]}
    assert parts.fragment == ""


def test_other_pages_have_another_key():
    keys = {query_key(QUERY, 100), query_key(QUERY, 101), query_key(QUERY + " ", 100)}
    assert len(keys) == 3
    assert all(len(key) == 16 and set(key) <= set("0123456789abcdef") for key in keys)
    assert query_key(QUERY, 100) in keys  # the same in every run, unlike `hash`


# pages


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(1, [1] * 7 + [0]), (3, [3, 3, 1]), (7, [7, 0]), (8, [7, 0]), (1000, [7, 0])],
)
def test_pages_are_turned_until_one_is_not_full(archive, fetch, rows, sizes):
    pages = fetch(rows=rows)
    assert [page.name for page in pages] == [f"page_{k:04d}.json" for k in range(1, len(sizes) + 1)]
    assert [len(ids_on(page)) for page in pages] == sizes
    assert sorted(itertools.chain.from_iterable(map(ids_on, pages))) == sorted(
        f"EMD-{number}" for number in (1461, 2513, 3240, 3488, 5137, 8410, 30342)
    )
    assert pages_asked(archive) == list(range(1, len(sizes) + 1))


def test_the_query_arrives_as_it_was_meant(archive, fetch):
    fetch()
    asked = urlsplit(archive.requests[0])
    assert unquote(asked.path) == f"/emdb/api/search/{QUERY}"
    assert parse_qs(asked.query)["fl"] == [FIELDS]


def test_a_whole_catalogue_needs_no_network(archive, fetch):
    pages = fetch()
    count = len(archive.requests)
    assert fetch(mirrors=["http://127.0.0.1:9/emdb/api"]) == pages
    assert len(archive.requests) == count


def test_a_page_that_fails_keeps_those_before_it(archive, fetch):
    archive.faults["page=2&"] = ["500"]
    with pytest.raises(CryoreadyError, match=r"page_0002\.json") as error:
        fetch()
    assert len(str(error.value).splitlines()) == 1
    assert [path.name for path in fetch.folder.iterdir()] == ["page_0001.json"]
    archive.requests.clear()
    assert len(fetch()) == 3
    assert pages_asked(archive) == [2, 3]


def test_a_killed_run_goes_on_with_the_next_page(archive, fetch):
    """SIGKILL while page 2 drips in: page 1 is not asked for again, nothing is half there."""
    archive.faults["page=2&"] = ["slow"]
    code = (
        "import sys; from pathlib import Path; from cryoready.dataset.catalogue import fetch_pages;"
        "fetch_pages(sys.argv[1], [sys.argv[2]], Path(sys.argv[3]), rows=3)"
    )
    command = [sys.executable, "-c", code, QUERY, archive.api_mirror, str(fetch.folder)]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as run:
        for _ in range(400):
            if 2 in pages_asked(archive):
                break
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    assert [path.name for path in fetch.folder.glob("page_*")] == ["page_0001.json"]
    archive.requests.clear()
    archive.faults.clear()
    assert [len(ids_on(page)) for page in fetch()] == [3, 3, 1]
    assert pages_asked(archive) == [2, 3]


@pytest.mark.parametrize("damage", [b"", b'[{"emdb_id": "EMD-14', b"<html></html>", b"{}"])
def test_a_page_that_was_damaged_on_the_disk_is_fetched_again(archive, fetch, damage):
    pages = fetch()
    content = pages[1].read_bytes()
    pages[1].write_bytes(damage)
    archive.requests.clear()
    assert fetch() == pages
    assert pages[1].read_bytes() == content
    assert pages_asked(archive) == [2]


def test_a_page_of_html_is_asked_for_again(archive, fetch):
    archive.faults["page=2&"] = ["html"]
    assert [len(ids_on(page)) for page in fetch(retries=1)] == [3, 3, 1]
    assert pages_asked(archive) == [1, 2, 2, 3]


def test_a_bad_network_gives_the_same_bytes(archive, fetch, tmp_path):
    """Of the requests, 20 % fail at random."""
    archive.random_faults(0.2, seed=1)
    bad = [page.read_bytes() for page in fetch(rows=1, retries=9)]
    assert len(archive.requests) > len(bad)
    fetch.folder.rename(tmp_path / "bad")
    archive.random_faults(0, seed=1)
    assert [page.read_bytes() for page in fetch(rows=1)] == bad


def test_html_for_ever_is_one_line(archive, fetch):
    archive.faults["page=1&"] = ["html", "..."]
    with pytest.raises(CryoreadyError, match="an HTML page instead of a page of entries") as error:
        fetch(retries=1)
    assert len(str(error.value).splitlines()) == 1
    assert not list(fetch.folder.glob("page_*"))


def test_an_archive_that_does_not_turn_the_page(fetch):
    """A server that ignores `page` gives the first one for ever."""
    fetch.folder.mkdir()
    first = [{"emdb_id": f"EMD-100{k}"} for k in range(3)]
    page_of(fetch.folder, first)
    page_of(fetch.folder, first, "page_0002.json")
    with pytest.raises(
        CryoreadyError, match=r"page_0002\.json: .* does not turn the page"
    ) as error:
        fetch()
    assert len(str(error.value).splitlines()) == 1


def test_a_release_between_two_pages(archive, fetch):
    """It pushes the last entry of page 2 onto page 3, and is itself on a page that was there."""
    archive.faults["page=3&"] = ["500"]
    with pytest.raises(CryoreadyError):
        fetch()
    archive.add_metadata("EMD-1001", {"emdb_id": "EMD-1001"})
    pages = fetch()
    assert ids_on(pages[1])[-1] == ids_on(pages[2])[0]
    numbers = [int(emdb_id[4:]) for emdb_id in read_catalogue(pages)["id"]]
    assert numbers == [1461, 2513, 3240, 3488, 5137, 8410, 30342]


def test_a_last_page_that_says_nothing_new(archive, fetch):
    """Six entries fill two pages; a release pushes the sixth onto a third."""
    fetch.folder.mkdir()
    page_of(fetch.folder, [{"emdb_id": f"EMD-100{k}"} for k in (1, 2, 3)])
    page_of(fetch.folder, [{"emdb_id": f"EMD-100{k}"} for k in (4, 5, 6)], "page_0002.json")
    page_of(fetch.folder, [{"emdb_id": "EMD-1006"}], "page_0003.json")
    assert len(fetch()) == 3
    assert archive.requests == []


@pytest.mark.parametrize("rows", [0, -1, 1001])
def test_the_size_of_a_page_has_limits(fetch, rows):
    with pytest.raises(CryoreadyError, match=f"{rows} entries .*1 to 1000"):
        fetch(rows=rows)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a page of entries, which is JSON"),
        (b"[", "not a page of entries, which is JSON"),
        (b"\xff\xfe", "not a page of entries, which is JSON"),
        (b"\n <!DOCTYPE html>", "an HTML page"),
        (b'{"error": {"msg": "undefined field reslution"}}', "undefined field reslution"),
        (b"null", "but null"),
        (b"[[]]", "number 1 has no 'emdb_id'"),
        (b'[{"emdb_id": "EMD-1234"}, {"admin": {}}]', "number 2 has no 'emdb_id'"),
        (b'[{"emdb_id": "../EMD-1234"}]', "number 1 has no 'emdb_id'"),
        (b'[{"emdb_id": 1234}]', "number 1 has no 'emdb_id'"),
    ],
)
def test_what_is_no_page_of_entries(tmp_path, content, reason):
    page = tmp_path / "page_0001.json"
    page.write_bytes(content)
    with pytest.raises(CryoreadyError, match=reason) as error:
        check_page(page)
    assert str(page) not in str(error.value)
    with pytest.raises(CryoreadyError, match=f"^{page}: .*{reason}.*; delete it") as error:
        read_catalogue([page])
    assert len(str(error.value).splitlines()) == 1


# where the pages lie


@pytest.fixture
def day(monkeypatch):
    """Sets the day."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            assert tz is UTC
            return datetime(2026, 7, Clock.today, 23, 30, tzinfo=tz)

    monkeypatch.setattr("cryoready.dataset.catalogue.datetime", Clock)
    return lambda number: setattr(Clock, "today", number)


def searched(cache, query=QUERY, *sizes, rows=3):
    """The folder of the pages, with new pages of so many entries."""
    folder = pages_folder(cache, query, rows=rows)
    folder.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes, start=1):
        page_of(
            folder, [{"emdb_id": f"EMD-1{k:03}"} for k in range(size)], f"page_{number:04}.json"
        )
    return folder


def test_a_search_that_was_broken_off_is_gone_on_with(tmp_path, day):
    day(1)
    begun = searched(tmp_path, QUERY, 3, 3)
    assert begun == tmp_path / "catalogue" / query_key(QUERY, 3) / "2026-07-01"
    day(2)
    assert searched(tmp_path) == begun
    day(8)
    assert searched(tmp_path, QUERY, 3, 3, 1) == begun
    assert searched(tmp_path) == tmp_path / "catalogue" / query_key(QUERY, 3) / "2026-07-08"


def test_pages_weeks_apart_are_no_catalogue(tmp_path, day):
    day(1)
    searched(tmp_path, QUERY, 3, 3)
    day(9)
    assert searched(tmp_path).name == "2026-07-09"


def test_a_server_that_gives_fewer_a_page_is_read_to_its_end(archive, fetch, monkeypatch):
    """Not the number asked for, but that of the first page tells a full one."""
    search = archive.search

    def few(address):
        return search(address._replace(query=address.query.replace("rows=500", "rows=3")))

    monkeypatch.setattr(archive, "search", few)
    assert [len(ids_on(page)) for page in fetch(rows=500)] == [3, 3, 1]


@pytest.mark.parametrize("sizes", [(3, 2), (3, 0), (0,), (1, 0)])
def test_a_complete_search_is_good_for_its_day(tmp_path, day, sizes):
    day(1)
    first = searched(tmp_path, QUERY, *sizes)
    assert searched(tmp_path) == first
    day(2)
    second = searched(tmp_path, QUERY, *sizes)
    assert (first.name, second.name) == ("2026-07-01", "2026-07-02")
    assert searched(tmp_path) == second


def test_before_the_first_page_a_search_is_not_complete(tmp_path, day):
    day(1)
    begun = searched(tmp_path)
    day(2)
    assert searched(tmp_path) == begun


def test_another_query_is_another_search(tmp_path, day):
    day(1)
    searched(tmp_path, QUERY, 3)
    day(2)
    assert searched(tmp_path, "a/b").name == "2026-07-02"
    assert searched(tmp_path, QUERY, rows=4).name == "2026-07-02"
    assert searched(tmp_path).name == "2026-07-01"


@pytest.mark.parametrize("damage", [b"", b'[{"emdb_id": "EMD-14', b"<html></html>"])
def test_a_damaged_last_page_is_to_be_fetched_again(tmp_path, day, damage):
    day(1)
    begun = searched(tmp_path, QUERY, 3, 1)
    (begun / "page_0002.json").write_bytes(damage)
    assert searched(tmp_path) == begun


# the table


def test_the_answer_of_emdb_row_by_row():
    """Every expected value was typed from the JSON."""
    older, younger = read_catalogue([SEARCH]).to_dict("records")
    assert younger == {
        "id": "EMD-25107",
        "emdb": "EMD-25107",
        "pdb": "7sgd",
        "pdbs": "7sgd",
        "title": "Lassa virus glycoprotein construct(Josiah GPCysR4) recovered from GPC-I53-50 "
        "nanoparticle by localized reconstruction",
        "method": "singleParticle",
        "status": "REL",
        "resolution": 3.97,
        "released": "2022-10-12",
        "contour": 0.02,
        "half_maps": 2,
        "box": 220,
        "voxels": 10_648_000,
        "voxel_size": 1.03,
    }
    assert older == younger | {
        "id": "EMD-3488",
        "emdb": "EMD-3488",
        "pdb": "5ni1",
        "pdbs": "5ni1",
        "title": "Cryo-EM structure of haemoglobin at 3.2 Å determined with the Volta phase plate",
        "status": "",
        "resolution": 3.2,
        "released": "",
        "contour": 0.09,
        "half_maps": 0,
        "box": 100,
        "voxels": 1_000_000,
        "voxel_size": 1.05,
    }


def test_an_entry_of_which_only_the_id_is_known_has_a_row(tmp_path):
    row = row_of(tmp_path, {"map": None, "admin": [], "interpretation": "x", "crossreferences": 3})
    expected = dict.fromkeys(TEXTS, "") | {"id": "EMD-1234", "emdb": "EMD-1234"}
    assert {column: row[column] for column in TEXTS} == expected
    assert row["half_maps"] == 0
    assert all(np.isnan(row[column]) for column in set(NUMBERS) - {"half_maps"})


def test_the_longest_edge_and_all_voxels(tmp_path):
    row = row_of(tmp_path, {"map": {"dimensions": {"sec": 70, "row": 90, "col": 80}}})
    assert (row["box"], row["voxels"]) == (90, 504_000)


def test_one_half_map_is_none(tmp_path):
    half = {"file": "emd_1234_half_map_1.map.gz"}
    row = row_of(tmp_path, {"interpretation": {"half_map_list": {"half_map": half}}})
    assert row["half_maps"] == 0


def test_rows_are_in_the_order_of_the_numbers(tmp_path):
    ids = ["EMD-30342", "EMD-0723", "EMD-8410", "EMD-100001", "EMD-11657"]
    table = table_of(tmp_path, [{"emdb_id": emdb_id} for emdb_id in ids])
    assert table["id"].tolist() == ["EMD-0723", "EMD-8410", "EMD-11657", "EMD-30342", "EMD-100001"]


def test_an_entry_that_moved_to_the_next_page_is_there_once(tmp_path):
    """A release between two requests pushes the last entry of page 1 onto page 2."""
    entries = {
        k: {"emdb_id": f"EMD-{k}", "admin": {"title": f"entry {k}"}} for k in range(1001, 1006)
    }
    newer = entries[1003] | {"admin": {"title": "entry 1003, revised"}}
    pages = [
        page_of(tmp_path, [entries[1001], entries[1002], entries[1003]]),
        page_of(tmp_path, [newer, entries[1004], entries[1005]], "page_0002.json"),
    ]
    table = read_catalogue(pages)
    assert table["id"].tolist() == [f"EMD-{k}" for k in range(1001, 1006)]
    assert table["title"][2] == "entry 1003, revised"


def test_no_entries_make_an_empty_table(tmp_path):
    table = table_of(tmp_path, [])
    write_catalogue(table, tmp_path / "catalogue.tsv")
    again = load_catalogue(tmp_path / "catalogue.tsv")
    assert (len(table), tuple(table), tuple(again)) == (0, COLUMNS, COLUMNS)


# the file


@pytest.fixture(scope="module")
def made_up():
    return made_up_catalogue(1200, seed=6)


def test_a_table_comes_back_from_its_file(tmp_path, made_up):
    table = table_of(tmp_path, made_up)
    assert len(table) == 1200
    write_catalogue(table, tmp_path / "catalogue.tsv")
    again = load_catalogue(tmp_path / "catalogue.tsv")
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_lists_of_one_as_bare_objects_make_the_same_table(tmp_path, made_up):
    pd.testing.assert_frame_equal(
        table_of(tmp_path, [bare(entry) for entry in made_up]), table_of(tmp_path, made_up)
    )


def test_made_up_entries_are_as_varied_as_real_ones(tmp_path, made_up):
    """What the tests of the selection lean on."""
    assert made_up == made_up_catalogue(1200, seed=6) != made_up_catalogue(1200, seed=7)
    table = table_of(tmp_path, made_up)
    assert table["id"].is_unique
    assert table["resolution"].min() < 2.5
    assert table["resolution"].max() == 12
    assert table["box"].min() < 130
    assert table["box"].max() > 640
    assert table.loc[table["released"] != "", "released"].between("2005-01-01", "2026-06-30").all()
    assert table[["resolution", "contour", "box", "voxel_size"]].isna().any().all()
    assert (table[["pdb", "released", "method", "status"]] == "").any().all()
    assert set(table["half_maps"]) == {0, 2}
    assert table["pdbs"].str.contains(",").any()
    assert {"singleParticle", "tomography", "helical"} < set(table["method"])


def test_cells_that_pandas_would_take_for_something_else(tmp_path):
    """A PDB id like a power of ten, a title like a missing value, quotes, a lone surrogate."""
    entries = [
        {
            "emdb_id": f"EMD-000{k}",
            "admin": {"title": title},
            "crossreferences": {"pdb_list": {"pdb_reference": [{"pdb_id": pdb_id}]}},
        }
        for k, (title, pdb_id) in enumerate(
            [("NA", "1e10"), ('"open"\tstate\n2', "0123"), ("β\ud800\0 #1", "3.20"), ("'", "1nan")]
        )
    ]
    table = table_of(tmp_path, entries)
    write_catalogue(table, tmp_path / "catalogue.tsv")
    assert len((tmp_path / "catalogue.tsv").read_bytes().split(b"\n")) == 1 + 4 + 1
    again = load_catalogue(tmp_path / "catalogue.tsv")
    assert again["title"].tolist() == ["NA", '"open" state 2', "β #1", "'"]
    assert again["pdb"].tolist() == ["1e10", "0123", "", "1nan"]
    assert again["id"].tolist() == ["EMD-0000", "EMD-0001", "EMD-0002", "EMD-0003"]


def test_what_is_unknown_is_an_empty_cell(tmp_path):
    path = tmp_path / "catalogue.tsv"
    write_catalogue(read_catalogue([SEARCH]), path)
    header, older, younger = path.read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == list(COLUMNS)
    assert older.split("\t")[6:] == ["", "3.2", "", "0.09", "0", "100", "1000000", "1.05"]
    assert younger.split("\t")[6:9] == ["REL", "3.97", "2022-10-12"]


HEADER = "\t".join(COLUMNS) + "\n"
EMPTY = "\t" * 13  # the cells of a row


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot read the catalogue"),
        ("", "not a catalogue"),
        ("id\tpdb\nEMD-3488\t5ni1\n", "no column emdb, pdbs"),
        ("\udcff\n", "not a catalogue"),
        (HEADER + EMPTY.replace("\t", "x\t") + "x\n", "not a catalogue: .*resolution"),
        (HEADER + EMPTY + "\t\n", "more cells"),
        (HEADER + EMPTY + "\n" + EMPTY + "\t\n", "not a catalogue"),
    ],
)
def test_what_is_no_catalogue_is_one_line(tmp_path, text, reason):
    path = tmp_path / "catalogue.tsv"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    with pytest.raises(CryoreadyError, match=f"^{path}: .*{reason}") as error:
        load_catalogue(path)
    assert len(str(error.value).splitlines()) == 1


def test_where_the_catalogue_comes_from(tmp_path):
    pages = [page_of(tmp_path, [{"emdb_id": "EMD-1234"}]), page_of(tmp_path, [], "page_0002.json")]
    for page, day in zip(pages, (12, 14), strict=True):
        time_of_page = datetime(2026, 7, day, 8, 30, tzinfo=UTC).timestamp()
        os.utime(page, (time_of_page, time_of_page))
    card = provenance(QUERY, pages, entries=1)
    assert json.loads(json.dumps(card)) == {
        "date": "2026-07-12T08:30:00+00:00",  # the older: what was released later may be missing
        "query": QUERY,
        "fields": FIELDS,
        "entries": 1,
        "pages": 2,
        "sha256": {page.name: hashlib.sha256(page.read_bytes()).hexdigest() for page in pages},
        "version": cryoready.__version__,
    }
