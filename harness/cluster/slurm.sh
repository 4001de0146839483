#!/usr/bin/env bash
# A study on the nodes of a SLURM job. From the project's folder, which every node sees or has at the same path:
#
#   sbatch harness/cluster/slurm.sh reproduce navigation --seeds 0-99 \
#       --checkpoints s3://bucket/checkpoints --tracking-uri http://tracker:5000
#
# The first node runs Ray's head and the driver; two minutes before the time is up, all runs save. Submit it again and it
# goes on. PORT may be set where several jobs share a node.
#SBATCH --job-name=metarepro
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail
bin=${METAREPRO_BIN:-.venv/bin}
port=${PORT:-6379}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$("$bin/python" -c 'import secrets; print(secrets.token_hex(32))')}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Only in a subshell: it is replaced, so that whoever ends the job ends what runs there.
on() { exec srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" "${@:2}"; }
ip=$(on "${nodes[0]}" hostname --ip-address | awk '{print $1}')

on "${nodes[0]}" "$bin/ray" start --head --node-ip-address="$ip" --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" \
    --include-dashboard=false --block &
for _ in $(seq 120); do
    if (exec 3<> "/dev/tcp/$ip/$port") 2> /dev/null; then break; fi
    sleep 1
done
for node in "${nodes[@]:1}"; do
    on "$node" "$bin/ray" start --address="$ip:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
done

"$bin/metarepro" "$@" --address "$ip:$port" &
driver=$!
trap 'kill -TERM "$driver"' TERM INT
status=0
wait "$driver" || status=$?
if kill -0 "$driver" 2> /dev/null; then # the first wait ended with the signal; the driver is saving
    status=0
    wait "$driver" || status=$?
fi
kill $(jobs -p) 2> /dev/null || true
exit "$status"
