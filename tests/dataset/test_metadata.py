import copy
import functools
import json
import operator
from pathlib import Path

import pytest
from made_up import bare

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.metadata import (
    Metadata,
    extract_metadata,
    parse_metadata,
    read_metadata,
)

EMBEDDED = Path(__file__).parents[2] / "resources" / "EMD-3488" / "metadata.json"

SEARCH = Path(__file__).parents[1] / "data" / "emdb" / "search.json"
EMD_25107, EMD_3488 = json.loads(SEARCH.read_text(encoding="utf-8"))


def parse(entry):
    return parse_metadata(json.dumps(entry).encode())


def test_an_entry_as_emdb_gives_it():
    assert parse(EMD_25107) == Metadata(
        emdb_id="EMD-25107",
        title="Lassa virus glycoprotein construct(Josiah GPCysR4) recovered from GPC-I53-50 "
        "nanoparticle by localized reconstruction",
        method="singleParticle",
        resolution=3.97,
        contour=0.02,
        pdb_ids=("7sgd",),
        half_map_names=("emd_25107_half_map_1.map.gz", "emd_25107_half_map_2.map.gz"),
        status="REL",
        released="2022-10-12",
        box=(220, 220, 220),
        voxel_size=1.03,
    )


def test_what_an_entry_does_not_say_is_none():
    assert parse(EMD_3488) == Metadata(
        emdb_id="EMD-3488",
        title="Cryo-EM structure of haemoglobin at 3.2 Å determined with the Volta phase plate",
        method="singleParticle",
        resolution=3.2,
        contour=0.09,
        pdb_ids=("5ni1",),
        box=(100, 100, 100),
        voxel_size=1.05,
    )


def test_an_entry_that_is_parsed_already():
    assert extract_metadata(EMD_25107) == parse(EMD_25107)


def test_the_embedded_entry():
    metadata = read_metadata(EMBEDDED)
    assert (metadata.emdb_id, metadata.pdb_ids) == ("EMD-3488", ("5ni1",))
    assert (metadata.resolution, metadata.method) == (3.2, "singleParticle")
    assert metadata.title.startswith("Cryo-EM structure of haemoglobin at 3.2 Å")
    low, high = (
        json.loads(EMBEDDED.read_text())["map"]["statistics"][k] for k in ("average", "maximum")
    )
    assert low < metadata.contour < high


def paths_of(node, path=()):
    """Every path into a JSON document."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from paths_of(value, (*path, key))


@pytest.mark.parametrize("value", [None, [], {}, "", "x", 7, True, [None], [[{}]]])
def test_any_part_may_be_missing_or_strange(value):
    """Whatever stands anywhere, nothing crashes and fields elsewhere are not touched."""
    for path in paths_of(EMD_25107):
        entry = copy.deepcopy(EMD_25107)
        parent = functools.reduce(operator.getitem, path[:-1], entry)
        parent[path[-1]] = value
        metadata = parse(entry)
        if path[0] != "structure_determination_list":
            assert (metadata.resolution, metadata.method) == (3.97, "singleParticle")
        if path[0] != "map":
            assert (metadata.contour, metadata.box, metadata.voxel_size) == (0.02, (220,) * 3, 1.03)
        if path[0] != "admin":
            assert (metadata.status, metadata.released) == ("REL", "2022-10-12")
        if path[0] != "crossreferences":
            assert metadata.pdb_ids == ("7sgd",)


def test_an_empty_entry():
    assert parse({}) == Metadata()


def test_a_list_of_one_may_be_a_bare_object():
    assert bare(EMD_25107) != EMD_25107
    assert parse(bare(EMD_25107)) == parse(EMD_25107)


@pytest.mark.parametrize(
    ("contours", "level"),
    [
        ([{"level": 0.1, "primary": False}, {"level": 0.2, "primary": True}], 0.2),
        ([{"level": 0.1, "primary": "false"}, {"level": "0.2", "primary": "true"}], 0.2),
        ([{"level": 0.1}, {"level": 0.2}], 0.1),
        ([{"primary": True}, {"level": 0.3, "primary": False}], 0.3),
        ([{"level": 0, "primary": True}], 0.0),
        ([{"level": "n/a", "primary": True}], None),
    ],
)
def test_the_primary_contour_is_the_recommended_one(contours, level):
    assert parse({"map": {"contour_list": {"contour": contours}}}).contour == level


@pytest.mark.parametrize("text", ["-3.2", "0", "nan", "inf", "1e999", "", "unknown", True, 10**400])
def test_an_impossible_resolution_is_none(text):
    entry = copy.deepcopy(EMD_25107)
    (determination,) = entry["structure_determination_list"]["structure_determination"]
    determination["image_processing"][0]["final_reconstruction"]["resolution"]["valueOf_"] = text
    assert parse(entry).resolution is None


def reference(pdb_id, frame=None):
    return {"pdb_id": pdb_id} | ({"relationship": {"in_frame": frame}} if frame else {})


@pytest.mark.parametrize(
    ("references", "pdb_ids"),
    [
        # EMDB's three words (its schema 3.0, pdb_reference), and none at all
        (
            [
                reference("1aaa", "PARTIALOVERLAP"),
                reference("1bbb", "NOOVERLAP"),
                reference("1ccc"),
                reference("1ddd", "FULLOVERLAP"),
                reference("1eee", "FULLOVERLAP"),
            ],
            ("1ddd", "1eee", "1aaa", "1ccc"),
        ),
        ([reference("1aaa", "NOOVERLAP")], ()),
        ([reference("1AAA"), reference("1bbb", "fulloverlap")], ("1bbb", "1aaa")),
        (
            [reference("1aaa"), reference("1bbb"), reference("1aaa", "FULLOVERLAP")],
            ("1aaa", "1bbb"),
        ),
        ([reference("1aaa", "OTHER"), reference("1bbb", {"x": 1})], ("1aaa", "1bbb")),
    ],
)
def test_models_in_the_frame_of_the_map_come_first(references, pdb_ids):
    entry = {"crossreferences": {"pdb_list": {"pdb_reference": references}}}
    assert parse(entry).pdb_ids == pdb_ids


@pytest.mark.parametrize(
    ("dimensions", "box"),
    [
        ({"col": 90, "row": 80, "sec": 70}, (70, 80, 90)),
        ({"col": "90", "row": "80", "sec": "70"}, (70, 80, 90)),
        ({"col": 90, "row": 80}, None),
        ({"col": 90, "row": 80, "sec": 0}, None),
        ({"col": 90, "row": 80, "sec": -70}, None),
        ({"col": 90, "row": 80, "sec": "unknown"}, None),
    ],
)
def test_the_box_is_in_the_order_of_the_axes(dimensions, box):
    assert parse({"map": {"dimensions": dimensions}}).box == box


@pytest.mark.parametrize(
    ("text", "released"),
    [
        ("2022-10-12T00:00:00", "2022-10-12"),
        ("2022-10-12T00:00:00Z", "2022-10-12"),
        ("2011-04-21", "2011-04-21"),  # as older answers have it
        ("2022-13-12T00:00:00", None),
        ("soon", None),
        (20221012, None),
    ],
)
def test_the_day_of_the_release(text, released):
    entry = {"admin": {"key_dates": {"deposition": "2001-01-01", "map_release": text}}}
    assert parse(entry).released == released


@pytest.mark.parametrize("text", ["0", "-1.05", "nan", None, True])
def test_an_impossible_voxel_size_is_none(text):
    assert parse({"map": {"pixel_spacing": {"x": {"valueOf_": text}}}}).voxel_size is None


def test_names_that_could_lead_elsewhere_are_left_out():
    models = [{"pdb_id": name} for name in ("../x", "7SGD", "7sgd", "7cec", "12345")]
    halves = [{"file": name} for name in ("../../emd_1234_half_map_1.map.gz", "x", None)]
    metadata = parse(
        {
            "crossreferences": {"pdb_list": {"pdb_reference": models}},
            "interpretation": {"half_map_list": {"half_map": halves}},
        }
    )
    assert metadata.pdb_ids == ("7sgd", "7cec")
    assert metadata.half_map_names == ()


@pytest.mark.parametrize(
    "content", [b"", b"<html>\n</html>", b"{", b"\xff\xfe\x00", b"[]", b"null", b'"EMD-1"', b"3"]
)
def test_what_is_no_json_object_is_an_error_of_one_line(tmp_path, content):
    path = tmp_path / "metadata.json"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match="not EMDB's JSON") as error:
        read_metadata(path)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CryoreadyError, match="cannot read the metadata"):
        read_metadata(tmp_path / "metadata.json")
