# What all rules share: configuration and sheet, checked once, and lookups of an entry's files.
#
# Snakemake runs a step again when the set of its params values changes. So every step has two of
# them: the fingerprint of its science, and one dictionary of settings (only values are compared:
# two separate numbers could be swapped unnoticed).
import os
import sys
from collections import ChainMap
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

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
from cryoready.core.whole_files import file_sha256
from cryoready.dataset.sheet import HALF_MAP_ID, SIMULATED, archive_path, locate, read_sheet
from cryoready.dataset.yardstick import completed, read_yardstick
from cryoready.training.variants import PREFIX, ablation_runs, require_structures, run_config


def checked(function, *args, **kwargs):
    """The result of `function`, or one line and the end: a traceback would only hide the line."""
    try:
        return function(*args, **kwargs)
    except CryoreadyError as error:
        raise SystemExit(f"cryoready: error: {error}")


SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
config.update(checked(read_config, config, SCHEMA))
SHEET = checked(read_sheet, Path(config["entries"]))
YARDSTICK = read_yardstick(RESOURCES / "benchmark" / "yardstick.tsv")
ENTRIES = completed(SHEET, YARDSTICK)
CACHE = config["cache"].rstrip("/")
PINNED = config["archive"]["checksums"]
if PINNED is not None and not Path(PINNED).is_file():
    raise SystemExit(
        f"cryoready: error: configuration: archive.checksums = {PINNED}: the file is not there; give "
        "the provenance.json of a data set, or null"
    )
EVALUATION = config["evaluation"]
DATASET = config["dataset"]
RUN_NAME = config["train"]["run"]
RUN = f"results/training/{RUN_NAME}"
RUN_TABLES = ("history.tsv", "validation.tsv")
# Of this machine; 1 where the profile says how many threads a rule has on another one (set-threads).
CORES = (not workflow.remote_exec and workflow.resource_settings.cores) or 1
ABLATION = checked(ablation_runs, config["ablation"])


# Modules that bring files, draw, or deal with schedulers: an edit there must not fetch and compute
# hundreds of maps again, nor begin a training anew that is under way.
UNCOUNTED = [
    f"cryoready.{name}"
    for name in (
        *("dataset.fetch", "dataset.archive_files", "dataset.download", "dataset.sheet"),
        *("dataset.fitted", "enhance.gpus", "report.pair_figure", "core.cost", "core.whole_files"),
        *(f"training.{name}" for name in ("allocation", "states", "stop")),
    )
]


def science(name):
    """Fingerprint of the code behind a rule: comments, layout and file times do not change it.

    A function, so that only the code of rules with a job is read.
    """
    return lambda _: _fingerprint(name)


@cache
def _fingerprint(name):
    return fingerprint(SCRIPTS / f"{name}.py", UNCOUNTED)


@cache  # asked for by every rule of an entry, several times
def source_of(entry_id, row):
    """Where the files of an entry are, see `cryoready.dataset.sheet.locate`.

    `<id>_half_map_1` is the entry with that half-map in the place of its map.
    """
    half = HALF_MAP_ID.fullmatch(entry_id)
    name = half["id"] if half else entry_id
    found = checked(
        locate,
        name,
        ENTRIES if row is None else ChainMap({name: row}, ENTRIES),
        maps_folder=Path("maps"),
        embedded_folder=RESOURCES,
        downloads_folder=Path(CACHE),
    )
    if half:
        path = getattr(found, half["role"])
        if path is None and found.origin == "archive" and EVALUATION["half_maps"]:
            path = archive_path(Path(CACHE), half["role"], found.archived["map"])
        if path is None:
            raise SystemExit(
                f"cryoready: error: {found.id} has no half-maps: give the columns half_map_1 and "
                "half_map_2 in the sheet (docs/sheet.md), or fetch those of EMDB: set "
                "evaluation.half_maps"
            )
        return replace(found, map=path)
    if found.origin == "half_maps":
        return replace(found, map=Path(f"results/work/{found.id}/mean_of_half_maps.mrc"))
    return found


def source(wildcards):
    """`source_of` an entry of the sheet, or of an id that may be in none."""
    return source_of(wildcards.id, None)


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


def with_maps():
    """Ids of the sheet's entries that have a map."""
    ids = [entry.id for entry in SHEET.values() if entry.map != SIMULATED]
    if not ids:
        raise SystemExit(
            f"cryoready: error: {config['entries']} has no entry with a map: there is nothing to "
            "enhance or to evaluate; add a row"
        )
    return ids


def weights_file(choice):
    """The weights named by `weights` or `train.init`, which must be there."""
    paths = {
        "bundled": RESOURCES / "weights" / "v1" / "weights.safetensors",
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
    path = Path(weights_file(choice))
    return _sha256(path, path.stat().st_mtime_ns)


@cache
def _sha256(path, _):
    return file_sha256(path)


def located(entry_id):
    """`source` of an entry of the sheet."""
    return source(SimpleNamespace(id=entry_id))


def simulated(*splits):
    """Ids of the entries in these splits whose maps are simulated."""
    return [entry for entry in split(*splits) if located(entry).simulated]


def boxes_of(*ids):
    return [f"results/work/{entry}/boxes.npy" for entry in ids]


def cards_of(*ids):
    return [f"results/work/{entry}/pair.json" for entry in ids]


def local_targets(target, share):
    """Targets as sharp as the maps are locally, if a run wants them of its real pairs."""
    wanted = real_pairs(share) if target == "local" else []
    return [f"results/work/{entry}/local_targets.npy" for entry in wanted]


def real_pairs(share):
    """Training entries to cut boxes of, if a share of the crops is real."""
    return [entry for entry in split("train") if share > 0 and not located(entry).simulated]


def structures(share):
    """The packed structures, if a share of the crops is made from them on the fly."""
    if share == 1:
        return []
    checked(require_structures, simulated("train"), share)
    return [f"results/work/structures.{kind}" for kind in ("npy", "tsv")]


@cache
def config_of(run):
    """The configuration of a run, checked: that of a variant is made up here."""
    merged = checked(run_config, run, config)
    return merged if merged["train"] is config["train"] else checked(read_config, merged, SCHEMA)


def of_run(function, *keys):
    """Input function: ``function`` of the settings ``train`` under these keys of the run."""
    return lambda w: function(*(config_of(w.run)["train"][key] for key in keys))


def judged(validate_every):
    """Sources of the entries whose enhanced maps are scored during the training."""
    if not validate_every:
        return []
    found = [located(entry) for entry in split("val")]
    found = [files for files in found if files.map is not None and files.model is not None]
    for files in found:
        if files.entry.resolution is None:
            raise SystemExit(
                f"cryoready: error: {files.id} has no resolution to be scored at during the "
                "training: give the column resolution in the sheet, or set train.validate_every to 0"
            )
    return found


def initial_weights(choice):
    return [] if choice == "none" else weights_file(choice)


def train_settings(wildcards):
    """What defines a run: not how fast its crops are made, how often it is saved, or where.

    Batches of half the size and twice as many a step give the same step.
    """
    how = ("run", "workers", "checkpoint_minutes", "devices", "nodes", "batch_size", "accumulate")
    network, train = (config_of(wildcards.run)[part] for part in ("network", "train"))
    plan = {key: value for key, value in train.items() if key not in how}
    plan["crops_per_step"] = train["batch_size"] * train["accumulate"]
    scored = [
        {
            "id": files.id,
            "resolution": files.entry.resolution,
            "voxel_size": files.entry.voxel_size,
        }
        for files in judged(train["validate_every"])
    ]
    return {"network": network, "train": plan, "judged": scored}


def finished_runs():
    """Names of the runs that have left weights, with the tables beside them."""
    histories = Path("results/training").glob("*/history.tsv")
    return sorted(path.parent.name for path in histories if path.with_name("card.json").is_file())


def left_by(run, *files):
    """Weights of a run that must be there, and checksums of what it left.

    No input: to look at a run, or to release it, must never repeat a training that is out of date.
    """
    folder = Path("results/training") / run
    if not (folder / "weights.safetensors").is_file():
        raise SystemExit(
            f"cryoready: error: {folder}: no run of that name has ended; train it first, or set "
            f"train.run to one of: {', '.join(finished_runs()) or 'none yet'}"
        )
    there = {name: folder / name for name in files if (folder / name).is_file()}
    sums = {name: file_sha256(path) for name, path in there.items()}
    return {"weights": str(folder / "weights.safetensors"), "sha256": sums}


def sampled_runs():
    """Runs whose crops are shown: of the ablation one seed."""
    if not split("val"):
        return []
    shown = f"-{config['ablation']['seeds'][0]}"
    return [run for run in finished_runs() if not run.startswith(PREFIX) or run.endswith(shown)]


def training_report_settings(_):
    """What is there to be compared: the runs, the table of the ablation; no training is asked for."""
    runs, table = finished_runs(), Path("results/ablation.tsv")
    if not runs:
        raise SystemExit(
            "cryoready: error: results/training: no run has ended; train one first "
            "(snakemake --cores 8 train)"
        )
    return {
        "runs": {run: left_by(run, *RUN_TABLES)["sha256"] for run in runs},
        "ablation": str(table) if table.is_file() else None,
        "ablation_sha256": table.is_file() and file_sha256(table),
        "resolutions": {entry: SHEET[entry].resolution for entry in split("val")},
    }


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
        # not where it runs: that changes the map by no more than rounding and the ends of tiles do
        "inference": {
            key: config["inference"][key] for key in ("preset", "tta", "precision", "skip_empty")
        },
        "entry": cells_of(wildcards, *cells),
    }
