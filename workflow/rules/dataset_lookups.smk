# Lookups of the data set and of its pairs, beside those of common.smk.
from cryoready.dataset.budget import passing_megabytes
from cryoready.dataset.sheet import CANDIDATES, read_candidates

PAIR_ROLES = ("map", "model", "metadata")


@cache
def _candidates(_):
    return checked(read_candidates, CANDIDATES)


def candidates():
    """Entries that `select` chose, by id; none before it has run."""
    return _candidates(CANDIDATES.stat().st_mtime_ns) if CANDIDATES.is_file() else {}


def pair_source(wildcards):
    """`source_of` an entry of the sheet, or of a candidate for one, which fills the row's gaps."""
    chosen, row = candidates().get(wildcards.id), SHEET.get(wildcards.id)
    if chosen and row:
        chosen = replace(
            row, pdb=row.pdb or chosen.pdb, resolution=row.resolution or chosen.resolution
        )
    return source_of(wildcards.id, chosen)


def prepare_input(wildcards):
    """Map and model of a training pair, as far as they are the user's own files.

    A simulated pair has a model only. Files of the archive are no inputs: see rule `prepare`.
    """
    found = pair_source(wildcards)
    if found.model is None:
        raise SystemExit(
            f"cryoready: error: {wildcards.id} has no model to train on: "
            "give the column pdb or model in the sheet"
        )
    own = [role for role in PAIR_ROLES if role not in found.archived]
    return {role: str(getattr(found, role)) for role in own if getattr(found, role) is not None}


def prepare_output():
    """What `prepare` writes; the volumes only if they are to be kept."""
    names = {"boxes": "boxes.npy", "index": "boxes.tsv", "card": "pair.json", "picture": "pair.png"}
    if DATASET["keep"] != "boxes":
        names |= {"map": "map_1A.mrc", "target": "target.mrc", "mask": "mask.mrc"}
    return {role: f"results/work/{{id}}/{name}" for role, name in names.items()}


def prepare_settings(wildcards):
    found = pair_source(wildcards)
    cells = {key: getattr(found.entry, key) for key in ("resolution", "voxel_size", "mask_radius")}
    roles = ("map", "model") if cells["resolution"] else PAIR_ROLES
    return {
        **{key: DATASET[key] for key in ("seed", "boxes", "assembly")},
        **cells,
        "archived": {role: found.archived[role] for role in roles if role in found.archived},
    }


def passing_maps_mb(wildcards):
    """Disk that the map of a pair needs while it is prepared."""
    chosen = candidates().get(wildcards.id)
    return passing_megabytes(chosen.voxels if chosen else cost.UNKNOWN.voxels)


def structures_to_pack(_):
    """Models of the training entries with simulated maps, in the order of the sheet."""
    return [prepare_input(SimpleNamespace(id=entry))["model"] for entry in simulated("train")]


def structure_settings(_):
    return {"resolutions": {entry: SHEET[entry].resolution for entry in simulated("train")}}


def held_out_rows():
    """Rows of the sheet that may not be trained on."""
    return [entry for entry in SHEET.values() if entry.split in ("val", "test")]


def held_out_models():
    """Models of those rows that have no PDB id, by id."""
    own = {entry.id: located(entry.id) for entry in held_out_rows() if not entry.pdb}
    return {entry: str(found.model) for entry, found in own.items() if found.model}


def held_out():
    """Split and models of all entries that may not be trained on: of the benchmark and the sheet."""
    named = {entry.id: ("test", [entry.pdb]) for entry in YARDSTICK.values()}
    for entry in held_out_rows():
        key = archived_as(entry) or entry.id
        _, models = named.get(key, ("", []))
        named[key] = (entry.split, [*models, entry.pdb or entry.id])
    return {
        key: {"split": split, "pdb": ",".join(dict.fromkeys(filter(None, models))) or None}
        for key, (split, models) in named.items()
    }


def select_settings(_):
    if Path(config["entries"]).resolve() == Path("results/dataset/entries.tsv").resolve():
        raise SystemExit(
            f"cryoready: error: entries: {config['entries']} is what `dataset` makes, it cannot be "
            "made from itself: copy it to another place, or leave the setting out"
        )
    for name in ("resolution", "box", "released"):
        low, high = DATASET["metadata"][name]
        if low and high and low > high:
            raise SystemExit(
                f"cryoready: error: configuration: dataset.metadata.{name} = [{low}, {high}]: the "
                "first must not be larger than the second"
            )
    keys = ("metadata", "relatives", "counts", "reserve", "seed")
    cells = {
        entry.id: {"pdb": entry.pdb, "resolution": entry.resolution} for entry in SHEET.values()
    }
    return {
        **{key: DATASET[key] for key in keys},
        "held_out": held_out(),
        "models": held_out_models(),
        "rows": {key: row for key, row in cells.items() if any(row.values())},
    }


def dataset_cards(_):
    checkpoints.select.get()
    return cards_of(*candidates())
