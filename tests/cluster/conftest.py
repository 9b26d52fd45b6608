"""A real Slurm on this machine, and checkouts whose jobs it runs through profiles/slurm."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from checkout import Checkout, copy_checkout

HERE = Path(__file__).parent
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch")
ABSENT = "not on this machine"  # see tests/conftest.py


def answers() -> bool:
    """Whether the test cluster runs."""
    if shutil.which("scontrol") is None:
        return False
    said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    return said.returncode == 0 and "= cryoready\n" in said.stdout


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """The test cluster: the running one, or one for this module; no two at a time."""
    if os.geteuid() != 0:
        pytest.skip(f"{ABSENT}: the rights of root, who alone can start a Slurm")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: make system-packages")
    with FileLock(Path(tempfile.gettempdir()) / "cryoready-test-slurm.lock"):
        if answers():
            yield
            return
        try:
            subprocess.run([HERE / "slurm_up.sh"], check=True)
            yield
        finally:
            subprocess.run([HERE / "slurm_down.sh"], check=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A fresh clone, shared by the tests of a module."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"))
