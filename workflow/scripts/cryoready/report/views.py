"""Maps as a biologist looks at them: a surface at a contour, with the model inside.

What to look at is chosen by rule and from the model alone: its longest helix, its longest pair of
strands, its most buried aromatic side chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import label, map_coordinates
from scipy.spatial import cKDTree

from cryoready.core.atoms import Atoms
from cryoready.core.residues import residue_groups
from cryoready.core.volume import FloatArray, Vector, Volume
from cryoready.core.whole_files import written_whole

Mask = NDArray[np.bool_]

BEFORE, AFTER = "#8a929b", "#4f8fde"
STICKS = {"N": "#2b4fd0", "O": "#d03030", "S": "#c9a400", "P": "#d07a20", "FE": "#a0421a"}
CARBON, OUTLINE = "#c58b1f", "#40352a"
LONGEST_BOND = 2.2  # Å; 1.9 between atoms other than metals
AROMATIC = ("PHE", "TYR", "TRP")
BACKBONE = ("N", "CA", "C", "O")
ZONE = 2.2  # Å around the drawn atoms: further away no density is shown
MARGIN = 3.0  # Å of picture around the drawn atoms
PIXEL = 0.15  # Å
DUST = 6.0  # Å³: smaller pieces are hidden
LIGHT = np.array([-0.4, 0.5, 0.77])  # right, up, towards the viewer
MOST_RESIDUES = 18  # of a helix: what a page shows at legible size
LEAST_RESIDUES = 8  # of a helix, two turns
LEAST_PAIRED = 3  # residues of each strand
PANEL_INCHES, LEAST_WIDTH = 3.4, 14.0  # height of a panel; its width in Å


class Fold(NamedTuple):
    """Middle and tolerance of what describes four successive CA (Å, Å, degrees)."""

    second: tuple[float, float]
    third: tuple[float, float]
    dihedral: tuple[float, float]


# P-SEA, Labesse et al. 1997, doi 10.1093/bioinformatics/13.3.291
HELIX = Fold((5.5, 0.5), (5.3, 0.5), (50, 20))
STRAND = Fold((6.7, 0.6), (9.9, 0.9), (-170, 45))


@dataclass(frozen=True, eq=False)
class View:
    """What is shown, and from where.

    Parameters
    ----------
    title
        of the picture.
    drawn
        (n,) atoms drawn as sticks, with the density around them.
    centre
        (3,) zyx, Å.
    axes
        (3, 3) unit vectors zyx to the right, up, and towards the viewer.
    half
        (3,) Å to each side along ``axes``.
    """

    title: str
    drawn: Mask
    centre: Vector
    axes: Vector
    half: Vector

    @classmethod
    def of(cls, title: str, atoms: Atoms, drawn: Mask, frame: Vector) -> "View":
        """Upright along the longest extent of ``frame`` (m, 3) zyx Å, its shortest in depth."""
        spread = (frame - frame.mean(axis=0)).T @ (frame - frame.mean(axis=0))
        axes = np.linalg.eigh(spread)[1].T[[1, 2, 0]]  # middle, longest, shortest
        axes[1] *= np.sign(axes[1, 0]) or 1  # the same end up whatever the sign of the vectors
        axes[2] *= -np.sign(np.linalg.det(axes))  # zyx: right-handed is -1
        along = atoms.coords[drawn] @ axes.T
        low, high = along.min(axis=0), along.max(axis=0)
        return cls(title, drawn, (low + high) / 2 @ axes, axes, (high - low) / 2 + MARGIN)


def usual_views(atoms: Atoms) -> list[View]:
    """Helix, strands and side chain of a model, those that it has."""
    found = (helix_view(atoms), strand_view(atoms), side_chain_view(atoms))
    return [view for view in found if view is not None]


def helix_view(atoms: Atoms) -> View | None:
    """The middle of the longest helix; None without one of at least two turns."""
    ca = _ca(atoms)
    runs = _runs(_folded(atoms.coords[ca], HELIX))
    if not len(runs):
        return None
    start, stop = runs[np.argmax(runs[:, 1] - runs[:, 0])]
    if stop - start < LEAST_RESIDUES:
        return None
    spare = max(stop - start - MOST_RESIDUES, 0)
    chosen = ca[start + spare // 2 : stop - (spare - spare // 2)]
    title = f"helix {_range(atoms, chosen)}"
    return View.of(title, atoms, _residues_of(atoms, chosen), atoms.coords[chosen])


def strand_view(atoms: Atoms) -> View | None:
    """The two strands with most CA of one within 5.8 Å of the other; None without a pair."""
    ca = _ca(atoms)
    coords = atoms.coords[ca]
    strand = np.zeros(len(ca), dtype=np.int64)
    runs = _runs(_folded(coords, STRAND))
    for number, (start, stop) in enumerate(runs, start=1):
        strand[start:stop] = number
    i, j = cKDTree(coords).query_pairs(5.8, output_type="ndarray").T.reshape(2, -1)
    across = (strand[i] > 0) & (strand[j] > 0) & (strand[i] != strand[j])
    i, j = i[across], j[across]
    if not len(i):
        return None
    key = np.minimum(strand[i], strand[j]) * (len(runs) + 1) + np.maximum(strand[i], strand[j])
    keys, counts = np.unique(key, return_counts=True)
    paired = key == keys[counts.argmax()]
    both = np.unique(np.concatenate([i[paired], j[paired]]))
    sides = [ca[both[strand[both] == k]] for k in np.unique(strand[both])]
    if min(len(side) for side in sides) < LEAST_PAIRED:
        return None
    title = "strands " + " and ".join(_range(atoms, side) for side in sides)
    drawn = _residues_of(atoms, ca[both])
    backbone = drawn & np.isin(atoms.name, BACKBONE)
    return View.of(title, atoms, drawn, atoms.coords[backbone])


def side_chain_view(atoms: Atoms) -> View | None:
    """The aromatic side chain with most atoms within 8 Å, between its neighbours; None without."""
    side = (atoms.polymer == "protein") & atoms.heavy & ~np.isin(atoms.name, BACKBONE)
    ring = side & np.isin(atoms.residue_name, AROMATIC)
    group, _ = residue_groups(atoms)
    residues, index = np.unique(group[ring], return_inverse=True)
    if not len(residues):
        return None
    sums = [np.bincount(index, atoms.coords[ring, k]) for k in range(3)]
    middles = np.stack(sums, axis=1) / np.bincount(index)[:, None]
    crowd = cKDTree(atoms.coords[atoms.heavy]).query_ball_point(middles, 8.0, return_length=True)
    chosen = residues[int(np.argmax(crowd))]
    drawn = atoms.heavy & (np.abs(group - chosen) <= 1)
    first = np.flatnonzero(group == chosen)[0]
    title = f"side chain {atoms.residue_name[first]} {_range(atoms, np.array([first]))}"
    return View.of(title, atoms, drawn, atoms.coords[ring & (group == chosen)])


def residue_view(atoms: Atoms, residue: Mask, title: str) -> View:
    """One residue (``residue`` (n,) of its atoms), for instance a ligand, seen from its face."""
    drawn = residue & atoms.heavy
    return View.of(title, atoms, drawn, atoms.coords[drawn])


def plot_views(
    pairs: Sequence[tuple[View, Atoms, tuple[Volume, Volume], tuple[float, float]]],
    *,
    title: str,
    path: Path,
) -> None:
    """Every view before (above) and after (below), both at the given contours.

    Parameters
    ----------
    pairs
        view, model, maps before and after, and a contour for each.
    title
        over the figure.
    path
        PNG or SVG.
    """
    height = max(2 * view.half[1] for view, *_ in pairs)  # one scale for all panels
    widths = [max(2 * view.half[0], LEAST_WIDTH) for view, *_ in pairs]
    size = (sum(widths) / height * PANEL_INCHES + 0.6, 2 * PANEL_INCHES + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, len(pairs), squeeze=False, width_ratios=widths)
    for column, (view, atoms, maps, contours) in zip(panels.T, pairs, strict=True):
        styles = zip(column, maps, contours, ("before", "after"), (BEFORE, AFTER), strict=True)
        for panel, volume, contour, name, colour in styles:
            draw_view(panel, view, atoms, volume, contour, colour)
            panel.set(ylim=(-height / 2, height / 2))
            panel.set_title(f"{view.title}\n{name}, contour {contour:.3g}", fontsize=8)
    with written_whole(path) as part:
        figure.savefig(part, dpi=130)


def plot_sections(
    columns: Sequence[tuple[str, tuple[Volume, Volume], tuple[float, float], tuple[float, float]]],
    *,
    title: str,
    path: Path,
) -> None:
    """The middle section across z of several maps, before (above) and after (below).

    Parameters
    ----------
    columns
        name, maps before and after, a contour for each, and for each the density drawn white.
    title
        over the figure.
    path
        PNG or SVG.
    """
    figure = Figure(figsize=(2.3 * len(columns), 5.4), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, len(columns), squeeze=False)
    for column, (name, maps, contours, whites) in zip(panels.T, columns, strict=True):
        column[0].set_title(f"{name}\nbefore", fontsize=8)
        column[1].set_title("after", fontsize=8)
        for panel, volume, contour, white in zip(column, maps, contours, whites, strict=True):
            plane = volume.data[volume.data.shape[0] // 2]
            panel.imshow(plane, cmap="gray", origin="lower", vmin=0, vmax=white)
            if plane.min() < contour < plane.max():
                panel.contour(plane, levels=[contour], colors="tab:orange", linewidths=0.8)
            voxels = 10 / volume.voxel_size[2]
            panel.plot([2, 2 + voxels], [2, 2], color="white", lw=2)
            panel.text(2, 4, "10 Å", color="white", fontsize=8)
            panel.set_axis_off()
    with written_whole(path) as part:
        figure.savefig(part, dpi=130)


def draw_view(
    panel: Axes, view: View, atoms: Atoms, volume: Volume, contour: float, colour: str
) -> None:
    """Sticks, and over them the transparent surface of ``volume`` at ``contour``."""
    right, up, _ = view.half
    _draw_sticks(panel, view, atoms.take(view.drawn))
    panel.imshow(
        cast_surface(volume, contour, view, atoms.coords[view.drawn], colour),
        origin="lower",
        extent=(-right, right, -up, up),
        interpolation="bilinear",
        zorder=3,
    )
    panel.set(xlim=(-right, right), ylim=(-up, up), aspect="equal")
    panel.set_axis_off()
    panel.plot([-right + 0.5, -right + 5.5], [-up + 0.5] * 2, color="black", lw=2)
    panel.text(-right + 0.5, -up + 0.9, "5 Å", fontsize=8)


def cast_surface(
    volume: Volume, contour: float, view: View, coords: Vector, colour: str
) -> FloatArray:
    """The first surface that parallel rays from the viewer meet, shaded and glassy.

    Parameters
    ----------
    volume
        the map.
    contour
        the surface is where it has this value, or `ZONE` away from ``coords``.
    view
        the direction; one ray a pixel of `PIXEL` Å.
    coords
        (m, 3) zyx, Å, of the drawn atoms.
    colour
        of the surface.

    Returns
    -------
    (up, right, 4) colour and opacity, 0-1; nothing where a ray meets nothing.
    """
    inside = _signed(volume, contour, view, coords)
    hit = inside >= 0
    first = hit.argmax(axis=2)[..., None]
    slopes = np.gradient(inside, PIXEL)
    normal = -np.stack([np.take_along_axis(slopes[k], first, axis=2)[..., 0] for k in (1, 0, 2)])
    normal[2] *= -1  # the last axis runs away from the viewer
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-12)
    light = np.clip(np.tensordot(LIGHT, normal, axes=1), 0, 1)
    facing = np.clip(normal[2], 0, 1)
    picture = np.zeros((*inside.shape[:2], 4), dtype=np.float32)
    picture[..., :3] = np.array(colors.to_rgb(colour)) * (0.45 + 0.55 * light)[..., None]
    picture[..., :3] += 0.35 * light[..., None] ** 12
    picture[..., 3] = hit.any(axis=2) * (0.38 + 0.5 * (1 - facing) ** 1.5)
    return picture.clip(0, 1)


def _signed(volume: Volume, contour: float, view: View, coords: Vector) -> FloatArray:
    """Positive inside of what is shown: (up, right, away from the viewer), in units of contour."""
    steps = [np.arange(-half, half + PIXEL, PIXEL) for half in view.half]
    u, v, w = np.meshgrid(steps[1], steps[0], -steps[2], indexing="ij")
    across = view.axes[[1, 0, 2]]
    points = view.centre + np.stack([u, v, w], axis=-1) @ across
    near = volume.around(coords, ZONE + 6.0)
    place = ((points - near.origin) / near.voxel_size).reshape(-1, 3).T
    density = map_coordinates(near.data, place, order=3).reshape(u.shape)
    zone = (ZONE - _distance(points, coords)) / 2.0  # as steep as a map at its surface
    signed = np.minimum(density / contour - 1, zone).astype(np.float32)
    pieces, _ = label(signed >= 0)
    dust = np.bincount(pieces.ravel()) * PIXEL**3 < DUST
    dust[0] = False
    signed[dust[pieces]] = -1
    return signed


def _distance(points: Vector, coords: Vector) -> Vector:
    """Å from each point (..., 3) to the nearest of ``coords``."""
    distance, _ = cKDTree(coords).query(points.reshape(-1, 3), distance_upper_bound=ZONE + 1)
    return np.minimum(distance, ZONE + 1).reshape(points.shape[:-1])


def _draw_sticks(panel: Axes, view: View, atoms: Atoms) -> None:
    """Bonds, each half in the colour of its atom, those nearer to the viewer over the others."""
    flat = (atoms.coords - view.centre) @ view.axes.T
    i, j = cKDTree(flat).query_pairs(LONGEST_BOND, output_type="ndarray").T.reshape(2, -1)
    metal = np.isin(atoms.element, ("FE", "ZN", "MG", "MN", "CU"))
    bonded = (np.linalg.norm(flat[i] - flat[j], axis=1) < 1.9) | metal[i] | metal[j]
    i, j = i[bonded], j[bonded]
    middle = (flat[i] + flat[j]) / 2
    ends, owner = np.concatenate([flat[i], flat[j]]), np.concatenate([i, j])
    middle = np.concatenate([middle, middle])
    order = np.argsort(middle[:, 2])
    lines = np.stack([ends, middle], axis=1)[order, :, :2]
    paint = [STICKS.get(str(element), CARBON) for element in atoms.element[owner[order]]]
    for width, colour in ((3.4, [OUTLINE] * len(paint)), (2.2, paint)):
        sticks = LineCollection(list(lines), colors=colour, linewidths=width, capstyle="round")
        sticks.set_zorder(2)
        panel.add_collection(sticks)


def _ca(atoms: Atoms) -> NDArray[np.int64]:
    """Index of the CA of every amino acid, first conformers only, in the order of the file."""
    ca = np.flatnonzero((atoms.polymer == "protein") & (atoms.name == "CA"))
    group, _ = residue_groups(atoms)
    return ca[np.sort(np.unique(group[ca], return_index=True)[1])]


def _folded(coords: Vector, fold: Fold) -> Mask:
    """(n - 3,): whether CA i … i+3 are one chain, folded so."""
    if len(coords) < 4:
        return np.zeros(0, dtype=bool)
    step = np.diff(coords, axis=0)
    second = np.linalg.norm(step[1:] + step[:-1], axis=1)
    third = np.linalg.norm(coords[3:] - coords[:-3], axis=1)
    joined = np.linalg.norm(step, axis=1) < 4.2
    one, two = np.cross(step[:-2], step[1:-1]), np.cross(step[1:-1], step[2:])
    length = np.linalg.norm(step[1:-1], axis=1)
    sine, cosine = length * (step[:-2] * two).sum(axis=1), (one * two).sum(axis=1)
    # zyx is a mirror image of xyz: the angle changes its sign
    off = (-np.degrees(np.arctan2(sine, cosine)) - fold.dihedral[0] + 180) % 360 - 180
    return np.asarray(
        joined[:-2]
        & joined[1:-1]
        & joined[2:]
        & (np.abs(second[:-1] - fold.second[0]) <= fold.second[1])
        & (np.abs(second[1:] - fold.second[0]) <= fold.second[1])
        & (np.abs(third - fold.third[0]) <= fold.third[1])
        & (np.abs(off) <= fold.dihedral[1])
    )


def _runs(windows: Mask) -> NDArray[np.int64]:
    """(m, 2) first residue of each run of windows of four, and the one behind its last."""
    edges = np.diff(np.concatenate([[False], windows, [False]]).astype(int))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) + 3], axis=1)


def _residues_of(atoms: Atoms, index: NDArray[np.int64]) -> Mask:
    """Heavy atoms of the residues to which the atoms at ``index`` belong."""
    group, _ = residue_groups(atoms)
    return np.asarray(np.isin(group, group[index]) & atoms.heavy)


def _range(atoms: Atoms, index: NDArray[np.int64]) -> str:
    """``A 12-29``."""
    low, high = atoms.residue_number[index[[0, -1]]]
    return f"{atoms.chain[index[0]]} {low}" + (f"-{high}" if high > low else "")
