"""All scores of one map against one model; what maps on one grid share is computed once."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import residue_groups
from cryoready.core.volume import FloatArray, Grid, Vector, Volume
from cryoready.density.model_mask import model_mask, smooth_mask
from cryoready.density.structure_factors import ComplexArray, model_density, structure_factors
from cryoready.metrics.correlation import group_correlation, map_model_correlation
from cryoready.metrics.fsc import FscCurve, Shells, d99, fourier_shell_correlation
from cryoready.metrics.local_correlation import local_correlation, residue_values
from cryoready.metrics.qscore import Probes, place_probes, qscore

MASK_RADIUS_RATIO = 2.0  # of the smooth mask's radius to the resolution, as in phenix.mtriage
CAPS = ("ACE", "FOR", "NH2", "NME")  # ends of a chain that are no amino acids
SMALLEST_RADIUS, LARGEST_RADIUS = 3.0, 10.0  # Å, around atoms for the CC of a residue

Row = dict[str, float | None]
FSC_KEYS = tuple(
    f"d_fsc_model_{threshold}_{mask}"
    for mask in ("masked", "unmasked")
    for threshold in ("05", "0143")
)
KEYS = (
    *FSC_KEYS,
    *("d99_unmasked", "fsc_inside_resolution", "cc_mask", "cc_volume", "cc_peaks", "cc_box"),
    *("q_mean", "q_mean_protein", "q_sigma", "fsc_0143_ratio"),
)


@dataclass(frozen=True, eq=False)
class Model:
    """A model as the scores want it, wherever the maps lie.

    Parameters
    ----------
    atoms
        all of them.
    heavy
        those that Q-scores and residues are about.
    probes
        of ``heavy``.
    residue, chain
        (n,) number of the residue and of the chain of each heavy atom.
    first
        (m,) first atom of each residue.
    """

    atoms: Atoms
    heavy: Atoms
    probes: Probes
    residue: NDArray[np.int64]
    chain: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, atoms: Atoms) -> "Model":
        """Prepare ``atoms``; `CryoreadyError` if none of them is heavy, or none is occupied."""
        if not atoms.heavy.any():
            raise CryoreadyError(
                f"the model has no atoms left: none of its {len(atoms)} is heavier than hydrogen; "
                "give a model with its heavy atoms"
            )
        if not (atoms.occupancy > 0).any():
            raise CryoreadyError(
                f"the model has no atoms left: all {len(atoms)} have occupancy 0; give others"
            )
        heavy = atoms.take(atoms.heavy)
        residue, first = residue_groups(heavy)
        _, chain = np.unique(heavy.chain, return_inverse=True)
        return cls(atoms, heavy, place_probes(heavy.coords), residue, chain, first)

    @property
    def protein(self) -> NDArray[np.bool_]:
        """(n,) heavy atoms of amino acids."""
        return (self.heavy.polymer == "protein") & ~np.isin(self.heavy.residue_name, CAPS)


@dataclass(frozen=True, eq=False)
class PlacedModel:
    """A model on the grid of a map.

    Parameters
    ----------
    model
        the model.
    grid
        of the map.
    shells
        reflections of its box.
    factors
        (nz, ny, nx // 2 + 1) structure factors.
    density
        (nz, ny, nx) truncated at ``resolution``; None if that is not known.
    inside
        (nz, ny, nx) voxels of the model.
    soft
        (nz, ny, nx) smooth mask for the masked FSC.
    resolution
        Å, as reported.
    """

    model: Model
    grid: Grid
    shells: Shells
    factors: ComplexArray
    density: FloatArray | None
    inside: NDArray[np.bool_]
    soft: FloatArray
    resolution: float | None


def place(model: Model, grid: Grid, *, resolution: float | None, mask_radius: float) -> PlacedModel:
    """``model`` on ``grid``; ``mask_radius`` (Å) is that of the smooth mask."""
    shells = Shells.of(grid)
    factors = structure_factors(model.atoms, grid)
    density = None if resolution is None else model_density(factors, grid, resolution=resolution)
    return PlacedModel(
        model=model,
        grid=grid,
        shells=shells,
        factors=factors,
        density=density,
        inside=model_mask(model.atoms, grid),
        soft=smooth_mask(model.atoms, grid, radius=mask_radius),
        resolution=resolution,
    )


@dataclass
class Placements:
    """A model on every grid on which a map lies; each is made once.

    Parameters
    ----------
    model
        the model.
    resolution
        Å, as reported.
    mask_radius
        Å, of the smooth mask.
    """

    model: Model
    resolution: float | None
    mask_radius: float
    made: list[PlacedModel] = field(default_factory=list)

    def on(self, grid: Grid) -> PlacedModel:
        """The model on ``grid``."""
        found = next((placed for placed in self.made if placed.grid.same_as(grid)), None)
        if found is None:
            found = place(
                self.model, grid, resolution=self.resolution, mask_radius=self.mask_radius
            )
            self.made.append(found)
        return found


@dataclass(frozen=True, eq=False)
class MapScores:
    """What is known of one map.

    Parameters
    ----------
    row
        `KEYS` -> value; None where it cannot be computed.
    curves
        map-model FSC, "masked" and "unmasked".
    q
        (n,) of each heavy atom.
    residue_cc, chain_cc, local_cc
        (m,) correlation with the model around each residue and each chain, and at the atoms of each
        residue; NaN where it has none, None without a resolution.
    """

    row: Row
    curves: dict[str, FscCurve]
    q: Vector
    residue_cc: Vector | None
    chain_cc: Vector | None
    local_cc: Vector | None


def score(volume: Volume, placed: PlacedModel, *, sigma: float, local_radius: float) -> MapScores:
    """Score a map on the grid of ``placed``.

    Parameters
    ----------
    volume
        the map.
    placed
        the model on its grid.
    sigma
        Å, of the Q-score.
    local_radius
        Å, of the window of the local correlation.
    """
    shells, resolution, model = placed.shells, placed.resolution, placed.model
    row: Row = dict.fromkeys(KEYS)
    coefficients = shells.pick(volume.data)
    row["d99_unmasked"] = d99(coefficients, shells)
    factors = placed.factors.ravel()[shells.order]
    masked = shells.pick(volume.data * placed.soft)
    curves = {
        "masked": fourier_shell_correlation(masked, factors, shells),
        "unmasked": fourier_shell_correlation(coefficients, factors, shells),
    }
    for mask, curve in curves.items():
        row[f"d_fsc_model_05_{mask}"] = curve.resolution(0.5)
        row[f"d_fsc_model_0143_{mask}"] = curve.resolution(0.143)
    q = qscore(volume, model.probes, sigma=sigma)
    protein = model.protein
    row |= {"q_mean": float(q.mean()), "q_sigma": sigma}
    row["q_mean_protein"] = float(q[protein].mean()) if protein.any() else None
    if resolution is None or placed.density is None:
        return MapScores(row, curves, q, None, None, None)
    row["fsc_inside_resolution"] = curves["masked"].mean_inside(resolution)
    crossing = row["d_fsc_model_0143_masked"]
    row["fsc_0143_ratio"] = None if crossing is None else crossing / resolution
    cc = map_model_correlation(volume.data, placed.density, placed.inside)
    row |= {f"cc_{region}": value for region, value in vars(cc).items()}
    radius = min(max(resolution, SMALLEST_RADIUS), LARGEST_RADIUS)
    around = (placed.grid, model.heavy.coords)
    residue_cc, chain_cc = (
        group_correlation([volume.data], placed.density, *around, group, radius=radius)[0]
        for group in (model.residue, model.chain)
    )
    local = local_correlation(volume, Volume.on(placed.grid, placed.density), radius=local_radius)
    local_cc = residue_values(local, placed.grid, model.heavy)
    return MapScores(row, curves, q, residue_cc, chain_cc, local_cc)


def unscored(volume: Volume) -> Row:
    """The row of a map without a model: what the map alone says."""
    return dict.fromkeys(KEYS) | {"d99_unmasked": map_d99(volume)}


def map_d99(volume: Volume) -> float:
    """`d99` of a map, Å."""
    shells = Shells.of(volume.grid)
    return d99(shells.pick(volume.data), shells)
