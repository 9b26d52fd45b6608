"""CPU time to plan sheets of many maps, and one map of such a sheet.

    python benchmarks/many_maps.py [NUMBER …]

Dry runs in a copy of the checkout, for the sheets of 10, 100, 1 000 and 5 000 maps (or of as many
as asked for): once of own maps, once of entries of the archive of which nothing is there. The time
is that of Python and Snakemake from start to end, user and system; a bare Snakemake takes most of
what a sheet of 10 maps does.
"""

import os
import resource
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "workflow")]

from checkout import Checkout, copy_checkout  # noqa: E402

NUMBERS = (10, 100, 1000, 5000)
MAP = "resources/small/EMD-5830-A.map.gz"


def planned(checkout: Checkout, *arguments: str) -> tuple[int, float]:
    """Jobs of a dry run, and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    plan = checkout.planned("--quiet=rules", *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return sum(plan.values()), spent


def main(numbers: list[int]) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_checkout(Path(folder))
        print("| maps | of | target | jobs | CPU seconds |\n|---:|---|---|---:|---:|")
        for number in numbers:
            own = [f"m{k:05}" for k in range(number)]
            for entry in own:
                os.link(checkout / MAP, checkout / f"maps/{entry}.map.gz")
            archive = [f"EMD-{10000 + k}" for k in range(number)]
            for kind, ids in (("your maps", own), ("the archive", archive)):
                rows = ({"id": entry, "resolution": 3.8} for entry in ids)
                sheet = "--config", "entries=" + checkout.sheet("many", *rows)
                for target in ("enhance_all", "evaluate", f"results/{ids[-1]}_emready.mrc"):
                    jobs, spent = planned(checkout, target, *sheet)
                    name = "one map" if "/" in target else f"`{target}`"
                    print(f"| {number} | {kind} | {name} | {jobs} | {spent:.1f} |", flush=True)
            for entry in own:
                (checkout / f"maps/{entry}.map.gz").unlink()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or list(NUMBERS))
