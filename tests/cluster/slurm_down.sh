#!/usr/bin/env bash
# End what slurm_up.sh [FOLDER] started, with its jobs, and remove FOLDER.
set -uo pipefail

FOLDER=$(realpath --canonicalize-missing "${1:-/var/lib/cryoready-slurm}")
CONF=/etc/slurm/slurm.conf
[ -e "$FOLDER/slurm.conf" ] || exit 0
export SLURM_CONF=$FOLDER/slurm.conf

if timeout 10 scancel --user=root 2>/dev/null; then
  for _ in {1..100}; do # they have KillWait to end
    [ -n "$(squeue --noheader)" ] || break
    sleep 0.1
  done
fi

# In this order, so that none waits for another that is gone.
for name in c1 g1 g2 slurmctld slurmdbd mariadbd munged; do
  [ -s "$FOLDER/run/$name.pid" ] || continue
  process=$(<"$FOLDER/run/$name.pid")
  grep -qsE 'slurm|mariadbd|munged' "/proc/$process/comm" && kill "$process" || continue
  timeout 15 tail --pid="$process" --sleep-interval=0.1 --follow /dev/null || kill -KILL "$process"
done
[ "$(realpath $CONF)" = "$FOLDER/slurm.conf" ] && rm $CONF
rm -rf "$FOLDER"
