"""Atoms as columns: all that density simulation and the metrics need of a structure."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Atoms:
    """A structure as parallel columns, one row per atom (altlocs and waters included).

    Parameters
    ----------
    coords
        (n, 3) zyx, Å.
    element
        (n,) symbols in capitals ("C", "ZN").
    b_iso
        (n,) Å².
    occupancy
        (n,) 0-1.
    name
        (n,) atom names ("CA").
    residue_name
        (n,) ("ALA").
    chain
        (n,) author chain id.
    residue_number
        (n,) author sequence number.
    insertion_code
        (n,) one letter or "".
    altloc
        (n,) one letter or "".
    polymer
        (n,) "protein", "nucleic" or "" (ligands, ions, waters, glycans).
    u_aniso
        (n, 3, 3) anisotropic displacements, zyx, Å²; zeros where an atom has ``b_iso`` only.
    """

    coords: NDArray[np.float64]
    element: NDArray[np.str_]
    b_iso: NDArray[np.float64]
    occupancy: NDArray[np.float64]
    name: NDArray[np.str_]
    residue_name: NDArray[np.str_]
    chain: NDArray[np.str_]
    residue_number: NDArray[np.int64]
    insertion_code: NDArray[np.str_]
    altloc: NDArray[np.str_]
    polymer: NDArray[np.str_]
    u_aniso: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3, 3)))

    def __post_init__(self) -> None:
        if len(self.u_aniso) == 0:
            object.__setattr__(self, "u_aniso", np.zeros((len(self.coords), 3, 3)))

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def heavy(self) -> NDArray[np.bool_]:
        """(n,) all but hydrogen and deuterium."""
        return ~np.isin(self.element, ("H", "D"))

    def take(self, index: NDArray[Any]) -> "Atoms":
        """The atoms at ``index`` (a boolean mask or integer positions)."""
        return Atoms(**{column: values[index] for column, values in vars(self).items()})
