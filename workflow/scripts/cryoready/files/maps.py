"""MRC/CCP4 map files (MRC2014, doi 10.1016/j.jsb.2015.04.002): the only importer of mrcfile.

Here alone are columns, rows, sections and xyz; everything that leaves is zyx.
"""

import gzip
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray

from cryoready.core.errors import CryoreadyError, TransientError
from cryoready.core.volume import FloatArray, Vector, Volume
from cryoready.core.whole_files import written_whole

GZIP_MAGIC = b"\x1f\x8b"
GZIP_GAIN = 1032  # deflate packs no tighter (https://zlib.net/zlib_tech.html)
GZIP_LEVEL = 6  # twice as fast as 9, larger by 0.6 % at most
HEADER_LENGTH = 1024  # bytes
CHUNK = 2**20  # bytes read at a time
SECTIONS = 16  # copied or written at a time
MODES = (0, 1, 2, 6, 12)  # int8, int16, float32, uint16, float16
COMPLEX_MODES = (3, 4)
LONGEST_EDGE = 4096  # voxels; beyond it the header is broken, not the map large
VOLUME_STACKS = range(401, 631)  # space groups
LABELS, LABEL_LENGTH = 10, 80

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class MapLayout:
    """How a file stores its volume: what another volume needs to overlay it in every program.

    Parameters
    ----------
    shape
        (nz, ny, nx), whatever the axis order of the file.
    voxel_size
        (z, y, x) Å as the header has it; 0 where it has none.
    axes
        (mapc, mapr, maps): 1, 2, 3 for x, y, z along columns, rows, sections.
    nstart
        first column, row and section, in voxels, as stored.
    origin_xyz
        the origin field, Å, as stored.
    intervals_xyz
        (mx, my, mz): voxels per cell edge; more than the shape where the file is cut from a cell.
    labels
        text lines of the header, oldest first.
    """

    shape: Triple
    voxel_size: tuple[float, float, float]
    axes: Triple
    nstart: Triple
    origin_xyz: tuple[float, float, float]
    intervals_xyz: Triple
    labels: tuple[str, ...] = ()

    @classmethod
    def plain(cls, volume: Volume) -> "MapLayout":
        """Columns, rows, sections along x, y, z, and the position in the origin field."""
        z, y, x = volume.data.shape
        vz, vy, vx = volume.voxel_size.tolist()
        oz, oy, ox = volume.origin.tolist()
        return cls((z, y, x), (vz, vy, vx), (1, 2, 3), (0, 0, 0), (ox, oy, oz), (x, y, z))

    @property
    def zyx_axes(self) -> Triple:
        """The zyx axis (0, 1, 2) along which sections, rows and columns of the file run."""
        columns, rows, sections = self.axes
        return 3 - sections, 3 - rows, 3 - columns

    def origin(self, voxel_size: Vector) -> Vector:
        """Position of voxel [0, 0, 0], (3,) zyx, Å.

        The origin field if it is not zero, else nstart voxels of ``voxel_size`` (zyx, Å): when
        both are set they describe the same shift, so they are never added.
        """
        if any(self.origin_xyz):
            return np.array(self.origin_xyz[::-1])
        start = dict(zip(self.axes, self.nstart, strict=True))
        return voxel_size * np.array([start[3], start[2], start[1]])


def read_layout(path: str | Path) -> MapLayout:
    """Check the header of a map (``.gz`` or not) and return its layout; the density is not read.

    Raises
    ------
    CryoreadyError
        if the file cannot be read or its header is not that of one orthogonal volume.
    """
    return _layout(*_load_header(path), path)


def read_map(path: str | Path, *, voxel_size: float | None = None) -> Volume:
    """Read a map (``.mrc``, ``.map``, ``.ccp4``, each also ``.gz``), in any axis order and mode.

    Parameters
    ----------
    path
        the file; what is inside decides, not the ending.
    voxel_size
        Å, isotropic; replaces that of the header. A position given by nstart scales with it, one
        given by the origin field stays.

    Returns
    -------
    the density as float32, always zyx.

    Raises
    ------
    CryoreadyError
        if the file is not a readable, finite, non-constant density on an orthogonal grid.
    """
    header, labels = _load_header(path)
    layout = _layout(header, labels, path)
    spacing = np.array(layout.voxel_size) if voxel_size is None else np.full(3, float(voxel_size))
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise CryoreadyError(
            f"map {path} has voxel size (z, y, x) = {spacing.tolist()} Å, it must be positive: "
            "give the true one in the column voxel_size of the sheet"
        )
    if voxel_size is None and (spacing == 1).all():
        warnings.warn(
            f"map {path} has voxel size 1 Å, which may be a default: if it is not the true one, "
            "give that in the column voxel_size of the sheet",
            stacklevel=2,
        )
    stored = _load_density(path, header)
    data = _contiguous(np.moveaxis(stored, (0, 1, 2), layout.zyx_axes))
    low, high = data.min(), data.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = data.size - np.count_nonzero(np.isfinite(data))
        raise CryoreadyError(
            f"map {path} has {bad} values of {data.size} that are NaN or infinite: "
            "replace them, or get the map again"
        )
    if low == high:
        raise CryoreadyError(f"map {path} has the value {low} everywhere: it holds no density")
    return Volume(data, spacing, layout.origin(spacing))


def write_map(
    path: str | Path, volume: Volume, *, layout: MapLayout | None = None, label: str = ""
) -> None:
    """Write a volume as float32 (mode 2, space group 1), gzipped if the name ends in ``.gz``.

    The file appears under its name only when complete. An extended header of the input (symmetry
    operators, microscope metadata) is not carried over.

    Parameters
    ----------
    path
        the file; its folder exists.
    volume
        density, voxel size and position.
    layout
        of the file that the new one must overlay: axis order, nstart, origin field and cell are
        stored as there. Without it: axis order 1, 2, 3 and the position in the origin field.
    label
        what was done, added to the labels of ``layout``; cut at 80 characters.

    Raises
    ------
    ValueError
        if the volume has another shape or position than ``layout``.
    CryoreadyError
        if a value is NaN or infinite, or the file cannot be written.
    """
    path = Path(path)
    layout = layout or MapLayout.plain(volume)
    _check_fit(volume, layout)
    low, high = volume.data.min(), volume.data.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise CryoreadyError(f"map {path} is not written: it has values that are NaN or infinite")
    new_label = " ".join(label.split()).encode("ascii", "replace").decode()[:LABEL_LENGTH]
    labels = [text for text in (*layout.labels, new_label) if text][-LABELS:]
    stored = np.moveaxis(volume.data, layout.zyx_axes, (0, 1, 2))
    try:
        with written_whole(path) as part:
            header = _new_header(part, volume, layout, labels)
            packed = path.suffix == ".gz"
            with gzip.open(part, "wb", GZIP_LEVEL) if packed else open(part, "wb") as file:
                file.write(header)
                for first in range(0, len(stored), SECTIONS):
                    file.write(_contiguous(stored[first : first + SECTIONS]).data)
    except OSError as error:
        raise TransientError(f"map {path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong in reading into one line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CryoreadyError(f"map {path} is a broken gzip file ({error}): get it again") from error
    except FileNotFoundError as error:
        raise CryoreadyError(f"map {path} cannot be read: {error.strerror or error}") from error
    except OSError as error:
        raise TransientError(f"map {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CryoreadyError(f"map {path} has a broken header ({error}): get it again") from error
    except MemoryError as error:
        raise TransientError(f"map {path} does not fit into memory") from error


def _load_header(path: str | Path) -> tuple[Any, tuple[str, ...]]:
    """Checked header and labels; what mrcfile remarks becomes a warning."""
    with _explained(path), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _check_start(path)
        with mrcfile.open(path, permissive=True, header_only=True) as mrc:
            header, complete = mrc.header, mrc.extended_header is not None
            labels = tuple(text.rstrip() for text in mrc.get_labels() if text.strip())
    notes = [str(note.message) for note in caught]
    _check_header(header, path)
    if not complete:
        raise CryoreadyError(f"map {path} is truncated ({notes[-1]}): get it again")
    for note in notes:
        warnings.warn(f"map {path}: {note}; read all the same", stacklevel=3)
    return header, labels


def _load_density(path: str | Path, header: Any) -> NDArray[Any]:
    """The density in axis order and type of the file, in one pass over it.

    mrcfile would unpack a gzip file twice and hold two copies of it.
    """
    dtype = mrcfile.utils.data_dtype_from_header(header)
    shape = mrcfile.utils.data_shape_from_header(header)
    length = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    before = HEADER_LENGTH + int(header.nsymbt)
    with _explained(path), _opened(path) as file:
        gain = GZIP_GAIN if isinstance(file, gzip.GzipFile) else 1
        held = Path(path).stat().st_size * gain - before
        content = np.empty(min(length, max(held, 0)), dtype=np.uint8)
        file.seek(before)
        read = sum(
            file.readinto(content[first : first + CHUNK]) for first in range(0, len(content), CHUNK)
        )
        file.read(1)  # gzip checks its sum at the end
    if read < length:
        raise CryoreadyError(
            f"map {path} is truncated ({read} bytes of density, {length} expected): get it again"
        )
    return content.view(dtype).reshape(shape)


def _contiguous(values: NDArray[Any]) -> FloatArray:
    """C-ordered float32; copied, if it must be, by blocks that stay in the cache."""
    if values.flags.c_contiguous and values.dtype == np.float32 and values.dtype.isnative:
        return values
    copy = np.empty(values.shape, dtype=np.float32)
    for start in product(*(range(0, n, SECTIONS) for n in values.shape)):
        block = tuple(slice(first, first + SECTIONS) for first in start)
        copy[block] = values[block]
    return copy


def _opened(path: str | Path) -> Any:
    """The file, unpacked if it is gzipped, for reading bytes."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    return gzip.open(path, "rb") if packed else open(path, "rb")


def _check_start(path: str | Path) -> None:
    """Raise CryoreadyError unless the file calls itself a map: mrcfile would allocate at random."""
    with _opened(path) as file:
        start = file.read(HEADER_LENGTH)
    if start[208:211] != b"MAP" or len(start) < HEADER_LENGTH:
        if not start.strip(b"\0"):
            raise CryoreadyError(
                f"map {path} is not an MRC/CCP4 map: its header is empty or all zeros; was the "
                "copy broken off?"
            )
        raise CryoreadyError(
            f"map {path} is not an MRC/CCP4 map (its {HEADER_LENGTH} bytes of header begin with "
            f"{start[:16]!r}): was a web page downloaded in its place?"
        )


def _layout(header: Any, labels: tuple[str, ...], path: str | Path) -> MapLayout:
    """The layout that a checked header describes."""
    n = dict(zip(_axes(header), (header.nx, header.ny, header.nz), strict=True))
    shape = int(n[3]), int(n[2]), int(n[1])
    voxel_size_xyz, intervals_xyz = _sampling(header, shape, path)
    vx, vy, vz = voxel_size_xyz.tolist()
    return MapLayout(
        shape=shape,
        voxel_size=(vz, vy, vx),
        axes=_axes(header),
        nstart=(int(header.nxstart), int(header.nystart), int(header.nzstart)),
        origin_xyz=header.origin.item(),
        intervals_xyz=intervals_xyz,
        labels=labels,
    )


def _axes(header: Any) -> Triple:
    """(mapc, mapr, maps); old files leave all three 0 for the usual order."""
    axes = int(header.mapc), int(header.mapr), int(header.maps)
    return axes if any(axes) else (1, 2, 3)


def _check_header(header: Any, path: str | Path) -> None:
    """Raise CryoreadyError unless the header is that of one volume in an orthogonal cell."""
    edges = int(header.nx), int(header.ny), int(header.nz)
    if not all(1 <= edge <= LONGEST_EDGE for edge in edges):
        raise CryoreadyError(
            f"map {path} claims {edges} voxels, an edge has 2 to {LONGEST_EDGE}: "
            "its header is broken, get it again"
        )
    if 1 in edges:
        raise CryoreadyError(f"map {path} has {edges} voxels: that is an image, not a volume")
    mode, space_group = int(header.mode), int(header.ispg)
    if mode in COMPLEX_MODES:
        raise CryoreadyError(
            f"map {path} has the complex mode {mode}: give the density, not its transform"
        )
    if mode not in MODES:
        raise CryoreadyError(
            f"map {path} has mode {mode}, known are {MODES}: save it as float32 (mode 2)"
        )
    if space_group in VOLUME_STACKS:
        raise CryoreadyError(
            f"map {path} is a stack of volumes (space group {space_group}): give one volume"
        )
    if sorted(_axes(header)) != [1, 2, 3]:
        raise CryoreadyError(f"map {path} has axis order {_axes(header)}, not one of 1, 2, 3")
    angles = header.cellb.item()
    # 0, 0, 0 is an angle never set
    if any(angles) and not np.allclose(angles, 90, rtol=0, atol=0.01):
        raise CryoreadyError(
            f"map {path} has a skew cell (angles {angles}°, needed 90°): "
            "resample it onto an orthogonal grid"
        )
    if not np.isfinite(header.origin.item()).all():
        raise CryoreadyError(f"map {path} has the origin {header.origin.item()} Å: set it to 0")


def _sampling(header: Any, shape: Triple, path: str | Path) -> tuple[Vector, Triple]:
    """Voxel size (3,) xyz in Å (0 where the header has none), and voxels per cell edge, xyz.

    By the letter, mz = 1 (with space group 0) is a stack of images. Many programs write volumes
    so, and the z edge of the cell is then that of one voxel or of all: the nearer to x counts.
    """
    n = np.array(shape[::-1])
    stored = np.array([header.mx, header.my, header.mz], dtype=np.int64)
    intervals = np.where(stored > 1, stored, n)
    cell = np.array(header.cella.item(), dtype=np.float64)
    if header.mz == 1:
        as_one, as_all = cell[2], cell[2] / n[2]
        expected = cell[0] / intervals[0]
        if abs(as_one - expected) < abs(as_all - expected):
            cell[2] *= n[2]
        warnings.warn(
            f"map {path} calls itself a stack of {n[2]} images (mz = 1): read as one volume with "
            f"a z voxel size of {cell[2] / n[2]:.5g} Å",
            stacklevel=4,
        )
    x, y, z = intervals.tolist()
    return cell / intervals, (x, y, z)


def _check_fit(volume: Volume, layout: MapLayout) -> None:
    """Raise ValueError unless the volume lies where a file of this layout says it does."""
    if volume.data.shape != layout.shape:
        raise ValueError(f"a volume {volume.data.shape} does not fit the layout {layout.shape}")
    expected = layout.origin(volume.voxel_size)
    if not np.allclose(volume.origin, expected, rtol=0, atol=1e-3):
        raise ValueError(f"a volume at {volume.origin} Å does not fit the layout at {expected} Å")


def _new_header(part: Path, volume: Volume, layout: MapLayout, labels: list[str]) -> bytes:
    """Header of a map with the geometry of the layout, made by mrcfile in the new file ``part``.

    A stand-in takes the place of the density, whose statistics mrcfile would take from a copy.
    """
    flat = volume.data.reshape(-1)
    mean = flat.mean(dtype=np.float64)
    mean_square = np.einsum("i,i->", flat, flat, dtype=np.float64) / flat.size
    with mrcfile.new(part) as mrc:
        mrc.set_data(np.zeros((1, 1, 1), dtype=np.float32))
        header = mrc.header
        shape = [volume.data.shape[k] for k in layout.zyx_axes]
        header.nz, header.ny, header.nx = shape
        header.dmin, header.dmax, header.dmean = flat.min(), flat.max(), mean
        header.rms = np.sqrt(max(mean_square - mean**2, 0))
        header.ispg = 1
        header.mapc, header.mapr, header.maps = layout.axes
        header.nxstart, header.nystart, header.nzstart = layout.nstart
        header.origin = layout.origin_xyz
        header.mx, header.my, header.mz = layout.intervals_xyz
        header.cella = tuple(volume.voxel_size[::-1] * layout.intervals_xyz)
        header.label[:], header.nlabl = b"", 0
        for text in labels:
            mrc.add_label(text)
        return header.tobytes()
