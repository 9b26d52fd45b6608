"""Atomic models, PDB and mmCIF: the only importer of gemmi."""

import gzip
import zlib
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError

GZIP_MAGIC = b"\x1f\x8b"
POLYMERS = {
    gemmi.PolymerType.PeptideL: "protein",
    gemmi.PolymerType.PeptideD: "protein",
    gemmi.PolymerType.Dna: "nucleic",
    gemmi.PolymerType.Rna: "nucleic",
    gemmi.PolymerType.DnaRnaHybrid: "nucleic",
}


def read_model(path: str | Path) -> Atoms:
    """Read the first model of a PDB or mmCIF file (``.gz`` or not).

    All its atoms are kept: hydrogens, waters and every alternative location.

    Raises
    ------
    CryoreadyError
        if the file cannot be read or holds no atoms, or an atom has no finite position.
    """
    content = _content(path)
    try:
        structure = gemmi.read_structure_string(content, format=gemmi.CoorFormat.Detect)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise CryoreadyError(f"model {path} is neither PDB nor mmCIF: {reason}") from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise CryoreadyError(
            f"model {path} has no atoms (it begins with {content[:16]!r}): give PDB or mmCIF"
        )
    structure.setup_entities()
    atoms = _columns(structure[0])
    bad = np.flatnonzero(~np.isfinite(atoms.coords).all(axis=1))
    if len(bad):
        raise CryoreadyError(
            f"model {path} has {len(bad)} atoms without a finite position, the first is atom "
            f"{bad[0] + 1}: remove or rebuild them"
        )
    return atoms


def atomic_numbers(element: NDArray[np.str_]) -> NDArray[np.int64]:
    """Atomic number of each element symbol, (n,) -> (n,); deuterium is 1.

    Raises
    ------
    CryoreadyError
        if a symbol is not that of an element ("X" stands for unknown in PDB and mmCIF files).
    """
    symbols, index = np.unique(element, return_inverse=True)
    numbers = np.array([gemmi.Element(str(s)).atomic_number for s in symbols], dtype=np.int64)
    unknown = np.flatnonzero(numbers[index] == 0)
    if len(unknown):
        raise CryoreadyError(
            f"the model has {len(unknown)} atoms of no known element, the first is atom "
            f"{unknown[0] + 1} with {str(element[unknown[0]])!r}: name them, or remove them"
        )
    return numbers[index]


def _content(path: str | Path) -> bytes:
    """The bytes of a file, decompressed if it is gzipped."""
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CryoreadyError(
            f"model {path} is a broken gzip file ({error}): get it again"
        ) from error
    except OSError as error:
        raise CryoreadyError(f"model {path} cannot be read: {error.strerror or error}") from error


def _polymer(residue: gemmi.Residue, chain: str) -> str:
    """Which polymer a residue belongs to, in a chain whose polymer is ``chain``.

    What follows a TER is no polymer for gemmi, yet many models have a TER at every gap: there the
    record (ATOM, not HETATM) and the residue name decide.
    """
    is_polymer = residue.entity_type == gemmi.EntityType.Polymer
    if not is_polymer and residue.het_flag != "A":
        return ""
    known = gemmi.find_tabulated_residue(residue.name)
    if known.is_amino_acid():
        return "protein"
    if known.is_nucleic_acid():
        return "nucleic"
    return chain if is_polymer else ""


def _columns(model: gemmi.Model) -> Atoms:
    """The atoms of a model of which `setup_entities` has been called."""
    sites = []
    for chain in model:
        chain_polymer = POLYMERS.get(chain.get_polymer().check_polymer_type(), "")
        for residue in chain:
            polymer = _polymer(residue, chain_polymer)
            sites += [(atom, residue, chain.name, polymer) for atom in residue]
    atoms, residues, chains, polymers = zip(*sites, strict=True)
    xyz = np.array([atom.pos.tolist() for atom in atoms], dtype=np.float64)
    return Atoms(
        coords=np.ascontiguousarray(xyz[:, ::-1]),
        element=np.array([atom.element.name.upper() for atom in atoms]),
        b_iso=np.array([atom.b_iso for atom in atoms], dtype=np.float64),
        occupancy=np.array([atom.occ for atom in atoms], dtype=np.float64),
        name=np.array([atom.name for atom in atoms]),
        residue_name=np.array([residue.name for residue in residues]),
        chain=np.array(chains),
        residue_number=np.array([residue.seqid.num or 0 for residue in residues], dtype=np.int64),
        insertion_code=np.array([residue.seqid.icode.strip() for residue in residues]),
        altloc=np.array([atom.altloc.strip("\0") for atom in atoms]),
        polymer=np.array(polymers),
    )
