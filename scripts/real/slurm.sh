#!/bin/bash
# A real Slurm on this machine for the `real` test ring: a controller and several nodes, as root, beside whatever Slurm the
# machine has. `up` prints the line that makes a shell use it; run again, it does nothing while it answers.
#
# Usage: slurm.sh up|down
#   DIR    folder of its configuration, state and logs (default: $TMPDIR/greffon-slurm)
#   PORT   the controller's port; the nodes have those after it (default: 17300)
#   NODES  how many nodes (default: 2)
#   CPUS   cores of each of them, whatever the machine has (default: 4)
set -euo pipefail

DIR=${DIR:-${TMPDIR:-/tmp}/greffon-slurm}
PORT=${PORT:-17300}
NODES=${NODES:-2}
CPUS=${CPUS:-4}
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$DIR/slurm.conf

fail() { echo "slurm.sh: $*" >&2; exit 1; }

down() {
    [ -d "$DIR" ] || return 0
    if [ -s "$SLURM_CONF" ]; then
        # Its ranks go with the job, and not with the daemons that are ended below.
        timeout 10 scancel --signal=KILL --full --state=RUNNING 2>/dev/null || true
        timeout 10 scancel --state=PENDING,RUNNING 2>/dev/null || true
        for _ in $(seq 1 50); do
            [ -n "$(timeout 10 squeue --noheader 2>/dev/null)" ] || break
            sleep 0.2
        done
    fi
    for file in "$DIR"/run/*.pid; do
        [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
    done
    # The nodes' steps end with their jobs; what is left of them after a while is ended.
    sleep 1
    for file in "$DIR"/run/*.pid; do
        [ -s "$file" ] && kill -9 "$(cat "$file")" 2>/dev/null || true
    done
    rm -rf "$DIR"
}

configure() {
    local host
    host=$(hostname -s)
    cat <<CONF
ClusterName=greffon
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool.%n
TmpFS=$DIR/tmp.%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd.%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
MpiParams=ports=$((PORT + 100))-$((PORT + 199))
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
RequeueExit=85
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=5
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
MessageTimeout=10
BatchStartTimeout=10
CONF
    for i in $(seq 1 "$NODES"); do
        echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((PORT + i)) CPUs=$CPUS Sockets=1" \
            "CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN"
    done
    echo "PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20"
    echo "PartitionName=high Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF"
}

idle() { [ "$(sinfo --noheader --Node --states=idle --partition=low --format=%N 2>/dev/null | sort -u | wc -l)" = "$NODES" ]; }

up() {
    local tool
    for tool in slurmctld slurmd munged; do
        command -v $tool >/dev/null || fail "$tool is missing: run scripts/real/packages.sh"
    done
    [ "$(id -u)" = 0 ] || fail "Slurm starts the jobs of its users: run it as root"
    if [ -s "$SLURM_CONF" ] && timeout 10 scontrol ping 2>/dev/null | grep -q "is UP"; then return; fi
    down
    mkdir -p "$DIR"/{state,log,run,munge}
    # An own munge with an own key and socket, so that nothing of the system's is touched.
    head -c 128 /dev/urandom > "$DIR/munge/key"
    chmod 600 "$DIR/munge/key"
    chmod 755 "$DIR" "$DIR/munge"
    munged --force --num-threads=2 --socket="$DIR/munge/socket" --key-file="$DIR/munge/key" \
        --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/seed"
    configure > "$SLURM_CONF"
    slurmctld -c -f "$SLURM_CONF"
    for i in $(seq 1 "$NODES"); do
        mkdir -p "$DIR/spool.n$i" "$DIR/tmp.n$i"
        slurmd -c -N "n$i" -f "$SLURM_CONF"
    done
    for _ in $(seq 1 150); do
        if idle; then return; fi
        sleep 0.2
    done
    tail -n 20 "$DIR"/log/*.log >&2
    fail "the nodes did not come up; see $DIR/log"
}

case "${1:-}" in
    up) up; echo "export SLURM_CONF=$SLURM_CONF" ;;
    down) down ;;
    *) echo "usage: slurm.sh up|down" >&2; exit 2 ;;
esac
