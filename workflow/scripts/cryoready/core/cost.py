"""What a job takes: memory and time of every rule by the size of its map.

The Snakefile reads this module while it is parsed: nothing heavier than the standard library. The
numbers were measured by ``python benchmarks/resources.py rules``, ``networks``, ``training`` and
``structures``, on a core of an AMD Zen 5 with bfloat16 (docs/cluster.md); nothing took more.
"""

import json
import math
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GZIP_MAGIC = b"\x1f\x8b"
HEADER_LENGTH = 1024  # bytes
START_LENGTH = 8192  # bytes, which hold it packed or not
LONGEST_EDGE = 4096  # voxels; beyond it the header is broken, not the map large
BYTES_AN_ATOM = {True: 18, False: 60}  # of a model's file, packed or not; none has fewer
ATOMS_A_POINT = 0.002  # a molecule as dense as haemoglobin over half of the edge of its map

SNAKEMAKES_MB = 350  # a job of a cluster runs within two of them, 139-158 MB each
MEMORY_MARGIN = 1.2
START_MINUTES = 10  # Snakemake twice, Python's libraries and Numba's compiler from a busy disk
SLOWNESS = 4.0  # of an old core, or of one without bfloat16, on a busy node

# Of a training: in all, of a process that makes crops, and of a voxel of a batch and a channel.
TRAINING_MB, WORKER_MB, ACTIVATIONS_MB = 900, 600, {"fp32": 480e-6, "bf16": 250e-6}

# Of an enhancement, in times of the default's. More visits of a voxel, but little else takes longer
PRESETS = {"default": 1.0, "paper": 12.0}
# Of a network: MB a parameter, and how many take as long as SECONDS says. Those were measured with
# the 1.19e6 of the bundled weights; the rest covers the norm "frn", which is twice as slow
PARAMETER_MB, PARAMETERS = 60e-6, 0.65e6


@dataclass(frozen=True)
class Size:
    """Of a map and its model: voxels, voxels of the same map at 1 Å, atoms."""

    voxels: float
    points: float
    atoms: float

    @classmethod
    def of(
        cls, map_file: str, model: str | None = None, *, voxel_size: float | None = None
    ) -> "Size":
        """Read from the header of a map and from the length of a model's file.

        Parameters
        ----------
        map_file
            ``.gz`` or not; what is no map counts as one of 350³ voxels.
        model
            file with the atoms; None: what a molecule of half the edge of the map would have.
        voxel_size
            Å; replaces that of the header.

        Raises
        ------
        FileNotFoundError
            if a file is not there yet.
        """
        voxels, points = _map_size(map_file, voxel_size)
        atoms = ATOMS_A_POINT * points if model is None else _atoms(model)
        return cls(voxels, points, atoms)

    @classmethod
    def of_models(cls, models: Iterable[str]) -> "Size":
        """Of models without maps, all together.

        Raises
        ------
        FileNotFoundError
            if a file is not there yet.
        """
        return cls(0, 0, sum(map(_atoms, models)))

    @classmethod
    def guessed(cls, voxels: float, voxel_size: float = 1.0) -> "Size":
        """Of a map of which no more is known; ``voxel_size`` in Å."""
        points = voxels * voxel_size**3
        return cls(voxels, points, ATOMS_A_POINT * points)


@dataclass(frozen=True)
class Cost:
    """In all; for a million voxels; for a million voxels at 1 Å; for a thousand atoms."""

    constant: float
    voxels: float = 0.0
    points: float = 0.0
    atoms: float = 0.0

    def of(self, size: Size) -> float:
        """What a map of this size costs."""
        millions = (self.voxels * size.voxels + self.points * size.points) / 1e6
        return self.constant + millions + self.atoms * size.atoms / 1e3


UNKNOWN = Size.guessed(350**3)  # a map that cannot be looked at

# Of all rules but those of training; select is extrapolated, a download is as long as a large map
# takes on a slow network.
MEGABYTES = {
    "enhance": Cost(3350, 10, 10),  # a tile takes up to 2 500
    "before_after": Cost(330, 10),
    "mean_of_half_maps": Cost(155, 27),
    "local_resolution": Cost(175, 62),
    "local_correlation": Cost(80, 97, 0, 0.7),
    "evaluate_entry": Cost(200, 135, 0, 18),
    "evaluation_page": Cost(220, 9.6, 0, 0.2),
    "auto_sharpen": Cost(200, 60),
    "prepare": Cost(240, 26, 8, 6.5),
    "local_targets": Cost(215, 29, 0, 24),
    "pack_structures": Cost(1000, 0, 0, 0.11),  # a single one of 124 000 atoms takes 250
    "select": Cost(4000),
    "sample_boxes": Cost(800),
    "training_report": Cost(2500),
    "release": Cost(1200),
    "table": Cost(500),
    "download": Cost(300),
}
SECONDS = {  # of one core
    "enhance": Cost(5, 0.5, 3.6),
    "before_after": Cost(4.5),
    "mean_of_half_maps": Cost(1.8, 0.1),
    "local_resolution": Cost(1.8, 1.35),
    "local_correlation": Cost(0.4, 0.55, 0, 0.03),
    "evaluate_entry": Cost(2.2, 2.1, 0, 0.3),
    "evaluation_page": Cost(6.5),
    "auto_sharpen": Cost(12, 24),
    "prepare": Cost(5.2, 0.45, 0.2, 0.17),
    "local_targets": Cost(2.4, 0.12, 0, 0.22),
    "pack_structures": Cost(1, 0, 0, 0.0065),
    "select": Cost(1000),
    "sample_boxes": Cost(20),
    "training_report": Cost(40),
    "release": Cost(20),
    "table": Cost(30),
    "download": Cost(1800),
}


def megabytes(rule: str, size: Size = UNKNOWN, *, attempt: int = 1, parameters: float = 0.0) -> int:
    """Memory to ask for, with `MEMORY_MARGIN`; a second attempt gets twice as much.

    ``parameters`` are those of the network that is used.
    """
    used = MEGABYTES[rule].of(size) + PARAMETER_MB * parameters
    return attempt * math.ceil(SNAKEMAKES_MB + MEMORY_MARGIN * used)


def training_megabytes(
    *, width: int, crop_voxels: int, batch_size: int, workers: int, precision: str
) -> int:
    """Memory to ask for a training on CPUs; on GPUs the activations lie there.

    Parameters
    ----------
    width
        channels after the head.
    crop_voxels
        edge of a crop.
    batch_size
        crops at a time.
    workers
        processes that make crops.
    precision
        "fp32" or "bf16".
    """
    activations = ACTIVATIONS_MB[precision] * batch_size * crop_voxels**3 * width
    used = TRAINING_MB + WORKER_MB * workers + activations
    return math.ceil(SNAKEMAKES_MB + MEMORY_MARGIN * used)


def minutes(rule: str, size: Size = UNKNOWN, *, attempt: int = 1, times: float = 1.0) -> int:
    """Time to ask for on one core, `SLOWNESS` times what was measured; likewise by ``attempt``.

    ``times`` is how much longer than as measured the settings make it.
    """
    return attempt * math.ceil(START_MINUTES + SLOWNESS * times * SECONDS[rule].of(size) / 60)


def network_times(parameters: float) -> float:
    """How much longer than measured an enhancement with so large a network takes."""
    return max(1.0, parameters / PARAMETERS)


def parameters_of(weights: str) -> float:
    """Of a network: by the header of safetensors, else each has 32 bits of the file."""
    size = Path(weights).stat().st_size
    with Path(weights).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length < size:
            with suppress(AttributeError, KeyError, TypeError, ValueError):
                tensors = json.loads(file.read(length))
                tensors.pop("__metadata__", None)
                return float(sum(math.prod(tensor["shape"]) for tensor in tensors.values()))
    return size / 4


def _map_size(path: str, voxel_size: float | None) -> tuple[float, float]:
    """Voxels of a map, and of the same at 1 Å."""
    try:
        header = _header(path)
    except FileNotFoundError:
        raise
    except (OSError, zlib.error):
        header = b""
    found = _shape_and_volume(header, "<") or _shape_and_volume(header, ">")
    if found is None:
        return UNKNOWN.voxels, UNKNOWN.points
    voxels, volume = found
    return voxels, volume if voxel_size is None else voxels * voxel_size**3


def _header(path: str) -> bytes:
    """The first bytes of a map, of which no more is unpacked."""
    with Path(path).open("rb") as file:
        start = file.read(START_LENGTH)
    if start.startswith(GZIP_MAGIC):
        return zlib.decompressobj(wbits=31).decompress(start, HEADER_LENGTH)  # 31: of gzip
    return start[:HEADER_LENGTH]


def _shape_and_volume(header: bytes, order: str) -> tuple[float, float] | None:
    """Number of voxels and their volume, Å³, of an MRC2014 header; None if it is none."""
    if len(header) < HEADER_LENGTH:
        return None
    *numbers, a, b, c = struct.unpack(f"{order}10i3f", header[:52])
    shape, intervals = numbers[:3], numbers[7:]
    if not all(0 < n <= LONGEST_EDGE for n in shape):
        return None
    voxels = float(math.prod(shape))
    one = a * b * c / math.prod(intervals) if all(n > 0 for n in intervals) else 1.0
    return voxels, voxels * (one if math.isfinite(one) and one > 0 else 1.0)


def _atoms(path: str) -> float:
    """No fewer atoms than a model's file holds, by its length."""
    return Path(path).stat().st_size / BYTES_AN_ATOM[path.lower().endswith(".gz")]
