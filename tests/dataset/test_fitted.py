"""The model that EMDB names: where it comes to lie, and what stands for none."""

import json
from pathlib import Path

import pytest

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.fitted import fetch_fitted_model, with_fitted_model
from emdb_server import EmdbServer

LIMITS = {"timeout": 5, "retries": 1, "connections": 1, "most_gigabytes": 1}


def metadata(path: Path, *pdb_ids: str) -> Path:
    fitted = [{"pdb_id": x, "relationship": {"in_frame": "FULLOVERLAP"}} for x in pdb_ids]
    entry = {"emdb_id": "EMD-1001", "crossreferences": {"pdb_list": {"pdb_reference": fitted}}}
    path.write_text(json.dumps(entry))
    return path


def test_the_first_model_is_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "fitted"
    with EmdbServer(tmp_path / "archive") as server:
        for pdb in ("9aaa", "9bbb"):
            server.add_model(pdb, f"data_{pdb}\n#\n")
        archive = LIMITS | {"models": [server.pdb_mirror]}
        named = metadata(tmp_path / "metadata.json", "9BBB", "9aaa")
        assert fetch_fitted_model(named, folder, archive, cache=tmp_path) is not None
    files = with_fitted_model({"map": "a.map", "fitted": str(folder)})
    assert files == {"map": "a.map", "model": str(folder / "9bbb.cif.gz")}


def test_no_model_is_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "fitted"
    named = metadata(tmp_path / "metadata.json")
    assert fetch_fitted_model(named, folder, LIMITS | {"models": []}, cache=tmp_path) is None
    (folder / ".snakemake_timestamp").touch()
    assert with_fitted_model({"map": "a.map", "fitted": str(folder)}) == {"map": "a.map"}


def test_a_model_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    with EmdbServer(tmp_path / "archive") as server:
        archive = LIMITS | {"models": [server.pdb_mirror]}
        named = metadata(tmp_path / "metadata.json", "9aaa")
        with pytest.raises(CryoreadyError, match="9aaa"):
            fetch_fitted_model(named, tmp_path / "fitted", archive, cache=tmp_path)
