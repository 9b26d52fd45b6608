"""Auto-sharpening by cctbx, in the environment of `make peers`."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from checkout import ROOT, Checkout
from map_files import read_map, write_map

pytestmark = pytest.mark.workflow

PEERS = ROOT / ".venv-peers"
ENTRY = "EMD-5830-A"
RESOLUTION = 3.8  # Å
MAP = ROOT / f"resources/small/{ENTRY}.map.gz"  # axis order 3, 2, 1
MODEL = ROOT / f"resources/small/{ENTRY}.pdb.gz"
# cctbx.maptbx.auto_sharpen of cctbx-base 2025.11 with its defaults at 3.8 Å, called by another
# script on the whole shared map, then mmtbx.maps.mtriage and five_cc (electron scattering, radius
# 2 x resolution) and jqscore 0.2.0 (sigma=0.6, mapq_compat=False).
# Deposited: 4.32 Å, 4.31 Å, 0.671, 0.746, 0.446
EXPECTED = {
    "FSC-0.5 masked (Å)": 4.34351,
    "FSC-0.5 unmasked (Å)": 4.34215,
    "CC_mask": 0.625032,
    "CC_box": 0.599415,
    "mean Q": 0.410316,
}


@pytest.fixture(scope="module")
def python() -> Path:
    if not (PEERS / ".installed").is_file():
        pytest.skip("not on this machine: cctbx, which make peers installs")
    return PEERS / "bin" / "python"


def run(
    python: Path, script: str, arguments: Sequence[object], folder: Path
) -> subprocess.CompletedProcess[str]:
    command = [python, "-E", "-s", ROOT / script, *arguments]
    return subprocess.run(
        list(map(str, command)), cwd=folder, text=True, capture_output=True, timeout=600
    )


def sharpen(python: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(python, "workflow/scripts/auto_sharpen.py", arguments, folder)


@pytest.fixture(scope="module")
def sharpened(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sharpened") / "sharpened.mrc"
    done = sharpen(python, path.parent, MAP, path, f"--resolution={RESOLUTION}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def test_the_values_are_those_of_phenix(python: Path, sharpened: Path) -> None:
    entry = (ENTRY, MODEL, RESOLUTION, MAP, sharpened)
    done = run(python, "benchmarks/score_with_peers.py", ["--entry", *entry], sharpened.parent)
    assert done.returncode == 0, done.stderr
    header, _, _, enhanced = ([c.strip() for c in x.split("|")] for x in done.stdout.splitlines())
    scores = dict(zip(header, enhanced, strict=True))
    for column, value in EXPECTED.items():
        digits = 2 if "Å" in column else 4
        assert float(scores[column]) == pytest.approx(value, abs=0.6 * 10**-digits), column


def test_grid_and_place_are_those_of_the_map(sharpened: Path) -> None:
    """The file is laid out as that of the map: axis order, cell, nstart and origin."""
    before, after = read_map(MAP), read_map(sharpened)
    assert after.density.shape == before.density.shape
    assert after.place[9:12] == before.place[9:12] == (3, 2, 1)  # columns, rows, sections
    np.testing.assert_allclose(after.place, before.place, rtol=1e-6)
    assert np.corrcoef(before.density.ravel(), after.density.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("axes", "where"),
    [
        ((3, 1, 2), {"nstart": (3, 5, -4)}),
        ((2, 3, 1), {"origin_xyz": (5.4, -4.32, 3.24)}),
    ],
)
def test_another_way_to_store_a_map_does_not_change_it(
    python: Path, sharpened: Path, tmp_path: Path, axes: Sequence[int], where: dict[str, Sequence]
) -> None:
    density = read_map(MAP).density
    stored = write_map(tmp_path / "stored.map", density, 1.08, axes=axes, **where)
    target = tmp_path / "sharpened.mrc"
    done = sharpen(python, tmp_path, stored, target, f"--resolution={RESOLUTION}")
    assert done.returncode == 0, done.stdout + done.stderr
    after = read_map(target)
    scale = np.abs(after.density).max()
    np.testing.assert_allclose(after.density, read_map(sharpened).density, atol=1e-3 * scale)
    np.testing.assert_allclose(after.place, read_map(stored).place, rtol=1e-6)


def test_a_stack_of_images_is_a_volume(python: Path, sharpened: Path, tmp_path: Path) -> None:
    """mz = 1 with a z edge of one voxel, as some programs write."""
    stored = write_map(tmp_path / "stored.map", read_map(MAP).density, 1.08)
    with mrcfile.open(stored, mode="r+") as mrc:
        mrc.header.mz, mrc.header.ispg = 1, 0
        mrc.header.cella.z = 1.08
    target = tmp_path / "sharpened.mrc"
    done = sharpen(python, tmp_path, stored, target, f"--resolution={RESOLUTION}")
    assert done.returncode == 0, done.stdout + done.stderr
    np.testing.assert_allclose(read_map(target).place[12:15], 1.08 * np.array([41, 38, 36]))


def test_resolution_and_voxel_size_may_come_from_elsewhere(
    python: Path, sharpened: Path, tmp_path: Path
) -> None:
    stored = write_map(tmp_path / "stored.map", read_map(MAP).density, 0.0)
    reconstruction = {"final_reconstruction": {"resolution": {"valueOf_": str(RESOLUTION)}}}
    determination = [None, {"image_processing": [reconstruction]}]
    metadata = tmp_path / "metadata.json"
    metadata.write_text(
        json.dumps({"structure_determination_list": {"structure_determination": determination}})
    )
    target = tmp_path / "sharpened.mrc"
    options = (f"--metadata={metadata}", "--voxel-size=1.08")
    done = sharpen(python, tmp_path, stored, target, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    scale = read_map(sharpened).density.max()
    np.testing.assert_allclose(
        read_map(target).density, read_map(sharpened).density, atol=1e-3 * scale
    )


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("constant", "has the value 0.0 everywhere"),
        ("no voxel size", "give the true one in the column voxel_size"),
        ("text", "is not an MRC/CCP4 map"),
        ("no resolution", "no resolution is stated: give the column resolution"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    python: Path, tmp_path: Path, fault: str, line: str
) -> None:
    density = np.zeros((8, 8, 8), np.float32)
    if fault != "constant":
        density[2:5, 2:5, 2:5] = 1
    stored = write_map(tmp_path / "bad.map", density, 0.0 if fault == "no voxel size" else 1.0)
    if fault == "text":
        stored.write_text("not a map")
    (tmp_path / "metadata.json").write_text("{}")
    option = "--metadata=metadata.json" if fault == "no resolution" else "--resolution=3.8"
    before = set(tmp_path.iterdir())
    done = sharpen(python, tmp_path, stored, tmp_path / "out.mrc", option)
    assert done.returncode != 0
    (error,) = done.stderr.splitlines()
    assert error.startswith(f"cryoready: error: auto-sharpening of {stored} failed: ")
    assert line in error
    assert set(tmp_path.iterdir()) == before


def test_it_is_a_step_of_the_workflow(python: Path, sharpened: Path, checkout: Checkout) -> None:
    """In a folder with a space: paths go through a shell."""
    (checkout / ".venv-peers").symlink_to(PEERS)
    row = {"id": "mine", "map": "maps/my map.map.gz", "resolution": RESOLUTION}
    (checkout / row["map"]).write_bytes(MAP.read_bytes())
    sheet = checkout.sheet("peers", row)
    target = "results/work/mine/auto_sharpened.mrc"
    checkout.made(target, "--config", f"entries={sheet}")
    assert checkout.files() == {"work/mine/auto_sharpened.mrc"}
    np.testing.assert_array_equal(read_map(checkout / target).density, read_map(sharpened).density)
    assert checkout.planned(target, "--config", f"entries={sheet}") == {}


def test_a_map_without_resolution_is_one_line(checkout: Checkout) -> None:
    (checkout / "maps/mine.map.gz").write_bytes(MAP.read_bytes())
    error = checkout.snakemake("results/work/mine/auto_sharpened.mrc").error
    assert error.startswith("mine has no resolution")
