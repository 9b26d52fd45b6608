"""A prepared pair on disk: maps, a stack of boxes with its index, and where all that came from."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoready import __version__
from cryoready.core.atoms import Atoms
from cryoready.core.boxes import Corner, box_starts, extract_box
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.dataset.assembly import fitting_atoms
from cryoready.dataset.metadata import read_metadata
from cryoready.dataset.prepare import Pair, entry_seed, prepare_pair, prepare_simulated_pair
from cryoready.dataset.quality import measure
from cryoready.density.masks import BoolArray
from cryoready.files.maps import read_map, write_map
from cryoready.files.models import read_assembly, read_model

VOLUMES = ("map", "target", "mask")  # roles of the files of a pair that are not always kept


def choose_boxes(
    zone: BoolArray,
    seed: int,
    *,
    edge_voxels: int,
    stride_voxels: int,
    least_share: float,
    most: int | None,
) -> list[Corner]:
    """Corners of the boxes worth training on, in C order.

    Parameters
    ----------
    zone
        (nz, ny, nx) voxels near the model.
    seed
        of the choice among more than ``most`` boxes.
    edge_voxels, stride_voxels
        of the boxes.
    least_share
        boxes of which less than this lies in the zone are left out.
    most
        if there are more, so many are drawn; None: all.

    Raises
    ------
    CryoreadyError
        if no box is left.
    """
    corners = [
        corner
        for corner in box_starts(zone.shape, edge_voxels, stride_voxels)
        if extract_box(zone, corner, edge_voxels).mean() >= least_share
    ]
    if not corners:
        raise CryoreadyError(
            f"no box of {edge_voxels}³ voxels holds {least_share:.0%} of model: "
            "is the model fitted into the map? (limit: dataset.boxes.least_share)"
        )
    if most is None or len(corners) <= most:
        return corners
    kept = np.random.default_rng(seed).choice(len(corners), most, replace=False)
    return [corners[k] for k in sorted(kept)]


def cut_boxes(pair: Pair, corners: list[Corner], edge_voxels: int) -> NDArray[np.float16]:
    """(n, 2, edge, edge, edge) half precision: map and target of every box, 0-1."""
    stack = np.empty((len(corners), 2, *[edge_voxels] * 3), dtype=np.float16)
    for row, corner in zip(stack, corners, strict=True):
        row[0] = extract_box(pair.map.data, corner, edge_voxels)
        row[1] = extract_box(pair.target.data, corner, edge_voxels)
    return stack


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map, which is None where it is to be simulated, and the atoms that lie in it.

    ``assembly`` says which: "deposited" coordinates or the "biological" assembly.
    """

    volume: Volume | None
    atoms: Atoms
    assembly: str
    resolution: float | None


def read_fitted(sources: Mapping[str, str | Path], settings: Mapping[str, Any]) -> Fitted:
    """Map and model of an entry.

    Parameters
    ----------
    sources
        paths by role: ``model``, and as far as there are ``map`` and ``metadata``.
    settings
        ``assembly`` (auto, deposited, biological), and the sheet's ``resolution``, ``voxel_size``.
    """
    resolution = settings["resolution"]
    if resolution is None and "metadata" in sources:
        resolution = read_metadata(Path(sources["metadata"])).resolution
    model = sources["model"]
    if "map" not in sources:
        return Fitted(None, read_model(model), "deposited", resolution)
    volume = read_map(sources["map"], voxel_size=settings["voxel_size"])
    deposited = read_model(model)
    biological = None if settings["assembly"] == "deposited" else read_assembly(model)
    if settings["assembly"] == "biological" and biological is not None:
        return Fitted(volume, biological, "biological", resolution)
    atoms, assembly, _ = fitting_atoms(volume, deposited, biological)
    return Fitted(volume, atoms, assembly, resolution)


def make_pair(
    entry_id: str, fitted: Fitted, settings: Mapping[str, Any], *, local_target: bool = False
) -> Pair:
    """The pair of an entry; simulated if it has no map.

    Parameters
    ----------
    entry_id
        its id, which seeds all draws.
    fitted
        what `read_fitted` read.
    settings
        ``seed``, ``boxes``, and the sheet's ``mask_radius``.
    local_target
        whether the target is as sharp as an experimental map at each residue.
    """
    known: dict[str, Any] = {
        "resolution": fitted.resolution,
        "seed": entry_seed(entry_id, settings["seed"]),
        "minimum_voxels": settings["boxes"]["edge_voxels"],
    }
    if fitted.volume is None:
        return prepare_simulated_pair(fitted.atoms, **known)
    return prepare_pair(
        fitted.volume,
        fitted.atoms,
        mask_radius=settings["mask_radius"],
        local_target=local_target,
        **known,
    )


def prepare_entry(
    entry_id: str,
    sources: Mapping[str, str],
    to: Mapping[str, str],
    settings: Mapping[str, Any],
) -> tuple[Pair, list[str]]:
    """Make and write a pair; returns it and two lines: what it is like, and how long that took.

    Parameters
    ----------
    entry_id
        its id.
    sources, settings
        as in `read_fitted`, `make_pair`, and ``archived`` (ids in the archive by role).
    to
        as in `write_pair`.
    """
    clock = [time.perf_counter()]
    fitted = read_fitted(sources, settings)
    clock.append(time.perf_counter())
    pair = make_pair(entry_id, fitted, settings)
    clock.append(time.perf_counter())
    quality = measure(fitted.volume, fitted.atoms, pair) if fitted.volume else None
    clock.append(time.perf_counter())
    facts = {
        "assembly": fitted.assembly,
        "quality": quality.as_row() if quality else {},
        "sources": {role: file_sha256(path) for role, path in sorted(sources.items())},
        "archived": settings["archived"],
    }
    boxes = write_pair(pair, entry_id, facts, to, settings)
    clock.append(time.perf_counter())
    line = (
        f"{entry_id}: {pair.resolution:.2f} Å, {'x'.join(map(str, pair.map.data.shape))} voxels, "
        f"{boxes} boxes, {fitted.assembly} coordinates, {quality or 'simulated'}"
    )
    steps = ("read", "resample and simulate", "measure", "cut and write")
    seconds = (f"{name} {b - a:.1f} s" for name, a, b in zip(steps, clock, clock[1:], strict=False))
    return pair, [line, f"{entry_id}: {', '.join(seconds)}"]


def write_targets(pair: Pair, index: str, to: str, edge_voxels: int) -> None:
    """Write the target of ``pair`` in the boxes of ``index`` (TSV): (n, edge, edge, edge), 0-1."""
    corners = pd.read_csv(index, sep="\t")[["z", "y", "x"]].to_numpy()
    boxes = [extract_box(pair.target.data, (z, y, x), edge_voxels) for z, y, x in corners]
    with written_whole(Path(to)) as part, part.open("wb") as file:
        np.save(file, np.stack(boxes).astype(np.float16))


def write_pair(
    pair: Pair,
    entry_id: str,
    facts: Mapping[str, Any],
    to: Mapping[str, str],
    settings: Mapping[str, Any],
) -> int:
    """Write a pair and its boxes; returns how many.

    Parameters
    ----------
    pair
        what `make_pair` made.
    entry_id
        its id.
    facts
        what else the card says, such as checksums of the files that the pair was made from.
    to
        paths by role: ``boxes`` (npy), ``index`` (TSV), ``card`` (JSON), and, where they are to be
        kept, ``map``, ``target``, ``mask`` (MRC).
    settings
        ``seed`` and ``boxes``, the arguments of `choose_boxes`.
    """
    boxes = settings["boxes"]
    corners = choose_boxes(pair.zone, entry_seed(entry_id, settings["seed"]), **boxes)
    zone = Volume.on(pair.map.grid, pair.zone.astype(np.float32))
    for role, volume in zip(VOLUMES, (pair.map, pair.target, zone), strict=True):
        if role in to:
            write_map(to[role], volume, label=f"cryoready {__version__} training pair {entry_id}")
    stack = cut_boxes(pair, corners, boxes["edge_voxels"])
    known: dict[str, Any] = {
        "resolution": pair.resolution,
        "correlation": round(pair.correlation, 4),
    }
    _write_boxes(stack, corners, entry_id, to, {**known, **facts})
    return len(corners)


def write_no_pair(
    entry_id: str, reason: str, to: Mapping[str, str], settings: Mapping[str, Any]
) -> None:
    """Write a pair without boxes and why there are none: ``failed`` of the card.

    Its volumes, where these are to be kept, are empty files.
    """
    for role in VOLUMES:
        if role in to:
            Path(to[role]).write_bytes(b"")
    edge = settings["boxes"]["edge_voxels"]
    empty = np.empty((0, 2, edge, edge, edge), dtype=np.float16)
    _write_boxes(empty, [], entry_id, to, {"failed": reason})


def _write_boxes(
    stack: NDArray[np.float16],
    corners: list[Corner],
    entry_id: str,
    to: Mapping[str, str],
    facts: Mapping[str, Any],
) -> None:
    with written_whole(Path(to["boxes"])) as part:
        np.save(part, stack)
    index = pd.DataFrame(corners, columns=["z", "y", "x"])
    index.insert(0, "box", range(len(corners)))
    with written_whole(Path(to["index"])) as part:
        index.to_csv(part, sep="\t", index=False)
    card = {
        "id": entry_id,
        "version": __version__,
        **facts,
        "boxes": len(corners),
        "boxes_sha256": file_sha256(to["boxes"]),
    }
    with written_whole(Path(to["card"])) as part:
        part.write_text(json.dumps(card, indent=2) + "\n")
