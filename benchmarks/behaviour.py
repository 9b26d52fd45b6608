"""What a network makes of noise, of a detergent belt, of ligands, and of a turned or shifted map.

    python benchmarks/behaviour.py [--weights WEIGHTS] [--only noise belt ligands turns views]

Tables go to stdout and, with the pictures, to results/behaviour/<name of the weights>/. What the
numbers mean: docs/behaviour.md. Needs the shared data (`data/`, or CRYOREADY_DATA). A map that the
same weights have enhanced before is taken from results/behaviour/cache/. Maps of the split "test"
are reported on; nothing is chosen by them.
"""

import argparse
import hashlib
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import fft
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, map_coordinates
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from cryoready.core.fingerprint import fingerprint  # noqa: E402
from cryoready.core.fourier import frequency_radius  # noqa: E402
from cryoready.core.residues import residue_groups  # noqa: E402
from cryoready.core.rotations import PROPER_ROTATIONS  # noqa: E402
from cryoready.core.volume import Volume  # noqa: E402
from cryoready.dataset.prepare import prepare_simulated_pair  # noqa: E402
from cryoready.density.contour import default_contour, matching_contour  # noqa: E402
from cryoready.density.masks import mask_from_atoms, soften  # noqa: E402
from cryoready.density.resample import resample, spaced_grid  # noqa: E402
from cryoready.density.simulate import simulate_density, target_sigma  # noqa: E402
from cryoready.enhance.inference import enhance_with  # noqa: E402
from cryoready.enhance.plan import Settings  # noqa: E402
from cryoready.files.maps import read_map  # noqa: E402
from cryoready.files.models import atomic_numbers, read_model  # noqa: E402
from cryoready.metrics.correlation import group_correlation  # noqa: E402
from cryoready.metrics.local_correlation import local_correlation  # noqa: E402
from cryoready.metrics.qscore import place_probes, qscore  # noqa: E402
from cryoready.network.checkpoint import load_network  # noqa: E402
from cryoready.report.views import (  # noqa: E402
    plot_sections,
    plot_views,
    residue_view,
    usual_views,
)

BUNDLED = ROOT / "resources" / "weights" / "v1" / "weights.safetensors"
RESULTS = ROOT / "results" / "behaviour"
CODE = fingerprint(ROOT / "workflow" / "scripts" / "enhance.py")
DATA = Path(os.environ.get("CRYOREADY_DATA", ROOT / "data"))
ENTRIES = pd.read_csv(DATA / "entries.tsv", sep="\t", keep_default_na=False).set_index("name")

PROTEIN = "EMD-3488"  # what noise and haems are measured against
SMALL, TURNED = "EMD-5830-A", "EMD-30342-A"
MEMBRANE = "EMD-8410-A"  # a channel with the lipids of its membrane
VIEWED = ("EMD-3488", "EMD-3240", "EMD-30342-A")
SIMULATED = ("EMD-3488", "1ewy", "1j2j")  # models with haem, FAD, GTP
SIMULATED_RESOLUTION = 4.0  # Å
# Å³ enclosed by a contour for every heavy atom: what the archive's contour of EMD-3488 encloses,
# about a third of the volume of protein (1.21 Å³/Da, doi 10.1016/S0969-2126(00)00065-4)
SHOWN_VOLUME = 5.0
ZONE = 4.0  # Å around atoms
NOISE_EDGE = 72  # voxels of 1 Å
NOISE_LIMITS = (0, 3, 4, 6)  # Å; 0: white
SOLVENT_SIGMAS = (0.05, 0.10)  # of the highest density of the map
FAR = 8.0  # Å from atoms, for solvent
LEAST_PIECE = 100.0  # Å³
TUBE_LENGTH, TUBE_WIDTH = 12.0, 9.0  # Å: at least two turns of a helix, no wider than one
BELT_LIMITS = (8, 15)  # Å
BELT_LEVEL, BELT_SPREAD = 0.6, 0.3  # of the mean density of the protein
BELT_REACH, BELT_HEIGHT = (4.0, 20.0), 34.0  # Å from atoms, and along z
BELT_MARGIN = 14.0  # Å of the map around the lipids
FINE = 8.0  # Å: finer detail than this is texture
SHIFTS = (1, 8)  # voxels
HALF = 0.5  # voxel, along all three axes


class Weights:
    """A network as users run it, remembering what it has made."""

    def __init__(self, path, threads):
        self.network, self.card = load_network(path)
        self.threads = threads
        self.settings = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["inference"]
        self.folder = RESULTS / f"{self.card.name}-{self.card.sha256[:8]}"
        for folder in (self.folder, RESULTS / "cache"):
            folder.mkdir(parents=True, exist_ok=True)

    def enhance(self, volume, precision=None):
        """The enhanced map on the grid of ``volume``."""
        settings = self.settings | ({"precision": precision} if precision else {})
        content = hashlib.sha256(volume.data.tobytes())
        content.update(f"{volume.grid}{settings}{self.card.sha256}{CODE}".encode())
        path = RESULTS / "cache" / f"{content.hexdigest()[:24]}.npy"
        if not path.exists():
            result = enhance_with(
                self.card,
                volume,
                self.network,
                settings=Settings(**settings),
                mask=None,
                threads=self.threads,
                gpus=0,
                report=lambda line: None,
            )
            np.save(path, result.volume.data)
        return Volume.on(volume.grid, np.load(path))

    def show(self, name, title, rows):
        """Print rows as Markdown and keep them as TSV."""
        table = pd.DataFrame(rows)
        table.to_csv(self.folder / f"{name}.tsv", sep="\t", index=False, float_format="%.5g")
        lines = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
        text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
        print(f"\n{title}\n\n{text}", flush=True)


def _cell(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@cache
def entry(name):
    """Map and model of a shared entry."""
    row = ENTRIES.loc[name]
    return read_map(DATA / "maps" / row["map"]), read_model(DATA / "maps" / row["model"])


def split(name):
    return f"{name} ({ENTRIES.loc[name, 'split']})"


def padded(volume, margin):
    """``volume`` with so many voxels of nothing on every side."""
    low = volume.origin - margin * volume.voxel_size
    return Volume(np.pad(volume.data, margin), volume.voxel_size, low)


def from_atoms(atoms, grid):
    """(nz, ny, nx) Å to the nearest heavy atom, to a voxel."""
    place = np.rint((atoms.coords[atoms.heavy] - grid.origin) / grid.voxel_size).astype(int)
    free = np.ones(grid.shape, dtype=bool)
    inside = ((place >= 0) & (place < grid.shape)).all(axis=1)
    free[tuple(place[inside].T)] = False
    return distance_transform_edt(free, sampling=grid.voxel_size)


def shown_contours(before, after, atoms):
    """The contours that enclose the same volume, `SHOWN_VOLUME` for every atom."""
    voxels = int(SHOWN_VOLUME * atoms.heavy.sum() / np.prod(before.voxel_size))
    contour = float(np.partition(before.data.ravel(), -voxels)[-voxels])
    return contour, matching_contour(before.data, contour, after.data)


def lowpassed_noise(shape, voxel_size, limit, seed):
    """Gaussian noise of variance 1 without anything finer than ``limit`` Å."""
    white = np.random.default_rng(seed).standard_normal(shape)
    if limit:
        radius = frequency_radius(shape, np.broadcast_to(voxel_size, 3))
        white = fft.irfftn(fft.rfftn(white) / (1 + (radius * limit) ** 16), s=shape)
    return (white / white.std()).astype(np.float32)


# --- noise -------------------------------------------------------------------------------------


def noise(weights):
    """Noise alone, which the normalisation stretches to the full scale, and noise as solvent."""
    protein, model = entry(PROTEIN)
    made = weights.enhance(protein)
    contours = shown_contours(protein, made, model)
    zone = mask_from_atoms(model.coords, protein.grid, ZONE)
    whites = [float(np.percentile(v.data[zone], 99.5)) for v in (protein, made)]
    rows = [_noise_row(split(PROTEIN), protein, made, zone, made.data[zone], contours[1])]
    columns = [(PROTEIN, (protein, made), contours, whites)]
    for limit in NOISE_LIMITS:
        data = lowpassed_noise((NOISE_EDGE,) * 3, 1.0, limit, limit)
        volume = Volume(data, 1.0, 0.0)
        name = f"noise to {limit} Å" if limit else "white noise"
        result = weights.enhance(volume)
        everywhere = np.ones(data.shape, dtype=bool)
        rows.append(_noise_row(name, volume, result, everywhere, made.data[zone], contours[1]))
        columns.append((name, (volume, result), (np.inf, contours[1]), (data.max(), whites[1])))
    rows += _solvent(weights, columns)
    weights.show("noise", "Noise", rows)
    plot_sections(
        columns,
        title=f"Noise, {weights.card.name} (after: one grey scale and contour for noise alone)",
        path=weights.folder / "noise.png",
    )


def _solvent(weights, columns):
    """Rows of noise around a small protein, as strong as in maps that nobody masked."""
    volume, model = entry(SMALL)
    volume = padded(volume, 12)
    alone = weights.enhance(volume)
    contours = shown_contours(volume, alone, model)
    zone = mask_from_atoms(model.coords, volume.grid, ZONE)
    whites = [float(np.percentile(v.data[zone], 99.5)) for v in (volume, alone)]
    away = from_atoms(model, volume.grid)
    for sigma in SOLVENT_SIGMAS:
        grains = lowpassed_noise(volume.data.shape, volume.voxel_size, 4, 1)
        grains *= sigma * volume.data.max() * (away > ZONE)
        filled = Volume.on(volume.grid, volume.data + grains)
        result = weights.enhance(filled)
        name = f"solvent of {sigma:.0%} around {SMALL}"
        rows = _noise_row(name, filled, result, away > FAR, alone.data[zone], contours[1])
        columns.append((f"solvent of {sigma:.0%}", (filled, result), contours, whites))
        yield rows


def _noise_row(name, before, after, where, protein, contour):
    """What stands in ``where``, against values ``protein`` of an enhanced protein."""
    above = after.data >= contour
    pieces = pieces_of(above & where, after.voxel_size)
    correlation = local_correlation(before, after, radius=5.0)[where]
    volume = where.sum() * float(np.prod(after.voxel_size))
    made = after.data[where]
    return {
        "input": name,
        "σ / protein": float(made.std() / protein.std()),
        "max / protein": float(made.max() / protein.max()),
        "above its contour (%)": 100 * float(above[where].mean()),
        "above own mean + 3σ (%)": 100 * float((made >= default_contour(made)).mean()),
        "largest piece (Å³)": float(pieces["volume"].max()) if len(pieces) else 0.0,
        "tubes per 10⁶ Å³": 1e6 * float(pieces["is_tube"].sum()) / volume,
        "local CC in-out": float(np.median(correlation)),
    }


def pieces_of(mask, voxel_size):
    """Connected pieces of at least 100 Å³, and whether they are as long and thin as a helix."""
    numbers, count = label(mask)
    piece = numbers[mask] - 1
    size = np.bincount(piece, minlength=count)
    place = np.argwhere(mask) * voxel_size
    products = (place[:, :, None] * place[:, None, :]).reshape(-1, 9)
    mean, square = (
        np.stack([np.bincount(piece, column, count) / size for column in columns.T], axis=1)
        for columns in (place, products)
    )
    covariance = square.reshape(-1, 3, 3) - mean[:, :, None] * mean[:, None, :]
    _, across, along = np.linalg.eigvalsh(covariance).clip(0).T
    # a cylinder: σ = length/√12 along it, diameter/4 across
    is_tube = (np.sqrt(12 * along) >= TUBE_LENGTH) & (4 * np.sqrt(across) <= TUBE_WIDTH)
    volume = size * np.prod(voxel_size)
    return pd.DataFrame({"volume": volume, "is_tube": is_tube})[volume >= LEAST_PIECE]


# --- detergent ---------------------------------------------------------------------------------


def belt(weights):
    """Smooth random density around a membrane protein, where its map was masked."""
    volume, model = entry(MEMBRANE)
    lipids = model.coords[_is_ligand(model)]
    volume = padded(volume, 12).around(lipids, BELT_MARGIN)
    middle, half = float(lipids[:, 0].mean()), BELT_HEIGHT / 2
    last = volume.origin + volume.voxel_size * volume.data.shape
    model = model.take(((model.coords >= volume.origin) & (model.coords < last)).all(axis=1))
    away = from_atoms(model, volume.grid)
    protein = away <= 2
    height = np.abs(volume.grid.axis(0) - middle)[:, None, None]
    near, far = BELT_REACH
    ring = (away >= near) & (away <= far) & (height <= half)
    core = (away >= near + 3) & (away <= far - 3) & (height <= half - 3)
    mean = float(volume.data[protein].mean())
    grid = volume.grid
    weight = atomic_numbers(model.element) * model.occupancy
    resolution = float(ENTRIES.loc[MEMBRANE, "resolution_A"])
    target = simulate_density(model.coords, weight, target_sigma(resolution), grid).data
    zone = away <= ZONE
    alone = weights.enhance(volume)
    contours = shown_contours(volume, alone, model)
    whites = [float(np.percentile(v.data[zone], 99.5)) for v in (volume, alone)]
    columns, rows = [("no belt", (volume, alone), contours, whites)], []
    rows.append(_belt_row("none", volume, alone, protein, core, zone, target))
    for limit in BELT_LIMITS:
        grains = lowpassed_noise(grid.shape, grid.voxel_size, limit, limit)
        density = mean * (BELT_LEVEL + BELT_SPREAD * grains)
        share = soften(ring, grid.voxel_size, 2.0)
        belted = Volume.on(grid, volume.data + share * density)
        after = weights.enhance(belted)
        rows.append(_belt_row(f"to {limit} Å", belted, after, protein, core, zone, target))
        columns.append((f"belt to {limit} Å", (belted, after), contours, whites))
    weights.show("belt", f"A belt around {split(MEMBRANE)}", rows)
    plot_sections(
        columns,
        title=f"Belt around {MEMBRANE}, {weights.card.name}",
        path=weights.folder / "belt.png",
    )


def _belt_row(name, before, after, protein, core, zone, target):
    """Means, texture and correlation before and after; without a belt there is no share of it."""
    maps = {"before": before.data, "after": after.data}
    # half of the amplitude at 1/FINE passes
    width = FINE * np.sqrt(np.log(2) / 2) / np.pi / before.voxel_size
    fine = {when: data - gaussian_filter(data, width) for when, data in maps.items()}
    row = {"belt": name}
    for when, data in maps.items():
        row[f"belt / protein, {when}"] = float(data[core].mean() / data[protein].mean())
    for when in maps:
        texture = fine[when][core].std() / fine[when][protein].std()
        row[f"texture / protein's, {when}"] = float(texture)
    for when, data in maps.items():
        is_there = data[core].mean() > 0.01 * data[protein].mean()
        share = fine[when][core].var() / data[core].var() if is_there else np.nan
        row[f"fine power (%), {when}"] = 100 * float(share)
    for when, data in maps.items():
        row[f"CC of protein, {when}"] = float(np.corrcoef(data[zone], target[zone])[0, 1])
    return row


# --- ligands -----------------------------------------------------------------------------------


def ligands(weights):
    """Ligands in maps, experimental and simulated, against the protein around them."""
    rows, pictures = [], []
    for name in (PROTEIN, MEMBRANE):
        volume, model = entry(name)
        resolution = float(ENTRIES.loc[name, "resolution_A"])
        after = weights.enhance(volume)
        rows += _ligand_rows(split(name), volume, after, model, resolution)
        pictures.append((name, volume, after, model))
    for name in SIMULATED:
        if name in ENTRIES.index:
            model = entry(name)[1]
        else:
            model = read_model(DATA / "structures" / f"{name}.pdb.gz")
        pair = prepare_simulated_pair(model, resolution=SIMULATED_RESOLUTION, seed=1)
        after = weights.enhance(pair.map)
        title = f"{name}, simulated at {SIMULATED_RESOLUTION:g} Å"
        rows += _ligand_rows(title, pair.map, after, model, SIMULATED_RESOLUTION)
        pictures.append((title, pair.map, after, model))
    weights.show("ligands", "Ligands", rows)
    views = []
    for title, before, after, model in pictures:
        group, first = residue_groups(model)
        chosen = _largest_ligand(model)
        start = first[chosen]
        view_title = f"{title}\n{model.residue_name[start]} {model.chain[start]}"
        view = residue_view(model, group == chosen, f"{view_title} {model.residue_number[start]}")
        views.append((view, model, (before, after), shown_contours(before, after, model)))
    plot_views(
        views,
        title=f"Ligands, {weights.card.name}",
        path=weights.folder / "ligands.png",
    )


def _is_ligand(model):
    """Heavy atoms of residues that are no polymer, of at least 6 atoms, and no water."""
    group, _ = residue_groups(model)
    size = np.bincount(group, model.heavy)
    return (model.polymer == "") & model.heavy & (size[group] >= 6)


def _largest_ligand(model):
    group, _ = residue_groups(model)
    sizes = np.bincount(group, _is_ligand(model))
    return int(sizes.argmax())


def _ligand_rows(name, before, after, model, resolution):
    """One row a kind of ligand: means over its atoms."""
    heavy = model.take(model.heavy)
    probes = place_probes(heavy.coords)
    ligand = _is_ligand(heavy)
    group, _ = residue_groups(heavy)
    weight = atomic_numbers(heavy.element) * heavy.occupancy
    theory = simulate_density(heavy.coords, weight, target_sigma(resolution), before.grid).data
    maps = {"before": before, "after": after}
    q = {when: qscore(volume, probes) for when, volume in maps.items()}
    place = {w: (heavy.coords - v.origin) / v.voxel_size for w, v in maps.items()}
    density = {w: map_coordinates(v.data, place[w].T, order=1) for w, v in maps.items()}
    both = (before.data, after.data)
    cc = group_correlation(both, theory, before.grid, heavy.coords, group, radius=3.0)
    rows = []
    for kind in np.unique(heavy.residue_name[ligand]):
        here = ligand & (heavy.residue_name == kind)
        near = _around(heavy, here)
        row = {"map": name, "ligand": str(kind), "atoms": int(here.sum())}
        for when in maps:
            ratio = density[when][here].mean() / density[when][near].mean()
            row[f"density / protein, {when}"] = float(ratio)
        for k, when in enumerate(maps):
            row[f"CC, {when}"] = float(np.mean(cc[k][np.unique(group[here])]))
        for when in maps:
            row[f"Q, {when}"] = float(q[when][here].mean())
        for when in maps:
            row[f"Q of protein, {when}"] = float(q[when][near].mean())
        rows.append(row)
    return rows


def _around(heavy, here):
    """Polymer atoms within 8 Å of a ligand."""
    distance, _ = cKDTree(heavy.coords[here]).query(heavy.coords)
    return (heavy.polymer != "") & (distance <= 8)


# --- turned and shifted maps -------------------------------------------------------------------


def turns(weights):
    """‖f(g·x) - g·f(x)‖ / ‖f(x)‖ of f as users run it, in fp32 and in bf16."""
    rows = []
    for name, rotations in ((SMALL, PROPER_ROTATIONS[1:]), (TURNED, PROPER_ROTATIONS[3::8])):
        volume, model = entry(name)
        volume = resample(volume, spaced_grid(volume.grid, weights.card.grid))
        zone = mask_from_atoms(model.coords, volume.grid, ZONE)
        exact = weights.enhance(volume, "fp32").data
        for precision in ("fp32", "bf16"):
            plain = weights.enhance(volume, precision).data

            def made(data, voxel_size=volume.voxel_size, precision=precision):
                return weights.enhance(Volume(data, voxel_size, 0.0), precision).data

            turned = [g.undo(made(np.ascontiguousarray(g.apply(volume.data)))) for g in rotations]
            moved = {f"{len(rotations)} quarter turns": turned}
            for k in SHIFTS:
                front = [(k, 0)] * 3
                shifted = made(np.pad(volume.data, front))
                moved[f"shift by {k} voxel{'s' * (k > 1)}"] = [shifted[k:, k:, k:]]
            there = made(fourier_shift(volume.data, HALF))
            moved["shift by ½ voxel"] = [fourier_shift(there, -HALF)]
            if precision != "fp32":
                moved[f"{precision} against fp32"] = [exact]
            for what, results in moved.items():
                errors = [relative_error(r, plain) for r in results]
                inside = [relative_error(r[zone], plain[zone]) for r in results]
                rows.append(
                    {
                        "map": split(name),
                        "precision": precision,
                        "what": what,
                        "error": float(np.mean(errors)),
                        "largest": float(np.max(errors)),
                        "error in the zone": float(np.mean(inside)),
                        "largest in the zone": float(np.max(inside)),
                    }
                )
    weights.show("turns", "Turned and shifted maps", rows)


def relative_error(one, other):
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def fourier_shift(data, voxels):
    """``data`` moved by ``voxels`` along each axis, exactly, its period being the box."""
    z, y = (fft.fftfreq(n) for n in data.shape[:2])
    x = fft.rfftfreq(data.shape[2])
    phase = z[:, None, None] + y[None, :, None] + x[None, None, :]
    factors = fft.rfftn(data) * np.exp(-2j * np.pi * phase * voxels)
    return fft.irfftn(factors, s=data.shape).astype(np.float32)


# --- views -------------------------------------------------------------------------------------


def views(weights):
    """Helix, strands and side chain of test maps before and after."""
    for name in VIEWED:
        before, model = entry(name)
        after = weights.enhance(before)
        contours = shown_contours(before, after, model)
        plot_views(
            [(view, model, (before, after), contours) for view in usual_views(model)],
            title=f"{split(name)}, {ENTRIES.loc[name, 'resolution_A']} Å, {weights.card.name}",
            path=weights.folder / f"{name}.png",
        )


PARTS = {part.__name__: part for part in (noise, belt, ligands, turns, views)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=BUNDLED)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    weights = Weights(arguments.weights, arguments.threads)
    print(f"weights {weights.card.name} {weights.card.version} ({weights.card.sha256[:8]})")
    for part in arguments.only:
        PARTS[part](weights)
    print(f"\npictures and tables: {weights.folder}")


if __name__ == "__main__":
    main()
