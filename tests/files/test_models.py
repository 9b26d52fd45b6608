"""Model files."""

import gzip
from dataclasses import replace

import gemmi
import numpy as np
import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.files.models import (
    atomic_numbers,
    read_assembly,
    read_model,
    scattering_density,
    vdw_radii,
)

PDB = """\
MODEL        1
ATOM      1  N   GLY A  -1      11.000  22.000  33.000  1.00 10.00           N
ATOM      2  CA  GLY A  -1      12.400  22.000  33.000  1.00 11.00           C
ATOM      3  C   GLY A  -1      13.000  23.400  33.000  1.00 12.00           C
ATOM      4  O   GLY A  -1      12.300  24.400  33.000  1.00 13.00           O
ATOM      5  N   SER A   5A     14.300  23.500  33.000  1.00 14.00           N
ATOM      6  CA ASER A   5A     15.000  24.800  33.100  0.60 15.00           C
ATOM      7  CA BSER A   5A     15.000  24.800  32.900  0.40 16.00           C
ATOM      8  D   SER A   5A     14.900  22.600  33.000  1.00 17.00           D
ATOM      9  C   SER A   5A     16.500  24.600  33.000  1.00 18.00           C
TER
ATOM     10  N   ALA A   9      20.000  24.600  33.000  1.00 18.00           N
ATOM     11  CA  ALA A   9      21.400  24.600  33.000  1.00 18.00           C
TER
ATOM     12  P     U B   1      30.000   1.000   2.000  1.00 20.00           P
ATOM     13  C1'   U B   1      31.000   1.000   2.000  1.00 20.00           C
ATOM     14  P     A B   2      32.000   1.000   2.000  1.00 20.00           P
TER
HETATM   15 ZN    ZN A 101      40.000  50.000  60.000  1.00 30.00          ZN
HETATM   16  N   GLY A 102      42.000  50.000  60.000  1.00 30.00           N
HETATM   17  O   HOH A 201      44.000  50.000  60.000  1.00 30.00           O
ENDMDL
MODEL        2
ATOM      1  N   GLY A  -1      99.000  99.000  99.000  1.00 10.00           N
ENDMDL
END
"""
CIF_FIELDS = (
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id"),
    *("label_asym_id", "label_entity_id", "label_seq_id", "pdbx_PDB_ins_code"),
    *("Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "B_iso_or_equiv"),
    *("auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num"),
)


def as_cif(pdb):
    """The same atoms as mmCIF, field by field from the PDB columns."""
    rows, model = [], 0
    entities = {"GLY": "1", "SER": "1", "ALA": "1", "U": "2", "A": "2", "ZN": "3", "HOH": "4"}
    for line in pdb.splitlines():
        model += line.startswith("MODEL")
        if not line.startswith(("ATOM", "HETATM")):
            continue
        ligand = line.startswith("HETATM")
        residue = line[17:20].strip()
        entity = "5" if ligand and residue == "GLY" else entities[residue]
        rows.append(
            [
                line[:6].strip(),
                line[6:11].strip(),
                line[76:78].strip(),
                f'"{line[12:16].strip()}"',
                line[16].strip() or ".",
                residue,
                f"{line[21]}{entity}",
                entity,
                "." if ligand else line[22:26].strip().replace("-1", "4"),
                line[26].strip() or "?",
                line[30:38].strip(),
                line[38:46].strip(),
                line[46:54].strip(),
                line[54:60].strip(),
                line[60:66].strip(),
                line[22:26].strip(),
                line[21],
                str(model),
            ]
        )
    header = ["data_test", "loop_", "_entity.id", "_entity.type", "1 polymer", "2 polymer"]
    header += ["3 non-polymer", "4 water", "5 non-polymer", "loop_", "_entity_poly.entity_id"]
    header += ["_entity_poly.type", "1 polypeptide(L)", "2 polyribonucleotide", "loop_"]
    fields = [f"_atom_site.{field}" for field in CIF_FIELDS]
    return "\n".join([*header, *fields, *(" ".join(row) for row in rows)]) + "\n"


@pytest.fixture(params=["pdb", "cif", "ent.gz", "cif.gz"])
def atoms(request, tmp_path):
    path = tmp_path / f"model.{request.param}"
    content = (as_cif(PDB) if "cif" in request.param else PDB).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return read_model(path)


def row(atoms, index):
    return {column: values[index].tolist() for column, values in vars(atoms).items()}


def test_every_atom_of_the_first_model(atoms):
    assert len(atoms) == 17
    assert sorted(atoms.altloc[atoms.name == "CA"].tolist()) == ["", "", "A", "B"]
    assert sorted(atoms.element.tolist()) == sorted(["D", *"CCCCCCC", *"NNNN", *"OO", *"PP", "ZN"])


def test_columns(atoms):
    """Coordinates come out zyx; numbers and insertion codes are those of the authors."""
    (index,) = np.flatnonzero(atoms.altloc == "B")
    assert row(atoms, index) == {
        "coords": [32.9, 24.8, 15.0],
        "element": "C",
        "b_iso": 16.0,
        "occupancy": pytest.approx(0.4),
        "name": "CA",
        "residue_name": "SER",
        "chain": "A",
        "residue_number": 5,
        "insertion_code": "A",
        "altloc": "B",
        "polymer": "protein",
        "u_aniso": [[0.0] * 3] * 3,
    }
    assert atoms.residue_number.min() == -1


def test_polymers(atoms):
    """A residue after a TER inside a chain is protein; a free amino acid (HETATM) is a ligand."""
    chains = atoms.take(atoms.residue_number < 100)
    pairs = set(zip(chains.residue_name.tolist(), chains.polymer.tolist(), strict=True))
    protein, rna = {"GLY", "SER", "ALA"}, {"U", "A"}
    assert pairs == {(r, "protein") for r in protein} | {(r, "nucleic") for r in rna}
    assert set(atoms.polymer[atoms.residue_number > 100]) == {""}


def test_a_modified_residue_belongs_to_its_polymer(tmp_path):
    path = tmp_path / "m.pdb"
    path.write_text(PDB.replace("SER A", "QQQ A"))
    atoms = read_model(path)
    assert set(atoms.polymer[atoms.residue_name == "QQQ"]) == {"protein"}


def test_atomic_numbers():
    numbers = atomic_numbers(np.array(["C", "ZN", "H", "D", "C", "SE", "U"]))
    assert numbers.tolist() == [6, 30, 1, 1, 6, 34, 92]


def test_no_atomic_number():
    with pytest.raises(CryoreadyError, match="2 atoms of no known element, the first is atom 2"):
        atomic_numbers(np.array(["C", "X", "X"]))


def test_van_der_waals_radii():
    radii = vdw_radii(np.array(["S", "ZN", "H", "D", "S"]))
    np.testing.assert_allclose(radii, [1.8, 1.39, 1.2, 1.2, 1.8], atol=1e-6)  # Å


ANISOU = """\
ATOM      1  N   GLY A   1      11.000  22.000  33.000  1.00 10.00           N
ATOM      2  CA  GLY A   1      12.400  22.000  33.000  1.00 11.00           C
ANISOU    2  CA  GLY A   1     1000   2000   3000    100    200    300       C
END
"""
ANISO_CIF = """\
loop_
_atom_site_anisotrop.id
_atom_site_anisotrop.U[1][1]
_atom_site_anisotrop.U[2][2]
_atom_site_anisotrop.U[3][3]
_atom_site_anisotrop.U[1][2]
_atom_site_anisotrop.U[1][3]
_atom_site_anisotrop.U[2][3]
2 0.1 0.2 0.3 0.01 0.02 0.03
"""


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_anisotropic_displacements_come_out_zyx(tmp_path, suffix):
    """U11 = xx comes last; an atom without has zeros. PDB files have them in 1e-4 Å²."""
    path = tmp_path / f"m.{suffix}"
    path.write_text(ANISOU if suffix == "pdb" else as_cif(ANISOU) + ANISO_CIF)
    u = read_model(path).u_aniso
    assert not u[0].any()
    expected = [[0.3, 0.03, 0.02], [0.03, 0.2, 0.01], [0.02, 0.01, 0.1]]
    np.testing.assert_allclose(u[1], expected, atol=1e-7)


def one_atom(tmp_path, **columns):
    path = tmp_path / "atom.pdb"
    path.write_text("\n".join(ANISOU.splitlines()[1:2]) + "\nEND\n")
    return replace(read_model(path), **columns)


GRID = (40, 44, 48), np.array([20.0, 17.6, 24.0])  # voxels of 0.5, 0.4, 0.5 Å


def moments(density):
    """Sum, mean position and covariance (zyx, Å²) of density well inside of the box."""
    shape, cell = GRID
    x = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3) * (cell / shape)
    weight = density.ravel() / density.sum()
    mean = weight @ x
    return (
        density.sum() * np.prod(cell / shape),
        mean,
        (x - mean).T @ ((x - mean) * weight[:, None]),
    )


# amplitudes (Å) and widths (Å²) of neutral carbon, International Tables C, table 4.3.2.2
CARBON = [
    (0.0893, 0.2465),
    (0.2563, 1.7100),
    (0.7570, 6.4094),
    (1.0487, 18.6113),
    (0.3575, 50.2523),
]


@pytest.mark.parametrize("blur", [0.0, 25.0])
def test_density_of_an_atom(tmp_path, blur):
    """Five Gaussians of variance (b + B)/8π²: weight, place and width."""
    centre = np.array([9.87, 8.12, 12.34])
    atoms = one_atom(
        tmp_path, coords=centre[None], b_iso=np.array([20.0]), occupancy=np.array([0.5])
    )
    density = scattering_density(atoms, *GRID, blur=blur)
    assert density.shape == GRID[0]
    total, mean, covariance = moments(density)
    f0 = sum(a for a, _ in CARBON)
    assert total == pytest.approx(0.5 * f0, rel=2e-3)
    np.testing.assert_allclose(mean, centre, atol=1e-3)
    width = (sum(a * b for a, b in CARBON) / f0 + 20 + blur) / (8 * np.pi**2)
    np.testing.assert_allclose(covariance, width * np.eye(3), atol=0.02 * width)


def test_density_of_an_atom_with_displacements(tmp_path):
    """Axes are not mixed up: the covariance is U on top of that of the atom at rest."""
    u = np.array([[0.5, 0.12, -0.07], [0.12, 0.3, 0.05], [-0.07, 0.05, 0.2]])
    atoms = one_atom(tmp_path, coords=np.array([[10.0, 8.8, 12.0]]), u_aniso=u[None])
    rest = sum(a * b for a, b in CARBON) / sum(a for a, _ in CARBON) / (8 * np.pi**2)
    _, _, covariance = moments(scattering_density(atoms, *GRID))
    np.testing.assert_allclose(covariance, u + rest * np.eye(3), atol=0.015)


def test_atoms_beyond_a_face_come_in_at_the_other(tmp_path):
    atoms = one_atom(tmp_path, coords=np.array([[0.3, 8.0, 12.0]]))
    beyond = replace(atoms, coords=atoms.coords + np.array([2, -1, 0]) * GRID[1])
    expected = scattering_density(atoms, *GRID)
    assert expected[-1, 20, 24] > 0.01 * expected.max()
    np.testing.assert_allclose(scattering_density(beyond, *GRID), expected, atol=1e-4)


PAGE = b"<!DOCTYPE html>\n<html><body>404 not found</body></html>\n"
ZIPPED = gzip.compress(PDB.encode())
BAD = {
    "empty.pdb": (b"", "neither|no atoms"),
    "page.pdb": (PAGE, "no atoms.*<!DOCTYPE"),
    "page.cif": (PAGE, "no atoms.*<!DOCTYPE"),
    "page.cif.gz": (gzip.compress(PAGE), "no atoms.*<!DOCTYPE"),
    "binary.pdb": (bytes(range(256)) * 8, "no atoms|neither"),
    "no_atoms.cif": (b"data_x\n_cell.length_a 1\n", "no atoms"),
    "other.json": (b'{"a": 1}', "neither PDB nor mmCIF"),
    "broken.cif": (as_cif(PDB)[:2000].encode() + b" 'x", "neither PDB nor mmCIF"),
    "short_line.pdb": (PDB[:500].encode(), "neither PDB nor mmCIF"),
    "truncated.pdb.gz": (ZIPPED[:200], "broken gzip"),
    "corrupt.pdb.gz": (ZIPPED[:100] + b"\xff" * 50 + ZIPPED[150:], "broken gzip"),
    "checksum.pdb.gz": (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "broken gzip"),
    "nan.pdb": (PDB.replace("  12.300", "     nan").encode(), "1 atoms without.* atom 4:"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CryoreadyError, match=message) as error:
        read_model(path)
    assert str(error.value).startswith(f"model {path} ")
    assert "\n" not in str(error.value)


def test_no_file_to_read(tmp_path):
    with pytest.raises(CryoreadyError, match=r"none.pdb cannot be read: No such file"):
        read_model(tmp_path / "none.pdb")
    with pytest.raises(CryoreadyError, match="cannot be read: Is a directory"):
        read_model(tmp_path)


def test_shared_models_with_a_ter_at_every_gap(shared_data):
    """3lvk has gaps marked by TER, 14_solution an RNA; by the record names both are all polymer.

    ``zcat 3lvk.pdb.gz | grep -c ^ATOM`` says 6604, ``... 14_solution_free_0_rpr ...`` 1240.
    """
    protein = read_model(shared_data / "structures" / "3lvk.pdb.gz")
    assert (protein.polymer == "protein").sum() == 6604
    rna = read_model(shared_data / "structures" / "14_solution_free_0_rpr.pdb.gz")
    assert (rna.polymer == "nucleic").sum() == 1240


def test_charges_do_not_change_the_scattering(tmp_path):
    """Electron scattering is that of neutral atoms, as in Phenix."""
    densities = []
    for charge in ("  ", "1-"):
        path = tmp_path / f"charge{charge.strip()}.pdb"
        path.write_text(
            "ATOM      1  OD1 ASP A   1       4.000   5.000   6.000  1.00 20.00           "
            f"O{charge}\nEND\n"
        )
        densities.append(scattering_density(read_model(path), (20, 20, 20), np.full(3, 12.0)))
    np.testing.assert_array_equal(*densities)


# x, y, z, of an operator that is no symmetry of its own inverse, beside the identity
TURN = [[0.0, -1.0, 0.0, 5.0], [0.6, 0.0, -0.8, 7.0], [0.8, 0.0, 0.6, 11.0]]
IDENTITY = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


def with_assembly(suffix, *operators, chains="A", pdb=ANISOU):
    """``pdb`` as file content that describes an assembly of its ``chains``."""
    if suffix == "pdb":
        head = ["REMARK 350 BIOMOLECULE: 1"]
        head += [f"REMARK 350 APPLY THE FOLLOWING TO CHAINS: {', '.join(chains)}"]
        for number, operator in enumerate(operators, start=1):
            for row, (x, y, z, t) in enumerate(operator, start=1):
                values = f"{x:10.6f}{y:10.6f}{z:10.6f}     {t:10.5f}"
                head.append(f"REMARK 350   BIOMT{row} {number:3d}{values}")
        return "\n".join([*head, pdb])
    numbers = [str(number) for number, _ in enumerate(operators, start=1)]
    fields = ["id", "type", *(f"matrix[{r}][{c}]" for r in (1, 2, 3) for c in (1, 2, 3))]
    fields += [f"vector[{r}]" for r in (1, 2, 3)]
    lines = ["_pdbx_struct_assembly.id 1", "_pdbx_struct_assembly.details ?"]
    lines += [f"_pdbx_struct_assembly.{x} ?" for x in ("method_details", "oligomeric_details")]
    lines += ["_pdbx_struct_assembly.oligomeric_count 2"]
    lines += ["_pdbx_struct_assembly_gen.assembly_id 1"]
    lines += [f"_pdbx_struct_assembly_gen.oper_expression {','.join(numbers)}"]
    lines += [f"_pdbx_struct_assembly_gen.asym_id_list {','.join(f'{c}1' for c in chains)}"]
    lines += ["loop_", *(f"_pdbx_struct_oper_list.{field}" for field in fields)]
    for number, operator in zip(numbers, operators, strict=True):
        values = [row[k] for row in operator for k in range(3)] + [row[3] for row in operator]
        lines.append(" ".join([number, "'point symmetry operation'", *map(str, values)]))
    return as_cif(pdb) + ANISO_CIF + "\n".join(lines) + "\n"


def assembly_of(tmp_path, content, **options):
    path = tmp_path / ("m.cif" if content.startswith("data_") else "m.pdb")
    path.write_text(content)
    return read_assembly(path, **options)


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_copies_of_an_assembly_are_turned_and_moved(tmp_path, suffix):
    """x' = Rx + t of the file, for (12.4, 22, 33): by hand -17, -11.96, 40.72; and U' = RURᵀ."""
    atoms = assembly_of(tmp_path, with_assembly(suffix, IDENTITY, TURN))
    assert atoms.chain.tolist() == ["A1", "A1", "A2", "A2"]
    assert atoms.name.tolist() == ["N", "CA"] * 2
    assert atoms.polymer.tolist() == ["protein"] * 4
    np.testing.assert_allclose(atoms.coords[1], [33, 22, 12.4])
    np.testing.assert_allclose(atoms.coords[3], [40.72, -11.96, -17.0])
    rotation = np.array(TURN)[:, :3]
    u = rotation @ [[0.1, 0.01, 0.02], [0.01, 0.2, 0.03], [0.02, 0.03, 0.3]] @ rotation.T
    np.testing.assert_allclose(atoms.u_aniso[3], u[::-1, ::-1], atol=1e-7)
    assert not atoms.u_aniso[2].any()


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_an_assembly_that_adds_nothing_or_is_of_another_file(tmp_path, suffix):
    assert assembly_of(tmp_path, ANISOU) is None
    assert assembly_of(tmp_path, with_assembly(suffix, IDENTITY)) is None
    assert assembly_of(tmp_path, with_assembly(suffix, IDENTITY, TURN, chains="AB")) is None


def test_an_assembly_of_a_part_of_the_chains(tmp_path):
    """The identity is worth having where it leaves out chain B."""
    two = ANISOU.replace("END\n", ANISOU.replace(" A ", " B "))
    atoms = assembly_of(tmp_path, with_assembly("pdb", IDENTITY, pdb=two))
    assert atoms.chain.tolist() == ["A1", "A1"]


def test_an_assembly_too_large_is_not_built(tmp_path):
    content = with_assembly("cif", IDENTITY, TURN)
    assert len(assembly_of(tmp_path, content, most_atoms=4)) == 4
    with pytest.warns(UserWarning, match="1 of 4 atoms is not built, the limit is 3"):
        assert assembly_of(tmp_path, content, most_atoms=3) is None


def test_the_assembly_of_a_shared_model_is_that_of_gemmi(shared_data):
    """14 copies from REMARK 350; order and names of the copies do not matter."""
    path = shared_data / "structures" / "5kmg.pdb.gz"
    structure = gemmi.read_structure(str(path))
    how = gemmi.HowToNameCopiedChain.AddNumber
    expected = gemmi.make_assembly(structure.assemblies[0], structure[0], how)
    atoms = read_assembly(path)
    assert len(atoms) == expected.count_atom_sites() == 14 * len(read_model(path))
    places = np.array([site.atom.pos.tolist() for site in expected.all()])[:, ::-1]
    ours, theirs = (xyz[np.lexsort(xyz.round(1).T)] for xyz in (atoms.coords, places))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
