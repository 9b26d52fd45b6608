"""Snakemake as a user types it, in a copy of the checkout, without a way out to the network."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emdb_server import closed_url

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "resources", "envs", "maps/README.md")
SECONDS = 600  # a run that takes longer hangs


@dataclass(frozen=True)
class Finished:
    """A Snakemake that ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what was wrong with the input."""
        # one may follow the progress bar of another job
        return re.findall(r"cryoready: error: (.*)", self.err)

    @property
    def error(self) -> str:
        """The one line with which a run on bad input must end, and end without a traceback."""
        assert self.code != 0, self.err
        assert "Traceback" not in self.out + self.err, self.err
        assert len(self.errors) == 1, self.err
        return self.errors[0]

    @property
    def plan(self) -> dict[str, int]:
        """Jobs of a dry run by rule."""
        assert self.code == 0, self.err
        table = self.out.partition("Job stats:")[2].partition("\n\n")[0]
        jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
        assert jobs or "Nothing to be done" in self.out + self.err, self.out + self.err
        jobs.pop("total", None)
        return jobs


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository in which Snakemake runs."""

    folder: Path
    environment: Mapping[str, str]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``snakemake ARGUMENTS`` in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,  # progress bars: \r becomes a new line
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def snakemake(self, *arguments: str, cores: int | None = 1) -> Finished:
        """Run it to its end. None for ``cores``: as the profile says."""
        process = self.start(*([f"--cores={cores}"] if cores else []), *arguments)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except BaseException:
            kill(process)
            raise
        return Finished(process.returncode, out, err)

    def made(self, *arguments: str, cores: int | None = 1) -> Finished:
        """Run it to its end, which is a good one."""
        run = self.snakemake(*arguments, cores=cores)
        assert run.code == 0, run.out + run.err
        return run

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a dry run announces."""
        return self.snakemake("-n", *arguments, cores=None).plan

    def settings(self, name: str, **settings: Any) -> str:
        """A file for ``--configfile``."""
        path = self.folder / "config" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return str(path.relative_to(self.folder))

    def sheet(self, name: str, *rows: Mapping[str, Any]) -> str:
        """A sheet with these cells; its path."""
        columns = list(dict.fromkeys(["id", *(column for row in rows for column in row)]))
        lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
        path = self.folder / "config" / f"{name}.tsv"
        path.write_text("".join("\t".join(line) + "\n" for line in lines))
        return str(path.relative_to(self.folder))

    def files(self, folder: str = "results") -> set[str]:
        """Everything below a folder but logs and hidden files, as paths relative to it."""
        top = self.folder / folder
        paths = (path for path in top.rglob("[!.]*") if path.is_file() and path.suffix != ".log")
        return {str(path.relative_to(top)) for path in paths}

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """The checkout with a changed file."""
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))
        try:
            yield
        finally:
            path.write_text(text)


def kill(process: subprocess.Popen[str]) -> None:
    """End a Snakemake and all its jobs at once, as a power cut does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def environment(folder: Path) -> dict[str, str]:
    """The machine's environment with the venv first, dead proxies, and no GPU.

    An installed cryoready that must not win lies in ``folder``, first on the import path.
    """
    for name in ("cryoready/__init__.py", "step.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise ImportError('an installed copy is imported')\n")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SNAKEMAKE") and not name.lower().endswith("_proxy")
    }
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"))
    proxies |= dict.fromkeys(proxies, closed_url())
    here = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1")
    cpu = {"CUDA_VISIBLE_DEVICES": ""}  # where a run gives the same bits again
    return kept | proxies | here | cpu | {"PYTHONPATH": str(folder)}


def copy_checkout(folder: Path) -> Checkout:
    """What git tracks and the workflow needs, copied below ``folder``."""
    clone = folder / "clone"
    for part in PARTS:
        to = clone / part
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, to, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(ROOT / part, to)
    return Checkout(clone, environment(folder / "installed"))
