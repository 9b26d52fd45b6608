"""A sheet of many maps: the plan, the order, and what one bad map does to the others."""

import csv
import re

import numpy as np
import pytest

from checkout import Checkout
from cryoready.report.failures import UNSAID, Failure
from map_files import write_map

pytestmark = pytest.mark.workflow

IDS = [f"m{k:02}" for k in range(12)]
BAD, KILLED = "m03", "m07"
VOXEL = 1.05  # Å, of EMD-3488

# In the place of the network, which is not what is tested, and of the archive
ENHANCE = """
import os
import signal
from pathlib import Path
from cryoready.files.maps import read_map
from step import step

with step(snakemake) as report:
    report("needs about 3 GB")
    if Path("kill").is_file() and Path("kill").read_text() == snakemake.wildcards.id:
        os.kill(os.getpid(), signal.SIGKILL)
    read_map(snakemake.input.map)
    for path in snakemake.output:
        Path(path).touch()
"""
DOWNLOAD = """
import shutil

shutil.copy("maps/m00.mrc", snakemake.output[0])
"""


@pytest.fixture(scope="module")
def many(checkout: Checkout) -> Checkout:
    """Twelve maps, one of which is none, another of which kills its job."""
    density = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    for entry in IDS:
        write_map(checkout / f"maps/{entry}.mrc", density, VOXEL)
    (checkout / f"maps/{BAD}.mrc").write_text("no map\n" * 1000)
    (checkout / "kill").write_text(KILLED)
    for script, text in (("enhance", ENHANCE), ("download", DOWNLOAD)):
        (checkout / f"workflow/scripts/{script}.py").write_text(text)
    return checkout


@pytest.fixture(scope="module")
def sheet(many: Checkout) -> tuple[str, str]:
    return "--config", "entries=" + many.sheet("many", *({"id": entry} for entry in IDS))


def test_a_thousand_entries_are_planned(many: Checkout) -> None:
    """Nothing of the archive is known before it is fetched, but all steps are."""
    count = 1000
    rows = ({"id": f"EMD-{50000 + k}"} for k in range(count))
    thousand = "--config", "entries=" + many.sheet("thousand", *rows)
    downloads = ("download_map", "download_metadata", "download_fitted_model")
    steps = dict.fromkeys((*downloads, "enhance", "evaluate_entry", "evaluation_page"), count)
    assert many.planned("evaluate", "--quiet=rules", *thousand) == steps | {
        "evaluation_summary": 1,
        "evaluate": 1,
    }
    one = many.planned("results/EMD-50500_evaluation.html", *thousand)
    assert one == dict.fromkeys(steps, 1)


def test_two_bad_maps_do_not_stop_the_others(many: Checkout, sheet: tuple[str, str]) -> None:
    run = many.snakemake("enhance_all", *sheet, cores=2)
    assert run.code != 0
    assert len(run.errors) == 1  # a killed job cannot say one
    done = [entry for entry in IDS if (many / f"results/{entry}_emready.mrc").is_file()]
    assert done == [entry for entry in IDS if entry not in (BAD, KILLED)]
    with (many / "results/failures.tsv").open(newline="") as file:
        rows = [Failure(**row) for row in csv.DictReader(file, delimiter="\t")]
    assert rows == [
        Failure(entry, "enhance", reason, "1", "enhance_all", f"results/work/{entry}/enhance.log")
        for entry, reason in ((BAD, run.errors[0]), (KILLED, UNSAID))
    ]
    assert "cryoready: 2 of 12 entries failed, 10 are done; results/failures.tsv says" in run.err


def test_rows_of_others_stay_after_a_good_run(many: Checkout) -> None:
    """It depends on the test above, as does the next."""
    before = (many / "results/failures.tsv").read_text()
    (many / "results/m00_emready.mrc").unlink()
    many.made("results/m00_emready.mrc")
    assert (many / "results/failures.tsv").read_text() == before


def test_the_same_command_mends_what_is_mended(many: Checkout, sheet: tuple[str, str]) -> None:
    (many / f"maps/{BAD}.mrc").write_bytes((many / "maps/m00.mrc").read_bytes())
    (many / "kill").unlink()
    assert many.planned("enhance_all", *sheet) == {"enhance": 2, "enhance_all": 1}
    many.made("enhance_all", *sheet, cores=2)
    assert not (many / "results/failures.tsv").exists()


def test_what_is_not_evaluated_is_in_no_table(many: Checkout, sheet: tuple[str, str]) -> None:
    error = many.snakemake("-n", "evaluation_so_far", *sheet).error
    assert "no entry of config/many.tsv is evaluated yet" in error


def test_the_first_map_is_enhanced_before_the_last_is_fetched(many: Checkout) -> None:
    """Though an enhancement takes all cores, and downloads never leave all of them free."""
    rows = ({"id": f"EMD-{50000 + k}"} for k in range(8))
    options = "--config", "entries=" + many.sheet("fetched", *rows)
    run = many.made("enhance_all", *options, cores=2)
    finished = re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", run.err)
    assert finished.count("enhance") == 8
    last = len(finished) - 1 - finished[::-1].index("download_map")
    assert finished.index("enhance") < last - 1
