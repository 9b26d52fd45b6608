"""A map -> the same map sharpened by `phenix.auto_sharpen`, the peer that knows no network.

    .venv-peers/bin/python -E -s workflow/scripts/auto_sharpen.py MAP OUTPUT --resolution 3.2

Its defaults (doi 10.1107/S2059798318004655) choose a global B and resolution cut-off that maximise
the adjusted surface area of the contoured map. Runs in the environment of `make peers`, which has
what cryoready's reading and writing of maps needs; what cctbx has to say goes to stdout.
"""

import argparse
import sys
import traceback
import types
import warnings

import numpy as np

# One of its modules imports the graphical interface of Phenix, which cctbx-base lacks.
sys.modules["wxGUI2"] = types.ModuleType("wxGUI2")
sys.modules["wxGUI2"].utils = types.ModuleType("wxGUI2.utils")  # type: ignore[attr-defined]

from cctbx import crystal  # noqa: E402
from cctbx.maptbx import auto_sharpen  # noqa: E402
from scitbx.array_family import flex  # noqa: E402

from cryoready.core.errors import CryoreadyError  # noqa: E402
from cryoready.core.volume import Volume  # noqa: E402
from cryoready.dataset.metadata import reported_resolution  # noqa: E402
from cryoready.files.maps import read_layout, read_map, write_map  # noqa: E402


def sharpen(volume: Volume, resolution: float) -> Volume:
    """The sharpened map on the same grid."""
    cell = (volume.voxel_size * volume.data.shape)[::-1].tolist()
    sharpened, *_ = auto_sharpen.run(
        params=auto_sharpen.get_params([f"resolution={resolution}", "nproc=1"]),
        map_data=flex.double(np.ascontiguousarray(volume.data.T, dtype=np.float64)),
        crystal_symmetry=crystal.symmetry((*cell, 90, 90, 90), "P 1"),
        wrapping=False,
        write_output_files=False,
    )
    return Volume.on(volume.grid, sharpened.as_numpy_array().T.astype(np.float32))


def main() -> None:
    """Read, sharpen, write; one line if that fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("map")
    parser.add_argument("output")
    parser.add_argument("--resolution", type=float, help="Å")
    parser.add_argument("--metadata", help="EMDB's JSON, for the resolution")
    parser.add_argument("--voxel-size", type=float, help="Å, instead of that of the map")
    to = parser.parse_args()
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}")
    try:
        resolution = reported_resolution(to.resolution, to.metadata)
        if resolution is None:
            raise CryoreadyError("no resolution is stated: give the column resolution")
        result = sharpen(read_map(to.map, voxel_size=to.voxel_size), resolution)
        label = "sharpened by phenix.auto_sharpen (cctbx.maptbx.auto_sharpen)"
        write_map(to.output, result, layout=read_layout(to.map), label=label)
    except Exception as error:  # cctbx fails with any of them
        traceback.print_exc(file=sys.stdout)
        reason = " ".join(str(error).split()) or type(error).__name__
        sys.exit(f"cryoready: error: auto-sharpening of {to.map} failed: {reason}")


if __name__ == "__main__":
    main()
