from __future__ import annotations

import os
from pathlib import Path

import pytest

from genutil.system import jobs


@pytest.mark.parametrize(
    ("environment", "again"),
    [
        ({}, False),
        ({"TORCHELASTIC_RESTART_COUNT": "0"}, False),
        ({"TORCHELASTIC_RESTART_COUNT": "2"}, True),
        ({"SLURM_RESTART_COUNT": "1"}, True),
        ({"SLURM_RESTART_COUNT": ""}, False),
    ],
)
def test_a_second_start_is_known_by_its_count(environment: dict, again: bool) -> None:
    assert jobs.restarted(environment) == again


def test_jobs_have_names() -> None:
    assert jobs.job({}) is None
    assert jobs.job({"SLURM_JOB_ID": "71"}) == "slurm 71"
    assert jobs.job({"SLURM_JOB_ID": "73", "SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": "2"}) == "slurm 71_2"
    assert jobs.job({"TORCHELASTIC_RUN_ID": "abc"}) == "torchrun abc"
    assert str(os.getppid()) in str(jobs.job({"TORCHELASTIC_RUN_ID": "none"}))


def test_the_first_process_is_known_before_they_meet() -> None:
    assert jobs.is_first({})
    assert jobs.is_first({"RANK": "0", "LOCAL_RANK": "0"})
    assert not jobs.is_first({"RANK": "2", "LOCAL_RANK": "0"})
    assert not jobs.is_first({"SLURM_PROCID": "1"})


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scontrol that notes what it is asked for, and fails where a file `refuse` lies beside it."""
    program = tmp_path / "scontrol"
    refusal = 'echo "Invalid job id specified" >&2; exit 1'
    program.write_text(f'#!/bin/sh\n[ -e "$(dirname "$0")/refuse" ] && {{ {refusal}; }}\necho "$@" >> "$0.asked"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return program


def test_a_job_is_requeued(scontrol: Path) -> None:
    assert jobs.requeue({"SLURM_JOB_ID": "71"}) == "Job 71 is requeued."
    assert Path(f"{scontrol}.asked").read_text() == "requeue 71\n"


def test_what_cannot_be_requeued_is_told(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scontrol.parent / "refuse").touch()
    assert jobs.requeue({"SLURM_JOB_ID": "71"}) == "Job 71 could not be requeued: Invalid job id specified."
    assert "no job of SLURM" in jobs.requeue({})
    monkeypatch.setenv("PATH", "/nowhere")
    assert "Job 71 could not be requeued: [Errno 2]" in jobs.requeue({"SLURM_JOB_ID": "71"})
