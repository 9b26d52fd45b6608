"""A prepared pair on disk: maps, a stack of boxes with its index, and where all that came from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoready import __version__
from cryoready.core.boxes import Corner, box_starts, extract_box
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import Volume
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.dataset.metadata import read_metadata
from cryoready.dataset.prepare import Pair, entry_seed, prepare_pair, prepare_simulated_pair
from cryoready.density.masks import BoolArray
from cryoready.files.maps import read_map, write_map
from cryoready.files.models import read_model


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


def make_pair(
    entry_id: str,
    sources: Mapping[str, str],
    settings: Mapping[str, Any],
    *,
    local_target: bool = False,
) -> Pair:
    """The pair of an entry; simulated if it has no map.

    Parameters
    ----------
    entry_id
        its id, which seeds all draws.
    sources
        paths by role: ``model``, and as far as there are ``map`` and ``metadata``.
    settings
        ``seed``, ``boxes``, and the sheet's ``resolution``, ``voxel_size``, ``mask_radius``.
    local_target
        whether the target is as sharp as an experimental map at each residue.
    """
    resolution = settings["resolution"]
    if resolution is None and "metadata" in sources:
        resolution = read_metadata(Path(sources["metadata"])).resolution
    seed = entry_seed(entry_id, settings["seed"])
    edge = settings["boxes"]["edge_voxels"]
    atoms = read_model(sources["model"])
    if "map" not in sources:
        return prepare_simulated_pair(atoms, resolution=resolution, seed=seed, minimum_voxels=edge)
    return prepare_pair(
        read_map(sources["map"], voxel_size=settings["voxel_size"]),
        atoms,
        resolution=resolution,
        seed=seed,
        minimum_voxels=edge,
        mask_radius=settings["mask_radius"],
        local_target=local_target,
    )


def write_targets(pair: Pair, index: str, to: str, edge_voxels: int) -> None:
    """Write the target of ``pair`` in the boxes of ``index`` (TSV): (n, edge, edge, edge), 0-1."""
    corners = pd.read_csv(index, sep="\t")[["z", "y", "x"]].to_numpy()
    boxes = [extract_box(pair.target.data, (z, y, x), edge_voxels) for z, y, x in corners]
    with written_whole(Path(to)) as part, part.open("wb") as file:
        np.save(file, np.stack(boxes).astype(np.float16))


def write_pair(
    pair: Pair,
    entry_id: str,
    sources: Mapping[str, str],
    to: Mapping[str, str],
    settings: Mapping[str, Any],
) -> str:
    """Write a pair and its boxes; returns a line that sums it up.

    Parameters
    ----------
    pair
        what `prepare` made.
    entry_id
        its id.
    sources
        the files it was made from, by role.
    to
        paths by role: ``map``, ``target``, ``mask`` (MRC), ``boxes`` (npy), ``index`` (TSV) and
        ``card`` (JSON).
    settings
        ``seed`` and ``boxes``, the arguments of `choose_boxes`.
    """
    zone = Volume.on(pair.map.grid, pair.zone.astype(np.float32))
    for role, volume in (("map", pair.map), ("target", pair.target), ("mask", zone)):
        write_map(to[role], volume, label=f"cryoready {__version__} training pair {entry_id}")
    boxes = settings["boxes"]
    corners = choose_boxes(pair.zone, entry_seed(entry_id, settings["seed"]), **boxes)
    with written_whole(Path(to["boxes"])) as part:
        np.save(part, cut_boxes(pair, corners, boxes["edge_voxels"]))
    index = pd.DataFrame(corners, columns=["z", "y", "x"])
    index.insert(0, "box", range(len(corners)))
    with written_whole(Path(to["index"])) as part:
        index.to_csv(part, sep="\t", index=False)
    card = {
        "id": entry_id,
        "version": __version__,
        "resolution": pair.resolution,
        "correlation": round(pair.correlation, 4),
        "boxes": len(corners),
        "boxes_sha256": file_sha256(to["boxes"]),
        "sources": {role: file_sha256(path) for role, path in sorted(sources.items())},
    }
    with written_whole(Path(to["card"])) as part:
        part.write_text(json.dumps(card, indent=2) + "\n")
    return (
        f"{entry_id}: {'x'.join(map(str, pair.map.data.shape))} voxels, {len(corners)} boxes, "
        f"correlation of map and target {pair.correlation:.2f}"
    )
