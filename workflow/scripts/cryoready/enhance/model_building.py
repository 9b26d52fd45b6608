"""Models built into an enhanced map by programs of others, where they are installed.

Command lines and file names as documented: ``phenix.map_to_model`` (doi 10.1038/s41592-018-0173-1,
phenix-online.org/documentation/reference/map_to_model.html) and ModelAngelo (doi
10.1038/s41586-024-07215-4, github.com/3dem/model-angelo).
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cryoready.core.atoms import Atoms
from cryoready.core.errors import CryoreadyError
from cryoready.core.residues import residue_groups
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.files.models import read_model

Sequences = dict[str, list[str]]

AMINO_ACIDS = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL MSE"
LETTERS = {
    "protein": dict(zip(AMINO_ACIDS.split(), "ARNDCQEGHILKMFPSTWYVM", strict=True)),
    "rna": {letter: letter for letter in "ACGU"},
    "dna": {f"D{letter}": letter for letter in "ACGT"},
}


@dataclass(frozen=True)
class BuiltModel:
    """What came of building: a ``model``, or the ``reason`` why there is none.

    Parameters
    ----------
    model
        path of the file, PDB or mmCIF.
    sha256
        of that file.
    residues
        in its chains.
    program, version
        that built it; the version is None if the program does not tell.
    command
        as it was run.
    seconds
        that it took.
    """

    reason: str | None = None
    model: str | None = None
    sha256: str | None = None
    residues: int | None = None
    program: str | None = None
    version: str | None = None
    command: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class _Job:
    """What a program is to do, with absolute paths; resolution in Å."""

    map: Path
    folder: Path
    resolution: float | None
    sequences: Sequences
    threads: int

    def fasta(self, kind: str) -> Path:
        return self.folder / f"{kind}.fasta"


@dataclass(frozen=True)
class _Program:
    """How a program is run, which inputs it cannot do without, what it leaves in the folder."""

    executable: str
    ask_version: tuple[str, ...]
    needs: tuple[str, ...]
    arguments: Callable[[_Job], tuple[str, ...]]
    models: tuple[str, ...]
    log: str  # beside what it prints


def _phenix(job: _Job) -> tuple[str, ...]:
    return (
        str(job.map),
        f"resolution={job.resolution:g}",
        f"seq_file={job.fasta('all')}",
        f"nproc={job.threads}",
        f"pdb_out={job.folder / 'phenix.pdb'}",
    )


def _model_angelo(job: _Job) -> tuple[str, ...]:
    where = ("-v", str(job.map), "-o", str(job.folder / "model_angelo"))
    if "protein" not in job.sequences:  # `build` insists on one
        return ("build_no_seq", *where)
    flags = {"protein": "-pf", "rna": "-rf", "dna": "-df"}
    given = [(flags[kind], str(job.fasta(kind))) for kind in job.sequences]
    return ("build", *where, *(part for pair in given for part in pair))


PROGRAMS = {
    "phenix": _Program(
        executable="phenix.map_to_model",
        ask_version=("phenix.version",),
        needs=("resolution", "sequences"),
        arguments=_phenix,
        models=("phenix.pdb", "phenix.cif"),  # mmCIF if PDB has no room for it
        log="phenix.log",
    ),
    "model_angelo": _Program(
        executable="model_angelo",
        ask_version=("model_angelo", "--version"),
        needs=(),
        arguments=_model_angelo,
        models=("model_angelo/model_angelo.cif",),  # named after its folder
        log="model_angelo/model_angelo.log",
    ),
}


def sequences_of(atoms: Atoms) -> Sequences:
    """One-letter sequences of a model's chains, each once, by kind: protein, rna, dna.

    Only residues of the model are in them: what the authors did not see is left out, as are
    modified residues other than selenomethionine.
    """
    residues = _residues(atoms)
    found: Sequences = {}
    for kind, letters in LETTERS.items():
        of_kind = residues.take(np.isin(residues.residue_name, list(letters)))
        names, index = np.unique(of_kind.residue_name, return_inverse=True)
        text = np.array([letters[name] for name in names], dtype="<U1")[index]
        chains = dict.fromkeys(of_kind.chain.tolist())
        unique = dict.fromkeys("".join(text[of_kind.chain == chain]) for chain in chains)
        if unique:
            found[kind] = list(unique)
    return found


def build_model(
    choice: str,
    enhanced_map: Path,
    folder: Path,
    *,
    resolution: float | None = None,
    sequences: Sequences,
    threads: int = 1,
) -> BuiltModel:
    """Build a model into a map, if that is wanted and can be done here.

    Parameters
    ----------
    choice
        "none", "phenix", "model_angelo", or "auto": the first of these two that can run.
    enhanced_map
        MRC file.
    folder
        where the program works and its model stays; emptied before it starts.
    resolution
        Å.
    sequences
        as from `sequences_of`, {} if unknown.
    threads
        that the program may use, if it can be told.

    Raises
    ------
    CryoreadyError
        if the program fails or leaves no model; its log stays in ``folder``.
    """
    if choice == "none":
        return BuiltModel(reason="not asked for: evaluation.build_model is none")
    job = _Job(enhanced_map.absolute(), folder.absolute(), resolution, sequences, threads)
    reasons = []
    for program in PROGRAMS.values() if choice == "auto" else [PROGRAMS[choice]]:
        lacking = [need for need in program.needs if not getattr(job, need)]
        if shutil.which(program.executable) is None:
            reasons.append(f"{program.executable} is not on the PATH")
        elif lacking:
            unknown = " and ".join(lacking)
            reasons.append(f"{program.executable} needs {unknown}, which the entry does not give")
        else:
            return _run(program, job, folder)
    return BuiltModel(reason="; ".join(reasons))


def write_built_model(built: BuiltModel, path: Path) -> str:
    """Write the outcome as JSON; returns the line that sums it up."""
    with written_whole(path) as part:
        part.write_text(json.dumps(asdict(built), indent=2) + "\n", encoding="utf-8")
    if built.model is None:
        return f"no model is built: {built.reason}"
    return (
        f"{built.program} {built.version or '(version unknown)'} built {built.residues} residues "
        f"in {built.seconds:.0f} s: {built.model}"
    )


def _residues(atoms: Atoms) -> Atoms:
    """One atom of each residue of protein or nucleic acid."""
    polymer = atoms.take(atoms.polymer != "")
    return polymer.take(residue_groups(polymer)[1])


def _run(program: _Program, job: _Job, folder: Path) -> BuiltModel:
    """Run a program in the job's folder, which is ``folder`` as the user knows it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    everything = [sequence for found in job.sequences.values() for sequence in found]
    for kind, found in {**job.sequences, "all": everything}.items():
        lines = [f">{kind}_{k}\n{sequence}\n" for k, sequence in enumerate(found, start=1)]
        job.fasta(kind).write_text("".join(lines))
    command = (program.executable, *program.arguments(job))
    start, log = time.monotonic(), folder / "program.log"
    with log.open("wb") as file:
        status = subprocess.run(
            command,
            cwd=job.folder,  # both leave files where they run
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode
    model = next((path for name in program.models if (path := folder / name).is_file()), None)
    if status or model is None:
        own_log = folder / program.log
        last = _last_line(own_log) or _last_line(log) or "it said nothing"
        raise CryoreadyError(
            f"{program.executable} {f'failed (status {status})' if status else 'built nothing'}: "
            f"{last}; all it said is in {folder}"
        )
    return BuiltModel(
        model=str(model),
        sha256=file_sha256(model),
        residues=len(_residues(read_model(model))),
        program=program.executable,
        version=_version(program),
        command=command,
        seconds=round(time.monotonic() - start, 1),
    )


def _environment() -> dict[str, str]:
    """Ours without PYTHONPATH, which names the scripts of this workflow: they would be imported."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _version(program: _Program) -> str | None:
    """The first dotted number that the program says when asked, None if there is none."""
    if shutil.which(program.ask_version[0]) is None:
        return None
    said = subprocess.run(
        program.ask_version,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    ).stdout
    number = re.search(r"\d+\.\d[\w.-]*", said)
    return number[0] if number else None


def _last_line(log: Path) -> str:
    """The last line that is not blank, "" if there is none."""
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
