"""Structures packed for training: what density needs of them, in one array mapped into memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.files.models import atomic_numbers, read_model

ATOM = np.dtype(
    [("coords", "<f4", 3), ("number", "u1"), ("occupancy", "<f4")]
)  # zyx in Å; atomic number; 0-1


@dataclass(frozen=True, eq=False)
class Structures:
    """Many structures, one after the other.

    Parameters
    ----------
    atoms
        (n,) of type `ATOM`.
    table
        one row a structure: id, first (its first atom), atoms (how many), resolution (Å, or NaN:
        to be drawn), sha256 of its file.
    """

    atoms: NDArray[np.void]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, k: int) -> NDArray[np.void]:
        """The atoms of structure ``k``."""
        first = int(self.table["first"].iloc[k])
        return self.atoms[first : first + int(self.table["atoms"].iloc[k])]

    @classmethod
    def open(cls, atoms: Path, table: Path) -> "Structures":
        """Open what `write` wrote, without reading the atoms.

        Raises
        ------
        CryoreadyError
            if the files do not belong together.
        """
        try:
            packed = np.load(atoms, mmap_mode="r", allow_pickle=False)
            index = pd.read_csv(table, sep="\t", dtype={"id": str})
            fits = packed.dtype == ATOM and len(packed) == int(index["atoms"].sum())
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise CryoreadyError(f"{atoms}: not packed structures ({error}); delete it") from error
        if not fits:
            raise CryoreadyError(f"{atoms} and {table} do not belong together; delete both")
        return cls(packed, index)

    def write(self, atoms: Path, table: Path) -> None:
        """Write both files, each whole."""
        with written_whole(table) as part:
            self.table.to_csv(part, sep="\t", index=False)
        with written_whole(atoms) as part, part.open("wb") as file:
            np.save(file, self.atoms)


def packed(atoms: Atoms) -> NDArray[np.void]:
    """The occupied heavy atoms as `ATOM`."""
    kept = atoms.take(atoms.heavy & (atoms.occupancy > 0))
    rows = np.empty(len(kept), ATOM)
    rows["coords"] = kept.coords - kept.coords.mean(axis=0)  # near 0, where float32 is exact
    rows["number"] = atomic_numbers(kept.element)
    rows["occupancy"] = kept.occupancy
    return rows


def pack(models: Mapping[str, str], resolutions: Mapping[str, float | None]) -> Structures:
    """Read ``models`` (id -> path) and pack them.

    Raises
    ------
    CryoreadyError
        if a model cannot be read, or has no heavy atom.
    """
    parts, rows, first = [], [], 0
    for name, path in models.items():
        part = packed(read_model(path))
        if len(part) == 0:
            raise CryoreadyError(f"{path}: no occupied heavy atom: nothing to train on")
        parts.append(part)
        rows.append((name, first, len(part), resolutions[name], file_sha256(path)))
        first += len(part)
    columns = ["id", "first", "atoms", "resolution", "sha256"]
    table = pd.DataFrame(rows, columns=columns).astype({"resolution": float})
    return Structures(np.concatenate(parts) if parts else np.empty(0, ATOM), table)
