"""The job of a scheduler or of torchrun that a process belongs to, and whether it was started again."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping

RESTART_COUNTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""How often torchrun (--max-restarts) has started its processes again, or SLURM a job that was requeued."""


def restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process stands for one that was started before and has ended."""
    return any(environment.get(name, "0") not in ("", "0") for name in RESTART_COUNTS)


def job(environment: Mapping[str, str] = os.environ) -> str | None:
    """A name that the processes of a job share, also when they are started again; None outside of jobs."""
    if number := slurm_job(environment):
        return f"slurm {number}"
    if "TORCHELASTIC_RUN_ID" in environment:
        run = environment["TORCHELASTIC_RUN_ID"]
        return f"torchrun {platform.node()} {os.getppid()}" if run == "none" else f"torchrun {run}"
    return None


def slurm_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """The number of the SLURM job, of a task of an array as scontrol calls it; None outside of SLURM."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the first of the processes that torchrun or SLURM may have started, asked before they meet."""
    return all(environment.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))


def requeue(environment: Mapping[str, str] = os.environ) -> str:
    """Ask SLURM to start this job again (`scontrol requeue`). Returns what came of it, in a sentence."""
    number = slurm_job(environment)
    if number is None:
        return "This is no job of SLURM, so that it cannot be requeued."
    try:
        done = subprocess.run(["scontrol", "requeue", number], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return f"Job {number} could not be requeued: {error}."
    if done.returncode:
        return f"Job {number} could not be requeued: {done.stderr.strip() or f'scontrol ended with {done.returncode}'}."
    return f"Job {number} is requeued."
