"""What jobs ask for: never less than what was measured, and by the header of whatever file."""

import gzip
import subprocess
import sys
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
import torch

from cryoready.core.cost import (
    MEGABYTES,
    MEMORY_MARGIN,
    PRESETS,
    SECONDS,
    SLOWNESS,
    SNAKEMAKES_MB,
    START_MINUTES,
    UNKNOWN,
    Size,
    megabytes,
    minutes,
    network_times,
    parameters_of,
    training_megabytes,
)
from cryoready.network.checkpoint import Card, save_weights
from cryoready.network.scunet import Architecture, SCUNet

EMBEDDED = Path(__file__).parents[2] / "resources" / "EMD-3488"
SHAPE = (40, 50, 60)  # z, y, x


def write(path: Path, *, voxel_size=1.0, shape=SHAPE, cell=None, intervals=None) -> str:
    """A map by mrcfile, which is not what reads it."""
    with mrcfile.new(path, compression="gzip" if path.suffix == ".gz" else None) as mrc:
        mrc.set_data(np.zeros(shape, dtype=np.float32))
        mrc.voxel_size = voxel_size
        if intervals:
            mrc.header.mx, mrc.header.my, mrc.header.mz = intervals
        if cell:
            mrc.header.cella = cell
    return str(path)


@pytest.mark.parametrize("name", ["a.mrc", "a.map.gz", "packed.mrc"])
@pytest.mark.parametrize("voxel_size", [0.5, 1.0, 1.4])
def test_size_is_that_of_the_header(tmp_path, name, voxel_size):
    """A gzip file is known by its content, as where maps are read; 1.4 Å: 2.744 points a voxel."""
    path = Path(write(tmp_path / name, voxel_size=voxel_size))
    if name == "packed.mrc":
        path.write_bytes(gzip.compress(path.read_bytes()))
    size = Size.of(str(path))
    assert size.voxels == 120_000
    assert size.points == pytest.approx(120_000 * voxel_size**3, rel=1e-5)


def test_map_cut_from_a_cell(tmp_path):
    """The cell has more intervals than the map voxels: 90 Å in 180, 100 in 100, 60 in 30."""
    path = write(tmp_path / "a.mrc", cell=(90.0, 100.0, 60.0), intervals=(180, 100, 30))
    assert Size.of(path).points == pytest.approx(120_000 * 0.5 * 1.0 * 2.0)


def test_big_endian_header(tmp_path):
    path = Path(write(tmp_path / "a.mrc", voxel_size=1.4))
    words = np.frombuffer(path.read_bytes()[:1024], dtype="<i4").astype(">i4")
    path.write_bytes(words.tobytes())
    assert Size.of(str(path)).points == pytest.approx(120_000 * 2.744, rel=1e-5)


def test_voxel_size_of_the_sheet_wins(tmp_path):
    path = write(tmp_path / "a.mrc", voxel_size=1.0)
    assert Size.of(path, voxel_size=2.0).points == 8 * 120_000


@pytest.mark.parametrize("cell", [(0.0, 0.0, 0.0), (np.nan, 1.0, 1.0), (-60.0, 50.0, 40.0)])
def test_header_without_a_voxel_size_counts_as_1(tmp_path, cell):
    size = Size.of(write(tmp_path / "a.mrc", cell=cell))
    assert (size.voxels, size.points) == (120_000, 120_000)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>no such map</html>",
        b"\0" * 1024,
        b"\xff" * 1024,
        b"\x1f\x8b\x08broken",
        gzip.compress(bytes(range(256)) * 64)[:60],
        gzip.compress(b"short"),
    ],
    ids=["empty", "html", "zeros", "ones", "no gzip", "cut gzip", "short"],
)
def test_damaged_file_is_left_to_the_script_to_complain(tmp_path, content):
    path = tmp_path / "a.mrc"
    path.write_bytes(content)
    assert Size.of(str(path)) == UNKNOWN


def test_folder_in_place_of_a_map(tmp_path):
    assert Size.of(str(tmp_path)) == UNKNOWN


@pytest.mark.parametrize("missing", ["map.mrc", "model.cif.gz"])
def test_file_that_is_not_there_yet_is_named(tmp_path, missing):
    """Snakemake takes the error as "later" if it names an input, else as a fault."""
    files = {name: str(tmp_path / name) for name in ("map.mrc", "model.cif.gz")}
    write(Path(files["map.mrc"]))
    Path(files["model.cif.gz"]).touch()
    Path(files[missing]).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        Size.of(*files.values())
    assert caught.value.filename == files[missing]


@pytest.mark.parametrize("suffix", [".pdb", ".pdb.gz", ".cif", ".cif.gz"])
def test_atoms_are_counted_by_the_length_of_the_file(tmp_path, suffix):
    """5NI1: `zcat 5ni1.pdb.gz | grep -c -e ^ATOM -e ^HETATM` says 4 579."""
    structure = gemmi.read_structure(str(EMBEDDED / "5ni1.pdb.gz"))
    is_pdb = suffix.startswith(".pdb")
    text = structure.make_pdb_string() if is_pdb else structure.make_mmcif_document().as_string()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    found = Size.of(write(tmp_path / "a.mrc"), str(path)).atoms
    assert 4579 <= found < 2 * 4579
    assert Size.of_models([str(path)] * 3) == Size(0, 0, 3 * found)


def test_no_more_than_the_header_is_unpacked(tmp_path):
    """1 000 maps must not hold the plan up; the rest of this one cannot be unpacked."""
    path = Path(write(tmp_path / "a.map.gz"))
    noise = np.random.default_rng(1).bytes(10**6)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:1024] + noise)[:20_000])
    assert Size.of(str(path)).voxels == 120_000


# By rule: edge (voxels), voxel size (Å), atoms, MB, CPU s. EARLIER by the commands in
# docs/speed.md, metrics.md and dataset.md, the rest by `python benchmarks/resources.py rules`.
EARLIER = {
    "enhance": [
        (64, 1, 0, 670, 1.4),
        (96, 1, 0, 870, 2.2),
        (128, 1, 0, 1550, 7.1),
        (192, 1, 0, 2860, 18.6),
        (256, 1, 0, 1870, 49.0),
        (384, 1, 0, 2510, 165.0),
        (512, 1, 0, 4800, 542.0),
    ],
    "prepare": [
        (384, 1.05, 123633, 2331, 40.8),
        (400, 0.6, 0, 1846, 24.0),
        (512, 1.05, 0, 4827, 88.0),
    ],
    "evaluate_entry": [
        (300, 1.05, 300000, 7830, 0),
        (400, 1.05, 17000, 7910, 0),
    ],
}
MEASURED = {
    "mean_of_half_maps": [
        (100, 1.05, 4579, 165, 1.2),
        (200, 1.05, 36632, 249, 1.2),
        (300, 1.05, 36632, 477, 1.8),
        (200, 1.4, 123633, 249, 1.2),
        (300, 0.7, 36632, 477, 2.1),
        (200, 1.05, 123633, 249, 1.4),
        (400, 1.05, 123633, 930, 2.6),
    ],
    "enhance": [
        (100, 1.05, 4579, 1145, 6.1),
        (200, 1.05, 36632, 1406, 18.9),
        (300, 1.05, 36632, 3969, 69.5),
        (200, 1.4, 123633, 2769, 48.2),
        (300, 0.7, 36632, 1460, 25.8),
        (200, 1.05, 123633, 1466, 21.4),
        (400, 1.05, 123633, 3699, 142.2),
        *EARLIER["enhance"],
    ],
    "before_after": [
        (100, 1.05, 4579, 201, 1.9),
        (200, 1.05, 36632, 270, 2.2),
        (300, 1.05, 36632, 574, 2.5),
        (200, 1.4, 123633, 270, 2.5),
        (300, 0.7, 36632, 440, 3.5),
        (200, 1.05, 123633, 408, 2.3),
        (400, 1.05, 123633, 780, 2.9),
    ],
    "auto_sharpen": [
        (100, 1.05, 4579, 194, 19.8),
        (200, 1.05, 36632, 627, 159.7),
    ],
    "local_resolution": [
        (100, 1.05, 4579, 212, 1.7),
        (200, 1.05, 36632, 661, 5.7),
        (300, 1.05, 36632, 1671, 23.7),
        (200, 1.4, 123633, 613, 5.2),
        (300, 0.7, 36632, 1637, 37.1),
        (200, 1.05, 123633, 661, 6.1),
        (400, 1.05, 123633, 3619, 64.5),
    ],
    "local_correlation": [
        (100, 1.05, 4579, 176, 0.7),
        (200, 1.05, 36632, 859, 4.3),
        (300, 1.05, 36632, 2609, 12.4),
        (200, 1.4, 123633, 906, 6.1),
        (300, 0.7, 36632, 2609, 15.1),
        (200, 1.05, 123633, 906, 7.6),
        (400, 1.05, 123633, 6091, 29.9),
    ],
    "evaluate_entry": [
        (100, 1.05, 4579, 378, 3.0),
        (200, 1.05, 36632, 1817, 20.2),
        (300, 1.05, 36632, 4375, 47.1),
        (200, 1.4, 123633, 3493, 41.2),
        (300, 0.7, 36632, 4376, 69.1),
        (200, 1.05, 123633, 3503, 52.1),
        (400, 1.05, 123633, 10679, 118.3),
        *EARLIER["evaluate_entry"],
    ],
    "evaluation_page": [
        (100, 1.05, 4579, 218, 2.5),
        (200, 1.05, 36632, 293, 3.7),
        (300, 1.05, 36632, 459, 5.7),
        (200, 1.4, 123633, 298, 5.0),
        (300, 0.7, 36632, 459, 5.0),
        (200, 1.05, 123633, 297, 4.6),
        (400, 1.05, 123633, 818, 4.5),
    ],
    "prepare": [
        (100, 1.05, 4579, 262, 2.6),
        (200, 1.05, 36632, 684, 7.5),
        (300, 1.05, 36632, 1222, 12.1),
        (200, 1.4, 123633, 1366, 22.6),
        (300, 0.7, 36632, 913, 12.3),
        (200, 1.05, 123633, 1139, 21.2),
        (400, 1.05, 123633, 2499, 29.0),
        *EARLIER["prepare"],
    ],
    "local_targets": [
        (100, 1.05, 4579, 329, 2.4),
        (200, 1.05, 36632, 1286, 8.3),
        (300, 1.05, 36632, 1751, 13.3),
        (200, 1.4, 123633, 3141, 26.0),
        (300, 0.7, 36632, 1176, 9.5),
        (200, 1.05, 123633, 3087, 24.0),
        (400, 1.05, 123633, 3588, 26.9),
    ],
    "pack_structures": [
        (0, 1.0, 45790, 100, 0.5),
        (0, 1.0, 457900, 226, 2.2),
        (0, 1.0, 1831600, 161, 8.7),
        (0, 1.0, 1236330, 349, 8.0),
        (0, 1.0, 4945320, 437, 31.6),
    ],
}
BUNDLED = parameters_of(str(EMBEDDED.parent / "weights" / "v1" / "weights.safetensors"))
RUNS = [(rule, *run) for rule, runs in MEASURED.items() for run in runs]


@pytest.mark.parametrize(("rule", "edge", "voxel_size", "atoms", "used", "seconds"), RUNS)
def test_no_run_took_more_than_would_be_asked_for(rule, edge, voxel_size, atoms, used, seconds):
    """By the margins that are promised, and no more than 4.5 GB or three times as much."""
    size = Size(edge**3, (edge * voxel_size) ** 3, atoms)
    parameters = BUNDLED if rule == "enhance" else 0
    asked = megabytes(rule, size, parameters=parameters) - SNAKEMAKES_MB
    assert MEMORY_MARGIN * used <= asked <= max(4500, 3 * MEMORY_MARGIN * used)
    assert SECONDS[rule].of(size) >= seconds
    assert minutes(rule, size) >= START_MINUTES + SLOWNESS * SECONDS[rule].of(size) / 60


@pytest.mark.parametrize("rule", MEGABYTES)
def test_a_larger_map_never_asks_for_less(rule):
    sizes = [Size.guessed(edge**3) for edge in (1, 48, 100, 200, 350, 640, 1000)]
    for ask in (megabytes, minutes):
        asked = [ask(rule, size) for size in sizes]
        assert asked == sorted(asked)
        assert all(isinstance(value, int) for value in asked)
    assert MEGABYTES.keys() == SECONDS.keys()


def test_second_attempt_gets_twice_as_much():
    for ask in (megabytes, minutes):
        assert ask("enhance", attempt=2) == 2 * ask("enhance")


@pytest.mark.parametrize(
    ("edge", "parameters", "preset", "used", "seconds"),
    [
        *((100, 301848, "default", 1211, 5.1), (100, 1188728, "default", 1724, 7.9)),
        *((100, 4729084, "default", 3387, 17.9), (100, 18866680, "default", 4114, 46.1)),
        *((100, 1188728, "default", 932, 17.3), (100, 4729084, "default", 1808, 36.8)),  # frn
        *((100, 301848, "paper", 678, 26.7), (100, 1188728, "paper", 1017, 42.8)),
        *((100, 4729084, "paper", 1857, 110.1), (100, 4729084, "paper", 1735, 106.5)),  # frn
        *((200, 1188728, "paper", 855, 460.9), (200, 4729084, "default", 2039, 248.1)),  # frn
    ],
)
def test_a_larger_network_asks_for_more(edge, parameters, preset, used, seconds):
    """python benchmarks/resources.py networks."""
    size, times = Size.guessed(edge**3, 1.05), PRESETS[preset] * network_times(parameters)
    asked = megabytes("enhance", size, parameters=parameters) - SNAKEMAKES_MB
    assert asked >= MEMORY_MARGIN * used
    assert seconds <= times * SECONDS["enhance"].of(size) <= 8 * seconds


@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize("half", [False, True])
def test_parameters_of_a_network_are_counted(tmp_path, width, half):
    """However many bits each has; the other format holds little else."""
    architecture = Architecture(width=width, blocks=1)
    network, files = SCUNet(architecture), [tmp_path / "a.safetensors", tmp_path / "a.pth"]
    save_weights(files[0], network, Card("a", "1", architecture, 1.0), half=half)
    torch.save(network.state_dict(), files[1])
    parameters = sum(values.numel() for values in network.parameters())
    for path in files:
        assert parameters_of(str(path)) == pytest.approx(parameters, rel=0.06)


@pytest.mark.parametrize("header", [b"", b"5", b"[1]", b'{"a": 1}', b'{"a": {}}', b"\xff"])
@pytest.mark.parametrize("length", [0, 1, 2**63])
def test_damaged_weights_are_left_to_the_job(tmp_path, header, length):
    """The plan of a run must not stop at them: the job says what is wrong."""
    path = tmp_path / "a.safetensors"
    path.write_bytes((length * len(header)).to_bytes(9, "little")[:8] + header + bytes(100))
    assert parameters_of(str(path)) >= 0


def test_imports_are_those_of_the_standard_library():
    """The Snakefile reads it in every job."""
    code = (
        "import sys; before = set(sys.modules); import cryoready.core.cost;"
        "print(*(m for m in set(sys.modules) - before if not m.startswith('cryoready')"
        " and m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    ("width", "batch_size", "crop_voxels", "precision", "measured"),
    [
        *((8, 4, 48, "fp32", 2551), (16, 1, 48, "fp32", 1636), (16, 4, 48, "fp32", 4080)),
        *((32, 1, 48, "fp32", 2342), (32, 4, 48, "fp32", 7015), (16, 4, 24, "fp32", 980)),
        *((16, 4, 48, "bf16", 2523), (32, 4, 48, "bf16", 4330)),
    ],
)
def test_a_training_asks_for_more_than_was_measured(
    width, batch_size, crop_voxels, precision, measured
):
    """python benchmarks/resources.py training; no more than three times as much is asked for."""
    asked = training_megabytes(
        width=width,
        crop_voxels=crop_voxels,
        batch_size=batch_size,
        workers=0,
        precision=precision,
    )
    assert measured + SNAKEMAKES_MB < asked < 3 * (measured + SNAKEMAKES_MB)
