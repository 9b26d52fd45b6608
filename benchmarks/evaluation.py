"""Speed and memory of the evaluation: against the programs of others, and against size.

    python benchmarks/evaluation.py peers MAP MODEL RESOLUTION    # needs `make peers`
    python benchmarks/evaluation.py sizes

`peers` scores one map both ways, alternating in one run: FSC, masked and unmasked, and d99 of
`mmtbx.maps.mtriage` (without d_model), the four correlations of `mmtbx.maps.correlation.five_cc`
and the Q-score of jqscore (MapQ-exact), against the same of cryoready; and against all that `score`
makes: the correlations of residues and chains and the local correlation besides. Medians of 3 runs,
each in a new process: all of it, and without interpreter, imports and reading of the model.

`sizes` scores a cut of a lattice of haemoglobins; every size in a new process.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
RUNS = 3
BOXES = (64, 100, 150, 220, 300, 400)  # voxels of 1.05 Å
ATOMS = (1_000, 4_600, 17_000, 60_000, 150_000, 300_000)
FIXED_BOX, FIXED_ATOMS = 300, 17_000

START = "import sys, time; started = time.perf_counter(); sys.path.insert(0, {folder!r})"
END = "print(time.perf_counter() - started, time.perf_counter() - ready)"
READ = """
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.correlation import map_model_correlation
from cryoready.metrics.fsc import d99, fourier_shell_correlation
from cryoready.metrics.qscore import qscore
from cryoready.metrics.score import Model, place, score
atoms = read_model({model!r})
ready = time.perf_counter()
volume = read_map({map!r})
placed = place(Model.of(atoms), volume.grid, resolution={resolution}, mask_radius=2 * {resolution})
"""
SAME = """
shells, theory = placed.shells, placed.factors.ravel()[placed.shells.order]
for data in (volume.data, volume.data * placed.soft):
    coefficients = shells.pick(data)
    curve = fourier_shell_correlation(coefficients, theory, shells)
    curve.resolution(0.5), curve.resolution(0.143), d99(coefficients, shells)
map_model_correlation(volume.data, placed.density, placed.inside)
qscore(volume, placed.model.probes)
"""
MORE = "score(volume, placed, sigma=0.6, local_radius=5.0)"
THEIRS = """
import score_with_peers as peers
from mmtbx.maps import correlation
some = correlation.five_cc
correlation.five_cc = lambda *pair, d_min, **_: some(*pair, d_min=d_min, compute_cc_box=True)
peers.read_model({model!r})
ready = time.perf_counter()
peers.score({map!r}, {model!r}, {resolution})
"""


def seconds(python, program):
    """Wall time of a program in a new process: all of it, and what it reports of itself."""
    started = time.perf_counter()
    run = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    whole = time.perf_counter() - started
    return whole, float(run.stdout.split()[-1])


def against_peers(map_, model, resolution):
    names = {"map": map_, "model": model, "resolution": float(resolution)}
    package, scripts = str(ROOT / "workflow" / "scripts"), str(ROOT / "benchmarks")
    programs = {
        "cryoready, the same scores": (sys.executable, package, READ + SAME),
        "cryoready, all of `score`": (sys.executable, package, READ + MORE),
        "cctbx and jqscore": (PEERS, scripts, THEIRS),
    }
    times = {name: [] for name in programs}
    for _ in range(RUNS):
        for name, (python, folder, body) in programs.items():
            program = "\n".join((START.format(folder=folder), body.format(**names), END))
            times[name].append(seconds(python, program))
    print("| | whole process (s) | × | without imports (s) | × |\n|---|---:|---:|---:|---:|")
    theirs = times["cctbx and jqscore"]
    for name, runs in times.items():
        cells = []
        for k in range(2):
            ratio = statistics.median(t[k] / r[k] for t, r in zip(theirs, runs, strict=True))
            cells.append(f"{statistics.median(run[k] for run in runs):.2f} | {ratio:.1f}")
        print(f"| {name} | {' | '.join(cells)} |")


def one_size(edge, count):
    """Score `count` atoms in a box of `edge`³; prints seconds and peak memory as JSON."""
    sys.path.insert(0, str(ROOT / "workflow" / "scripts"))
    from dataclasses import replace

    import numpy as np

    from cryoready.core.volume import Grid, Volume
    from cryoready.density.structure_factors import model_density, structure_factors
    from cryoready.files.models import read_model
    from cryoready.metrics.score import Model, place, score

    one = read_model(ROOT / "resources" / "EMD-3488" / "5ni1.pdb.gz")
    one = replace(one, coords=one.coords - one.coords.min(axis=0))
    cell = np.ceil(one.coords.max(axis=0) + 2)
    copies = np.ceil(edge * 1.05 / cell).astype(int)
    while np.prod(copies) * len(one) < count:
        copies += 1
    shifts = np.indices(tuple(copies)).reshape(3, -1).T * cell
    shifts = shifts[np.argsort(np.abs(shifts).max(axis=1), kind="stable")]
    index = np.tile(np.arange(len(one)), len(shifts))[:count]
    copy = np.repeat(np.arange(len(shifts)), len(one))[:count]
    names = np.char.add("c", copy.astype(str))
    atoms = one.take(index)
    atoms = replace(atoms, coords=atoms.coords + shifts[copy], chain=names)
    grid = Grid((edge,) * 3, 1.05, np.zeros(3))
    volume = Volume.on(grid, model_density(structure_factors(atoms, grid), grid, resolution=3.2))
    started = time.perf_counter()
    placed = place(Model.of(atoms), grid, resolution=3.2, mask_radius=6.4)
    score(volume, placed, sigma=0.6, local_radius=5.0)
    spent = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": spent, "gigabytes": peak}))


def against_size():
    print(f"{os.cpu_count()} cores\n\n| box | atoms | s | peak GB |\n|---:|---:|---:|---:|")
    sizes = [(edge, FIXED_ATOMS) for edge in BOXES if edge >= 100]
    sizes = [(64, 1_000), *sizes, *((FIXED_BOX, n) for n in ATOMS if n != FIXED_ATOMS)]
    for edge, count in sizes:
        command = [sys.executable, __file__, "one", str(edge), str(count)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        cost = json.loads(run.stdout)
        print(
            f"| {edge}³ | {count} | {cost['seconds']:.1f} | {cost['gigabytes']:.2f} |", flush=True
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["peers", map_, model, resolution]:
            against_peers(map_, model, resolution)
        case ["sizes"]:
            against_size()
        case ["one", edge, count]:
            one_size(int(edge), int(count))
        case _:
            sys.exit(__doc__)
