"""Sequences and clusters of a local archive, and what is made where it has none."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from kin import AMINO_ACIDS, drawn, mutated, needs_mmseqs

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.archive_relatives import fetch_relatives
from cryoready.files.models import read_model
from cryoready.files.sequences import sequences

LIMITS = {"timeout": 5, "retries": 0, "connections": 2, "most_gigabytes": 1.0}
GLOBIN = Path(__file__).parents[2] / "resources/EMD-3488/5ni1.pdb.gz"


def fasta(**chains):
    lines = (f">{k} mol:protein length:{len(v)}  X\n{v}\n" for k, v in chains.items())
    return "".join(lines)


@pytest.fixture
def relatives(emdb_server, tmp_path):
    """`fetch_relatives`; 1aaa and 1bbb are related, 1ccc is not."""
    first, other = drawn(AMINO_ACIDS, 120, seed=1), drawn(AMINO_ACIDS, 130, seed=2)
    chains = {"1aaa_A": first, "1bbb_A": mutated(first, 0.3, AMINO_ACIDS), "1ccc_A": other}
    emdb_server.add_sequences(fasta(**chains))
    emdb_server.add_clusters("1AAA_1 1BBB_1 AF_AFP1_1\n1CCC_1\n9ZZZ_1\n")

    def fetch(models=None, *, identity=0.3, e_value=1e-3, **archive):
        archive = {
            **{"sequences": [emdb_server.sequences_mirror], "checksums": None},
            **{"clusters": [emdb_server.clusters_mirror]},
            **(LIMITS | archive),
        }
        dataset = {"retries": 0, "relatives": {"identity": identity, "e_value": e_value}}
        config = {"cache": str(tmp_path / "downloads"), "archive": archive, "dataset": dataset}
        wanted = {"1aaa", "1bbb", "1ccc"}
        return fetch_relatives(wanted, models or {}, config, threads=1)

    return fetch


def test_published_clusters_are_used(relatives, emdb_server):
    found = relatives()
    assert found.clusters == {"1aaa": {"1AAA_1"}, "1bbb": {"1AAA_1"}, "1ccc": {"1CCC_1"}}
    assert set(found.chains["protein"]) == {"1aaa_A", "1bbb_A", "1ccc_A"}
    assert found.origin == "RCSB at 0.3 identity"
    assert set(found.sha256) == {"pdb_seqres.txt.gz", "clusters-by-entity-30.txt"}
    emdb_server.requests.clear()
    assert relatives().clusters == found.clusters
    assert not emdb_server.requests


def without(server, what):
    """Settings with which there are no published clusters."""
    if what == "404":
        server.faults["clusters-by-entity"] = ["404"]
    if what == "of others":
        server.add_clusters("9ZZZ_1 9YYY_1\n")
    return {"none configured": {"clusters": []}, "other identity": {"identity": 0.5}}.get(what, {})


@needs_mmseqs
@pytest.mark.parametrize("what", ["404", "of others", "none configured", "other identity"])
def test_without_published_clusters_mmseqs_makes_its_own(relatives, emdb_server, what):
    found = relatives(**without(emdb_server, what))
    assert found.clusters["1aaa"] & found.clusters["1bbb"]
    assert not found.clusters["1aaa"] & found.clusters["1ccc"]
    identity = 0.5 if what == "other identity" else 0.3
    assert found.origin.startswith(f"MMseqs2 at {identity:g} identity (")


@needs_mmseqs
def test_the_users_own_models_are_compared_too(relatives, emdb_server):
    """One that has no PDB id: its chains have the name of its row."""
    chains = sequences(read_model(GLOBIN))
    emdb_server.add_sequences(fasta(**{"1aaa_A": mutated(chains["B"], 0.4, AMINO_ACIDS)}))
    found = relatives({"Mine-1": str(GLOBIN)}, clusters=[])
    assert found.chains["protein"]["mine-1_B"] == chains["B"]
    assert found.clusters["mine-1"] & found.clusters["1aaa"]


def test_without_sequences_there_are_no_relatives(relatives, emdb_server):
    emdb_server.faults["pdb_seqres"] = ["404"]
    with pytest.raises(CryoreadyError, match="no such entry"):
        relatives()


@needs_mmseqs
def test_without_a_search_published_clusters_would_miss_the_users_own_models(relatives):
    found = relatives({"mine": str(GLOBIN)}, e_value=None)
    assert "RCSB's do not have the models of the sheet" in found.origin
    assert found.clusters["mine"]


def test_what_was_fetched_on_another_day_is_fetched_anew(relatives, emdb_server, monkeypatch):
    relatives()
    asked = len(emdb_server.requests)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + timedelta(days=1)

    monkeypatch.setattr("cryoready.dataset.archive_relatives.datetime", Tomorrow)
    relatives()
    assert len(emdb_server.requests) == 2 * asked == 4
