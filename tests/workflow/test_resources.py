"""What jobs ask for, as Snakemake plans them."""

import re
import shutil

import pytest

from checkout import ROOT, Checkout
from cryoready.core.cost import (
    UNKNOWN,
    Size,
    megabytes,
    minutes,
    network_times,
    parameters_of,
)

pytestmark = pytest.mark.workflow

ASKED = "{resources.mem_mb} MB, {resources.runtime} min, {rule} of "


@pytest.fixture(scope="module")
def telling(checkout: Checkout) -> Checkout:
    """A checkout whose messages begin with what the job asks for, which Snakemake does not show."""
    for path in (checkout / "workflow" / "rules").glob("*.smk"):
        text = re.sub(
            r'(?m)^        "(?=\{wildcards\.id\}: )', f'        "{ASKED}', path.read_text()
        )
        path.write_text(text)
    return checkout


def asked(checkout: Checkout, *targets: str) -> dict[str, tuple[str, str]]:
    """Memory and time by rule and id."""
    run = checkout.snakemake("-n", *targets, cores=None)
    assert run.code == 0, run.err
    found = re.findall(r"(\S+) MB, (\S+) min, (\w+ of [\w-]+):", run.out + run.err)
    return {job: (memory, time) for memory, time, job in found}


def enhance_asks(size: Size) -> tuple[str, str]:
    """Memory and time for a map of this size, and the bundled weights."""
    parameters = parameters_of(str(ROOT / "resources/weights/v1/weights.safetensors"))
    time = minutes("enhance", size, times=network_times(parameters))
    return str(megabytes("enhance", size, parameters=parameters)), str(time)


def test_requests_follow_the_map(telling):
    """The embedded map has 100³ voxels of 1.05 Å; that of EMDB is yet to be fetched."""
    jobs = asked(
        telling,
        *("results/EMD-3488_evaluation.html", "results/EMD-5137_emready.png"),
        *("results/work/EMD-3488/boxes.npy", "results/work/EMD-5137/boxes.npy"),
    )
    folder = telling / "resources" / "EMD-3488"
    size = Size.of(str(folder / "emd_3488.map.gz"), str(folder / "5ni1.pdb.gz"))
    assert size.points == pytest.approx(105**3)
    for rule in ("evaluate_entry", "evaluation_page", "prepare"):
        wanted = str(megabytes(rule, size)), str(minutes(rule, size))
        assert jobs[f"{rule} of EMD-3488"] == wanted
    assert jobs["enhance of EMD-3488"] == enhance_asks(size)
    assert jobs["enhance of EMD-5137"] == jobs["before_after of EMD-5137"] == ("<TBD>", "<TBD>")
    memory, time = jobs["prepare of EMD-5137"]
    assert int(memory) == megabytes("prepare", UNKNOWN)
    assert int(time) > minutes("prepare", UNKNOWN)  # it is fetched in the job


def test_voxel_size_of_the_sheet_counts(telling):
    embedded = telling / "resources" / "EMD-3488" / "emd_3488.map.gz"
    sheet = telling.sheet("coarse", {"id": "coarse", "map": embedded, "voxel_size": 3.0})
    jobs = asked(telling, "results/coarse_emready.mrc", "--config", f"entries={sheet}")
    assert jobs["enhance of coarse"] == enhance_asks(Size.of(str(embedded), voxel_size=3.0))


def test_settings_that_take_longer_get_longer(telling):
    times = {}
    for tta in (0, 24):
        jobs = asked(
            telling, "results/EMD-3488_emready.mrc", "--config", f"inference={{tta: {tta}}}"
        )
        times[tta] = int(jobs["enhance of EMD-3488"][1])
    assert times[24] > 2 * times[0]


def test_damaged_map_is_left_to_its_job(telling):
    """Not even the plan of others may stop at it."""
    whole = telling / "resources" / "EMD-3488" / "emd_3488.map.gz"
    shutil.copy(whole, telling / "maps" / "good.map.gz")
    (telling / "maps" / "bad.map.gz").write_bytes(whole.read_bytes()[:30])
    jobs = asked(telling, "results/good_emready.mrc", "results/bad_emready.mrc")
    for name, size in (("good", Size.of(str(whole))), ("bad", UNKNOWN)):
        assert jobs[f"enhance of {name}"] == enhance_asks(size)
