"""A fingerprint has to change with the science, and with nothing else."""

import os
from pathlib import Path

import pytest

from cryoready.core.fingerprint import fingerprint

SCRIPT = """\
from cryoready.training.loop import train

train(snakemake.input, lr=snakemake.params.lr)
"""
LOOP = '''\
"""The loop."""

from cryoready.core import boxes

EDGE = 48  # voxels


def train(path, lr):
    """Train."""
    from cryoready.core.late import late

    return boxes.cut(path, EDGE) * lr + late()
'''
BOXES = "def cut(path, edge):\n    return edge // 2\n"
FILES = {
    "train.py": SCRIPT,
    "cryoready/__init__.py": '"""The package."""\n\n__version__ = "1.0"\n',
    "cryoready/training/__init__.py": "",
    "cryoready/training/loop.py": LOOP,
    "cryoready/core/__init__.py": "",
    "cryoready/core/boxes.py": BOXES,
    "cryoready/core/late.py": "from . import deep\n\nlate = deep.value\n",
    "cryoready/core/deep.py": "def value():\n    return None\n",
    "cryoready/core/unused.py": "X = 1\n",
}


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def edit(scripts: Path, name: str, old: str, new: str) -> None:
    text = (scripts / name).read_text()
    assert old in text
    (scripts / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("train.py", "train(snake", "# why\ntrain(snake", id="comment in the script"),
        pytest.param("cryoready/training/loop.py", "# voxels", "# Å", id="comment in a module"),
        pytest.param("cryoready/training/loop.py", '"""Train."""', '"""Do."""', id="docstring"),
        pytest.param("cryoready/training/loop.py", '    """Train."""\n', "", id="no docstring"),
        pytest.param("cryoready/training/loop.py", '"""The loop."""', "", id="module docstring"),
        pytest.param(
            "cryoready/training/loop.py", "(path, lr)", "(\n    path, lr,\n)", id="layout"
        ),
        pytest.param("cryoready/core/boxes.py", "edge // 2", "(edge//0x2)", id="spelling"),
        pytest.param("cryoready/core/unused.py", "1", "2", id="a module not imported"),
        pytest.param("cryoready/__init__.py", "1.0", "2.0", id="version"),
    ],
)
def test_what_computes_the_same_keeps_the_fingerprint(
    scripts: Path, name: str, old: str, new: str
) -> None:
    before = fingerprint(scripts / "train.py")
    edit(scripts, name, old, new)
    assert fingerprint(scripts / "train.py") == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("train.py", "params.lr", "params.rate", id="name in the script"),
        pytest.param("cryoready/training/loop.py", "48", "49", id="constant"),
        pytest.param("cryoready/training/loop.py", "48", "48.0", id="type of a constant"),
        pytest.param("cryoready/training/loop.py", "* lr", "/ lr", id="operator"),
        pytest.param("cryoready/core/boxes.py", "//", "%", id="two levels deep"),
        pytest.param("cryoready/core/late.py", "deep.value", "deep.other", id="late import"),
        pytest.param("cryoready/core/deep.py", "None", "0", id="relative import, None to 0"),
        pytest.param("cryoready/core/deep.py", "return None", "return", id="explicit None"),
        pytest.param("cryoready/core/__init__.py", "", "import numpy\n", id="package on the way"),
    ],
)
def test_what_may_compute_something_else_changes_it(
    scripts: Path, name: str, old: str, new: str
) -> None:
    before = fingerprint(scripts / "train.py")
    edit(scripts, name, old, new)
    assert fingerprint(scripts / "train.py") != before


def test_a_fresh_checkout_keeps_it(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("clone") / "scripts"
    scripts.rename(elsewhere)
    before = fingerprint(elsewhere / "train.py")
    for file in elsewhere.rglob("*.py"):
        os.utime(file, (0, 0))
    elsewhere.rename(scripts)
    assert fingerprint(scripts / "train.py") == before


def test_modules_that_import_each_other_end(scripts: Path) -> None:
    edit(
        scripts, "cryoready/core/boxes.py", "def cut", "import cryoready.training.loop\n\n\ndef cut"
    )
    before = fingerprint(scripts / "train.py")
    edit(scripts, "cryoready/training/loop.py", "48", "60")
    assert fingerprint(scripts / "train.py") != before


def test_same_on_every_python(scripts: Path) -> None:
    # From this function under Python 3.11, 3.12 and 3.13: another value retrains every network
    # whose owner updates Python.
    assert fingerprint(scripts / "train.py") == "60560fda601aa5dd"


def test_a_module_left_out_does_not_count_nor_what_only_it_imports(scripts: Path) -> None:
    late = "cryoready.core.late"
    before, without = fingerprint(scripts / "train.py"), fingerprint(scripts / "train.py", [late])
    assert without != before
    edit(scripts, "cryoready/core/deep.py", "None", "0")
    assert fingerprint(scripts / "train.py", [late]) == without
    edit(scripts, "cryoready/core/boxes.py", "//", "%")
    assert fingerprint(scripts / "train.py", [late]) != without
