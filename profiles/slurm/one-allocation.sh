#!/bin/sh
# Run all jobs inside one allocation, without a queue between them: docs/cluster.md says when that is best.
#   sbatch --gpus=4 --cpus-per-task=16 --mem=64G --time=24:00:00 profiles/slurm/one-allocation.sh [OPTIONS OF halobench run]
# Two minutes before the time is up, SLURM sends SIGINT to this script. `timeout 0` has no timeout; it passes the signal on to
# the run and its jobs, as a terminal does on Ctrl-C: jobs save, and the same command resumes.
#SBATCH --nodes=1
#SBATCH --job-name=halobench
#SBATCH --signal=B:INT@120
exec timeout 0 halobench run --cores "$SLURM_CPUS_ON_NODE" \
    ${SLURM_GPUS_ON_NODE:+--resources gpu="$SLURM_GPUS_ON_NODE"} "$@"
