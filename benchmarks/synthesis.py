"""Synthetic training pairs: how fast they are made, and how they look beside real ones.

    python benchmarks/synthesis.py speed MODEL...       # CPU time of 64³ boxes, one thread
    python benchmarks/synthesis.py figure ENTRIES WORK  # results/synthesis.{png,svg}

`speed` draws boxes of random views of the models, as arrays and as tensors; on a GPU if there is
one. `figure` takes the `train` rows of a table of maps (columns name, resolution_A, split and
model, a file beside it in maps/), whose pairs are prepared in WORK/<name>/, and simulates the same
models on the same grids: slices, radial power, histogram in the zone of the model and around it.
"""

import os
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from cryoready.core.fourier import frequency_radius
from cryoready.density.synthesis import RESOLUTIONS, draw_recipe, random_view, synthesise
from cryoready.files.maps import read_map
from cryoready.files.models import atomic_numbers, read_model

BOXES, EDGE = 40, 64
RECIPES = 6  # of each entry
SHOWN = ("EMD-1461-box", "EMD-6272-A", "EMD-6187-A", "EMD-5995-part")
SHELL = 0.02  # 1/Å


def columns(path):
    """(n, 3) coordinates and (n,) weights of the heavy atoms, single precision."""
    atoms = read_model(path)
    atoms = atoms.take(atoms.heavy)
    weight = atomic_numbers(atoms.element) * atoms.occupancy
    return atoms.coords.astype(np.float32), weight.astype(np.float32)


def one_box(coords, weight, seed, normal=None):
    rng = np.random.default_rng(seed)
    recipe = draw_recipe(rng, rng.uniform(*RESOLUTIONS))
    seen, near = random_view(coords, rng, edge=float(EDGE))
    synthesise(seen, weight[near], recipe, rng, shape=(EDGE,) * 3, normal=normal)
    return len(seen)


def speed(*models):
    torch.set_num_threads(1)
    places = [("arrays", np.asarray, None), ("tensors", torch.from_numpy, None)]
    if torch.cuda.is_available():
        places.append(("GPU", lambda a: torch.from_numpy(a).cuda(), torch.cuda))
    for name, move, device in places:
        normal = device and (lambda shape: torch.randn(shape, device="cuda"))
        loaded = [[move(column) for column in columns(model)] for model in models]
        atoms, seconds = [], []
        for seed in range(BOXES):
            start = time.perf_counter() if device else time.process_time()
            atoms.append(one_box(*loaded[seed % len(loaded)], seed, normal))
            if device:
                device.synchronize()
            seconds.append((time.perf_counter() if device else time.process_time()) - start)
        seconds = seconds[len(models) :]  # the first of each fills caches
        print(
            f"{name}: {1 / np.mean(seconds):.1f} boxes/s, {1e3 * np.mean(seconds):.0f} ms "
            f"(worst {1e3 * np.max(seconds):.0f}), {np.mean(atoms):.0f} atoms a box"
        )


def entries(table, work):
    """(name, resolution, zone, (map, target), [(synthetic map, target)]) of every train row."""
    table, work = Path(table), Path(work)
    rows = pd.read_csv(table, sep="\t")
    for number, row in enumerate(rows[rows.split == "train"].itertuples()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # voxels of 1 Å are meant
            real = read_map(work / row.name / "map_1A.mrc")
            target = read_map(work / row.name / "target.mrc").data
            zone = read_map(work / row.name / "mask.mrc").data > 0.5
        coords, weight = columns(table.parent / "maps" / row.model)
        made = []
        for k in range(RECIPES):
            rng = np.random.default_rng((number, k))
            recipe = replace(draw_recipe(rng, row.resolution_A), map_share=1.0)
            where = (coords - real.origin).astype(np.float32)
            made.append(synthesise(where, weight, recipe, rng, shape=real.data.shape))
        yield row.name, row.resolution_A, zone, (real.data, target), made


def radial_power(density):
    """log10 of the mean power in shells of `SHELL`, relative to that at 1/20-1/10 1/Å."""
    power = np.abs(np.fft.rfftn(density - density.mean())) ** 2
    shell = (frequency_radius(density.shape, np.ones(3)) / SHELL).astype(int).ravel()
    mean = (np.bincount(shell, power.ravel()) / np.bincount(shell))[: int(0.5 / SHELL)]
    return np.log10(mean / mean[3:5].mean())


def histogram(values):
    """log10 of the share of voxels in 40 classes of 0-1."""
    counts, _ = np.histogram(values, bins=40, range=(0, 1))
    return np.log10(np.maximum(counts / len(values), 1e-6))


def band(panel, x, real, made, title):
    for values, colour, name in ((real, "tab:blue", "real"), (made, "tab:orange", "synthetic")):
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
        panel.fill_between(x, low, high, color=colour, alpha=0.2)
        panel.plot(x, middle, color=colour, label=name)
    panel.set_title(title, fontsize=10)
    panel.legend(frameon=False)


def summary(density, target, zone):
    """Numbers to compare: zone of the model and around it."""
    inside, outside = density[zone], density[~zone]
    power = radial_power(density)
    return {
        "zone: mean": inside.mean(),
        "zone: deviation": inside.std(),
        "zone: share > 0.1": (inside > 0.1).mean(),
        "zone: share > 0.3": (inside > 0.3).mean(),
        "zone: share 0": (inside < 1e-4).mean(),
        "zone: correlation with the target": np.corrcoef(inside, target[zone])[0, 1],
        "around: mean": outside.mean(),
        "around: deviation": outside.std(),
        "log10 power at 4 Å": power[int(0.25 / SHELL)],
        "log10 power at 2.2 Å": power[int(0.45 / SHELL)],
    }


def figure(table, work):
    loaded = list(entries(table, work))
    picture = Figure(figsize=(12, 2.4 * len(SHOWN) + 4), layout="constrained")
    top, bottom = picture.subfigures(2, 1, height_ratios=(2.4 * len(SHOWN), 4))
    shown = [entry for entry in loaded if entry[0] in SHOWN]
    for panels, (name, resolution, zone, real, made) in zip(
        top.subplots(len(SHOWN), 6, squeeze=False), shown, strict=True
    ):
        z = int(zone.sum(axis=(1, 2)).argmax())
        for panel, (density, _) in zip(panels, [real, *made], strict=False):
            panel.imshow(density[z], cmap="gray", vmin=0, vmax=0.7, origin="lower")
            panel.set_axis_off()
        panels[0].set_title(f"{name}, {resolution:g} Å: real", fontsize=9)
        panels[1].set_title("synthetic, same model", fontsize=9)
    real = [(*pair, zone) for _, _, zone, pair, _ in loaded]
    made = [(*pair, zone) for _, _, zone, _, pairs in loaded for pair in pairs]
    panels = bottom.subplots(1, 3)
    s = (np.arange(int(0.5 / SHELL)) + 0.5) * SHELL
    power = [[radial_power(density) for density, *_ in group] for group in (real, made)]
    band(panels[0], s, *power, "radial power (log10) against 1/Å")
    middle = (np.arange(40) + 0.5) / 40
    for panel, inside, title in ((panels[1], True, "within 4 Å"), (panels[2], False, "beyond 4 Å")):
        counts = [[histogram(d[zone == inside]) for d, _, zone in group] for group in (real, made)]
        band(panel, middle, *counts, f"{title} of the model: share (log10)")
    Path("results").mkdir(exist_ok=True)
    for ending in ("png", "svg"):
        picture.savefig(f"results/synthesis.{ending}", dpi=110)
    tables = [pd.DataFrame([summary(*entry) for entry in group]) for group in (real, made)]
    quantiles = [t.quantile([0.1, 0.5, 0.9]).T for t in tables]
    print(pd.concat(quantiles, axis=1, keys=["real", "synthetic"]).round(3).to_string())


if __name__ == "__main__":
    {"speed": speed, "figure": figure}[sys.argv[1]](*sys.argv[2:])
