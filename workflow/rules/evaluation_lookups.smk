# Lookups of the evaluation and of the benchmark, beside those of common.smk.
import csv
import re

from cryoready.dataset.metadata import read_metadata
from cryoready.dataset.yardstick import chosen

PEERS = Path(os.path.relpath(ROOT / ".venv-peers"))  # `make peers`


def peers_of(wildcards):
    """Maps of others to be compared with, by name, and why one is left out."""
    files = files_of(wildcards, "deepemhancer_map", "locscale_map", "emready_map")
    known = cells_of(wildcards, "resolution")["resolution"] or files_of(wildcards, "metadata")
    left_out = {}
    if not EVALUATION["auto_sharpen"]:
        left_out["auto_sharpened"] = "evaluation.auto_sharpen is false"
    elif not (PEERS / ".installed").is_file():
        left_out["auto_sharpened"] = f"{PEERS} is not there (make peers)"
    elif not known:
        left_out["auto_sharpened"] = "no resolution is known: give the column resolution"
    else:
        files["auto_sharpened_map"] = f"results/work/{wildcards.id}/auto_sharpened.mrc"
    return files, left_out


def model_of(wildcards):
    """The entry's model; for an entry of the archive the folder of the one fitted into the map."""
    files = files_of(wildcards, "model", "metadata")
    found = source(wildcards)
    if "model" in files or found.origin != "archive":
        return files
    return files | {"fitted": f"{CACHE}/{found.archived['map']}/fitted"}


def half_maps_of(wildcards):
    """Half-maps of an entry: its own or, if `evaluation.half_maps` asks for them, the archive's."""
    roles = ("half_map_1", "half_map_2")
    files, found = files_of(wildcards, *roles), source(wildcards)
    if files or found.origin != "archive" or not EVALUATION["half_maps"]:
        return files
    emdb = found.archived["map"]
    known = Path(files_of(wildcards, "metadata")["metadata"])
    if not known.is_file():
        checkpoints.half_maps_known.get(emdb=emdb)
    there = checked(read_metadata, known).half_map_names
    return {role: str(archive_path(Path(CACHE), role, emdb)) for role in roles if len(there) == 2}


def model_and_resolution(wildcards):
    """What says the model and the resolution of an entry that needs both."""
    files = model_of(wildcards)
    if not files.keys() & {"model", "fitted"}:
        raise SystemExit(
            f"cryoready: error: {wildcards.id} has no model: give the column pdb or model in the "
            f"sheet, or put it at maps/{wildcards.id}.pdb (.cif)"
        )
    if "metadata" not in files and cells_of(wildcards, "resolution")["resolution"] is None:
        raise SystemExit(
            f"cryoready: error: {wildcards.id} has no resolution: give the column resolution in the "
            "sheet"
        )
    return files


def evaluate_input(wildcards):
    half = HALF_MAP_ID.fullmatch(wildcards.id)
    if half:
        raise SystemExit(
            f"cryoready: error: {wildcards.id} is half a map: results/{half['id']}_evaluation.html "
            "compares both halves (and the enhanced ones, with evaluation.enhanced_half_maps)"
        )
    files = {
        **required(wildcards, "map"),
        **files_of(wildcards, "built_model", "reference_map", "reference_model"),
        **half_maps_of(wildcards),
        **model_of(wildcards),
        **peers_of(wildcards)[0],
        "enhanced": f"results/{wildcards.id}_emready.mrc",
        "card": f"results/{wildcards.id}_emready.json",
    }
    if "half_map_1" in files:
        files["local_resolution"] = f"results/{wildcards.id}_local_resolution.mrc"
        if EVALUATION["enhanced_half_maps"]:
            for half in ("half_map_1", "half_map_2"):
                files[f"enhanced_{half}"] = f"results/{wildcards.id}_{half}_emready.mrc"
    if "built_model" not in files and EVALUATION["build_model"] != "none":
        files["built_card"] = f"results/work/{wildcards.id}/built_model.json"
    return files


def archived_as(entry):
    """The archive id that a row gives or its id begins with (EMD-5830-A), "" if there is none."""
    prefix = re.match(r"EMD-\d{4,5}(?!\d)", entry.id)
    return entry.emdb or (prefix[0] if prefix else "")


@cache
def listed_splits(weights):
    """Splits of the entries listed beside the weights, by archive id."""
    listed = Path(weights).with_name("entries.tsv")
    rows = checked(read_sheet, listed).values() if listed.is_file() else ()
    return {archived_as(row): row.split for row in reversed([*rows])}  # of two the first


def split_of(wildcards):
    """The entry's split: that of the sheet, else of the list beside the weights."""
    entry = source(wildcards).entry
    key = archived_as(entry)
    return entry.split or (listed_splits(weights_file(config["weights"])).get(key) if key else None)


def evaluate_settings(wildcards):
    row = SHEET.get(wildcards.id)
    known = cells_of(wildcards, "resolution", "voxel_size")
    origin = (
        "sheet" if row and row.resolution else "yardstick" if known["resolution"] else "archive"
    )
    return {
        "id": wildcards.id,
        **{key: EVALUATION[key] for key in ("sigma", "crop", "local_radius")},
        "entry": known,
        "resolution_from": origin,
        "split": split_of(wildcards),
        "left_out": peers_of(wildcards)[1],
    }


def evaluated(suffix):
    """The evaluations of all entries of the sheet that have a map."""
    return [f"results/{entry}_evaluation.{suffix}" for entry in with_maps()]


def evaluated_so_far():
    """Those of them that are there."""
    there = [path for path in evaluated("json") if Path(path).is_file()]
    if not there:
        raise SystemExit(
            f"cryoready: error: no entry of {config['entries']} is evaluated yet: snakemake evaluate"
        )
    return there


def auto_sharpen_options(wildcards):
    """The row's resolution, else the file that states the authors'; a voxel size replaces the map's."""
    cells = cells_of(wildcards, "resolution", "voxel_size")
    options = {key: value for key, value in cells.items() if value is not None}
    if "resolution" not in options:
        options |= files_of(wildcards, "metadata")
    if not options.keys() & {"resolution", "metadata"}:
        raise SystemExit(
            f"cryoready: error: {wildcards.id} has no resolution to sharpen it to: give the column "
            "resolution in the sheet"
        )
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]


def benchmark_entries(_):
    """What is fetched of each entry of the benchmark, and where its files are."""
    wanted = checked(chosen, YARDSTICK, config["benchmark"]["entries"])
    roles = ("map", "metadata", "model")
    return [
        {
            **cells_of(entry, "pdb", "resolution"),
            "id": entry.id,
            "emdb": entry.emdb,
            "files": files_of(entry, *roles),
        }
        for entry in map(YARDSTICK.get, wanted)
    ]


def benchmark_evaluations(_):
    """Evaluations of the entries whose files are there."""
    with checkpoints.benchmark_fetch.get().output.available.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [f"results/{row['id']}_evaluation.json" for row in rows if not row["reason"]]
