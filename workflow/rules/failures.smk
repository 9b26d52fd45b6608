# What failed and why, at the end of a run: results/failures.tsv, and a few lines. Jobs of a cluster,
# which run Snakemake themselves, have no hooks.
import time

from cryoready.report.failures import (
    Failure,
    reason_of,
    scheduler_messages,
    summary,
    update_table,
)
from cryoready.training.states import remove_ended

STARTED = time.time() - 60  # s: clocks of nodes differ
FAILURES = Path("results/failures.tsv")


def entry_of(job):
    """Id of the entry that a job is of, "" if it is of none; a half-map is of its entry."""
    found = job.wildcards_dict.get("id", "")
    half = HALF_MAP_ID.fullmatch(found)
    return half["id"] if half else found


def failure_of(job, said):
    """What became of a job that failed."""
    later = list(dict.fromkeys(workflow.dag.bfs(workflow.dag.depending, job)))[1:]
    ids = [entry_of(job)] if entry_of(job) else sorted({entry_of(x) for x in later} - {""})
    name, path = job.rule.name, str(job.log[0]) if job.log else ""
    return Failure(
        ", ".join(ids),
        name,
        reason=reason_of(Path(path), name, said.get(job.jobid, ""), since=STARTED),
        attempts=job.attempt,
        held_up=", ".join(dict.fromkeys(x.rule.name for x in later)),
        log=path,
    )


def under_way(failed):
    """The job that failed: of a group, whose jobs follow each other, the last to begin its log."""

    def begun(job):
        return max((Path(log).stat().st_mtime for log in job.log if Path(log).is_file()), default=0)

    return max(failed, key=begun) if failed.is_group() else failed


def finish(logfiles, failed=()):
    """Bring the table of failures up to date; lines that say what is done and what is not."""
    said = scheduler_messages("".join(Path(file).read_text() for file in logfiles))
    failed = list(map(under_way, failed))
    failures = [failure_of(job, said) for job in failed]
    failures.sort(key=lambda failure: (failure.id, failure.rule))
    jobs, open_jobs = list(workflow.dag.jobs), list(workflow.dag.needrun_jobs())
    entries = {entry_of(job): True for job in jobs if entry_of(job)}
    entries |= {entry_of(job): False for job in open_jobs if entry_of(job)}
    # A job here has shown its error, which says all of a single entry; one of a cluster has not.
    elsewhere = workflow.non_local_exec
    several = len(entries) > 1 or elsewhere
    if several or FAILURES.is_file():
        update_table(FAILURES, failures, {str(job.log[0]) for job in jobs if job.log})
    whole = {str(file) for job in set(jobs) - set(open_jobs) for file in job.output}
    remove_ended(Path("results/training/state"), whole)
    others = [job.rule.name for job in open_jobs if job.output and not entry_of(job)]
    unseen = {str(job.log[0]) for job in failed if elsewhere and job.log and not job.is_local}
    lines = summary(failures, entries, [*dict.fromkeys(others)], FAILURES, unseen=unseen)
    return lines if several else ()


onsuccess:
    finish(log)


onerror:
    for line in finish(log, workflow.scheduler.failed):
        print(line, file=sys.stderr)
