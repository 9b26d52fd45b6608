"""A map -> the same map sharpened by `phenix.auto_sharpen`, the peer that knows no network.

    .venv-peers/bin/python -I workflow/scripts/auto_sharpen.py MAP OUTPUT --resolution 3.2

Its defaults (doi 10.1107/S2059798318004655) choose a global B and resolution cut-off that maximise
the adjusted surface area of the contoured map. Runs in the environment of `make peers`, where
neither cryoready nor Snakemake is. What cctbx has to say goes to stdout.
"""

import argparse
import json
import os
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

# One of its modules imports the graphical interface of Phenix, which cctbx-base lacks.
sys.modules["wxGUI2"] = types.ModuleType("wxGUI2")
sys.modules["wxGUI2"].utils = types.ModuleType("wxGUI2.utils")  # type: ignore[attr-defined]

from cctbx import crystal  # noqa: E402
from cctbx.maptbx import auto_sharpen  # noqa: E402
from scitbx.array_family import flex  # noqa: E402


def read_map(path: Path, voxel_size: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density (nx, ny, nz), voxel size and position (3,) xyz in Å, whatever the axis order."""
    with mrcfile.open(path, permissive=True) as mrc:
        header = mrc.header
        axes = [int(header.mapc), int(header.mapr), int(header.maps)]
        axes = axes if any(axes) else [1, 2, 3]
        density = np.moveaxis(mrc.data.T, (0, 1, 2), [axis - 1 for axis in axes])
        start = np.zeros(3)
        start[[axis - 1 for axis in axes]] = header.nxstart, header.nystart, header.nzstart
        cell, origin = np.array(header.cella.item()), np.array(header.origin.item())
        intervals = np.array([header.mx, header.my, header.mz])
    voxel = cell / np.where(intervals > 1, intervals, density.shape)
    if intervals[2] == 1:  # a stack of images by the letter, whose third edge may mean either
        voxel[2] = voxel[0]
    if voxel_size is not None:
        voxel[:] = voxel_size
    if not (voxel > 0).all():
        raise ValueError(f"voxel size (x, y, z) = {voxel.tolist()} Å: give the column voxel_size")
    if not np.isfinite(density).all() or density.min() == density.max():
        raise ValueError("its values are NaN, infinite or all the same")
    return density.astype(np.float64), voxel, origin if origin.any() else start * voxel


def sharpen(density: np.ndarray, voxel: np.ndarray, resolution: float) -> np.ndarray:
    """The sharpened density (nx, ny, nz) on the same grid."""
    cell = (*(voxel * density.shape).tolist(), 90, 90, 90)
    sharpened, *_ = auto_sharpen.run(
        params=auto_sharpen.get_params([f"resolution={resolution}", "nproc=1"]),
        map_data=flex.double(np.ascontiguousarray(density)),
        crystal_symmetry=crystal.symmetry(cell, "P 1"),
        wrapping=False,
        write_output_files=False,
    )
    return sharpened.as_numpy_array()


def write_map(path: Path, density: np.ndarray, voxel: np.ndarray, origin: np.ndarray) -> None:
    """Axis order x, y, z and the position in the origin field; whole or not at all."""
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with mrcfile.new(part) as mrc:
            mrc.set_data(np.ascontiguousarray(density.T, dtype=np.float32))
            mrc.voxel_size = tuple(voxel.tolist())
            mrc.header.origin = tuple(origin.tolist())
            mrc.add_label("sharpened by phenix.auto_sharpen (cctbx.maptbx.auto_sharpen)")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def values(node: Any, *keys: str) -> Iterator[Any]:
    """Everything at the end of a path in EMDB's JSON, where a list of one may be bare."""
    if isinstance(node, list):
        for item in node:
            yield from values(item, *keys)
    elif not keys:
        yield node
    elif isinstance(node, dict):
        yield from values(node.get(keys[0]), *keys[1:])


def reported_resolution(metadata: Path) -> float:
    """Å, as the authors of an EMDB entry report it."""
    path = ("structure_determination_list", "structure_determination", "image_processing")
    path = (*path, "final_reconstruction", "resolution", "valueOf_")
    found = [value for value in values(json.loads(metadata.read_text()), *path) if value]
    if not found:
        raise ValueError(f"{metadata} states no resolution: give the column resolution")
    return float(found[0])


def main() -> None:
    """Read, sharpen, write; one line if that fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("map", type=Path)
    parser.add_argument("output", type=Path)
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--resolution", type=float, help="Å")
    known.add_argument("--metadata", type=Path, help="EMDB's JSON, which states the resolution")
    parser.add_argument("--voxel-size", type=float, help="Å, instead of that of the map")
    to = parser.parse_args()
    try:
        resolution = to.resolution or reported_resolution(to.metadata)
        density, voxel, origin = read_map(to.map, to.voxel_size)
        write_map(to.output, sharpen(density, voxel, resolution), voxel, origin)
    except Exception as error:  # cctbx fails with any of them
        traceback.print_exc(file=sys.stdout)
        reason = " ".join(str(error).split()) or type(error).__name__
        sys.exit(f"cryoready: error: auto-sharpening of {to.map} failed: {reason}")


if __name__ == "__main__":
    main()
