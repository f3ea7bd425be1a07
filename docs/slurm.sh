#!/bin/bash
# One part of an experiment in each task of a SLURM array, each in a folder of its own:
#
#     sbatch docs/slurm.sh fig1b --scale paper
#     rethink-gen merge parts/8/*
#
# The same two lines again continue what was stopped, and try again what failed. `sbatch --array=3 docs/slurm.sh …` does
# part 3 alone. The number of parts is fixed here: a selection of tasks does not change which runs a part has. To have
# another number, change it in both places, or: PARTS=20 sbatch --array=1-20 docs/slurm.sh …
#SBATCH --job-name=rethink-gen
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=rethink-gen-%A-%a.log
set -euo pipefail
PARTS=${PARTS:-8}
exec rethink-gen run "$@" --shard "$SLURM_ARRAY_TASK_ID/$PARTS" --results "parts/$PARTS/$SLURM_ARRAY_TASK_ID"
