"""Three files name versions; they have to name the same ones, and no host."""

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"matplotlib-base": "matplotlib", "pytorch": "torch"}
LINES = (ROOT / "constraints.txt").read_text().splitlines()
ENVS = sorted((ROOT / "envs").glob("*.yaml"))


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def pins(python: str) -> dict[str, str]:
    """Version by package that constraints.txt gives Linux under ``python`` (``3.13``)."""
    environment = {
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    rows = [Requirement(line) for line in LINES]
    valid = [row for row in rows if row.marker is None or row.marker.evaluate(environment)]
    return {row.name: str(row.specifier).removeprefix("==") for row in valid}


@pytest.mark.parametrize("line", LINES)
def test_a_constraint_is_one_public_version_and_no_place(line: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?", line)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_direct_dependency_is_pinned_within_its_range(python: str) -> None:
    pinned = pins(python)
    extras = project()["optional-dependencies"].values()
    for requirement in map(Requirement, chain(project()["dependencies"], *extras)):
        name = requirement.name.lower()
        assert name in pinned
        assert requirement.specifier.contains(pinned[name]), requirement


def test_torch_is_the_release_without_a_local_label() -> None:
    assert {line for line in LINES if line.startswith("torch==")} == {"torch==2.13.0"}


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.name)
def test_conda_gets_the_same_versions(path: Path) -> None:
    env = yaml.safe_load(path.read_text())
    assert env["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    python, *rest = env["dependencies"]
    pinned = pins(python.removeprefix("python="))
    assert rest
    for dependency in rest:
        name, version = dependency.split("==")
        assert pinned[CONDA_NAMES.get(name, name)] == version


def test_the_conda_environment_has_all_that_scripts_import() -> None:
    env = yaml.safe_load((ROOT / "envs" / "cryoready.yaml").read_text())
    names = {re.split("=+", dependency)[0] for dependency in env["dependencies"]} - {"python"}
    direct = {Requirement(line).name for line in project()["dependencies"]}
    assert {CONDA_NAMES.get(name, name) for name in names} == direct - {"snakemake"}


def test_the_image_gets_the_same_versions_and_names_no_index() -> None:
    lines = (ROOT / "envs" / "Containerfile").read_text().splitlines()
    steps = "\n".join(line for line in lines if not line.startswith("#"))
    assert "COPY pyproject.toml constraints.txt" in steps
    assert "--requirement requirements.txt --constraint constraints.txt" in steps
    assert "==" not in steps
    assert "://" not in steps
