"""Configuration, schema and documentation say the same."""

import copy
import runpy
from pathlib import Path

import pytest
import yaml

from cryoready.core.config import read_config, typed
from cryoready.core.errors import CryoreadyError
from cryoready.dataset.sheet import COLUMNS, ID_PATTERN, SPLITS

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def keys(schema, prefix=""):
    for name, inner in schema.get("properties", {}).items():
        yield f"{prefix}{name}", inner
        yield from keys(inner, f"{prefix}{name}.")


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


def test_the_shipped_configuration_is_valid():
    read_config(CONFIG, SCHEMA)


@pytest.mark.parametrize(
    "name",
    [
        *("small.yaml", "gpu.yaml", "../benchmarks/ablation.yaml"),
        *("../resources/weights/starter/config.yaml", "../resources/weights/v1/config.yaml"),
    ],
)
def test_other_shipped_configurations_change_known_keys_only(name):
    def update(base, change):
        for key, value in change.items():
            base[key] = update(base[key], value) if isinstance(value, dict) else value
        return base

    extra = yaml.safe_load((ROOT / "config" / name).read_text())
    read_config(update(copy.deepcopy(CONFIG), extra), SCHEMA)


def test_numbers_in_lists_may_be_given_as_text():
    """As Snakemake's ``--config 'ablation={seeds: [1, 2]}'`` does."""
    config = read_config(changed("ablation.seeds", ["1", "2"]), SCHEMA)
    assert config["ablation"]["seeds"] == [1, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_must_be_finite(value):
    with pytest.raises(CryoreadyError, match=r"train\.learning_rate = (nan|inf): must be a finite"):
        read_config(changed("train.learning_rate", value), SCHEMA)


def test_the_sheet_has_the_columns_of_its_schema():
    schema = yaml.safe_load((SCHEMA.parent / "entries.schema.yaml").read_text())
    assert tuple(schema["properties"]) == COLUMNS
    assert schema["properties"]["id"]["pattern"] == ID_PATTERN.pattern
    assert schema["properties"]["split"]["enum"] == list(SPLITS)


def test_the_pages_made_from_the_schemas_are_up_to_date():
    for path, text in runpy.run_path(str(ROOT / "docs" / "make_tables.py"))["tables"]().items():
        assert path.read_text(encoding="utf-8") == text, "run python docs/make_tables.py"


def test_every_key_is_described():
    for name, schema in keys(yaml.safe_load(SCHEMA.read_text())):
        assert schema.get("description"), name


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("wieghts", "bundled", r"unknown key 'wieghts'; did you mean 'weights'\?"),
        (
            "inference.prset",
            "paper",
            r"unknown key 'inference.prset'; did you mean 'inference.preset'",
        ),
        ("dataset.boxes.edge", 60, r"did you mean 'dataset.boxes.edge_voxels'"),
        ("preset", "paper", r"unknown key 'preset'; did you mean 'inference.preset'\?"),
        ("xyzzy", 1, r"unknown key 'xyzzy'; known: entries, "),
        ("inference.tta", 3, r"inference.tta = 3: 3 is not one of \[0, 4, 24\]"),
        ("train.epochs", 0, r"train.epochs = 0: 0 is less than the minimum of 1"),
        ("train.learning_rate", "fast", r"train.learning_rate = 'fast': .* not of type 'number'"),
        ("train.run", "../x", r"train.run = '../x'"),
        ("archive.maps", ["ftp://x"], r"archive.maps.0 = 'ftp://x'"),
        ("weights_grid", 0.7, r"weights_grid = 0.7"),
    ],
)
def test_a_wrong_entry_is_named_in_one_line(path, value, said):
    with pytest.raises(CryoreadyError, match=said) as caught:
        read_config(changed(path, value), SCHEMA)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("inference.tta", "4", 4),
        ("mask.write", "true", True),
        ("mask.edge", "2.5", 2.5),
        ("inference.batch_size", "null", None),
        ("weights", "1.0", "1.0"),
        ("inference.preset", "paper", "paper"),
    ],
)
def test_texts_of_the_command_line_become_what_the_schema_wants(path, text, value):
    settings = read_config(changed(path, text), SCHEMA)
    for key in path.split("."):
        settings = settings[key]
    assert settings == value
    assert type(settings) is type(value)


def test_a_missing_key_is_named():
    config = copy.deepcopy(CONFIG)
    del config["train"]["epochs"]
    with pytest.raises(CryoreadyError, match=r"'train.epochs' is missing"):
        read_config(config, SCHEMA)


def test_the_order_of_keys_means_nothing() -> None:
    """Snakemake compares settings as text: another order would prepare hundreds of maps again."""
    path = ROOT / "workflow" / "schemas" / "config.schema.yaml"
    schema = yaml.safe_load(path.read_text())["properties"]
    shipped = yaml.safe_load((ROOT / "config/config.yaml").read_text())["dataset"]
    turned = yaml.safe_load(yaml.safe_dump(shipped, sort_keys=True))
    turned["boxes"] = dict(reversed(turned["boxes"].items()))
    assert repr(typed(turned, schema["dataset"])) == repr(typed(shipped, schema["dataset"]))
