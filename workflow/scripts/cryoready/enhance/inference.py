"""From a map to its enhanced map: normalise, cut, predict, blend, return to the input's grid."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn
from tqdm import tqdm

from cryoready.core.boxes import Corner, blend_boxes, extract_boxes, pad_to_edge
from cryoready.core.errors import CryoreadyError
from cryoready.core.rotations import PROPER_ROTATIONS, Rotation
from cryoready.core.volume import FloatArray, Volume
from cryoready.density.normalise import (
    CONVENTION,
    NETWORK_SCALE,
    check_positive,
    intensity_scale,
    normalise,
)
from cryoready.density.resample import resample, spaced_grid
from cryoready.enhance.tiles import (
    PRESETS,
    Tiling,
    box_bytes,
    box_weight,
    choose_batch_size,
    memory_estimate,
    occupied_corners,
)
from cryoready.network.checkpoint import Card
from cryoready.network.scunet import Architecture, SCUNet

MOST_BOXES = {"cpu": 4, "cuda": 32}  # larger batches gain nothing
HALF_TURNS = tuple(rotation for rotation in PROPER_ROTATIONS if rotation.axes == (0, 1, 2))
TURNS: dict[int, tuple[Rotation, ...]] = {0: HALF_TURNS[:1], 4: HALF_TURNS, 24: PROPER_ROTATIONS}


@dataclass(frozen=True)
class Enhancement:
    """The enhanced map and what was done to get it.

    Parameters
    ----------
    volume
        up to 100, on the grid of the input; what the spline overshoots is clipped. Negative only
        where negative density of the input is kept.
    network_volume
        the same on the network's grid.
    intensity_scale
        the input density that became 100.
    boxes, empty_boxes
        seen by the network; skipped because nothing in them is positive.
    batch_size
        boxes at a time.
    seconds
        spent in the network and in blending.
    """

    volume: Volume
    network_volume: Volume
    intensity_scale: float
    boxes: int
    empty_boxes: int
    batch_size: int
    seconds: float


def choose_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is a GPU if there is one.

    Raises
    ------
    CryoreadyError
        if a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise CryoreadyError("device cuda: PyTorch finds no GPU here; use auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be used on ``device``."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def enhance(
    volume: Volume,
    network: nn.Module,
    *,
    tiling: Tiling,
    spacing: float = 1.0,
    mask: FloatArray | None = None,
    device: torch.device | None = None,
    batch_size: int | None = None,
    precision: str = "fp32",
    tta: int = 0,
    negatives: float = 0.0,
    report: Callable[[str], None] = lambda line: None,
) -> Enhancement:
    """Enhance ``volume`` with ``network`` (EMReady, doi 10.1038/s41467-023-39031-1, Methods).

    Parameters
    ----------
    volume
        the map on any orthogonal grid.
    network
        takes and returns (n, 1, z, y, x), 0-100.
    tiling
        boxes and blending (`tiles.PRESETS`).
    spacing
        Å, of the grid the network was trained on.
    mask
        (nz, ny, nx) 0-1 on the grid of ``volume``; it multiplies the map before the network, and
        what the network puts where it is 0 is removed.
    device
        where to compute; None: a GPU if there is one.
    batch_size
        boxes at a time; None: what fits into half of the free memory.
    precision
        "fp32" or "bf16".
    tta
        0, 4 or 24: average over so many proper rotations of every box.
    negatives
        share of the input's negative density, which the network does not see, that is added to the
        output.
    report
        receives lines about sizes, memory and time.

    Raises
    ------
    CryoreadyError
        if no voxel is positive, or the memory does not suffice.
    """
    device = device or choose_device("auto")
    if mask is not None:
        volume = Volume.on(volume.grid, volume.data * mask)
        report(f"the mask keeps {mask.mean():.0%} of the map")
    check_positive(volume.data)  # before the spline, which can overshoot
    grid = spaced_grid(volume.grid, spacing)
    density = resample(volume, grid).data
    scale = intensity_scale(density)
    below: FloatArray | float = 0.0
    if negatives:
        below = np.clip(density / np.float32(scale), -1, 0) * np.float32(negatives * NETWORK_SCALE)
    density = pad_to_edge(normalise(density, scale), tiling.edge_voxels)
    corners, empty = occupied_corners(density, tiling)

    box = box_bytes(tiling.edge_voxels, _width(network), precision)
    batch_size = batch_size or choose_batch_size(free_bytes(device), box, MOST_BOXES[device.type])
    predictor = _Predictor(network.to(device).eval(), device, precision, TURNS[tta])
    try:
        first = corners[:2]
        trial = predictor.seconds(extract_boxes(density, first, tiling.edge_voxels)) / len(first)
        gigabytes = memory_estimate(density.size, box, batch_size) / 1e9
        report(
            f"{'x'.join(map(str, grid.shape))} voxels of {spacing:g} Å: {len(corners)} boxes of "
            f"{tiling.edge_voxels}³ ({empty} empty, skipped), {batch_size} at a time on {device} "
            f"in {precision}; needs about {gigabytes:.1f} GB and {trial * len(corners):.0f} s"
        )
        started = time.monotonic()
        boxes = predictor.run(density, corners, tiling.edge_voxels, batch_size)
        blended = blend_boxes(boxes, density.shape, box_weight(tiling))
    except torch.OutOfMemoryError as error:
        raise CryoreadyError(
            f"{device} has no memory for {batch_size} boxes at a time: "
            f"set inference.batch_size to {max(1, batch_size // 2)} or inference.device to cpu"
        ) from error
    seconds = time.monotonic() - started

    nz, ny, nx = grid.shape
    enhanced = Volume.on(grid, blended[:nz, :ny, :nx] + below)
    if mask is not None:
        inside = Volume.on(volume.grid, (mask > 0).astype(np.float32))
        enhanced = Volume.on(grid, enhanced.data * (resample(inside, grid).data > 0.5))
    lowest = min(0.0, float(enhanced.data.min()))
    returned = resample(enhanced, volume.grid).data.clip(lowest, NETWORK_SCALE)
    if mask is not None:
        returned *= mask > 0
    return Enhancement(
        volume=Volume.on(volume.grid, returned),
        network_volume=enhanced,
        intensity_scale=scale,
        boxes=len(corners),
        empty_boxes=empty,
        batch_size=batch_size,
        seconds=seconds,
    )


def enhance_with(
    settings: Mapping[str, Any],
    volume: Volume,
    network: nn.Module,
    card: Card,
    mask: FloatArray | None,
    threads: int,
    report: Callable[[str], None],
) -> Enhancement:
    """`enhance` as the configuration ``inference`` and the card of the weights want it.

    Raises
    ------
    CryoreadyError
        if the weights expect another intensity convention than ours.
    """
    if card.intensity != CONVENTION:
        raise CryoreadyError(
            f"weights {card.name!r} expect intensities by {card.intensity!r}; this version "
            f"provides {CONVENTION!r} only"
        )
    torch.set_num_threads(threads)
    return enhance(
        volume,
        network,
        tiling=PRESETS[settings["preset"]],
        spacing=card.grid,
        mask=mask,
        device=choose_device(settings["device"]),
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        tta=settings["tta"],
        negatives=card.negatives,
        report=report,
    )


def _width(network: nn.Module) -> int:
    """Base width of a SCUNet; the published one for anything else."""
    return network.architecture.width if isinstance(network, SCUNet) else Architecture().width


@dataclass(frozen=True)
class _Predictor:
    """The network applied to boxes of 0-1, giving boxes clipped to 0-100."""

    network: nn.Module
    device: torch.device
    precision: str
    turns: tuple[Rotation, ...]

    def run(
        self, density: FloatArray, corners: list[Corner], edge: int, batch_size: int
    ) -> Iterator[tuple[Corner, FloatArray]]:
        """Corner and result of every box, batch by batch."""
        with tqdm(total=len(corners), desc="enhance", unit="box", mininterval=2) as bar:
            for first in range(0, len(corners), batch_size):
                here = corners[first : first + batch_size]
                yield from zip(here, self.predict(extract_boxes(density, here, edge)), strict=True)
                bar.update(len(here))

    def seconds(self, boxes: FloatArray) -> float:
        """What ``boxes`` take, in seconds, the first warm-up excluded."""
        self.predict(boxes[:1])
        started = time.monotonic()
        self.predict(boxes)
        return time.monotonic() - started

    def predict(self, boxes: FloatArray) -> FloatArray:
        """(n, edge, edge, edge) 0-1 -> the same shape, 0-100, mean over the turns."""
        total = np.zeros_like(boxes)
        for turn in self.turns:
            turned = np.ascontiguousarray(turn.apply(boxes))
            x = torch.from_numpy(turned)[:, None].to(self.device) * NETWORK_SCALE
            bf16 = self.precision == "bf16"
            with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, bf16):
                y = self.network(x).float().clamp(0, NETWORK_SCALE)
            total += turn.undo(y[:, 0].cpu().numpy())
        return total / np.float32(len(self.turns))
