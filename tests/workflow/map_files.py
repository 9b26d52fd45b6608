"""Map files written and read without the package, by the letter of MRC2014."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# header words, counted from 1, that say where the density lies
PLACE_INTEGERS = (1, 2, 3, 5, 6, 7, 8, 9, 10, 17, 18, 19)  # nc nr ns, nstart, mx my mz, map crs
PLACE_FLOATS = (11, 12, 13, 14, 15, 16, 50, 51, 52)  # cell, origin


def write_map(
    path: Path,
    density: Array,
    voxel_size: float,
    *,
    axes: Sequence[int] = (1, 2, 3),
    nstart: Sequence[int] = (0, 0, 0),
    origin_xyz: Sequence[float] = (0.0, 0.0, 0.0),
    angles: Sequence[float] = (90.0, 90.0, 90.0),
) -> Path:
    """Write (nz, ny, nx) density, gzipped by its name; nstart is of columns, rows, sections."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sections_rows_columns = [3 - axis for axis in reversed(axes)]
    packed = "gzip" if path.suffix == ".gz" else None
    with mrcfile.new(path, overwrite=True, compression=packed) as mrc:
        mrc.set_data(np.ascontiguousarray(density.transpose(sections_rows_columns)))
        header = mrc.header
        header.mapc, header.mapr, header.maps = axes
        header.nxstart, header.nystart, header.nzstart = nstart
        header.mx, header.my, header.mz = density.shape[::-1]
        header.cella = tuple(voxel_size * n for n in density.shape[::-1])
        header.cellb = tuple(angles)
        header.origin = tuple(origin_xyz)
    return path


@dataclass(frozen=True)
class MapFile:
    """What gemmi finds in a file."""

    place: tuple[float, ...]
    density: Array  # (nz, ny, nx)
    statistics: tuple[float, float, float, float]  # smallest, largest, mean, rms deviation
    labels: tuple[str, ...]


def read_map(path: Path) -> MapFile:
    """Read a file with gemmi."""
    ccp4 = gemmi.read_ccp4_map(str(path))
    integers = tuple(ccp4.header_i32(word) for word in PLACE_INTEGERS)
    floats = tuple(ccp4.header_float(word) for word in PLACE_FLOATS)
    axes = integers[-3:]
    by_columns_rows_sections = np.array(ccp4.grid, copy=True)
    density = by_columns_rows_sections.transpose([axes.index(k) for k in (3, 2, 1)])
    low, high, mean, rms = (ccp4.header_float(word) for word in (20, 21, 22, 55))
    labels = tuple(ccp4.header_str(57 + 20 * k, 80).strip() for k in range(ccp4.header_i32(56)))
    return MapFile((*integers, *floats), density, (low, high, mean, rms), labels)
