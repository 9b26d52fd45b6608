"""The frame around every rule script: one line for bad input, a log, and the right package."""

import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

import cryoready
from cryoready.core.errors import CryoreadyError


@contextmanager
def step(snakemake: Any) -> Iterator[Callable[[str], None]]:
    """Run the body of a script; yields a function that reports a line to the user and the log.

    A `CryoreadyError` becomes one line and exit status 1; anything else keeps its traceback. Lines
    of the log lack the program's name: Snakemake shows the log of a failed job, and the error
    would be there twice.
    """
    _check_package(Path(snakemake.scriptdir).resolve() / "cryoready")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's: clean up, as Ctrl-C
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:

        def report(line: str) -> None:
            # not at the end of a progress bar: tqdm clears ours, on a terminal this another job's
            start = "\r\x1b[K" if sys.stderr.isatty() else ""
            tqdm.write(f"{start}cryoready: {line}", file=sys.stderr)
            print(line, file=file, flush=True)

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            report(f"warning: {message}")

        warnings.showwarning = show
        try:
            yield report
        except KeyboardInterrupt:
            report(
                "interrupted; the same command goes on (a training from its last saved state); was "
                "it the time limit of a cluster, raise runtime in the profile"
            )
            sys.exit(130)
        except CryoreadyError as error:
            report(f"error: {error}")
            sys.exit(1)
        except Exception:
            traceback.print_exc(file=file)
            raise


def _check_package(beside: Path) -> None:
    """Stop if the package is not the one beside the scripts: an older copy computes other things.

    Snakemake appends the folder of a script to the import path, so an installed copy wins; the
    Snakefile puts the folder into PYTHONPATH, which only an isolated Python ignores.
    """
    imported = Path(cryoready.__file__).resolve().parent
    if imported != beside:
        sys.exit(
            f"cryoready: error: the package is imported from {imported} instead of {beside}; "
            "uninstall that copy (pip uninstall cryoready) or use the environment of this checkout"
        )
