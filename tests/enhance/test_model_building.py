"""Which program builds, with which command line, and what becomes of its model or its failure.

Neither Phenix nor ModelAngelo can be installed where these tests run. Shell scripts of the same
names stand in for them: they insist on the documented command line and leave a finished model at
the documented place. That the real programs accept these command lines is not tested.
"""

import gzip
import json
from pathlib import Path

import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import file_sha256
from cryoready.enhance.model_building import build_model, sequences_of, write_built_model
from cryoready.files.models import read_model

RESOURCES = Path(__file__).parents[2] / "resources"
MODEL = RESOURCES / "small" / "EMD-5830-A.pdb.gz"  # 91 residues of one chain
SEQUENCES = {"protein": ["MGRARDAIL", "LLAD"], "rna": ["GGAC"]}

PHENIX = r"""
case "$1" in *.mrc) ;; *) echo "Sorry: no map"; exit 1;; esac
for option in "${@:2}"; do
  case "$option" in
    resolution=3.8|nproc=2) ;;
    seq_file=*) cat "${option#*=}" ;;
    pdb_out=*) out="${option#*=}" ;;
    *) echo "Sorry: unknown parameter $option"; exit 1;;
  esac
done
[ -f "$1" ] && touch temporary_file && cp "$MODEL" "$out"
"""
MODEL_ANGELO = r"""
if [ "$1" = --version ]; then echo "ModelAngelo 1.0.14"; exit; fi
command="$1"; shift
while [ $# -gt 0 ]; do
  case "$command $1" in
    *" -v") [ -f "$2" ] || exit 1 ;;
    *" -o") out="$2" ;;
    "build -pf") protein="$2" ;;
    "build -rf"|"build -df") grep -q '^[ACGTU]*$' "$2" || exit 1 ;;
    *) echo "model_angelo: error: unrecognized arguments: $1"; exit 2 ;;
  esac
  shift 2
done
[ "$command" = build_no_seq ] || grep -q '^MGRARDAIL$' "$protein" || exit 2
mkdir -p "$out" && cp "$MODEL" "$out/$(basename "$out").cif"
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that puts a stand-in onto an otherwise bare PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("MODEL", str(MODEL))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.mrc").write_bytes(b"")

    def install(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\n{script}")
        (folder / name).chmod(0o755)

    return install


def build(choice, *, sequences=SEQUENCES, resolution=3.8):
    where = Path("map.mrc"), Path("results/built_model")
    return build_model(choice, *where, resolution=resolution, sequences=sequences, threads=2)


def test_not_asked_for_and_not_installed_are_no_errors(install):
    assert build("none").reason == "not asked for: evaluation.build_model is none"
    assert build("phenix").reason == "phenix.map_to_model is not on the PATH"
    assert build("auto").reason == (
        "phenix.map_to_model is not on the PATH; model_angelo is not on the PATH"
    )
    assert not Path("results").exists()


def test_phenix_gets_map_resolution_and_all_sequences(install):
    install("phenix.map_to_model", PHENIX)
    install("phenix.version", "printf 'PHENIX: a suite\n Version: 1.21.2\n Release tag: 5419\n'")
    built = build("auto")
    assert (built.program, built.version, built.residues) == ("phenix.map_to_model", "1.21.2", 91)
    assert built.model == "results/built_model/phenix.pdb"
    assert built.sha256 == file_sha256(MODEL)
    assert Path("results/built_model/program.log").read_text().split() == (
        [">all_1", "MGRARDAIL", ">all_2", "LLAD", ">all_3", "GGAC"]
    )
    assert Path("results/built_model/temporary_file").exists()  # not where Snakemake runs


def test_model_angelo_gets_one_file_of_sequences_for_each_kind(install):
    install("model_angelo", MODEL_ANGELO)
    built = build("model_angelo")
    assert (built.program, built.version, built.residues) == ("model_angelo", "1.0.14", 91)
    assert built.command[1] == "build"
    assert built.model == "results/built_model/model_angelo/model_angelo.cif"


def test_without_a_sequence_phenix_is_skipped_and_model_angelo_does_without(install):
    install("phenix.map_to_model", PHENIX)
    reason = "phenix.map_to_model needs {}, which the entry does not give"
    assert build("phenix", sequences={}).reason == reason.format("sequences")
    assert build("phenix", resolution=None).reason == reason.format("resolution")
    install("model_angelo", MODEL_ANGELO)
    assert build("auto", sequences={}).command[1] == "build_no_seq"
    assert build("model_angelo", sequences={"rna": ["GGAC"]}).command[1] == "build_no_seq"


def test_an_earlier_model_is_not_taken_for_that_of_a_program_that_left_none(install):
    install("model_angelo", MODEL_ANGELO)
    build("model_angelo")
    install("model_angelo", "echo 'Enjoy!'")
    with pytest.raises(CryoreadyError, match=r"^model_angelo built nothing: Enjoy!; all it said"):
        build("model_angelo")


def test_a_failure_is_one_line_with_the_last_word_of_the_program(install):
    install("phenix.map_to_model", "echo reading; printf 'Sorry: map is flat\n\n' >&2; exit 3")
    with pytest.raises(CryoreadyError) as failure:
        build("phenix")
    assert str(failure.value) == (
        "phenix.map_to_model failed (status 3): Sorry: map is flat; "
        "all it said is in results/built_model"
    )
    log = (
        'mkdir -p "$5"; printf "Traceback\nRuntimeError: no GPU\n" > "$5/model_angelo.log"; exit 1'
    )
    install("model_angelo", f"echo banner; {log}")
    with pytest.raises(CryoreadyError, match=r"failed \(status 1\): RuntimeError: no GPU; all"):
        build("model_angelo", sequences={})


def test_scripts_of_the_workflow_are_not_in_the_program_s_import_path(install, monkeypatch):
    """Their names (`train`, `step`) would hide modules of the program."""
    monkeypatch.setenv("PYTHONPATH", "workflow/scripts")
    install("model_angelo", '[ -z "$PYTHONPATH" ] || exit 1\n' + MODEL_ANGELO)
    assert build("model_angelo").model


def test_sequences_of_chains_each_once():
    """5NI1: SEQRES of haemoglobin, chains A and C alike, B and D alike; all of it is modelled."""
    found = sequences_of(read_model(RESOURCES / "EMD-3488" / "5ni1.pdb.gz"))
    assert list(found) == ["protein"]
    alpha, beta = found["protein"]
    assert (len(alpha), len(beta)) == (141, 146)
    assert alpha.startswith("VLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHG")
    assert beta.endswith("VAGVANALAHKYH")


def test_sequences_of_rna(shared_data):
    path = shared_data / "maps" / "EMD-20755.pdb.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    names = [line[17:20].strip() for line in lines if line[12:16].strip() == "P"]
    assert sequences_of(read_model(path)) == {"rna": ["".join(names)]}


def test_the_outcome_as_a_file(install):
    install("model_angelo", MODEL_ANGELO)
    card = Path("built_model.json")
    line = write_built_model(build("model_angelo"), card)
    assert line.startswith("model_angelo 1.0.14 built 91 residues in ")
    assert read_model(json.loads(card.read_text())["model"]).chain[0] == "A"
    assert write_built_model(build("none"), card).startswith("no model is built: not asked for")
    assert json.loads(card.read_text())["model"] is None
