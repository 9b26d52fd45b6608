"""What a data set costs in disk, memory and time, before it is made.

The Snakefile reads this module while it is parsed: nothing heavier than the standard library.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryoready.core.cost import MEGABYTES, SECONDS, Size
from cryoready.core.errors import CryoreadyError

BYTES_A_VOXEL = 4  # of a map, whose compression is not counted on
MOLECULE = 0.5  # of the edge of a map: how far a molecule reaches
BYTES_A_BOX_VOXEL = 4  # map and target in half precision


@dataclass(frozen=True)
class Cost:
    """Of pairs: bytes fetched, bytes of boxes, seconds of one core, MB of the largest job."""

    pairs: int
    fetched: float
    kept: float
    seconds: float
    memory: float

    def lines(self, *, cores: int, memory: float) -> list[str]:
        """What to tell the user of a machine with so many ``cores`` and MB of ``memory``."""
        told = [
            f"{self.pairs} pairs to fetch, up to {self.fetched / 1e9:.1f} GB: "
            f"{self.fetched / 36e9:.1f} h at 10 MB/s",
            f"about {self.kept / 1e9:.1f} GB of boxes stay (dataset.boxes.most takes fewer of an "
            "entry); maps lie on the disk only while they are used (resource maps_mb in profiles/)",
            f"about {self.seconds / 3600 / cores:.1f} h of computing on {cores} cores, up to "
            f"{self.memory / 1e3:.1f} GB of memory a job",
        ]
        if self.memory * cores > memory:
            told.append(
                f"warning: {cores} such jobs do not fit into {memory / 1e3:.0f} GB of memory: add "
                f"--resources gpu=1 downloads=2 maps_mb=50000 mem_mb={0.8 * memory:.0f}"
            )
        return told

    def check(self, *, most_gigabytes: float) -> None:
        """Refuse what would leave more on the disk than ``dataset.most_gigabytes`` allows."""
        if self.kept > 1e9 * most_gigabytes:
            share = most_gigabytes / (self.kept / 1e9)
            raise CryoreadyError(
                f"about {self.kept / 1e9:.0f} GB of boxes are expected of {self.pairs} pairs, more "
                f"than dataset.most_gigabytes = {most_gigabytes:g}: raise it, or take fewer boxes "
                f"(dataset.boxes.most), or fewer pairs (dataset.counts, about {share:.0%} of them)"
            )


def passing_megabytes(voxels: float) -> int:
    """Of disk, for a map of so many ``voxels`` while it is prepared."""
    return int(1 + BYTES_A_VOXEL * voxels / 1e6)


def cost(candidates: Iterable[Mapping[str, Any]], boxes: Mapping[str, Any]) -> Cost:
    """What it takes to prepare ``candidates``, each with ``voxels`` and ``voxel_size`` (Å)."""
    sizes = [_size(row) for row in candidates]
    return Cost(
        pairs=len(sizes),
        fetched=sum(BYTES_A_VOXEL * size.voxels for size in sizes),
        kept=sum(_box_bytes(size.points, boxes) for size in sizes),
        seconds=sum(SECONDS["prepare"].of(size) for size in sizes),
        memory=max((MEGABYTES["prepare"].of(size) for size in sizes), default=0.0),
    )


def _size(row: Mapping[str, Any]) -> Size:
    """Of an entry; 1 Å is taken for an unknown voxel size."""
    voxel_size = float(row["voxel_size"])
    return Size.guessed(float(row["voxels"]), voxel_size if voxel_size > 0 else 1.0)


def _box_bytes(points: float, boxes: Mapping[str, Any]) -> float:
    """Of the boxes that cover a molecule which reaches over `MOLECULE` of the edge of its map."""
    number = (1 + MOLECULE * points ** (1 / 3) / boxes["stride_voxels"]) ** 3
    if boxes["most"] is not None:
        number = min(number, boxes["most"])
    return float(number * BYTES_A_BOX_VOXEL * boxes["edge_voxels"] ** 3)
