"""What large jobs would take, on paper: python benchmarks/scaling.py

From what was measured on one core (`cryoready.core.cost`) and from assumptions, which are printed:
no GPU and no such node was at hand.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from cryoready.core.cost import MEGABYTES, SECONDS, Size

# The mean candidate of a data set (docs/dataset.md: 654 maps have 112 GB).
MEAN = Size(voxels=350**3, points=350**3 * 1.05**3, atoms=40_000)
GIGABYTES_A_MAP = 4 * MEAN.voxels / 1e9
BOXES, BOX_GIGABYTES = (
    150,
    0.864e-3,
)  # of an entry (docs/dataset.md)

# Assumptions.
CORES, GPUS, MEMORY_GB = 64, 4, 512  # of a node
DOWNLOAD = 0.01  # GB/s, from the archives, however many nodes there are
DISK = 1.0  # GB/s of the shared file system, all nodes together
JOB_SECONDS = 10.0  # in which a job of Slurm gets to its script: two Snakemakes, libraries
GPU_FLOPS = 15e12  # achieved, 5 % of the bfloat16 peak of an A100; a CPU core achieves 14 %
CROP_GIGABYTES = 2 * 2 * 48**3 / 1e9  # map and target in half precision
CROP_FLOP = 100e9  # published width 32, forward and backward (docs/training.md)
VOXEL_FLOP = CROP_FLOP / 3 / 4 / 48**3 * 1.5  # of v1 (width 16), forward, 1.5 visits of a voxel
EPOCHS, TRAINING_PAIRS = 300, 256  # the paper's
BATCH = 32  # crops, as config/gpu.yaml; more GPUs than a step has crops do not help


@dataclass(frozen=True)
class Cluster:
    """Equal nodes."""

    nodes: int

    def slots(self, rule: str) -> float:
        """Jobs of a rule at a time, a core each, as far as memory reaches."""
        return self.nodes * min(CORES, MEMORY_GB // (1.2 * MEGABYTES[rule].of(MEAN) / 1e3 + 0.35))

    def on_cores(self, rule: str, jobs: float) -> float:
        """Hours."""
        return jobs * (JOB_SECONDS + SECONDS[rule].of(MEAN)) / self.slots(rule) / 3600

    def on_gpus(self, maps: float) -> float:
        """Hours of enhancing: the network on a GPU, all around it on a core."""
        network = MEAN.points * VOXEL_FLOP / GPU_FLOPS
        rest = SECONDS["enhance"].constant + SECONDS["enhance"].voxels * MEAN.voxels / 1e6
        return maps * (JOB_SECONDS + rest + network) / (self.nodes * GPUS) / 3600

    def training(self, crops: float) -> float:
        """Hours."""
        return crops * CROP_FLOP / (GPU_FLOPS * min(self.nodes * GPUS, BATCH)) / 3600


def pairs(cluster: Cluster, number: int = 436, reserve: float = 1.5) -> dict[str, float]:
    """Hours and GB of a data set and a training of the published size."""
    candidates, crops = reserve * number, EPOCHS * TRAINING_PAIRS * BOXES
    training = cluster.training(crops)
    return {
        "download (h)": candidates * GIGABYTES_A_MAP / DOWNLOAD / 3600,
        "prepare (h)": cluster.on_cores("prepare", candidates),
        "training (h)": training,
        "read in training (GB/s)": crops * CROP_GIGABYTES / training / 3600,
        "disk (GB)": candidates * BOXES * BOX_GIGABYTES,
    }


def maps(cluster: Cluster, number: int = 10_000) -> dict[str, float]:
    """Hours and GB of enhancing and evaluating maps of the archive."""
    fetched = number * GIGABYTES_A_MAP
    return {
        "download (h)": fetched / DOWNLOAD / 3600,
        "enhance, GPUs (h)": cluster.on_gpus(number),
        "enhance, cores only (h)": cluster.on_cores("enhance", number),
        "evaluate (h)": cluster.on_cores("evaluate_entry", number),
        "reading and writing (h)": 4 * fetched / DISK / 3600,  # read three times, written once
        "disk (GB)": 2 * fetched + number * 0.005,
    }


def table(of: str) -> str:
    """One column for each size of cluster."""
    estimate = {"436 pairs": pairs, "10 000 maps": maps}[of]
    columns = {f"{n} node{'s' * (n > 1)}": estimate(Cluster(n)) for n in (1, 10)}
    return pd.DataFrame(columns).rename_axis(of).to_markdown(floatfmt=".3g")


if __name__ == "__main__":
    print(
        f"a map of {MEAN.voxels:.0f} voxels, {GIGABYTES_A_MAP:.2f} GB, {MEAN.atoms} atoms",
        f"a node: {GPUS} GPUs of {GPU_FLOPS / 1e12:g} TFLOP/s, {CORES} cores, {MEMORY_GB} GB",
        f"downloads {1e3 * DOWNLOAD:g} MB/s, disk {DISK:g} GB/s, {JOB_SECONDS:g} s until a script",
        *("", table("436 pairs"), "", table("10 000 maps")),
        sep="\n",
    )
