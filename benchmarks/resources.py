"""Memory and time of every rule against the size of the map: what `core/cost.py` was fitted to.

    python benchmarks/resources.py rules [CASE …]
    python benchmarks/resources.py networks
    python benchmarks/resources.py training
    python benchmarks/resources.py structures

Each rule runs its own script through Snakemake, on one thread, in a copy of the checkout. Memory
is the sum of the largest resident sets of the job's processes; its Snakemake has a column of its
own. Seconds are CPU time.

rules: a row for each rule and case, the request of `cryoready.core.cost` beside it, and constants
that fit. The maps are copies of EMD-3488's haemoglobin side by side (nothing is empty), sampled at
0.7, 1.05 or 1.4 Å, with half-maps; the model is copied likewise, from one corner of the map on.
networks: `enhance` by size of the network, normalisation and preset; the networks are not trained,
and most are refused bfloat16 for it.
training: of the shipped pairs, by width of the network, batch and crop; then what is made of a run.
structures: `pack_structures` by the number of structures and their atoms, and constants that fit.
"""

import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [
    str(ROOT / "workflow" / "scripts"),
    str(ROOT / "tests"),
    str(ROOT / "tests/workflow"),
]
os.environ["OMP_NUM_THREADS"] = "1"

import gemmi  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import psutil  # noqa: E402
import yaml  # noqa: E402
from scipy.ndimage import gaussian_filter, zoom  # noqa: E402
from scipy.optimize import nnls  # noqa: E402

from checkout import Checkout, copy_checkout  # noqa: E402
from cryoready.core import cost  # noqa: E402
from cryoready.core.volume import Volume  # noqa: E402
from cryoready.files.maps import read_map, write_map  # noqa: E402
from cryoready.network.checkpoint import Card, save_weights  # noqa: E402
from cryoready.network.scunet import Architecture, SCUNet  # noqa: E402

EMBEDDED = ROOT / "resources" / "EMD-3488"
CELL, EDGE_CELL = 67.2, 64  # Å and voxels of 1.05 Å: the haemoglobin in the middle of its map
RESOLUTION, NOISE = 3.2, 0.3  # Å; of the standard deviation of the map
POLL = 0.05  # s
PEERS = ROOT / ".venv-peers"
ATOMS = 4579  # of haemoglobin
CASES = {  # edge (voxels), voxel size (Å), copies of the model along each axis
    "100": (100, 1.05, 1),
    "200": (200, 1.05, 2),
    "300": (300, 1.05, 2),
    "200 coarse": (200, 1.4, 3),
    "300 fine": (300, 0.7, 2),
    "200 packed": (200, 1.05, 3),
    "400": (400, 1.05, 3),
}
TRAININGS = (  # width, batch, edge of the crops, precision
    *((8, 4, 48, "fp32"), (16, 1, 48, "fp32"), (16, 4, 48, "fp32"), (32, 1, 48, "fp32")),
    *((32, 4, 48, "fp32"), (16, 4, 24, "fp32"), (16, 4, 48, "bf16"), (32, 4, 48, "bf16")),
)
NETWORKS = (  # case, width, norm, preset
    *(("100", width, "voxel", "default") for width in (8, 16, 32, 64)),
    *(("100", width, "frn", "default") for width in (16, 32)),
    *(("100", width, "voxel", "paper") for width in (8, 16, 32)),
    *(("100", 32, "frn", "paper"), ("200", 32, "frn", "default"), ("200", 16, "voxel", "paper")),
)
STRUCTURES = ((10, 1), (100, 1), (400, 1), (10, 3), (40, 3))  # how many, copies along each axis
AFTER_TRAINING = (
    "results/training/{run}/loss.svg",
    "results/training/{run}/samples.npz",
    "results/training_report.html",
    "results/release/{run}/card.json",
)
SHARPENED = ("100", "200")  # others take too long
STEPS = {  # rule -> what to ask for, in an order in which only that rule is left to run
    "mean_of_half_maps": "results/work/{id}-halves/mean_of_half_maps.mrc",
    "enhance": "results/{id}_emready.mrc",
    "before_after": "results/{id}_emready.png",
    "local_resolution": "results/{id}_local_resolution.mrc",
    "local_correlation": "results/{id}_local_correlation.mrc",
    "evaluate_entry": "results/{id}_evaluation.json",
    "evaluation_page": "results/{id}_evaluation.html",
    "prepare": "results/work/{id}/boxes.npy",
    "local_targets": "results/work/{id}/local_targets.npy",
    "auto_sharpen": "results/work/{id}/auto_sharpened.mrc",
}


def make_case(folder: Path, edge: int, voxel_size: float, copies: int) -> dict[str, Path]:
    """Write map, half-maps and model; returns them by role."""
    whole = read_map(EMBEDDED / "emd_3488.map.gz")
    first = (whole.data.shape[0] - EDGE_CELL) // 2
    cell = whole.data[(slice(first, first + EDGE_CELL),) * 3]
    cell = zoom(
        cell, round(CELL / voxel_size) / EDGE_CELL, order=1, mode="grid-wrap", grid_mode=True
    )
    density = np.tile(cell, [-(-edge // len(cell))] * 3)[:edge, :edge, :edge].copy()
    spacing, origin = np.full(3, voxel_size), np.zeros(3)
    files = {role: folder / f"{role}.mrc" for role in ("map", "half_map_1", "half_map_2")}
    write_map(files["map"], Volume(density, spacing, origin))
    for seed in (1, 2):
        noise = np.random.default_rng(seed).standard_normal(density.shape, dtype=np.float32)
        noise = gaussian_filter(noise, 1.0)
        noise *= NOISE * density.std() / noise.std()
        write_map(files[f"half_map_{seed}"], Volume(density + noise, spacing, origin))
    corner = whole.origin + first * whole.voxel_size
    files["model"] = write_model(folder / "model.cif.gz", corner[::-1], copies)
    return files


def write_model(path: Path, corner: np.ndarray, copies: int) -> Path:
    """``copies``³ haemoglobins, of which the first lies in the first cell of the map."""
    one = gemmi.read_structure(str(EMBEDDED / "5ni1.pdb.gz"))[0]
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    for place in np.ndindex(copies, copies, copies):
        step = gemmi.Position(*(CELL * np.array(place) - corner))
        for chain in one:
            copy = chain.clone()
            copy.name = chain.name + "".join(map(str, place))
            for residue in copy:
                for atom in residue:
                    atom.pos += step
            structure[0].add_chain(copy)
    structure.setup_entities()
    structure.assign_label_seq_id()
    path.write_bytes(gzip.compress(structure.make_mmcif_document().as_string().encode()))
    return path


def measured(checkout: Checkout, *arguments: str) -> dict[str, float]:
    """Run Snakemake to its end: MB and CPU seconds of the job's processes, and of Snakemake."""
    process = checkout.start("--cores=1", "--quiet=all", *arguments)
    peaks: dict[int, float] = {}
    spent: dict[int, float] = {}
    begun = time.perf_counter()
    while process.poll() is None:
        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            break
        for each in (psutil.Process(process.pid), *family):
            try:
                status = Path(f"/proc/{each.pid}/status").read_text()
                times = each.cpu_times()
            except (OSError, psutil.NoSuchProcess):
                continue
            if "VmHWM:" in status:
                peaks[each.pid] = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
            spent[each.pid] = times.user + times.system
        time.sleep(POLL)
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(out + err)
    own = process.pid
    return {
        "MB": sum(size for pid, size in peaks.items() if pid != own),
        "CPU s": sum(seconds for pid, seconds in spent.items() if pid != own),
        "wall s": time.perf_counter() - begun,
        "Snakemake MB": peaks[own],
        "Snakemake CPU s": spent[own],
    }


def rules(*cases: str) -> None:
    """A row of the table for each rule and case, each written as soon as it is there."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_checkout(Path(folder))
        if PEERS.is_dir():
            (checkout / PEERS.name).symlink_to(PEERS)
        checkout.made("results/EMD-3488_emready.mrc")  # Numba compiles, once
        for name in CASES:
            if not cases or name in cases:
                rows += [{"case": name, **row} for row in one_case(checkout, name)]
    table = pd.DataFrame(rows)
    sizes = [cost.Size(*row) for row in table[["voxels", "points", "atoms"]].to_numpy(float)]
    bundled = cost.parameters_of(str(ROOT / "resources/weights/v1/weights.safetensors"))
    network = [bundled * (rule == "enhance") for rule in table["rule"]]
    each = list(zip(table["rule"], sizes, network, strict=True))
    table["asked MB"] = [cost.megabytes(rule, size, parameters=n) for rule, size, n in each]
    table["asked min"] = [
        cost.minutes(rule, size, times=cost.network_times(n)) for rule, size, n in each
    ]
    table["asked / MB"] = table["asked MB"] / table["MB"]
    print(table.round(1).to_markdown(index=False))
    print(fits(table).to_markdown(index=False, floatfmt=".3g"))


def one_case(checkout: Checkout, name: str) -> Iterator[dict[str, Any]]:
    """Rows of all rules that can run here."""
    edge, voxel_size, copies = CASES[name]
    entry = name.replace(" ", "-")
    with tempfile.TemporaryDirectory() as folder:
        files = make_case(Path(folder), edge, voxel_size, copies)
        halves = {key: path for key, path in files.items() if key != "map"}
        sheet = checkout.sheet(
            "cases",
            {"id": entry, "resolution": RESOLUTION, **files},
            {"id": f"{entry}-halves", "resolution": RESOLUTION, **halves},
        )
        sizes = {"voxels": edge**3, "points": round(edge**3 * voxel_size**3)}
        sizes |= {"atoms": ATOMS * copies**3, "model MB": files["model"].stat().st_size / 1e6}
        for rule, target in STEPS.items():
            if rule == "auto_sharpen" and not (PEERS.is_dir() and name in SHARPENED):
                continue
            peers = f"evaluation={{auto_sharpen: {str(rule == 'auto_sharpen').lower()}}}"
            options = ("--config", f"entries={sheet}", peers)
            row = {"rule": rule, **sizes, **measured(checkout, target.format(id=entry), *options)}
            print(json.dumps({"case": name} | row), file=sys.stderr, flush=True)
            yield row


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """Constants >= 0 of a + b·voxels + c·voxels at 1 Å + d·atoms, below no measured value."""
    rows = []
    for rule, found in table.groupby("rule", sort=False):
        terms = found[["voxels", "points", "atoms"]].assign(one=1.0).to_numpy()
        for quantity in ("MB", "CPU s"):
            values = found[quantity].to_numpy()
            constants, _ = nnls(terms / values[:, None], np.ones(len(values)))
            constants *= (values / (terms @ constants)).max()
            ratio = terms @ constants / values
            b, c, d, a = constants
            row = {"a": a, "b a million voxels": b * 1e6, "c a million points": c * 1e6}
            row |= {"d a thousand atoms": d * 1e3, "largest ratio": ratio.max()}
            rows.append({"rule": rule, "of": quantity} | row)
    return pd.DataFrame(rows)


def networks() -> None:
    """Memory and seconds of the same map with larger networks."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_checkout(Path(folder))
        for k, (case, width, norm, preset) in enumerate((NETWORKS[0], *NETWORKS)):
            file = make_case(Path(folder), *CASES[case])["map"]
            name = f"{k}-{case}-{width}-{norm}-{preset}"
            architecture = Architecture(width=width, head_dim=min(width, 16), norm=norm)
            network, path = SCUNet(architecture), Path(folder) / f"{name}.safetensors"
            save_weights(path, network, Card(name, "1", architecture, 1.0))
            sheet = checkout.sheet("networks", {"id": name, "map": file})
            options = (f"entries={sheet}", f"weights={path}", f"inference={{preset: {preset}}}")
            found = measured(checkout, f"results/{name}_emready.mrc", "--config", *options)
            size = {"parameters": sum(x.numel() for x in network.parameters())}
            kind = {"case": case, "width": width, "norm": norm, "preset": preset}
            rows.append(kind | size | {"MB": found["MB"], "CPU s": found["CPU s"]})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(pd.DataFrame(rows[1:]).round(1).to_markdown(index=False))  # Numba compiles in the first


def training() -> None:
    """Memory and seconds a crop of a training on the shipped pairs, and the fit of the memory."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_checkout(Path(folder))
        for k, (width, batch, crop, precision) in enumerate(TRAININGS):
            settings = yaml.safe_load((checkout / "config" / "small.yaml").read_text())
            settings["network"] |= {"width": width, "blocks": 2, "head_dim": min(width, 16)}
            plan = {"run": f"run{k}", "epochs": 1, "validate_every": 0, "batch_size": batch}
            plan |= {"crop_voxels": crop, "boxes_per_epoch": 6 * batch, "precision": precision}
            settings["train"] |= plan
            options = ("--configfile", checkout.settings(f"run{k}", **settings))
            if k == 0:
                checkout.made("--until", "prepare", "train", *options)
            found = measured(checkout, f"results/training/run{k}/weights.safetensors", *options)
            history = pd.read_csv(checkout / f"results/training/run{k}/history.tsv", sep="\t")
            case = {"width": width, "batch": batch, "crop": crop, "precision": precision}
            each = 1 / history["samples_per_second"].iloc[-1]
            rows.append(case | {"MB": found["MB"], "CPU s": found["CPU s"], "s a crop": each})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        for target in AFTER_TRAINING:
            found = measured(checkout, target.format(run=f"run{k}"), *options)
            print(json.dumps({"target": target} | found), file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    print(table.round(2).to_markdown(index=False))


def structures() -> None:
    """Memory and seconds of packing so many structures of so many haemoglobins each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_checkout(Path(folder))
        for number, copies in STRUCTURES:
            model = write_model(Path(folder) / f"{copies}.cif.gz", np.zeros(3), copies)
            cells = {"map": "simulated", "model": model, "split": "train", "resolution": 3}
            sheet = checkout.sheet("packed", *({"id": f"s{k}", **cells} for k in range(number)))
            found = measured(
                checkout, "results/work/structures.npy", "--config", f"entries={sheet}"
            )
            size = {"structures": number, "voxels": 0, "points": 0}
            row = {"rule": "pack_structures", **size, "atoms": number * copies**3 * ATOMS, **found}
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    table = pd.DataFrame(rows)
    print(table.round(1).to_markdown(index=False))
    print(fits(table).to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rules", *cases]:
            rules(*cases)
        case ["networks"]:
            networks()
        case ["training"]:
            training()
        case ["structures"]:
            structures()
        case _:
            sys.exit(__doc__)
