#!/bin/sh
# status.sh SCHEDULER JOB: running, success or failed, by the scheduler's own records.
scheduler=$1 job=$2

ask() {
  case $scheduler in
    slurm) sacct --noheader --allocations --parsable2 --format=State --jobs="$job" ;;
    pbs) qstat -x -f "$job" | awk '/job_state =/ { s = $3 } /Exit_status =/ { s = "exit " $3 } END { print s }' ;;
    sge) qstat -j "$job" >/dev/null && echo R ||
      qacct -j "$job" | awk '/^(failed|exit_status) / { bad += $2 != 0 } END { if (NR) print "exit", bad }' ;;
    lsf) bjobs -noheader -o stat "$job" ;;
    *) echo "status.sh: $scheduler is none of slurm, pbs, sge, lsf" >&2 ;;
  esac
}

# Records follow the queue with a delay; a job that stays unknown is better looked at than run twice.
for pause in 1 5 20 60 0; do
  state=$(ask 2>/dev/null)
  [ -z "$state" ] || break
  sleep $pause
done
case $state in
  COMPLETED | DONE | "exit 0") echo success ;;
  PENDING | RUNNING | COMPLETING | CONFIGURING | REQUEUED | RESIZING | SUSPENDED) echo running ;;
  PEND | RUN | WAIT | PROV | ?SUSP | UNKWN | [BEHQRSTUW]) echo running ;;
  "") ask >&2; echo "status.sh: $scheduler does not know the job $job" >&2; exit 1 ;;
  *) echo failed ;;
esac
