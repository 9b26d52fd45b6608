"""Skips are honest: allowed on a user's machine, failures where everything is to be installed."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

def test_skips():
    pytest.skip("no browser")

@pytest.mark.skipif(True, reason="no slurm")
def test_marked():
    pass

@pytest.mark.xfail(strict=True)
def test_known():
    assert False

def test_data(shared_data):
    assert (shared_data / "entries.tsv").is_file()

def test_gpu():
    pytest.skip("not on this machine: a GPU")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(TESTS)
    monkeypatch.setenv("CRYOREADY_DATA", str(pytester.path / "data"))
    monkeypatch.delenv("CRYOREADY_REQUIRE", raising=False)
    return pytester


def test_a_user_may_skip(suite: pytest.Pytester) -> None:
    suite.runpytest().assert_outcomes(skipped=4, xfailed=1)


def test_where_all_is_required_a_skip_fails(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYOREADY_REQUIRE", "all")
    result = suite.runpytest()
    result.assert_outcomes(failed=1, errors=1, skipped=2, xfailed=1)  # errors: in the set-up
    result.stdout.fnmatch_lines(["*skipped, but CRYOREADY_REQUIRE=all: no browser*"])


def test_where_all_is_required_a_skipped_module_fails(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYOREADY_REQUIRE", "all")
    suite.makepyfile(test_module='import pytest\n\npytest.importorskip("nowhere_to_be_found")')
    suite.runpytest("test_module.py").assert_outcomes(errors=1)


def test_data_are_found(suite: pytest.Pytester) -> None:
    suite.mkdir("data").joinpath("entries.tsv").touch()
    suite.runpytest().assert_outcomes(passed=1, skipped=3, xfailed=1)
