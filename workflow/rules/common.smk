# What all rules share: configuration and sheet, checked once, and lookups of an entry's files.
#
# Snakemake runs a step again when the set of its params values changes. So every step has two of
# them: the fingerprint of its science, and one dictionary of settings (only values are compared:
# two separate numbers could be swapped unnoticed).
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "workflow" / "scripts"
RESOURCES = Path(os.path.relpath(ROOT / "resources"))  # a moved clone reruns nothing
sys.path.insert(0, str(SCRIPTS))
# Scripts too take the package from here: Snakemake only appends their folder to the import path, so
# an installed copy, or another clone's, would win.
inherited = os.environ.get("PYTHONPATH")
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [str(SCRIPTS), inherited])))

from cryoready.core.config import read_config
from cryoready.core.errors import CryoreadyError
from cryoready.core.fingerprint import fingerprint
from cryoready.dataset.catalogue import HALF_MAP_ID, locate, read_sheet
from cryoready.dataset.yardstick import completed, read_yardstick


def checked(function, *args, **kwargs):
    """The result of `function`, or one line and the end: a traceback would only hide the line."""
    try:
        return function(*args, **kwargs)
    except CryoreadyError as error:
        raise SystemExit(f"cryoready: error: {error}")


config.update(checked(read_config, config, ROOT / "workflow" / "schemas" / "config.schema.yaml"))
SHEET = checked(read_sheet, Path(config["entries"]))
YARDSTICK = read_yardstick(RESOURCES / "benchmark" / "yardstick.tsv")
ENTRIES = completed(SHEET, YARDSTICK)
CACHE = config["cache"].rstrip("/")
EVALUATION = config["evaluation"]
RUN_NAME = config["train"]["run"]
RUN = f"results/training/{RUN_NAME}"


def science(name):
    """Fingerprint of the code behind a rule: comments, layout and file times do not change it.

    A function, so that only the code of rules with a job is read.
    """
    return lambda _: fingerprint(SCRIPTS / f"{name}.py")


def source(wildcards):
    """Where the files of an entry are, see `cryoready.dataset.catalogue.locate`.

    `<id>_half_map_1` is the entry with that half-map in the place of its map.
    """
    half = HALF_MAP_ID.fullmatch(wildcards.id)
    found = checked(
        locate,
        half["id"] if half else wildcards.id,
        ENTRIES,
        maps_folder=Path("maps"),
        embedded_folder=RESOURCES,
        downloads_folder=Path(CACHE),
    )
    if half:
        if found.half_map_1 is None:
            raise SystemExit(
                f"cryoready: error: {found.id} has no half-maps: give the columns half_map_1 and "
                "half_map_2 in the sheet (docs/sheet.md)"
            )
        return replace(found, map=getattr(found, half["role"]))
    if found.origin == "half_maps":
        return replace(found, map=Path(f"results/work/{found.id}/mean_of_half_maps.mrc"))
    return found


def files_of(wildcards, *roles):
    """The files that an entry has in these roles, by role."""
    found = {role: getattr(source(wildcards), role) for role in roles}
    return {role: str(path) for role, path in found.items() if path is not None}


def required(wildcards, *roles):
    """`files_of` of roles that the entry must have."""
    files = files_of(wildcards, *roles)
    for role in roles:
        if role not in files:
            raise SystemExit(
                f"cryoready: error: {wildcards.id} has no {role.replace('_', ' ')}: give the column "
                f"{role} in the sheet, or a file in maps/ (docs/sheet.md)"
            )
    return files


def cells_of(wildcards, *columns):
    """The entry's cells in these columns of the sheet, None where empty."""
    return {column: getattr(source(wildcards).entry, column) for column in columns}


def split(*names):
    """Ids of the sheet's entries in these splits."""
    return [entry.id for entry in SHEET.values() if entry.split in names]


def weights_file(choice):
    """The weights named by `weights` or `train.init`, which must be there."""
    paths = {
        "bundled": RESOURCES / "weights" / "starter" / "weights.safetensors",
        "trained": Path(RUN) / "weights.safetensors",
    }
    path = paths.get(choice, Path(choice))
    if path.is_file():
        return str(path)
    others = sorted(map(str, Path("results/training").glob("*/weights.safetensors")))
    hint = {
        "trained": (
            f"trained are: {', '.join(others)} (weights takes a path)"
            if others
            else "train first (snakemake --cores 8 train) or use weights: bundled"
        ),
        "bundled": "the file is part of this repository: restore it (git checkout resources)",
    }.get(choice, "weights are: bundled, trained, or the path of a file")
    raise SystemExit(f"cryoready: error: weights {choice!r}: {path} is not there; {hint}")


def weights_id(choice):
    """SHA-256 of the weights, so that other weights under the same name count as others."""
    return hashlib.sha256(Path(weights_file(choice)).read_bytes()).hexdigest()


def prepare_input(wildcards):
    """Map and model of a training pair; a simulated pair has a model only."""
    files = files_of(wildcards, "map", "model", "metadata")
    if "model" not in files:
        raise SystemExit(
            f"cryoready: error: {wildcards.id} has no model to train on: "
            "give the column pdb or model in the sheet"
        )
    return files


def boxes_of(*splits):
    return lambda _: [f"results/work/{entry}/boxes.npy" for entry in split(*splits)]


def cards_of(*splits):
    return lambda _: [f"results/work/{entry}/pair.json" for entry in split(*splits)]


def initial_weights(_):
    choice = config["train"]["init"]
    return [] if choice == "none" else weights_file(choice)


def train_settings():
    """What defines a run; how fast its boxes are read or how often it is saved does not."""
    how = ("run", "workers", "checkpoint_minutes")
    plan = {key: value for key, value in config["train"].items() if key not in how}
    return {"network": config["network"], "train": plan}


def enhance_input(wildcards):
    """Files of the entry; a mask_radius without a mask_model reaches around the entry's model."""
    files = required(wildcards, "map") | files_of(wildcards, "metadata", "mask", "mask_model")
    masked = cells_of(wildcards, "mask_radius")["mask_radius"] is not None
    return files | (files_of(wildcards, "model") if masked else {})


def enhance_output():
    """What `enhance` writes; the mask only if it is asked for."""
    files = {"map": "results/{id}_emready.mrc", "card": "results/{id}_emready.json"}
    return files | ({"mask": "results/{id}_emready_mask.mrc"} if config["mask"]["write"] else {})


def enhance_settings(wildcards):
    # no resolution: the network does not know it, and who adds it to the sheet waits for nothing
    cells = ("voxel_size", "contour", "mask_contour", "mask_radius")
    return {
        # no input: asking for a map must never repeat a training that is out of date
        "weights": weights_file(config["weights"]),
        "weights_sha256": weights_id(config["weights"]),
        **{key: config[key] for key in ("weights_grid", "output_grid", "mask")},
        # not where it runs: another device or batch size gives the same map
        "inference": {key: config["inference"][key] for key in ("preset", "tta", "precision")},
        "entry": cells_of(wildcards, *cells),
    }
