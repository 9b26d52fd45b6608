#!/usr/bin/env bash
# A real Slurm on this machine alone, to test with: slurm_up.sh [FOLDER], as root; some seconds.
#
# Three nodes, all of them this machine: c1, and g1 and g2 with two pretended GPUs each. All daemons
# listen on loopback and keep their files in FOLDER; the only thing outside of it is the link
# /etc/slurm/slurm.conf, and a machine that has a configuration of its own is left alone. Nothing is
# installed: that is `make system-packages`. slurm_down.sh ends it.
set -euo pipefail

FOLDER=$(realpath --canonicalize-missing "${1:-/var/lib/cryoready-slurm}")
CONF=/etc/slurm/slurm.conf
HOST=$(hostname -s)
NODES=(c1 g1 g2)

fail() {
  echo "slurm_up: error: $*" >&2
  exit 1
}

until_true() { # until_true SECONDS COMMAND...
  local end=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    sleep 0.1
    [ "$SECONDS" -lt "$end" ] || "${@:2}" || fail "no success in $1 s: ${*:2}; logs: $FOLDER/log"
  done
}

running() { # the daemon whose process id is in the file, not another with the number of old
  [ -s "$FOLDER/run/$1.pid" ] &&
    grep -qsE 'slurm|mariadbd|munged' "/proc/$(<"$FOLDER/run/$1.pid")/comm"
}

[ "$(id -u)" = 0 ] || fail "only root can start Slurm"
for program in munged mariadbd slurmdbd slurmctld slurmd sbatch; do
  command -v $program >/dev/null || fail "$program is missing: make system-packages"
done
if [ -e $CONF ] && [ "$(realpath $CONF)" != "$FOLDER/slurm.conf" ]; then
  fail "$CONF belongs to another Slurm"
fi

mkdir -p "$FOLDER"/{run,log,state,spool,gpu} /etc/slurm
chmod 755 "$FOLDER"
for gpu in 0 1; do
  [ -c "$FOLDER/gpu/$gpu" ] || mknod "$FOLDER/gpu/$gpu" c 1 3 # as /dev/null
done
export SLURM_CONF=$FOLDER/slurm.conf

# Jobs get what they ask for by Slurm's books, in which the nodes are larger than this machine
# (config_overrides). Memory is watched each second and kept without cgroups, which containers lack.
# Short times: a silent node is given up after 10 s, a requeued job starts again after 5 s.
cat >"$FOLDER/slurm.conf" <<CONF
ClusterName=cryoready
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$FOLDER/run/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=16817
SlurmctldPidFile=$FOLDER/run/slurmctld.pid
SlurmctldLogFile=$FOLDER/log/slurmctld.log
StateSaveLocation=$FOLDER/state
SlurmdPidFile=$FOLDER/run/%n.pid
SlurmdLogFile=$FOLDER/log/%n.log
SlurmdSpoolDir=$FOLDER/spool/%n
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
MinJobAge=300
KillWait=5
JobRequeue=1
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoragePass=$FOLDER/run/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=64000
NodeName=c1 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=16821
NodeName=g1 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=16822 Gres=gpu:test:2
NodeName=g2 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=16823 Gres=gpu:test:2
PartitionName=DEFAULT MaxTime=1-0 State=UP
PartitionName=cpu Nodes=c1,g1,g2 Default=YES PriorityTier=1 GraceTime=10
PartitionName=gpu Nodes=g1,g2 PriorityTier=1 GraceTime=10
PartitionName=urgent Nodes=c1,g1,g2 PriorityTier=2 PreemptMode=OFF
CONF
cat >"$FOLDER/gres.conf" <<CONF
NodeName=g1,g2 Name=gpu Type=test File=$FOLDER/gpu/[0-1]
CONF
cat >"$FOLDER/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
CONF
(umask 077 && cat >"$FOLDER/slurmdbd.conf") <<CONF
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
AuthInfo=socket=$FOLDER/run/munge.socket
PidFile=$FOLDER/run/slurmdbd.pid
LogFile=$FOLDER/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageUser=root
CONF
ln -sf "$FOLDER/slurm.conf" $CONF

if ! running munged; then
  (umask 077 && head --bytes=128 /dev/urandom >"$FOLDER/munge.key")
  munged --key-file="$FOLDER/munge.key" --seed-file="$FOLDER/munge.seed" \
    --socket="$FOLDER/run/munge.socket" --pid-file="$FOLDER/run/munged.pid" \
    --log-file="$FOLDER/log/munged.log"
fi

# No network and no password: root is known by its socket, which slurmdbd finds by this variable.
export MYSQL_UNIX_PORT=$FOLDER/run/mariadb.socket
if ! running mariadbd; then
  database=(--no-defaults --user=root --datadir="$FOLDER/mariadb")
  log=$FOLDER/log/mariadb.log
  [ -d "$FOLDER/mariadb/mysql" ] || mariadb-install-db "${database[@]}" --skip-test-db \
    --auth-root-authentication-method=socket >"$log" 2>&1
  setsid mariadbd "${database[@]}" --socket="$MYSQL_UNIX_PORT" --skip-networking \
    --pid-file="$FOLDER/run/mariadbd.pid" --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 >>"$log" 2>&1 </dev/null &
  until_true 60 mariadb-admin --no-defaults ping
fi

running slurmdbd || slurmdbd
until_true 60 sacctmgr --noheader list cluster
# The account that profiles/slurm names.
for what in "cluster cryoready" "account my_account" "user root account=my_account"; do
  sacctmgr --quiet --immediate add $what >/dev/null || true # there already
done

running slurmctld || slurmctld
until_true 30 sh -c 'scontrol ping | grep -q UP'
for node in "${NODES[@]}"; do
  running "$node" || slurmd -N "$node"
done
ready() { # all nodes answer
  local up
  up=$(sinfo --noheader --Node --states=idle,mixed,allocated,completing --format=%N | sort -u)
  [ "$(wc -l <<<"$up")" = ${#NODES[@]} ]
}
until_true 30 ready
sinfo
