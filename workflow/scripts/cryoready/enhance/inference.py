"""From a map to its enhanced map: normalise, cut, predict, blend, return to the input's grid."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from cryoready.core.boxes import Corner, blend_boxes, cut_box
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray, Volume
from cryoready.density.normalise import CONVENTION, NETWORK_SCALE, check_positive, intensity_scale
from cryoready.density.resample import resample, spaced_grid
from cryoready.enhance.devices import (
    Memory,
    choose_devices,
    forget_peak,
    keep_large_blocks,
    make_current,
    peak_memory,
)
from cryoready.enhance.gpus import claimed_devices
from cryoready.enhance.plan import Plan, Report, Settings, make_plan
from cryoready.enhance.prediction import predict_in_order
from cryoready.enhance.tiles import Layout
from cryoready.network.checkpoint import Card


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
    layout
        the tiles.
    precision
        of the network, as achieved.
    batch_size
        tiles at a time, of the device that managed fewest.
    seconds
        spent in the network and in blending.
    expected, peak
        memory, predicted and measured.
    """

    volume: Volume
    network_volume: Volume
    intensity_scale: float
    layout: Layout
    precision: str
    batch_size: int
    seconds: float
    expected: Memory
    peak: Memory


def enhance(
    volume: Volume,
    network: nn.Module,
    *,
    settings: Settings = Settings(),  # noqa: B008
    devices: Sequence[torch.device] | None = None,
    spacing: float = 1.0,
    negatives: float = 0.0,
    mask: FloatArray | None = None,
    report: Report = lambda line: None,
) -> Enhancement:
    """Enhance ``volume`` with ``network`` (EMReady, doi 10.1038/s41467-023-39031-1, Methods).

    Full-size arrays beside the input: its copy on the grid of the network where that differs, the
    sum of the tiles, which becomes the result, and their weights.

    Parameters
    ----------
    volume
        the map on any orthogonal grid.
    network
        takes and returns (n, 1, z, y, x), 0-100.
    settings
        how.
    devices
        where, instead of ``settings.device``; they share the tiles.
    spacing
        Å, of the grid the network was trained on.
    negatives
        share of the input's negative density, which the network does not see, that is added to the
        output.
    mask
        (nz, ny, nx) 0-1 on the grid of ``volume``; it multiplies the map before the network, and
        what the network puts where it is 0 is removed.
    report
        receives lines about sizes, memory and time.

    Raises
    ------
    CryoreadyError
        if no voxel is positive, or the memory does not suffice.
    """
    devices = devices or choose_devices(settings.device)
    forget_peak(devices)
    if not 0.8 <= spacing <= 1.25:  # what is known of solvent noise is known at 1 Å
        settings = replace(settings, skip_empty=False)
    grid = spaced_grid(volume.grid, spacing)
    density = _seen_by_network(volume, spacing, mask)
    if mask is not None:
        report(f"the mask keeps {mask.mean():.0%} of the map")
    scale = intensity_scale(density)
    given = volume.data.nbytes + (0 if mask is None else mask.nbytes)
    resampled = not np.may_share_memory(density, volume.data)
    plan = make_plan(
        density,
        scale,
        network,
        settings,
        devices,
        held=given + resampled * density.nbytes,
        returning=given
        + density.nbytes * (1 if mask is None else 2)
        + resampled * 2 * volume.data.nbytes,
        negatives=negatives,
        report=report,
    )
    report(plan.line(density, spacing))
    started = time.monotonic()
    enhanced = Volume.on(grid, _blended(density, scale, plan))
    seconds = time.monotonic() - started
    del density
    returned = _returned(enhanced, volume, mask)
    return Enhancement(
        volume=returned,
        network_volume=enhanced,
        intensity_scale=scale,
        layout=plan.layout,
        precision=plan.precision,
        batch_size=plan.batch_size,
        seconds=seconds,
        expected=plan.expected,
        peak=peak_memory(devices),
    )


def enhance_with(
    card: Card,
    volume: Volume,
    network: nn.Module,
    *,
    settings: Settings,
    mask: FloatArray | None,
    threads: int,
    gpus: int,
    report: Report,
) -> Enhancement:
    """`enhance` as the ``card`` of the weights wants it, on ``gpus`` for it alone (0: all).

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
    keep_large_blocks()
    with claimed_devices(settings.device, gpus, report) as devices:
        make_current(devices[0])
        return enhance(
            volume,
            network,
            settings=settings,
            devices=devices,
            spacing=card.grid,
            negatives=card.negatives,
            mask=mask,
            report=report,
        )


def _seen_by_network(volume: Volume, spacing: float, mask: FloatArray | None) -> FloatArray:
    """The masked map on the grid of the network."""
    if mask is not None:
        volume = Volume.on(volume.grid, volume.data * mask)
    check_positive(volume.data)  # before the spline, which can overshoot
    return resample(volume, spaced_grid(volume.grid, spacing)).data


def _blended(density: FloatArray, scale: float, plan: Plan) -> FloatArray:
    """The enhanced map on the grid of ``density``; 0 where no tile lies."""
    layout = plan.layout
    total = np.zeros(density.shape, dtype=np.float32)  # no page is taken before it is written
    with tqdm(total=len(layout.corners), desc="enhance", unit="tile", mininterval=2) as bar:

        def results() -> Iterator[tuple[Corner, FloatArray]]:
            cut = _cut(density[layout.region], scale, layout, plan.batch_size)
            for corners, tiles in predict_in_order(cut, plan.predictors):
                yield from zip(corners, tiles, strict=True)
                bar.update(len(corners))

        blend_boxes(results(), layout.tiling.weight(), total[layout.region])
    return total


def _cut(
    density: FloatArray, scale: float, layout: Layout, batch_size: int
) -> Iterator[tuple[list[Corner], FloatArray]]:
    """Corners and (n, z, y, x) tiles, density / ``scale`` between -1 and 1, batch by batch."""
    for first in range(0, len(layout.corners), batch_size):
        corners = layout.corners[first : first + batch_size]
        tiles = np.stack([cut_box(density, corner, layout.tiling.shape) for corner in corners])
        tiles /= np.float32(scale)
        yield corners, np.clip(tiles, -1, 1, out=tiles)


def _returned(enhanced: Volume, volume: Volume, mask: FloatArray | None) -> Volume:
    """``enhanced`` on the grid of ``volume``; nothing is left in either where ``mask`` is 0."""
    if mask is not None:
        inside = Volume.on(volume.grid, (mask > 0).astype(np.float32))
        enhanced.data[resample(inside, enhanced.grid).data <= 0.5] = 0
    lowest = min(0.0, float(enhanced.data.min()))
    data = resample(enhanced, volume.grid).data
    np.clip(data, lowest, NETWORK_SCALE, out=data)
    if mask is not None:
        data[mask == 0] = 0
    return Volume.on(volume.grid, data)
