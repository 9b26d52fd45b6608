"""How fast and frugal `enhance` is, against the published way of doing the same.

    python benchmarks/inference.py [paper|equal|arithmetic|size|cores|memory|start|gpu …]
    python benchmarks/inference.py quality data/entries.tsv EMD-5830-A …

Without a topic: all but quality. Seconds are medians of three runs, each a process of its own (maps
of 256³ and more: one run; `arithmetic`: the least of a few in one process; `start`: of seven); CPU
time is that of all threads. Before them one run lets Numba compile its loops, once on a machine.
The baseline is the preset `paper` as published: 48³ boxes every 12 voxels, ten at a time, float32,
uniform blending, by the plain network of `plain_scunet.py`, once with the C library's allocator as
it is and once told to keep freed blocks (`MALLOC_` variables), which the workflow does in any case.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from cryoready.core.boxes import blend_boxes, box_starts, cut_box
from cryoready.core.volume import Volume
from cryoready.density.normalise import intensity_scale, normalise
from cryoready.enhance.devices import (
    choose_device,
    choose_precision,
    keep_large_blocks,
    peak_memory,
)
from cryoready.enhance.inference import enhance
from cryoready.enhance.plan import Settings
from cryoready.files.maps import read_map
from cryoready.network.checkpoint import load_network
from cryoready.network.fused import fused
from cryoready.network.scunet import Architecture, SCUNet
from cryoready.training.validation import SHOWN, Judged, scores_of

sys.path.insert(0, str(Path(__file__).parent))
from plain_scunet import PlainSCUNet

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "resources" / "weights" / "v1" / "weights.safetensors"
KEPT = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
RUNS = 3
BOX = 48


def haemoglobin() -> np.ndarray:
    """The embedded EMD-3488, 100³ voxels, taken as 1 Å each so that nothing is resampled."""
    return read_map(ROOT / "resources" / "EMD-3488" / "emd_3488.map.gz").data


def lattice(edge: int) -> np.ndarray:
    """(edge, edge, edge) copies of the inner 64³ of it side by side: nothing is empty."""
    cell = haemoglobin()[18:82, 18:82, 18:82]
    return np.tile(cell, [-(-edge // 64)] * 3)[:edge, :edge, :edge].copy()


def on_grid(density: np.ndarray) -> Volume:
    return Volume(density, np.ones(3), np.zeros(3))


def published(density: np.ndarray, network: torch.nn.Module, batch: int, most: int | None = None):
    """The published loop: every box with a positive voxel, the mean of all that cover a voxel."""
    density = normalise(density, intensity_scale(density))
    shape = (BOX, BOX, BOX)
    corners = box_starts(density.shape, shape, (12, 12, 12))
    corners = [c for c in corners if cut_box(density, c, shape).max() > 0]
    used = corners[:most]

    def results():
        for first in range(0, len(used), batch):
            here = used[first : first + batch]
            tiles = torch.from_numpy(np.stack([cut_box(density, c, shape) for c in here]))
            with torch.inference_mode():
                y = network(100 * tiles[:, None]).clamp(0, 100)[:, 0].numpy()
            yield from zip(here, y, strict=True)

    total = np.zeros_like(density)
    blend_boxes(results(), np.ones(shape, np.float32), total)
    return total, len(used), len(corners)


def measured(task: dict) -> dict:
    """Run ``task`` in this process."""
    torch.set_num_threads(task["threads"])
    network, card = load_network(WEIGHTS)
    density = np.load(task["map"])
    if task["way"] != "plain":
        keep_large_blocks()
    before = time.process_time(), time.perf_counter()
    done: dict = {}
    if task["way"] == "enhance":
        lines: list[str] = []
        result = enhance(
            on_grid(density),
            network,
            settings=Settings(**task.get("settings", {})),
            negatives=card.negatives,
            report=lines.append,
        )
        done = {
            "expected_gb": result.expected,
            "precision": result.precision,
            "tile": result.layout.tiling.shape,
            "tiles": len(result.layout.corners),
            "batch": result.batch_size,
            "network_s": result.seconds,
            "gpu_gb": result.peak.get("GPU"),
            "lines": lines,
        }
    else:
        plain = PlainSCUNet(network.architecture).eval()
        plain.load_state_dict(network.state_dict())
        ways = {"plain": plain, "fused": fused(network)}
        out, seen, boxes = published(density, ways[task["way"]], task["batch"], task.get("most"))
        done = {"boxes_seen": seen, "boxes": boxes}
        if task.get("out"):
            np.save(task["out"], out)
    return done | {
        "cpu_s": time.process_time() - before[0],
        "s": time.perf_counter() - before[1],
        "peak_gb": peak_memory([])["host"],
    }


def run(folder: Path, density: np.ndarray, *, kept: bool = False, runs: int = RUNS, **task) -> dict:
    """Median of ``runs`` processes that do ``task``; the spread of the CPU time goes with it."""
    path = folder / f"{'x'.join(map(str, density.shape))}_{abs(hash(density.tobytes()))}.npy"
    if not path.is_file():
        np.save(path, density)
    content = json.dumps({"threads": 1, "map": str(path), **task})
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    results = []
    for _ in range(runs):
        process = subprocess.run(
            [sys.executable, __file__, "worker", content],
            env=environment | (KEPT if kept else {}),
            stdout=subprocess.PIPE,
            check=True,
        )
        results.append(json.loads(process.stdout.splitlines()[-1]))
    middle = dict(results[0])
    for key in ("cpu_s", "s", "peak_gb", "network_s"):
        if key in middle:
            middle[key] = median(result[key] for result in results)
    middle["cpu_s_of"] = [round(result["cpu_s"], 2) for result in results]
    return middle


def paper(folder: Path) -> None:
    """CPU time of the default against that of the published way, one core."""
    maps = {
        "64³ (inner part of EMD-3488)": lattice(64),
        "100³ (EMD-3488)": haemoglobin(),
        "100³ (lattice, nothing empty)": lattice(100),
        "160³ (lattice)": lattice(160),
    }
    rows = []
    for name, density in maps.items():
        most = 60 if density.shape[0] > 64 else None  # every box costs the same
        row = {"map": name}
        ours = run(folder, density, way="enhance")
        for label, kept in (("as it is", False), ("kept", True)):
            base = run(folder, density, way="plain", batch=10, most=most, kept=kept)
            cpu = base["cpu_s"] * base["boxes"] / base["boxes_seen"]
            row |= {
                f"paper s ({label})": round(cpu, 1),
                f"runs ({label})": base["cpu_s_of"],
                f"ratio ({label})": round(cpu / ours["cpu_s"], 1),
            }
        row |= {"default s": round(ours["cpu_s"], 2), "runs": ours["cpu_s_of"]}
        rows.append(row | {k: ours[k] for k in ("precision", "tile", "tiles")})
        print(rows[-1], flush=True)
    show("CPU time, preset paper as published / default, one core", rows)


def equal(folder: Path) -> None:
    """The same boxes, stride, precision and batch: plain and fused network."""
    rows = []
    density = lattice(64)
    for batch in (1, 4, 10):
        outs = {}
        times = {}
        for way, kept in (("plain", False), ("plain", True), ("fused", False)):
            out = folder / f"{way}.npy"
            found = run(folder, density, way=way, batch=batch, kept=kept, out=str(out))
            times[way, kept] = found["cpu_s"]
            outs[way] = np.load(out)
        error = np.abs(outs["fused"] - outs["plain"]).max() / np.ptp(outs["plain"])
        rows.append(
            {
                "boxes at a time": batch,
                "plain s (allocator as it is)": round(times["plain", False], 2),
                "plain s (kept)": round(times["plain", True], 2),
                "ours s": round(times["fused", False], 2),
                "ratio (as it is)": round(times["plain", False] / times["fused", False], 2),
                "ratio (kept)": round(times["plain", True] / times["fused", False], 2),
                "largest difference / range": f"{error:.1e}",
            }
        )
    show("Equal settings: 64³, 48³ boxes every 12 voxels, float32, one core", rows)


def best(function, runs: int = 7) -> float:
    """Least CPU seconds."""
    function()
    times = []
    for _ in range(runs):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def giga(function) -> float:
    """GFLOP of a call, a multiplication and an addition each counted."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        function()
    return counter.get_total_flops() / 1e9


@torch.inference_mode()
def arithmetic() -> None:
    """Achieved GFLOP/s against that of large convolutions, and where the time goes."""
    torch.set_num_threads(1)
    keep_large_blocks()
    rows = []
    network, _ = load_network(WEIGHTS)
    x = torch.rand(1, 1, 96, 96, 96) * 100
    work = giga(lambda: PlainSCUNet(network.architecture)(x))
    fast = fused(network)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        layer = torch.nn.Conv3d(64, 64, 3, padding=1, bias=False).to(dtype)
        layer = layer.to(memory_format=torch.channels_last_3d)
        y = torch.rand(2, 64, 24, 24, 24).to(dtype)
        y = y.contiguous(memory_format=torch.channels_last_3d)
        peak = giga(lambda y=y, layer=layer: layer(y)) / best(lambda y=y, layer=layer: layer(y))
        for name, ours in (("PyTorch", network), ("fused", fast)):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                seconds = best(lambda ours=ours: ours(x), 3)
            rows.append(
                {
                    "precision": precision,
                    "network": name,
                    "convolution peak": round(peak),
                    "GFLOP/s": round(work / seconds),
                    "share": f"{work / seconds / peak:.0%}",
                    "s for 48³": round(seconds / 8, 3),
                }
            )
    show(f"GFLOP/s, one core, a tile of 96³ ({work:.1f} GFLOP)", rows)
    where(fast, x)


def where(network: SCUNet, x: torch.Tensor) -> None:
    """CPU time by kind of layer in bfloat16; what no layer accounts for is additions and copies."""
    spent: Counter[str] = Counter()
    begun: dict[int, float] = {}

    def kind(layer: torch.nn.Module) -> str | None:
        name = type(layer).__name__.strip("_")
        if name == "Convolution":
            size = "x".join(map(str, layer.layer.kernel_size))
            return f"convolutions {size}"
        return {
            "Norm": "norms",
            "Transformer": "transformers, 8 channels",
            "WindowTransformer": "transformers, 16-64 channels",
            "ConvTranspose3d": "transposed convolutions",
        }.get(name)

    for layer in network.modules():
        if label := kind(layer):
            layer.register_forward_pre_hook(
                lambda layer, _: begun.update({id(layer): time.process_time()})
            )
            layer.register_forward_hook(
                lambda layer, *_, label=label: spent.update(
                    {label: time.process_time() - begun[id(layer)]}
                )
            )
    with torch.autocast("cpu", torch.bfloat16):
        network(x)
        spent.clear()
        start = time.process_time()
        network(x)
        total = time.process_time() - start
    spent["additions, copies, joining"] = total - sum(spent.values())
    rows = [{"layers": k, "share": f"{v / total:.0%}"} for k, v in spent.most_common()]
    show("Where the time of the fused network goes, bfloat16", rows)


def size(folder: Path) -> None:
    """Cost and memory against the edge of a map without empty space."""
    rows = []
    for edge in (64, 96, 128, 192, 256, 384):
        found = run(
            folder, lattice(edge), way="enhance", threads=cores(), runs=1 + 2 * (edge < 256)
        )
        rows.append({"edge": edge, **costs(found, edge)})
        print(rows[-1], flush=True)
    show(f"Cost against size, {cores()} cores, nothing empty", rows)


def costs(found: dict, edge: int) -> dict:
    return {
        "s": round(found["s"], 1),
        "CPU s": round(found["cpu_s"], 1),
        "µs a voxel": round(found["cpu_s"] / edge**3 * 1e6, 2),
        "tile": "x".join(map(str, found["tile"])),
        "tiles": found["tiles"],
        "memory GB": round(found["peak_gb"], 2),
        "predicted GB": round(found["expected_gb"]["host"], 2),
    }


def cores_used(folder: Path) -> None:
    rows = []
    for threads in range(1, cores() + 1):
        found = run(folder, lattice(160), way="enhance", threads=threads)
        rows.append({"cores": threads, **costs(found, 160)})
    show("Cost against cores, 160³", rows)


def cores() -> int:
    return len(os.sched_getaffinity(0))


def memory(folder: Path) -> None:
    """A map of 512³ voxels, full and with a molecule in its middle eighth."""
    full = lattice(512)
    single = np.zeros_like(full)
    single[192:320, 192:320, 192:320] = full[:128, :128, :128]
    rows = []
    for name, density in (("nothing empty", full), ("molecule of 128³ in it", single)):
        found = run(folder, density, way="enhance", threads=cores(), runs=1)
        rows.append({"512³": name, **costs(found, 512)})
        print(rows[-1], flush=True)
    show(f"512³ voxels at 1 Å, {cores()} cores", rows)


def start(folder: Path) -> None:
    """What the Snakefile adds to the start of Snakemake, in wall seconds."""
    empty = folder / "Snakefile"
    empty.write_text("rule all:\n    output: 'x'\n    shell: 'touch x'\n")
    target = "results/EMD-3488_emready.mrc"
    ways = {
        "empty": ["snakemake", "-n", "-s", str(empty), "-d", str(folder)],
        "ours": ["snakemake", "-n", target],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(7):
        for name, command in ways.items():
            began = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            times[name].append(time.perf_counter() - began)
    rows = [{"Snakefile": name, "s": round(median(t), 2)} for name, t in times.items()]
    rows.append({"Snakefile": "added", "s": round(rows[1]["s"] - rows[0]["s"], 2)})
    show("Start of Snakemake, median of 7", rows)


def gpu(folder: Path) -> None:
    """Seconds, share of the GPU's own convolution peak and memory; needs a GPU."""
    if not torch.cuda.is_available():
        return print("\nno GPU here: topic gpu left out")
    device = choose_device("cuda")
    precision = choose_precision("auto", device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    layer = torch.nn.Conv3d(128, 128, 3, padding=1, bias=False).to(device, dtype)
    y = torch.rand(4, 128, 48, 48, 48, device=device, dtype=dtype)

    def convolve() -> None:
        with torch.inference_mode():
            layer(y)
        torch.cuda.synchronize()

    convolve()
    times = []
    for _ in range(10):
        began = time.perf_counter()
        convolve()
        times.append(time.perf_counter() - began)
    peak = giga(convolve) / min(times)
    network = PlainSCUNet(load_network(WEIGHTS)[0].architecture)
    box = giga(lambda: network(torch.rand(1, 1, BOX, BOX, BOX))) / BOX**3
    published_box = (
        giga(lambda: PlainSCUNet(Architecture())(torch.rand(1, 1, BOX, BOX, BOX))) / BOX**3
    )
    rows = []
    for edge in (256, 384):
        found = run(folder, lattice(edge), way="enhance", threads=cores())
        voxels = found["tiles"] * int(np.prod(found["tile"]))
        rows.append(
            {
                "edge": edge,
                "s": round(found["s"], 1),
                "s in the network": round(found["network_s"], 1),
                "share of the peak": f"{voxels * box / found['network_s'] / peak:.0%}",
                "GPU GB": round(found["gpu_gb"], 1),
                "host GB": round(found["peak_gb"], 1),
            }
        )
    show(
        f"{torch.cuda.get_device_name()}, {precision}, convolution peak {peak / 1e3:.0f} TFLOP/s; "
        f"a voxel costs {box * 1e6:.0f} kFLOP ({published_box * 1e6:.0f} at the published size)",
        rows,
    )


def quality(table: Path, names: list[str]) -> None:
    """Scores of the enhanced map by preset and by tta; nothing is fitted here."""
    network, card = load_network(WEIGHTS)
    torch.set_num_threads(cores())
    entries = pd.read_csv(table, sep="\t").set_index("name")
    ways = {
        "paper": Settings(preset="paper", precision="fp32"),
        "default": Settings(),
        "default, fp32": Settings(precision="fp32"),
        "default, nothing skipped": Settings(skip_empty=False),
        "default, tta 4": Settings(tta=4),
        "default, tta 24": Settings(tta=24),
    }
    rows = []
    for name in names:
        row = entries.loc[name]
        files = {key: str(table.parent / "maps" / row[key]) for key in ("map", "model")}
        entry = Judged.read(name, files, resolution=row["resolution_A"])
        rows.append({"map": name, "way": "deposited", **entry.deposited})
        for way, settings in ways.items():
            began = time.process_time()
            after = enhance(
                entry.volume, network, settings=settings, negatives=card.negatives
            ).volume
            spent = time.process_time() - began
            rows.append({"map": name, "way": way, **scores_of(after, entry.placed), "CPU s": spent})
            print(rows[-1], flush=True)
    show("Scores by preset", [{k: r.get(k) for k in ("map", "way", *SHOWN, "CPU s")} for r in rows])


def show(title: str, rows: list[dict]) -> None:
    table = pd.DataFrame(rows).to_csv(sep="\t", index=False, float_format="%.4f")
    print(f"\n## {title}\n\n{table}", flush=True)


TOPICS = {
    "paper": paper,
    "equal": equal,
    "arithmetic": lambda _: arithmetic(),
    "size": size,
    "cores": cores_used,
    "memory": memory,
    "start": start,
    "gpu": gpu,
}


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["worker"]:
        print(json.dumps(measured(json.loads(words[1]))))
    elif words[:1] == ["quality"]:
        quality(Path(words[1]), words[2:])
    else:
        with tempfile.TemporaryDirectory() as folder:
            first = run(Path(folder), lattice(24), runs=1, way="enhance")
            print(f"first run, with compilation if that was needed: {first['cpu_s']:.1f} CPU s")
            for topic in words or TOPICS:
                TOPICS[topic](Path(folder))


if __name__ == "__main__":
    main()
