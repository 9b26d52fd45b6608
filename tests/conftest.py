"""Where the tests find larger data, and when a skipped test is a failed one."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).parents[1]
#: A skip whose reason begins so is allowed everywhere: it asks for what cannot be installed.
ABSENT = "not on this machine"

# A shell ignores Ctrl-C for what it starts in the background: so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with ``entries.tsv`` and ``maps/``: real maps too large to ship."""
    named = os.environ.get("CRYOREADY_DATA")
    places = [Path(named)] if named else [ROOT / "data", ROOT.parent / "shared" / "data"]
    for folder in places:
        if (folder / "entries.tsv").is_file():
            return folder
    pytest.skip(f"{ABSENT}: larger data in {places[0]} (or set CRYOREADY_DATA)")


def fail_if_required(report: Report) -> Report:
    """With CRYOREADY_REQUIRE=all, a test skipped for want of something installable has failed."""
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if os.environ.get("CRYOREADY_REQUIRE") == "all" and not reason.startswith(ABSENT):
            report.outcome = "failed"
            report.longrepr = f"skipped, but CRYOREADY_REQUIRE=all: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """One test."""
    return fail_if_required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module, as by `pytest.importorskip`."""
    return fail_if_required((yield))
