import subprocess
import sys
from pathlib import Path

import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.sheet import (
    COLUMNS,
    Candidate,
    Entry,
    archive_path,
    check_id,
    locate,
    read_candidates,
    read_sheet,
)

SHIPPED = Path(__file__).parents[2] / "config" / "entries.tsv"


@pytest.fixture
def write(tmp_path):
    def write_sheet(text):
        path = tmp_path / "my.tsv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_sheet


@pytest.fixture
def find(tmp_path, monkeypatch):
    """`locate` in an empty project; ``touch`` makes files there."""
    monkeypatch.chdir(tmp_path)

    def find_entry(entry_id, sheet=None, *, touch=()):
        for name in touch:
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return locate(
            entry_id,
            sheet or {},
            maps_folder=Path("maps"),
            embedded_folder=Path("resources"),
            downloads_folder=Path("downloads"),
        )

    return find_entry


def line_of(error):
    """The message, which must be one line."""
    message = str(error.value)
    assert message
    assert len(message.splitlines()) == 1
    return message


EMBEDDED = (
    "resources/EMD-3488/emd_3488.map.gz",
    "resources/EMD-3488/5ni1.pdb.gz",
    "resources/EMD-3488/metadata.json",
)


# ids


@pytest.mark.parametrize(
    "entry_id",
    ["mine", "EMD-3488", "EMD-30342-A", "cryosparc_P1_J2_map", "3488", "a.b-c", "x" * 64],
)
def test_ids_that_may_stand_in_a_file_name(entry_id):
    assert check_id(entry_id) == entry_id


@pytest.mark.parametrize(
    "entry_id",
    ["", "x" * 65, "-x", ".x", "_x", "../x", "a/b", "a b", "EMD-3488\n", "ä", "a;b", "٣٤٨٨"],
)
def test_ids_that_may_not(entry_id):
    with pytest.raises(CryoreadyError, match="is not a valid id") as error:
        check_id(entry_id)
    assert "1 to 64 letters" in line_of(error)


@pytest.mark.parametrize("ending", ["_emready", "_evaluation", "_half_map_1", "_half_map_2"])
def test_names_of_the_workflows_own_files_are_no_ids(ending):
    with pytest.raises(CryoreadyError, match=f"{ending}' is kept for files of the workflow"):
        check_id(f"mine{ending}")
    assert check_id(f"mine{ending}_x") == f"mine{ending}_x"


@pytest.mark.parametrize("entry_id", ["EMD 3488", " EMD-3488", "emd 3488"])
def test_a_malformed_archive_id_is_recognised(entry_id):
    with pytest.raises(CryoreadyError, match=r"did you mean EMD-3488\?"):
        check_id(entry_id)


@pytest.mark.parametrize(
    "entry_id", ["emd-3488", "3488", "EMD_3488", "EMD3488", "emd_3488", "emd_3488.map.gz"]
)
def test_a_well_formed_near_miss_of_an_archive_id_is_recognised(find, entry_id):
    with pytest.raises(CryoreadyError, match=r"did you mean EMD-3488\?") as error:
        find(entry_id)
    line_of(error)


def test_a_file_named_like_the_archives_is_a_dropped_map(find):
    assert find("emd_3488", touch=["maps/emd_3488.map"]).origin == "maps"


# the sheet


def test_a_sheet_of_all_columns(write):
    numbers = {"resolution", "voxel_size", "mask_contour", "mask_radius", "contour"}
    special = {"id": "mine", "emdb": "EMD-1234", "pdb": "5ni1", "split": "val"}
    cells = {c: special.get(c, "1.5" if c in numbers else f"{c}.x") for c in COLUMNS}
    path = write("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")
    (entry,) = read_sheet(path).values()
    assert {c: str(getattr(entry, c)) for c in COLUMNS} == cells
    assert all(getattr(entry, c) == 1.5 for c in numbers)
    assert entry.where == f"{path}, line 2"


def test_the_columns_are_those_of_the_design():
    design = (
        "id, emdb, pdb, map, model, resolution, voxel_size, half_map_1, half_map_2, mask, "
        "mask_contour, mask_model, mask_radius, contour, split, built_model, reference_map, "
        "reference_model, deepemhancer_map, locscale_map, emready_map, rejected_because"
    )
    assert ", ".join(COLUMNS) == design


def test_why_an_entry_was_left_out_is_kept_and_may_be_any_text(write):
    reason = "cc_mask: 0.3429, less than 0.65; 'see' <https://a.b/c?d=1>"
    text = f"id\tsplit\trejected_because\nEMD-1044\t\t{reason}\nEMD-2513\ttrain\t\n"
    left_out, taken = read_sheet(write(text)).values()
    assert (left_out.split, left_out.rejected_because) == (None, reason)
    assert (taken.split, taken.rejected_because) == ("train", None)


def test_only_the_id_is_obligatory_and_empty_cells_are_none(write):
    assert read_sheet(write("id\na\n\n# b\nc\n")) == {"a": Entry("a"), "c": Entry("c")}
    assert read_sheet(write("id\tpdb\na\t\n \t \n")) == {"a": Entry("a")}
    assert read_sheet(write("id\n")) == {}


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfid\tpdb\nmine\t5NI1\n",
        b"id\tpdb\r\nmine\t5NI1\r\n",
        b"# made by hand\n\nid\tpdb\nmine\t5NI1",
        b" id \t pdb\nmine \t5NI1 \n",
    ],
    ids=["byte order mark", "CRLF", "comment first, no last newline", "blanks"],
)
def test_harmless_differences_between_editors(write, text):
    assert read_sheet(write(text)) == {"mine": Entry("mine", pdb="5NI1")}


def test_cells_are_text_unless_numeric(write):
    entry = read_sheet(write("id\tpdb\tresolution\n0017\t1e10\t3.20\n"))["0017"]
    assert (entry.pdb, entry.resolution) == ("1e10", 3.2)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["no header"]),
        ("\n# only a comment\n", ["no header"]),
        ("EMD-3488\t5NI1\n", ["line 1", "no header", "'id'"]),
        ("pdb\tmap\nx\ty\n", ["line 1", "among them 'id'"]),
        ("id\tresolutoin\n", ["line 1", "column 2", "'resolutoin'", "did you mean 'resolution'?"]),
        ("id\tMAP\n", ["line 1", "column 2", "did you mean 'map'?"]),
        ("id\tqqqqqq\n", ["'qqqqqq'", "known are id, emdb"]),
        ("id\tpdb\t\n", ["line 1", "column 3", "unknown column ''"]),
        ("id\tpdb\tpdb\n", ["line 1", "column 3", "'pdb' is there already: column 2"]),
        ("id,pdb\nmine,5NI1\n", ["line 1", "commas instead of tabs"]),
        ("id;pdb\nmine;5NI1\n", ["line 1", "semicolons instead of tabs"]),
        ("id   pdb\nmine 5NI1\n", ["line 1", "spaces instead of tabs"]),
        ("id\tpdb\nmine,5NI1\n", ["line 2", "expected 2 cells, found 1", "',' in place of a tab"]),
        (
            "id\tpdb\n\nmine 5NI1\n",
            ["line 3", "expected 2 cells, found 1", "' ' in place of a tab"],
        ),
        ("id\tpdb\nmine\n", ["line 2", "expected 2 cells, found 1"]),
        ("id\tpdb\nmine\t5NI1\tx\n", ["line 2", "expected 2 cells, found 3"]),
        ("id\tpdb\n\t5NI1\n", ["line 2", "column 'id'", "empty"]),
        ("id\nmine\nyours\nmine\n", ["line 4", "column 'id'", "line 2"]),
        ("id\nmy map\n", ["line 2", "column 'id'", "'my map' is not a valid id"]),
        ("id\nEMD 3488\n", ["line 2", "column 'id'", "did you mean EMD-3488?"]),
        ("id\nmine_emready\n", ["line 2", "column 'id'", "'_emready' is kept"]),
        ("id\temdb\nmine\temd-3488\n", ["line 2", "column 'emdb'", "did you mean EMD-3488?"]),
        ("id\temdb\nEMD-3488\tEMD-3489\n", ["line 2", "column 'emdb'", "contradicts"]),
        ("id\tpdb\nmine\t7CEC chain A\n", ["line 2", "column 'pdb'", "'7CEC chain A'"]),
        ("id\tresolution\nmine\t3.2 Å\n", ["line 2", "column 'resolution'", "'3.2 Å'"]),
        ("id\tresolution\nmine\t3,2\n", ["line 2", "column 'resolution'", "not a number"]),
        ("id\tresolution\nmine\tnan\n", ["line 2", "not a number"]),
        ("id\tresolution\nmine\t1e999\n", ["line 2", "not a number"]),
        ("id\tresolution\nmine\t1_0\n", ["line 2", "not a number"]),
        ("id\tresolution\nmine\t-3\n", ["line 2", "column 'resolution'", "-3", "above 0"]),
        ("id\tvoxel_size\nmine\t0\n", ["line 2", "column 'voxel_size'", "above 0"]),
        ("id\tcontour\nmine\t-0.1\n", ["line 2", "column 'contour'", "0 or above"]),
        ("id\tsplit\nmine\ttesting\n", ["line 2", "column 'split'", "train, val, test"]),
        ("id\tmap\nmine\tsimulated\n", ["line 2", "column 'model'", "simulated"]),
        (b"id\tmap\nmine\t\xe4.mrc\n", ["not UTF-8", "byte 12"]),
        ("id\n".encode("utf-16"), ["not UTF-8", "byte 0"]),
    ],
)
def test_what_is_wrong_with_a_sheet_is_said_in_one_line(write, text, parts):
    path = write(text)
    with pytest.raises(CryoreadyError) as error:
        read_sheet(path)
    message = line_of(error)
    assert message.startswith(str(path))
    for part in parts:
        assert part in message


def test_a_sheet_that_is_not_there(tmp_path):
    for path in (tmp_path / "no.tsv", tmp_path):
        with pytest.raises(CryoreadyError, match="cannot read the sheet") as error:
            read_sheet(path)
        line_of(error)


# where a map comes from


def test_the_order_of_places(find):
    """Row, maps/, embedded, archive: taking away the first reveals the next."""
    sheet = {"EMD-3488": Entry("EMD-3488", map="elsewhere/x.map")}
    there = ["elsewhere/x.map", "maps/EMD-3488.mrc", *EMBEDDED]
    source = find("EMD-3488", sheet, touch=there)
    assert (source.origin, source.map) == ("sheet", Path("elsewhere/x.map"))
    source = find("EMD-3488")
    assert (source.origin, source.map) == ("maps", Path("maps/EMD-3488.mrc"))
    Path("maps/EMD-3488.mrc").unlink()
    source = find("EMD-3488")
    assert (source.origin, source.map) == ("embedded", Path(EMBEDDED[0]))
    assert (source.model, source.metadata) == (Path(EMBEDDED[1]), Path(EMBEDDED[2]))
    Path(EMBEDDED[0]).unlink()
    source = find("EMD-3488")
    assert source.origin == "archive"
    assert source.map == Path("downloads/EMD-3488/emd_3488.map.gz")
    assert source.metadata == Path("downloads/EMD-3488/metadata.json")
    assert source.model is None


@pytest.mark.parametrize(
    ("touch", "origin"),
    [((), "archive"), (EMBEDDED, "embedded"), (("maps/EMD-3488.ccp4.gz",), "maps")],
)
def test_a_row_without_a_map_keeps_its_other_columns(find, touch, origin):
    entry = Entry("EMD-3488", emdb="EMD-3488", pdb="5NI1", resolution=3.2, split="test")
    source = find("EMD-3488", {"EMD-3488": entry}, touch=touch)
    assert (source.origin, source.entry) == (origin, entry)
    shipped = origin == "embedded"
    assert source.model == Path(EMBEDDED[1] if shipped else "downloads/models/5ni1.cif.gz")


def test_the_archives_id_may_stand_in_the_column_emdb(find):
    sheet = {"globin": Entry("globin", emdb="EMD-3488")}
    assert find("globin", sheet).map == Path("downloads/EMD-3488/emd_3488.map.gz")
    assert find("globin", sheet, touch=EMBEDDED).map == Path(EMBEDDED[0])


def test_an_embedded_model_of_another_pdb_entry_is_not_taken(find):
    sheet = {"EMD-3488": Entry("EMD-3488", pdb="5ME2")}
    assert find("EMD-3488", sheet, touch=EMBEDDED).model == Path("downloads/models/5me2.cif.gz")


@pytest.mark.parametrize(
    ("entry", "touch", "archived"),
    [
        (Entry("EMD-3488"), (), {"map": "EMD-3488", "metadata": "EMD-3488"}),
        (
            Entry("globin", emdb="EMD-3488", pdb="5NI1"),
            (),
            {"map": "EMD-3488", "metadata": "EMD-3488", "model": "5ni1"},
        ),
        (Entry("EMD-3488", pdb="5NI1"), EMBEDDED, {}),
        (Entry("EMD-3488", pdb="5ME2"), EMBEDDED, {"model": "5me2"}),
        (Entry("EMD-3488", pdb="5NI1"), ("maps/EMD-3488.mrc",), {"model": "5ni1"}),
        (Entry("mine", map="x.mrc", pdb="5NI1"), ("x.mrc",), {"model": "5ni1"}),
        (Entry("mine", map="x.mrc", model="x.pdb"), ("x.mrc", "x.pdb"), {}),
        (
            Entry("EMD-3488", pdb="5NI1", model="x.pdb"),
            ("x.pdb",),
            {"map": "EMD-3488", "metadata": "EMD-3488"},
        ),
    ],
)
def test_what_of_an_entry_is_the_archives(find, entry, touch, archived):
    """Exactly these are fetched: what ships or is the user's has no name in the archive."""
    source = find(entry.id, {entry.id: entry}, touch=touch)
    assert source.archived == archived
    for role in ("map", "metadata", "model"):
        path = getattr(source, role)
        assert (role in archived) == (path is not None and path.is_relative_to("downloads"))
        if role in archived:
            assert path == archive_path(Path("downloads"), role, archived[role])


@pytest.mark.parametrize(
    ("role", "key", "expected"),
    [
        ("map", "EMD-3488", "EMD-3488/emd_3488.map.gz"),
        ("map", "EMD-30342", "EMD-30342/emd_30342.map.gz"),
        ("half_map_1", "EMD-3488", "EMD-3488/emd_3488_half_map_1.map.gz"),
        ("half_map_2", "EMD-3488", "EMD-3488/emd_3488_half_map_2.map.gz"),
        ("metadata", "EMD-3488", "EMD-3488/metadata.json"),
        ("model", "5ni1", "models/5ni1.cif.gz"),
    ],
)
def test_files_of_the_archive_have_its_own_names(role, key, expected):
    assert archive_path(Path("a/b"), role, key) == Path("a/b") / expected


@pytest.mark.parametrize("suffix", [".mrc", ".map", ".ccp4", ".MRC"])
@pytest.mark.parametrize("model", [".pdb", ".cif", ".ent", ".mmcif"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_dropped_files(find, suffix, model, packed):
    names = {
        "map": f"maps/mine{suffix}{packed}",
        "model": f"maps/mine{model}{packed}",
        "half_map_1": f"maps/mine_half_map_1{suffix}{packed}",
        "half_map_2": f"maps/mine_half_map_2{suffix}{packed}",
    }
    other = ["maps/mine2.mrc", "maps/mine.txt", "maps/mine.v2.mrc", "maps/README.md"]
    source = find("mine", touch=[*names.values(), *other])
    assert source.origin == "maps"
    assert {role: str(getattr(source, role)) for role in names} == names


def test_files_of_the_row_go_before_dropped_ones(find):
    sheet = {"mine": Entry("mine", model="other/m.cif", mask="other/mask.mrc")}
    touch = ["maps/mine.mrc", "maps/mine.pdb", "other/m.cif", "other/mask.mrc"]
    source = find("mine", sheet, touch=touch)
    assert (source.map, source.model) == (Path("maps/mine.mrc"), Path("other/m.cif"))
    assert source.mask == Path("other/mask.mrc")


@pytest.mark.parametrize(
    "names",
    [
        ("maps/x.mrc", "maps/x.map.gz"),
        ("maps/x.map", "maps/x.map.gz"),
        ("maps/x_half_map_1.mrc", "maps/x_half_map_1.ccp4"),
        ("maps/x.cif", "maps/x.pdb"),
    ],
)
def test_two_files_of_one_stem_are_both_named(find, names):
    with pytest.raises(CryoreadyError, match="keep one") as error:
        find("x", touch=["maps/x.mrc" if "half" in names[0] else names[0], *names])
    assert all(name in line_of(error) for name in names)


def test_one_half_map_alone(find):
    with pytest.raises(CryoreadyError, match=r"mine_half_map_2\.mrc is the only half-map"):
        find("mine", touch=["maps/mine.mrc", "maps/mine_half_map_2.mrc"])


def test_a_broken_link_is_not_called_missing(find):
    Path("maps").mkdir()
    Path("maps/mine.mrc").symlink_to("/nowhere/mine.mrc")
    with pytest.raises(CryoreadyError, match=r"maps/mine\.mrc is a broken link"):
        find("mine")


def test_a_simulated_pair_has_a_model_and_no_map(find):
    sheet = {"1abc": Entry("1abc", map="simulated", model="pairs/1abc.pdb.gz", resolution=4.0)}
    source = find("1abc", sheet, touch=["pairs/1abc.pdb.gz"])
    assert (source.origin, source.map, source.simulated) == ("sheet", None, True)
    assert source.model == Path("pairs/1abc.pdb.gz")


@pytest.mark.parametrize("column", ["map", "model", "half_map_1", "mask", "emready_map"])
def test_a_path_of_a_row_that_does_not_exist(find, write, column):
    sheet = read_sheet(write(f"id\t{column}\nmine\tno/such.mrc\n"))
    with pytest.raises(CryoreadyError, match=f"line 2, column '{column}': 'no/such.mrc'") as error:
        find("mine", sheet, touch=["maps/mine.mrc"])
    line_of(error)


def test_an_id_that_is_nowhere(find):
    sheet = {"minimal": Entry("minimal")}
    with pytest.raises(CryoreadyError, match="no map for 'mine'") as error:
        find("mine", sheet, touch=["maps/mine2.mrc", "maps/mine2_half_map_1.mrc"])
    message = line_of(error)
    for part in ("maps/mine.mrc", "EMD- and 4 or 5 digits", "row of the sheet", "'mine2'"):
        assert part in message
    assert "half_map" not in message


@pytest.mark.parametrize("entry_id", ["EMD-123", "EMD-123456", "EMD-30342-A"])
def test_other_ids_that_start_with_emd_are_not_sought_in_the_archive(find, entry_id):
    with pytest.raises(CryoreadyError, match="EMD- and 4 or 5 digits"):
        find(entry_id)


def test_a_row_that_leads_nowhere_names_its_line(find, write):
    sheet = read_sheet(write("id\tpdb\nmine\t5NI1\n"))
    with pytest.raises(CryoreadyError, match="line 2 gives neither map nor emdb") as error:
        find("mine", sheet)
    line_of(error)


@pytest.mark.parametrize("entry_id", ["../secret", "a/b", "x_emready"])
def test_an_id_is_matched_before_it_reaches_a_path(find, entry_id):
    with pytest.raises(CryoreadyError, match="is not a valid id"):
        find(entry_id)


# candidates

CANDIDATES = """\
id\temdb\tpdb\tresolution\tcontour\tvoxels\tvoxel_size\tsplit\trank\tcluster\trejected_because
EMD-1001\tEMD-1001\t1abc\t3.5\t0.02\t27000000\t1.1\ttrain\t1\t1ABC_1\t
EMD-1002\tEMD-1002\t\t9.1\t\t\t\t\t\t\tresolution: 9.1, not 3-6 Å
EMD-1003\tEMD-1003\t2def\t4\t\t1.25e+08\t0.83\ttest\t2\t2DEF_1,AF_1\t
"""


def test_candidates_are_what_was_not_rejected(tmp_path):
    path = tmp_path / "candidates.tsv"
    path.write_text(CANDIDATES, encoding="utf-8")
    found = read_candidates(path)
    assert found == {
        "EMD-1001": Candidate(
            **{"id": "EMD-1001", "emdb": "EMD-1001", "pdb": "1abc", "resolution": 3.5},
            **{"contour": 0.02, "split": "train", "voxels": 27_000_000, "sampling": 1.1},
        ),
        "EMD-1003": Candidate(
            **{"id": "EMD-1003", "emdb": "EMD-1003", "pdb": "2def", "resolution": 4.0},
            **{"contour": None, "split": "test", "voxels": 125_000_000, "sampling": 0.83},
        ),
    }
    assert found["EMD-1003"].where == f"{path}, EMD-1003"


def test_before_they_are_chosen_there_are_no_candidates(tmp_path):
    assert read_candidates(tmp_path / "candidates.tsv") == {}
    (tmp_path / "candidates.tsv").write_text(CANDIDATES.splitlines()[0] + "\n")
    assert read_candidates(tmp_path / "candidates.tsv") == {}


def test_a_candidate_is_all_of_the_archive(find, tmp_path):
    (tmp_path / "candidates.tsv").write_text(CANDIDATES, encoding="utf-8")
    source = find("EMD-1001", read_candidates(tmp_path / "candidates.tsv"))
    assert source.origin == "archive"
    assert source.archived == {"map": "EMD-1001", "metadata": "EMD-1001", "model": "1abc"}


# what ships


def test_the_shipped_sheet(find):
    sheet = read_sheet(SHIPPED)
    splits = {"test": set(), "val": set(), "train": set(), None: set()}
    for entry_id, entry in sheet.items():
        assert entry_id == entry.emdb  # so no entry is in two splits
        assert entry.pdb
        assert find(entry_id, sheet).origin == "archive"
        splits[entry.split].add(entry_id)
    assert splits["test"] == {"EMD-3488", "EMD-3240", "EMD-30342"}
    assert splits["val"] == {"EMD-5830", "EMD-5137", "EMD-2513", "EMD-8410"}
    assert splits[None] == {"EMD-1461", "EMD-6374", "EMD-20026", "EMD-20755"}
    assert len(sheet) == 21
    assert sheet["EMD-3488"].resolution == 3.2


def test_the_module_is_light_enough_for_the_snakefile():
    code = (
        "import sys; before = set(sys.modules); import cryoready.dataset.sheet;"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert loaded.stdout.split() == ["cryoready"]
