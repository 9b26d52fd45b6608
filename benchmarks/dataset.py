"""What a data set costs, what its filters reject, and which faults its downloads survive.

    python benchmarks/dataset.py pairs data
    python benchmarks/dataset.py sizes [EDGE …]
    python benchmarks/dataset.py filters [ROWS]
    python benchmarks/dataset.py estimate | faults | kill

The tables are Markdown (docs/dataset.md). Seconds are CPU time of all threads. Nothing is asked of
the archives: the catalogue is made up, as many, as varied and as imperfect as the real one, and the
server is that of the tests.

pairs: what the filters of config.yaml make of the shared training maps, and the time by part.
sizes: time and memory by the size of the map, each a process of its own: copies of haemoglobin fill
half of the edge, with noise, masked by a soft sphere or not. Below it a fit by voxels (jobs ask for
what `python benchmarks/resources.py rules` fits, by atoms, too).
filters: how many made-up rows each filter rejects, with the benchmark held out. Their sequences are
mutated copies of a few common, many rare ancestors; one in ten is a piece.
estimate: what the data set costs by these models.
faults: each fault of a server, met once and again and again. kill: what is fetched after `kill -9`.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path[:0] = [str(SCRIPTS), str(ROOT / "tests"), str(ROOT / "tests" / "dataset")]
os.environ["NO_PROXY"] = "127.0.0.1"

import gemmi  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import yaml  # noqa: E402
from kin import AMINO_ACIDS, drawn, mutated  # noqa: E402
from made_up import made_up_catalogue  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402
from scipy.optimize import nnls  # noqa: E402

from cryoready.core.errors import CryoreadyError  # noqa: E402
from cryoready.core.volume import Grid, Volume  # noqa: E402
from cryoready.dataset import budget  # noqa: E402
from cryoready.dataset.archive_files import check_map_file, map_urls  # noqa: E402
from cryoready.dataset.assembly import fitting_atoms  # noqa: E402
from cryoready.dataset.catalogue import read_catalogue  # noqa: E402
from cryoready.dataset.download import download  # noqa: E402
from cryoready.dataset.filters import FILTERS, PAIR_FILTERS, judge  # noqa: E402
from cryoready.dataset.pairs import Fitted, make_pair, write_pair  # noqa: E402
from cryoready.dataset.quality import measure  # noqa: E402
from cryoready.dataset.relatives import mmseqs_clusters, with_nucleic_clusters  # noqa: E402
from cryoready.dataset.select import models_to_compare, select  # noqa: E402
from cryoready.dataset.yardstick import read_yardstick  # noqa: E402
from cryoready.density.simulate import simulate_density, target_sigma  # noqa: E402
from cryoready.files.maps import read_map, write_map  # noqa: E402
from cryoready.files.models import atomic_numbers, read_assembly, read_model  # noqa: E402
from cryoready.report.pair_figure import plot_pair  # noqa: E402
from emdb_server import EmdbServer, closed_url  # noqa: E402

SETTINGS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["dataset"]
HAEMOGLOBIN = ROOT / "resources" / "EMD-3488" / "5ni1.pdb.gz"
PITCH = 64.0  # Å between its copies
RESOLUTION, NOISE = 3.5, 0.1  # Å; of the mean density of the molecule
CASES = (  # edge (voxels), voxel size (Å)
    *((128, 1.05), (256, 0.7), (256, 1.05), (256, 1.4)),
    *((400, 0.6), (384, 1.05), (512, 1.05)),
)
COMMON, RARE, SHARE_COMMON = 20, 3000, 0.15  # ancestors; chains that descend from common ones
# Å, of the maps of EMDB that are shared
VOXEL_SIZES = (
    *(0.65, 0.869, 0.98, 1.0, 1.023, 1.05, 1.06, 1.064, 1.08, 1.08, 1.1, 1.104, 1.113),
    *(1.216, 1.23, 1.3, 1.32, 1.33, 1.34, 1.4, 1.99),
)
ROLES = ("map", "model")
JOBS = 8


def prepared(entry_id, files, resolution, folder):
    """What rule `prepare` does with fetched files, and the CPU seconds of its parts."""
    spent, last = {}, time.process_time()

    def lap(part):
        nonlocal last
        now = time.process_time()
        spent[part], last = now - last, now

    settings = {**SETTINGS, "mask_radius": None}
    names = {"boxes": "boxes.npy", "index": "boxes.tsv", "card": "pair.json"}
    check_map_file(files["map"])
    lap("check")
    volume, deposited = read_map(files["map"]), read_model(files["model"])
    lap("read")
    atoms, assembly, _ = fitting_atoms(volume, deposited, read_assembly(files["model"]))
    lap("assembly")
    pair = make_pair(entry_id, Fitted(volume, atoms, assembly, resolution), settings)
    lap("resample, simulate")
    quality = measure(volume, atoms, pair)
    lap("measure")
    to = {role: str(folder / name) for role, name in names.items()}
    boxes = write_pair(pair, entry_id, {}, to, settings)
    lap("cut, write")
    plot_pair(pair.map, pair.target, title=entry_id, path=folder / "pair.png")
    lap("picture")
    return quality, boxes, spent


def pairs(data):
    """Quality, verdict and time of every training map of the folder of shared data."""
    entries = pd.read_csv(Path(data) / "entries.tsv", sep="\t", keep_default_na=False)
    facts, times = [], []
    for entry in entries[entries["split"] == "train"].itertuples():
        files = {role: Path(data) / "maps" / getattr(entry, role) for role in ROLES}
        with tempfile.TemporaryDirectory() as folder:
            quality, boxes, spent = prepared(
                entry.name, files, float(entry.resolution_A), Path(folder)
            )
        edges = [int(n) for n in entry.shape_zyx.split("x")]
        facts.append(
            {"map": entry.name, "resolution": float(entry.resolution_A), "box": max(edges)}
            | {"boxes": boxes, **quality.as_row()}
        )
        times.append({"map": entry.name, "voxels": entry.shape_zyx, **spent})
    found = pd.DataFrame(facts)
    by_files, _ = judge(found, PAIR_FILTERS, SETTINGS["pair"])
    known = {name: FILTERS[name] for name in ("resolution", "box")}
    by_catalogue, _ = judge(found, known, SETTINGS["metadata"])
    shown = ["map", "cc_mask", "cc_mask_1A", "shift", "overlap", "residues", "backbone_only"]
    show(found[[*shown, "copies", "boxes"]].assign(rejected=by_files, catalogue=by_catalogue))
    print(f"\n{(by_files == '').sum()} of {len(found)} pass the filters of the pair, ", end="")
    print(f"{((by_files == '') & (by_catalogue == '')).sum()} also those of the catalogue")
    seconds = pd.DataFrame(times)
    show(seconds.assign(total=seconds.drop(columns=["map", "voxels"]).sum(axis=1)), digits=2)


def make_case(folder, edge, voxel_size, masked):
    """Write a made map and its model into ``folder``."""
    one = gemmi.read_structure(str(HAEMOGLOBIN))[0]
    middle = np.mean([site.atom.pos.tolist() for site in one.all()], axis=0)
    number = max(1, round(edge * voxel_size / 2 / PITCH))
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    for place in np.ndindex(number, number, number):
        step = PITCH * (np.array(place) - (number - 1) / 2) + voxel_size * (edge - 1) / 2 - middle
        for chain in one:
            copy = chain.clone()
            copy.name = chain.name + "".join(map(str, place))
            for residue in copy:
                for atom in residue:
                    atom.pos += gemmi.Position(*step)
            structure[0].add_chain(copy)
    structure.setup_entities()
    structure.assign_label_seq_id()
    cif = structure.make_mmcif_document().as_string()
    (folder / "model.cif.gz").write_bytes(gzip.compress(cif.encode()))
    atoms = read_model(folder / "model.cif.gz")
    grid = Grid((edge, edge, edge), voxel_size, 0)
    weight = atomic_numbers(atoms.element) * atoms.occupancy
    density = simulate_density(atoms.coords, weight, target_sigma(RESOLUTION), grid).data
    white = np.random.default_rng(1).standard_normal(grid.shape, dtype=np.float32)
    noise = gaussian_filter(white, RESOLUTION / 4 / voxel_size)
    noise *= NOISE * density[density > density.max() / 10].mean() / noise.std()
    density += noise
    if masked:
        z, y, x = np.meshgrid(*3 * [np.linspace(-1, 1, edge)], indexing="ij", sparse=True)
        density *= np.clip((0.95 - np.sqrt(z**2 + y**2 + x**2)) * edge / 10, 0, 1)
    write_map(folder / "map.mrc.gz", Volume.on(grid, density))


def measured(folder):
    """One row of the table of sizes, of a process that does nothing else."""
    files = {"map": folder / "map.mrc.gz", "model": folder / "model.cif.gz"}
    start, begun = time.process_time(), time.perf_counter()
    quality, boxes, spent = prepared("EMD-0001", files, RESOLUTION, folder)
    return {
        "start": start,
        **spent,
        "CPU s": time.process_time(),
        "wall s": time.perf_counter() - begun,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "boxes": boxes,
        "atoms": quality.atoms,
        "gz MB": files["map"].stat().st_size / 1e6,
    }


def run(*arguments):
    """What this script writes as a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def sizes(*edges):
    """Time and memory of made maps, and the constants that fit them."""
    rows = []
    for edge, voxel_size in CASES:
        for masked in (False, True) if not edges or str(edge) in edges else ():
            with tempfile.TemporaryDirectory() as folder:
                run("case", folder, edge, voxel_size, int(masked))
                row = json.loads(run("worker", folder).splitlines()[-1])
            form = {"edge": edge, "Å": voxel_size, "masked": "yes" if masked else "no"}
            rows.append(form | row)
            print(rows[-1], file=sys.stderr, flush=True)
    found = pd.DataFrame(rows)
    voxels = found["edge"] ** 3.0
    points = voxels * found["Å"] ** 3
    for column, most in (("CPU s", False), ("MB", True)):
        constants, modelled = fit(voxels, points, found[column], most=most)
        found[f"{column}, modelled"] = modelled
        (a, b, c), ratio = constants, modelled / found[column]
        print(f"{column} = {a:.4g} + {b:.3g} × voxels + {c:.3g} × voxels at 1 Å; ", end="")
        print(f"{ratio.min():.2f}-{ratio.max():.2f} of what was measured")
    numbers = found.select_dtypes("number").columns.difference(["Å"])
    show(found.round(dict.fromkeys(numbers, 1)))


def fit(voxels, points, values, *, most):
    """Constants >= 0 of values = a + b·voxels + c·points by relative errors, and what they give.

    With ``most`` no value lies above.
    """
    terms = np.stack([np.ones(len(values)), voxels, points], axis=1)
    constants, _ = nnls(terms / values.to_numpy()[:, None], np.ones(len(values)))
    if most:
        constants *= (values / (terms @ constants)).max()
    return constants, terms @ constants


def chains_of(pdbs, seed=0):
    """Made-up sequences of models by label: most related to others, some only by a piece."""
    draw = random.Random(seed)
    found = {}
    for pdb in sorted(pdbs):
        for chain in "ABCD"[: draw.randint(1, 4)]:
            is_common = draw.random() < SHARE_COMMON
            ancestor = draw.randrange(COMMON) if is_common else COMMON + draw.randrange(RARE)
            length = 80 + random.Random(ancestor).randrange(500)
            sequence = mutated(
                drawn(AMINO_ACIDS, length, ancestor), 0.4, AMINO_ACIDS, draw.random()
            )
            is_piece = draw.random() < 0.1
            found[f"{pdb}_{chain}"] = sequence[: length // 2 + 20] if is_piece else sequence
    return {"protein": found, "nucleic": {}}


def made_up_table(rows):
    """The catalogue of ``rows`` entries that do not exist."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page_0001.json"
        page.write_text(json.dumps(made_up_catalogue(rows)))
        return read_catalogue([page])


def filters(rows="1500"):
    """What each filter of the catalogue rejects, and how long that takes."""
    table = made_up_table(int(rows))
    entries = read_yardstick(ROOT / "resources" / "benchmark" / "yardstick.tsv").values()
    held_out = {entry.id: {"split": "test", "pdb": entry.pdb} for entry in entries}
    chains = chains_of(models_to_compare(table, held_out, SETTINGS["metadata"]))
    start = cpu_seconds()
    clusters = with_nucleic_clusters(mmseqs_clusters(chains, threads=cores()), chains)
    clustered = cpu_seconds()
    _, counts = select(table, clusters, chains, held_out, SETTINGS, threads=cores())
    chosen = cpu_seconds()
    begun = {"filter": "(catalogue)", "rejected": 0, "left": len(table)}
    show(pd.concat([pd.DataFrame([begun]), counts]))
    number, made, searched = len(chains["protein"]), clustered - start, chosen - clustered
    print(f"\nCPU time: {made:.0f} s for clusters of {number} chains by MMseqs2, ", end="")
    print(f"{searched:.0f} s for the choice and its searches")


def cpu_seconds():
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def cores():
    return len(os.sched_getaffinity(0))


def estimate():
    """What so many pairs cost by `budget`, maps being as large as made-up ones that pass."""
    table = made_up_table(30_000)
    reasons, _ = judge(table, FILTERS, SETTINGS["metadata"])
    passed = table[reasons == ""]
    wanted = round(sum(SETTINGS["counts"].values()) * SETTINGS["reserve"])
    rows = []
    for number in (wanted, 500, 5000):
        draw = np.random.default_rng(1)
        some = passed.sample(number, replace=number > len(passed), random_state=1)
        some = some.assign(voxel_size=draw.choice(VOXEL_SIZES, number)).to_dict("records")
        total, fewer = (
            budget.cost(some, SETTINGS["boxes"] | {"most": most}) for most in (None, 150)
        )
        disk = sorted(budget.passing_megabytes(row["voxels"]) / 1e3 for row in some)
        memory = [budget.cost([row], SETTINGS["boxes"]).memory / 1e3 for row in some]
        rows.append(
            {
                "pairs": number,
                "to fetch (GB)": total.fetched / 1e9,
                "h at 10 MB/s": total.fetched / 36e9,
                "all boxes (GB)": total.kept / 1e9,
                "boxes with most: 150 (GB)": fewer.kept / 1e9,
                f"disk of {JOBS} jobs, mean (GB)": JOBS * np.mean(disk),
                f"of the {JOBS} largest (GB)": sum(disk[-JOBS:]),
                f"memory of {JOBS} jobs, mean (GB)": JOBS * np.mean(memory),
                "memory of the largest job (GB)": max(memory),
                "core-hours": total.seconds / 3600,
            }
        )
    show(pd.DataFrame(rows).set_index("pairs").T.reset_index(names="pairs"), digits=1)


# fault: what the server does ("first, then"), what else is different
FAULTS = {
    "connection reset in mid-file": ("reset", {}),
    "orderly end in mid-file": ("truncated", {}),
    "truncated gz, length as announced": ("incomplete", {}),
    "truncated gz, no length stated": ("cut", {}),
    "10 bytes more announced than sent": ("longer", {}),
    "404": ("404", {}),
    "403": ("403", {}),
    "500": ("500", {}),
    "503 with Retry-After: 1": ("503:1", {}),
    "429": ("429", {}),
    "HTML instead of data": ("html", {}),
    "redirect": ("redirect", {}),
    "slow drip (10 kB/s, limit 100 kB/s)": ("drip:0.01", {}),
    "half, then silence": ("stall", {}),
    "headers, then silence": ("slow", {}),
    "no answer": ("hangup", {}),
    "silent corruption, Repr-Digest stated": ("corrupt", {"digest": True}),
    "silent corruption, SHA-256 pinned": ("corrupt", {"pinned": True}),
    "gz bomb (256 MB, limit 100 MB)": ("bomb", {}),
    "10¹⁸ bytes announced, limit 1 GB": ("huge", {}),
    "no ranges after a broken transfer": ("truncated, rangeless", {}),
    "416 after a broken transfer": ("truncated, nothing", {}),
    "another rest than asked for": ("truncated, shifted", {}),
}


def fetched_from(server, folder, packed, *, pinned=False, urls=None):
    """What became of the download of a map from a server, in words."""
    path = folder / "emd_3488.map.gz"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            result = download(
                urls or map_urls("EMD-3488", [server.emdb_mirror]),
                path,
                check=partial(check_map_file, most_bytes=1e8),
                sha256=hashlib.sha256(packed).hexdigest() if pinned else None,
                **{"retries": 2, "timeout": 0.4, "pause": 0.02, "slowest": 1e5, "most_bytes": 1e9},
            )
    except CryoreadyError as error:
        words = str(error).replace(f"127.0.0.1:{server.server_port}", "HOST")
        return words.replace(f"{folder}/", "")
    same = "the same bytes" if path.read_bytes() == packed else "OTHER BYTES"
    again = result.fetched / len(packed)
    return f"{same}; {len(server.requests)} requests, {again:.1f} × the file fetched"


def faults():
    """Each fault, once and for ever."""
    content = gzip.decompress((ROOT / "resources/small/EMD-5830-A.map.gz").read_bytes())
    rows = []
    for label, (words, more) in FAULTS.items():
        row = {"fault": label}
        for often, rest in (("once", []), ("always: what the user sees", ["..."])):
            with tempfile.TemporaryDirectory() as name, EmdbServer(Path(name) / "server") as server:
                packed = server.add_map("EMD-3488", content)
                server.digest = "Repr-Digest" if more.get("digest") else None
                server.faults["map.gz"] = [*words.split(", "), *rest]
                folder = Path(name) / "downloads"
                pinned = more.get("pinned", False)
                row[often] = fetched_from(server, folder, packed, pinned=pinned)
        rows.append(row)
    with tempfile.TemporaryDirectory() as name, EmdbServer(Path(name) / "server") as server:
        packed, down = server.add_map("EMD-3488", content), closed_url()
        row = {"fault": "a mirror that is down (once: another is up)"}
        for often, roots in (("once", [server.emdb_mirror]), ("always: what the user sees", [])):
            urls = map_urls("EMD-3488", [down, *roots])
            row[often] = fetched_from(server, Path(name) / often[:4], packed, urls=urls)
        rows.append(row)
    show(pd.DataFrame(rows))


def kill():
    """What is fetched after a process was killed in mid-transfer."""
    code = (
        "import sys; from pathlib import Path; from cryoready.dataset.download import download;"
        "download([sys.argv[1]], Path(sys.argv[2]), check=lambda _: None)"
    )
    with tempfile.TemporaryDirectory() as name, EmdbServer(Path(name) / "server") as server:
        content = server.add("x.bin", os.urandom(100_000_000))
        server.faults["x.bin"] = ["stall"]  # after half of it
        urls, path, part = [f"{server.url}/x.bin"], Path(name) / "x.bin", Path(name) / ".x.bin.part"
        process = subprocess.Popen(
            [sys.executable, "-c", code, urls[0], path],
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
            stderr=subprocess.DEVNULL,
        )
        while not (part.exists() and part.stat().st_size > 40_000_000):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        there = part.stat().st_size
        result = download(urls, path, check=lambda _: None)
        row = {"file (bytes)": len(content), "there when killed": there, "fetched": result.fetched}
        row["fetched twice"] = there + result.fetched - len(content)
        row["same bytes"] = "yes" if path.read_bytes() == content else "no"
    show(pd.DataFrame([row]))


def show(table, *, digits=None):
    """As Markdown."""
    if digits is not None:
        table = table.round(digits)
    print("\n" + table.fillna("").to_markdown(index=False), flush=True)


TOPICS = {f.__name__: f for f in (pairs, sizes, filters, estimate, faults, kill)}


def main():
    warnings.simplefilter("ignore", UserWarning)  # stamps and voxel sizes of the shared maps
    topic, *values = sys.argv[1:] or ["-h"]
    if topic == "case":
        folder, edge, voxel_size, masked = values
        make_case(Path(folder), int(edge), float(voxel_size), masked == "1")
    elif topic == "worker":
        print(json.dumps(measured(Path(values[0]))))
    elif topic in TOPICS:
        TOPICS[topic](*values)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
