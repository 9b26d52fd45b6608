"""What failed and why: a table of all that is not mended yet, and a few lines for the user.

The Snakefile reads this module while it is parsed: nothing heavier than the standard library.
"""

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cryoready.core.whole_files import written_whole

SHOWN, WIDTH = 20, 200  # failures, and characters of a reason, that the user sees at once
UNSAID = "ended without an error of its own: was it killed (memory, time, node)?"

# Of Snakemake's log, about a job or a group of jobs: the message (None without a cluster), and the
# lines after it, about the jobs
_ERROR = re.compile(
    r"^ +message: (?s:(.*?))\n((?: +log: .*\n)?(?: +jobs:\n +rule .*\n)? +jobid: .*\n(?: .*\n)*)",
    re.MULTILINE,
)
_NUMBER = re.compile(r"^ +jobid: (\d+)$", re.MULTILINE)
_LOGS = re.compile(r"^ +log: (.*) \(check log", re.MULTILINE)
_STEP_ERROR = re.compile(r"slurmstepd\S*: error: (.*)")
_PHRASES = re.compile(
    r"Error in group .*| *(Reason: Unknown\.|For further error .*|Detailed failure reason .*)"
)
_REMEDIES = {
    "OUT_OF_MEMORY": "ask for more in the profile: set-resources, {rule}, mem_mb",
    "memory limit": "ask for more in the profile: set-resources, {rule}, mem_mb",
    "TIME LIMIT": "ask for more minutes in the profile: set-resources, {rule}, runtime",
    "TIMEOUT": "ask for more minutes in the profile: set-resources, {rule}, runtime",
}


@dataclass(frozen=True)
class Failure:
    """A job that failed for good.

    Parameters
    ----------
    id
        of its entry; of several that waited for it, with ", " between; "" if it is of no entry.
    rule
        name.
    reason
        one line.
    attempts
        how often it was tried.
    held_up
        names of the rules that could not run after it, with ", " between.
    log
        its log file, which no other job has.
    """

    id: str
    rule: str
    reason: str
    attempts: int
    held_up: str
    log: str


def scheduler_messages(log: str) -> dict[int, str]:
    """What the cluster said of failed jobs, by Snakemake's number of the job; the last of each.

    Slurm may tell no more than that a job failed, and why in the log of the job itself.
    """
    return {
        int(number): _in_one_line(said, jobs)
        for said, jobs in _ERROR.findall(log)
        if said != "None"
        for number in _NUMBER.findall(jobs)
    }


def _in_one_line(said: str, jobs: str) -> str:
    """A message, and what the scheduler's log, the last that is named, says of the cause."""
    line = " ".join(said.partition("sbatch call:")[0].split())
    line = _PHRASES.sub("", line).rstrip(".")
    logs = _LOGS.search(jobs)
    log = Path(logs[1].rpartition(", ")[2]) if logs else None
    text = log.read_text(encoding="utf-8", errors="replace") if log and log.is_file() else ""
    cause = _STEP_ERROR.search(text)
    return ": ".join(part for part in (line, cause and cause[1].strip()) if part)


def reason_of(log: Path, rule: str, said: str, *, since: float) -> str:
    """Why a job failed: the error in its log, the end of a traceback, what the cluster said.

    A log from before ``since`` (s, as of `time.time`) is of an earlier run: this job never began.
    """
    fresh = log.is_file() and log.stat().st_mtime >= since
    text = log.read_text(encoding="utf-8", errors="replace") if fresh else ""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if any(line.startswith("Traceback") for line in lines):
        return lines[-1].strip()
    if not said or said.endswith("'FAILED'"):
        return f"{UNSAID} {said}".strip()
    remedies = (text for status, text in _REMEDIES.items() if status in said)
    return "; ".join([said, *(text.format(rule=rule) for text in remedies)])


def update_table(path: Path, failures: Sequence[Failure], logs: Collection[str]) -> None:
    """Bring the table up to date; without rows there is none.

    Rows of earlier runs stay, unless their job was part of this one: ``logs`` are those of all its
    jobs, whether they had to run or not.
    """
    columns = [column.name for column in fields(Failure)]
    rows = [row for row in _read(path) if row["log"] not in logs]
    rows += [{name: str(cell) for name, cell in asdict(failure).items()} for failure in failures]
    if not rows:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read(path: Path) -> list[dict[str, str]]:
    """Rows of an earlier table; none where there is no such table."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if row.get("log")]


def summary(
    failures: Sequence[Failure],
    entries: Mapping[str, bool],
    others: Sequence[str],
    table: Path,
    *,
    unseen: Collection[str] = (),
) -> Iterable[str]:
    """Lines for the user.

    Parameters
    ----------
    failures
        of this run.
    entries
        whether all steps of an entry are done, by id.
    others
        names of the rules that are of no entry and were not finished.
    table
        where all failures are.
    unseen
        logs of the failures that the user has not been told of yet.
    """
    failed = {name for failure in failures for name in failure.id.split(", ")} & entries.keys()
    done = sum(entries.values())
    rest = len(entries) - done - len(failed)
    counts = [f"{len(failed)} of {len(entries)} entries failed"] if failed else []
    if done and (failed or rest or not others):
        counts.append(f"{done} are done" if failed else f"{done} entries are done")
    if rest:
        counts.append(f"{rest} {'' if counts else f'of {len(entries)} entries '}were not finished")
    if others:
        counts.append(f"{', '.join(others)} {'was' if len(others) == 1 else 'were'} not finished")
    last = ", ".join(counts)
    if failures:
        width = max(len(failure.id) for failure in failures[:SHOWN])
        for failure in failures[:SHOWN]:
            entry = f"{failure.id:{width}}  " if width else ""
            mark = "cryoready: error: " if failure.log in unseen else "  "
            yield f"{mark}{entry}{failure.rule}: {_shortened(failure.reason)}"
        if len(failures) > SHOWN:
            yield f"  and {len(failures) - SHOWN} more"
        last += f"; {table} says why"
    if last:
        yield f"cryoready: {last}; the same command tries again what is not done"


def _shortened(reason: str) -> str:
    return reason if len(reason) <= WIDTH else f"{reason[: WIDTH - 1]}…"
