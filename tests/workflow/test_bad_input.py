"""Bad input: one line, no traceback, a failed exit, nothing half-written."""

import json
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from checkout import Checkout
from emdb_server import HTML
from map_files import write_map

pytestmark = pytest.mark.workflow

STARTER = "resources/weights/starter"


@pytest.fixture(autouse=True)
def nothing_is_left(checkout: Checkout) -> Iterator[None]:
    """Neither a result nor a lock of Snakemake; of several entries the table of what failed."""
    yield
    (checkout / "results/failures.tsv").unlink(missing_ok=True)
    assert not checkout.files()
    assert not checkout.files("downloads")
    assert not checkout.files(".snakemake/locks")


# before anything runs


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        pytest.param(
            "nosuch",
            ("no map for 'nosuch'", "maps/nosuch.mrc", "EMD- and 4 or 5 digits"),
            id="unknown",
        ),
        pytest.param("emd_3488", ("no map for 'emd_3488'", "did you mean EMD-3488?"), id="typo"),
        pytest.param(
            "my map",
            ("'my map' is not a valid id", "letters, digits", "mine, EMD-3488"),
            id="blank",
        ),
        pytest.param("a/b", ("'a/b' is not a valid id",), id="path"),
        pytest.param(
            "x_emready", ("'x_emready' is not a valid id", "'_emready' is kept"), id="reserved"
        ),
    ],
)
def test_ids(checkout: Checkout, target: str, parts: tuple[str, ...]) -> None:
    error = checkout.snakemake(f"results/{target}_emready.mrc").error
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        pytest.param(
            {"inference": {"presett": "paper"}},
            ("unknown key 'inference.presett'", "did you mean 'inference.preset'?"),
            id="key",
        ),
        pytest.param({"inference": {"tta": 5}}, ("inference.tta = 5", "[0, 4, 24]"), id="value"),
        pytest.param({"weights": "trained"}, ("'trained'", "train first"), id="nothing trained"),
        pytest.param({"weights": "my.pth"}, ("my.pth is not there",), id="weights elsewhere"),
    ],
)
def test_configuration(
    checkout: Checkout, settings: Mapping[str, object], parts: tuple[str, ...]
) -> None:
    typo = checkout.settings("typo", **settings)
    error = checkout.snakemake("results/EMD-3488_emready.mrc", "--configfile", typo).error
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        pytest.param(
            [{"id": "a", "emdb": "EMD-3488"}, {"id": "b"}, {"id": "a"}],
            ("config/bad.tsv, line 4, column 'id': 'a' is there already", "config/bad.tsv, line 2"),
            id="twice",
        ),
        pytest.param(
            [{"id": "a", "resolution": "3.2 Å"}],
            ("config/bad.tsv, line 2, column 'resolution': '3.2 Å' is not a number",),
            id="cell",
        ),
        pytest.param(
            [{"id": "a", "map": "gone.mrc"}],
            ("config/bad.tsv, line 2, column 'map': 'gone.mrc' is not there",),
            id="file",
        ),
    ],
)
def test_sheets(checkout: Checkout, rows: list[Mapping[str, str]], parts: tuple[str, ...]) -> None:
    sheet = checkout.sheet("bad", *rows)
    error = checkout.snakemake("results/a_emready.mrc", "--config", f"entries={sheet}").error
    for part in parts:
        assert part in error


def test_two_files_of_one_name(checkout: Checkout) -> None:
    for name in ("two.mrc", "two.map.gz"):
        (checkout / "maps" / name).touch()
    error = checkout.snakemake("results/two_emready.mrc").error
    assert "maps/two.map.gz and maps/two.mrc both claim" in error


# while a step runs


def test_maps(checkout: Checkout) -> None:
    """Together, to start Snakemake once: a line for each, and no more than that."""
    density = np.random.default_rng(0).normal(size=(20, 22, 24)).astype(np.float32)
    holed = np.where(np.indices(density.shape).sum(axis=0) == 3, np.nan, density)
    maps = checkout / "maps"
    with pytest.warns(RuntimeWarning, match="NaN"):
        write_map(maps / "holed.mrc", holed, 1.2)
    write_map(maps / "flat.mrc", np.full_like(density, 7), 1.2)
    write_map(maps / "skew.mrc", density, 1.2, angles=(90, 90, 120))
    write_map(maps / "bare.mrc", density, 0.0)
    whole = write_map(maps / "cut.map.gz", density, 1.2)
    whole.write_bytes(whole.read_bytes()[:9000])
    expected = {
        "holed.mrc": "10 values of 10560 that are NaN",
        "flat.mrc": "the value 7.0 everywhere",
        "skew.mrc": "a skew cell (angles (90.0, 90.0, 120.0)",
        "bare.mrc": "give the true one in the column voxel_size of the sheet",
        "cut.map.gz": "broken gzip file",
    }
    targets = [f"results/{name.partition('.')[0]}_emready.mrc" for name in expected]
    run = checkout.snakemake(*targets, "--keep-going")
    assert run.code != 0
    assert "Traceback" not in run.out + run.err
    assert run.err.count("Error in rule enhance") == len(expected)
    assert len(run.errors) == len(expected)
    for name, reason in expected.items():
        (error,) = (line for line in run.errors if name in line)
        assert reason in error


def test_one_bad_map_is_one_line(checkout: Checkout) -> None:
    """Though Snakemake shows the log of the failed job as well."""
    (checkout / "maps/page.map").write_bytes(HTML)
    run = checkout.snakemake("results/page_emready.mrc")
    assert "maps/page.map" in run.error
    assert "web page" in run.error
    assert f"\nerror: {run.error}\n" in run.err
    assert (checkout / "results/work/page/enhance.log").read_text() == f"error: {run.error}\n"


def weights(checkout: Checkout, name: str, *, keep: float = 1.0, **architecture: int) -> str:
    """The starter weights, cut off, or with another architecture on their card."""
    folder = checkout / name
    folder.mkdir()
    content = (checkout / STARTER / "weights.safetensors").read_bytes()
    card = json.loads((checkout / STARTER / "card.json").read_text())
    card["architecture"] |= architecture
    (folder / "card.json").write_text(json.dumps(card))
    file = folder / "weights.safetensors"
    file.write_bytes(content[: int(keep * len(content))])
    return str(file.relative_to(checkout.folder))


def test_weights_of_another_network(checkout: Checkout) -> None:
    other = weights(checkout, "other", width=32)
    run = checkout.snakemake("results/EMD-3488_emready.mrc", "--config", f"weights={other}")
    assert f"{other}: weights of another network" in run.error
    assert "width 32" in run.error


def test_weights_cut_off(checkout: Checkout) -> None:
    cut = weights(checkout, "cut", keep=0.7)
    error = checkout.snakemake("results/EMD-3488_emready.mrc", "--config", f"weights={cut}").error
    assert cut in error
    assert "download or copy" in error
