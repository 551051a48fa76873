#!/usr/bin/env bash
# A real SLURM cluster of several nodes on one Debian machine, for the tests of launcher=slurm; as root, without systemd.
#   tests/integration/slurm_cluster.sh up DIR [NODES]    then: export SLURM_CONF=DIR/slurm.conf
#   tests/integration/slurm_cluster.sh start DIR NAME   start a daemon again that was killed: slurmctld, n1, n2, ...
#   tests/integration/slurm_cluster.sh down DIR
# Each node is a slurmd in its own namespaces, so that it has its own host name. All state is in DIR.
set -euo pipefail
action=${1:?up, start or down} dir=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd) nodes=${3:-3}
port=$((11000 + $$ % 200 * 40))  # of the controller; the nodes use the next ports; two clusters use different ports

if [ "$action" = down ]; then
    # Daemons, job steps and their children have the path of this cluster in their environment; munge has not.
    unset SLURM_CONF
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [ "$pid" != $$ ] || continue
        grep -qzxF "SLURM_CONF=$dir/slurm.conf" "$process/environ" 2>/dev/null && kill -9 "$pid" 2>/dev/null || true
    done
    # The cluster that started munge ends it, unless another cluster is running.
    [ ! -s "$dir/pid/munged" ] || pgrep -x slurmctld >/dev/null || kill "$(<"$dir/pid/munged")" 2>/dev/null || true
    rm -rf "$dir"
    exit 0
fi

start_node() {
    unshare --uts --mount --propagation private \
        sh -c "hostname $1 && mount --bind '$dir/hosts' /etc/hosts && exec slurmd -N $1"
}

if [ "$action" = start ]; then
    export SLURM_CONF=$dir/slurm.conf
    if [ "$nodes" = slurmctld ]; then slurmctld; else start_node "$nodes"; fi
    exit 0
fi

[ "$(id -u)" = 0 ] || { echo "a SLURM cluster for the tests needs root" >&2; exit 1; }
for package in slurmctld:slurm-wlm slurmd:slurm-wlm munged:munge; do
    command -v "${package%%:*}" >/dev/null || { echo "not installed: apt-get install ${package##*:}" >&2; exit 1; }
done
[ ! -e "$dir/slurm.conf" ] || { echo "$dir is already up; take it down first" >&2; exit 1; }
mkdir -p "$dir"/{log,pid,state,spool}
chmod 755 "$dir"

# munge authenticates the daemons. If one is already running, it is used and not changed.
if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    as_munge() { setpriv --reuid=munge --regid=munge --clear-groups "$@"; }
    for folder in /run/munge:0755 /var/lib/munge:0700 /var/log/munge:0700; do
        install -d -o munge -g munge -m "${folder##*:}" "${folder%%:*}"
    done
    [ -s /etc/munge/munge.key ] || as_munge /usr/sbin/mungekey --create
    as_munge /usr/sbin/munged
    for _ in $(seq 50); do munge -n 2>/dev/null | unmunge >/dev/null 2>&1 && break; sleep 0.1; done
    cp /run/munge/munged.pid "$dir/pid/munged"
fi

# SlurmdTimeout is long enough for a machine with other load. AuthInfo: a requeued job restarts after 5 s instead of 120 s.
cat >"$dir/slurm.conf" <<CONF
ClusterName=r1exp
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/pid/slurmctld
SlurmdPidFile=$dir/pid/slurmd.%n
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=1
JobRequeue=1
KillWait=10
MinJobAge=3600
SlurmdTimeout=120
SlurmctldTimeout=60
InactiveLimit=0
Waittime=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-$nodes] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=2 CoresPerSocket=2 Sockets=1 ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=1:00:00 State=UP PriorityTier=10 PreemptMode=OFF
CONF
export SLURM_CONF=$dir/slurm.conf

{ cat /etc/hosts; for number in $(seq "$nodes"); do echo "127.0.1.$number n$number"; done; } >"$dir/hosts"
slurmctld -c
for number in $(seq "$nodes"); do
    mkdir -p "$dir/spool/n$number"
    start_node "n$number"
done
for _ in $(seq 150); do
    [ "$(sinfo --noheader --partition=main --states=idle --format=%D 2>/dev/null)" = "$nodes" ] && exit 0
    sleep 0.2
done
echo "the nodes did not start; see $dir/log" >&2
exit 1
