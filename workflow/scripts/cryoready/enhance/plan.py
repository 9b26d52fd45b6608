"""What an enhancement will do and cost: tiles, precision, batches, memory, time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from cryoready.core.boxes import cut_box
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray
from cryoready.enhance.devices import (
    MOST_BATCH_VOXELS,
    Memory,
    choose_precision,
    expected_memory,
    in_words,
    room,
    tile_budget,
    voxel_bytes,
)
from cryoready.enhance.prediction import TURNS, Predictor, network_on, plain_on
from cryoready.enhance.tiles import Layout, Signal, default_layout, paper_layout
from cryoready.network.scunet import Architecture

LARGEST_DEVIATION = 2.0  # of 100, between lower and full precision
STREAMS = {"cpu": 1, "cuda": 2}  # predictors that share a device
LARGE_MAP = 30 * 48**3  # voxels: here a trial of the precision with 48³ costs little
TIMED_MAP = 8 * 48**3  # and here one of the time; 24³ take far longer a voxel than tiles do

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How a map is enhanced: ``inference`` of the configuration.

    Parameters
    ----------
    preset
        "default", or "paper": 48³ boxes every 12 voxels.
    tta
        0, 4 or 24: average over so many proper rotations of every tile.
    device
        "auto", "cpu", or "cuda": all GPUs.
    batch_size
        tiles at a time on a device; None: what fits.
    precision
        "auto", "fp32", "bf16" or "fp16".
    compiled
        whether `torch.compile` prepares the network first, which takes minutes.
    skip_empty
        whether the network passes over what holds no density (`density.signal`). "paper" passes
        over boxes without a positive voxel and no others.
    """

    preset: str = "default"
    tta: int = 0
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "auto"
    compiled: bool = False
    skip_empty: bool = True


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Parameters
    ----------
    layout
        the tiles.
    predictors
        one a device; their networks hold the precision and the batch that were chosen.
    expected
        peak memory.
    seconds
        expected, from a trial on one device.
    """

    layout: Layout
    predictors: Sequence[Predictor]
    expected: Memory
    seconds: float

    @property
    def precision(self) -> str:
        """Of all predictors."""
        return self.predictors[0].precision

    @property
    def batch_size(self) -> int:
        """Tiles at a time, of the device that manages fewest."""
        return min(predictor.batch_size for predictor in self.predictors)

    def line(self, density: FloatArray, spacing: float) -> str:
        """The plan for ``density`` (nz, ny, nx) on a grid of ``spacing`` Å, for the user."""
        shape, tile = ("x".join(map(str, s)) for s in (density.shape, self.layout.tiling.shape))
        tiles = len(self.layout.corners)
        places = ", ".join(dict.fromkeys(str(predictor.device) for predictor in self.predictors))
        long = self.seconds > 120
        duration = f"{self.seconds / 60:.0f} min" if long else f"{self.seconds:.0f} s"
        return (
            f"{shape} voxels of {spacing:g} Å: {tiles} tile{'s' * (tiles > 1)} of {tile} "
            f"({self.layout.skipped_share(density.shape):.0%} of the map is empty and skipped), "
            f"{min(self.batch_size, tiles)} at a time on {places} in {self.precision}; "
            f"needs about {in_words(self.expected)}{room(self.expected)} and {duration}"
        )


def make_plan(
    density: FloatArray,
    scale: float,
    network: nn.Module,
    settings: Settings,
    devices: Sequence[torch.device],
    *,
    held: int,
    returning: int,
    negatives: float,
    report: Report,
) -> Plan:
    """Choose what `Settings` leave open, by a trial on the fullest part of the map.

    Parameters
    ----------
    density
        (nz, ny, nx) on the grid of the network.
    scale
        the density that becomes 100.
    network, settings, devices, negatives, report
        as for `inference.enhance`.
    held, returning
        bytes of full-size arrays that are alive while tiles are blended, sum and weights not
        counted, and of all while the result returns to the grid of the input.
    """
    architecture = getattr(network, "architecture", Architecture())
    skip_empty = settings.skip_empty and settings.preset == "default"
    signal = Signal.of(density, edge=architecture.multiple, skip_empty=skip_empty, ceiling=scale)
    first = Predictor(
        network_on(network, devices[0], compiled=settings.compiled),
        devices[0],
        precision=choose_precision(settings.precision, devices[0]),
        turns=TURNS[settings.tta],
        negatives=negatives,
        report=report,
    )
    part = _fullest_part(density, signal) / np.float32(scale)
    exact = replace(first, precision="fp32", network=plain_on(network, devices[0]))
    first = _tried(first, exact, part.clip(-1, 1))
    edge = architecture.multiple * (2 if density.size >= TIMED_MAP else 1)
    voxel_seconds = _seconds(first, edge) / edge**3

    blending = held + density.nbytes + 4 * int(np.prod(signal.shape))
    sharing = STREAMS[devices[0].type]
    budget = tile_budget(devices, blending) / sharing
    each = voxel_bytes(first.network, architecture.width, first.precision)
    if settings.preset == "default":
        layout = default_layout(signal, architecture, int(budget / each))
    else:
        layout = paper_layout(density)
    most = min(budget / each, MOST_BATCH_VOXELS[devices[0].type])
    first.batch_size = settings.batch_size or max(1, int(most / layout.tiling.voxels))
    others = [
        replace(first, network=network_on(network, d, compiled=settings.compiled), device=d)
        for d in devices[1:]
    ]
    batch = min(first.batch_size, len(layout.corners)) * layout.tiling.voxels * each * sharing
    return Plan(
        layout=layout,
        predictors=[p for one in (first, *others) for p in one.in_streams(sharing)],
        expected=expected_memory(devices[0], blending, batch, returning),
        seconds=voxel_seconds * layout.voxels / len(devices),
    )


def _fullest_part(density: FloatArray, signal: Signal) -> FloatArray:
    """(1, n, n, n): the cell of largest sum, with what is around it if the map is large."""
    sums = density[signal.region]
    for k in range(3):
        sums = np.add.reduceat(sums, range(0, signal.shape[k], signal.edge), axis=k)
    cell = np.unravel_index(sums.argmax(), sums.shape)
    around = signal.edge // 2 if density.size >= LARGE_MAP else 0
    z, y, x = (
        max(part.start + int(k) * signal.edge - around, 0)
        for part, k in zip(signal.region, cell, strict=True)
    )
    return cut_box(density, (z, y, x), signal.edge + 2 * around)[None]


def _tried(predictor: Predictor, exact: Predictor, part: FloatArray) -> Predictor:
    """A predictor whose result suffices.

    It suffices if no voxel of ``part`` (1, n, n, n) differs by more than `LARGEST_DEVIATION` from
    that of ``exact``: the unchanged network in full precision.
    """
    result = _prepared(predictor, part)
    if predictor.precision != "fp32":
        deviation = float(np.abs(result - exact(part)).max())
        if not deviation <= LARGEST_DEVIATION:  # not a number, too
            predictor.report(
                f"{predictor.precision} changes a voxel of the fullest part of the map by "
                f"{deviation:.2g} of 100 (limit {LARGEST_DEVIATION:g}): the network runs in fp32"
            )
            predictor = replace(predictor, precision="fp32")
            _prepared(predictor, part)
    return predictor


def _prepared(predictor: Predictor, part: FloatArray) -> FloatArray:
    """The result of the first pass, which compiles what has to be compiled."""
    try:
        return predictor(part)
    except RuntimeError as error:
        if type(error).__module__ not in ("torch._inductor.exc", "torch._dynamo.exc"):
            raise
        reason = str(error).splitlines()[0]
        raise CryoreadyError(
            f"inference.compiled: torch.compile fails here ({reason}): install what it asks for, "
            "or set inference.compiled to false"
        ) from error


def _seconds(predictor: Predictor, edge: int) -> float:
    """For a tile of ``edge``³, all turns: measured with one."""
    started = time.monotonic()
    replace(predictor, turns=TURNS[0])(np.full((1, edge, edge, edge), 0.5, dtype=np.float32))
    return (time.monotonic() - started) * len(predictor.turns)
