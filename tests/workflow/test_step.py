"""The frame around rule scripts, without Snakemake."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from tqdm import tqdm

import cryoready
from cryoready.core.errors import CryoreadyError
from step import step


@pytest.fixture
def snakemake(tmp_path: Path) -> SimpleNamespace:
    """What a script gets, as far as the frame looks at it."""
    scripts = Path(cryoready.__file__).parents[1]
    return SimpleNamespace(scriptdir=str(scripts), log=[str(tmp_path / "work/mine/enhance.log")])


def test_bad_input_is_a_line_of_its_own(
    snakemake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also behind a progress bar that nobody closed."""
    bar = tqdm(total=3)
    with pytest.raises(SystemExit) as end, step(snakemake):
        raise CryoreadyError("map mine.mrc is flat")
    assert end.value.code == 1
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    bar.close()
    assert lines.count("cryoready: error: map mine.mrc is flat") == 1
    assert Path(snakemake.log[0]).read_text() == "error: map mine.mrc is flat\n"


def test_a_line_on_a_terminal_replaces_the_progress_bar_of_another_job(
    snakemake: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the start of the line, and clear it (ECMA-48: CR, EL)."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with step(snakemake) as report:
        report("1 of 3")
    assert capsys.readouterr().err == "\r\x1b[Kcryoready: 1 of 3\n"
    assert Path(snakemake.log[0]).read_text() == "1 of 3\n"


@pytest.mark.filterwarnings("always")
def test_a_report_is_shown_and_logged_amid_a_progress_bar(
    snakemake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with step(snakemake) as report, tqdm(total=3) as bar:
        bar.update()
        report("1 of 3")
        warnings.warn("voxel size 1 Å", stacklevel=1)
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "cryoready: 1 of 3" in lines
    assert "cryoready: warning: voxel size 1 Å" in lines
    assert Path(snakemake.log[0]).read_text() == "1 of 3\nwarning: voxel size 1 Å\n"


def test_a_fault_of_ours_keeps_its_traceback(snakemake: SimpleNamespace) -> None:
    with pytest.raises(ZeroDivisionError), step(snakemake):
        1 / 0  # noqa: B018
    assert "Traceback" in Path(snakemake.log[0]).read_text()


def test_another_copy_of_the_package_is_refused(snakemake: SimpleNamespace, tmp_path: Path) -> None:
    snakemake.scriptdir = str(tmp_path)
    message = "cryoready: error: the package is imported from"
    with pytest.raises(SystemExit, match=message), step(snakemake):
        pytest.fail("the script ran")
