import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for emdb_server, shared with tests/workflow

from emdb_server import EmdbServer


@pytest.fixture
def emdb_server(tmp_path, monkeypatch):
    """An empty local archive; proxies of the machine do not come between it and the tests."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with EmdbServer(tmp_path / "archive") as server:
        yield server
