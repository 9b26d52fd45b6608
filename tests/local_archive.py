"""A local archive of real maps and models, in the layout of EMDB and of the PDB.

    python tests/local_archive.py FOLDER DATA [PORT]

serves the maps of ``DATA/entries.tsv`` until Ctrl-C and prints settings that point to it.
"""

import csv
import gzip
import json
import re
import sys
import threading
from pathlib import Path

import gemmi
import mrcfile
import yaml

from emdb_server import EmdbServer

RESOURCES = Path(__file__).parents[1] / "resources"
#: id: resolution (Å), map, model, PDB id
EMBEDDED = {
    "EMD-3488": (3.2, "EMD-3488/emd_3488.map.gz", "EMD-3488/5ni1.pdb.gz", "5ni1"),
    "EMD-5830": (3.8, "small/EMD-5830-A.map.gz", "small/EMD-5830-A.pdb.gz", "3j63"),
    "EMD-2566": (3.2, "small/EMD-2566-9.map.gz", "small/EMD-2566-9.pdb.gz", "3j6b"),
    "EMD-6272": (2.6, "small/EMD-6272-box.map.gz", "small/EMD-6272-box.pdb.gz", "3j9s"),
}


def embedded():
    """Rows (id, resolution, map, model, PDB id) of the entries that ship."""
    return [
        (emdb, resolution, RESOURCES / map_name, RESOURCES / model, pdb)
        for emdb, (resolution, map_name, model, pdb) in EMBEDDED.items()
    ]


def shared(data):
    """Rows of the development set, one for each EMDB id and for each PDB id."""
    with (data / "entries.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    found, models = {}, set()
    for row in rows:
        pdb = re.match(r"\d[A-Z0-9]{3}\b", row["pdb"])
        if row["emdb"].startswith("EMD-") and pdb and not {row["emdb"], pdb[0]} & {*found, *models}:
            models.add(pdb[0])
            files = (data / "maps" / row[kind] for kind in ("map", "model"))
            resolution = float(row["resolution_A"])
            found[row["emdb"]] = (row["emdb"], resolution, *files, pdb[0].lower())
    return list(found.values())


def metadata(emdb, resolution, path, pdb, **changes):
    """EMDB's JSON of an entry, as far as it is used."""
    with mrcfile.open(path, permissive=True, header_only=True) as mrc:
        header = mrc.header
        size = {"col": int(header.nx), "row": int(header.ny), "sec": int(header.nz)}
        spacing = float(header.cella.x / header.mx)
    reconstruction = {"resolution": {"valueOf_": str(resolution), "units": "Å"}}
    processing = [{"final_reconstruction": reconstruction}]
    facts = {
        "emdb_id": emdb,
        "admin": {
            "title": f"{pdb} in {emdb}",
            "current_status": {"code": {"valueOf_": "REL"}},
            "key_dates": {"map_release": "2016-01-01T00:00:00"},
        },
        "crossreferences": {
            "pdb_list": {
                "pdb_reference": [{"pdb_id": pdb, "relationship": {"in_frame": "FULLOVERLAP"}}]
            }
        },
        "map": {
            "dimensions": size,
            "pixel_spacing": {axis: {"units": "Å", "valueOf_": str(spacing)} for axis in "xyz"},
        },
        "structure_determination_list": {
            "structure_determination": [
                {"method": "singleParticle", "image_processing": processing}
            ]
        },
    }
    return facts | changes


def fasta(structure, pdb):
    """Records of a model in wwPDB's bulk file."""
    records = []
    for chain in structure[0]:
        polymer = chain.get_polymer()
        kind = polymer.check_polymer_type()
        if kind == gemmi.PolymerType.Unknown:
            continue
        text = gemmi.one_letter_code([residue.name for residue in polymer]).upper()
        name = "protein" if kind == gemmi.PolymerType.PeptideL else "na"
        records.append(f">{pdb}_{chain.name} mol:{name} length:{len(text)}  MADE\n{text}\n")
    return "".join(records)


def fill(server, rows):
    """Put maps, models, metadata, sequences and clusters of the rows into the archive."""
    sequences, clusters = [], []
    for emdb, resolution, path, model, pdb in rows:
        server.add_map(emdb, gzip.decompress(path.read_bytes()))
        server.add_metadata(emdb, metadata(emdb, resolution, path, pdb))
        structure = gemmi.read_structure(str(model))
        structure.setup_entities()
        structure.name = pdb.upper()
        server.add_model(pdb, structure.make_mmcif_document().as_string())
        sequences.append(fasta(structure, pdb))
        clusters.append(f"{pdb.upper()}_1 AF_AFP{pdb}F1_1\n")
    server.add_sequences("".join(sequences))
    server.add_clusters("".join(clusters))


def archive_settings(server, **changes):
    """The section `archive` of the configuration that points to the server."""
    return {
        "maps": [server.emdb_mirror],
        "metadata": [server.api_mirror],
        "models": [server.pdb_mirror],
        "sequences": [server.sequences_mirror],
        "clusters": [server.clusters_mirror],
        "timeout": 5,
        "retries": 1,
    } | changes


#: What the real maps of the tests, boxed and masked, need loosened.
LOOSE = {
    "counts": {"train": 5, "val": 2, "test": 3},
    "reserve": 4.0,
    "retries": 3,
    "metadata": {"resolution": [1.5, 6.0], "box": [16, 640]},
    "pair": {"overlap": 0.5, "cc_mask": 0.4, "residues": 20, "backbone_only": 0.3},
    "boxes": {"edge_voxels": 48, "stride_voxels": 24, "most": 8},
}


if __name__ == "__main__":
    with EmdbServer(sys.argv[1], int(sys.argv[3]) if sys.argv[3:] else 0) as running:
        fill(running, shared(Path(sys.argv[2])))
        settings = {"archive": archive_settings(running), "dataset": LOOSE}
        print(yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")
