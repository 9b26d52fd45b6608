"""What a data set costs in disk, memory and time, before it is made.

The Snakefile reads this module while it is parsed: nothing heavier than the standard library. The
numbers were measured by ``benchmarks/dataset.py`` (docs/dataset.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BYTES_A_VOXEL = 4  # of a map, whose compression is not counted on
MEMORY_MEGABYTES = 700  # of a job, beside what grows with the map
MEMORY_A_VOXEL = 60e-6  # MB
SECONDS = 6.0  # of a pair, beside what grows with the map
SECONDS_A_VOXEL = 1.1e-6
MOLECULE = 0.5  # of the edge of a map: how far a molecule reaches
BYTES_A_BOX_VOXEL = 4  # map and target in half precision


@dataclass(frozen=True)
class Cost:
    """Of pairs that are still to be prepared: bytes fetched, bytes kept, seconds of one core."""

    pairs: int
    fetched: float
    kept: float
    seconds: float

    def lines(self, *, cores: int) -> list[str]:
        """What to tell the user."""
        return [
            f"{self.pairs} pairs to fetch, up to {self.fetched / 1e9:.1f} GB: "
            f"{self.fetched / 36e9:.1f} h at 10 MB/s",
            f"about {self.kept / 1e9:.1f} GB of boxes stay (dataset.boxes.most takes fewer of an "
            "entry); maps lie on the disk only while they are used (resource disk_mb in profiles/)",
            f"about {self.seconds / 3600 / cores:.1f} h of computing on {cores} cores",
        ]


def megabytes(voxels: int) -> dict[str, int]:
    """Memory and passing disk space of the preparation of a map with so many voxels, in MB."""
    return {
        "memory": int(MEMORY_MEGABYTES + MEMORY_A_VOXEL * voxels),
        "disk": int(1 + BYTES_A_VOXEL * voxels / 1e6),
    }


def cost(candidates: Iterable[Mapping[str, Any]], boxes: Mapping[str, Any]) -> Cost:
    """What it takes to prepare ``candidates``, each with ``voxels`` and ``voxel_size`` (Å)."""
    rows = list(candidates)
    voxels = [float(row["voxels"]) for row in rows]
    return Cost(
        pairs=len(rows),
        fetched=sum(BYTES_A_VOXEL * n for n in voxels),
        kept=sum(_box_bytes(row, boxes) for row in rows),
        seconds=sum(SECONDS + SECONDS_A_VOXEL * n for n in voxels),
    )


def _box_bytes(row: Mapping[str, Any], boxes: Mapping[str, Any]) -> float:
    """Of the boxes that cover a molecule which reaches over `MOLECULE` of the edge of its map."""
    edge = float(row["voxels"]) ** (1 / 3) * float(row["voxel_size"])  # voxels of 1 Å
    number = (1 + MOLECULE * edge / boxes["stride_voxels"]) ** 3
    if boxes["most"] is not None:
        number = min(number, boxes["most"])
    return float(number * BYTES_A_BOX_VOXEL * boxes["edge_voxels"] ** 3)
