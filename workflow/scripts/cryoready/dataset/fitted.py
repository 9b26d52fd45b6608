"""The model that EMDB names as fitted into a map.

It lies in a folder of its own, whose name is known before the answer is: so a plan of thousands of
steps need not be made anew when one entry's metadata arrive. The folder is empty if there is none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoready.dataset.archive_files import fetch_file
from cryoready.dataset.download import Download
from cryoready.dataset.metadata import read_metadata


def fetch_fitted_model(
    metadata: Path, folder: Path, archive: Mapping[str, Any], *, cache: Path
) -> Download | None:
    """Bring the first of the entry's models into ``folder``; None if the metadata name none.

    Parameters
    ----------
    metadata
        file of EMDB's JSON of the entry.
    folder
        is made, and stays empty where there is no model.
    archive, cache
        as in `fetch_file`, which also says what is raised.
    """
    ids = read_metadata(metadata).pdb_ids
    folder.mkdir(parents=True, exist_ok=True)
    if not ids:
        return None
    return fetch_file("models", ids[0], folder / f"{ids[0]}.cif.gz", archive, cache=cache)


def with_fitted_model(files: Mapping[str, str]) -> dict[str, str]:
    """Files by role, with the model in the folder ``fitted``, if it holds one, as ``model``."""
    found = {role: path for role, path in files.items() if role != "fitted"}
    if "fitted" in files:
        models = Path(files["fitted"]).glob("[0-9]*.cif.gz")
        found.update(("model", str(path)) for path in models)
    return found
