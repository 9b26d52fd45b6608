"""Entries of EMDB that do not exist: as many, as varied and as imperfect as real ones.

Each is EMDB's JSON of an entry, cut to what a search of the catalogue asks for (see
`cryoready.dataset.catalogue.FIELDS`). The same `n` and `seed` give the same entries everywhere:
only `random.Random`, whose stream Python keeps, is drawn from.
"""

import random
from datetime import date, timedelta

METHODS = {  # EMDB's words, and about how many of 100 entries
    "singleParticle": 80,
    "tomography": 7,
    "subtomogramAveraging": 6,
    "helical": 6,
    "electronCrystallography": 1,
}
SPAN = date(2005, 1, 1), date(2026, 6, 30)  # of the map releases
SECTIONS = ("admin", "crossreferences", "map", "interpretation", "structure_determination_list")
MOLECULES = ("ribosome", "spike", "proteasome", "β-galactosidase", 'pore "open"', "GPCR\tcomplex")


def made_up_catalogue(n, seed=0):
    """``n`` entries in ascending order of id; of 100 about 45 are single particles with a model."""
    draw = random.Random(seed)
    numbers = sorted(draw.sample(range(100, 100 + max(2 * n, 70_000)), n))
    return [_entry(draw, f"EMD-{number:04d}", k / n) for k, number in enumerate(numbers)]


def bare(node):
    """A JSON document with every list of one replaced by what is in it."""
    if isinstance(node, dict):
        return {key: bare(value) for key, value in node.items()}
    if isinstance(node, list):
        return bare(node[0]) if len(node) == 1 else [bare(item) for item in node]
    return node


def _entry(draw, emdb_id, age):
    """One entry; ``age`` runs from 0 (the oldest) to 1: younger maps are better, with half-maps."""
    (method,) = draw.choices(list(METHODS), METHODS.values())
    entry = {
        "emdb_id": emdb_id,
        "admin": _admin(draw, age),
        "crossreferences": _crossreferences(draw, method),
        "map": _map(draw, emdb_id),
        "interpretation": _interpretation(draw, emdb_id, age),
        "structure_determination_list": _determination(draw, method, age),
    }
    if draw.random() < 0.03:
        entry[draw.choice(SECTIONS)] = None
    if draw.random() < 0.03:
        entry.pop(draw.choice(SECTIONS))
    return bare(entry) if draw.random() < 0.1 else entry


def _admin(draw, age):
    released = SPAN[0] + age * (SPAN[1] - SPAN[0])
    deposited = released - timedelta(draw.randrange(30, 600))
    (status,) = draw.choices(["REL", "HPUB", "OBS"], [97, 2, 1])
    dates = {"deposition": deposited, "header_release": released, "update": released}
    if status == "REL":
        dates["map_release"] = released
    molecule = draw.choice(MOLECULES)
    return {
        "current_status": {"code": {"valueOf_": status}, "date": f"{released}T00:00:00"},
        "key_dates": {key: f"{day}T00:00:00" for key, day in dates.items()},
        "title": f"Cryo-EM structure of the {molecule}, state {draw.randrange(1, 9)}",
    }


def _crossreferences(draw, method):
    likely = 0.6 if method in ("singleParticle", "helical") else 0.1
    count = draw.choices([1, 2, 5], [85, 12, 3])[0] if draw.random() < likely else 0
    references = [_reference(draw) for _ in range(count)]
    return {"pdb_list": {"pdb_reference": references}} if references else {}


def _reference(draw):
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pdb_id = draw.choice("123456789") + "".join(draw.choices(letters, k=3))
    (frame,) = draw.choices(["FULLOVERLAP", None, "PARTIALOVERLAP", "NOOVERLAP"], [88, 6, 4, 2])
    reference = {"instance_type": "pdb_reference", "pdb_id": pdb_id}
    return reference | ({"relationship": {"in_frame": frame}} if frame else {})


def _map(draw, emdb_id):
    edge = 4 * round(min(max(draw.lognormvariate(5.75, 0.35), 100), 800) / 4)  # median 314 voxels
    sides = [edge] * 3
    if draw.random() < 0.05:  # cut to the particle
        sides = [max(60, edge - draw.randrange(100)) for _ in range(3)]
    spacing = f"{draw.uniform(0.5, 2.0):.{draw.choice([2, 3, 5])}f}"
    levels = [{"instance_type": "contour", "primary": True, "source": "AUTHOR"}]
    if draw.random() < 0.96:
        levels[0]["level"] = round(draw.lognormvariate(-3, 1.5), 4)
    if draw.random() < 0.05:
        levels.insert(0, {"instance_type": "contour", "level": 0.5, "primary": False})
    return {
        "contour_list": {"contour": levels},
        "dimensions": dict(zip(("sec", "row", "col"), sides, strict=True)),
        "file": f"{emdb_id.lower().replace('-', '_')}.map.gz",
        "pixel_spacing": {axis: {"units": "Å", "valueOf_": spacing} for axis in "xyz"},
    }


def _interpretation(draw, emdb_id, age):
    if draw.random() > 1.2 * age:  # hardly any before 2010, nearly all since EMDB asks for them
        return {}
    names = [f"{emdb_id.lower().replace('-', '_')}_half_map_{k}.map.gz" for k in (1, 2)]
    halves = [{"file": name, "instance_type": "half_map"} for name in names]
    return {"half_map_list": {"half_map": halves}}


def _determination(draw, method, age):
    typical = 3.1 + 9 * (1 - age) ** 3  # Å: 12 in 2005, 3.1 in 2026
    if method in ("tomography", "subtomogramAveraging"):
        typical *= 2
    value = min(max(typical * draw.lognormvariate(0, 0.3), 1.5), 12.0)
    resolution = {"res_type": "BY AUTHOR", "units": "Å", "valueOf_": str(round(value, 2))}
    reconstruction = {"resolution": resolution} if draw.random() < 0.97 else {}
    processing = {"final_reconstruction": reconstruction, "image_processing_id": 1}
    determination = {"image_processing": [processing], "method": method}
    return {"structure_determination": [determination]}
