# Memory (MB) and time (minutes) to ask for, by the size of the entry's map and the attempt.
#
# A map that has yet to be made raises FileNotFoundError: Snakemake shows <TBD>, and asks again when
# the job is due.
from cryoready.core import cost

FETCH_MINUTES, FETCH_MEGABYTES_A_MINUTE = 45, 60  # patience with mirrors; of a slow network


@cache
def entry_size(entry, map_file, model):
    """Size of an entry's map and model; the row's voxel size wins over the header's."""
    half = HALF_MAP_ID.fullmatch(entry)
    row = ENTRIES.get(half["id"] if half else entry)
    return cost.Size.of(map_file, model, voxel_size=row.voxel_size if row else None)


def size_of(role):
    """Size of what a job works on, whose map is its input in this role."""
    return lambda w, files: entry_size(w.id, files.get(role), files.get("model"))


def any_size(_, files):
    """For rules that work on no map."""
    return cost.UNKNOWN


def models_size(_, files):
    """Size of models without maps."""
    return cost.Size.of_models(files)


def pair_size(wildcards, files):
    """Size of a training pair, whose map may be in the archive only, or be simulated."""
    chosen = candidates().get(wildcards.id)
    if chosen:
        return cost.Size.guessed(chosen.voxels, chosen.sampling)
    own, kept = files.get("map"), pair_source(wildcards).map
    if own is None and (kept is None or not kept.is_file()):
        return cost.UNKNOWN
    return entry_size(wildcards.id, own or str(kept), files.get("model"))


def mem_mb(name, size=any_size, parameters=lambda: 0.0):
    """Memory for a job of the rule called ``name``, whose network has so many ``parameters``."""
    return lambda w, input, attempt: cost.megabytes(
        name, size(w, input), attempt=attempt, parameters=parameters()
    )


def runtime(name, size=any_size, times=lambda _: 1.0):
    """Minutes for a job of the rule called ``name``, ``times`` (of its input) as long as measured."""
    return lambda w, input, attempt: cost.minutes(
        name, size(w, input), attempt=attempt, times=times(input)
    )


def pair_runtime(name):
    """`runtime` of a pair, whose map may have to be fetched in the job."""

    def asked(wildcards, input, attempt):
        fetched = passing_maps_mb(wildcards) // FETCH_MEGABYTES_A_MINUTE
        fetching = 0 if input.get("map") else FETCH_MINUTES + fetched
        return fetching + cost.minutes(name, pair_size(wildcards, input), attempt=attempt)

    return asked


@cache
def network_parameters():
    """Parameters of the network that enhances."""
    return cost.parameters_of(weights_file(config["weights"]))


def enhance_times(_):
    """How much longer than measured the settings and the network make an enhancement."""
    slower = cost.PRESETS[config["inference"]["preset"]] * max(1, config["inference"]["tta"])
    return slower * cost.network_times(network_parameters())


def evaluate_times(files):
    """Maps of others are scored beside the deposited and the enhanced one."""
    return 1 + sum(role.endswith("_map") for role in files.keys()) / 2


def training_mem_mb(wildcards):
    """Memory of a run on CPUs."""
    network, train = (config_of(wildcards.run)[part] for part in ("network", "train"))
    keys = ("crop_voxels", "batch_size", "workers", "precision")
    return cost.training_megabytes(width=network["width"], **{key: train[key] for key in keys})
