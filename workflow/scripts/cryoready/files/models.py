"""Atomic models, PDB and mmCIF: the only importer of gemmi."""

import gzip
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray, Vector

GZIP_MAGIC = b"\x1f\x8b"
MOST_ATOMS = 2_000_000  # of an assembly
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
    return _checked(_columns(_structure(path)[0]), path)


def read_assembly(path: str | Path, *, most_atoms: int = MOST_ATOMS) -> Atoms | None:
    """The first biological assembly of a PDB or mmCIF file (REMARK 350, ``pdbx_struct_assembly``).

    Copies of a chain have its name and a number of their own: A1, A2, ….

    Returns
    -------
    its atoms; None where the file describes none, where it is the coordinates as they are, where it
    has chains that are not in the file (one cut from a larger entry), or, with a warning, where it
    has more than ``most_atoms``.

    Raises
    ------
    CryoreadyError
        as `read_model`.
    """
    structure = _structure(path)
    if not structure.assemblies:
        return None
    assembly = structure.assemblies[0]
    deposited = _checked(_columns(structure[0]), path)
    members = _members(assembly, structure[0], deposited)
    operators = [generator.operators for generator in assembly.generators]
    atoms = sum(len(a) * len(o) for a, o in zip(members, operators, strict=True))
    same = all(operator.transform.is_identity() for part in operators for operator in part)
    if not all(map(len, members)) or atoms == 0 or (same and atoms == len(deposited)):
        return None
    if atoms > most_atoms:
        warnings.warn(
            f"model {path}: its assembly {assembly.name} of {atoms} atoms is not built, the limit "
            f"is {most_atoms}: the coordinates are used as they are",
            stacklevel=2,
        )
        return None
    moves = [(a, o.transform) for a, part in zip(members, operators, strict=True) for o in part]
    copies = [_moved(a, transform, k) for k, (a, transform) in enumerate(moves, start=1)]
    columns = {name: [vars(copy)[name] for copy in copies] for name in vars(deposited)}
    return Atoms(**{name: np.concatenate(parts) for name, parts in columns.items()})


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


def vdw_radii(element: NDArray[np.str_]) -> NDArray[np.float64]:
    """Van der Waals radius of each element symbol by gemmi's table, (n,) -> (n,) Å."""
    symbols, index = np.unique(element, return_inverse=True)
    return np.array([gemmi.Element(str(s)).vdw_r for s in symbols], dtype=np.float64)[index]


def scattering_density(
    atoms: Atoms, shape: tuple[int, int, int], cell: Vector, *, blur: float = 0.0
) -> FloatArray:
    """Electron scattering of neutral atoms on a periodic grid, by gemmi.

    Each atom is its five Gaussians (International Tables C, 4.3.2.2), times its occupancy, widened
    by its displacement (``u_aniso`` where there is one, else ``b_iso``).

    Parameters
    ----------
    atoms
        positions relative to voxel [0, 0, 0]; those outside of the cell are wrapped into it.
    shape
        (nz, ny, nx) of the grid.
    cell
        (3,) zyx edges, Å.
    blur
        Å², added to every B.

    Returns
    -------
    (nz, ny, nx); its sum × voxel volume is Σ occupancy·f(0), in Å.

    Raises
    ------
    CryoreadyError
        if an atom is of no known element.
    """
    calculator = gemmi.DensityCalculatorE()
    calculator.blur = blur
    z, y, x = cell.tolist()
    calculator.grid.set_unit_cell(gemmi.UnitCell(x, y, z, 90, 90, 90))
    calculator.grid.spacegroup = gemmi.SpaceGroup("P1")
    calculator.grid.set_size(*shape[::-1])
    calculator.add_model_density_to_grid(_gemmi_model(atoms))
    return np.array(calculator.grid, copy=False).T  # xyz in Fortran order is zyx in C order


# What an atom of a flat table is before its columns are filled in.
_BLANK = "ATOM      1  C   ALA A   1       0.000   0.000   0.000  1.00  0.00           C  \n"


def _gemmi_model(atoms: Atoms) -> gemmi.Model:
    """Positions, elements, occupancies and displacements as gemmi has them, without residues."""
    flat = gemmi.FlatStructure(gemmi.read_pdb_string(_BLANK * len(atoms)))
    flat.pos[:] = atoms.coords[:, ::-1]
    flat.elements[:] = atomic_numbers(atoms.element)
    flat.b_iso[:] = atoms.b_iso
    flat.occ[:] = atoms.occupancy
    model = flat.generate_structure()[0]
    anisotropic = np.flatnonzero(atoms.u_aniso.any(axis=(1, 2)))
    if len(anisotropic):  # a flat table has no column for them
        sites = [site.atom for site in model.all()]
        for k in anisotropic:
            (zz, zy, zx), (_, yy, yx), (_, _, xx) = atoms.u_aniso[k].tolist()
            sites[k].aniso = gemmi.SMat33f(xx, yy, zz, yx, zx, zy)
    return model


def _structure(path: str | Path) -> gemmi.Structure:
    """A file with at least one atom in its first model, its entities set up."""
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
    return structure


def _checked(atoms: Atoms, path: str | Path) -> Atoms:
    """``atoms``, if all of them have a finite position."""
    bad = np.flatnonzero(~np.isfinite(atoms.coords).all(axis=1))
    if len(bad):
        raise CryoreadyError(
            f"model {path} has {len(bad)} atoms without a finite position, the first is atom "
            f"{bad[0] + 1}: remove or rebuild them"
        )
    return atoms


def _members(assembly: gemmi.Assembly, model: gemmi.Model, atoms: Atoms) -> list[Atoms]:
    """The atoms that each generator of an assembly copies; none if one of its chains is lacking.

    PDB files name chains, mmCIF files subchains (``label_asym_id``).
    """
    residues = [residue for chain in model for residue in chain]
    subchain = np.repeat([r.subchain for r in residues], [len(r) for r in residues])
    members = []
    for generator in assembly.generators:
        names = generator.chains or generator.subchains
        labels = atoms.chain if generator.chains else subchain
        there = set(names) <= set(labels.tolist())
        members.append(atoms.take(np.isin(labels, names if there else [])))
    return members


def _moved(atoms: Atoms, transform: gemmi.Transform, number: int) -> Atoms:
    """``atoms`` rotated and shifted, with ``number`` added to the names of their chains."""
    rotation = np.array(transform.mat.tolist())[::-1, ::-1]
    return replace(
        atoms,
        coords=atoms.coords @ rotation.T + transform.vec.tolist()[::-1],
        u_aniso=rotation @ atoms.u_aniso @ rotation.T,
        chain=np.char.add(atoms.chain, str(number)),
    )


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
    u = np.array([atom.aniso.elements_pdb() for atom in atoms], dtype=np.float64)
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
        # gemmi has xx, yy, zz, xy, xz, yz
        u_aniso=u[:, [[2, 5, 4], [5, 1, 3], [4, 3, 0]]],
    )
