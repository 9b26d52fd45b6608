import copy
import functools
import json
import operator
from pathlib import Path

import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.metadata import Metadata, parse_metadata, read_metadata

EMBEDDED = Path(__file__).parents[2] / "resources" / "EMD-3488" / "metadata.json"

# The answer of EMDB for EMD-25107, cut to some of its fields, as kept in the tests of EMDB's sfftk
# (github.com/emdb-empiar/sfftk, sfftk/unittests/test_notes.py).
EMD_25107 = {
    "_id": "63428043d79f4542945d5036",
    "admin": {
        "current_status": {"code": {"valueOf_": "REL"}, "date": "2022-10-12T00:00:00"},
        "title": "Lassa virus glycoprotein construct(Josiah GPCysR4) recovered from GPC-I53-50 "
        "nanoparticle by localized reconstruction",
    },
    "crossreferences": {
        "pdb_list": {
            "pdb_reference": [
                {
                    "instance_type": "pdb_reference",
                    "pdb_id": "7sgd",
                    "relationship": {"in_frame": "FULLOVERLAP"},
                }
            ]
        },
    },
    "emdb_id": "EMD-25107",
    "interpretation": {
        "half_map_list": {
            "half_map": [
                {
                    "contour_list": {"contour": [{"primary": True, "source": "AUTHOR"}]},
                    "file": f"emd_25107_half_map_{k}.map.gz",
                    "instance_type": "half_map",
                }
                for k in (1, 2)
            ]
        },
        "segmentation_list": {"segmentation": [{"file": "emd_25107_msk_1.map"}]},
    },
    "map": {
        "contour_list": {
            "contour": [
                {"instance_type": "contour", "level": 0.02, "primary": True, "source": "AUTHOR"}
            ]
        },
        "file": "emd_25107.map.gz",
        "pixel_spacing": {axis: {"units": "Å", "valueOf_": "1.03"} for axis in "xyz"},
    },
    "structure_determination_list": {
        "structure_determination": [
            {
                "aggregation_state": "particle",
                "image_processing": [
                    {
                        "final_reconstruction": {
                            "resolution": {
                                "res_type": "BY AUTHOR",
                                "units": "Å",
                                "valueOf_": "3.97",
                            },
                            "resolution_method": "FSC 0.143 CUT-OFF",
                        },
                        "image_processing_id": 1,
                        "instance_type": "singleparticle_processing",
                    }
                ],
                "method": "singleParticle",
            }
        ]
    },
}


def parse(entry):
    return parse_metadata(json.dumps(entry).encode())


def test_an_entry_as_emdb_gives_it():
    assert parse(EMD_25107) == Metadata(
        emdb_id="EMD-25107",
        title=EMD_25107["admin"]["title"],
        method="singleParticle",
        resolution=3.97,
        contour=0.02,
        pdb_ids=("7sgd",),
        half_map_names=("emd_25107_half_map_1.map.gz", "emd_25107_half_map_2.map.gz"),
    )


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
            assert metadata.contour == 0.02
        if path[0] != "crossreferences":
            assert metadata.pdb_ids == ("7sgd",)


def test_an_empty_entry():
    assert parse({}) == Metadata()


def bare(node):
    """The document with every list of one replaced by what is in it."""
    if isinstance(node, dict):
        return {key: bare(value) for key, value in node.items()}
    if isinstance(node, list):
        return bare(node[0]) if len(node) == 1 else [bare(item) for item in node]
    return node


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
