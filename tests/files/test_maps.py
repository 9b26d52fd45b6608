"""Map files. Inputs are packed by hand (MRC2014 words) and outputs read by gemmi, not mrcfile."""

import csv
import gzip
import itertools
import tracemalloc
import warnings
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from cryoready.core.errors import CryoreadyError, TransientError
from cryoready.core.volume import Volume
from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.files.models import read_model

AXES = list(itertools.permutations((1, 2, 3)))
SHAPES = [(4, 6, 8), (5, 7, 9)]
VOXEL_XYZ = (1.25, 0.75, 2.0)  # anisotropic, exact in float32
ORIGIN_XYZ = (12.5, -4.25, 60.125)
NSTART = (-7, 11, 3)  # columns, rows, sections
CONVENTIONS = {
    "origin": (ORIGIN_XYZ, (0, 0, 0)),
    "nstart": ((0.0, 0.0, 0.0), NSTART),
    "both": (ORIGIN_XYZ, NSTART),
    "neither": ((0.0, 0.0, 0.0), (0, 0, 0)),
}
DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
STAMPS = {"<": b"\x44\x44\0\0", ">": b"\x11\x11\0\0"}


def density(shape, seed=0):
    """Noise below 1 and one voxel of 10 that no axis permutation or flip leaves in place."""
    data = np.random.default_rng(seed).random(shape, dtype=np.float32)
    data[1, 2, shape[2] - 2] = 10
    return data


def mrc_bytes(
    data,
    *,
    axes=(1, 2, 3),
    nstart=(0, 0, 0),
    origin=(0, 0, 0),
    voxel=VOXEL_XYZ,
    intervals=None,
    cell=None,
    angles=(90, 90, 90),
    mode=2,
    order="<",
    ispg=1,
    stamp=None,
    map_id=b"MAP ",
    labels=(),
    extended=b"",
    nsymbt=None,
    counts=None,
):
    """A zyx density as the bytes of an MRC file."""
    stored = data.transpose([3 - axes[2], 3 - axes[1], 3 - axes[0]])
    intervals = intervals or data.shape[::-1]
    cell = cell or [n * d for n, d in zip(intervals, voxel, strict=True)]
    words = np.zeros(256, dtype=order + "i4")
    reals = words.view(order + "f4")
    words[0:3] = counts or stored.shape[::-1]
    words[3] = mode
    words[4:7] = nstart
    words[7:10] = intervals
    reals[10:13] = cell
    reals[13:16] = angles
    words[16:19] = axes
    words[22:24] = ispg, len(extended) if nsymbt is None else nsymbt
    words[27] = 20140
    reals[49:52] = origin
    header = bytearray(words.tobytes())
    header[208:212] = map_id
    header[212:216] = stamp or STAMPS[order]
    header[220:224] = np.array(len(labels), order + "i4").tobytes()
    for k, label in enumerate(labels):
        header[224 + 80 * k : 304 + 80 * k] = label.encode().ljust(80)
    return bytes(header) + extended + stored.astype(order + DTYPES.get(mode, "f4")).tobytes()


def geometry(path):
    """Words of the header that place a map: counts, nstart, intervals, cell, axes, origin."""
    content = Path(path).read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    words = np.frombuffer(content[:1024], "<i4")
    return words[[0, 1, 2, *range(4, 19), 49, 50, 51]].tolist()


def gemmi_peak(path):
    """Position (x, y, z), Å, of the highest voxel, by gemmi and the rule of the origin field."""
    ccp4 = gemmi.read_ccp4_map(str(path))
    ccp4.setup(float("nan"), gemmi.MapSetup.ReorderOnly)
    index = np.unravel_index(ccp4.grid.array.argmax(), ccp4.grid.array.shape)
    cell = np.array([ccp4.header_float(w) for w in (11, 12, 13)])
    voxel = cell / [ccp4.header_i32(w) for w in (8, 9, 10)]
    origin = np.array([ccp4.header_float(w) for w in (50, 51, 52)])
    start = voxel * [ccp4.header_i32(w) for w in (5, 6, 7)]
    return index * voxel + (origin if origin.any() else start)


def peak(volume):
    """Position (x, y, z), Å, of the highest voxel of a volume."""
    index = np.unravel_index(volume.data.argmax(), volume.data.shape)
    return np.array([volume.grid.axis(k)[index[k]] for k in (2, 1, 0)])


@pytest.mark.parametrize("shape", SHAPES, ids=["even", "odd"])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_position_survives_read_and_write(tmp_path, axes, convention, shape):
    origin, nstart = CONVENTIONS[convention]
    data = density(shape)
    source, copy, plain = (tmp_path / name for name in ("in.mrc", "out.mrc", "plain.map"))
    source.write_bytes(mrc_bytes(data, axes=axes, nstart=nstart, origin=origin))

    volume = read_map(source)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_array_equal(volume.voxel_size, VOXEL_XYZ[::-1])
    np.testing.assert_allclose(peak(volume), gemmi_peak(source), atol=1e-5)

    write_map(copy, volume, layout=read_layout(source))
    assert geometry(copy) == geometry(source)
    write_map(plain, volume)
    for path in (copy, plain):
        np.testing.assert_allclose(gemmi_peak(path), peak(volume), atol=1e-5)
        np.testing.assert_array_equal(read_map(path).data, data)
        assert mrcfile.validate(path)


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_gemmi_interpolates_the_peak_where_nstart_puts_it(tmp_path, axes):
    source, copy = tmp_path / "in.mrc", tmp_path / "out.mrc"
    source.write_bytes(mrc_bytes(density((5, 7, 8)), axes=axes, nstart=(1, 2, 3)))
    volume = read_map(source)
    write_map(copy, volume, layout=read_layout(source))
    ccp4 = gemmi.read_ccp4_map(str(copy), setup=True)  # the whole cell, placed by nstart
    assert ccp4.grid.interpolate_value(gemmi.Position(*peak(volume))) == pytest.approx(10, abs=1e-4)


def test_a_map_cut_from_a_larger_cell_keeps_the_cell(tmp_path):
    source, copy = tmp_path / "in.ccp4", tmp_path / "out.ccp4"
    source.write_bytes(mrc_bytes(density((4, 6, 8)), nstart=(3, 4, 5), intervals=(20, 30, 40)))
    volume = read_map(source)
    np.testing.assert_array_equal(volume.voxel_size, VOXEL_XYZ[::-1])
    np.testing.assert_allclose(peak(volume), gemmi_peak(source))
    write_map(copy, volume, layout=read_layout(source))
    assert geometry(copy) == geometry(source)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", DTYPES)
def test_modes_and_byte_orders(tmp_path, mode, order):
    data = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    path = tmp_path / "m.mrc"
    path.write_bytes(mrc_bytes(data, mode=mode, order=order, extended=bytes(160)))
    volume = read_map(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == np.float32
    assert volume.data.dtype.isnative


@pytest.mark.parametrize(
    ("order", "stamp"), [("<", b"\0\0\x44\x44"), (">", b"\0\0\0\0"), (">", STAMPS["<"])]
)
def test_a_broken_machine_stamp_is_a_warning(tmp_path, order, stamp):
    data = density((4, 5, 6))
    path = tmp_path / "m.mrc"
    path.write_bytes(mrc_bytes(data, order=order, stamp=stamp, origin=ORIGIN_XYZ))
    with pytest.warns(UserWarning, match=r"m.mrc.*[Mm]achine stamp"):
        volume = read_map(path)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_array_equal(volume.origin, ORIGIN_XYZ[::-1])


@pytest.mark.parametrize("name", ["m.map.gz", "m.mrc"])
def test_gzip_is_recognised_by_content_and_written_by_name(tmp_path, name):
    data = density((4, 5, 6))
    path = tmp_path / name
    path.write_bytes(gzip.compress(mrc_bytes(data)))
    volume, layout = read_map(path), read_layout(path)
    np.testing.assert_array_equal(volume.data, data)
    write_map(path, volume, layout=layout)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == (name == "m.map.gz")
    np.testing.assert_array_equal(read_map(path).data, data)


def test_space_group_0_is_a_volume_and_stays_one(tmp_path):
    source, copy = tmp_path / "in.mrc", tmp_path / "out.mrc"
    source.write_bytes(mrc_bytes(density((5, 6, 7)), ispg=0, origin=ORIGIN_XYZ))
    volume = read_map(source)
    assert volume.voxel_size[0] == VOXEL_XYZ[2]
    write_map(copy, volume, layout=read_layout(source))
    assert geometry(copy) == geometry(source)
    with mrcfile.open(copy) as mrc:
        assert mrc.is_volume()
        assert mrc.voxel_size.z == VOXEL_XYZ[2]


@pytest.mark.parametrize("cell_z", [1.5, 1.5 * 5], ids=["one voxel", "all voxels"])
@pytest.mark.parametrize("ispg", [0, 1])
def test_mz_1_does_not_spoil_the_z_voxel(tmp_path, ispg, cell_z):
    source, copy = tmp_path / "in.mrc", tmp_path / "out.mrc"
    data = density((5, 6, 7))
    cell = (1.4 * 7, 1.4 * 6, cell_z)
    source.write_bytes(mrc_bytes(data, ispg=ispg, intervals=(7, 6, 1), cell=cell))
    with pytest.warns(UserWarning, match="stack of 5 images"):
        volume = read_map(source)
    np.testing.assert_allclose(volume.voxel_size, (1.5, 1.4, 1.4), rtol=1e-6)
    with pytest.warns(UserWarning, match="stack of 5 images"):
        layout = read_layout(source)
    write_map(copy, volume, layout=layout)
    np.testing.assert_allclose(read_map(copy).voxel_size, (1.5, 1.4, 1.4), rtol=1e-6)


@pytest.mark.parametrize(
    ("convention", "expected_zyx"),
    [("origin", ORIGIN_XYZ[::-1]), ("nstart", (3 * 2.5, 11 * 2.5, -7 * 2.5))],
)
def test_voxel_size_override(tmp_path, convention, expected_zyx):
    """nstart counts voxels, so it scales with them; the origin field is in Å, so it stays."""
    origin, nstart = CONVENTIONS[convention]
    source, copy = tmp_path / "in.mrc", tmp_path / "out.mrc"
    source.write_bytes(mrc_bytes(density((4, 5, 6)), origin=origin, nstart=nstart, voxel=(0, 0, 0)))
    with pytest.raises(CryoreadyError, match="column voxel_size"):
        read_map(source)
    volume = read_map(source, voxel_size=2.5)
    np.testing.assert_array_equal(volume.voxel_size, (2.5, 2.5, 2.5))
    np.testing.assert_array_equal(volume.origin, expected_zyx)
    write_map(copy, volume, layout=read_layout(source))
    np.testing.assert_array_equal(read_map(copy).origin, expected_zyx)
    np.testing.assert_array_equal(read_map(copy).voxel_size, (2.5, 2.5, 2.5))


def test_voxel_size_1_may_be_a_default(tmp_path):
    path = tmp_path / "m.mrc"
    path.write_bytes(mrc_bytes(density((4, 5, 6)), voxel=(1, 1, 1)))
    with pytest.warns(UserWarning, match="may be a default"):
        read_map(path)
    read_map(path, voxel_size=1)  # said so: no warning


def test_statistics_and_labels_of_the_output(tmp_path):
    source, copy = tmp_path / "in.mrc", tmp_path / "out.mrc"
    old = [f"label {k}" for k in range(10)]
    source.write_bytes(mrc_bytes(density((4, 5, 6)), labels=old))
    layout = read_layout(source)
    data = density((4, 5, 6), seed=1) - 3
    volume = Volume.on(read_map(source).grid, data)
    write_map(copy, volume, layout=layout, label="modified by a\nnetwork, 3 Å " + 80 * "x")
    with mrcfile.open(copy) as mrc:
        header, labels = mrc.header, mrc.get_labels()
    assert labels[:9] == old[1:]
    assert labels[9] == ("modified by a network, 3 ? " + 80 * "x")[:80]
    statistics = [header.dmin, header.dmax, header.dmean, header.rms]
    expected = [data.min(), data.max(), data.mean(dtype=float), data.std(dtype=float)]
    np.testing.assert_allclose(statistics, expected, rtol=1e-6)


@pytest.mark.parametrize("offset", [0, 50])
def test_statistics_do_not_suffer_from_a_constant(tmp_path, offset):
    data = density((30, 31, 32)) + np.float32(offset)
    write_map(tmp_path / "out.mrc", Volume(data, 1.5, 0))
    with mrcfile.open(tmp_path / "out.mrc", header_only=True) as mrc:
        found = float(mrc.header.dmean), float(mrc.header.rms)
    expected = data.mean(dtype=float), data.std(dtype=float)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["m.mrc", "m.map.gz"])
@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 2, 1)])
def test_reading_and_writing_need_few_copies(tmp_path, name, axes):
    """Beside the map in memory: nothing to write it, as it lies in the file to turn its axes."""
    shape = (100, 102, 104)
    data = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    volume, path = Volume(data, VOXEL_XYZ[::-1], 0), tmp_path / name
    source = tmp_path / "in.mrc"
    source.write_bytes(mrc_bytes(data, axes=axes))
    layout = read_layout(source)
    tracemalloc.start()
    write_map(path, volume, layout=layout)
    _, written = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    copy = read_map(path)
    _, read = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(copy.data, data)
    assert written < 0.4 * data.nbytes
    assert read < (1.4 if axes == (1, 2, 3) else 2.4) * data.nbytes


def test_a_volume_must_fit_the_layout(tmp_path):
    source = tmp_path / "in.mrc"
    source.write_bytes(mrc_bytes(density((4, 5, 6)), origin=ORIGIN_XYZ))
    layout, volume = read_layout(source), read_map(source)
    moved = Volume(volume.data, volume.voxel_size, volume.origin + 0.1)
    cut = Volume(volume.data[1:], volume.voxel_size, volume.origin)
    for other in (moved, cut):
        with pytest.raises(ValueError, match="does not fit"):
            write_map(tmp_path / "out.mrc", other, layout=layout)


@pytest.mark.parametrize("name", ["out.mrc", "out.map.gz"])
def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"what was there before")
    volume = Volume(density((4, 5, 6)), 1.5, 0)
    broken = Volume(np.where(volume.data == 10, np.nan, volume.data), 1.5, 0)
    with pytest.raises(CryoreadyError, match="NaN"):
        write_map(path, broken)

    def disk_full(self, label):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mrcfile.mrcfile.MrcFile, "add_label", disk_full)
    with pytest.raises(TransientError, match=r"cannot be written: No space left on device"):
        write_map(path, volume, label="x")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"what was there before"


def test_no_folder_to_write_to(tmp_path):
    with pytest.raises(CryoreadyError, match="cannot be written: No such file"):
        write_map(tmp_path / "missing" / "out.mrc", Volume(density((4, 5, 6)), 1.5, 0))


GOOD = density((4, 5, 6))
HUGE = mrc_bytes(GOOD, counts=(4000, 4000, 4000))
PAGE = b"<!DOCTYPE html>\n<html><body>404 not found</body></html>\n"
ZIPPED = gzip.compress(mrc_bytes(GOOD))
BAD = {
    "empty": (b"", "header is empty or all zeros"),
    "zeros": (bytes(2000), "header is empty or all zeros"),
    "short page": (PAGE, "begin with b'<!DOCTYPE"),
    "long page": (40 * PAGE, "begin with b'<!DOCTYPE"),
    "zipped page": (gzip.compress(40 * PAGE), "begin with b'<!DOCTYPE"),
    "short header": (mrc_bytes(GOOD)[:1000], "not an MRC/CCP4 map"),
    "broken extended header": (mrc_bytes(GOOD, nsymbt=-80), "broken header"),
    "no MAP": (mrc_bytes(GOOD, map_id=b"\0\0\0\0"), "not an MRC/CCP4 map"),
    "header only": (mrc_bytes(GOOD)[:1024], "truncated"),
    "extended header cut": (mrc_bytes(GOOD, extended=bytes(9000))[:3000], "truncated"),
    "truncated": (mrc_bytes(GOOD)[:-1], "truncated"),
    "gzip of a truncated map": (gzip.compress(mrc_bytes(GOOD)[:-1]), "479 bytes of density, 480"),
    "gzip that cannot hold it": (
        gzip.compress(mrc_bytes(GOOD, counts=(4000, 4000, 4000))),
        "trunc",
    ),
    "truncated gzip": (ZIPPED[:300], "broken gzip"),
    "gzip without its end": (ZIPPED[:-3], "broken gzip"),
    "corrupt gzip": (ZIPPED[:100] + b"\xff" * 50 + ZIPPED[150:], "broken gzip"),
    "wrong checksum": (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "broken gzip file .CRC check failed"),
    "NaN": (mrc_bytes(np.where(GOOD == 10, np.nan, GOOD)), "1 values of 120 that are NaN"),
    "infinite": (mrc_bytes(np.where(GOOD == 10, -np.inf, GOOD)), "1 values of 120 that are NaN"),
    "constant": (mrc_bytes(np.full((4, 5, 6), 2.5)), "2.5 everywhere"),
    "skew": (mrc_bytes(GOOD, angles=(90, 101.5, 90)), "skew cell.*101.5"),
    "voxel size 0": (mrc_bytes(GOOD, voxel=(1, 1, 0)), "column voxel_size"),
    "negative voxel size": (mrc_bytes(GOOD, voxel=(-1, 1, 1)), "column voxel_size"),
    "NaN voxel size": (mrc_bytes(GOOD, voxel=(1, np.nan, 1)), "column voxel_size"),
    "no voxels": (mrc_bytes(GOOD, counts=(6, 0, 4)), "edge has 2 to 4096"),
    "negative size": (mrc_bytes(GOOD, counts=(6, -5, 4)), "edge has 2 to 4096"),
    "huge size": (mrc_bytes(GOOD, counts=(6, 5, 2**30)), "edge has 2 to 4096"),
    "large size": (HUGE, "truncated"),
    "image": (mrc_bytes(GOOD[:1]), "an image, not a volume"),
    "image, space group 0": (mrc_bytes(GOOD[:1], ispg=0), "an image, not a volume"),
    "stack of volumes": (mrc_bytes(GOOD, ispg=401, intervals=(6, 5, 2)), "stack of volumes"),
    "mode 3": (mrc_bytes(GOOD, mode=3), "complex mode 3"),
    "mode 4": (mrc_bytes(GOOD, mode=4), "complex mode 4"),
    "mode 101": (mrc_bytes(GOOD, mode=101), "mode 101, known are"),
    "axis order": (mrc_bytes(GOOD[:, :5, :5]).replace(b"\2\0\0\0\3", b"\2\0\0\0\2"), "axis order"),
    "origin": (mrc_bytes(GOOD, origin=(0, np.inf, 0)), "origin"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / "bad.map.gz"
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=message) as error:
        read_map(path)
    assert str(error.value).startswith(f"map {path} ")
    assert "\n" not in str(error.value)


def test_no_file_to_read(tmp_path):
    with pytest.raises(CryoreadyError, match=r"none.mrc cannot be read: No such file"):
        read_map(tmp_path / "none.mrc")
    with pytest.raises(CryoreadyError, match="cannot be read: Is a directory"):
        read_map(tmp_path)


def test_shared_maps_lie_on_their_models(shared_data):
    """Mean of the map at the CA (RNA: P) atoms in sigma of the map, trilinear, as in the table.

    It depends on axis order and position together: a wrong one puts the atoms into solvent.
    """
    with open(shared_data / "entries.tsv", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert len(rows) == 26
    for row in rows:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # EMD-1461-box: stamp; some at 1 Å
            volume = read_map(shared_data / "maps" / row["map"])
        atoms = read_model(shared_data / "maps" / row["model"])
        assert volume.data.shape == tuple(map(int, row["shape_zyx"].split("x")))
        np.testing.assert_allclose(volume.voxel_size, float(row["voxel_A"]), rtol=1e-5)
        trace = ((atoms.name == "CA") & (atoms.element == "C")) | (atoms.name == "P")
        assert trace.sum() == int(row["n_ca"]), row["name"]
        voxels = (atoms.coords[trace] - volume.origin) / volume.voxel_size
        mean = map_coordinates(volume.data, voxels.T, order=1).mean(dtype=float)
        z = (mean - volume.data.mean(dtype=float)) / volume.data.std(dtype=float)
        assert z == pytest.approx(float(row["ca_z"]), abs=0.01), row["name"]


def test_shared_map_with_a_broken_stamp_warns(shared_data):
    with pytest.warns(UserWarning, match="machine stamp: 0x00 0x00 0x44 0x44"):
        read_layout(shared_data / "maps" / "EMD-1461-box.map.gz")
