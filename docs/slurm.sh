#!/bin/bash
# One part of an experiment in each task of a SLURM array, each in a folder of its own:
#
#     sbatch docs/slurm.sh fig1b --scale paper
#     rethink-gen merge parts/*
#
# The same two lines again continue what was stopped, and try again what failed.
#SBATCH --job-name=rethink-gen
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=rethink-gen-%A-%a.log
set -euo pipefail
exec rethink-gen run "$@" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --results "parts/$SLURM_ARRAY_TASK_ID"
